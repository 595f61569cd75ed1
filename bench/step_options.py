"""What options of the train step cost and save: memory, speed, and the loss they reach.

    python -m bench.step_options [--data photos/] [--steps 300] [--crop 128] [--batch 16]

Trains the default codec once with each: optimizers, bfloat16 layers, rematerialisation. Memory is XLA's own analysis of
the compiled step: its temporary buffers. The loss is the mean over the last fifth of the steps, the speed without
compilation.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from configs import base
from jnd_jax import codec
from jnd_jax.losses import make_loss
from jnd_jax.training.log import read_metrics
from jnd_jax.training.loop import train_and_evaluate
from jnd_jax.training.parallel import parallelize
from jnd_jax.training.state import shapes_of_state
from jnd_jax.training.step import step_of

_ADAM = dict(optimizer="adam", learning_rate=1e-3, betas=(0.9, 0.999))
ROWS = {
    "Adam": _ADAM,
    "Adam, bfloat16": _ADAM | dict(bfloat16=True),
    "Adam, remat": _ADAM | dict(remat=True),
    "Adam, bfloat16, remat": _ADAM | dict(bfloat16=True, remat=True),
    "Muon": dict(optimizer="muon"),
    "SOAP": dict(),
}


def temporary_bytes(config: ConfigDict) -> int:
    """Of one step on one device."""
    model = codec.build(config.model.to_dict())
    optimizer, step = step_of(config, model, make_loss(config.loss))
    state = shapes_of_state(model, optimizer)
    image = jax.ShapeDtypeStruct((config.data.batch, config.data.crop, config.data.crop, 3), jnp.uint8)
    batch = {"image": image, "index": jax.ShapeDtypeStruct(image.shape[:1], jnp.int32)}
    run = parallelize(step, "shard_map", jax.devices()[:1]).step
    return run.lower(state, batch, np.float32(0)).compile().memory_analysis().temp_size_in_bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="", help="folders of images, by default those of scikit-image")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--batch", type=int, default=16)
    args = parser.parse_args()
    print(f"{jax.devices()[0].device_kind}, {args.steps} steps of {args.batch} crops of {args.crop}\n")
    print("| | temporary MB | images/s | loss |\n|---|---|---|---|")
    for name, options in ROWS.items():
        config = base.get_config()
        config.data.update(path=args.data, crop=args.crop, batch=args.batch, threads=4)
        config.train.update(steps=args.steps, **options)
        config.eval.update(every=0, images=1, max_size=64)
        with tempfile.TemporaryDirectory() as folder:
            train_and_evaluate(config, folder)
            lines = [line for line in read_metrics(Path(folder)) if line["kind"] == "train"]
        last = lines[-len(lines) // 5 :]
        speed, loss = (float(np.mean([line[key] for line in last])) for key in ("images_per_s", "loss"))
        print(f"| {name} | {temporary_bytes(config) / 1e6:.0f} | {speed:.0f} | {loss:.3f} |", flush=True)


if __name__ == "__main__":
    main()
