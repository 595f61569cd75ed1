"""Integer frequency tables for range coding, built once from a model's densities and stored with it.

A table lists the frequencies of consecutive symbols. They are at least 1 and sum to 2^16. Tables are built by
float arithmetic, so they are built once, at export; coding reads the integers only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

PRECISION = 16
TOTAL = 1 << PRECISION

# The table that codes bytes as they are.
BYTE = np.full(256, TOTAL // 256)

# A conditional Laplacian's table ends where both tails together fall below this; the escape symbol stands for them. An
# escape costs about 32 bits, 16 of them for its value, so it must stay rarer than the smallest frequency, 2^-16.
_TAIL = 2.0**-PRECISION
_LARGEST_HALF_WIDTH = 1023

# The density counts as much as so many symbols that were counted.
_PRIOR = 200


def quantise_pmf(pmf: np.ndarray) -> np.ndarray:
    """Integer frequencies (n,) of at least 1 that sum to 2^16, nearest to the probabilities (n,) in proportion."""
    n = len(pmf)
    ideal = pmf / pmf.sum() * (TOTAL - n)
    frequency = np.floor(ideal).astype(np.int64)
    missing = TOTAL - n - frequency.sum()
    frequency[np.argsort(frequency - ideal, kind="stable")[:missing]] += 1
    return (frequency + 1).astype(np.uint32)


def laplacian_tables(scales: np.ndarray, counts: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Tables of a rounded Laplacian of mean 0 and standard deviation s, for each scale s.

    Table i holds the 2k + 2 frequencies of -k..k, k = half_width[i], and of the escape symbol. The tables
    follow one another.

    Args:
      scales: (n,) standard deviations, as in `hyper.scale_table`.
      counts: (n, m) how often the magnitudes 0, 1, ... m - 1 occurred at each scale: the Laplacian then only fills in
        what was seldom seen. None: the Laplacian alone.

    Returns:
      {"frequency": flat uint32, "half_width": (n,) int32}
    """
    rates = np.sqrt(2.0) / np.asarray(scales)
    last = [np.ceil(-np.log(_TAIL) / rate - 0.5) for rate in rates]
    return _tables([lambda x, rate=rate: 0.5 * np.exp(-rate * x) for rate in rates], last, counts)


def shifted_laplacian_tables(scales: np.ndarray, means: np.ndarray) -> dict[str, np.ndarray]:
    """As `laplacian_tables`, table i with the standard deviation `scales[i]` and the mean `means[i]` in 0..1."""
    frequencies, widths = [], []
    for scale, mean in zip(scales, means):
        rate = np.sqrt(2.0) / scale
        k = int(np.clip(np.ceil(mean - np.log(_TAIL) / rate - 0.5), 1, _LARGEST_HALF_WIDTH))
        borders = np.arange(-k, k + 2) - 0.5 - mean
        tail = 0.5 * np.exp(-rate * np.abs(borders))
        below = np.where(borders < 0, tail, 1 - tail)
        frequencies.append(quantise_pmf(np.append(np.diff(below), below[0] + 1 - below[-1])))
        widths.append(k)
    return {"frequency": np.concatenate(frequencies), "half_width": np.array(widths, np.int32)}


def gaussian_tables(scales: np.ndarray) -> dict[str, np.ndarray]:
    """As `laplacian_tables`, of a rounded Gaussian."""
    from scipy.special import ndtr, ndtri

    last = [np.ceil(-ndtri(_TAIL / 2) * scale - 0.5) for scale in scales]
    return _tables([lambda x, scale=scale: ndtr(-x / scale) for scale in scales], last)


def _tables(
    above: Sequence[Callable[[np.ndarray], np.ndarray]], last: Sequence[float], counts: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Tables of symmetric densities, each given by its mass above x > 0 and the last symbol to be listed."""
    frequencies, widths = [], []
    for i, (mass_above, half_width) in enumerate(zip(above, last)):
        k = int(np.clip(half_width, 1, _LARGEST_HALF_WIDTH))
        tail = mass_above(np.arange(k + 1) + 0.5)
        # Masses of the magnitudes 0..k, then of all larger ones.
        pmf = np.concatenate([[1 - 2 * tail[0]], 2 * (tail[:-1] - tail[1:]), [2 * tail[-1]]])
        if counts is not None:
            seen = np.bincount(np.minimum(np.arange(counts.shape[1]), k + 1), counts[i], k + 2)
            pmf = _PRIOR * pmf + seen
        positive = pmf[1:-1] / 2
        frequencies.append(quantise_pmf(np.concatenate([positive[::-1], pmf[:1], positive, pmf[-1:]])))
        widths.append(k)
    return {"frequency": np.concatenate(frequencies), "half_width": np.array(widths, np.int32)}


def categorical_tables(pmf: np.ndarray) -> np.ndarray:
    """Frequencies (..., n) uint32 of distributions (..., n)."""
    flat = pmf.reshape(-1, pmf.shape[-1])
    return np.stack([quantise_pmf(row) for row in flat]).reshape(pmf.shape)
