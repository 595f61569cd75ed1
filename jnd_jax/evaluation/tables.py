"""A comparison's figures as Markdown and CSV."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jnd_jax import metrics
from jnd_jax.evaluation.statistics import FEWEST
from jnd_jax.evaluation.summary import USED_RANGE, BDRow, JndRow, RatioRow, Summary, TimeRow


def bd_cell(row: BDRow) -> str:
    """Text of a BD-rate, with its interval."""
    if row.percent is None:
        return "-"
    return f"{row.percent:+.1f} %" + ("" if row.low is None else f" [{row.low:+.1f}, {row.high:+.1f}]")


def jnd_cell(row: JndRow) -> str:
    """Text of the bits at t JND."""
    if row.bpp is None:
        return f"not reached ({row.reached} of {row.total} images)"
    return f"{row.bpp:.3f}"


def ratio_cells(row: RatioRow) -> list[str]:
    """Texts of the two ratios as differences in percent, with their intervals."""

    def cell(value: float, low: float | None, high: float | None) -> str:
        ends = "" if low is None or high is None else f" [{100 * (low - 1):+.1f}, {100 * (high - 1):+.1f}]"
        return f"{100 * (value - 1):+.1f} %{ends}"

    return [
        cell(row.means, row.means_low, row.means_high),
        cell(row.geometric, row.geometric_low, row.geometric_high),
    ]


def time_cells(row: TimeRow) -> list[str]:
    """Texts of the two times and the two counts of multiply-adds."""
    kmacs = (row.encode_kmacs, row.decode_kmacs)
    return [f"{row.encode:.3f}", f"{row.decode:.3f}", *("" if n is None else f"{n:.1f}" for n in kmacs)]


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _bd_table(summary: Summary, title: dict[str, str], kind: str, names: Sequence[str]) -> str:
    cells = {(row.test, row.anchor, row.metric): bd_cell(row) for row in summary.bd if row.range == kind}
    pairs = dict.fromkeys((test, anchor) for test, anchor, _ in cells)
    return _markdown(
        ["", *(metrics.lookup(name).title for name in names)],
        [
            [f"{title[test]} against {title.get(anchor, anchor)}", *(cells.get((test, anchor, m), "") for m in names)]
            for test, anchor in pairs
        ],
    )


def _bd_parts(summary: Summary, title: dict[str, str]) -> list[str]:
    parts = [
        "## BD-rate",
        "Bits more (+) or fewer (-) than the second codec at equal quality; Akima interpolation of the mean curves, over "
        "their whole common range. A `-` means too little common range. A published mean curve has no interval.",
        _bd_table(summary, title, "common", summary.metrics),
    ]
    used = [name for name in summary.metrics if name in USED_RANGE]
    if used:
        ranges = ", ".join(f"{metrics.lookup(n).title} {USED_RANGE[n][0]:g} to {USED_RANGE[n][1]:g}" for n in used)
        parts += [
            "### In the range that people use",
            f"{ranges}, as far as both curves reach (at least 80 % of it).",
            _bd_table(summary, title, "used", used),
        ]
    narrow = [
        f"{title[name]} {low:.1f} to {high:.1f} dB"
        for name, (low, high) in summary.covered.items()
        if low > 28 or high < 38
    ]
    return parts + ([f"Curves that do not cover 28 to 38 dB: {'; '.join(narrow)}."] if narrow else [])


def _jnd_parts(summary: Summary, title: dict[str, str]) -> list[str]:
    if not summary.jnd:
        return []
    found = list(dict.fromkeys((row.metric, row.scale) for row in summary.jnd))
    cells = {(row.codec, row.metric, row.scale): jnd_cell(row) for row in summary.jnd}
    return [
        f"## Bits per pixel at {summary.jnd[0].t:g} JND",
        "Mean over all images, each between the measured files just above and below the level (PCHIP of log bits over the log of what the metric lacks of its best value); "
        "`not reached` if one image's files do not enclose it.",
        _markdown(
            ["", *(metrics.jnd_title(*level) for level in found)],
            [[row.title, *(cells[row.name, *level] for level in found)] for row in summary.codecs],
        ),
        f"### Difference at {summary.jnd[0].t:g} JND",
        "Image by image. Ratio of means: what a bill changes by. Geometric mean: every image weighs the same.",
        _markdown(
            ["", "metric", "ratio of means", "geometric mean of the images' ratios"],
            [
                [
                    f"{title[row.test]} against {title[row.anchor]}",
                    metrics.jnd_title(row.metric, row.scale),
                    *ratio_cells(row),
                ]
                for row in summary.ratios
            ],
        ),
    ]


def _intervals(summary: Summary) -> str:
    if len(summary.images) < FEWEST:
        return f"No intervals: they need at least {FEWEST} images."
    return "Brackets: 95 % intervals over images (jackknife of the logarithm, Student's t)."


def to_markdown(summary: Summary) -> str:
    """The tables as one Markdown text, headed by the command that makes them."""
    title = {row.name: row.title for row in summary.codecs}
    times = {row.codec: row for row in summary.times}
    parts = [
        f"`{summary.command}`",
        f"{len(summary.images)} images at full size, real bytes of whole files. {_intervals(summary)}",
        *(f"Not measured: {text}." for text in summary.missing),
        *_bd_parts(summary, title),
        *_jnd_parts(summary, title),
        f"## Time\n\nSeconds a megapixel, median; {summary.conditions}. kMAC: thousand multiply-adds.",
        _markdown(
            ["", "encode", "decode", "encode, kMAC/pixel", "decode, kMAC/pixel"],
            [[row.title, *time_cells(times[row.name])] for row in summary.codecs],
        ),
        "## Codecs",
        _markdown(["", "settings", "version"], [[row.title, row.settings, row.version] for row in summary.codecs]),
    ]
    return "\n\n".join(parts) + "\n"


def write(summary: Summary, of_images: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Writes tables.md, curves.csv, bd_rate.csv, jnd.csv, ratios.csv, times.csv and images.csv into `folder`.

    Args:
        summary: what was compared.
        of_images: rows of images.csv, see `summary.image_bits`.
        folder: that is there.
    """
    (folder / "tables.md").write_text(to_markdown(summary), encoding="utf-8")
    curves = [
        {"codec": codec, "metric": metric, "bpp": bpp, "value": value}
        for codec, by_metric in summary.curves.items()
        for metric, curve in by_metric.items()
        for bpp, value in curve
    ]
    of_summary = {"bd_rate": summary.bd, "jnd": summary.jnd, "ratios": summary.ratios, "times": summary.times}
    as_dicts = {name: [asdict(row) for row in rows] for name, rows in of_summary.items()}
    for name, rows in {"curves": curves, "images": of_images, **as_dicts}.items():
        if rows:
            with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
