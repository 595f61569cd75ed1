"""Where the bits of small files go, and what a third pass over the first group would know.

    python -m bench.context_limits --model jnd-perceptual --images smooth/ --quality 15

For the first channels of the first group, which hold the lowest frequencies: their share of the files, at the anchors and at
the other blocks; and the bits a symbol that a linear fit on the four diagonal neighbours saves at every second anchor, were the
anchors of even rows coded before those of odd rows. The fit is made on one half of the symbols and judged on the other.

Then what the scale indexes of anchors would gain from the symbols of the row above: the shift of the index that suits each of eight
classes of (sum of their magnitudes) / (what their scales let expect), chosen on every second file and judged on the others.
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
_CLASSES = 8
_SHIFTS = range(-8, 9)


class Field(NamedTuple):
    """The first channels of a file's latents, (h, w, CHANNELS) each: bits, symbols, means and scale indexes."""

    bits: np.ndarray
    symbols: np.ndarray
    means: np.ndarray
    indexes: np.ndarray


def bits_of(latents: coding.LatentCoder, index: np.ndarray, symbols: np.ndarray) -> np.ndarray:
    """Bits of integer symbols at scale indexes, of one shape."""
    half = latents.y_half_width[index]
    inside = np.abs(symbols) <= half
    place = latents.y_start[index] + half + np.where(inside, symbols, half + 1)
    return latents.y_bits[place] + np.where(inside, 0, 16)


def field_of(latents: coding.LatentCoder, data: bytes) -> Field:
    header, chunks = bitstream.unpack(data)
    z = coding.z_of_file(latents, header, chunks)
    coded = latents.decode_y(chunks["y"], z, header.quality, header.coder)
    symbols, y_hat, index = (part[..., :CHANNELS] for part in coded)
    index = index.astype(int)
    return Field(bits_of(latents, index, symbols.astype(int)), symbols, y_hat - symbols, index)


def saved_bits(fields: list[Field], channel: int) -> tuple[float, int]:
    """Bits a symbol that the fit saves at the anchors of odd rows, and how many of them are worth it."""
    rows, targets, scales = [], [], []
    for _, symbols, means, indexes in fields:
        symbols, means, scale = (part[..., channel] for part in (symbols, means, hyper.scale(np, indexes)))
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


def anchors_with_context(field: Field) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scale indexes and symbols of all anchors, and how large the two symbols diagonally above are beside their scales."""
    size, expected = np.abs(field.symbols), hyper.scale(np, field.indexes) / 2**0.5
    above = lambda x: np.pad(x, ((1, 0), (1, 1), (0, 0)))[:-1]
    pair = lambda x: above(x)[:, :-2] + above(x)[:, 2:]
    anchor = np.add.outer(*(np.arange(side) for side in size.shape[:2])) % 2 == 0
    ratio = (pair(size) + 0.3) / (pair(expected) + 0.3)
    return field.indexes[anchor].ravel(), field.symbols[anchor].astype(int).ravel(), ratio[anchor].ravel()


def scales_from_above(latents: coding.LatentCoder, fields: list[Field]) -> float:
    """Bits of the anchors of the files judged, with the scale index shifted by class, as a share of those without."""
    fit, judge = (tuple(np.concatenate(part) for part in zip(*map(anchors_with_context, fields[i::2]))) for i in (0, 1))
    edges = np.quantile(fit[2], np.linspace(0, 1, _CLASSES + 1)[1:-1])
    moved = lambda index, by: np.clip(index + by, 0, hyper.SCALE_LEVELS - 1)
    index, symbols, ratio = fit
    of_class = [np.searchsorted(edges, ratio) == i for i in range(_CLASSES)]
    cost = lambda chosen, by: bits_of(latents, moved(index[chosen], by), symbols[chosen]).sum()
    shift = np.array([min(_SHIFTS, key=lambda by: cost(chosen, by)) for chosen in of_class])
    index, symbols, ratio = judge
    after = bits_of(latents, moved(index, shift[np.searchsorted(edges, ratio)]), symbols)
    return float(after.sum() / bits_of(latents, index, symbols).sum())


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

    share = scales_from_above(latents, fields)
    print(f"\nScale indexes that know the row above: {100 * (share - 1):+.2f} % of the bits of these anchors.")


if __name__ == "__main__":
    main()
