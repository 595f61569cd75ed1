"""What a training run carries from step to step."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import struct


class TrainState(struct.PyTreeNode):
    """Parameters, their moving average and the optimizer's state after `step` steps.

    `skipped` counts the steps left out because a gradient was not finite, `skipped_in_row` those since the last good
    one. Random numbers need no state: they come from (seed, step, global example index), see `example_keys`.
    """

    step: jax.Array
    params: Any
    ema: Any
    opt_state: Any
    skipped: jax.Array
    skipped_in_row: jax.Array


def create_state(params: Any, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first step."""
    zero = lambda: jnp.zeros((), jnp.int32)
    ema = jax.tree.map(jnp.array, params)  # own buffers: the state is donated, and none may be donated twice
    # One program in place of one for each shape.
    opt_state = jax.jit(optimizer.init)(params)
    return TrainState(zero(), params, ema, opt_state, zero(), zero())


def shapes_of_state(model: nn.Module, optimizer: optax.GradientTransformation) -> TrainState:
    """The shapes and types of a state of `model`, which computes nothing."""
    sample = jnp.zeros((1, 64, 64, 3)), jnp.zeros(1)
    params = jax.eval_shape(lambda key: model.init(key, *sample, None)["params"], jax.random.key(0))
    return jax.eval_shape(lambda p: create_state(p, optimizer), params)


def example_keys(seed: int, step: jax.Array, index: jax.Array) -> jax.Array:
    """One PRNG key per example, (B,), from the seed, the step and the (B,) global example indices."""
    key = jax.random.fold_in(jax.random.key(seed), step)
    return jax.vmap(jax.random.fold_in, (None, 0))(key, index)
