"""Does a model break on graphics? Drawn crops (`data.draw`) through files, and their worst block of 16x16 pixels.

    python -m bench.bursts MODEL [MODEL ...] [--data photos/] [--pictures 640] [--qualities 38,45,54] [--seed 4]

A network may fail on what it was not trained on: a patch of loud noise, and all around it is right. A block counts as broken
where the root mean square of its error is above 48 of 255 levels. Quantisation seldom comes near that.
"""

from __future__ import annotations

import argparse

import numpy as np

import jnd_jax
from jnd_jax.data import cache, pipeline

_BLOCK, _CROP = 16, 256
_BROKEN = 48.0


def worst_block(image: np.ndarray, decoded: np.ndarray) -> float:
    """The largest root mean square error of a block, in levels. Both images are (H, W, 3) uint8, sides multiples of 16."""
    error = (image.astype(np.float32) - decoded) ** 2
    height, width, _ = error.shape
    blocks = error.reshape(height // _BLOCK, _BLOCK, width // _BLOCK, _BLOCK, 3)
    return float(np.sqrt(blocks.mean((1, 3, 4)).max()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--data", default="", help="folders, with commas; default: the photos of scikit-image")
    parser.add_argument("--pictures", type=int, default=640)
    parser.add_argument("--qualities", default="38,45,54", help="taken in turns, one a picture")
    parser.add_argument("--seed", type=int, default=4)
    args = parser.parse_args()
    qualities = [float(q) for q in args.qualities.split(",")]
    images, _ = cache.split(cache.load_images(args.data.split(",")), 10)
    augmentation = pipeline.Augmentation(downscale=0.25, saturate=0.2, draw=1.0)
    examples = pipeline.Examples(images, _CROP, args.seed, augmentation)
    pictures = [examples[i]["image"] for i in range(args.pictures)]
    print("| model | pictures with a broken block | worst block | 99th percentile of worst blocks | bytes |")
    print("|---|---|---|---|---|")
    for name in args.models:
        codec, worst, size = jnd_jax.load(name), [], 0
        for i, picture in enumerate(pictures):
            file = codec.encode(picture, quality=qualities[i % len(qualities)])
            worst.append(worst_block(picture, codec.decode(file)))
            size += len(file)
        broken = sum(value > _BROKEN for value in worst)
        print(
            f"| {codec.name} | {broken} of {len(worst)} | {max(worst):.0f} levels | {np.quantile(worst, 0.99):.1f} | {size} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
