"""What a model computes for each pixel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jnd_jax.codec.contract import HyperpriorCodec
from jnd_jax.codec.lapped import LappedCodec
from jnd_jax.codec.linear import BLOCK

_SIDE = 512  # of the image for which multiply-adds are counted

# Runs of a hyper-synthesis layer for each block. Layers that are not listed run once.
_RUNS = {"context_hidden": 1 / 16, "context_out": 1 / 16, "up1": 1 / 16, "up2": 1 / 4, "own1": 1 / 2, "own2": 1 / 2}


def multiply_adds(model: LappedCodec, params: Mapping[str, Any]) -> dict[str, float]:
    """Thousands of multiply-adds a pixel (kMAC/px) of each part.

    The hyper-synthesis is counted from the sizes of its layers. XLA counts the operations of the other parts in their
    compiled functions; two operations are one multiply-add.

    Returns:
        "analysis", "correction", "hyper-analysis", "hyper-synthesis", "synthesis" and the sums "encode" (all but the synthesis)
        and "decode" (the hyper-synthesis and the synthesis).
    """
    q, h = jnp.zeros(1), _SIDE // BLOCK
    y = jnp.zeros((1, h, h, model.latents))

    def count(function, *arrays) -> float:
        cost = jax.jit(lambda p, *a: function(model.bind({"params": p}), *a)).lower(params, *arrays).compile()
        analysis: Any = cost.cost_analysis()
        return analysis["flops"] / 2 / _SIDE**2 / 1e3

    x = jnp.zeros((1, _SIDE, _SIDE, 3))
    analysis = count(lambda m, x: m.analysis(x, q), x)
    parts = {
        "analysis": analysis,
        "correction": count(lambda m, x: m.to_code(x, q), x) - analysis,
        "hyper-analysis": count(lambda m, y: m.hyper_analysis(y), y),
        "hyper-synthesis": _hyper_synthesis(params),
        "synthesis": count(lambda m, y: m.synthesis(y, q), y),
    }
    decode = parts["hyper-synthesis"] + parts["synthesis"]
    return parts | {"encode": sum(parts.values()) - parts["synthesis"], "decode": decode}


def multiply_adds_of_parts(model: HyperpriorCodec, params: Mapping[str, Any]) -> dict[str, float]:
    """As `multiply_adds`, for a `HyperpriorCodec`, whose `predict` runs once in each pass."""

    def count(method: str, *arrays: Any) -> tuple[float, Any]:
        function = jax.jit(lambda p, *a: model.apply({"params": p}, *a, method=method))
        cost: Any = function.lower(params, *arrays).compile().cost_analysis()
        return cost["flops"] / 2 / _SIDE**2 / 1e3, jax.eval_shape(function, params, *arrays)

    zeros = lambda shape: jnp.zeros(shape.shape)
    quality = jnp.zeros(1)
    analysis, y = count("analysis", jnp.zeros((1, _SIDE, _SIDE, 3)), quality)
    hyper_analysis, z = count("hyper_analysis", zeros(y))
    predict, _ = count("predict", zeros(z), zeros(y), jnp.zeros((1, *y.shape[1:3], 1)))
    synthesis, _ = count("synthesis", zeros(y), quality)
    predict *= len(model.passes(*y.shape[1:3]))
    return {
        "analysis": analysis,
        "hyper-analysis": hyper_analysis,
        "hyper-synthesis": predict,
        "synthesis": synthesis,
        "encode": analysis + hyper_analysis + predict,
        "decode": predict + synthesis,
    }


def _hyper_synthesis(params: Mapping[str, Any]) -> float:
    total = 0.0
    for name, value in params.items():
        if not name.startswith(("scale_", "mean_", "hyper_context_")):
            continue
        if name.endswith("_weight"):
            layer = name.removesuffix("_weight").split("_", 1)[1]
            total += value.size * next((runs for end, runs in _RUNS.items() if layer.endswith(end)), 1)
        elif name.endswith(("_cross", "_above")):
            total += value.size / 2
    return total / BLOCK**2 / 1e3
