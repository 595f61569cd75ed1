"""Rounding with a straight-through gradient (Bengio et al., arXiv 1308.3432): forward rounds, backward is identity."""

from __future__ import annotations

import jax
import jax.numpy as jnp


@jax.custom_jvp
def ste_round(x: jax.Array) -> jax.Array:
    """Nearest integer, with the gradient of the identity."""
    return jnp.round(x)


@jax.custom_jvp
def ste_floor(x: jax.Array) -> jax.Array:
    """Largest integer not above x, with the gradient of the identity."""
    return jnp.floor(x)


ste_round.defjvp(lambda primals, tangents: (jnp.round(primals[0]), tangents[0]))
ste_floor.defjvp(lambda primals, tangents: (jnp.floor(primals[0]), tangents[0]))


def ste_rdo_round(x: jax.Array, scale: jax.Array, weight: jax.Array) -> jax.Array:
    """Rate-distortion optimised rounding: nearest integer, or the next one towards zero where that costs less.

    The cost is bits + weight * squared error. The bits are those of a rounded Laplacian of standard deviation `scale`.
    `coding.LatentCoder.encode_y` rounds alike, but with the bits of its frequency tables, and it leaves symbols outside
    these tables unchanged. The gradient is that of the identity.

    Args:
        x: residuals of any shape.
        scale: standard deviation of each residual, > 0.
        weight: weight of the squared error, in bits; broadcasts to x.
    """
    rate = 2.0**0.5 / scale
    magnitude = jnp.abs(x)
    nearest = jnp.round(magnitude)
    # Differences of -log2 of the masses: exp(-rate n) sinh(rate / 2) for n > 0, and 1 - exp(-rate / 2) for 0.
    of_one = (rate / 2 - jnp.log(0.5 * -jnp.expm1(-rate)) + jnp.log(-jnp.expm1(-rate / 2))) / jnp.log(2.0)
    saved = jnp.where(nearest > 1, rate / jnp.log(2.0), of_one)
    lower = (nearest > 0) & (saved > weight * (2 * (magnitude - nearest) + 1))
    rounded = jnp.sign(x) * (nearest - lower)
    return x + jax.lax.stop_gradient(rounded - x)
