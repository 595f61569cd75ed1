"""What refining the latents of each image would save: stochastic Gumbel annealing from the encoder's own symbols.

    python -m bench.refine_latents --data photos/,cid22/

Each 256x256 crop of a few validation photographs (as in `bench.jnd_bits`) is coded, and its latents are then moved by Adam against
the training objective, bits + lambda * distortion, with symbols that are drawn between both neighbours while a temperature falls
(Yang, Bamler, Mandt: "Improving inference for neural image compression", NeurIPS 2020). Prints the change of the objective, of
the bits and of the distortion, all of integer symbols. Hyper-latents stay. Where means move, later symbols follow.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from configs import jnd_perceptual
from jnd_jax import codec, losses, modelfile
from jnd_jax.codec import distortion, hyper
from jnd_jax.codec.rounding import ste_floor
from jnd_jax.data import cache
from jnd_jax.entropy.densities import conditional_laplacian_bits
from jnd_jax.training.validate import choose


def pulled(y, symbols, y_hat):
    """Latents near `y` whose nearest integers around the means are `symbols`."""
    mean = y_hat - symbols
    return y_hat + jnp.clip(y - mean - symbols, -0.45, 0.45)


def drawn(mean, index, y, noise, temperature):
    """Symbols between the two integers around y - mean, by a relaxed draw; logistic `noise`."""
    residual = y - mean
    low = jax.lax.stop_gradient(jnp.floor(residual))
    share = jnp.clip(residual - low, 1e-5, 1 - 1e-5)
    odds = (jnp.arctanh(share) - jnp.arctanh(1 - share)) / temperature
    return low + jax.nn.sigmoid((odds + noise) / temperature)


def coded(bound, y, noise, z_hat, quality, temperature):
    """`hyper.Coded` of latents with drawn symbols, or with the nearest where there is no temperature."""
    halves = hyper.halves(jnp, y), hyper.halves(jnp, noise)
    operands = lambda channels, half: tuple(x[half][..., channels] for x in halves)
    nearest = lambda mean, index, y, noise: jnp.round(y - mean)
    code = nearest if temperature is None else partial(drawn, temperature=temperature)
    level, offset = hyper.quality_level(quality[:, None, None, None]), bound._offset_at(quality)
    scale_path = hyper.folded(bound.integer_scale_path())
    return hyper.passes(jnp, scale_path, bound.mean_path, z_hat, level, offset, operands, code, ste_floor)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="jnd-perceptual")
    parser.add_argument("--data", required=True, metavar="DIR,DIR")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--quality", type=float, default=40)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--learning-rate", type=float, default=0.004)
    parser.add_argument("--temperature", type=float, default=0.15, help="at the start")
    args = parser.parse_args()
    file = modelfile.load(modelfile.find(args.model))
    model: Any = codec.build(file.config)
    params, loss = jax.device_put(file.params), losses.make_loss(jnd_perceptual.get_config().loss)
    _, validation = cache.split(cache.load_images(args.data.split(",")), 10)
    quality = jnp.full(1, 10 * args.quality)
    weight = float(codec.lmbda(quality)[0])

    def value(params, x, y_hat, symbols, indexes):
        """Objective in bits, without those of hyper-latents; bits; distortion."""
        bound, pixels = model.bind({"params": params}), x.shape[1] * x.shape[2]
        bits = jnp.sum(conditional_laplacian_bits(symbols, 0.0, hyper.scale(jnp, indexes)))
        error = loss({"image": x, "quality": quality}, bound.synthesis(y_hat, quality))[0]
        return bits + pixels * weight * error, (bits, error)

    @jax.jit
    def start(params, x):
        bound = model.bind({"params": params})
        y = bound.analysis(x, quality)
        z_hat, bits_z = bound.hyper_latents_and_rate(y, quality)
        made = bound.code(y, z_hat, quality, distortion.log_activity(x))
        return z_hat, jnp.sum(bits_z), pulled(y, made.symbols, made.y_hat), value(params, x, *of(made))

    of = lambda made: (made.y_hat, made.symbols, made.indexes)

    @partial(jax.jit, static_argnames="relaxed")
    def objective(y, params, x, z_hat, noise, temperature, relaxed):
        made = coded(model.bind({"params": params}), y, noise, z_hat, quality, temperature if relaxed else None)
        return value(params, x, *of(made))

    slope = jax.jit(jax.grad(partial(objective, relaxed=True), has_aux=True))
    optimizer, changes = optax.adam(args.learning_rate), []
    print("| photograph | objective | bits | distortion | seconds a step |\n|" + "---|" * 5)
    for number, example in enumerate(choose(validation, None, args.images, 256)):
        x = example["image"][None].astype(np.float32) / 255
        z_hat, bits_z, y, (before, parts) = start(params, x)
        state, key, since = optimizer.init(y), jax.random.key(number), time.perf_counter()
        for step in range(args.steps):
            temperature = args.temperature * min(1.0, float(np.exp(-3 * (step / args.steps - 0.1))))
            noise = jax.random.logistic(jax.random.fold_in(key, step), y.shape)
            update, state = optimizer.update(slope(y, params, x, z_hat, noise, temperature)[0], state)
            y = y + update
        seconds = (time.perf_counter() - since) / args.steps
        after, refined = objective(y, params, x, z_hat, jnp.zeros_like(y), 0.0, relaxed=False)
        change = [(after + bits_z) / (before + bits_z), *(new / old for new, old in zip(refined, parts))]
        changes.append([100 * (float(c) - 1) for c in change])
        print(f"| {number} | " + " | ".join(f"{c:+.2f} %" for c in changes[-1]) + f" | {seconds:.2f} |", flush=True)
    print("| mean | " + " | ".join(f"{c:+.2f} %" for c in np.mean(changes, axis=0)) + " | |")


if __name__ == "__main__":
    main()
