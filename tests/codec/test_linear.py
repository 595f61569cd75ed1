from __future__ import annotations

import numpy as np
import pytest

from jnd_jax.codec import linear


def coding_gain(prefilter: np.ndarray) -> float:
    """Coding gain in dB over PCM of the lapped transform for an AR(1) source."""
    analysis, synthesis = linear.lapped_transform(prefilter)
    variance = np.einsum("ki,ij,kj->k", analysis, linear.ar1_covariance(32), analysis)
    return float(-10 * np.mean(np.log10(variance * np.sum(synthesis**2, axis=0))))


def test_the_lapped_transform_gains_over_the_dct():
    assert coding_gain(np.eye(16)) == pytest.approx(9.46, abs=0.01)
    assert coding_gain(linear.lapped_prefilter()) == pytest.approx(9.93, abs=0.01)


def test_analysis_and_synthesis_of_the_lapped_transform_are_inverse():
    analysis, synthesis = linear.lapped_transform(linear.lapped_prefilter())
    # Blocks overlap by half on both sides: (16, 32) operators at a stride of 16.
    a, s = np.zeros((64, 80)), np.zeros((80, 64))
    for block in range(4):
        rows, columns = slice(16 * block, 16 * block + 16), slice(16 * block, 16 * block + 32)
        a[rows, columns], s[columns, rows] = analysis, synthesis
    inside = slice(24, 56)
    np.testing.assert_allclose((s @ a)[inside], np.eye(80)[inside], atol=1e-12)


def test_all_coefficients_reconstruct_and_a_unit_latent_is_one_step():
    basis = linear.initial_basis(768, step=0.2)
    np.testing.assert_allclose(basis["analysis"] @ basis["synthesis"], np.eye(768), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(basis["synthesis"], axis=1), 0.2, rtol=1e-5)


def test_the_kept_coefficients_are_those_of_largest_variance():
    some, more = (linear.initial_basis(m, 0.2)["log_scale"] for m in (40, 41))
    assert min(some) >= min(more) == sorted(more)[0]
    assert sorted(more)[1:] == sorted(some)
