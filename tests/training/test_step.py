from __future__ import annotations

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnd_jax.codec.types import Forward
from jnd_jax.training.step import make_objective


def objective(power, bits):
    """Value and figures of examples whose images are reconstructed as they are."""
    model = types.SimpleNamespace(
        apply=lambda variables, x, q, keys: Forward(x, variables["params"], jnp.zeros(len(x)))
    )
    made = make_objective(model, lambda batch, x_hat: jnp.zeros(len(x_hat)), seed=0, lmbda=4.0, power=power)
    batch = {"image": np.zeros((len(bits), 8, 8, 3), np.uint8), "index": np.arange(len(bits))}
    return made(bits, batch, jnp.int32(0))


@pytest.mark.parametrize("power", [1.0, 0.5, 0.01])
def test_below_a_power_of_one_examples_of_few_bits_count_more(power):
    textured, smooth = jax.grad(lambda bits: objective(power, bits)[0])(jnp.array([1600.0, 100.0]))
    assert smooth / textured == pytest.approx(16.0 ** (1 - power), rel=1e-4)


def test_the_reported_loss_is_the_mean_at_any_power():
    losses = [objective(power, jnp.array([64.0, 192.0]))[1]["loss"] for power in (1.0, 0.5)]
    assert losses == pytest.approx([1.0, 1.0])
