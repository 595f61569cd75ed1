from __future__ import annotations

import numpy as np
import pytest

skimage_data = pytest.importorskip("skimage.data")


def noisy(x: np.ndarray, sigma: float, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, sigma / 255, x.shape)
    return np.clip(x + noise, 0, 1).astype(np.float32)


@pytest.fixture(scope="session")
def photos() -> np.ndarray:
    """(2, 64, 64, 3) float32 in [0, 1]: an eye and fur, a rocket's edges."""
    pieces = [skimage_data.astronaut()[60:124, 180:244], skimage_data.rocket()[200:264, 280:344]]
    return np.stack(pieces).astype(np.float32) / 255
