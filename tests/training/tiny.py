"""A codec small enough to test training with: one convolution each way, the interface of the real ones."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from ml_collections import ConfigDict
from PIL import Image

from configs import base
from jnd_jax.codec.types import Forward


class TinyCodec(nn.Module):
    """y = 4x4 convolution of x, unit Gaussian rate with a learned scale, noise from the examples' keys."""

    channels: int = 12

    @nn.compact
    def __call__(self, x, quality, keys):
        y = nn.Conv(self.channels, (4, 4), (4, 4), name="analysis")(x - 0.5)
        gain = jnp.exp(quality / 500.0)[:, None, None, None]
        y = y * gain * 8.0
        scale = jnp.exp(self.param("log_scale", nn.initializers.zeros, (self.channels,)))
        if keys is None:
            y = jnp.round(y)
        else:
            y = y + jax.vmap(lambda key: jax.random.uniform(key, y.shape[1:], minval=-0.5, maxval=0.5))(keys)
        bits = jnp.sum((y / scale) ** 2 / 2 + jnp.log(scale) + 1.0, (1, 2, 3)) / jnp.log(2.0)
        x_hat = nn.ConvTranspose(3, (4, 4), (4, 4), name="synthesis")(y / gain) + 0.5
        return Forward(x_hat, bits, jnp.zeros_like(bits))


def write_photos(folder: Path, count: int = 12, size: int = 96) -> Path:
    """`count` smooth random PNGs, of two shapes."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for i in range(count):
        small = rng.integers(0, 256, (6, 6, 3), np.uint8)
        Image.fromarray(small).resize((size, size + 16 * (i % 2)), Image.BICUBIC).save(folder / f"photo{i:02d}.png")
    return folder


def tiny_config(folder: Path, **train) -> ConfigDict:
    """A run of 20 steps over `folder`, 64x64 crops, batch 8."""
    config = base.get_config()
    config.model.name = "tiny"
    config.data.update(path=str(folder / "photos"), cache=str(folder / "cache"), crop=64, batch=8)
    config.train.update(
        dict(steps=0 if "stages" in train else 20, warmup=2, optimizer="sgd", learning_rate=1e-3) | train
    )
    config.eval.update(every=0, images=1, max_size=64, qualities=(500,))
    config.checkpoint.every_minutes = 1e9
    config.log_every = 5
    return config
