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
