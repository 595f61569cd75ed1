"""How many encodes `--target jnd` takes and how near it comes, by each metric; or where its searches should begin.

    python bench/target_search.py --data kodak/ [--model jnd-perceptual] [--metrics ssimulacra2,psnr-hvs,butteraugli]
    python bench/target_search.py --data photos/ --curve      # what to write into image_codec._TYPICAL

The first prints a Markdown table over the images; the second each metric's mean at qualities 0, 25, 50, 75 and 100.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

import jnd_jax
from jnd_jax import metrics, search
from jnd_jax.evaluation.results import TestImage, find_images, finite
from jnd_jax.image_codec import QUALITIES, TYPICAL, ImageCodec
from jnd_jax.images import read_rgb


def searches(codec: ImageCodec, images: list[TestImage], metric: str) -> str:
    """A row of the table."""
    target = search.parse_target("konjnd", metric)
    encodes, overshoot = [], []
    for image in images:
        pixels = read_rgb(image.path)
        try:
            found = search.reach(pixels, codec.encode, codec.decode, QUALITIES, target, typical=TYPICAL)
        except search.OutOfReach as error:
            print(f"{image.name}: {error}", file=sys.stderr)
            continue
        encodes.append(found.encodes)
        overshoot.append(metrics.margin(metric, found.value, target.value) / abs(target.value))
    return (
        f"| {metric} | {len(encodes)} of {len(images)} | {np.mean(encodes):.1f} | {max(encodes)} | {min(overshoot):.2%} "
        f"| {np.mean(overshoot):.2%} | {max(overshoot):.2%} |"
    )


def curve(codec: ImageCodec, images: list[TestImage], metric: str) -> str:
    """A metric's mean at five qualities."""
    values = np.zeros((len(images), 5))
    for row, image in enumerate(images):
        pixels = read_rgb(image.path)
        for column, quality in enumerate((0, 25, 50, 75, 100)):
            decoded = codec.decode(codec.encode(pixels, quality))
            values[row, column] = finite(metrics.measure(metric, pixels, decoded))
    return f"{metric}: {', '.join(f'{value:.4g}' for value in values.mean(0))}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="jnd-perceptual")
    parser.add_argument("--metrics", default="ssimulacra2,psnr-hvs,butteraugli")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--curve", action="store_true")
    args = parser.parse_args()
    codec, images = jnd_jax.load(args.model), find_images(args.data, args.limit)
    if not args.curve:
        print(
            "| metric | reached | encodes, mean | most | beyond the threshold, least | mean | most |\n|---|---|---|---|---|---|---|"
        )
    for metric in args.metrics.split(","):
        print((curve if args.curve else searches)(codec, images, metric), flush=True)


if __name__ == "__main__":
    main()
