"""How often the 95 % intervals of `jnd_jax.evaluation.statistics` hold the truth.

    python bench/coverage.py [--results docs/results/arms-cid22_validation/results.jsonl] [--samples 4000]

The population: all images of a comparison, of which samples of 6 to 24 are drawn with replacement; the truth is the
figure over all of them. A second population is log-normal, as bits per pixel of photographs are. Prints a Markdown
table, with the percentile bootstrap beside.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from jnd_jax.errors import JndError
from jnd_jax.evaluation import statistics
from jnd_jax.evaluation.bd import bd_rate
from jnd_jax.evaluation.results import Results

Statistic = Callable[[np.ndarray], float]


def bootstrap(statistic: Statistic, count: int, random: np.random.Generator) -> tuple[float, float]:
    """The 95 % percentile interval of 200 resamples."""
    values = [statistic(random.integers(0, count, count)) for _ in range(200)]
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def coverage(statistic: Statistic, images: int, sizes: list[int], samples: int, seed: int = 0) -> dict[int, tuple]:
    """Sample size -> share of samples whose interval holds the truth: jackknife, percentile bootstrap."""
    random = np.random.default_rng(seed)
    truth = statistic(np.arange(images))
    shares = {}
    for size in sizes:
        held = np.zeros(2)
        for _ in range(samples):
            rows = random.integers(0, images, size)
            of_sample = lambda chosen, rows=rows: statistic(rows[chosen])
            if size >= statistics.FEWEST:
                estimate = statistics.interval(of_sample, size)
                held[0] += estimate.low is not None and estimate.low <= truth <= estimate.high
            low, high = bootstrap(of_sample, size, random) if samples <= 1000 else (np.nan, np.nan)
            held[1] += low <= truth <= high
        shares[size] = tuple(held / samples)
    return shares


def measured(path: Path, test: str, anchor: str, metric: str) -> tuple[dict[str, Statistic], int]:
    """The statistics of a comparison on its images, and their number."""
    results = Results(path)
    tables = []
    for codec in (anchor, test):
        points = [p for p in results.latest("point", codec) if metric in p["metrics"]]
        digests = sorted({p["digest"] for p in points})
        qualities = sorted({p["quality"] for p in points})
        cell = {(p["quality"], p["digest"]): p for p in points}
        for field in (lambda p: p["bpp"], lambda p: p["metrics"][metric]):
            tables.append(np.array([[field(cell[q, d]) for d in digests] for q in qualities]))
    anchor_rate, anchor_value, test_rate, test_value = tables

    def bd(rows: np.ndarray) -> float:
        try:
            return 1 + bd_rate(*(table[:, rows].mean(1) for table in tables)).percent / 100
        except JndError:
            return float("nan")

    middle = len(anchor_rate) // 2
    ratios = {
        "BD-rate of mean curves": bd,
        "ratio of means": lambda rows: float(test_rate[middle, rows].mean() / anchor_rate[middle, rows].mean()),
        "geometric mean of ratios": lambda rows: float(
            np.exp(np.log(test_rate[middle, rows] / anchor_rate[middle, rows]).mean())
        ),
        "mean bits": lambda rows: float(test_rate[middle, rows].mean()),
    }
    return ratios, anchor_rate.shape[1]


def lognormal(images: int = 20000, seed: int = 1) -> tuple[dict[str, Statistic], int]:
    """A large population of log-normal rates (sigma .55) and ratios (sigma .15)."""
    random = np.random.default_rng(seed)
    anchor = np.exp(random.normal(-0.5, 0.55, images))
    test = anchor * np.exp(random.normal(-0.3, 0.15, images))
    return {
        "ratio of means": lambda rows: float(test[rows].mean() / anchor[rows].mean()),
        "geometric mean of ratios": lambda rows: float(np.exp(np.log(test[rows] / anchor[rows]).mean())),
        "mean bits": lambda rows: float(test[rows].mean()),
    }, images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path("docs/results/arms-cid22_validation/results.jsonl")
    parser.add_argument("--results", type=Path, default=default)
    parser.add_argument("--test", default="masked", help="codec (default: %(default)s)")
    parser.add_argument("--anchor", default="control", help="codec (default: %(default)s)")
    parser.add_argument("--metric", default="ssimulacra2")
    parser.add_argument("--samples", type=int, default=1000, help="beyond 1000 without the bootstrap")
    args = parser.parse_args()
    sizes = [6, 12, 16, 24]
    print("| population | figure | " + " | ".join(f"{size} images" for size in sizes) + " |")
    print("|---|---|" + "---|" * len(sizes))
    populations = {
        "log-normal": lognormal(),
        f"{args.results.parent.name}": measured(args.results, args.test, args.anchor, args.metric),
    }
    for name, (figures, images) in populations.items():
        for figure, statistic in figures.items():
            shares = coverage(statistic, images, sizes, args.samples)
            cells = [
                ("-" if size < statistics.FEWEST else f"{100 * jackknife:.1f} %")
                + (f" (bootstrap {100 * plain:.1f} %)" if args.samples <= 1000 else "")
                for size, (jackknife, plain) in shares.items()
            ]
            print(f"| {name} | {figure} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
