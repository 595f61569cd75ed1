"""Densities of latents and hyper-latents, integrated over the unit interval of a rounded symbol.

Their bits are the rate in training. Pure functions: `codec` predicts means and scales, `tables` turns densities
into frequency tables. Ballé et al., "Variational image compression with a scale hyperprior" (ICLR 2018), eq. 11 and
appendix 6.1; parametrisation and bounds as in CompressAI, so that its weights give the same numbers.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

SCALE_MIN = 0.11
LIKELIHOOD_MIN = 1e-9


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def lower_bound(x: jax.Array, bound: float) -> jax.Array:
    """max(x, bound), whose gradient below the bound passes only where descent would raise x.

    A plain maximum has no gradient below the bound: a parameter that once fell under it would stay there.
    """
    return jnp.maximum(x, bound)


def _lower_bound_forward(x, bound):
    return jnp.maximum(x, bound), x


def _lower_bound_backward(bound, x, gradient):
    return (jnp.where((x >= bound) | (gradient < 0), gradient, 0),)


lower_bound.defvjp(_lower_bound_forward, _lower_bound_backward)


def conditional_gaussian_bits(y: jax.Array, mean: jax.Array, scale: jax.Array) -> jax.Array:
    """Bits of each latent: -log2 of the mass that N(mean, scale^2) puts on [y - 1/2, y + 1/2].

    y, mean, scale: arrays that broadcast together; scale is bounded below by SCALE_MIN, the mass by LIKELIHOOD_MIN
    (at most 29.9 bits). Returns an array of the broadcast shape.
    """
    scale = lower_bound(scale, SCALE_MIN)
    # Both limits on the left of the mean, where erfc keeps its relative precision.
    distance = jnp.abs(y - mean)
    mass = _normal_cdf((0.5 - distance) / scale) - _normal_cdf((-0.5 - distance) / scale)
    return -jnp.log2(lower_bound(mass, LIKELIHOOD_MIN))


def conditional_laplacian_bits(y: jax.Array, mean: jax.Array | float, scale: jax.Array) -> jax.Array:
    """Bits of each latent: -log2 of the mass that a Laplacian of standard deviation `scale` puts on [y - 1/2, y + 1/2].

    Given the scale that a network predicts for them, latents have heavier tails than a Gaussian. They are a mixture
    over what the network does not know (Andrews & Mallows 1974: with exponentially distributed variances, a Laplacian).

    y, mean, scale: arrays that broadcast together, scale > 0; the mass is bounded below by LIKELIHOOD_MIN. Returns an
    array of the broadcast shape.
    """
    rate = 2.0**0.5 / scale
    distance = jnp.abs(y - mean)
    # The mass is exp(-rate |d|) sinh(rate / 2) if the mean is outside the interval, and 1 less both tails if it is
    # inside. Each branch is clipped, so that it does not overflow where the other is taken.
    outside = jnp.maximum(distance, 0.5)
    tail = 0.5 * jnp.exp(-rate * (outside - 0.5)) * -jnp.expm1(-rate)
    inside = jnp.minimum(distance, 0.5)
    centre = 1.0 - 0.5 * (jnp.exp(-rate * (0.5 - inside)) + jnp.exp(-rate * (0.5 + inside)))
    return -jnp.log2(lower_bound(jnp.where(distance > 0.5, tail, centre), LIKELIHOOD_MIN))


def _normal_cdf(x: jax.Array) -> jax.Array:
    return 0.5 * jax.lax.erfc(-(2.0**-0.5) * x)


def factorized_init(
    key: jax.Array, channels: int, init_scale: float = 10.0, filters: Sequence[int] = (3, 3, 3, 3)
) -> dict[str, jax.Array]:
    """Parameters of one univariate density a channel: a small monotone network whose sigmoid is the CDF.

    init_scale: width of the initial density, in quantisation steps. filters: widths of the hidden layers.
    Returns {"matrix_i": (C, f_out, f_in), "bias_i": (C, f_out, 1), "factor_i": (C, f_out, 1)}; the last layer has
    no factor.
    """
    widths = (1, *filters, 1)
    layers = len(widths) - 1
    scale = init_scale ** (1 / layers)
    params = {}
    for i, layer_key in enumerate(jax.random.split(key, layers)):
        fan_in, fan_out = widths[i], widths[i + 1]
        value = np.log(np.expm1(1 / scale / fan_out))
        params[f"matrix_{i}"] = jnp.full((channels, fan_out, fan_in), value, jnp.float32)
        params[f"bias_{i}"] = jax.random.uniform(layer_key, (channels, fan_out, 1), jnp.float32, -0.5, 0.5)
        if i < layers - 1:
            params[f"factor_{i}"] = jnp.zeros((channels, fan_out, 1), jnp.float32)
    return params


def factorized_logits_cumulative(params: Mapping[str, jax.Array], z: jax.Array) -> jax.Array:
    """Logit of each channel's CDF at z (..., C); same shape, increasing in z. `params` as from factorized_init."""
    channels = z.shape[-1]
    logits = z.reshape(-1, channels).T[:, None, :]
    layers = sum(name.startswith("matrix_") for name in params)
    for i in range(layers):
        logits = jnp.matmul(jax.nn.softplus(params[f"matrix_{i}"]), logits, precision="highest")
        logits += params[f"bias_{i}"]
        if i < layers - 1:
            logits += jnp.tanh(params[f"factor_{i}"]) * jnp.tanh(logits)
    return logits[:, 0, :].T.reshape(z.shape)


def factorized_bits(params: Mapping[str, jax.Array], z: jax.Array) -> jax.Array:
    """Bits of each hyper-latent: -log2 of its channel's mass on [z - 1/2, z + 1/2].

    z: (..., C); `params` as from factorized_init (vmap over params that carry a batch axis). Same shape as z, at
    most 29.9 bits an element.
    """
    lower = factorized_logits_cumulative(params, z - 0.5)
    upper = factorized_logits_cumulative(params, z + 0.5)
    # The difference of two sigmoids near 1 cancels; near 0 it does not, and the mass is the same.
    sign = jax.lax.stop_gradient(jnp.where(lower + upper > 0, -1.0, 1.0))
    mass = jnp.abs(jax.nn.sigmoid(sign * upper) - jax.nn.sigmoid(sign * lower))
    return -jnp.log2(lower_bound(mass, LIKELIHOOD_MIN))
