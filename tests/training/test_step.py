from __future__ import annotations

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnd_jax.codec.types import Forward
from jnd_jax.training.step import make_objective


def gradient(power, bits):
    """By the bits of each example, of images that are reconstructed as they are."""
    apply = lambda variables, x, q, keys: Forward(x, variables["params"], jnp.zeros(len(x)))
    objective = make_objective(
        types.SimpleNamespace(apply=apply), lambda batch, x_hat: jnp.zeros(len(x_hat)), seed=0, lmbda=4.0, power=power
    )
    batch = {"image": jnp.zeros((len(bits), 8, 8, 3), jnp.uint8), "index": jnp.arange(len(bits))}
    return jax.grad(lambda p: objective(p, batch, jnp.int32(0))[0])(jnp.asarray(bits))


@pytest.mark.parametrize("power", [1.0, 0.5, 0.01])
def test_below_a_power_of_one_examples_of_few_bits_count_more(power):
    textured, smooth = gradient(power, [1600.0, 100.0])
    assert smooth / textured == pytest.approx(16.0 ** (1 - power), rel=1e-4)


def test_the_reported_loss_is_the_mean_at_any_power():
    apply = lambda variables, x, q, keys: Forward(x, jnp.array([64.0, 192.0]), jnp.zeros(2))
    batch = {"image": np.zeros((2, 8, 8, 3), np.uint8), "index": np.arange(2)}
    losses = [
        make_objective(types.SimpleNamespace(apply=apply), lambda b, y: jnp.zeros(2), seed=0, lmbda=4.0, power=power)(
            {}, batch, jnp.int32(0)
        )[1]["loss"]
        for power in (1.0, 0.5)
    ]
    assert losses == pytest.approx([1.0, 1.0])
