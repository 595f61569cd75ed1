from __future__ import annotations

import jax
import numpy as np
import pytest

from jnd_jax.perception.cvvdp import STANDARD_4K, STANDARD_FHD, cvvdp_error, cvvdp_map, difference_picture

# JODs by the package cvvdp 0.5.7 for `distortions` of `picture`, at its standard_fhd and standard_4k.
PUBLISHED = {
    "blocks": (7.2567, 8.1560),
    "noise": (9.7169, 9.9037),
    "levels": (9.5473, 9.8158),
    "tint": (9.7957, 9.7959),
    "dim": (9.9919, 9.9924),
}


def picture() -> np.ndarray:
    """(96, 128, 3) uint8: a face; even sides, on which the package treats borders as described."""
    data = pytest.importorskip("skimage.data")
    return np.ascontiguousarray(data.astronaut()[60:156, 160:288])


def distortions(x: np.ndarray) -> dict[str, np.ndarray]:
    """Images of the shape of x with blocks, noise, fewer levels, a tint, and dimmer."""
    height, width = x.shape[:2]
    blocks = x.reshape(height // 4, 4, width // 4, 4, 3).mean((1, 3)).repeat(4, 0).repeat(4, 1)
    noise = np.random.default_rng(0).normal(0, 6, x.shape)
    clip = lambda image: np.clip(np.rint(image), 0, 255).astype(np.uint8)
    return {
        "blocks": clip(blocks),
        "noise": clip(x + noise),
        "levels": x // 24 * 24 + 12,
        "tint": clip(x + np.array([6.0, 0.0, -6.0])),
        "dim": clip(x * 0.9),
    }


def batch(image: np.ndarray) -> np.ndarray:
    return image[None] / np.float32(255)


@pytest.fixture(scope="module")
def errors():
    """name -> (JODs lost on a full HD screen, on a 4K one), measured as one batch."""
    x = picture()
    names, images = zip(*distortions(x).items())
    pair = np.repeat(batch(x), len(images), 0), np.stack(images) / np.float32(255)
    function = jax.jit(cvvdp_error, static_argnums=2)
    values = [np.asarray(function(*pair, display)) for display in (STANDARD_FHD, STANDARD_4K)]
    return dict(zip(names, np.stack(values, -1)))


@pytest.mark.parametrize("name", PUBLISHED)
def test_values_are_those_of_the_package(name, errors):
    np.testing.assert_allclose(10 - errors[name], PUBLISHED[name], atol=0.002)


def test_gradients_are_finite_and_vanish_at_equal_images():
    x = batch(picture())[:, :40, :40]
    gradient = jax.jit(jax.grad(lambda y, x: cvvdp_error(x, y).sum()))
    np.testing.assert_allclose(gradient(x, x), 0, atol=1e-6)
    flat = np.full_like(x, 0.5)
    for a, b in ((flat, flat), (flat, x), (x, flat), (x, 3 * x - 1), (0 * x, 0 * x), (x, 0 * x)):
        assert np.isfinite(gradient(b, a)).all()


def test_the_map_shows_where_the_difference_is():
    x = picture()
    y = x.copy()
    y[16:48, 16:48] = distortions(x)["noise"][16:48, 16:48]
    lost = np.asarray(jax.jit(cvvdp_map)(batch(x), batch(y)))[0]
    assert lost.shape == x.shape[:2]
    assert lost[20:44, 20:44].mean() > 20 * lost[64:, 64:].mean() >= 0
    shown = difference_picture(x, y)
    assert shown.shape == x.shape and shown.dtype == np.uint8
    assert (shown[70:, 70:, 2] >= shown[70:, 70:, 0]).all()  # blue: nothing is seen
