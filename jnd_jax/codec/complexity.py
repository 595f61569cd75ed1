"""What a model computes for each pixel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jnd_jax.codec import hyper
from jnd_jax.codec.contract import HyperpriorCodec
from jnd_jax.codec.lapped import LappedCodec

_SIDE = 512  # of the image for which multiply-adds are counted


def multiply_adds(model: LappedCodec, params: Mapping[str, Any]) -> dict[str, float]:
    """Thousands of multiply-adds a pixel (kMAC/px) of each part, as XLA counts them in the compiled functions.

    A multiply-add is two operations. Of the hyper-synthesis the decoder runs the part that reads the neighbours in each of
    its two passes, the part that reads the hyper-latents once, and the last layers once for each position.

    Returns:
        "analysis", "hyper-analysis", "hyper-synthesis", "synthesis" and the sums "encode" (all but the synthesis) and
        "decode" (the hyper-synthesis and the synthesis).
    """
    q, h = jnp.zeros(1), _SIDE // 16
    y, z = jnp.zeros((1, h, h, model.latents)), jnp.zeros((1, h // 4, h // 4, model.hyper_latents))
    some = jnp.zeros((1, h, h, 1))
    wide, narrow = (jnp.zeros((1, h, h, n)) for n in (model.hyper_width, model.hyper_width // 2))
    offset = jnp.zeros(model.latents)

    def count(function, *arrays) -> float:
        cost = jax.jit(lambda p, *a: function(model.bind({"params": p}), *a)).lower(params, *arrays).compile()
        analysis: Any = cost.cost_analysis()
        return analysis["flops"] / 2 / _SIDE**2 / 1e3

    once = count(
        lambda m, z: (
            hyper.scale_features(jnp, m.integer_scale_path(), z, jnp.floor),
            hyper.mean_features(jnp, m.mean_path, z),
        ),
        z,
    )
    twice = count(
        lambda m, y, d: (
            hyper.scale_context(jnp, m.integer_scale_path(), y, d, jnp.floor),
            hyper.mean_context(jnp, m.mean_path, y, d),
        ),
        y,
        some,
    )
    last = count(
        lambda m, a, b, y, o: (
            hyper.scale_indexes(jnp, m.integer_scale_path(), a, a, o, jnp.floor),
            hyper.means(jnp, m.mean_path, b, b, y),
        ),
        wide,
        narrow,
        y,
        offset,
    )
    parts = {
        "analysis": count(lambda m, x: m.analysis(x, q), jnp.zeros((1, _SIDE, _SIDE, 3))),
        "hyper-analysis": count(lambda m, y: m.hyper_analysis(y), y),
        "hyper-synthesis": once + 2 * twice + last,
        "synthesis": count(lambda m, y: m.synthesis(y, q), y),
    }
    decode = parts["hyper-synthesis"] + parts["synthesis"]
    return parts | {"encode": sum(parts.values()) - parts["synthesis"], "decode": decode}


def multiply_adds_of_parts(model: HyperpriorCodec, params: Mapping[str, Any]) -> dict[str, float]:
    """As `multiply_adds`, of a model of parts, whose `predict` runs once in each pass."""

    def count(method: str, *arrays: Any) -> tuple[float, Any]:
        function = jax.jit(lambda p, *a: model.apply({"params": p}, *a, method=method))
        cost = function.lower(params, *arrays).compile().cost_analysis()
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
