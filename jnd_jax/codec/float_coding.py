"""Files of models whose scales are floating-point numbers.

Encoder and decoder must choose the same table for each latent. Floating-point scales may differ in their last bits
between machines. A decoder may then choose another table, and would decode the rest of the file to garbage. So the
chunk of latents begins with a hash of each pass's choices. A decoder whose choices differ refuses before it decodes the
pass.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnd_jax.codec import hyper
from jnd_jax.codec.contract import HyperpriorCodec
from jnd_jax.entropy import symbols
from jnd_jax.entropy.coder import back_end
from jnd_jax.entropy.densities import SCALE_MIN
from jnd_jax.entropy.tables import PRECISION, categorical_tables, gaussian_tables, laplacian_tables
from jnd_jax.errors import JndError

_TABLES = {"gaussian": gaussian_tables, "laplacian": laplacian_tables}
_HASH_BYTES = 8


class Latents(NamedTuple):
    """Decoded latents, (h, w, M)."""

    y_hat: np.ndarray


def coding_tables(model: HyperpriorCodec, params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The `tables` of a model file: frequencies of y by scale index, of z by channel, and the centre of z."""
    bound = model.bind({"params": params})
    centre = np.asarray(bound.hyper_centre(), np.float32)
    z = np.arange(-hyper.Z_MAX, hyper.Z_MAX + 1, dtype=np.float32)[:, None] + centre
    latents = _TABLES[model.density](hyper.scale_table())
    pmf = np.exp2(-np.asarray(bound.hyper_bits(jnp.asarray(z)), np.float64)).T
    return {
        "y.frequency": latents["frequency"].astype(np.uint16),
        "y.half_width": latents["half_width"],
        "z.frequency": categorical_tables(pmf).astype(np.uint16),
        "z.centre": centre,
    }


@partial(jax.jit, static_argnums=0)
def _hyper_latents(model: HyperpriorCodec, params: Any, y: jax.Array, centre: jax.Array) -> jax.Array:
    with jax.default_matmul_precision("highest"):
        z: Any = model.apply({"params": params}, y, method="hyper_analysis")
    return hyper.round_hyper_latents(jnp, z - centre)


@partial(jax.jit, static_argnums=0)
def _predict(model: HyperpriorCodec, params: Any, z_hat: jax.Array, y_hat: jax.Array, known: jax.Array):
    """Scale indexes and means of all latents."""
    with jax.default_matmul_precision("highest"):
        predicted: Any = model.apply({"params": params}, z_hat, y_hat, known, method="predict")
    mean, scale = predicted
    index = jnp.round(jnp.log(jnp.maximum(scale, SCALE_MIN) / hyper.SCALE_MIN) / hyper.LOG_SCALE_STEP)
    index = jnp.clip(index, 0, hyper.SCALE_LEVELS - 1).astype(jnp.uint8)
    return jnp.broadcast_to(index, y_hat.shape), jnp.broadcast_to(mean, y_hat.shape)


