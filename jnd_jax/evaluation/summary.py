"""From measurements to figures: mean curves, BD-rates, bits and ratios at one JND, times."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from jnd_jax import metrics
from jnd_jax.codecs import Codec
from jnd_jax.errors import JndError
from jnd_jax.evaluation import statistics
from jnd_jax.evaluation.bd import bd_rate, rate_at
from jnd_jax.evaluation.curves import published
from jnd_jax.evaluation.results import Results, TestImage
from jnd_jax.evaluation.statistics import Estimate
from jnd_jax.metrics import levels

KODAK = {f"kodim{number:02d}" for number in range(1, 25)}
# What people use, of SSIMULACRA2: about 2.8 and .46 JND of people's scale.
USED_RANGE = {"ssimulacra2": (55.0, 89.0)}
USED_SHARE = 0.8


@dataclass(frozen=True)
class CodecRow:
    """A codec as tables name it.

    Attributes:
        grid: qualities of its curve.
        encode_kmacs: thousands of multiply-adds a pixel of a learned codec.
        decode_kmacs: likewise.
    """

    name: str
    title: str
    version: str
    learned: bool
    settings: str
    grid: tuple[float, ...]
    encode_kmacs: float | None
    decode_kmacs: float | None


@dataclass(frozen=True)
class BDRow:
    """BD-rate of `test` against `anchor` in percent.

    Attributes:
        range: of quality: "common" to both curves, or "used" by people (`USED_RANGE`).
        percent: None where there is none, see `note`.
        low: end of the 95 % interval over images, None where there is none.
        high: likewise.
        overlap: share of the range that both curves cover.
        note: why a figure or its interval is missing.
    """

    test: str
    anchor: str
    metric: str
    range: str
    percent: float | None
    low: float | None
    high: float | None
    overlap: float | None
    note: str


@dataclass(frozen=True)
class JndRow:
    """Bits at t JND of a scale by a metric: mean over ALL images; None if the curve of one does not go through the level.

    Attributes:
        reached: images whose curve does.
        total: images.
        bpp: bits per pixel, see `bits_at`.
    """

    codec: str
    metric: str
    scale: str
    t: float
    reached: int
    total: int
    bpp: float | None


@dataclass(frozen=True)
class RatioRow:
    """Bits of `test` at t JND over those of `anchor`, image by image, with 95 % intervals where there are enough.

    Attributes:
        means: mean bits over mean bits: what a bill changes by.
        geometric: geometric mean of the images' ratios, in which every image weighs the same.
    """

    test: str
    anchor: str
    metric: str
    scale: str
    t: float
    means: float
    means_low: float | None
    means_high: float | None
    geometric: float
    geometric_low: float | None
    geometric_high: float | None


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
        ratios: of bits at t JND, for each pair of codecs that BD-rates compare.
        times: by codec.
        conditions: under which times were measured, as in "2 images at once on 8 cores".
        missing: metrics that were left out for want of a tool, with what to install.
    """

    command: str
    images: list[str]
    codecs: list[CodecRow]
    metrics: list[str]
    curves: dict[str, dict[str, list[tuple[float, float]]]]
    covered: dict[str, tuple[float, float]]
    bd: list[BDRow]
    jnd: list[JndRow]
    ratios: list[RatioRow]
    times: list[TimeRow]
    conditions: str
    missing: list[str]


def record(
    results: Results,
    codecs: Sequence[Codec],
    images: Sequence[TestImage],
    names: Sequence[str],
    *,
    t: float = 1.0,
    command: str = "",
    workers: int = 1,
    missing: Sequence[str] = (),
) -> None:
    """Adds to `results` what was compared, so that tables need neither codecs nor images; see `Summary`."""
    for codec in codecs:
        kmacs = codec.multiply_adds() if codec.multiply_adds else {}
        row = CodecRow(
            name=codec.name,
            title=codec.title,
            version=codec.version,
            learned=codec.learned,
            settings=codec.settings,
            grid=tuple(float(quality) for quality in codec.grid),
            encode_kmacs=kmacs.get("encode"),
            decode_kmacs=kmacs.get("decode"),
        )
        fields = {**asdict(row), "grid": list(row.grid)}
        results.append({"kind": "codec", "codec": fields.pop("name"), **fields})
    results.append(
        {
            "kind": "run",
            "command": command,
            "codecs": [[codec.name, codec.version] for codec in codecs],
            "images": [[image.name, image.digest] for image in images],
            "metrics": list(names),
            "t": t,
            "workers": workers,
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "missing": list(missing),
        }
    )


