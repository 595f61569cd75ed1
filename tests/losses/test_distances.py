from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnd_jax.errors import JndError
from jnd_jax.losses import distances
from jnd_jax.losses.distances import DISTANCES, make_distance
from tests.photos import noisy


@pytest.mark.parametrize("name", DISTANCES)
def test_zero_for_equal_images_more_for_more_noise_and_one_value_an_example(name, photos):
    distance = jax.jit(make_distance(name))
    values = np.stack([distance(photos, noisy(photos, sigma)) for sigma in (0, 3, 9, 27)])
    assert values.shape == (4, 2)
    np.testing.assert_allclose(values[0], 0, atol=0.02)
    assert (np.diff(values, axis=0) > 0).all()
    np.testing.assert_allclose(values[2, 1], distance(photos[1:], noisy(photos, 9)[1:])[0], rtol=1e-4)


@pytest.mark.parametrize("name", DISTANCES)
def test_gradients_are_finite_at_equal_and_at_flat_images(name, photos):
    gradient = jax.jit(jax.grad(lambda y, x: make_distance(name)(x, y).sum()))
    flat = np.full_like(photos, 0.5)
    for x, y in ((photos, photos), (flat, flat), (flat, photos), (photos, flat), (photos, 3 * photos - 1)):
        assert np.isfinite(gradient(jnp.asarray(y), jnp.asarray(x))).all()


@pytest.mark.parametrize("name", DISTANCES)
def test_gradient_agrees_with_finite_differences(name, photos):
    x, y = photos[:1, 16:40, 16:40], noisy(photos, 12)[:1, 16:40, 16:40]
    direction = np.random.default_rng(1).normal(0, 1, y.shape)
    with jax.enable_x64(True):
        x, y = jnp.asarray(x, jnp.float64), jnp.asarray(y, jnp.float64)
        along = jax.jit(jax.value_and_grad(lambda t: make_distance(name)(x, y + t * direction).sum()))
        step = 1e-6
        slope = (along(step)[0] - along(-step)[0]) / (2 * step)
        assert float(along(0.0)[1]) == pytest.approx(float(slope), rel=1e-3)


def test_squared_error_of_a_constant_difference():
    black = np.zeros((1, 8, 8, 3), np.float32)
    assert float(distances.squared_error(black, black + 2 / 255)[0]) == pytest.approx(4, rel=1e-5)


def test_make_distance_adds_scaled_parts_and_refuses_unknown_names(photos):
    y = noisy(photos, 8)
    mixed = make_distance({"masked-dct": 0.75, "mse": 0.25})(photos, y)
    parts = [make_distance(name)(photos, y) for name in ("masked-dct", "mse")]
    np.testing.assert_allclose(mixed, 0.75 * parts[0] + 0.25 * parts[1], rtol=1e-5)
    with pytest.raises(JndError, match="masked-dct"):
        make_distance("mae")
    own = make_distance({"jnd_jax.losses.distances:squared_error": 0.5, "mse": 0.5})(photos, y)
    np.testing.assert_allclose(own, make_distance("mse")(photos, y), rtol=1e-6)


def test_scaled_distances_have_the_size_of_squared_error():
    """On a photo coded by a codec that minimises squared error, far from the ones of the calibration."""
    pytest.importorskip("imagecodecs")
    from skimage import data

    from jnd_jax import codecs

    image = data.coffee()[100:356, 150:406]
    decoded = codecs.decode("j2k", codecs.encode("j2k", image, 34))
    x, y = (np.asarray(a)[None] / np.float32(255) for a in (image, decoded))
    reference = float(distances.squared_error(x, y)[0])
    for name in DISTANCES:
        assert 0.4 < float(jax.jit(make_distance(name))(x, y)[0]) / reference < 2.5, name
