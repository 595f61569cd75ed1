from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from jnd_jax.entropy import densities


@pytest.mark.parametrize("mean,scale", [(0.0, 0.11), (0.3, 1.0), (-2.5, 7.0), (4.0, 100.0)])
def test_gaussian_masses_of_all_integers_sum_to_one(mean, scale):
    y = np.arange(-1000, 1001, dtype=np.float32)
    mass = 2.0 ** -np.asarray(densities.conditional_gaussian_bits(y, mean, scale), np.float64)
    assert mass.sum() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("side", [-1, 1])
def test_gaussian_bits_are_those_of_scipy_on_both_sides(side):
    y = side * np.linspace(0, 6, 49)[:, None]
    scale = np.array([0.2, 0.7, 1.0, 3.0, 30.0])
    normal = scipy.stats.norm(0.4 * side, scale)
    edges = -np.abs(y - 0.4 * side) + 0.4 * side
    mass = normal.cdf(edges + 0.5) - normal.cdf(edges - 0.5)
    bits = densities.conditional_gaussian_bits(y.astype(np.float32), np.float32(0.4 * side), scale.astype(np.float32))
    np.testing.assert_allclose(bits, -np.log2(np.maximum(mass, 1e-9)), atol=1e-3)


def test_gaussian_scale_is_bounded_below():
    bits = densities.conditional_gaussian_bits(1.0, 0.2, np.array([-3.0, 0.0, 0.11], np.float32))
    np.testing.assert_array_equal(bits[:2], bits[2])


@pytest.mark.parametrize("y", [0.0, 5.0, 1e3, 1e6])
@pytest.mark.parametrize("scale", [1e-6, 0.11, 1.0, 256.0])
def test_gaussian_tails_and_gradients_are_finite(y, scale):
    value, gradient = jax.value_and_grad(densities.conditional_gaussian_bits, (0, 1, 2))(y, 0.0, scale)
    assert 0 <= value <= 29.9
    assert np.all(np.isfinite(gradient))


def test_gaussian_gradient_pushes_back_at_the_bounds():
    gradient = jax.grad(densities.conditional_gaussian_bits, (1, 2))
    to_mean, to_scale = gradient(1.2, 0.0, 0.05)
    # Less than 1e-9 of the mass, a scale under its bound: descent must still move both towards y.
    assert densities.conditional_gaussian_bits(1.2, 0.0, 0.05) > 29.8
    assert to_mean < 0 and to_scale < 0
    # Here a smaller scale would save bits, and the bound forbids it.
    assert gradient(0.0, 0.0, 0.05)[1] == 0


def test_lower_bound_passes_gradients_that_raise_x_only():
    x = jnp.array([-1.0, 2.0])
    gradient = jax.grad(lambda x, sign: sign * densities.lower_bound(x, 1.0).sum())
    np.testing.assert_array_equal(densities.lower_bound(x, 1.0), [1, 2])
    np.testing.assert_array_equal(gradient(x, 1.0), [0, 1])
    np.testing.assert_array_equal(gradient(x, -1.0), [-1, -1])


def _params(channels=3, seed=0):
    params = densities.factorized_init(jax.random.key(seed), channels)
    keys = iter(jax.random.split(jax.random.key(seed + 1), len(params)))
    return {name: value + 0.3 * jax.random.normal(next(keys), value.shape) for name, value in params.items()}


def test_factorized_masses_of_all_integers_sum_to_one():
    z = np.arange(-300, 301, dtype=np.float32)[:, None].repeat(3, 1)
    mass = 2.0 ** -np.asarray(densities.factorized_bits(_params(), z), np.float64)
    np.testing.assert_allclose(mass.sum(0), 1, atol=1e-4)


def test_factorized_cdf_increases_and_channels_are_independent():
    z = np.linspace(-40, 40, 401, dtype=np.float32)[:, None].repeat(3, 1)
    logits = densities.factorized_logits_cumulative(_params(), z)
    assert np.all(np.diff(logits, axis=0) > 0)
    params = _params()
    other = {name: value.at[1].add(0.5) for name, value in params.items()}
    changed = np.any(densities.factorized_logits_cumulative(other, z) != logits, axis=0)
    np.testing.assert_array_equal(changed, [False, True, False])


