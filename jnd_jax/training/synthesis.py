"""Trains the synthesis network of a lapped codec alone, where it breaks on graphics. The entropy model stays as it is.

    python -m jnd_jax.training.synthesis MODEL -o FILE.safetensors --data photos/,cid22/

A residual network may add far too much where latents are unlike those it was trained on: a patch of loud noise on a drawn picture.
Such pictures are rare, and so are steps of joint training that see one. Here many crops with drawn graphics (`data.drawing`) are coded
once. Those on which the network adds more than it adds to photographs come in each batch, beside other drawn crops and
photographs; what it adds beyond a bound costs extra, on mixed latents too, which no image has.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from rich.progress import track

from jnd_jax import codec, losses, modelfile
from jnd_jax.codec import distortion
from jnd_jax.codec.lapped import LappedCodec
from jnd_jax.data import cache, pipeline
from jnd_jax.errors import JndError
from jnd_jax.losses.combine import Loss
from jnd_jax.training import packaging
from jnd_jax.training.commandline import fail
from jnd_jax.training.step import to_float

_CROP = 256
# The loss of configs/jnd_perceptual.py.
_DISTANCE = {"cvvdp": 0.35, "masked-dct": 0.6, "mse": 0.05}
_BATCH = {"photo": 4, "drawn": 1, "broken": 1}
_SQUARED_ERROR = 0.3  # beside the loss, for graphics
_PENALTY = 20.0


class Crops(NamedTuple):
    """Coded crops of one kind.

    Attributes:
        image: (N, 256, 256, 3) uint8.
        y_hat: (N, 16, 16, M) decoded latents.
        quality: (N,) in 0..1000.
        before: (N, 2) loss and squared error of the model as it was.
    """

    image: np.ndarray
    y_hat: np.ndarray
    quality: np.ndarray
    before: np.ndarray


def bound(quality: Any) -> Any:
    """What the network adds at most to a photograph, in pixel units, at qualities of 0..1000: read off jnd-perceptual-7."""
    return 0.45 * jnp.exp(-1.85e-3 * quality)


def _latents(m: LappedCodec, x: jax.Array, quality: Any) -> jax.Array:
    """Decoded latents of images (B, H, W, 3) in [0, 1]."""
    y, to_code = jnp.split(m.to_code(x, quality), 2, axis=-1)
    z_hat, _ = m.hyper_latents_and_rate(y, quality)
    return m.code(to_code, z_hat, quality, distortion.log_activity(x)).y_hat


def _decode(model: LappedCodec, params: Any, net: Any, y_hat: Any, quality: Any) -> tuple[jax.Array, jax.Array]:
    """Pixels, and what the network `net` adds to them."""

    def parts(m: LappedCodec) -> tuple[jax.Array, jax.Array]:
        return m.synthesis(y_hat, quality), m.synthesis_residual(y_hat, quality)

    return nn.apply(parts, model)({"params": params | {"synthesis_net": net}})


def _distances(loss: Loss, image: Any, x_hat: jax.Array, quality: Any) -> jax.Array:
    """(B, 2): the loss and the squared error."""
    batch = to_float({"image": image, "quality": quality})
    with jax.default_matmul_precision("highest"):
        distance = loss(batch, x_hat)
    return jnp.stack([distance, jnp.mean((batch["image"] - x_hat) ** 2, (1, 2, 3))], 1)


def _beyond(added: jax.Array, quality: Any) -> jax.Array:
    """(B,) mean square of what exceeds 1.6 times the bound, relative to it."""
    limit = 1.6 * bound(quality)[:, None, None, None]
    return jnp.mean(jnp.maximum(jnp.abs(added) / limit - 1, 0) ** 2, (1, 2, 3))


def code(
    model: LappedCodec, params: Any, loss: Loss, folders: list[str], batches: int, photographs: float, seed: int
) -> dict[str, Crops]:
    """`batches` of 16 crops each, a share of them photographs, by the kinds of `_BATCH`. Of unbroken graphics a quarter is kept.

    Raises:
        JndError: a kind has no crop.
    """
    training, _ = cache.split(cache.load_images(folders), 10)
    augmentation = partial(pipeline.Augmentation, downscale=0.25, saturate=0.3)
    photos = pipeline.Examples(training, _CROP, seed, augmentation())
    graphics = pipeline.Examples(training, _CROP, seed + 1, augmentation(draw=1.0))

    @jax.jit
    def coded(image: Any, quality: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
        x = to_float({"image": image})["image"]
        y_hat = nn.apply(lambda m: _latents(m, x, quality), model)({"params": params})
        x_hat, added = _decode(model, params, params["synthesis_net"], y_hat, quality)
        return y_hat, _distances(loss, image, x_hat, quality), jnp.max(jnp.abs(added), (1, 2, 3)) / bound(quality)

    rng = np.random.default_rng(seed)
    rows: dict[str, list[tuple[Any, ...]]] = {kind: [] for kind in _BATCH}
    for k in track(range(batches), "coding", console=Console(stderr=True)):
        of_photographs = k < photographs * batches
        image = pipeline.batch_at(photos if of_photographs else graphics, 16 * k, 16)["image"]
        quality = rng.integers(0, 1001, 16).astype(np.float32)
        y_hat, before, reach = map(np.asarray, coded(image, quality))
        for row, most in zip(zip(image, y_hat, quality, before), reach):
            if of_photographs:
                rows["photo"].append(row)
            elif most > 1.3:
                rows["broken"].append(row)
            elif rng.random() < 0.25:
                rows["drawn"].append(row)
    if missing := [kind for kind, found in rows.items() if not found]:
        raise JndError(f"No crop is {' or '.join(missing)}; give --batches more.")
    return {kind: Crops(*map(np.stack, zip(*found))) for kind, found in rows.items()}


def make_step(
    model: LappedCodec, params: Any, loss: Loss, optimizer: optax.GradientTransformation
) -> Callable[..., Any]:
    """(net, optimizer's state, Crops of one batch, mixed latents) -> the next two, and the objective."""
    kinds = np.repeat(list(_BATCH), list(_BATCH.values()))
    weights = np.stack([np.ones(len(kinds)), np.where(kinds == "photo", 0.0, _SQUARED_ERROR)], 1)

    def objective(net: Any, batch: Crops, mixed: jax.Array) -> jax.Array:
        x_hat, added = _decode(model, params, net, batch.y_hat, batch.quality)
        _, odd = _decode(model, params, net, mixed, batch.quality)
        fit = jnp.sum(weights * _distances(loss, batch.image, x_hat, batch.quality) / batch.before, 1)
        excess = _beyond(added, batch.quality) + jnp.log1p(_beyond(odd, batch.quality))
        return jnp.mean(fit + _PENALTY * excess)

    @jax.jit
    def step(net: Any, state: Any, batch: Crops, mixed: jax.Array) -> tuple[Any, Any, jax.Array]:
        value, gradient = jax.value_and_grad(objective)(net, batch, mixed)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(net, updates), state, value

    return step


def mix(y_hat: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Latents louder or quieter than they are, with those of other places and crops added to half of them."""
    crops, height, width, _ = y_hat.shape
    other = y_hat[rng.permutation(crops)][:, rng.permutation(height)][:, :, rng.permutation(width)]
    share = rng.uniform(-0.5, 1, (crops, 1, 1, 1)) * (rng.random((crops, height, width, 1)) < 0.5)
    return (rng.uniform(0.7, 1.5, (crops, 1, 1, 1)) * y_hat + share * other).astype(np.float32)


def train(args: argparse.Namespace) -> str:
    """Codes, trains and writes the model; returns its hash."""
    packaging.check_name(args.output)
    given = modelfile.load(modelfile.find(args.model))
    model, loss = codec.build(given.config), losses.make_loss(losses.settings("rate_distortion", distance=_DISTANCE))
    if not isinstance(model, LappedCodec):
        raise JndError(f"{args.model} is no lapped codec; give one of that family.")
    params = jax.device_put(given.params)
    crops = code(model, params, loss, args.data.split(","), args.batches, args.photographs, args.seed)
    print(", ".join(f"{len(found.quality)} {kind}" for kind, found in crops.items()))
    schedule = optax.cosine_decay_schedule(args.learning_rate, args.steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule, 0.9, 0.99))
    step, rng = make_step(model, params, loss, optimizer), np.random.default_rng(args.seed)
    net = params["synthesis_net"]
    state, values = optimizer.init(net), []
    for _ in track(range(args.steps), "training", console=Console(stderr=True)):
        drawn = [(crops[kind], rng.integers(len(crops[kind].quality))) for kind, n in _BATCH.items() for _ in range(n)]
        batch = Crops(*(np.stack([found[field][i] for found, i in drawn]) for field in range(len(Crops._fields))))
        net, state, value = step(net, state, batch, mix(batch.y_hat, rng))
        values.append(float(value))
    quarter = max(1, len(values) // 4)
    print(f"objective {np.mean(values[:quarter]):.4f} at first, {np.mean(values[-quarter:]):.4f} at last")
    return modelfile.save(
        args.output,
        name=args.output.stem,
        config=given.config,
        params=given.params | {"synthesis_net": jax.tree.map(np.asarray, net)},
        tables=given.tables,
        card=given.card | {"synthesis": f"trained on alone, from {given.name}; other figures are of that model"},
        half=True,
        keep=packaging.FULL_PRECISION,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.safetensors")
    parser.add_argument("--data", default="", metavar="DIR,DIR", help="default: the photos of scikit-image")
    parser.add_argument("--batches", type=int, default=340, help="of 16 crops, coded before (default: %(default)s)")
    parser.add_argument(
        "--photographs", type=float, default=1 / 6, metavar="SHARE", help="of the batches (default: a sixth)"
    )
    parser.add_argument("--steps", type=int, default=450)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    try:
        print(train(args))
    except (JndError, OSError) as error:
        fail("synthesis", error)


if __name__ == "__main__":
    main()
