"""Rate plus lambda times a distance to the original: the objective of the hyperprior literature."""

from __future__ import annotations

import jax

from jnd_jax.losses.distances import Distance, squared_error


def rate_distortion(
    x: jax.Array, x_hat: jax.Array, bpp: jax.Array, lmbda: jax.Array, distance: Distance = squared_error
) -> jax.Array:
    """R + lambda * d(x, x_hat) per example, by default in CompressAI's convention: bpp + lambda * 255^2 * MSE.

    Args:
        x: (B, H, W, 3) originals in [0, 1].
        x_hat: (B, H, W, 3) reconstructions, not necessarily clipped.
        bpp: (B,) bits per pixel.
        lmbda: (B,) Lagrange multipliers.
        distance: see `jnd_jax.losses.distances`.

    Returns:
        (B,).
    """
    return bpp + lmbda * distance(x, x_hat)
