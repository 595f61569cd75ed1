from __future__ import annotations

import jax
import numpy as np
import pytest
from skimage import data

from jnd_jax import metrics
from jnd_jax.perception.ssimulacra2 import ssimulacra2_error


def score_of_error(error: float) -> float:
    """The published curve from the weighted sum of errors to the score (Cloudinary's program)."""
    error = 0.9562382616834844 * error
    curve = 2.326765642916932 * error - 0.020884521182843837 * error**2 + 6.248496625763138e-05 * error**3
    return 100.0 - 10.0 * max(curve, 0.0) ** 0.6276336467831387


@pytest.mark.parametrize("sigma", [2, 10])
def test_ssimulacra2_equals_the_package(sigma):
    pytest.importorskip("ssimulacra2")
    image = data.astronaut()[:260, 100:366]
    noise = np.random.default_rng(0).normal(0, sigma, image.shape)
    other = np.clip(np.round(image + noise), 0, 255).astype(np.uint8)
    error = jax.jit(ssimulacra2_error)(image[None] / np.float32(255), other[None] / np.float32(255))
    score = score_of_error(float(error[0]))
    assert score == pytest.approx(metrics.measure("ssimulacra2", image, other), abs=0.05)
