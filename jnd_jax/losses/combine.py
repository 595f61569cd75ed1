"""Several losses as one, with weights that are given or that follow the gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

Term = Callable[[Mapping[str, Any], jax.Array, jax.Array, jax.Array], jax.Array]


def combine(terms: Sequence[Term], weights: Sequence[float], balance: bool = False) -> Term:
    """The loss R + lambda * sum_i w_i D_i of losses R + lambda * D_i.

    With `balance` each D_i but the first is first scaled, example by example, so that the norm of its gradient with
    respect to x_hat is that of the first: then the weights say how hard each term pulls, whatever its unit. A term
    that does not pull (such as a budget that is kept) stays unscaled. (The normalisation of GradNorm, Chen et al.,
    ICML 2018, taken at the reconstruction, where it needs no second pass through the codec.)

    Args:
        terms: functions (batch, x_hat, bpp, lmbda) -> (B,), affine in bpp and lmbda as all losses here are.
        weights: one for each.
        balance: see above.

    Returns:
        A function of the same kind.
    """

    def combined(batch: Mapping[str, Any], x_hat: jax.Array, bpp: jax.Array, lmbda: jax.Array) -> jax.Array:
        zero, one = jnp.zeros_like(bpp), jnp.ones_like(bpp)
        distortions = [lambda y, term=term: term(batch, y, zero, one) for term in terms]
        if not balance:
            return bpp + lmbda * sum(w * d(x_hat) for w, d in zip(weights, distortions))
        values, norms = [], []
        for distortion in distortions:
            value, pull = jax.vjp(distortion, x_hat)
            values.append(value)
            norms.append(jax.lax.stop_gradient(jnp.sqrt(jnp.sum(pull(one)[0] ** 2, (1, 2, 3)))))
        total = 0.0
        for w, value, norm in zip(weights, values, norms):
            total += w * value * jnp.where((norm > 0) & (norms[0] > 0), norms[0] / jnp.where(norm > 0, norm, 1.0), 1.0)
        return bpp + lmbda * total

    return combined
