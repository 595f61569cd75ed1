from __future__ import annotations

import numpy as np
import pytest
from scipy import fft

from jnd_jax.perception.watson import THRESHOLDS, watson_distance
from tests.photos import noisy


def test_watson_distance_equals_a_direct_computation(photos):
    x, y = photos[:1], noisy(photos, 6)[:1]
    luma = lambda image: 255 * (image[0].astype(np.float64) @ [0.299, 0.587, 0.114])  # noqa: E731
    blocks = lambda a: a.reshape(8, 8, 8, 8).swapaxes(1, 2)  # noqa: E731
    cx, cy = (fft.dctn(blocks(luma(i)), axes=(2, 3), norm="ortho") for i in (x, y))
    t = THRESHOLDS.astype(np.float64) * (cx[..., :1, :1] / cx[..., 0, 0].mean()) ** 0.649
    slack = np.maximum(t, np.abs(cx) ** 0.7 * t**0.3)
    slack[..., 0, 0] = t[..., 0, 0]
    expected = (((cy - cx) / slack) ** 4).sum((2, 3)).mean() ** 0.25
    assert float(watson_distance(x, y)[0]) == pytest.approx(expected, rel=1e-3)
