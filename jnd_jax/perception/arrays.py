"""Array functions for NumPy and JAX alike."""

from __future__ import annotations

from typing import Any

import numpy as np


def namespace(x: Any) -> Any:
    """numpy for a NumPy array, jax.numpy for any other; jax is imported only then."""
    if isinstance(x, np.ndarray):
        return np
    import jax.numpy

    return jax.numpy


def gaussian(radius: int, sigma: float) -> np.ndarray:
    """(2 radius + 1,) taps of a Gaussian window that sum to 1."""
    taps = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
    return taps / taps.sum()


def safe_power(x: Any, exponent: float) -> Any:
    """max(x, 0) ** exponent, with gradient 0, not NaN, where x <= 0."""
    xp = namespace(x)
    positive = x > 0
    return xp.where(positive, xp.where(positive, x, 1.0) ** exponent, 0.0)
