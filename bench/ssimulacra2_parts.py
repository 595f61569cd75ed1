"""Which parts of SSIMULACRA2 tell the default model from AVIF at its best, whose files are no larger.

    python -m bench.ssimulacra2_parts PICTURE ... [--quality 60]

The score is a curve of a weighted sum: of the mean and the 4-norm over a picture, of errors of structure, of added and of
lost edges, in three channels at six scales. Prints a Markdown table of the sum's parts by scale and norm for the
pictures' central 384x384 pixels, as means over them: less is better.
"""

from __future__ import annotations

import argparse
from functools import partial

import jax
import numpy as np

from jnd_jax import codecs, images, search
from jnd_jax.perception import ssimulacra2

SIZE = 384
NORMS = ("mean", "4-norm")


def middle(image: np.ndarray) -> np.ndarray:
    top, left = (max(0, side - SIZE) // 2 for side in image.shape[:2])
    return image[top : top + SIZE, left : left + SIZE]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="+", metavar="PICTURE")
    parser.add_argument("--quality", type=float, default=60.0)
    args = parser.parse_args()
    ours, avif = codecs.lookup("jnd-perceptual"), codecs.lookup("avif10")
    errors = jax.jit(ssimulacra2.weighted_errors)
    found = []
    for picture in (middle(images.read_rgb(path)) for path in args.pictures):
        mine = ours.encode(picture, args.quality)
        theirs = search.largest_within(partial(avif.encode, picture), len(mine), avif.qualities).data
        original, *decoded = (x[None] / np.float32(255) for x in (picture, ours.decode(mine), avif.decode(theirs)))
        found.append([errors(original, image)[0] for image in decoded])
    first, second = np.mean(found, 0)
    print("| a pixel stands for | norm | jnd-perceptual | AVIF at its best |\n|---|---|---|---|")
    for scale in range(ssimulacra2.SCALES):
        for i, norm in enumerate(NORMS):
            print(f"| {2**scale} | {norm} | {first[scale, i]:.3f} | {second[scale, i]:.3f} |")
    print(f"| all | | {first.sum():.3f} | {second.sum():.3f} |")


if __name__ == "__main__":
    main()
