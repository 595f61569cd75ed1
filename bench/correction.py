"""Bits at one JND with corrected latents, where what the correction lowers weighs errors at other resolutions.

    python -m bench.correction --data photos/,cid22/ --weights 1:0.6 1:0.6,2:0.8 1:0.6,2:0.7,4:0.7 --efforts 0,1,3

Each of --weights is the weight of masked DCT error by how many times as small the pictures are that it sees.
Validation photographs as in `bench.jnd_bits`. Prints the change against the latents that the analysis gives, by metric:
geometric mean, standard error in brackets, after "all" the change of the bits of all photographs together, then the photograph
that loses most or gains least; and the median seconds of encoding a photograph, all of one size, after the first. (Those of
the first row are of a correction by nothing.)
"""

from __future__ import annotations

import argparse
import time

import jax
import numpy as np

import jnd_jax
from bench.jnd_bits import log_bits, photographs, row
from jnd_jax import metrics
from jnd_jax.codec import distortion, lapped

METRICS = ("ssimulacra2", "butteraugli")


class WithEffort:
    """A codec whose `encode` has an effort, and notes the seconds it takes."""

    def __init__(self, effort: int):
        self.codec, self.effort, self.seconds = jnd_jax.load(), effort, []

    def encode(self, image: np.ndarray, quality: float) -> bytes:
        began = time.perf_counter()
        data = self.codec.encode(image, quality, effort=self.effort)
        self.seconds.append(time.perf_counter() - began)
        return data

    def decode(self, data: bytes) -> np.ndarray:
        return self.codec.decode(data)


def parse_weights(text: str) -> dict[int, float]:
    """ "1:0.6,2:0.7" -> {1: 0.6, 2: 0.7}."""
    return {int(side): float(weight) for side, weight in (part.split(":") for part in text.split(","))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, metavar="DIR,DIR")
    parser.add_argument("--weights", nargs="+", default=["1:0.6,2:0.7,4:0.7"], metavar="SIDE:WEIGHT,...")
    parser.add_argument("--efforts", default="0,1,3")
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--size", type=int, default=384, help="pixels a side, from the middle")
    parser.add_argument("--qualities", default="24,36,48,60")
    args = parser.parse_args()
    pictures = photographs(args.data, args.images, args.size)
    qualities = [float(q) for q in args.qualities.split(",")]
    levels = {name: metrics.jnd_threshold(name) for name in METRICS}
    print(f"| weights, effort | {' | '.join(METRICS)} | worst | seconds |\n|---|{'---|' * (len(METRICS) + 2)}")

    def measure(name: str, effort: int, first: np.ndarray | None = None) -> np.ndarray:
        """Prints the row of an effort, and returns its bits: (photographs, metrics) log2."""
        codec = WithEffort(effort)
        bits = np.array([log_bits(codec, picture, qualities, levels) for picture in pictures])
        first = bits if first is None else first
        worst = ", ".join(f"{100 * (2**change - 1):+.1f} %" for change in (bits - first).max(0))
        print(row(name, bits, first), worst, f"| {np.median(codec.seconds[1:]):.2f} |", flush=True)
        return bits

    rate, lapped._CORRECTION_RATE = lapped._CORRECTION_RATE, 0.0
    first = measure("as analysed", 0)
    lapped._CORRECTION_RATE = rate
    for weights in args.weights:
        distortion._MASKED_WEIGHTS = parse_weights(weights)
        jax.clear_caches()  # of programs with the weights of before
        for effort in map(int, args.efforts.split(",")):
            measure(f"{weights}, {effort}", effort, first)


if __name__ == "__main__":
    main()
