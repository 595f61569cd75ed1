from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnd_jax import metrics
from jnd_jax.errors import JndError
from jnd_jax.losses import distances
from jnd_jax.losses.distances import DISTANCES, make_distance
from jnd_jax.perception import ssimulacra2
from jnd_jax.perception.dct import block_dct
from tests.losses.conftest import noisy, skimage_data

fft = pytest.importorskip("scipy.fft")


def test_block_dct_equals_scipy_and_keeps_energy(photos):
    ours = np.asarray(block_dct(jnp.asarray(photos)))
    block = photos[1, 8:16, 24:32, 2].astype(np.float64)
    np.testing.assert_allclose(ours[1, 1, 3, 2].reshape(8, 8), fft.dctn(block, norm="ortho"), atol=1e-5)
    assert np.sum(ours**2) == pytest.approx(np.sum(photos.astype(np.float64) ** 2), rel=1e-5)


def test_block_dct_repeats_the_border_into_a_part_block():
    x = np.random.default_rng(0).random((1, 9, 16, 1), np.float32)
    padded = np.concatenate([x] + [x[:, -1:]] * 7, 1)
    np.testing.assert_allclose(block_dct(jnp.asarray(x)), block_dct(jnp.asarray(padded)))


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


@pytest.mark.parametrize("sigma", [2, 8, 20])
def test_hvs_errors_equal_the_package(photos, sigma):
    package = pytest.importorskip("psnr_hvsm")
    x, y = photos, noisy(photos, sigma)
    luma = [package.bt601ycbcr(255 * image[0].astype(np.float64), precision="float")[0] for image in (x, y)]
    hvs, hvs_m = package.hvs_hvsm_mse(*luma)
    assert float(distances.hvs_error(x, y)[0]) == pytest.approx(hvs, rel=1e-3)
    assert float(distances.hvs_m_error(x, y)[0]) == pytest.approx(hvs_m, rel=1e-3)


@pytest.mark.parametrize("sigma", [2, 10])
def test_ssimulacra2_equals_the_package(sigma):
    pytest.importorskip("ssimulacra2")
    image = skimage_data.astronaut()[:260, 100:366]
    noise = np.random.default_rng(0).normal(0, sigma, image.shape)
    other = np.clip(np.round(image + noise), 0, 255).astype(np.uint8)
    error = jax.jit(ssimulacra2.ssimulacra2_error)(image[None] / np.float32(255), other[None] / np.float32(255))
    score = float(ssimulacra2.score_of_error(error)[0])
    assert score == pytest.approx(metrics.measure("ssimulacra2", image, other), abs=0.05)


def test_watson_distance_equals_a_direct_computation(photos):
    x, y = photos[:1], noisy(photos, 6)[:1]
    luma = lambda image: 255 * (image[0].astype(np.float64) @ [0.299, 0.587, 0.114])  # noqa: E731
    blocks = lambda a: a.reshape(8, 8, 8, 8).swapaxes(1, 2)  # noqa: E731
    cx, cy = (fft.dctn(blocks(luma(i)), axes=(2, 3), norm="ortho") for i in (x, y))
    t = distances.WATSON_THRESHOLDS.astype(np.float64) * (cx[..., :1, :1] / cx[..., 0, 0].mean()) ** 0.649
    slack = np.maximum(t, np.abs(cx) ** 0.7 * t**0.3)
    slack[..., 0, 0] = t[..., 0, 0]
    expected = (((cy - cx) / slack) ** 4).sum((2, 3)).mean() ** 0.25
    assert float(distances.watson_distance(x, y)[0]) == pytest.approx(expected, rel=1e-3)


def grating(frequency: int, amplitude: float, size: int = 64) -> np.ndarray:
    """Grey of .5 with one horizontal DCT basis function of `frequency` in each 8x8 block."""
    wave = np.cos(np.pi * (2 * np.arange(size) % 16 + 1) * frequency / 16)
    return (0.5 + amplitude * np.broadcast_to(wave[None, None, :, None], (1, size, size, 3))).astype(np.float32)


def test_masked_dct_error_sees_low_frequencies_and_smooth_areas_best(photos):
    flat = np.full((1, 64, 64, 3), 0.5, np.float32)
    error = lambda x, frequency: float(  # noqa: E731
        distances.masked_dct_error(x, x + grating(frequency, 4 / 255) - 0.5)[0]
    )
    assert error(flat, 1) > 1.5 * error(flat, 4) > 2 * error(flat, 7)
    texture = noisy(flat, 20)
    assert error(flat, 3) > 1.5 * error(texture, 3)
    # An edge between two flat halves hides less than texture of the same variance does.
    edge = flat.copy()
    edge[:, :, 4::8] += 20 / 255
    edge[:, :, 5::8] += 20 / 255
    edge[:, :, 6::8] += 20 / 255
    edge[:, :, 7::8] += 20 / 255
    grey_noise = np.repeat(noisy(flat[..., :1], 10), 3, axis=-1)
    assert error(edge, 3) > 1.5 * error(grey_noise, 3)


def test_masked_dct_error_is_quadratic_in_the_error(photos):
    noise = noisy(photos, 5) - photos
    once, twice = (distances.masked_dct_error(photos, photos + k * noise) for k in (1, 2))
    np.testing.assert_allclose(twice, 4 * once, rtol=1e-4)


def test_make_distance_adds_scaled_parts_and_refuses_unknown_names(photos):
    y = noisy(photos, 8)
    mixed = make_distance({"masked-dct": 0.75, "mse": 0.25})(photos, y)
    parts = [make_distance(name)(photos, y) for name in ("masked-dct", "mse")]
    np.testing.assert_allclose(mixed, 0.75 * parts[0] + 0.25 * parts[1], rtol=1e-5)
    with pytest.raises(JndError, match="masked-dct"):
        make_distance("mae")


def test_scaled_distances_have_the_size_of_squared_error():
    """On a photo coded by a codec that minimises squared error, far from the ones of the calibration."""
    pytest.importorskip("imagecodecs")
    from jnd_jax import codecs

    image = skimage_data.coffee()[100:356, 150:406]
    decoded = codecs.decode("j2k", codecs.encode("j2k", image, 34))
    x, y = (np.asarray(a)[None] / np.float32(255) for a in (image, decoded))
    reference = float(distances.squared_error(x, y)[0])
    for name in DISTANCES:
        assert 0.4 < float(jax.jit(make_distance(name))(x, y)[0]) / reference < 2.5, name
