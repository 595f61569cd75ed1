"""Several distortions as one, with weights that are given or that follow the gradients."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp

# (batch, x_hat) -> (B,) distortions D.
Loss = Callable[[Mapping[str, Any], jax.Array], jax.Array]


def combine(terms: Sequence[Loss], weights: Sequence[float], balance: bool = False) -> Loss:
    """sum_i w_i D_i.

    With `balance` each D_i but the first is first scaled, example by example, so that the norm of its gradient with
    respect to x_hat is that of the first: then the weights say how hard each term pulls, whatever its unit. A term
    that does not pull (such as a budget that is kept) stays unscaled. (The normalisation of GradNorm, Chen et al.,
    ICML 2018, taken at the reconstruction, where it needs no second pass through the codec.)

    Args:
        terms: the distortions D_i.
        weights: w_i, one for each.
        balance: see above.
    """

    def weighted(batch: Mapping[str, Any], x_hat: jax.Array) -> jax.Array:
        return reduce(operator.add, (w * term(batch, x_hat) for w, term in zip(weights, terms)))

    def balanced(batch: Mapping[str, Any], x_hat: jax.Array) -> jax.Array:
        values, norms = [], []
        for term in terms:
            value, pull = jax.vjp(lambda y, term=term: term(batch, y), x_hat)
            values.append(value)
            norms.append(jax.lax.stop_gradient(jnp.sqrt(jnp.sum(pull(jnp.ones_like(value))[0] ** 2, (1, 2, 3)))))
        total = jnp.zeros(())
        for w, value, norm in zip(weights, values, norms):
            total += w * value * jnp.where((norm > 0) & (norms[0] > 0), norms[0] / jnp.where(norm > 0, norm, 1.0), 1.0)
        return total

    return balanced if balance else weighted
