"""From measurements to tables: mean curves, BD-rates, bits at one JND, times."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from jnd_jax import metrics
from jnd_jax.codecs import Codec
from jnd_jax.errors import JndError
from jnd_jax.evaluation.bd import bd_rate
from jnd_jax.evaluation.curves import published
from jnd_jax.evaluation.results import Results, TestImage

RESAMPLES = 200
KODAK = {f"kodim{number:02d}" for number in range(1, 25)}


@dataclass(frozen=True)
class CodecRow:
    """A codec as tables name it."""

    name: str
    title: str
    version: str
    learned: bool
    settings: str


@dataclass(frozen=True)
class BDRow:
    """BD-rate of `test` against `anchor`: percent with its 95 % bootstrap interval over images, or why there
    is none.
    """

    test: str
    anchor: str
    metric: str
    percent: float | None
    low: float | None
    high: float | None
    overlap: float | None
    note: str


@dataclass(frozen=True)
class JndRow:
    """Bits at t JND: mean over ALL images of each image's smallest passing file; no mean if an image has
    none.
    """

    codec: str
    metric: str
    t: float
    reached: int
    total: int
    bpp: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class TimeRow:
    """Median seconds a megapixel over all points of a codec, and thousands of multiply-adds a pixel of a learned one."""

    codec: str
    encode: float
    decode: float
    encode_kmacs: float | None
    decode_kmacs: float | None


@dataclass(frozen=True)
class Summary:
    """Everything that the tables and the report show.

    Attributes:
        command: that makes it.
        images: names of the test images.
        codecs: models first.
        metrics: names.
        curves: codec -> metric -> (mean bpp, mean value) by ascending quality.
        covered: codec -> lowest and highest mean PSNR, where PSNR was measured.
        bd: BD-rates.
        jnd: bits at t JND.
        times: by codec.
        workers: images measured at once, for judging the times.
    """

    command: str
    images: list[str]
    codecs: list[CodecRow]
    metrics: list[str]
    curves: dict[str, dict[str, list[tuple[float, float]]]]
    covered: dict[str, tuple[float, float]]
    bd: list[BDRow]
    jnd: list[JndRow]
    times: list[TimeRow]
    workers: int


def quality_scale(metric: str, value: np.ndarray) -> np.ndarray:
    """A metric's value as BD-rate integrates it: higher is better, and MS-SSIM in dB as -10 log10(1 -
    value).
    """
    if metric == "ms-ssim":
        return -10 * np.log10(np.maximum(1 - value, 1e-6))
    return value if metrics.lookup(metric).better == "higher" else -value


def bootstrap(values: np.ndarray, resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of the mean of (N,) values under resampling with replacement."""
    rows = np.random.default_rng(seed).integers(0, len(values), (resamples, len(values)))
    low, high = np.percentile(values[rows].mean(1), [2.5, 97.5])
    return float(low), float(high)


def _grid(results: Results, codec: Codec, images: Sequence[TestImage], field: str) -> np.ndarray:
    """(qualities, images) array of "bpp" or of a metric."""
    rows = []
    for quality in codec.grid:
        row = []
        for image in images:
            point = results.get("point", codec.name, codec.version, image.digest, float(quality))
            if point is None or (field != "bpp" and field not in point["metrics"]):
                raise JndError(
                    f"{codec.name} at quality {quality:g} lacks {field} on {image.name}: run the evaluation to its end"
                )
            row.append(point["bpp"] if field == "bpp" else point["metrics"][field])
        rows.append(row)
    return np.array(rows, float)


def _bd_row(
    test: str,
    anchor: str,
    metric: str,
    test_grid: tuple[np.ndarray, np.ndarray],
    anchor_grid: tuple[np.ndarray, np.ndarray],
) -> BDRow:
    """Grids are (bpp, quality), each (qualities, images); an anchor with one column is a published mean
    curve.
    """

    def on(sample: np.ndarray) -> float:
        curves = [
            array[:, sample].mean(1) if array.shape[1] > 1 else array[:, 0] for array in (*anchor_grid, *test_grid)
        ]
        return bd_rate(*curves)

    everything = np.arange(test_grid[0].shape[1])
    try:
        result = on(everything)
    except JndError as error:
        return BDRow(test, anchor, metric, None, None, None, None, str(error))
    samples = []
    draws = np.random.default_rng(0).integers(0, len(everything), (RESAMPLES, len(everything)))
    for draw in draws if len(everything) > 1 else ():
        try:
            samples.append(on(draw).percent)
        except JndError:
            continue
    low, high = np.percentile(samples, [2.5, 97.5]) if len(samples) > RESAMPLES // 2 else (None, None)
    return BDRow(
        test,
        anchor,
        metric,
        result.percent,
        None if low is None else float(low),
        None if high is None else float(high),
        result.overlap,
        "",
    )


