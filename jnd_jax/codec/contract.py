"""What a codec is made of: the parts that a research model swaps, and what training and files ask of each.

There are three contracts. A model that keeps them trains, is exported and codes real files. A config names the model
by its import path.

Transforms      `analysis` and `synthesis`, between pixels and latents at 1/16 of their resolution.
Entropy model   `hyper_analysis`, from latents to hyper-latents at 1/64; `passes`, which latents are coded when; and
                `predict`, which gives the conditional `density` the mean and scale of every latent, from hyper-latents
                and the latents decoded so far.
Loss            a function (batch, x_hat) -> D, see `jnd_jax.losses`.

There are two ways to keep them. A subclass of `LappedCodec` overrides the transforms and keeps the integer entropy
model: its files decode on every machine. Its transforms also take `blocks` and, for regions, qualities (B, h, w), and rounding
weighs errors by the linear synthesis: add to the transforms, do not replace them. A subclass of `HyperpriorCodec` brings all parts. Its scales are floats: its
files decode only on the machine and software that wrote them; elsewhere they are refused (`codec.float_coding`).
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jnd_jax.codec.hyper import round_hyper_latents
from jnd_jax.codec.layers import compute_in
from jnd_jax.codec.types import Forward
from jnd_jax.entropy.densities import (
    conditional_gaussian_bits,
    conditional_laplacian_bits,
    factorized_bits,
    factorized_init,
)

DENSITIES = {"gaussian": conditional_gaussian_bits, "laplacian": conditional_laplacian_bits}


class HyperpriorCodec(nn.Module):
    """A codec with hyper-latents, to be completed by `analysis`, `synthesis`, `hyper_analysis` and `predict`.

    A subclass makes its layers in `setup`, after super().setup(). It may override the class's attributes.

    Attributes:
        hyper_channels: Cz, channels of the hyper-latents.
        density: conditional density of a latent, one of DENSITIES.
        one_rate: whether `quality` is ignored.
    """

    hyper_channels = 64
    density = "gaussian"
    one_rate = False

    def setup(self):
        self.prior = self.param("prior", factorized_init, self.hyper_channels)

    def analysis(self, x: jax.Array, quality: jax.Array) -> jax.Array:
        """x (B, H, W, 3) in [0, 1], quality (B,) in 0..1000 -> latents (B, H/16, W/16, M).

        Latents are later rounded to integers around their means.
        """
        raise NotImplementedError

    def synthesis(self, y_hat: jax.Array, quality: jax.Array) -> jax.Array:
        """Latents (B, H/16, W/16, M) -> x_hat (B, H, W, 3), not clipped."""
        raise NotImplementedError

    def hyper_analysis(self, y: jax.Array) -> jax.Array:
        """Latents -> hyper-latents (B, H/64, W/64, Cz), later rounded to integers in +-127 around `hyper_centre`."""
        raise NotImplementedError

    def predict(self, z_hat: jax.Array, y_hat: jax.Array, known: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Mean and scale (standard deviation) of all latents, each (B, h, w, M) or broadcastable.

        Args:
            z_hat: (B, h/4, w/4, Cz) hyper-latents.
            y_hat: (B, h, w, M) latents decoded in earlier passes, 0 elsewhere.
            known: (1, h, w, M) or broadcastable, 1 where they are decoded, else 0.
        """
        raise NotImplementedError

    def passes(self, height: int, width: int) -> list[np.ndarray]:
        """For each pass, which latents it codes: booleans that broadcast to (h, w, M). Each latent is in one pass."""
        return [np.ones((height, width, 1), bool)]

    def hyper_centre(self) -> jax.Array:
        """(Cz,) centres around which hyper-latents are rounded."""
        return jnp.zeros(self.hyper_channels)

    def hyper_bits(self, z: jax.Array) -> jax.Array:
        """Bits of hyper-latents (..., Cz), elementwise."""
        return factorized_bits(self.prior, z)

    def __call__(self, x: jax.Array, quality: jax.Array, keys: jax.Array | None) -> Forward:
        """Reconstruction and estimated bits, as training needs them.

        Args:
            x: (B, H, W, 3) in [0, 1], H and W multiples of 64.
            quality: (B,) in 0..1000.
            keys: (B,) typed PRNG keys: uniform noise takes the place of rounding. None: it rounds as files do.
        """
        keys_y, keys_z = (None, None) if keys is None else jax.vmap(jax.random.split, out_axes=1)(keys)
        y = self.analysis(x, quality).astype(x.dtype)
        with compute_in(None):
            centre = jax.lax.stop_gradient(self.hyper_centre())
            z = self.hyper_analysis(y) - centre
            z_hat = centre + (round_hyper_latents(jnp, z) if keys_z is None else z + _noise(keys_z, z))
            y_hat, bits = self._code(y, z_hat, None if keys_y is None else _noise(keys_y, y))
        return Forward(
            x_hat=self.synthesis(y_hat, quality).astype(x.dtype),
            bits_y=bits.sum((1, 2, 3)),
            bits_z=self.hyper_bits(z_hat).sum((1, 2, 3)),
            bits_map=bits.sum(3),
        )

    def _code(self, y: jax.Array, z_hat: jax.Array, noise: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """Latents as the decoder will see them, coded pass by pass, and the estimated bits of each."""
        y_hat, bits, known = jnp.zeros_like(y), jnp.zeros_like(y), np.zeros((*y.shape[1:3], 1), bool)
        for now in self.passes(*y.shape[1:3]):
            mean, scale = self.predict(z_hat, y_hat, jnp.asarray(known[None], y.dtype))
            value = jnp.round(y - mean) + mean if noise is None else y + noise
            bits = jnp.where(now, DENSITIES[self.density](value, mean, scale), bits)
            y_hat, known = jnp.where(now, value, y_hat), known | now
        return y_hat, bits


def _noise(keys: jax.Array, like: jax.Array) -> jax.Array:
    return jax.vmap(lambda key: jax.random.uniform(key, like.shape[1:], like.dtype, -0.5, 0.5))(keys)
