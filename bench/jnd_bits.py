"""Bits at one just-noticeable difference on validation photographs: what models are chosen by.

    python -m bench.jnd_bits jnd-perceptual mine.safetensors --data photos/,cid22/

Every tenth photograph by name (of fewer than ten, all), its central 512x512 pixels: none that the models were trained on with
these folders. Each is coded at a few qualities; the bits at the metric's level for one JND are interpolated in log bits.
MODEL:N is a model with an effort of 1 to 3.
A changed encoder is compared with the one of before in two runs, `--save before.npz` in the checkout of before and
`--before before.npz` in the changed one, with the same options else.
Prints a Markdown table of the change of each model's bits against the first one's: the geometric mean over the photographs,
its standard error, and after "all" the change of the bits of all photographs together.
"""

from __future__ import annotations

import argparse

import numpy as np

from jnd_jax import codecs, metrics
from jnd_jax.data import cache
from jnd_jax.training.validate import choose


def log_bits(codec, image: np.ndarray, qualities: list[float], levels: dict[str, float]) -> list[float]:
    """log2 of the bits at the level of each metric, extrapolated by the nearest two qualities where need be."""
    values, bits = [], []
    for quality in qualities:
        data = codec.encode(image, quality)
        decoded = codec.decode(data)
        values.append([metrics.measure(name, image, decoded) for name in levels])
        bits.append(np.log2(8 * len(data)))
    result = []
    for level, column in zip(levels.values(), np.array(values).T):
        beyond = column - level
        if beyond[0] > beyond[-1]:
            beyond = -beyond
        i = int(np.clip(np.searchsorted(beyond, 0.0) - 1, 0, len(qualities) - 2))
        slope = (bits[i + 1] - bits[i]) / (beyond[i + 1] - beyond[i])
        result.append(bits[i] - slope * beyond[i])
    return result


def photographs(data: str, count: int, size: int, training: bool = False) -> list[np.ndarray]:
    """The middle of so many validation photographs, or training photographs, of folders that commas separate."""
    of_training, validation = cache.split(cache.load_images(data.split(",")), 10)
    return [example["image"] for example in choose(of_training if training else validation, None, count, size)]


def change(bits: np.ndarray, first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Geometric mean change from `first` in percent, and its standard error: (photographs, metrics) log2 of bits each."""
    nats = np.log(2) * (bits - first)
    return 100 * np.expm1(nats.mean(0)), 100 * nats.std(0, ddof=1) / len(nats) ** 0.5


def row(name: str, bits: np.ndarray, first: np.ndarray) -> str:
    """A line of the table; arguments as of `change`."""
    together = 100 * ((2**bits).sum(0) / (2**first).sum(0) - 1)
    cells = (f"{m:+.2f} % ({e:.2f}), all {a:+.2f} %" for m, e, a in zip(*change(bits, first), together))
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--data", required=True, metavar="DIR,DIR")
    parser.add_argument("--metrics", default="ssimulacra2,butteraugli")
    parser.add_argument("--levels", metavar="V,V", help="values of the metrics; default: those at one JND")
    parser.add_argument("--qualities", default="36,45,54", help="three or more, around the levels")
    parser.add_argument("--images", type=int, default=36)
    parser.add_argument("--save", metavar="FILE.npz", help="keep the bits for `--before`")
    parser.add_argument("--before", metavar="FILE.npz", help="bits that were kept: the first rows")
    args = parser.parse_args()
    names, qualities = args.metrics.split(","), [float(q) for q in args.qualities.split(",")]
    values = map(float, args.levels.split(",")) if args.levels else map(metrics.jnd_threshold, names)
    levels = dict(zip(names, values, strict=True))
    images = photographs(args.data, args.images, 512)
    found = {} if args.before is None else {f"{model} before": bits for model, bits in np.load(args.before).items()}
    found |= {
        model: np.array([log_bits(codecs.lookup(model), image, qualities, levels) for image in images])
        for model in args.models
    }
    if args.save:
        np.savez(args.save, **{model: found[model] for model in args.models})
    first = next(iter(found.values()))
    print(f"| model | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for model, bits in found.items():
        print(row(model, bits, first))


if __name__ == "__main__":
    main()
