"""Where the bits of small files go, and what a third pass over the first group would know.

    python -m bench.context_limits --model jnd-perceptual --images smooth/ --quality 15

For the first channels of the first group, which hold the lowest frequencies: their share of the files, at the anchors and at
the other blocks; and the bits a symbol that a linear fit on the four diagonal neighbours saves at every second anchor, were the
anchors of even rows coded before those of odd rows. The fit is made on one half of the symbols and judged on the other.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np

import jnd_jax
from jnd_jax import bitstream, files, images, modelfile
from jnd_jax.codec import coding, hyper

CHANNELS = 6
_LEAST_SCALE = 0.7  # of symbols that are worth predicting
_RIDGE = 5.0


class Field(NamedTuple):
    """The first channels of a file's latents, (h, w, CHANNELS) each: bits, symbols, means and standard deviations."""

    bits: np.ndarray
    symbols: np.ndarray
    means: np.ndarray
    scales: np.ndarray


def field_of(latents: coding.LatentCoder, data: bytes) -> Field:
    header, chunks = bitstream.unpack(data)
    z = coding.z_of_file(latents, header, chunks)
    coded = latents.decode_y(chunks["y"], z, header.quality, header.coder)
    symbols, y_hat, index = (part[..., :CHANNELS] for part in coded)
    index, half = index.astype(int), latents.y_half_width[index]
    inside = np.abs(symbols) <= half
    place = latents.y_start[index] + half + np.where(inside, symbols, half + 1).astype(int)
    bits = latents.y_bits[place.astype(int)] + np.where(inside, 0, 16)
    return Field(bits, symbols, y_hat - symbols, hyper.scale(np, index))


def saved_bits(fields: list[Field], channel: int) -> tuple[float, int]:
    """Bits a symbol that the fit saves at the anchors of odd rows, and how many of them are worth it."""
    rows, targets, scales = [], [], []
    for _, symbols, means, scale in fields:
        symbols, means, scale = (part[..., channel] for part in (symbols, means, scale))
        at = lambda x, a, b: x[1 + a : x.shape[0] - 1 + a : 2, 1 + b : x.shape[1] - 1 + b : 2].ravel()
        corners = [(a, b) for a in (-1, 1) for b in (-1, 1)]
        beyond = [at(symbols, a, b) + at(means, a, b) - at(means, 0, 0) for a, b in corners]
        rows.append(np.stack([*beyond, *(at(symbols, a, b) for a, b in corners)], -1))
        targets.append(at(symbols, 0, 0))
        scales.append(at(scale, 0, 0))
    weight = 1 / np.concatenate(scales)
    x, y = np.concatenate(rows) * weight[:, None], np.concatenate(targets) * weight
    order = np.random.default_rng(0).permutation(len(y))
    fit, judge = order[::2], order[1::2]
    judge = judge[1 / weight[judge] > _LEAST_SCALE]
    solution = np.linalg.solve(x[fit].T @ x[fit] + _RIDGE * np.eye(x.shape[1]), x[fit].T @ y[fit])
    before, after = np.abs(y[judge]).mean(), np.abs(y - x @ solution)[judge].mean()
    return float(np.log2(before / after)), 2 * len(judge)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="jnd-perceptual")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR")
    parser.add_argument("--quality", type=float, default=15)
    args = parser.parse_args()
    codec, file = jnd_jax.load(args.model), modelfile.load(modelfile.find(args.model))
    latents = coding.latent_coder(file.params, file.tables)
    pictures = [images.read_rgb(path) for path in files.find(args.images, images.READ_SUFFIXES)]
    coded = [codec.encode(picture, args.quality) for picture in pictures]
    fields, total = [field_of(latents, data) for data in coded], 8 * sum(map(len, coded))
    print("| channel | anchors, % of the files | other blocks, % | saved, bits a symbol | saved, % of the files |")
    print("|---|---|---|---|---|")
    for channel in range(CHANNELS):
        halves = [hyper.halves(np, field.bits) for field in fields]
        anchors, others = (100 * sum(h[i][..., channel].sum() for h in halves) / total for i in (0, 1))
        saved, count = saved_bits(fields, channel)
        print(f"| {channel} | {anchors:.1f} | {others:.1f} | {saved:.2f} | {100 * saved * count / total:.2f} |")


if __name__ == "__main__":
    main()
