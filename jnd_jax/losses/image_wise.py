"""Image-wise JND distortions: the distance of the just-noticeable image is each image's budget."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jnd_jax.losses.distances import Distance, squared_error
from jnd_jax.metrics.levels import AIC_FITS
from jnd_jax.perception.cvvdp import cvvdp_error

# The budget of `budget_of_quality` at quality 0 and at quality 1000, in JNDs.
JNDS_AT_LOWEST, JNDS_AT_HIGHEST = 3.0, 0.25


def image_wise(x: jax.Array, x_hat: jax.Array, x_jnd: jax.Array, distance: Distance = squared_error) -> jax.Array:
    """IWL: d(x, x_hat) - d(x, x_jnd), without absolute value or clamp.

    Pakdaman, Nami, Gabbouj (ICIP 2024). d(x, x_jnd) does not depend on the codec, so the gradient is exactly that of
    d(x, x_hat): only the value is shifted. `image_wise_hinge` is the form in which the budget acts.

    Args:
        x: (B, H, W, 3) originals in [0, 1].
        x_hat: (B, H, W, 3) reconstructions.
        x_jnd: (B, H, W, 3) just-noticeable versions of x.
        distance: d, see `jnd_jax.losses.distances`.

    Returns:
        (B,).
    """
    return distance(x, x_hat) - distance(x, x_jnd)


def image_wise_hinge(
    x: jax.Array,
    x_hat: jax.Array,
    x_jnd: jax.Array,
    jnds: jax.Array | float = 1.0,
    distance: Distance = squared_error,
) -> jax.Array:
    """max(0, d(x, x_hat) - r * d(x, x_jnd)): within its budget an image only saves rate.

    Args:
        x: (B, H, W, 3) originals in [0, 1].
        x_hat: (B, H, W, 3) reconstructions.
        x_jnd: (B, H, W, 3) just-noticeable versions of x.
        jnds: r, scalar or (B,), how many JNDs the budget holds; see `budget_of_quality`.
        distance: d, see `jnd_jax.losses.distances`.

    Returns:
        (B,).
    """
    return jnp.maximum(distance(x, x_hat) - jnds * distance(x, x_jnd), 0.0)


def jod_budget(x: jax.Array, x_hat: jax.Array, jnds: jax.Array | float = 1.0) -> jax.Array:
    """max(0, l(x, x_hat) - l(r)): JODs that CVVDP takes off beyond what r JNDs of people's scale `aic` take.

    Needs no just-noticeable image: l(r) is the level of `jnd_jax.metrics.levels`. Within its budget an image only saves
    rate.

    Args:
        x: (B, H, W, 3) originals in [0, 1], sides of at least 4.
        x_hat: (B, H, W, 3) reconstructions.
        jnds: r, scalar or (B,), how many JNDs the budget holds; see `budget_of_quality`.

    Returns:
        (B,) JODs.
    """
    return jnp.maximum(cvvdp_error(x, x_hat) - AIC_FITS["cvvdp"].lost(jnds), 0.0)


def budget_of_quality(quality: jax.Array) -> jax.Array:
    """(B,) JNDs that a quality (B,) in [0, 1000] may spend: 3 at 0, .25 at 1000, log-linear between."""
    return JNDS_AT_LOWEST * (JNDS_AT_HIGHEST / JNDS_AT_LOWEST) ** (quality / 1000.0)
