"""Bits at one JND with other weights of the distortion in rate-distortion optimised rounding, for all or a part of the symbols.

    python -m bench.rounding_weights --data photos/,cid22/

Validation photographs as in `bench.jnd_bits`, or with `--training` others. Prints the change against the weights that ship, by metric:
geometric mean, standard error in brackets, and after "all" the change of the bits of all photographs together.
"""

from __future__ import annotations

import argparse

import numpy as np

import jnd_jax
from bench.jnd_bits import log_bits, photographs, row
from jnd_jax import metrics
from jnd_jax.codec import hyper
from jnd_jax.image_codec import ImageCodec
from jnd_jax.perception.colour import RGB_TO_YCBCR

METRICS = ("ssimulacra2", "butteraugli")


def variants(codec: ImageCodec) -> dict[str, np.ndarray]:
    """Factors (2, M) of the distortion by half and channel, by name; the first are those that ship."""
    basis = np.asarray(codec._latents.synthesis)
    energy = np.square(basis.reshape(len(basis), -1, 3) @ RGB_TO_YCBCR).sum(1)
    chroma = energy[:, 0] < energy.sum(1) / 2
    group = np.concatenate(
        [np.full(part.stop - part.start, i) for i, part in enumerate(hyper.group_channels(codec._latents.mean))]
    )
    where = lambda channels, factor: np.tile(np.where(channels, factor, 1.0), (2, 1))
    return {
        "as they ship": where(group < 0, 1.0),
        "all, .75": where(group >= 0, 0.75),
        "all, 1.33": where(group >= 0, 1.33),
        "first group, 2": where(group == 0, 2.0),
        "first group, .5": where(group == 0, 0.5),
        "second and third group, 1.5": where((group == 1) | (group == 2), 1.5),
        "fourth and fifth group, 1.5": where(group >= 3, 1.5),
        "fourth and fifth group, .67": where(group >= 3, 0.67),
        "anchors 1.4, other blocks .7": where(group < 0, 1.0) * np.array([[1.4], [0.7]]),
        "chroma, 1.6": where(chroma, 1.6),
        "chroma, .6": where(chroma, 0.6),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, metavar="DIR,DIR")
    parser.add_argument("--model", default="jnd-perceptual")
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--size", type=int, default=384, help="pixels a side, from the middle")
    parser.add_argument("--training", action="store_true", help="photographs that the models were trained on")
    parser.add_argument("--qualities", default="24,36,48")
    parser.add_argument("--levels", metavar="V,V", help=f"values of {' and '.join(METRICS)}; default: those at one JND")
    args = parser.parse_args()
    pictures = photographs(args.data, args.images, args.size, args.training)
    qualities = [float(q) for q in args.qualities.split(",")]
    values = map(float, args.levels.split(",")) if args.levels else map(metrics.jnd_threshold, METRICS)
    levels = dict(zip(METRICS, values, strict=True))
    codec = jnd_jax.load(args.model)
    energy_of, first = codec._energy, None
    print(f"| weights | {' | '.join(METRICS)} |\n|---|{'---|' * len(METRICS)}")
    for name, factors in variants(codec).items():

        def scaled(image, depth, factors=factors):
            energy = energy_of(image, depth)
            return lambda rows, channels, half: energy(rows, channels, half) * factors[half][channels]

        codec._energy = scaled
        bits = np.array([log_bits(codec, picture, qualities, levels) for picture in pictures])
        first = bits if first is None else first
        print(row(name, bits, first), flush=True)


if __name__ == "__main__":
    main()
