"""Whether the input pipeline keeps up: images a second alone, and a training step with it and without it.

    python -m bench.data_speed [--data photos/] [--steps 20]

The config is that of `configs/base.py`: crops of 128x128, batches of 16, SOAP. Without data the step gets one batch over
and over; both kinds of step are taken in turns. The images are decoded before, into the cache.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping

import jax
import numpy as np
from ml_collections import ConfigDict

from configs import base
from jnd_jax import codec
from jnd_jax.data import pipeline
from jnd_jax.losses import make_loss
from jnd_jax.training.loop import initial_params, load_data, step_of
from jnd_jax.training.parallel import parallelize
from jnd_jax.training.state import create_state

Batches = Iterator[Mapping[str, np.ndarray]]


def trainer(config: ConfigDict) -> Callable[[Batches], float]:
    """A function that takes a batch, trains on it and returns the seconds of both."""
    model = codec.build(config.model.to_dict())
    optimizer, step = step_of(config, model, make_loss(config.loss), config.train.steps)
    runner = parallelize(step)
    state = runner.replicate(create_state(initial_params(config, model), optimizer))

    def take(feed: Batches) -> float:
        nonlocal state
        start = time.perf_counter()
        state, metrics = runner.step(state, runner.shard(next(feed)))
        jax.block_until_ready(metrics)
        return time.perf_counter() - start

    return take


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="", help="folders, with commas; default: the photos of scikit-image")
    parser.add_argument("--steps", type=int, default=20)
    args = parser.parse_args()
    config = base.get_config()
    config.data.path = args.data
    (images, _), _ = load_data(config)
    data = config.data
    augmentation = pipeline.Augmentation(data.flip, data.rotate, data.downscale)
    examples = pipeline.Examples(images, data.crop, config.seed, augmentation)
    feed = lambda count: pipeline.batches(examples, data.batch, 0, count, threads=data.threads)

    next(alone := feed(201))
    start = time.perf_counter()
    for _ in alone:
        pass
    pipeline_rate = 200 * data.batch / (time.perf_counter() - start)

    take, fresh = trainer(config), feed(args.steps + 2)
    same = itertools.repeat(next(fresh))
    take(fresh), take(same)
    pairs = [(take(fresh), take(same)) for _ in range(args.steps)]
    with_data, without = (statistics.median(times) for times in zip(*pairs))
    ratio = statistics.median(a / b for a, b in pairs)
    print(f"{len(images)} images, batches of {data.batch} at {data.crop}x{data.crop}")
    print(
        f"pipeline alone: {pipeline_rate:.0f} images/s, {pipeline_rate * without / data.batch:.1f} times what the step takes"
    )
    print(f"step with data {with_data:.3f} s, without {without:.3f} s: ratio {ratio:.3f}")


if __name__ == "__main__":
    main()
