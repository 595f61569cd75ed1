"""Peak signal-to-noise ratio in RGB and in luma."""

from __future__ import annotations

import math

import numpy as np

from jnd_jax.perception.colour import LUMA


def _decibels(mse: float) -> float:
    return math.inf if mse == 0 else 10 * math.log10(255**2 / mse)


def psnr(reference: np.ndarray, distorted: np.ndarray) -> float:
    """PSNR in dB over all RGB samples; infinite for equal images.

    Args:
        reference: (H, W, 3) uint8.
        distorted: (H, W, 3) uint8.
    """
    return _decibels(float(np.mean((reference.astype(np.float64) - distorted) ** 2)))


def psnr_y(reference: np.ndarray, distorted: np.ndarray) -> float:
    """PSNR in dB of full-range BT.601 luma, not rounded; infinite for equal images."""
    return _decibels(float(np.mean(((reference.astype(np.float64) - distorted) @ LUMA) ** 2)))