def quality_scale(metric: str, value: np.ndarray) -> np.ndarray:
    """A metric's value as BD-rate integrates it: higher is better, MS-SSIM in dB as -10 log10(1 - value)."""
    if metric == "ms-ssim":
        return -10 * np.log10(np.maximum(1 - value, 1e-6))
    return value if metrics.lookup(metric).better == "higher" else -value


def _log_scale(metric: str, value: np.ndarray) -> np.ndarray:
    """Minus the logarithm of what a value lacks of the metric's best one, where it has one: nearly straight over log bits."""
    best = metrics.lookup(metric).best
    return quality_scale(metric, value) if best is None else -np.log(np.maximum(np.abs(best - value), 1e-9))


def bits_at(points: Sequence[Mapping[str, Any]], metric: str, level: float) -> float:
    """Bits per pixel at which one image reaches a metric's value, between measured files; see `bd.rate_at`.

    Args:
        points: "point" records of one codec and image.
        metric: name.
        level: its value.

    Returns:
        The bits; infinite or nan where the points do not enclose the level, or none has the metric.
    """
    known = [point for point in points if metric in point["metrics"]]
    if not known:
        return np.nan
    values = _log_scale(metric, np.array([point["metrics"][metric] for point in known]))
    return rate_at([point["bpp"] for point in known], values, float(_log_scale(metric, np.array(level))))


class _Measured:
    """What the last run compared, as arrays."""

    def __init__(self, results: Results):
        run = results.need("run")
        self.results, self.run = results, run
        self.codecs = []
        for name, version in run["codecs"]:
            fields = {k: v for k, v in results.need("codec", name, version).items() if k not in ("kind", "codec")}
            self.codecs.append(CodecRow(name=name, **{**fields, "grid": tuple(fields["grid"])}))
        self.names, self.digests = zip(*run["images"])
        self.points = {codec.name: results.by_image(codec.name, codec.version) for codec in self.codecs}

    @property
    def levels(self) -> list[tuple[str, str]]:
        """(metric, scale) of all levels of the measured metrics at the run's t."""
        t = self.run["t"]
        return [(metric, scale) for metric in self.run["metrics"] for scale in levels.scales_of(metric, t)]

    def grid(self, codec: CodecRow, field: str) -> np.ndarray:
        """(qualities, images) array of "bpp" or of a metric; JndError if a point is missing."""
        rows = []
        for quality in codec.grid:
            row = []
            for name, digest in self.run["images"]:
                point = self.results.get("point", codec.name, codec.version, digest, quality)
                if point is None or (field != "bpp" and field not in point["metrics"]):
                    raise JndError(
                        f"{codec.name} at quality {quality:g} lacks {field} on {name}: run the evaluation to its end."
                    )
                row.append(point["bpp"] if field == "bpp" else point["metrics"][field])
            rows.append(row)
        return np.array(rows, float)

    def bits(self, codec: CodecRow, metric: str, scale: str) -> np.ndarray:
        """(images,) bits per pixel at t JND, not finite where an image's points do not enclose the level."""
        level = levels.level(scale, self.run["t"], metric)[1]
        return np.array([bits_at(self.points[codec.name].get(digest, []), metric, level) for digest in self.digests])


def _pairs(codecs: Sequence[CodecRow]) -> list[tuple[CodecRow, CodecRow]]:
    """Each model against each conventional codec, other models against the first, other codecs against the first."""
    models = [codec for codec in codecs if codec.learned]
    others = [codec for codec in codecs if not codec.learned]
    return (
        [(model, anchor) for model in models for anchor in others]
        + [(model, models[0]) for model in models[1:]]
        + [(other, others[0]) for other in others[1:]]
    )


