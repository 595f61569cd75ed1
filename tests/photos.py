"""Small real photographs and noise for tests."""

from __future__ import annotations

import numpy as np


def photo_crops() -> np.ndarray:
    """(2, 64, 64, 3) float32 in [0, 1]: an eye and fur, a rocket's edges."""
    from skimage import data

    pieces = [data.astronaut()[60:124, 180:244], data.rocket()[200:264, 280:344]]
    return np.stack(pieces).astype(np.float32) / 255


def noisy(x: np.ndarray, sigma: float, seed: int = 0) -> np.ndarray:
    """x in [0, 1] with Gaussian noise of `sigma` levels of 255, clipped."""
    noise = np.random.default_rng(seed).normal(0, sigma / 255, x.shape)
    return np.clip(x + noise, 0, 1).astype(np.float32)
