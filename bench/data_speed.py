"""Whether the input pipeline keeps up: images a second alone, and a training step with it and without it.

    python -m bench.data_speed [--data photos/] [--steps 20]
    python -m bench.data_speed [--data photos/] --hosts     # only what hosts of 32 and 96 cores could feed

The config is that of `configs/base.py`: crops of 128x128, batches of 16, SOAP. Without data the step gets one batch over
and over; both kinds of step are taken in turns. The images are decoded before, into the cache.

A host of n cores feeds at most n times what a core does. Its threads share one Python, which moves no pixels but draws the
crops: what that takes, measured with crops of 8x8, bounds the images a second of a process whatever its threads.
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
from jnd_jax.data import cache, pipeline
from jnd_jax.losses import make_loss
from jnd_jax.training.loop import initial_params, load_data
from jnd_jax.training.parallel import parallelize
from jnd_jax.training.state import create_state
from jnd_jax.training.step import step_of

Batches = Iterator[Mapping[str, np.ndarray]]


def trainer(config: ConfigDict) -> Callable[[Batches], float]:
    """A function that takes a batch, trains on it and returns the seconds of both."""
    model = codec.build(config.model.to_dict())
    optimizer, step = step_of(config, model, make_loss(config.loss))
    runner = parallelize(step)
    state = runner.replicate(create_state(initial_params(config, model), optimizer))

    def take(feed: Batches) -> float:
        nonlocal state
        start = time.perf_counter()
        state, metrics = runner.step(state, runner.shard(next(feed)), np.float32(1e-3))
        jax.block_until_ready(metrics)
        return time.perf_counter() - start

    return take


def core_seconds(images: cache.ImageSet, config: ConfigDict, crop: int, count: int = 1024) -> float:
    """CPU time of one training example on one core, the best of three rounds."""
    data = config.data
    augmentation = pipeline.Augmentation.of(data)
    examples, times = pipeline.Examples(images, crop, config.seed, augmentation), []
    for _ in range(4):
        start = time.process_time()
        pipeline.batch_at(examples, 0, count)
        times.append((time.process_time() - start) / count)
    return min(times[1:])


def hosts(images: cache.ImageSet, config: ConfigDict) -> None:
    """Print what hosts could feed."""
    python = core_seconds(images, config, 8)
    print(f"Python alone: {1e6 * python:.0f} us an image, at most {1 / python:.0f} images/s a process\n")
    print("| crop | one core, images/s | 32 cores | 96 cores |\n|---|---|---|---|")
    for crop in (128, 256):
        one = 1 / core_seconds(images, config, crop)
        rates = (min(cores * one, 1 / python) for cores in (32, 96))
        print(f"| {crop} | {one:.0f} | " + " | ".join(f"{rate:.0f}" for rate in rates) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="", help="folders, with commas; default: the photos of scikit-image")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--hosts", action="store_true")
    args = parser.parse_args()
    config = base.get_config()
    config.data.path = args.data
    (images, _), _ = load_data(config)
    if args.hosts:
        return hosts(images, config)
    data = config.data
    augmentation = pipeline.Augmentation.of(data)
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
