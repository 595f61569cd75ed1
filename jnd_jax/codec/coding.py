"""Latents to bytes and back, in NumPy: the only place where the integer scale path decides what a bit means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from jnd_jax.bitstream import Header
from jnd_jax.codec import hyper
from jnd_jax.codec.linear import FOOTPRINT, LINEAR_UNITS, round_up
from jnd_jax.entropy import symbols
from jnd_jax.entropy.coder import PartialRangeDecoder, back_end
from jnd_jax.entropy.tables import PRECISION
from jnd_jax.errors import JndError
from jnd_jax.threads import single_blas_thread

# Of each group; the first group has neither of the first two.
_GROUP_LAYERS = ("embed", "context", "own1", "own2", "merge", "mid", "out")

# Of y: one integer 0..1000, or (h, w) of them by position. The hyper-latents know one quality only.
Quality = int | np.ndarray


@dataclass(frozen=True)
class LatentCoder:
    """All that coding needs, as NumPy arrays; built by `latent_coder`.

    Attributes:
      hyper_analysis, mean: float parameters of those paths.
      scale: integer parameters of the scale path, carried by float32.
      scale_offset: (nodes, M) int8.
      log_inverse_gain: (nodes, M) float.
      synthesis: (M, 768) basis functions of the linear synthesis before the post-filter, in pixels of [0, 1].
      y_tables: per scale level the frequencies of -k..k and the escape symbol.
      y_start, y_half_width, y_bits: where each level's -k stands in the flat table, its k, and the bits of each entry.
      z_tables: (nodes, Cz, 255) frequencies of -127..127.
    """

    hyper_analysis: Mapping[str, Any]
    mean: Mapping[str, Any]
    scale: Mapping[str, Any]
    scale_offset: np.ndarray
    log_inverse_gain: np.ndarray
    synthesis: np.ndarray
    y_tables: list[np.ndarray]
    y_start: np.ndarray
    y_half_width: np.ndarray
    y_bits: np.ndarray
    z_tables: np.ndarray

    @property
    def group_channels(self) -> list[slice]:
        """The channels of each group; each is coded in two passes."""
        return hyper.group_channels(self.mean)

    @cached_property
    def synthesis_energy(self) -> np.ndarray:
        """(M,) squared norms of the basis functions."""
        return np.sum(self.synthesis**2, axis=1)

    @property
    def passes(self) -> int:
        """In which y is coded."""
        return 2 * len(self.mean["groups"])

    def check_size(self, size: int, positions: int, quality: int) -> None:
        """Raises JndError where `size` bytes cannot hold `positions` hyper-latents: a bound on what a file may ask for."""
        symbols.check_size(size, positions, self.z_tables[hyper.nearest_node(quality)])

    @single_blas_thread
    def hyper_latents(self, y: np.ndarray) -> np.ndarray:
        """Integer hyper-latents (h/4, w/4, Cz), float32, of gained latents y (h, w, M)."""
        z = np.round(hyper.hyper_analysis(np, self.hyper_analysis, y))
        return np.clip(z, -hyper.Z_MAX, hyper.Z_MAX)

    def encode_z(self, z: np.ndarray, quality: int, coder: str = "constriction") -> bytes:
        """Bytes of the hyper-latents, channel by channel; `coder` as in `entropy.coder.back_end`."""
        return symbols.encode_channels(z, self.z_tables[hyper.nearest_node(quality)], coder)

    def decode_z(self, data: bytes, height: int, width: int, quality: int, coder: str = "constriction") -> np.ndarray:
        """Hyper-latents (height, width, Cz) from `encode_z`'s bytes."""
        return symbols.decode_channels(data, height, width, self.z_tables[hyper.nearest_node(quality)], coder)

    def encode_y(
        self,
        y: np.ndarray,
        z: np.ndarray,
        quality: Quality,
        coder: str = "constriction",
        energy: Callable[[slice, int], np.ndarray] | None = None,
    ) -> bytes:
        """Bytes of gained latents.

        A symbol moves one step towards zero where that lowers bits + lambda * distortion (rate-distortion optimised
        quantisation), the distortion that of the linear synthesis alone.

        Args:
          y: (h, w, M).
          z: (h/4, w/4, Cz) hyper-latents.
          quality: of all, or (h, w) of each position.
          coder: as in `entropy.coder.back_end`.
          energy: (channels, half) -> distortion of a unit error in these latents, as in `hyper.distortion_weight`,
            broadcastable to their half of y; None: squared error.
        """
        writer, latents = back_end(coder)[0](self.y_tables), hyper.halves(np, y)
        split = lambda x: (x, x) if x.ndim == 1 else hyper.halves(np, x)
        quality_of, gain = split(np.asarray(quality)[..., None]), split(self.log_inverse_gain_at(quality))
        energy = energy or (lambda channels, half: self.synthesis_energy[channels])

        def code(channels: slice, half: int, index: np.ndarray, mean: np.ndarray) -> np.ndarray:
            index = index.astype(np.uint8)
            residual = latents[half][..., channels] - mean
            weight = hyper.distortion_weight(np, quality_of[half], gain[half][..., channels], energy(channels, half))
            rounded = self._quantise(residual, index, weight)
            symbols.encode_by_index(writer, rounded, index, self.y_half_width)
            return rounded

        self._passes(z, quality, code)
        return writer.finish()

    def decode_y(
        self,
        data: bytes,
        z: np.ndarray,
        quality: Quality,
        coder: str = "constriction",
        groups: int | None = None,
        partial: bool = False,
    ) -> hyper.Coded:
        """What `encode_y`'s bytes hold; its scale indexes as uint8.

        Args:
          data: the chunk y.
          z: (h/4, w/4, Cz) hyper-latents.
          quality: 0..1000, one or (h, w).
          coder: as in `entropy.coder.back_end`.
          groups: how many groups of channels to decode; None: all.
          partial: whether `data` may end too soon, see `entropy.coder.PartialRangeDecoder`.

        Raises:
          JndError: the data is damaged.
        """
        reader = (PartialRangeDecoder if partial else back_end(coder)[1])(data, self.y_tables)
        coded = self._passes(z, quality, lambda channels, half, index, mean: self._decode(reader, index), groups)
        if groups is None:
            reader.finish()
        return coded._replace(indexes=coded.indexes.astype(np.uint8))

    def recode_y(self, data: bytes, z: np.ndarray, quality: Quality, coder: str, new_coder: str) -> bytes:
        """The bytes that `encode_y` with `new_coder` would have written in place of its `data` with `coder`.

        Raises:
          JndError: the data is damaged.
        """
        reader, writer = back_end(coder)[1](data, self.y_tables), back_end(new_coder)[0](self.y_tables)

        def code(channels: slice, half: int, index: np.ndarray, mean: np.ndarray) -> np.ndarray:
            decoded = self._decode(reader, index)
            symbols.encode_by_index(writer, decoded, index.astype(np.uint8), self.y_half_width)
            return decoded

        self._passes(z, quality, code)
        reader.finish()
        return writer.finish()

    def _decode(self, reader, index: np.ndarray) -> np.ndarray:
        return symbols.decode_by_index(reader, index.astype(np.uint8), self.y_half_width)

    def log_inverse_gain_at(self, quality: Quality) -> np.ndarray:
        """(M,) or (h, w, M): `log_inverse_gain` at one quality 0..1000 or at (h, w), linear between the nodes."""
        quality = np.asarray(quality)[..., None]
        low = np.minimum(quality[..., 0] // hyper.NODE_SPACING, hyper.NODES - 2)
        t = quality / hyper.NODE_SPACING - low[..., None]
        return (1 - t) * self.log_inverse_gain[low] + t * self.log_inverse_gain[low + 1]

    def _quantise(self, residual: np.ndarray, index: np.ndarray, weight: np.ndarray) -> np.ndarray:
        rounded = np.clip(np.round(residual), -symbols.SYMBOL_MAX, symbols.SYMBOL_MAX)
        at = np.nonzero(rounded)
        value, symbol, level = residual[at], rounded[at], index[at]
        lower = symbol - np.sign(symbol)
        half = self.y_half_width[level]
        inside = np.abs(symbol) <= half
        start = self.y_start[level] + half
        bits = lambda s: self.y_bits[(start + np.where(inside, s, 0)).astype(np.int64)]
        distortion = (value - lower) ** 2 - (value - symbol) ** 2
        better = inside & (bits(symbol) - bits(lower) > np.broadcast_to(weight, residual.shape)[at] * distortion)
        rounded[at] = np.where(better, lower, symbol)
        return rounded

    @single_blas_thread
    def _passes(self, z: np.ndarray, quality: Quality, code, groups: int | None = None) -> hyper.Coded:
        """`hyper.passes` with this model's parameters, of all groups or the first ones."""
        quality = np.asarray(quality)
        offset = hyper.scale_offset(self.scale_offset, quality).astype(np.float32)
        level = hyper.quality_level(quality).astype(np.float32)[..., None]
        if quality.ndim == 0:
            offset, level = offset[None, None], level[None, None]
        scale, mean = (dict(path, groups=path["groups"][:groups]) for path in (self.scale, self.mean))
        return hyper.passes(np, scale, mean, z, level, offset, code)


def z_of_file(latents: Any, header: Header, chunks: Mapping[str, bytes]) -> np.ndarray:
    """Hyper-latents (h/4, w/4, Cz) of an unpacked file.

    Args:
      latents: the coder of the model that wrote it, a `LatentCoder` or a `float_coding.FloatCoder`.
      header: of the file.
      chunks: of the file, by name.

    Raises:
      JndError: what the header says does not fit the model or the chunks, or the data is damaged.
    """
    for name in ("z", "y"):
        if name not in chunks:
            raise JndError(f"This file has no {name!r} chunk: get a fresh copy of it.")
    if header.passes != latents.passes:
        raise JndError(
            f"The file declares {header.passes} passes, its model has {latents.passes}; get a fresh copy of it."
        )
    h, w = (round_up(side) // FOOTPRINT for side in (header.height, header.width))
    latents.check_size(len(chunks["z"]), h * w, header.quality)
    return latents.decode_z(chunks["z"], h, w, header.quality, header.coder)


def latent_coder(params: Mapping[str, np.ndarray], tables: Mapping[str, np.ndarray]) -> LatentCoder:
    """The coder of a model file's `params` and `tables` (see `freeze.coding_tables`).

    Raises:
      JndError: they are not those of a lapped codec that can code.
    """
    if "scale_offset" not in tables:
        raise JndError("The model has no integer tables to code with: use a model of the 'lapped' family.")

    def float_layer(name):
        return {part: np.asarray(params[f"{name}_{part}"], np.float32) for part in ("weight", "bias")}

    def integer_layer(name):
        part = lambda p: tables[f"scale.{name}.{p}"].astype(np.float32)
        return {"weight": part("weight"), "bias": part("bias"), "unit": np.exp2(-part("shift"))}

    def mean_group(i):
        names = [name for name in _GROUP_LAYERS if f"mean_{i}_{name}_weight" in params]
        cross = {"cross": np.asarray(params[f"mean_{i}_cross"], np.float32)}
        return {name: float_layer(f"mean_{i}_{name}") for name in names} | cross

    def scale_group(i):
        names = [name for name in _GROUP_LAYERS if f"scale.{i}.{name}.weight" in tables]
        return {name: integer_layer(f"{i}.{name}") for name in names}

    groups = range(sum(name.endswith("_cross") for name in params))
    half_width = tables["y.half_width"].astype(np.int64)
    ends = np.cumsum(2 * half_width + 2)
    synthesis = np.asarray(params["linear_synthesis"], np.float64) * LINEAR_UNITS["synthesis"]
    return LatentCoder(
        hyper_analysis={n: float_layer(f"hyper_analysis_{n}") for n in ("reduce", "down1", "down2")},
        mean={n: float_layer(f"mean_{n}") for n in ("up1", "up2")} | {"groups": [mean_group(i) for i in groups]},
        scale={n: integer_layer(n) for n in ("up1", "up2")} | {"groups": [scale_group(i) for i in groups]},
        scale_offset=tables["scale_offset"],
        log_inverse_gain=np.asarray(params["log_inverse_gain"], np.float64),
        synthesis=synthesis,
        y_tables=np.split(tables["y.frequency"], ends[:-1]),
        y_start=ends - 2 * half_width - 2,
        y_half_width=half_width,
        y_bits=PRECISION - np.log2(tables["y.frequency"]),
        z_tables=tables["z.frequency"],
    )
