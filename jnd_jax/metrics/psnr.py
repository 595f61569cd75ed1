"""Peak signal-to-noise ratio in RGB and in luma."""

from __future__ import annotations

import math

import numpy as np

from jnd_jax.errors import JndError

# Full-range BT.601, as in JPEG/JFIF.
LUMA = np.array([0.299, 0.587, 0.114])


def check_pair(reference: np.ndarray, distorted: np.ndarray) -> None:
    """Raises JndError unless both are uint8 (H, W, 3) arrays of one shape."""
    for image in (reference, distorted):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise JndError(f"give uint8 images of shape (H, W, 3) to a metric, not {image.dtype} {image.shape}")
    if reference.shape != distorted.shape:
        raise JndError(f"give images of one size to a metric, not {reference.shape} and {distorted.shape}")


def _decibels(mse: float) -> float:
    return math.inf if mse == 0 else 10 * math.log10(255**2 / mse)


def psnr(reference: np.ndarray, distorted: np.ndarray) -> float:
    """PSNR in dB over all RGB samples; infinite for equal images.

    Args:
        reference: (H, W, 3) uint8.
        distorted: (H, W, 3) uint8.
    """
    check_pair(reference, distorted)
    return _decibels(float(np.mean((reference.astype(np.float64) - distorted) ** 2)))


def psnr_y(reference: np.ndarray, distorted: np.ndarray) -> float:
    """PSNR in dB of full-range BT.601 luma, not rounded; infinite for equal images."""
    check_pair(reference, distorted)
    return _decibels(float(np.mean(((reference.astype(np.float64) - distorted) @ LUMA) ** 2)))
