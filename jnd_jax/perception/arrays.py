"""Array functions for NumPy and JAX alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

_PIECE = 2**20


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


def pieces(image: np.ndarray) -> Iterator[slice]:
    """Rows of an image, about a million samples at a time: arithmetic on them takes several times their bytes."""
    step = max(1, _PIECE * len(image) // image.size)
    return (slice(top, top + step) for top in range(0, len(image), step))
