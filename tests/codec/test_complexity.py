from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from jnd_jax import codec
from jnd_jax.codec.complexity import multiply_adds


def test_multiply_adds_are_those_of_the_layers():
    small, deeper = (
        codec.build({"name": "lapped", "latents": 64, "groups": (16,), "synthesis_depths": depths})
        for depths in ((1, 1), (1, 2))
    )
    counts = []
    for model in (small, deeper):
        params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 64, 64, 3)), jnp.zeros(1))["params"]
        counts.append(multiply_adds(model, params))
    # One more bottleneck of 128 channels at 1/8 resolution: 1x1 to 64, 3x3, 1x1 back. Borders count less, activations a little.
    block = (128 * 64 + 9 * 64 * 64 + 64 * 128) / 64 / 1e3
    assert counts[1]["synthesis"] - counts[0]["synthesis"] == pytest.approx(block, rel=0.03)
    # An encoder looks at what would be decoded once.
    assert counts[1]["encode"] - counts[0]["encode"] == pytest.approx(block, rel=0.03)
    assert counts[0]["decode"] == counts[0]["hyper-synthesis"] + counts[0]["synthesis"]
