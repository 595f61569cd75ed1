"""Perceptual metrics of this package; jax is imported when one that needs it is first asked for."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from jnd_jax.perception.msssim import ms_ssim_batch

if TYPE_CHECKING:
    import jax


def ms_ssim(reference: np.ndarray, distorted: np.ndarray) -> float:
    """MS-SSIM, 1 for equal images; see `jnd_jax.perception.msssim.ms_ssim_batch` for small ones.

    Args:
        reference: (H, W, 3) uint8.
        distorted: (H, W, 3) uint8.
    """
    return float(ms_ssim_batch(reference[None] / 255.0, distorted[None] / 255.0)[0])


@functools.cache
def _cvvdp_error() -> Callable[[np.ndarray, np.ndarray], Any]:
    import jax

    from jnd_jax.perception.cvvdp import cvvdp_error

    return jax.jit(cvvdp_error)


def cvvdp(reference: np.ndarray, distorted: np.ndarray) -> float:
    """ColorVideoVDP in just-objectionable differences, 10 for equal images; see `jnd_jax.perception.cvvdp`.

    The display is the published `standard_fhd`: 24 inches of 1920 x 1080 pixels, 200 cd/m^2, seen from 60 cm.
    The first image of a size takes some seconds more, for compiling.

    Args:
        reference: (H, W, 3) uint8, sides of at least 4.
        distorted: (H, W, 3) uint8.

    Raises:
        JndError: the image is too small.
    """
    lost = _cvvdp_error()(reference[None] / np.float32(255), distorted[None] / np.float32(255))
    return 10.0 - float(lost[0])


@functools.cache
def _lite0_distance() -> Callable[[np.ndarray, np.ndarray], Any]:
    import jax
    import jax.numpy as jnp

    from jnd_jax.perception.features import efficientnet_lite0

    features = efficientnet_lite0(blocks=(0, 2, 4, 10, 15))

    def unit(a: jax.Array) -> jax.Array:
        return a * jax.lax.rsqrt(jnp.sum(a * a, -1, keepdims=True) + 1e-10)

    @jax.jit
    def distance(x: jax.Array, y: jax.Array) -> jax.Array:
        with jax.default_matmul_precision("highest"):
            pairs = zip(features(x[None] / 255.0), features(y[None] / 255.0))
        return jnp.mean(jnp.stack([jnp.mean(jnp.sum((unit(a) - unit(b)) ** 2, -1)) for a, b in pairs]))

    return distance


def lite0(reference: np.ndarray, distorted: np.ndarray) -> float:
    """Perceptual distance in EfficientNet-Lite0, 0 for equal images and at most 4.

    At each of the five resolutions and each position, the squared difference of the two vectors of activations, both
    of length one; the mean over positions, then over resolutions. That is LPIPS without trained weights of channels
    (Zhang et al., CVPR 2018, eq. 1 with w = 1) in another network.

    Args:
        reference: (H, W, 3) uint8.
        distorted: (H, W, 3) uint8.

    Raises:
        JndError: the network's weights are not installed.
    """
    return float(_lite0_distance()(reference.astype(np.float32), distorted.astype(np.float32)))