def test_factorized_bits_keep_the_shape_and_agree_with_the_cdf():
    params, z = _params(), np.random.default_rng(0).normal(0, 8, (2, 4, 5, 3)).astype(np.float32)
    bits = densities.factorized_bits(params, z)
    cdf = lambda z: scipy.special.expit(np.asarray(densities.factorized_logits_cumulative(params, z), np.float64))
    assert bits.shape == z.shape
    np.testing.assert_allclose(bits, -np.log2(cdf(z + 0.5) - cdf(z - 0.5)), atol=1e-3)


def test_factorized_initial_width_follows_init_scale():
    wide, narrow = (densities.factorized_init(jax.random.key(0), 64, init_scale=s) for s in (30.0, 3.0))
    z = jnp.zeros((1, 64))
    assert densities.factorized_bits(wide, z).mean() > densities.factorized_bits(narrow, z).mean() + 2


def test_factorized_tails_and_gradients_are_finite():
    z = np.array([-1e5, -300.0, 0.0, 300.0, 1e5], np.float32)[:, None].repeat(3, 1)
    value, gradient = jax.value_and_grad(lambda p, z: densities.factorized_bits(p, z).sum(), (0, 1))(_params(), z)
    assert np.isfinite(value)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


def test_factorized_bits_batch_over_parameters():
    batch = [_params(seed=seed) for seed in (0, 1)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *batch)
    z = np.random.default_rng(0).normal(0, 8, (2, 4, 3)).astype(np.float32)
    expected = [densities.factorized_bits(params, rows) for params, rows in zip(batch, z, strict=True)]
    np.testing.assert_allclose(jax.vmap(densities.factorized_bits)(stacked, z), np.stack(expected), rtol=1e-5)


def laplacian_cdf(x, scale):
    return np.where(
        x < 0, 0.5 * np.exp(np.minimum(x, 0) * 2**0.5 / scale), 1 - 0.5 * np.exp(-np.maximum(x, 0) * 2**0.5 / scale)
    )


def test_laplacian_mass_is_a_difference_of_its_cdf():
    y = np.linspace(-6, 6, 121)[:, None]
    scale = np.array([0.3, 1.0, 4.0])
    bits = np.asarray(jax.jit(densities.conditional_laplacian_bits)(y, 0.3, scale), np.float64)
    mass = laplacian_cdf(y + 0.2, scale) - laplacian_cdf(y - 0.8, scale)
    inside = mass > 1e-5
    np.testing.assert_allclose(bits[inside], -np.log2(mass[inside]), rtol=2e-3, atol=1e-5)


def test_laplacian_masses_of_integers_sum_to_one():
    y = np.arange(-400, 401.0)[:, None]
    mass = 2.0 ** -np.asarray(densities.conditional_laplacian_bits(y, 0.37, np.array([0.05, 0.5, 20.0])), np.float64)
    np.testing.assert_allclose(mass.sum(0), 1, atol=1e-4)


def test_laplacian_gradients_are_finite_and_follow_the_slope():
    y = jnp.array([0.0, 0.5, 0.50001, 3.0, 200.0])
    gradient = jax.grad(lambda y, s: densities.conditional_laplacian_bits(y, 0.0, s).sum(), (0, 1))
    for scale in (0.05, 1.0, 256.0):
        by_y, by_scale = gradient(y, jnp.full(5, scale))
        assert np.isfinite(by_y).all() and np.isfinite(by_scale).all()
    # Outside the centre the mass falls as exp(-sqrt(2) |y| / scale).
    by_y, _ = gradient(jnp.array([3.0]), jnp.array([1.0]))
    np.testing.assert_allclose(by_y, 2**0.5 / np.log(2), rtol=1e-4)
