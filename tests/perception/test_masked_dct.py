from __future__ import annotations

import numpy as np

from jnd_jax.perception.masked_dct import masked_dct_error
from tests.photos import noisy


def grating(frequency: int, amplitude: float, size: int = 64) -> np.ndarray:
    """Grey of .5 with one horizontal DCT basis function of `frequency` in each 8x8 block."""
    wave = np.cos(np.pi * (2 * np.arange(size) % 16 + 1) * frequency / 16)
    return (0.5 + amplitude * np.broadcast_to(wave[None, None, :, None], (1, size, size, 3))).astype(np.float32)


def test_masked_dct_error_sees_low_frequencies_and_smooth_areas_best(photos):
    flat = np.full((1, 64, 64, 3), 0.5, np.float32)
    error = lambda x, frequency: float(  # noqa: E731
        masked_dct_error(x, x + grating(frequency, 4 / 255) - 0.5)[0]
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
    once, twice = (masked_dct_error(photos, photos + k * noise) for k in (1, 2))
    np.testing.assert_allclose(twice, 4 * once, rtol=1e-4)
