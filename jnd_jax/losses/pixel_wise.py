"""Pixel-wise JND distortions: the just-noticeable image, or a map of thresholds, says which error at a pixel counts."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jnd_jax.losses.distances import Distance, squared_error


def pixel_wise(x_jnd: jax.Array, x_hat: jax.Array, distance: Distance = squared_error) -> jax.Array:
    """PWL: d(x_jnd, x_hat), the just-noticeable image in the place of the original.

    Pakdaman, Nami, Gabbouj, "Perceptual Learned Image Compression via End-to-End JND-Based Optimization" (ICIP 2024).
    The codec learns the look of `x_jnd`: make these images with an encoder whose artefacts are acceptable.

    Args:
        x_jnd: (B, H, W, 3) just-noticeable versions in [0, 1] of what the codec was given.
        x_hat: (B, H, W, 3) reconstructions.
        distance: see `jnd_jax.losses.distances`.

    Returns:
        (B,).
    """
    return distance(x_jnd, x_hat)


def pixel_wise_threshold(x: jax.Array, x_hat: jax.Array, threshold: jax.Array) -> jax.Array:
    """255^2 * mean max(0, |x - x_hat| - T)^2: only the error beyond the visibility threshold counts.

    Args:
        x: (B, H, W, 3) originals in [0, 1].
        x_hat: (B, H, W, 3) reconstructions.
        threshold: (B, H, W) or (B, H, W, 3) thresholds T >= 0 in units of x, such as a map of `jnd_jax.perception.profiles`
            divided by 255.

    Returns:
        (B,).
    """
    if threshold.ndim == 3:
        threshold = threshold[..., None]
    beyond = jnp.maximum(jnp.abs(x - x_hat) - threshold, 0.0)
    return 255.0**2 * jnp.mean(beyond**2, (1, 2, 3))
