"""Intervals of figures over test images.

The images are a sample of the images that a codec will meet; an interval says how far the figure would move with
another sample. Below `FEWEST` images none is given: percentile bootstrap over 3 to 6 images covers the truth in 73 to
83 % of samples instead of 95 %. `bench/coverage.py` measures the coverage of `interval`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jnd_jax.errors import JndError

FEWEST = 12
TOO_FEW = f"too few images for an interval (at least {FEWEST})"


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval, both None where there are too few images or no figure without one of them."""

    value: float
    low: float | None = None
    high: float | None = None


def interval(statistic: Callable[[np.ndarray], float], count: int) -> Estimate:
    """A positive statistic of images and its 95 % interval: delete-one jackknife of the logarithm, Student's t.

    Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 11; `count` - 1 degrees of freedom. The
    logarithm makes ratios and rates, which are skewed, nearly symmetrical; the sum of squares is not reduced by
    (N - 1) / N, since without that small samples would be covered too rarely.

    Args:
        statistic: (N,) indices of images -> a positive figure; may raise JndError.
        count: images.

    Raises:
        JndError: what `statistic` raises on all images.
    """
    from scipy import stats

    everything = np.arange(count)
    value = statistic(everything)
    if count < FEWEST:
        return Estimate(value)
    try:
        without = np.log([statistic(np.delete(everything, one)) for one in everything])
    except JndError:
        return Estimate(value)
    error = np.sqrt(((without - without.mean()) ** 2).sum())
    reach = stats.t.ppf(0.975, count - 1) * error
    return Estimate(value, float(value * np.exp(-reach)), float(value * np.exp(reach)))


def ratio_of_means(test: np.ndarray, anchor: np.ndarray) -> Estimate:
    """Mean of (N,) `test` over mean of (N,) `anchor`, image by image: what a bill changes by."""
    return interval(lambda rows: float(test[rows].mean() / anchor[rows].mean()), len(test))


def mean_ratio(test: np.ndarray, anchor: np.ndarray) -> Estimate:
    """Geometric mean of the (N,) ratios of images, in which every image weighs the same."""
    logs = np.log(test / anchor)
    return interval(lambda rows: float(np.exp(logs[rows].mean())), len(test))


def seconds_a_megapixel(points: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Medians of the seconds that encoding and decoding a megapixel took, over "point" records."""
    encode, decode = (
        float(np.median([point[field] * 1e6 / (point["width"] * point["height"]) for point in points]))
        for field in ("encode_s", "decode_s")
    )
    return encode, decode
