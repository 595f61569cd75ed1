"""What the run of `configs/pod.py` would take and cost on a pod slice: an estimate by counting, not a measurement.

    python -m bench.pod_cost [--chips 16 --hosts 4 --cores 96 --price 3.22]

Floating-point operations are those that XLA counts in the step as it is given to the compiler (4 and 8 crops of 128, Muon): so
many a pixel, and so many a step, which the optimizer takes on every chip.
Everything else is an assumption that an option names, and is printed with the result. A step computes or moves bytes,
whichever takes longer, and then sums its gradients over the chips by a ring; meanwhile each host makes the next images, for
which the step may have to wait. Starting a program, and hosts that wait for the slowest, are left out: take the figures as
the least that the run can take.
"""

from __future__ import annotations

import argparse
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from configs import pod
from jnd_jax import codec
from jnd_jax.losses import make_loss
from jnd_jax.training.parallel import parallelize
from jnd_jax.training.state import shapes_of_state
from jnd_jax.training.step import step_of

_CROP = 128

# Images a second of one core by crop, and of one process whatever its threads: `python -m bench.data_speed --hosts`.
_OF_A_CORE = {128: 2893.0, 256: 1182.0}
_OF_A_PROCESS = 9136.0


def counted(config: ConfigDict) -> dict[str, float]:
    """Operations per pixel and per step as XLA counts them, parameters, and the bytes of the state."""
    model = codec.build(config.model.to_dict())
    optimizer, step = step_of(config, model, make_loss(config.loss))
    state = shapes_of_state(model, optimizer)
    run = parallelize(step, "shard_map", jax.local_devices()[:1]).step

    def operations(crops: int) -> float:
        image = jax.ShapeDtypeStruct((crops, _CROP, _CROP, 3), jnp.uint8)
        cost: Any = run.lower(
            state, {"image": image, "index": jax.ShapeDtypeStruct((crops,), jnp.int32)}, np.float32(0)
        ).cost_analysis()
        return cost["flops"]

    few, many = operations(4), operations(8)
    size = lambda tree: sum(a.size for a in jax.tree.leaves(tree))
    per_pixel = (many - few) / (4 * _CROP**2)
    return {"pixel": per_pixel, "step": 2 * few - many, "parameters": size(state.params), "state": 4 * size(state)}


def stage(work: dict[str, float], steps: int, crop: int, batch: int, args: argparse.Namespace) -> list[float]:
    """Of one stage: milliseconds a step of computing, memory, input and exchange; images a second a host; hours."""
    pixels = batch * crop**2 / args.chips
    compute = (work["pixel"] * pixels + work["step"]) / (args.tflops * 1e12 * args.utilisation)
    memory = args.moved * work["pixel"] * pixels / (args.bandwidth * 1e9)
    feed = batch / args.hosts / min(_OF_A_CORE[crop] * args.cores, _OF_A_PROCESS)
    # A ring sends and receives each gradient (4 bytes) about twice.
    exchange = 2 * 4 * work["parameters"] / (args.gigabytes * 1e9)
    busy = max(compute, memory) + exchange
    needed = batch / args.hosts / busy
    return [*(1e3 * t for t in (compute, memory, feed, exchange)), needed, steps * max(busy, feed) / 3600]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chips", type=int, default=16)
    parser.add_argument("--hosts", type=int, default=4)
    parser.add_argument("--cores", type=int, default=96, help="of a host")
    parser.add_argument("--tflops", type=float, default=275.0, help="peak of a chip: v4 in bfloat16")
    parser.add_argument("--utilisation", type=float, default=0.3, help="of the peak")
    parser.add_argument("--moved", type=float, default=0.145, help="bytes an operation: docs/results/training-cost")
    parser.add_argument("--bandwidth", type=float, default=1200.0, help="of a chip's memory, gigabytes a second")
    parser.add_argument("--gigabytes", type=float, default=50.0, help="a second, sent by each chip")
    parser.add_argument("--compile", type=float, default=180.0, help="seconds to compile a step or a validation")
    parser.add_argument("--disk", type=float, default=200.0, help="megabytes a second to storage that all hosts see")
    parser.add_argument("--price", type=float, default=3.22, help="dollars a chip and hour")
    args = parser.parse_args()
    config = pod.get_config()
    work = counted(config)
    print(", ".join(f"{name} {value:g}" for name, value in vars(args).items()))
    print(
        f"{work['pixel'] / 1e3:.0f} kFLOP a pixel, {work['step'] / 1e9:.1f} GFLOP a step, {work['parameters'] / 1e6:.2f} M parameters\n"
    )
    print("| stage | compute, ms | memory, ms | input, ms | exchange, ms | images/s a host must feed | hours |")
    print("|---|---|---|---|---|---|---|")
    training, steps = 0.0, 0
    for count, crop, batch in config.train.stages:
        *times, needed, hours = stage(work, count, crop, batch, args)
        training, steps = training + hours, steps + count
        print(
            f"| {count} x {batch} at {crop} | "
            + " | ".join(f"{t:.2f}" for t in times)
            + f" | {needed:.0f} | {hours:.2f} |"
        )
    evaluation, saves = config.eval, steps // config.checkpoint.every_steps
    pixels = (
        steps // evaluation.every * evaluation.images * len(evaluation.qualities) * evaluation.max_size**2 / args.hosts
    )
    parts = {
        "training": training,
        "compiling": (len(config.train.stages) + 1) * args.compile / 3600,
        # The forward pass is a third of a step, one chip a host does it, image by image: memory is what it waits for.
        "validation": pixels * args.moved * work["pixel"] / 3 / (args.bandwidth * 1e9) / 3600,
        # Written while training goes on: what counts is the copy to the host, and the last one.
        "checkpoints": (saves * work["state"] / 10e9 + work["state"] / (args.disk * 1e6)) / 3600,
    }
    total = sum(parts.values())
    print("\n" + ", ".join(f"{name} {60 * hours:.1f} min" for name, hours in parts.items()))
    print(f"together {total:.2f} hours, {total * args.chips:.1f} chip-hours, ${total * args.chips * args.price:.0f}")


if __name__ == "__main__":
    main()
