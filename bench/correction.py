"""Bits at one JND with efforts, where ColorVideoVDP sees pictures of other sizes or has another share in what they lower.

    python -m bench.correction --data photos/,cid22/ --shares 1:0.37 2:0.37 2:0.18,4:0.18 --efforts 3,6

Each of --shares is the share of CVVDP by how many times as small the pictures are that it sees; masked DCT error has the rest.
Validation photographs as in `bench.jnd_bits`. Prints the change against effort 0 by metric: geometric mean, standard error in
brackets, after "all" the change of the bits of all photographs together, then the photograph that loses most or gains least;
and the median seconds of encoding a photograph, all of one size, after the first.
"""

from __future__ import annotations

import argparse
import time

import jax
import numpy as np

import jnd_jax
from bench.jnd_bits import log_bits, photographs, row
from jnd_jax import metrics
from jnd_jax.codec import distortion

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


def parse_shares(text: str) -> dict[int, float]:
    """ "2:0.18,4:0.18" -> {2: 0.18, 4: 0.18}."""
    return {int(side): float(share) for side, share in (part.split(":") for part in text.split(","))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, metavar="DIR,DIR")
    parser.add_argument("--shares", nargs="+", default=["2:0.18,4:0.18"], metavar="SIDE:SHARE,...")
    parser.add_argument("--efforts", default="3")
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--size", type=int, default=384, help="pixels a side, from the middle")
    parser.add_argument("--qualities", default="24,36,48,60")
    args = parser.parse_args()
    pictures = photographs(args.data, args.images, args.size)
    qualities = [float(q) for q in args.qualities.split(",")]
    levels = {name: metrics.jnd_threshold(name) for name in METRICS}
    print(f"| shares, effort | {' | '.join(METRICS)} | worst | seconds |\n|---|{'---|' * (len(METRICS) + 2)}")

    def measure(name: str, effort: int, first: np.ndarray | None = None) -> np.ndarray:
        """Prints the row of an effort, and returns its bits: (photographs, metrics) log2."""
        codec = WithEffort(effort)
        bits = np.array([log_bits(codec, picture, qualities, levels) for picture in pictures])
        first = bits if first is None else first
        worst = ", ".join(f"{100 * (2**change - 1):+.1f} %" for change in (bits - first).max(0))
        print(row(name, bits, first), worst, f"| {np.median(codec.seconds[1:]):.2f} |", flush=True)
        return bits

    first = measure("effort 0", 0)
    for shares in args.shares:
        distortion._CVVDP_SHARES = parse_shares(shares)
        jax.clear_caches()  # of programs with the shares of before
        for effort in map(int, args.efforts.split(",")):
            measure(f"{shares}, {effort}", effort, first)


if __name__ == "__main__":
    main()