class FloatCoder:
    """Latents to bytes and back, with the interface of `coding.LatentCoder`."""

    def __init__(self, model: HyperpriorCodec, params: Mapping[str, Any], tables: Mapping[str, np.ndarray]):
        self._model, self._params, self._centre = model, jax.device_put(dict(params)), tables["z.centre"]
        self._half_width = tables["y.half_width"].astype(np.int64)
        self._y_tables = np.split(tables["y.frequency"], np.cumsum(2 * self._half_width + 2)[:-1])
        self._z_tables = tables["z.frequency"]

    @cached_property
    def least_bits(self) -> float:
        """The fewest bits that a position of z takes."""
        return np.sum(PRECISION - np.log2(self._z_tables.max(axis=-1)))

    def hyper_latents(self, y: np.ndarray) -> np.ndarray:
        """Integer hyper-latents (h/4, w/4, Cz) of latents y (h, w, M)."""
        return np.asarray(_hyper_latents(self._model, self._params, y[None], self._centre))[0]

    def encode_z(self, z: np.ndarray, quality: int, coder: str = "constriction") -> bytes:
        """Bytes of the hyper-latents, channel by channel."""
        return symbols.encode_channels(z, self._z_tables, coder)

    def decode_z(self, data: bytes, height: int, width: int, quality: int, coder: str = "constriction") -> np.ndarray:
        """Hyper-latents (height, width, Cz) from `encode_z`'s bytes."""
        return symbols.decode_channels(data, height, width, self._z_tables, coder)

    def encode_strips(
        self, strips: Iterable[np.ndarray], height: int, width: int, quality: Any, coder: str, energy: None = None
    ) -> tuple[np.ndarray, bytes]:
        """As `coding.LatentCoder.encode_strips`, but joins the strips before it codes them."""
        y = np.concatenate(list(strips))
        z = self.hyper_latents(y)
        return z, self.encode_y(y, z, quality, coder)

    def decode_strips(
        self, data: bytes, z: np.ndarray, quality: Any, coder: str = "constriction", partial: bool = False
    ) -> Iterator[np.ndarray]:
        """The latents of `decode_y`, in one strip."""
        yield self.decode_y(data, z, quality, coder, partial).y_hat

    def encode_y(
        self, y: np.ndarray, z: np.ndarray, quality: Any, coder: str = "constriction", energy: None = None
    ) -> bytes:
        """A hash of each pass's scale indexes, then the bytes of latents y (h, w, M), rounded around their means."""
        writer, hashes = back_end(coder)[0](self._y_tables), []

        def code(index: np.ndarray, mean: np.ndarray, at: np.ndarray) -> np.ndarray:
            hashes.append(_hash(index))
            rounded = np.clip(np.round(y[at] - mean), -symbols.SYMBOL_MAX, symbols.SYMBOL_MAX)
            symbols.encode_by_index(writer, rounded, index, self._half_width)
            return rounded

        self._passes(z, y.shape[-1], code)
        return b"".join(hashes) + writer.finish()

    def decode_y(
        self, data: bytes, z: np.ndarray, quality: Any, coder: str = "constriction", partial: bool = False
    ) -> Latents:
        """What `encode_y`'s bytes hold.

        Raises:
          JndError: the data is damaged or only a part of a file, or this machine computes other scales than the one
            that wrote it.
        """
        if partial:
            raise JndError("A part of a file of this model cannot be decoded; get the whole file.")
        count = len(self._model.passes(4 * z.shape[0], 4 * z.shape[1]))
        expected = [data[i * _HASH_BYTES : (i + 1) * _HASH_BYTES] for i in range(count)]
        reader, channels = back_end(coder)[1](data[count * _HASH_BYTES :], self._y_tables), self._channels(z)

        def code(index: np.ndarray, mean: np.ndarray, at: np.ndarray) -> np.ndarray:
            if _hash(index) != expected.pop(0):
                raise JndError(
                    "This file decodes only on the same machine and software that wrote it: its model predicts "
                    "scales by floating-point numbers, which differ here; decode it where it was written."
                )
            return symbols.decode_by_index(reader, index, self._half_width)

        y_hat = self._passes(z, channels, code)
        reader.finish()
        return Latents(y_hat)

    def _channels(self, z: np.ndarray) -> int:
        x = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
        quality = jax.ShapeDtypeStruct((1,), jnp.float32)
        analyse = lambda p, x, q: self._model.apply({"params": p}, x, q, method="analysis")
        return jax.eval_shape(analyse, self._params, x, quality).shape[-1]

    def _passes(self, z: np.ndarray, channels: int, code: Callable) -> np.ndarray:
        """Latents (h, w, M), from the symbols (n,) that `code` gives in each pass.

        Args:
          z: (h/4, w/4, Cz) hyper-latents.
          channels: M.
          code: (scale indexes (n,), means (n,), mask (h, w, M) of the pass's n latents) -> symbols (n,).
        """
        h, w = 4 * z.shape[0], 4 * z.shape[1]
        z_hat, y_hat = z[None] + self._centre, np.zeros((h, w, channels), np.float32)
        known = np.zeros((h, w, 1), bool)
        for now in self._model.passes(h, w):
            index, mean = (
                np.asarray(part)[0]
                for part in _predict(self._model, self._params, z_hat, y_hat[None], known[None].astype(np.float32))
            )
            at = np.broadcast_to(now, y_hat.shape)
            y_hat[at] = code(index[at], mean[at], at) + mean[at]
            known = known | now
        return y_hat


def _hash(index: np.ndarray) -> bytes:
    return hashlib.sha256(index.astype(np.uint8).tobytes()).digest()[:_HASH_BYTES]
