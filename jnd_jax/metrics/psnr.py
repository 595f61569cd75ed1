"""Peak signal-to-noise ratio in RGB and in luma."""

from __future__ import annotations

import math

import numpy as np

from jnd_jax.perception.arrays import pieces
from jnd_jax.perception.colour import LUMA


def _decibels(mse: float) -> float:
    return math.inf if mse == 0 else 10 * math.log10(255**2 / mse)


def mean_square(reference: np.ndarray, distorted: np.ndarray) -> float:
    """Mean squared difference of two images of integers, a few rows at a time: floats take eight bytes a sample."""
    total = 0.0
    for rows in pieces(reference):
        total += float(np.sum((reference[rows].astype(np.float64) - distorted[rows]) ** 2))
    return total / reference.size


def psnr(reference: np.ndarray, distorted: np.ndarray) -> float:
    """PSNR in dB over all RGB samples; infinite for equal images.

    Args:
        reference: (H, W, 3) uint8.
        distorted: (H, W, 3) uint8.
    """
    return _decibels(mean_square(reference, distorted))


def psnr_y(reference: np.ndarray, distorted: np.ndarray) -> float:
    """PSNR in dB of full-range BT.601 luma, not rounded; infinite for equal images."""
    return _decibels(float(np.mean(((reference.astype(np.float64) - distorted) @ LUMA) ** 2)))
