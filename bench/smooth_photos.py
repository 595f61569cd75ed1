"""Writes the validation photographs that AVIF codes in the fewest bits, to compare codecs on smooth ground with edges.

    python -m bench.smooth_photos --data photos/,cid22/ -o smooth/ --images 9
    python evaluate.py jnd-perceptual --data smooth/ --against avif10@38+50+60+74,avif ...

Every tenth photograph by name validates, as in `bench.jnd_bits`; its central 512x512 pixels count.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from jnd_jax import codecs
from jnd_jax.data import cache
from jnd_jax.training.validate import choose


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, metavar="DIR,DIR")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--images", type=int, default=9)
    parser.add_argument("--quality", type=float, default=60, help="of AVIF, at which photographs are ranked")
    args = parser.parse_args()
    _, validation = cache.split(cache.load_images(args.data.split(",")), 10)
    names = sorted(validation.names)
    pictures = [example["image"] for example in choose(validation, None, len(validation), 512)]
    bits = [8 * len(codecs.encode("avif", x, args.quality)) / (x.shape[0] * x.shape[1]) for x in pictures]
    args.output.mkdir(parents=True, exist_ok=True)
    for i in sorted(range(len(bits)), key=bits.__getitem__)[: args.images]:
        Image.fromarray(pictures[i]).save(args.output / f"{Path(names[i]).stem}.png")
        print(f"{names[i]}: {bits[i]:.3f} bits per pixel")


if __name__ == "__main__":
    main()