def _pairs(codecs: Sequence[Codec]) -> list[tuple[Codec, Codec]]:
    """Each model against each baseline, other models against the first, other baselines against the first."""
    models = [codec for codec in codecs if codec.learned]
    others = [codec for codec in codecs if not codec.learned]
    return (
        [(model, anchor) for model in models for anchor in others]
        + [(model, models[0]) for model in models[1:]]
        + [(other, others[0]) for other in others[1:]]
    )


def _bd_rows(
    codecs: Sequence[Codec],
    bpp: Mapping[str, np.ndarray],
    scaled: Mapping[str, Mapping[str, np.ndarray]],
    names: Sequence[str],
) -> list[BDRow]:
    """Every pair of `_pairs` by every metric."""
    return [
        _bd_row(
            test.name,
            anchor.name,
            metric,
            (bpp[test.name], scaled[test.name][metric]),
            (bpp[anchor.name], scaled[anchor.name][metric]),
        )
        for test, anchor in _pairs(codecs)
        for metric in names
    ]


def _published_rows(
    codecs: Sequence[Codec], bpp: Mapping[str, np.ndarray], psnr: Mapping[str, np.ndarray]
) -> list[BDRow]:
    """The models against the published mean curves on Kodak."""
    rows = []
    for curve in published():
        anchor = tuple(np.array(column)[:, None] for column in zip(*curve.points))
        rows += [
            _bd_row(codec.name, f"{curve.name} (published)", "psnr", (bpp[codec.name], psnr[codec.name]), anchor)
            for codec in codecs
            if codec.learned
        ]
    return rows


def _jnd_row(results: Results, codec: Codec, images: Sequence[TestImage], metric: str, t: float) -> JndRow:
    found = [results.get("jnd", codec.name, codec.version, image.digest, metric, t) for image in images]
    if None in found:
        raise JndError(f"{codec.name} lacks a search for {t:g} JND by {metric}: run the evaluation to its end")
    bits = np.array([record["bpp"] for record in found if record["reached"]])
    complete = len(bits) == len(images)
    low, high = bootstrap(bits) if complete and len(bits) > 1 else (None, None)
    mean = float(bits.mean()) if complete else None
    return JndRow(codec.name, metric, t, reached=len(bits), total=len(images), bpp=mean, low=low, high=high)


def _time_row(results: Results, codec: Codec, images: Sequence[TestImage]) -> TimeRow:
    points = list(results.points([codec], images))
    encode, decode = (
        float(np.median([point[field] * 1e6 / (point["width"] * point["height"]) for point in points]))
        for field in ("encode_s", "decode_s")
    )
    kmacs = codec.multiply_adds() if codec.multiply_adds else {}
    return TimeRow(codec.name, encode, decode, kmacs.get("encode"), kmacs.get("decode"))


def summarise(
    results: Results,
    codecs: Sequence[Codec],
    images: Sequence[TestImage],
    names: Sequence[str],
    *,
    t: float = 1.0,
    command: str = "",
    workers: int = 1,
) -> Summary:
    """Tables of the measurements of these codecs on these images.

    Raises:
        JndError: a measurement is missing.
    """
    bpp = {codec.name: _grid(results, codec, images, "bpp") for codec in codecs}
    values = {codec.name: {name: _grid(results, codec, images, name) for name in names} for codec in codecs}
    curves = {
        name: {m: list(zip(bpp[name].mean(1).tolist(), grid.mean(1).tolist())) for m, grid in by_metric.items()}
        for name, by_metric in values.items()
    }
    scaled = {
        name: {metric: quality_scale(metric, grid) for metric, grid in by_metric.items()}
        for name, by_metric in values.items()
    }
    bd = _bd_rows(codecs, bpp, scaled, names)
    if {image.name for image in images} == KODAK and "psnr" in names:
        bd += _published_rows(codecs, bpp, {name: by_metric["psnr"] for name, by_metric in scaled.items()})
    return Summary(
        command=command,
        images=[image.name for image in images],
        codecs=[CodecRow(codec.name, codec.title, codec.version, codec.learned, codec.settings) for codec in codecs],
        metrics=list(names),
        curves=curves,
        covered={
            name: (min(v for _, v in by_metric["psnr"]), max(v for _, v in by_metric["psnr"]))
            for name, by_metric in curves.items()
            if "psnr" in by_metric
        },
        bd=bd,
        jnd=[
            _jnd_row(results, codec, images, metric, t)
            for metric in names
            if metrics.lookup(metric).jnd is not None
            for codec in codecs
        ],
        times=[_time_row(results, codec, images) for codec in codecs],
        workers=workers,
    )


