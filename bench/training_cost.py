"""How the cost of a training step grows with batch, crop and width.

    python -m bench.training_cost [-o FOLDER] [--rounds 3]

Every case is the `jnd` codec with one setting of the base case changed: floating-point operations and memory as XLA
counts them in the compiled step (forward, backward, Adam), and the median time of `--rounds` steps here. With -o the table
is also written as a Markdown file and a plot.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from configs import base
from jnd_jax import codec
from jnd_jax.losses import make_loss
from jnd_jax.training.parallel import parallelize
from jnd_jax.training.state import create_state
from jnd_jax.training.step import make_objective, make_train_step

_RATE = np.float32(1e-4)

BASE = {"batch": 4, "crop": 128, "width": 1.0}
CASES = [
    BASE,
    *({**BASE, "batch": n} for n in (1, 2, 8, 16)),
    *({**BASE, "crop": n} for n in (64, 192, 256)),
    *({**BASE, "width": n} for n in (0.5, 2.0)),
]


def compiled_step(batch: int, crop: int, width: float) -> tuple[Any, Any, Any, int]:
    """(compiled step, state on the device, batch, number of parameters) of one case."""
    default = codec.build({"name": "lapped"})
    scaled = tuple(int(w * width) for w in default.widths)
    model = codec.build({"name": "lapped", "widths": scaled, "hyper_width": int(default.hyper_width * width)})
    optimizer = optax.chain(optax.scale_by_adam(), optax.scale(-1.0))
    params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 64, 64, 3)), jnp.zeros(1))["params"]
    loss = make_loss(base.get_config().loss)
    step = make_train_step(make_objective(model, loss, seed=0), optimizer, ema=0.99)
    runner = parallelize(step, "shard_map", jax.local_devices()[:1])
    state = runner.replicate(create_state(params, optimizer))
    shard = runner.shard({"image": jnp.full((batch, crop, crop, 3), 128, jnp.uint8), "index": jnp.arange(batch)})
    return runner.step.lower(state, shard, _RATE).compile(), state, shard, sum(a.size for a in jax.tree.leaves(params))


def measure(case: dict[str, float], rounds: int) -> dict[str, float]:
    """One row of the table."""
    step, state, batch, parameters = compiled_step(**case)
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        state, metrics = step(state, batch, _RATE)
        jax.block_until_ready(metrics)
        times.append(time.perf_counter() - start)
    memory, pixels = step.memory_analysis(), case["batch"] * case["crop"] ** 2
    flops = step.cost_analysis()["flops"]
    return case | {
        "parameters": parameters,
        "seconds": statistics.median(times[1:]),
        "flops": flops,
        "flops_per_pixel": flops / pixels,
        "gigabytes": (memory.temp_size_in_bytes + memory.argument_size_in_bytes) / 1e9,
    }


def table(rows: list[dict[str, float]]) -> str:
    """Markdown, with each time as a ratio to the first row's."""
    lines = [
        "| batch | crop | width | parameters | GFLOP a step | kFLOP a pixel | memory, GB | step, s | to the first |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['batch']} | {r['crop']} | {r['width']:g} | {r['parameters'] / 1e6:.2f} M | {r['flops'] / 1e9:.1f} "
        f"| {r['flops_per_pixel'] / 1e3:.0f} | {r['gigabytes']:.2f} | {r['seconds']:.3f} "
        f"| {r['seconds'] / rows[0]['seconds']:.2f} |"
        for r in rows
    ]
    return "\n".join(lines)


def plot(rows: list[dict[str, float]], path: Path) -> None:
    """Time and memory against what was changed."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(11, 3.2), constrained_layout=True)
    for axis, name in zip(axes, BASE):
        others = [key for key in BASE if key != name]
        line = sorted((r for r in rows if all(r[key] == BASE[key] for key in others)), key=lambda r: r[name])
        axis.plot([r[name] for r in line], [r["seconds"] for r in line], "o-", label="seconds a step")
        axis.plot([r[name] for r in line], [r["gigabytes"] for r in line], "s--", label="gigabytes")
        axis.set(xlabel=name, xscale="log", yscale="log", title=f"{name} varied")
        axis.set_xticks([r[name] for r in line], labels=[f"{r[name]:g}" for r in line])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, metavar="FOLDER")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    rows = []
    for case in CASES:
        rows.append(measure(case, args.rounds))
        print(table(rows).splitlines()[-1], flush=True)
    text = table(rows)
    print("\n" + text)
    if args.output:
        args.output.mkdir(parents=True, exist_ok=True)
        (args.output / "training-cost.md").write_text(f"`python -m bench.training_cost`\n\n{text}\n")
        plot(rows, args.output / "training-cost.png")


if __name__ == "__main__":
    main()
