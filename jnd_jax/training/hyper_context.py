"""Trains how hyper-latents are coded, alone, on those of whole photographs: the last step before a model ships.

    python -m jnd_jax.training.hyper_context MODEL -o FILE.safetensors --data photos/,cid22/

In joint training a crop of 128x128 pixels has 2x2 hyper-latents, whose neighbours lie beyond the border. Here each has the neighbours
that it will have in a file. Only the bits of hyper-latents change; their values, latents and pixels stay. The network of
`codec.hyper_context` starts anew. Prints the bits that the hyper-latents of a position take on validation photographs.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from rich.progress import track

from jnd_jax import codec, modelfile
from jnd_jax.codec import hyper, hyper_context
from jnd_jax.codec.freeze import coding_tables
from jnd_jax.codec.lapped import LappedCodec
from jnd_jax.data import cache
from jnd_jax.entropy.densities import conditional_laplacian_bits
from jnd_jax.errors import JndError
from jnd_jax.training import packaging
from jnd_jax.training.commandline import fail
from jnd_jax.training.validate import choose

_LARGEST = 512  # pixels a side of what is taken of a photograph
_QUALITIES = 4  # at which each photograph is coded
_BATCH = 1024  # positions a step
_LEARNING_RATE = 3e-3
_PARAMETERS = "hyper_context", "hyper_offset"
_TABLES = "hyper", "z."


class Positions(NamedTuple):
    """Positions of hyper-latents.

    Attributes:
        z: (N, Cz) int8.
        around: (N, 4, Cz) int8, see `codec.hyper_context.neighbours`.
        quality: (N,) in 0..1000.
    """

    z: Any
    around: Any
    quality: Any


def positions(model: LappedCodec, params: Any, images: Sequence[np.ndarray], seed: int) -> Positions:
    """All positions of (H, W, 3) uint8 images, sides multiples of 64, each coded at random qualities."""

    @jax.jit
    def hyper_latents(params, x, quality):
        bound = model.bind({"params": params})
        y = bound.analysis(x.astype(jnp.float32) / 255, quality)
        return hyper.round_hyper_latents(jnp, bound.hyper_analysis(y))

    rng, parts = np.random.default_rng(seed), []
    for image in track(images, "coding photographs", console=Console(stderr=True)):
        for quality in rng.integers(hyper.QUALITY_MAX + 1, size=_QUALITIES):
            z = np.asarray(hyper_latents(params, image[None], jnp.full(1, quality, jnp.float32)))[0].astype(np.int8)
            around = hyper_context.neighbours(np, z)
            flat = z.reshape(-1, z.shape[-1])
            parts.append(
                Positions(flat, around.reshape(-1, *around.shape[2:]), np.full(len(flat), quality, np.float32))
            )
    return Positions(*(np.concatenate(part) for part in zip(*parts)))


def fit(model: LappedCodec, params: Any, data: Positions, steps: int, seed: int) -> Any:
    """`params` with a network of `codec.hyper_context` that has seen `steps` batches of `data`."""
    trained = {name: value for name, value in params.items() if name.startswith(_PARAMETERS)}
    optimizer = optax.adam(optax.cosine_decay_schedule(_LEARNING_RATE, steps))

    @jax.jit
    def step(trained, state, batch):
        loss = lambda trained: jnp.mean(bits_of(model, params | trained, batch))
        updates, state = optimizer.update(jax.grad(loss)(trained), state)
        return optax.apply_updates(trained, updates), state

    rng, state = np.random.default_rng(seed), optimizer.init(trained)
    for _ in track(range(steps), "training", console=Console(stderr=True)):
        trained, state = step(trained, state, _batch(data, rng.integers(len(data.z), size=_BATCH)))
    return params | trained


def bits_of(model: LappedCodec, params: Any, batch: Positions) -> jax.Array:
    """(N,) bits of the hyper-latents of each position."""
    z, around, quality = batch
    # Each position as an image of its own, as each has its quality.
    predicted: Any = model.apply({"params": params}, around[:, None, None], quality, method="hyper_context")
    mean, scale = (part[:, 0, 0] for part in predicted)
    return jnp.sum(conditional_laplacian_bits(z, mean, scale), -1)


def _batch(data: Positions, at: Any) -> Positions:
    return Positions(data.z[at].astype(np.float32), data.around[at].astype(np.float32), data.quality[at])


def train(args: argparse.Namespace) -> None:
    """Carries out the command; see the module."""
    packaging.check_name(args.output)
    file = modelfile.load(modelfile.find(args.model))
    model = codec.build(file.config)
    if not isinstance(model, LappedCodec):
        raise JndError(f"Hyper-latents of {file.name} are not coded so; give a model of the 'lapped' family.")
    begin = jax.jit(lambda key: model.init(key, jnp.zeros((1, 64, 64, 3)), jnp.zeros(1))["params"])
    fresh = begin(jax.random.key(args.seed))
    params = {name: value if name.startswith(_PARAMETERS) else file.params[name] for name, value in fresh.items()}
    folders = cache.split(cache.load_images(args.data.split(",")), 10)
    photographs = [[example["image"] for example in choose(part, None, len(part), _LARGEST)] for part in folders]
    training, validation = (positions(model, params, images, args.seed) for images in photographs)
    params = fit(model, params, training, args.steps, args.seed)
    bits = [
        np.asarray(bits_of(model, params, _batch(validation, slice(at, at + _BATCH))))
        for at in range(0, len(validation.z), _BATCH)
    ]
    print(f"{np.concatenate(bits).mean():.2f} bits a position of the hyper-latents")
    kept = {name: table for name, table in file.tables.items() if not name.startswith(_TABLES)}
    digest = modelfile.save(
        args.output,
        name=args.output.stem,
        config=codec.describe(model),
        params=jax.tree.map(np.asarray, params),
        tables=coding_tables(model, params) | kept,
        card=file.card | {"hyper_context": f"trained on alone, from {file.name}; other figures are of that model"},
        half=True,
        keep=packaging.FULL_PRECISION,
    )
    print(digest)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL", help="name or file of the model")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.safetensors")
    parser.add_argument("--data", required=True, metavar="DIR,DIR", help="photographs; every tenth validates")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    try:
        train(args)
    except (JndError, OSError) as error:
        fail("hyper_context", error)


if __name__ == "__main__":
    main()
