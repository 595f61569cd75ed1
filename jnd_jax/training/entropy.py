"""Trains the entropy model of a lapped codec alone: the transforms stand still, so that their latents are made once.

    python -m jnd_jax.training.entropy MODEL --workdir runs/entropy --data photos/ --steps 2000

MODEL is a model's name or file whose transforms are taken. With --keep its entropy model is trained on. Otherwise its
channels are put in the order of their magnitude, as the groups of `codec.hyper` want them, and scale path and mean path
start anew, with biases counted on the latents. The run
writes checkpoints, metrics.jsonl and, at each validation, model.safetensors, with which joint training can begin
(`train.init_from`); the same command resumes it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnd_jax import codec, modelfile
from jnd_jax.codec import distortion, hyper
from jnd_jax.codec.lapped import LappedCodec
from jnd_jax.codec.linear import BLOCK, GRID
from jnd_jax.data import cache
from jnd_jax.errors import JndError
from jnd_jax.training import checkpoint, memory, packaging
from jnd_jax.training.commandline import fail
from jnd_jax.training.optimizers import learning_rate, make_optimizer
from jnd_jax.training.parallel import parallelize
from jnd_jax.training.state import create_state, example_keys
from jnd_jax.training.step import Batch, Metrics, Objective, make_train_step
from jnd_jax.training.validate import choose

CROP = 16  # blocks a side of a training example
QUALITIES: tuple[int, ...] = (100, 300, 500, 700, 900)
_LARGEST = 512  # pixels a side of what is taken of a photograph
_TRAINED = ("scale_", "mean_")
_HYPER_LATENTS = ("hyper_analysis", "hyper_context", "hyper_offset")
# Photographs vary: the typical deviation of a latent lies this far (in nats) below its mean one.
_TYPICAL = -0.5
_RATES = {
    "optimizer": "soap",
    "betas": (0.95, 0.95),
    "soap_every": 10,
    "weight_decay": 0.0,
    "clip": 1.0,
    "warmup": 50,
}
_EMA = 0.998


class Latents(NamedTuple):
    """One photograph at one quality, as the frozen analysis gives it.

    Attributes:
      y: (h, w, M) float16 gained latents, which hyper-latents are made of.
      to_code: (h, w, M) float16, those that are coded.
      activity: (h, w, 4) float16, see `codec.distortion.log_activity`.
      quality: 0..1000.
    """

    y: np.ndarray
    to_code: np.ndarray
    activity: np.ndarray
    quality: int


def order_by_magnitude(params: Mapping[str, Any], magnitude: np.ndarray) -> dict[str, Any]:
    """`params` of a lapped codec's transforms and hyper-analysis with its M channels in falling order of `magnitude` (M,)."""
    order = np.argsort(-magnitude, kind="stable")
    twice = np.concatenate([order, order + len(order)])
    result = jax.tree.map(np.asarray, dict(params))
    for name in ("log_gain", "log_inverse_gain", "scale_offset", "linear_analysis"):
        result[name] = result[name][:, order]
    result["linear_synthesis"] = result["linear_synthesis"][order]
    result["hyper_analysis_reduce_weight"] = result["hyper_analysis_reduce_weight"][twice]
    last = max((n for n in result["analysis_net"] if n.startswith("Conv_")), key=lambda n: int(n.split("_")[1]))
    analysis, synthesis = dict(result["analysis_net"]), dict(result["synthesis_net"])
    analysis[last] = {name: value[..., order] for name, value in analysis[last].items()}
    synthesis["Conv_0"] = synthesis["Conv_0"] | {"kernel": synthesis["Conv_0"]["kernel"][:, :, order]}
    return result | {"analysis_net": analysis, "synthesis_net": synthesis}


def counted_scales(latents: Sequence[Latents]) -> tuple[np.ndarray, np.ndarray]:
    """Scale indexes counted on latents: their mean over the qualities (M,), and the offset of each node from it (nodes, M)."""
    sums = np.zeros((hyper.NODES, latents[0].y.shape[-1]))
    counts = np.zeros((hyper.NODES, 1))
    for item in latents:
        node = hyper.nearest_node(item.quality)
        sums[node] += np.abs(item.to_code.astype(np.float32)).sum((0, 1))
        counts[node] += item.to_code.shape[0] * item.to_code.shape[1]
    deviation = np.sqrt(2.0) * (sums / np.maximum(counts, 1) + 1e-3)
    index = (np.log(deviation / hyper.SCALE_MIN) + _TYPICAL) / hyper.LOG_SCALE_STEP
    index = np.clip(index, 0, hyper.SCALE_LEVELS - 1)
    return index.mean(0), index - index.mean(0)


