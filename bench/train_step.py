"""Time of one training step of a reference codec: both convolution lowerings here, CompressAI in PyTorch, and our codec.

    python bench/train_step.py [--torch-python PATH_OF_A_PYTHON_WITH_COMPRESSAI] [--size 64 --batch 2 --rounds 2]

Each round takes one step of every contender in turn, so that other load on the machine meets them alike; the ratios
are medians over rounds of the time divided by the first contender's in the same round. A step is forward, backward
and Adam on bpp + lambda * 255^2 * MSE; CompressAI's auxiliary loss is left out.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

LAMBDA = 0.0067


def jax_contender(args: argparse.Namespace, lowering: str, config: Mapping[str, Any]) -> Callable[[], float]:
    """A function that takes one training step and returns its seconds; compiled before it is returned."""
    import jax
    import jax.numpy as jnp
    import optax

    from jnd_jax import codec
    from jnd_jax.codec.layers import use_lowering

    model = codec.build(config)
    quality = jnp.full(args.batch, 400.0)
    x = jax.random.uniform(jax.random.key(0), (args.batch, args.size, args.size, 3))
    params = jax.jit(lambda key: model.init(key, x, quality, None)["params"])(jax.random.key(1))
    adam = optax.adam(1e-4)

    def loss(params, keys):
        out = model.apply({"params": params}, x, quality, keys)
        bpp = (out.bits_y + out.bits_z).mean() / args.size**2
        return bpp + LAMBDA * 255**2 * jnp.mean((out.x_hat - x) ** 2)

    def step(params, state, keys):
        value, gradient = jax.value_and_grad(loss)(params, keys)
        updates, state = adam.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    state = adam.init(params)
    keys = jax.random.split(jax.random.key(2), args.batch)
    with use_lowering(lowering):
        compiled = jax.jit(step, donate_argnums=(0, 1)).lower(params, state, keys).compile()

    def take_step() -> float:
        nonlocal params, state
        start = time.perf_counter()
        params, state, value = compiled(params, state, keys)
        value.block_until_ready()
        return time.perf_counter() - start

    return take_step


def serve_torch_steps(args: argparse.Namespace) -> None:
    """The subprocess: for each line on stdin takes one step and answers its seconds."""
    import torch
    from compressai.models import MeanScaleHyperprior, ScaleHyperprior

    torch.manual_seed(0)
    model_class = {"bmshj2018-hyperprior": ScaleHyperprior, "mbt2018-mean": MeanScaleHyperprior}[args.model]
    model = model_class(args.N, args.M).train()
    adam = torch.optim.Adam((p for name, p in model.named_parameters() if "quantiles" not in name), 1e-4)
    x = torch.rand(args.batch, 3, args.size, args.size)
    for _ in sys.stdin:
        start = time.perf_counter()
        adam.zero_grad()
        out = model(x)
        bpp = sum(-torch.log2(p).sum() for p in out["likelihoods"].values()) / (args.batch * args.size**2)
        (bpp + LAMBDA * 255**2 * torch.mean((out["x_hat"] - x) ** 2)).backward()
        adam.step()
        print(time.perf_counter() - start, flush=True)


def torch_contender(args: argparse.Namespace) -> Callable[[], float]:
    sizes = [f"--{name}={getattr(args, name)}" for name in ("model", "N", "M", "batch", "size")]
    command = [args.torch_python, __file__, "--serve-torch", *sizes]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def take_step() -> float:
        worker.stdin.write("\n")
        return float(worker.stdout.readline())

    return take_step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mbt2018-mean")
    parser.add_argument("--N", type=int, default=128)
    parser.add_argument("--M", type=int, default=192)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--torch-python", help="a Python in which compressai can be imported")
    parser.add_argument("--serve-torch", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve_torch:
        return serve_torch_steps(args)

    reference = {"name": args.model, "N": args.N, "M": args.M}
    contenders = {f"JAX, {name}": jax_contender(args, name, reference) for name in ("polyphase", "strided")}
    contenders["JAX, jnd"] = jax_contender(args, "polyphase", {"name": "lapped"})
    if args.torch_python:
        contenders["CompressAI, PyTorch"] = torch_contender(args)
    for take_step in contenders.values():
        take_step()
    rounds = [{name: take_step() for name, take_step in contenders.items()} for _ in range(args.rounds)]

    print(f"{args.model} N={args.N} M={args.M}, batch {args.batch} x {args.size} x {args.size}, {args.rounds} rounds")
    first = next(iter(contenders))
    for name in contenders:
        ratios = [times[name] / times[first] for times in rounds]
        seconds = statistics.median(times[name] for times in rounds)
        spread = f"{min(ratios):.2f}-{max(ratios):.2f}"
        print(f"{name:20} {seconds:8.3f} s   {statistics.median(ratios):6.2f} x the first ({spread})")


if __name__ == "__main__":
    main()
