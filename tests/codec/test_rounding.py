from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jnd_jax.codec.rounding import ste_rdo_round
from jnd_jax.entropy.densities import conditional_laplacian_bits


def test_optimised_rounding_takes_the_cheaper_of_two_integers():
    rng = np.random.default_rng(0)
    x = (8 * rng.laplace(size=5000)).astype(np.float32)
    scale = np.exp(rng.uniform(-3, 3, 5000)).astype(np.float32)
    weight = np.exp(rng.uniform(-3, 4, 5000)).astype(np.float32)
    nearest = np.round(x)
    choices = np.stack([nearest, nearest - np.sign(nearest)])
    bits = np.asarray(conditional_laplacian_bits(choices, 0.0, scale))
    cost = bits + weight * (choices - x) ** 2
    # Where the density's lower bound or the last bits of float32 decide, either may be taken.
    clear = (bits.max(0) < 25) & (np.abs(cost[0] - cost[1]) > 1e-2)
    best = choices[np.argmin(cost, axis=0), np.arange(5000)]
    rounded = np.asarray(jax.jit(ste_rdo_round)(x, scale, weight))
    np.testing.assert_allclose(rounded[clear], best[clear], atol=1e-5)
    assert 0.1 < np.mean(rounded[clear] != nearest[clear]) < 0.9


def test_optimised_rounding_has_the_gradient_of_the_identity():
    x = jnp.array([-2.6, -0.4, 0.0, 0.7, 3.2])
    gradient = jax.grad(lambda x, s, w: jnp.sum(ste_rdo_round(x, s, w)), (0, 1, 2))(
        x, jnp.full(5, 0.7), jnp.full(5, 2.0)
    )
    assert [g.tolist() for g in gradient] == [[1.0] * 5, [0.0] * 5, [0.0] * 5]