def compute_latents(
    model: LappedCodec, params: Any, images: Sequence[np.ndarray], qualities: Sequence[int]
) -> list[Latents]:
    """The latents of each image (sides multiples of 64) at its quality."""

    @jax.jit
    def analyse(params, x, quality):
        bound, x = model.bind({"params": params}), x.astype(jnp.float32) / 255
        found = *jnp.split(bound.to_code(x, quality), 2, axis=-1), distortion.log_activity(x)
        return [array[0].astype(jnp.float16) for array in found]

    latents = []
    for image, quality in zip(images, qualities):
        y, to_code, activity = map(np.asarray, analyse(params, image[None], jnp.full(1, quality, jnp.float32)))
        latents.append(Latents(y, to_code, activity, int(quality)))
    return latents


def batch_of(latents: Sequence[Latents], size: int, seed: int, step: int) -> dict[str, np.ndarray]:
    """The batch of a step, a function of seed and step alone.

    Returns:
      "y" and "to_code" (size, CROP, CROP, M), "activity" (size, CROP, CROP, 4), float32; "quality" (size,); "index"
      (size,) of the examples in the run.
    """
    rng, crops = np.random.default_rng((seed, step)), []
    for i in rng.integers(len(latents), size=size):
        y, to_code, activity, quality = latents[i]
        top, left = (int(rng.integers((side - CROP) // GRID + 1)) * GRID for side in y.shape[:2])
        here = slice(top, top + CROP), slice(left, left + CROP)
        crops.append(Latents(y[here], to_code[here], activity[here], quality))
    fields = {name: np.stack(values).astype(np.float32) for name, values in zip(Latents._fields, zip(*crops))}
    return fields | {"index": np.arange(step * size, (step + 1) * size, dtype=np.int32)}


def make_objective(model: LappedCodec, seed: int) -> Objective:
    """The mean rate of y and z over the examples of `batch_of`, each divided by sqrt(lambda)."""

    def objective(params: Any, batch: Batch, step: jax.Array) -> tuple[jax.Array, Metrics]:
        bound, y, quality = model.bind({"params": params}), batch["y"], batch["quality"]
        noise_y, noise_z = bound.noise(example_keys(seed, step, batch["index"]), y.shape)
        z_hat, bits_z = bound.hyper_latents_and_rate(y, quality, noise_z)
        _, bits = bound.rate(batch["to_code"], z_hat, quality, batch["activity"], noise_y)
        bpp = (jnp.sum(bits, (1, 2, 3)) + jnp.sum(bits_z, (1, 2, 3))) / (y.shape[1] * y.shape[2] * BLOCK**2)
        value = jnp.mean(bpp / jnp.sqrt(hyper.lmbda(quality)))
        return value, {"loss": value, "bpp": jnp.mean(bpp)}

    return objective


def make_validation(model: LappedCodec, latents: Sequence[Latents]) -> Callable[[Any], dict[str, float]]:
    """parameters -> bits per pixel at each quality, of optimised symbols as in files."""

    @jax.jit
    def measure(params, y, to_code, activity, quality):
        bound = model.bind({"params": params})
        z_hat, bits_z = bound.hyper_latents_and_rate(y, quality)
        return jnp.sum(bound.rate(to_code, z_hat, quality, activity)[1]) + jnp.sum(bits_z)

    def validate(params) -> dict[str, float]:
        bits, pixels = dict.fromkeys(QUALITIES, 0.0), dict.fromkeys(QUALITIES, 0)
        for *arrays, quality in latents:
            wide = [array[None].astype(np.float32) for array in arrays]
            bits[quality] += float(measure(params, *wide, jnp.full(1, quality, jnp.float32)))
            pixels[quality] += arrays[0].shape[0] * arrays[0].shape[1] * BLOCK**2
        return {f"bpp_q{quality}": bits[quality] / pixels[quality] for quality in QUALITIES}

    return validate


def prepare(
    source: modelfile.ModelFile,
    train: cache.ImageSet,
    validation: cache.ImageSet,
    masked_share: float | None,
    seed: int,
    keep: bool,
):
    """(model, parameters to begin with, training latents, validation latents) from a model file and photographs."""
    if not source.is_lapped:
        raise JndError(f"{source.name} is no lapped codec; give one of that family.")
    known = codec.settings("lapped").keys()
    sizes = {name: value for name, value in source.config.items() if name in known}
    share = {} if masked_share is None else {"masked_share": masked_share}
    model: Any = codec.build(sizes | {"name": "lapped"} | share)
    rng = np.random.default_rng(seed)
    pictures = [example["image"] for example in choose(train, None, len(train), _LARGEST)]
    pictures = [picture for picture in pictures if min(picture.shape[:2]) >= CROP * BLOCK] * 2
    if not pictures:
        raise JndError(f"No photograph of the training set has {CROP * BLOCK} pixels a side; give larger ones.")
    drawn = [int(q) for q in rng.integers(0, hyper.QUALITY_MAX + 1, len(pictures))]
    new = jax.jit(lambda key: model.init(key, jnp.zeros((1, 64, 64, 3)), jnp.zeros(1), None)["params"])(
        jax.random.key(seed)
    )
    kept = {k: v for k, v in source.params.items() if keep or not k.startswith(_TRAINED) or k == "scale_offset"}
    given = jax.device_put(dict(new) | kept)
    latents, params = compute_latents(model, given, pictures, drawn), given
    if not keep:
        latents, params = _start_anew(model, new, kept, latents)
    held_out = [example["image"] for example in choose(validation, None, len(validation), _LARGEST)]
    held_out = compute_latents(
        model, params, [image for image in held_out for _ in QUALITIES], [*QUALITIES] * len(held_out)
    )
    return model, params, latents, held_out


def _start_anew(model: LappedCodec, new: Any, kept: Mapping[str, Any], latents: list[Latents]):
    """Latents and parameters with channels in order and an entropy model that knows their scales alone."""
    magnitude = np.mean([np.abs(item.y.astype(np.float32)).mean((0, 1)) for item in latents], axis=0)
    params = jax.device_put(dict(new) | order_by_magnitude(kept, magnitude))
    order = np.argsort(-magnitude, kind="stable")
    latents = [item._replace(y=item.y[..., order], to_code=item.to_code[..., order]) for item in latents]
    index, offset = counted_scales(latents)
    ends = np.cumsum(model.groups).tolist()
    params["scale_offset"] = jnp.asarray(offset / hyper.ACTIVATION_UNIT, jnp.float32)
    for group, start, stop in zip(range(len(model.groups) + 1), (0, *ends), (*ends, model.latents)):
        params[f"scale_{group}_out_bias"] = jnp.asarray(index[start:stop] / hyper.ACTIVATION_UNIT, jnp.float32)
    return latents, params


def train(args: argparse.Namespace) -> None:
    """Carries out the command; see the module."""
    args.workdir.mkdir(parents=True, exist_ok=True)
    source = modelfile.load(modelfile.find(args.model))
    train_images, validation = cache.split(cache.load_images(args.data.split(",")), 10)
    model, params, latents, held_out = prepare(
        source, train_images, validation, args.masked_share, args.seed, args.keep
    )
    trained = _TRAINED + _HYPER_LATENTS if args.hyper_latents else _TRAINED
    rates = _RATES | {
        "freeze": (f"^(?!{'|'.join(trained)})",),
        "steps": args.steps,
        "learning_rate": args.learning_rate,
        "decay": 0.3,
        "decay_from_step": -1,
    }
    config = json.loads(json.dumps({"model": codec.describe(model), "train": rates}))
    optimizer, rate = make_optimizer(rates), learning_rate(rates)
    objective = make_objective(model, args.seed)
    runner = parallelize(make_train_step(objective, optimizer, ema=_EMA))
    state, validate = create_state(params, optimizer), make_validation(model, held_out)
    with checkpoint.open_manager(args.workdir, keep=2, by_step={}) as manager:
        if manager.latest_step() is not None:
            state, _ = checkpoint.restore(manager, state, config)
        first, state = int(state.step), runner.replicate(state)
        began, window = time.time(), []
        for step in range(first + 1, args.steps + 1):
            batch = runner.shard(batch_of(latents, args.batch, args.seed, step - 1))
            state, metrics = runner.step(state, batch, rate(step - 1))
            window.append(runner.fetch(metrics)["bpp"])
            if step % 20 == 0:
                speed = len(window) / (time.time() - began)
                print(f"step {step}/{args.steps}  bpp {np.mean(window):.4f}  {speed:.2f} steps/s", flush=True)
                began, window = time.time(), []
            if step % args.every == 0 or step == args.steps:
                here = runner.local(state)
                line = json.dumps({"step": step, **{k: round(v, 5) for k, v in validate(here.ema).items()}})
                print(line, flush=True)
                with open(args.workdir / "metrics.jsonl", "a") as file:
                    file.write(line + "\n")
                checkpoint.save(manager, here, config, step * args.batch)
                packaging.export_model(here.ema, args.workdir / "model.safetensors", model)
                began = time.time()
        manager.wait_until_finished()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL", help="name or file of the model whose transforms are taken")
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument(
        "--data", required=True, metavar="DIR,DIR", help="folders of photographs; every tenth validates"
    )
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=8, help="crops of 16x16 latents a step (default: %(default)s)")
    parser.add_argument(
        "--masked-share", type=float, help="of masked DCT error in the distortion (default: that of the model)"
    )
    parser.add_argument("--keep", action="store_true", help="train the model's own entropy model on")
    parser.add_argument("--hyper-latents", action="store_true", help="train hyper-analysis and coding of z too")
    parser.add_argument(
        "--learning-rate", type=float, default=3e-3, help="default: %(default)s; about 1e-3 with --keep"
    )
    parser.add_argument("--every", type=int, default=250, help="steps between validations and checkpoints")
    parser.add_argument("--seed", type=int, default=0)
    memory.keep_memory()
    args = parser.parse_args()
    try:
        train(args)
    except (JndError, OSError) as error:
        fail("entropy", error)


if __name__ == "__main__":
    main()
