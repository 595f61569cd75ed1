"""What frequency tables would save that follow each image, in place of those that a model ships.

    python -m bench.adaptive_tables --data photos/,cid22/ --qualities 25,40,60

Counts the bits of the latents' symbols, without coding them:
- tables that adapt from symbol to symbol, one a scale index: the table that ships counts as so many symbols seen before;
- the same, for each pass by itself;
- one shift of the scale index for each pass, or for each channel, stated in the file (3 bits, and half a bit or 4).
Each is the change in percent of whole files, all of them together.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.special import gammaln

import jnd_jax
from bench.context_limits import bits_of
from bench.jnd_bits import photographs
from jnd_jax import bitstream, modelfile
from jnd_jax.codec import coding

_ESCAPE = 16  # bits of a symbol beyond the tables, besides its place in them


def adaptive_bits(latents: coding.LatentCoder, symbols: np.ndarray, index: np.ndarray, seen: float) -> float:
    """Bits of (n,) symbols at (n,) scale indexes, by tables that adapt; the one that ships counts as `seen` symbols.

    The order of the symbols does not matter: it is the Dirichlet-multinomial code length.
    """
    total = 0.0
    for level in np.unique(index):
        table, half = latents.y_tables[level].astype(float), latents.y_half_width[level]
        here = symbols[index == level]
        count = np.bincount(np.where(np.abs(here) <= half, here + half, 2 * half + 1), minlength=len(table))
        prior = seen * table / table.sum()
        nats = gammaln(seen + count.sum()) - gammaln(seen) - (gammaln(prior + count) - gammaln(prior)).sum()
        total += nats / np.log(2) + _ESCAPE * count[-1]
    return total


def shifted_bits(
    latents: coding.LatentCoder, symbols: np.ndarray, index: np.ndarray, shifts: dict[int, float]
) -> float:
    """The fewest bits of symbols whose scale indexes are shifted alike; `shifts`: shift -> bits to state it."""
    last = len(latents.y_tables) - 1
    return min(bits_of(latents, np.clip(index + by, 0, last), symbols).sum() + cost for by, cost in shifts.items())


def variants(latents: coding.LatentCoder, data: bytes) -> dict[str, float]:
    """Bits of the symbols of a file, by name; the first are those that it takes."""
    header, chunks = bitstream.unpack(data)
    decoded = latents.decode_y(chunks["y"], coding.z_of_file(latents, header, chunks), header.quality, header.coder)
    symbols, index = (np.asarray(part).astype(int) for part in (decoded.symbols, decoded.indexes))
    anchor = np.add.outer(*map(np.arange, symbols.shape[:2])) % 2 == 0
    halves = (anchor, ~anchor)
    whole = [(symbols.ravel(), index.ravel())]
    passes = [(symbols[m][:, g].ravel(), index[m][:, g].ravel()) for g in latents.group_channels for m in halves]
    channels = [(symbols[..., c].ravel(), index[..., c].ravel()) for c in range(symbols.shape[-1])]
    of_pass = dict.fromkeys(range(-4, 5), 3.0)
    of_channel = {by: 4.0 if by else 0.5 for by in range(-6, 7, 2)}
    adaptive = lambda parts, seen: sum(adaptive_bits(latents, s, i, seen) for s, i in parts)
    return {
        "as they ship": bits_of(latents, index, symbols).sum(),
        **{f"adaptive, {seen} symbols": adaptive(whole, seen) for seen in (100, 400, 2000)},
        **{f"adaptive by pass, {seen} symbols": adaptive(passes, seen) for seen in (400, 2000)},
        "a shift by pass": sum(shifted_bits(latents, s, i, of_pass) for s, i in passes),
        "a shift by channel": sum(shifted_bits(latents, s, i, of_channel) for s, i in channels),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, metavar="DIR,DIR")
    parser.add_argument("--model", default="jnd-perceptual")
    parser.add_argument("--images", type=int, default=18)
    parser.add_argument("--qualities", default="25,40,60")
    args = parser.parse_args()
    codec, file = jnd_jax.load(args.model), modelfile.load(modelfile.find(args.model))
    latents = coding.latent_coder(file.params, file.tables)
    columns = {}
    for quality in args.qualities.split(","):
        files = [codec.encode(picture, float(quality)) for picture in photographs(args.data, args.images, 512)]
        bits = [variants(latents, data) for data in files]
        first, total = (sum(of_file["as they ship"] for of_file in bits), 8 * sum(map(len, files)))
        columns[quality] = {name: 100 * (sum(b[name] for b in bits) - first) / total for name in bits[0]}
    print(f"| tables | {' | '.join(f'quality {quality}' for quality in columns)} |\n|---|{'---|' * len(columns)}")
    for name in next(iter(columns.values())):
        print(f"| {name} | {' | '.join(f'{column[name]:+.2f} %' for column in columns.values())} |")


if __name__ == "__main__":
    main()
