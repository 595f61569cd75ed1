"""The per-device train step: a pure function of (state, batch) that averages over the axis "data"."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from ml_collections import ConfigDict

from jnd_jax import codec
from jnd_jax.codec.layers import BLOCK_OUTPUT, compute_in
from jnd_jax.codec.types import Forward
from jnd_jax.losses.combine import Loss
from jnd_jax.training.optimizers import make_optimizer
from jnd_jax.training.state import TrainState, example_keys

AXIS = "data"
Metrics = dict[str, jax.Array]
Batch = Mapping[str, jax.Array]
Objective = Callable[[Any, Batch, jax.Array], tuple[jax.Array, Metrics]]
# (state, batch, learning rate) -> (state, metrics)
Step = Callable[[TrainState, Batch, Any], tuple[TrainState, Metrics]]


def to_float(batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """uint8 images as float32 in [0, 1]; everything else unchanged."""
    return {k: v.astype(jnp.float32) / 255.0 if v.dtype == jnp.uint8 else v for k, v in batch.items()}


def make_objective(
    model: nn.Module,
    loss: Loss,
    *,
    seed: int,
    quality: tuple[int, int] = (0, 1000),
    lmbda: float = 0.0,
    power: float = 1.0,
    bfloat16: bool = False,
    remat: bool = False,
) -> Objective:
    """What training minimises: the mean over the examples of (R + lambda D) / sqrt(lambda), which balances the rates.

    Each example draws an integer quality, which fixes its lambda.

    Args:
        model: (x, quality, keys) -> `Forward`.
        loss: D, see `jnd_jax.losses`.
        seed: of noise and qualities.
        quality: from where qualities are drawn uniformly, both ends included.
        lmbda: a positive one fixes lambda for all examples.
        power: at least .01; the mean of this power of the examples' values (over it) in place of their mean. Below 1, examples
            of few bits count more: those of a smooth image as much as those of a textured one where it is near 0.
        bfloat16: convolutional layers compute in it; parameters, linear transforms, entropy model and loss in float32.
        remat: keep only the outputs of blocks for the gradient, and compute the rest again.

    Returns:
        (params, batch, step) -> (objective, metrics); batch holds "image" (B, H, W, 3) uint8, "index" (B,) and what the
        loss reads.
    """

    def forward(params: Any, x: jax.Array, q: jax.Array, keys: jax.Array) -> Forward:
        with compute_in(jnp.bfloat16 if bfloat16 else None):
            return cast(Forward, model.apply({"params": params}, x, q, keys))

    if remat:
        forward = jax.checkpoint(forward, policy=jax.checkpoint_policies.save_only_these_names(BLOCK_OUTPUT))

    def objective(params: Any, batch: Batch, step: jax.Array) -> tuple[jax.Array, Metrics]:
        batch = to_float(batch)
        x = batch["image"]
        keys = example_keys(seed, step, batch["index"])
        draw, noise = (jax.vmap(jax.random.fold_in, (0, None))(keys, i) for i in (0, 1))
        q = jax.vmap(lambda key: jax.random.randint(key, (), quality[0], quality[1] + 1))(draw).astype(jnp.float32)
        weight = jnp.full_like(q, lmbda) if lmbda > 0 else codec.lmbda(q)
        out = forward(params, x, q, noise)
        pixels = x.shape[1] * x.shape[2]
        bpp, bpp_z = (out.bits_y + out.bits_z) / pixels, out.bits_z / pixels
        # Squares of small differences: operands rounded to bfloat16, a TPU's default, would be off by factors.
        with jax.default_matmul_precision("highest"):
            distortion = loss(batch | {"quality": q}, out.x_hat)
        mse = jnp.mean((x - out.x_hat) ** 2, (1, 2, 3))
        values = (bpp + weight * distortion) / jnp.sqrt(weight)
        psnr = -10 * jnp.log10(mse)
        reported = {"loss": values, "bpp": bpp, "bpp_z": bpp_z, "distortion": distortion, "psnr": psnr}
        return jnp.mean(values**power) / power, {name: jnp.mean(each) for name, each in reported.items()}

    return objective


def _in_parts(gradient: Callable[..., tuple[Any, Metrics]], parts: int) -> Callable[..., tuple[Any, Metrics]]:
    """`gradient` of a batch as the mean over so many equal parts of it, one after the other."""

    def accumulated(params: Any, batch: Batch, step: jax.Array) -> tuple[Any, Metrics]:
        split = jax.tree.map(lambda a: a.reshape(parts, -1, *a.shape[1:]), dict(batch))
        shapes = jax.eval_shape(gradient, params, jax.tree.map(lambda a: a[0], split), step)
        total, _ = jax.lax.scan(
            lambda sums, part: (jax.tree.map(jnp.add, sums, gradient(params, part, step)), None),
            jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes),
            split,
        )
        return jax.tree.map(lambda a: a / parts, total)

    return accumulated


def make_train_step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    *,
    ema: float,
    accumulate: int = 1,
) -> Step:
    """A step over this device's share of the batch, at a learning rate that it is given: a schedule compiles nothing new.

    A step whose objective or gradient is not finite leaves parameters, average and optimizer as they are and is counted.

    Args:
        objective: see `make_objective`.
        optimizer: its updates are for a learning rate of 1.
        ema: decay of the average of the parameters.
        accumulate: take the gradient in so many equal parts of the batch, to save memory.
    """
    gradient = jax.grad(objective, has_aux=True)
    if accumulate > 1:
        gradient = _in_parts(gradient, accumulate)

    def train_step(state: TrainState, batch: Batch, learning_rate: jax.Array) -> tuple[TrainState, Metrics]:
        grads, metrics = jax.lax.pmean(gradient(state.params, batch, state.step), AXIS)
        norm = optax.tree.norm(grads)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = jax.tree.map(lambda p, u: p + learning_rate * u, state.params, updates)
        # The average forgets the initial parameters at once: after t steps it spans about t/9 of them, up to `ema`.
        decay = jnp.minimum(ema, (1.0 + state.step) / (10.0 + state.step))
        # In this form the average of a frozen parameter keeps its very bits.
        average = jax.tree.map(lambda e, p: e + (1.0 - decay) * (p - e), state.ema, params)

        good = jnp.isfinite(norm) & jnp.isfinite(metrics["loss"])
        keep = lambda new, old: jax.tree.map(lambda a, b: jnp.where(good, a, b), new, old)
        bad = 1 - good.astype(jnp.int32)
        state = TrainState(
            step=state.step + 1,
            params=keep(params, state.params),
            ema=keep(average, state.ema),
            opt_state=keep(opt_state, state.opt_state),
            skipped=state.skipped + bad,
            skipped_in_row=(state.skipped_in_row + 1) * bad,
        )
        counts = {"skipped": state.skipped, "skipped_in_row": state.skipped_in_row}
        return state, metrics | {"grad_norm": norm, "lr": learning_rate} | counts

    return train_step


def step_of(config: ConfigDict, model: nn.Module, loss: Loss) -> tuple[optax.GradientTransformation, Step]:
    """The optimizer of a config, and its per-device step."""
    train = config.train
    optimizer = make_optimizer(train)
    objective = make_objective(
        model,
        loss,
        seed=config.seed,
        quality=tuple(train.quality),
        lmbda=train.lmbda,
        power=train.power,
        bfloat16=train.bfloat16,
        remat=train.remat,
    )
    return optimizer, make_train_step(objective, optimizer, ema=train.ema, accumulate=train.accumulate)