Grids = tuple[np.ndarray, np.ndarray]


def _bd_row(test: str, anchor: str, metric: str, test_grid: Grids, anchor_grid: Grids, used: bool = False) -> BDRow:
    """Grids are (bpp, quality), each (qualities, images); an anchor with one column is a published mean curve."""
    known = anchor_grid[0].shape[1] > 1 or test_grid[0].shape[1] == 1
    options = {"between": USED_RANGE[metric], "min_overlap": USED_SHARE} if used else {}
    overlap = None

    def ratio(images: np.ndarray) -> float:
        nonlocal overlap
        curves = [grid[:, images].mean(1) if grid.shape[1] > 1 else grid[:, 0] for grid in (*anchor_grid, *test_grid)]
        result = bd_rate(*curves, **options)
        overlap = overlap or result.overlap
        return 1 + result.percent / 100

    count = test_grid[0].shape[1]
    row = {"test": test, "anchor": anchor, "metric": metric, "range": "used" if used else "common"}
    try:
        estimate = statistics.interval(ratio, count) if known else Estimate(ratio(np.arange(count)))
    except JndError as error:
        return BDRow(**row, percent=None, low=None, high=None, overlap=None, note=str(error))
    percent = lambda value: None if value is None else 100 * (value - 1)
    note = "" if estimate.low is not None else statistics.TOO_FEW if known else "a published mean curve has no interval"
    return BDRow(
        **row,
        percent=percent(estimate.value),
        low=percent(estimate.low),
        high=percent(estimate.high),
        overlap=overlap,
        note=note,
    )


def _bd_rows(measured: _Measured, bpp: dict[str, np.ndarray], scaled: dict[str, dict[str, np.ndarray]]) -> list[BDRow]:
    """Every pair of `_pairs` by every metric; on Kodak also the models against published mean curves."""
    names = measured.run["metrics"]
    rows = [
        _bd_row(
            test.name,
            anchor.name,
            metric,
            (bpp[test.name], scaled[test.name][metric]),
            (bpp[anchor.name], scaled[anchor.name][metric]),
            used,
        )
        for used in (False, True)
        for test, anchor in _pairs(measured.codecs)
        for metric in names
        if not used or metric in USED_RANGE
    ]
    if set(measured.names) == KODAK and "psnr" in names:
        for curve in published():
            rate, value = (np.array(column)[:, None] for column in zip(*curve.points))
            rows += [
                _bd_row(
                    codec.name,
                    f"{curve.name} (published)",
                    "psnr",
                    (bpp[codec.name], scaled[codec.name]["psnr"]),
                    (rate, value),
                )
                for codec in measured.codecs
                if codec.learned
            ]
    return rows


def _jnd_row(measured: _Measured, codec: CodecRow, metric: str, scale: str) -> JndRow:
    bits = measured.bits(codec, metric, scale)
    reached = np.isfinite(bits)
    return JndRow(
        codec=codec.name,
        metric=metric,
        scale=scale,
        t=measured.run["t"],
        reached=int(reached.sum()),
        total=len(bits),
        bpp=float(bits.mean()) if reached.all() else None,
    )


def _ratio_row(measured: _Measured, test: CodecRow, anchor: CodecRow, metric: str, scale: str) -> RatioRow | None:
    """None where the curve of one of the two does not go through the level on an image."""
    of_test, of_anchor = (measured.bits(codec, metric, scale) for codec in (test, anchor))
    if not np.isfinite([of_test, of_anchor]).all():
        return None
    means, geometric = statistics.ratio_of_means(of_test, of_anchor), statistics.mean_ratio(of_test, of_anchor)
    return RatioRow(
        test=test.name,
        anchor=anchor.name,
        metric=metric,
        scale=scale,
        t=measured.run["t"],
        means=means.value,
        means_low=means.low,
        means_high=means.high,
        geometric=geometric.value,
        geometric_low=geometric.low,
        geometric_high=geometric.high,
    )


