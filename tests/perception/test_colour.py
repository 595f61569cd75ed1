from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnd_jax.perception.colour import linear_light, seen_difference
from jnd_jax.perception.masked_dct import masked_dct_error

# Luminance of BT.709 and the L, M and S cones of CIE 2006 for linear sRGB, each 1 for white, to four digits.
LUMINANCE = np.array([0.2127, 0.7152, 0.0722])
CONES = np.array([[0.2740, 0.6566, 0.0694], [0.1008, 0.7791, 0.1201], [0.0173, 0.0966, 0.8860]])


def what_is_seen(x):
    """Lightness, S less it, and L less M, each as sRGB stores a grey of that light, by IEC 61966-2-1."""
    stored = lambda light: 1.055 * light ** (1 / 2.4) - 0.055
    light = linear_light(x)
    lightness, (long, medium, short) = stored(light @ LUMINANCE), (stored(light @ cone) for cone in CONES)
    return jnp.stack([lightness, 0.49 * (short - lightness), 2.3 * (long - medium)])


def test_a_difference_is_that_of_what_is_seen_to_first_order():
    rng = np.random.default_rng(0)
    x, error = rng.uniform(0.05, 1, (50, 3)).astype(np.float32), rng.normal(0, 1, (50, 3)).astype(np.float32)
    _, expected = jax.vmap(lambda x, error: jax.jvp(what_is_seen, (x,), (error,)))(x, error)
    np.testing.assert_allclose(seen_difference(jnp.asarray(x), error), expected, atol=2e-3)
    np.testing.assert_allclose(seen_difference(x, error), expected, atol=2e-3)


def test_on_grey_ground_a_change_of_grey_is_as_much_lightness_and_no_colour():
    grey = np.repeat(np.linspace(0, 1, 52, dtype=np.float32)[:, None], 3, 1)
    np.testing.assert_allclose(seen_difference(grey, np.ones_like(grey)), np.tile([1, 0, 0], (52, 1)), atol=1e-5)


@pytest.mark.parametrize("colour, channel", [((0.1, 0.1, 0.9), 2), ((0.9, 0.1, 0.1), 0)])
def test_errors_in_the_light_of_a_strong_colour_count_more_than_in_grey(colour, channel):
    error = np.zeros((1, 64, 64, 3), np.float32)
    error[..., channel] = np.random.default_rng(0).uniform(-0.02, 0.02, (1, 64, 64))
    strong, grey = (np.broadcast_to(np.float32(c), (1, 64, 64, 3)) for c in (colour, 0.5))
    assert masked_dct_error(strong, strong + error)[0] > 1.5 * masked_dct_error(grey, grey + error)[0]
