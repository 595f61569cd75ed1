"""Makes what README.md shows: measures the shipped models, and writes its tables, its plot and its pictures.

    python -m bench.readme_figures --data KODAK [--image kodim19.png] [--bpp 0.2] [--measured]

KODAK is the folder of the 24 Kodak images, kodim01.png to kodim24.png. The comparisons go to docs/results, where one that was
stopped goes on and only what is new is measured; `--measured` takes what is there. The pictures are written to docs/figures.
They show the same part of the original, of AVIF at its best and of the default model, pixel for pixel; the model's file is
no larger than AVIF's, which has at most `--bpp` bits per pixel.
"""

from __future__ import annotations

import argparse
import csv
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from jnd_jax import codecs, images, search, zoo
from jnd_jax.evaluation import figures

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
FIGURES = ROOT / "docs" / "figures"
AGAINST = "jpeg,jpegli,webp,avif,jxl"
CROP = 288
TITLE = 24


class Comparison(NamedTuple):
    """A table of the README: where its results are, the families compared, what is measured, and what is quoted."""

    folder: str
    families: tuple[str, ...]
    metrics: str
    qualities: str
    quoted: tuple[str, ...]
    anchors: tuple[str, ...]


PERCEPTUAL = Comparison(
    folder="docs/results/kodak-jnd",
    families=(zoo.DEFAULT, "jnd-base"),
    metrics="psnr,ssimulacra2,butteraugli",
    qualities="10,25,40,55,70,85",
    quoted=("ssimulacra2", "butteraugli"),
    anchors=("JPEG", "AVIF", "JPEG XL"),
)
SQUARED_ERROR = Comparison(
    folder="docs/results/kodak",
    families=("jnd-base",),
    metrics="psnr,ms-ssim",
    qualities="0,10,25,40,55,70,85,100",
    quoted=("psnr",),
    anchors=("JPEG", "AVIF", "JPEG XL", "BPG 4:4:4 (published)", "VVC (VTM) (published)"),
)


def measure(comparison: Comparison, data: Path) -> None:
    models = [zoo.resolve(family, zoo.models()) for family in comparison.families]
    measured = ["--metrics", comparison.metrics, "--qualities", comparison.qualities]
    command = [sys.executable, "evaluate.py", *models, "--data", data, "--against", AGAINST, *measured]
    subprocess.run([*command, "-o", comparison.folder], cwd=ROOT, check=True)


def write_table(comparison: Comparison) -> None:
    """The rows of the first model that name one of the anchors, and the bits at one JND of these codecs."""
    header, rule, *rows = figures.block(ROOT / comparison.folder, comparison.quoted).splitlines()
    model = re.match(r"\| BD-rate of (\S+)", rows[0])[1]
    shown = [f"against {anchor}," for anchor in comparison.anchors]
    shown += [f"Bits per pixel of {codec} at" for codec in (model, *comparison.anchors)]
    table = "\n".join([header, rule, *(row for row in rows if any(text in row for text in shown))])
    README.write_text(figures.replace(README.read_text(), comparison.folder, table))


def write_plot(path: Path, metric: str = "ssimulacra2") -> None:
    """Mean SSIMULACRA2 over mean bits per pixel, from curves.csv."""
    curves = defaultdict(list)
    with (ROOT / PERCEPTUAL.folder / "curves.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["metric"] == metric:
                curves[row["codec"]].append((float(row["bpp"]), float(row["value"])))
    figure = Figure((6.4, 4.2), layout="constrained")
    axes = figure.add_subplot(xlabel="bits per pixel", ylabel="SSIMULACRA2, mean over 24 Kodak images")
    model = zoo.resolve(zoo.DEFAULT, curves)
    for name in [model, *(name for name in AGAINST.split(",") if name in curves)]:
        title = codecs.CONVENTIONAL[name].title if name in codecs.CONVENTIONAL else name
        bpp, value = zip(*sorted(curves[name]))
        axes.plot(bpp, value, label=title, linewidth=2.5 if name == model else 1.2, zorder=3 if name == model else 2)
    axes.set(xlim=(0, 1.5), ylim=(20, 90))
    axes.axhline(64, color="grey", linewidth=0.8, linestyle=":")
    axes.annotate("1 JND of KonJND-1k (flicker test)", (1.49, 64.6), ha="right", color="grey", fontsize=9)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=120)


def decoded_within(codec: codecs.Codec, image: np.ndarray, bpp: float) -> tuple[np.ndarray, int]:
    """The best decoded image of at most `bpp` bits per pixel, and the bytes of its file."""
    target = search.Target("bpp", bpp)
    found = search.reach(image, codec.encode, codec.decode, codec.qualities, target)
    return codec.decode(found.data), len(found.data)


def write_crops(path: Path, source: Path, bpp: float, left: int, top: int) -> None:
    """Original, AVIF and the default model side by side, CROP pixels square, titles above."""
    image = images.read_image(source).pixels
    parts = [("original", image)]
    for name in ("avif10", zoo.DEFAULT):
        codec = codecs.lookup(name)
        pixels, size = decoded_within(codec, image, bpp)
        bpp = 8 * size / (image.shape[0] * image.shape[1])  # AVIF has few qualities: the model's file is no larger
        parts.append((f"{codec.title}, {size:,} bytes", pixels))
    sheet = Image.new("RGB", (len(parts) * (CROP + 4) - 4, CROP + TITLE), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (title, pixels) in enumerate(parts):
        x = number * (CROP + 4)
        draw.text((x + 2, 4), title, "black", font_size=14)
        sheet.paste(Image.fromarray(pixels[top : top + CROP, left : left + CROP]), (x, TITLE))
    sheet.save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="KODAK")
    parser.add_argument("--image", default="kodim19.png", help="the photo shown (default: %(default)s)")
    parser.add_argument("--bpp", type=float, default=0.2, help="of the files shown (default: %(default)s)")
    parser.add_argument(
        "--at", type=int, nargs=2, default=(120, 330), metavar=("LEFT", "TOP"), help="of the part shown"
    )
    parser.add_argument("--measured", action="store_true", help="take the comparisons as they are")
    args = parser.parse_args()
    for comparison in (PERCEPTUAL, SQUARED_ERROR):
        if not args.measured:
            measure(comparison, args.data)
        write_table(comparison)
    FIGURES.mkdir(exist_ok=True)
    write_plot(FIGURES / "rate.png")
    write_crops(FIGURES / "crops.png", args.data / args.image, args.bpp, *args.at)


if __name__ == "__main__":
    main()