def _time_row(measured: _Measured, codec: CodecRow) -> TimeRow:
    points = [
        measured.results.need("point", codec.name, codec.version, digest, quality)
        for quality in codec.grid
        for digest in measured.digests
    ]
    encode, decode = statistics.seconds_a_megapixel(points)
    return TimeRow(codec.name, encode, decode, codec.encode_kmacs, codec.decode_kmacs)


def _conditions(measured: _Measured) -> str:
    """`Summary.conditions`; earlier versions noted neither the cores nor the images at once of each point."""
    run, points = measured.run, (p for of_codec in measured.points.values() for of in of_codec.values() for p in of)
    counts = sorted({point.get("workers", run["workers"]) for point in points})
    images = f"{' or '.join(map(str, counts))} image{'s' if counts[-1] > 1 else ''} at once"
    if not run.get("cores"):
        return images
    return f"{images} on {run['cores']} core{'s' if run['cores'] > 1 else ''}"


def summarise(results: Results) -> Summary:
    """The figures of what the last run compared.

    Raises:
        JndError: a measurement is missing.
    """
    measured = _Measured(results)
    names, codecs = measured.run["metrics"], measured.codecs
    bpp = {codec.name: measured.grid(codec, "bpp") for codec in codecs}
    values = {codec.name: {name: measured.grid(codec, name) for name in names} for codec in codecs}
    curves = {
        name: {m: list(zip(bpp[name].mean(1).tolist(), grid.mean(1).tolist())) for m, grid in by_metric.items()}
        for name, by_metric in values.items()
    }
    scaled = {
        name: {metric: quality_scale(metric, grid) for metric, grid in by_metric.items()}
        for name, by_metric in values.items()
    }
    ratios = [_ratio_row(measured, *pair, *level) for level in measured.levels for pair in _pairs(codecs)]
    return Summary(
        command=measured.run["command"],
        images=list(measured.names),
        codecs=codecs,
        metrics=list(names),
        curves=curves,
        covered={
            name: (min(v for _, v in by_metric["psnr"]), max(v for _, v in by_metric["psnr"]))
            for name, by_metric in curves.items()
            if "psnr" in by_metric
        },
        bd=_bd_rows(measured, bpp, scaled),
        jnd=[_jnd_row(measured, codec, *level) for level in measured.levels for codec in codecs],
        ratios=[row for row in ratios if row is not None],
        times=[_time_row(measured, codec) for codec in codecs],
        conditions=_conditions(measured),
        missing=measured.run["missing"],
    )


def image_bits(results: Results) -> list[dict[str, Any]]:
    """Bits at t JND of every level, codec and image; bpp None where the points do not enclose the level."""
    measured = _Measured(results)
    rows = []
    for metric, scale in measured.levels:
        for codec in measured.codecs:
            row = {"codec": codec.name, "metric": metric, "scale": scale}
            for image, bits in zip(measured.names, measured.bits(codec, metric, scale).tolist()):
                rows.append({**row, "image": image, "bpp": bits if np.isfinite(bits) else None})
    return rows


def image_bd(results: Results) -> list[dict[str, Any]]:
    """BD-rate of the first codec against each conventional one, image by image; percent None without a common range."""
    measured = _Measured(results)
    own, *others = measured.codecs
    rows = []
    for metric in measured.run["metrics"]:
        of = {
            codec.name: (measured.grid(codec, "bpp"), quality_scale(metric, measured.grid(codec, metric)))
            for codec in measured.codecs
        }
        for other in (codec for codec in others if not codec.learned):
            for column, image in enumerate(measured.names):
                try:
                    curves = [grid[:, column] for name in (other.name, own.name) for grid in of[name]]
                    percent = bd_rate(*curves).percent
                except JndError:
                    percent = None
                rows.append({"anchor": other.name, "metric": metric, "image": image, "percent": percent})
    return rows
