from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import fft

from jnd_jax.perception.dct import block_dct


def test_block_dct_equals_scipy_and_keeps_energy(photos):
    ours = np.asarray(block_dct(jnp.asarray(photos)))
    block = photos[1, 8:16, 24:32, 2].astype(np.float64)
    np.testing.assert_allclose(ours[1, 1, 3, 2].reshape(8, 8), fft.dctn(block, norm="ortho"), atol=1e-5)
    assert np.sum(ours**2) == pytest.approx(np.sum(photos.astype(np.float64) ** 2), rel=1e-5)


def test_block_dct_repeats_the_border_into_a_part_block():
    x = np.random.default_rng(0).random((1, 9, 16, 1), np.float32)
    padded = np.concatenate([x] + [x[:, -1:]] * 7, 1)
    np.testing.assert_allclose(block_dct(jnp.asarray(x)), block_dct(jnp.asarray(padded)))
