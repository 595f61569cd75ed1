"""Figures that README.md quotes are those of the committed results.

They stand in a table between the lines `<!-- figures: FOLDER -->` and `<!-- end of figures -->`, FOLDER being what
`jnd-jax eval` wrote, and are made by `python -m jnd_jax.evaluation.figures FOLDER README.md`. A row is one of

    | BD-rate of CODEC against CODEC, METRIC | -12.3 % [-15.0, -9.1] |
    | Bits per pixel of CODEC at 1 JND, METRIC (SCALE) | 0.612 |
    | Bits per pixel of CODEC at 1 JND, METRIC (SCALE) | not reached (20 of 24 images) |

with codecs and metrics by their titles (WebP, PSNR (RGB)) or a model's name, and 95 % intervals in brackets. Every
number must be that of bd_rate.csv or jnd.csv, rounded.
"""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from pathlib import Path

import pytest

from jnd_jax import codecs, metrics
from jnd_jax.errors import JndError
from jnd_jax.evaluation import figures
from jnd_jax.metrics import levels

ROOT = Path(__file__).parents[1]
NUMBER = r"([-+]?\d+\.\d+)"
MARKER = re.compile(r"<!-- figures: (\S+) -->\n(.*?)<!-- end of figures -->", re.S)
BD = re.compile(rf"BD-rate of (.+?) against (.+), (.+?) \| {NUMBER} %(?: \[{NUMBER}, {NUMBER}\])?")
JND = re.compile(
    rf"Bits per pixel of (.+?) at (\S+) JND, (.+?) \((\w+)\) \| (?:{NUMBER}"
    r"|not reached \((\d+) of (\d+) images\))"
)
NAMES = {codec.title: codec.name for codec in codecs.CONVENTIONAL.values()}
SCALES = {scale.title: scale.name for scale in levels.SCALES.values()}
METRICS = {metric.title: metric.name for metric in metrics.METRICS.values()}


def table(path: Path) -> list[dict[str, str]]:
    if not path.exists():  # a comparison by metrics without a JND has no table of them
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def agrees(text: str | None, cell: str) -> bool:
    """Whether a quoted number is a cell's, rounded, or both are missing."""
    if not text or not cell:
        return not text and not cell
    return abs(float(text) - float(cell)) <= 0.501 * 10.0 ** -len(text.partition(".")[2])


def contradictions(quoted: str, folder: Path) -> tuple[int, list[str]]:
    """How many rows a quoted table has, and those that are not in the CSV files of `folder`."""
    bd = {(r["test"], r["anchor"], r["metric"]): r for r in table(folder / "bd_rate.csv") if r["range"] == "common"}
    jnd = {(r["codec"], float(r["t"]), r["metric"], r["scale"]): r for r in table(folder / "jnd.csv")}
    rows = re.findall(r"^\| (.*) \|$", quoted, re.M)
    assert rows.pop(0) == "what | value"
    wrong = []
    for row in rows:
        if found := BD.fullmatch(row):
            test, anchor, metric, *texts = found.groups()
            source = bd.get((NAMES.get(test, test), NAMES.get(anchor, anchor), METRICS[metric]))
            fields = ("percent", "low", "high")
        elif found := JND.fullmatch(row):
            codec, t, metric, scale, *texts = found.groups()
            source = jnd.get((NAMES.get(codec, codec), float(t), METRICS[metric], SCALES[scale]))
            reached = texts[1] is None
            fields = ("bpp",) if reached else ("reached", "total")
            texts = texts[:1] if reached else texts[1:]
        else:
            source, texts, fields = None, [], ()
        if source is None or not all(agrees(text, source[field]) for text, field in zip(texts, fields)):
            wrong.append(row)
    return len(rows), wrong


def test_quoted_figures_are_those_of_the_results():
    quoted = MARKER.findall((ROOT / "README.md").read_text())
    if not quoted:
        pytest.skip("README.md quotes no figures yet")
    for folder, text in quoted:
        rows, wrong = contradictions(text, ROOT / folder)
        assert rows > 0 and wrong == []


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "bd_rate.csv").write_text(
        "test,anchor,metric,range,percent,low,high,overlap,note\n"
        "jnd-base-1,webp,psnr,common,-12.345,-15.04,-9.06,0.9,\n"
        "jnd-base-1,mbt2018-mean (published),psnr,common,41.26,,,0.9,\n"
        "jnd-base-1,jxl,ssimulacra2,common,,,,,the curves share 3 %\n"
        "webp,jpeg,psnr,common,-30.1,-31,-29,1.0,\n"
    )
    (folder / "jnd.csv").write_text(
        "codec,metric,scale,t,reached,total,bpp\n"
        "jnd-base-1,ssimulacra2,konjnd,1.0,24,24,0.61249\n"
        "webp,ssimulacra2,konjnd,1.0,20,24,\n"
    )
    return folder


EXPECTED = """| what | value |
|---|---|
| BD-rate of jnd-base-1 against WebP, PSNR (RGB) | -12.3 % [-15.0, -9.1] |
| BD-rate of jnd-base-1 against mbt2018-mean (published), PSNR (RGB) | +41.3 % |
| Bits per pixel of jnd-base-1 at 1 JND, SSIMULACRA2 (KonJND) | 0.612 |
| Bits per pixel of WebP at 1 JND, SSIMULACRA2 (KonJND) | not reached (20 of 24 images) |"""


def test_one_command_writes_the_table(results, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("# A\n\n<!-- figures: results -->\nold\n<!-- end of figures -->\n\nB\n")
    subprocess.run(
        [sys.executable, "-m", "jnd_jax.evaluation.figures", "results", "README.md"], cwd=tmp_path, check=True
    )
    assert readme.read_text() == f"# A\n\n<!-- figures: results -->\n{EXPECTED}\n<!-- end of figures -->\n\nB\n"
    assert contradictions(EXPECTED, results) == (4, [])


@pytest.mark.parametrize(
    "right, wrong",
    [
        ("-12.3 %", "-12.4 %"),
        ("[-15.0", "[-14.9"),
        (" [-15.0, -9.1]", ""),
        ("+41.3 %", "+41.3 % [40.0, 42.0]"),
        ("0.612", "0.611"),
        ("20 of 24", "21 of 24"),
        ("not reached (20 of 24 images)", "0.500"),
        ("against WebP", "against JPEG"),
    ],
)
def test_another_figure_is_noticed(results, right, wrong):
    assert right in EXPECTED
    rows, found = contradictions(EXPECTED.replace(right, wrong), results)
    assert rows == 4 and len(found) == 1


def test_missing_lines_and_tables_are_named(results, tmp_path):
    with pytest.raises(JndError, match="<!-- figures: here -->"):
        figures.replace("text", "here", EXPECTED)
    with pytest.raises(JndError, match="to its end"):
        figures.block(tmp_path)
    (results / "jnd.csv").write_text("codec,metric\na,b\n")
    with pytest.raises(JndError, match="no table"):
        figures.block(results)
