"""How well each metric orders JPEG settings as people do, on MUCPED23.

    JND_JAX_DATA=DIR python bench/metric_vs_people.py [--limit N] [--metrics psnr,ssimulacra2]

DIR/mucped23/elo.csv: Elo ratings of human preference of 31 JPEG settings, each over 49 images
(google-research/mucped23). DIR/cid22_validation: 41 of these images. Settings of libjpeg-turbo and of jpegli 4:4:4 can
be made here (18 of the 31); mozjpeg and jpegli 4:2:0 cannot. Printed are Spearman's rank correlation of each metric's
mean over the images with the Elo ratings, its 95 % interval from resampled images, and the share of setting pairs in
the metric's order among those whose 99 % Elo intervals do not overlap.
"""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import os
import re
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from jnd_jax import codecs, metrics
from jnd_jax.evaluation.results import find_images, finite
from jnd_jax.images import read_rgb


def code(setting: str, pixels: np.ndarray) -> bytes | None:
    """The file of a setting such as libjpeg-turbo-q80-yuv422, None where no encoder is at hand."""
    encoder, quality, chroma = re.fullmatch(r"(.+)-q(\d+)-yuv(\d+)", setting).groups()
    if encoder == "jpegli" and chroma == "444":
        return codecs.encode("jpegli", pixels, int(quality))
    if encoder == "libjpeg-turbo":
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=int(quality), subsampling=":".join(chroma))
        return file.getvalue()
    return None


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation of (N,) values without ties."""
    ranks = [np.argsort(np.argsort(values)) for values in (a, b)]
    return float(np.corrcoef(*ranks)[0, 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, help="only the first N images")
    parser.add_argument(
        "--metrics",
        default=",".join(metrics.METRICS),
        help="with commas (default: %(default)s)",
    )
    args = parser.parse_args()
    data = Path(os.environ["JND_JAX_DATA"])
    with (data / "mucped23" / "elo.csv").open(newline="") as file:
        people = list(csv.DictReader(file))
    images = find_images(data / "cid22_validation", args.limit)
    blank = np.zeros((16, 16, 3), np.uint8)
    people = [row for row in people if code(row["method"], blank) is not None]
    values = {name: np.zeros((len(people), len(images))) for name in args.metrics.split(",")}
    bpp = np.zeros((len(people), len(images)))
    for column, image in enumerate(images):
        pixels = read_rgb(image.path)
        for row, setting in enumerate(people):
            file = code(setting["method"], pixels)
            decoded = np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))
            bpp[row, column] = len(file) * 8 / pixels[..., 0].size
            for name in values:
                values[name][row, column] = finite(metrics.measure(name, pixels, decoded))
        print(f"{column + 1} of {len(images)}", file=sys.stderr, flush=True)
    elo, low, high = (np.array([float(row[key]) for row in people]) for key in ("elo", "p99Low", "p99Hi"))
    clear = [(i, j) for i, j in itertools.permutations(range(len(people)), 2) if low[i] > high[j]]
    samples = np.random.default_rng(0).integers(0, len(images), (1000, len(images)))
    print(f"{len(people)} settings, {len(images)} images, {len(clear)} clear pairs\n")
    print("| metric | Spearman with people | 95 % interval | clear pairs in order |\n|---|---|---|---|")
    signed = {
        metrics.lookup(name).title: grid if metrics.lookup(name).better == "higher" else -grid
        for name, grid in values.items()
    }
    for title, grid in {**signed, "bits per pixel (no metric at all)": bpp}.items():
        mean = grid.mean(1)
        ends = np.percentile([spearman(grid[:, sample].mean(1), elo) for sample in samples], [2.5, 97.5])
        order = np.mean([mean[i] > mean[j] for i, j in clear])
        print(f"| {title} | {spearman(mean, elo):.3f} | {ends[0]:.3f} to {ends[1]:.3f} | {100 * order:.1f} % |")
    published = np.array([float(row["bpp"]) for row in people])
    print(
        f"\nBits per pixel here divided by the published ones: {np.min(bpp.mean(1) / published):.3f} to "
        f"{np.max(bpp.mean(1) / published):.3f}."
    )


if __name__ == "__main__":
    main()