def _interval(low: float | None, high: float | None, digits: int) -> str:
    return "" if low is None or high is None else f" [{low:.{digits}f}, {high:.{digits}f}]"


def bd_cell(row: BDRow) -> str:
    """Text of a BD-rate, with its interval."""
    if row.percent is None:
        return "-"
    return f"{row.percent:+.1f} %" + ("" if row.low is None else f" [{row.low:+.1f}, {row.high:+.1f}]")


def jnd_cell(row: JndRow) -> str:
    """Text of the bits at one JND, with their interval."""
    if row.bpp is None:
        return f"not reached ({row.reached} of {row.total} images)"
    return f"{row.bpp:.3f}{_interval(row.low, row.high, 3)}"


def time_cells(row: TimeRow) -> list[str]:
    """Texts of the two times and the two counts of multiply-adds."""
    kmacs = (row.encode_kmacs, row.decode_kmacs)
    return [f"{row.encode:.3f}", f"{row.decode:.3f}", *("" if n is None else f"{n:.1f}" for n in kmacs)]


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def to_markdown(summary: Summary) -> str:
    """The tables as one Markdown text, headed by the command that makes them."""
    title = {row.name: row.title for row in summary.codecs}
    names = [metrics.lookup(name).title for name in summary.metrics]
    bd = {(row.test, row.anchor, row.metric): row for row in summary.bd}
    pairs = list(dict.fromkeys((row.test, row.anchor) for row in summary.bd))
    bd_rows = [
        [
            f"{title[test]} against {title.get(anchor, anchor)}",
            *(bd_cell(bd[test, anchor, m]) if (test, anchor, m) in bd else "" for m in summary.metrics),
        ]
        for test, anchor in pairs
    ]
    parts = [
        f"`{summary.command}`",
        f"{len(summary.images)} images at full size, real bytes of whole files. "
        + "Brackets: 95 % bootstrap intervals over images.",
        "## BD-rate",
        "Bits more (+) or fewer (-) than the second codec at equal quality; Akima interpolation of the mean "
        + "curves. A `-` means too little common quality range.",
        _markdown(["", *names], bd_rows),
    ]
    narrow = [
        f"{title[name]} {low:.1f} to {high:.1f} dB"
        for name, (low, high) in summary.covered.items()
        if low > 28 or high < 38
    ]
    if narrow:
        parts.append(f"Curves that do not cover 28 to 38 dB: {'; '.join(narrow)}.")
    if summary.jnd:
        jnd_metrics = list(dict.fromkeys(row.metric for row in summary.jnd))
        cells = {(row.codec, row.metric): jnd_cell(row) for row in summary.jnd}
        parts += [
            f"## Bits per pixel at {summary.jnd[0].t:g} JND",
            "Mean over all images of each image's smallest file that passes; `not reached` if one " + "image has none.",
            _markdown(
                ["", *(metrics.lookup(m).title for m in jnd_metrics)],
                [[row.title, *(cells[row.name, m] for m in jnd_metrics)] for row in summary.codecs],
            ),
        ]
    times = {row.codec: row for row in summary.times}
    parts += [
        f"## Time\n\nSeconds a megapixel, median; {summary.workers} image(s) at once on this machine. "
        + "kMAC: thousand multiply-adds.",
        _markdown(
            ["", "encode", "decode", "encode, kMAC/pixel", "decode, kMAC/pixel"],
            [[row.title, *time_cells(times[row.name])] for row in summary.codecs],
        ),
        "## Codecs",
        _markdown(["", "settings", "version"], [[row.title, row.settings, row.version] for row in summary.codecs]),
    ]
    return "\n\n".join(parts) + "\n"


def write(summary: Summary, folder: Path) -> None:
    """Writes tables.md, curves.csv, bd_rate.csv, jnd.csv and times.csv into `folder`."""
    (folder / "tables.md").write_text(to_markdown(summary), encoding="utf-8")
    curves = [
        {"codec": codec, "metric": metric, "bpp": bpp, "value": value}
        for codec, by_metric in summary.curves.items()
        for metric, curve in by_metric.items()
        for bpp, value in curve
    ]
    for name, rows in (
        ("curves", curves),
        *(
            (name, [asdict(row) for row in getattr(summary, field)])
            for name, field in (("bd_rate", "bd"), ("jnd", "jnd"), ("times", "times"))
        ),
    ):
        if rows:
            with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
