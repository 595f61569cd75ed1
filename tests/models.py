"""A codec small enough to code with in tests: untrained, but whole."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp

from jnd_jax import codec, modelfile
from jnd_jax.codec.freeze import coding_tables

CONFIG = {
    "name": "lapped",
    "latents": 48,
    "hyper_latents": 8,
    "hyper_width": 8,
    "widths": [8, 16],
    "analysis_depths": [1, 1],
    "synthesis_depths": [1, 1],
    "groups": [16],
    "context_width": 8,
    "own_width": 8,
    "hidden_width": 16,
}


def write_tiny_model(path: Path, seed: int = 0, **changes) -> str:
    """Writes a model file named after `path`, with `changes` of CONFIG, and returns its hash."""
    config = CONFIG | changes
    model = codec.build(config)
    params = jax.jit(model.init)(jax.random.key(seed, impl="rbg"), jnp.zeros((1, 64, 64, 3)), jnp.zeros(1))["params"]
    params = jax.device_get(params)
    return modelfile.save(
        path,
        name=path.stem,
        config=config,
        params=params,
        tables=coding_tables(model, params),
        card={"data": "none: untrained"},
    )
