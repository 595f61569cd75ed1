"""The figures that a README quotes, taken from a comparison's tables.

    python -m jnd_jax.evaluation.figures docs/results/kodak README.md

replaces what stands in README.md between `<!-- figures: docs/results/kodak -->` and `<!-- end of figures -->` by a table
of the BD-rates and bits at one JND of the first codec of `jnd-jax eval`, from its bd_rate.csv and jnd.csv.
"""

from __future__ import annotations

import argparse
import csv
import re
from collections.abc import Sequence
from pathlib import Path

from jnd_jax import codecs, files, metrics
from jnd_jax.errors import JndError
from jnd_jax.evaluation.summary import BDRow, JndRow
from jnd_jax.evaluation.tables import bd_cell, jnd_cell

END = "<!-- end of figures -->"
METRICS = ("psnr", "ssimulacra2", "butteraugli")


def _rows(path: Path, kind: type) -> list:
    """A table of `jnd_jax.evaluation.summary` read back: numbers where they are numbers, None for empty cells."""
    convert = {"str": str, "int": int, "float": float}

    def cell(name: str, text: str) -> str | int | float | None:
        wanted = kind.__dataclass_fields__[name].type
        return None if text == "" and wanted.endswith("| None") else convert[wanted.split(" ")[0]](text)

    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [kind(**{name: cell(name, text) for name, text in row.items()}) for row in csv.DictReader(file)]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise JndError(
            f"Run `jnd-jax eval ... -o {path.parent}` to its end first: {path} is no table of it ({error})"
        ) from error


def _title(codec: str) -> str:
    return codecs.CONVENTIONAL[codec].title if codec in codecs.CONVENTIONAL else codec


def block(folder: Path, names: Sequence[str] = METRICS) -> str:
    """Markdown table of a results folder: a row `| what | value |` for each figure.

    What is "BD-rate of jnd-base-1 against WebP, PSNR (RGB)", its value "-12.3 % [-15.0, -9.1]"; or "Bits per pixel of
    WebP at 1 JND, SSIMULACRA2 (KonJND)", its value "0.612" or "not reached (20 of 24 images)". Brackets are 95 %
    intervals.

    Args:
        folder: with bd_rate.csv and, if a metric with a JND was measured, jnd.csv.
        names: metrics to quote, as far as they were measured.

    Raises:
        JndError: a table is missing or is none of `jnd-jax eval`.
    """
    bd = _rows(folder / "bd_rate.csv", BDRow)
    jnd = _rows(folder / "jnd.csv", JndRow) if (folder / "jnd.csv").exists() else []
    lines = ["| what | value |", "|---|---|"]
    for name in names:
        title = metrics.lookup(name).title
        lines += [
            f"| BD-rate of {_title(row.test)} against {_title(row.anchor)}, {title} | {bd_cell(row)} |"
            for row in bd
            if (row.test, row.metric, row.range) == (bd[0].test, name, "common") and row.percent is not None
        ]
    for name in names:
        lines += [
            f"| Bits per pixel of {_title(row.codec)} at {row.t:g} JND, {metrics.jnd_title(row.metric, row.scale)} | {jnd_cell(row)} |"
            for row in jnd
            if row.metric == name
        ]
    return "\n".join(lines)


def replace(text: str, folder: str, table: str) -> str:
    """`text` with `table` between the comment lines of `folder`; JndError where these are missing."""
    start = f"<!-- figures: {folder} -->"
    pattern = re.compile(f"({re.escape(start)}\n).*?({re.escape(END)})", re.S)
    if not pattern.search(text):
        raise JndError(f"Write the lines {start} and {END} where the figures are to stand")
    return pattern.sub(lambda found: f"{found[1]}{table}\n{found[2]}", text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="that `jnd-jax eval` wrote, as the comment line names it")
    parser.add_argument("readme", type=Path)
    parser.add_argument("--metrics", default=",".join(METRICS), help="to quote, with commas (default: %(default)s)")
    args = parser.parse_args()
    try:
        table = block(Path(args.folder), args.metrics.split(","))
        text = replace(args.readme.read_text(encoding="utf-8"), args.folder, table)
    except JndError as error:
        parser.exit(2, f"{error}\n")
    files.write_bytes(args.readme, text.encode())
    print(table)


if __name__ == "__main__":
    main()
