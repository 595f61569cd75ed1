"""Latents to bytes and back, in NumPy: the only place where the integer scale path decides what a bit means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from jnd_jax.codec import hyper
from jnd_jax.codec.linear import LINEAR_UNITS
from jnd_jax.entropy.coder import back_end
from jnd_jax.entropy.tables import PRECISION
from jnd_jax.errors import JndError
from jnd_jax.threads import single_blas_thread

_SYMBOL_MAX = 2**15 - 1

# Of y: one integer 0..1000, or (h, w) of them by position. The hyper-latents know one quality only.
Quality = int | np.ndarray


class Latents(NamedTuple):
    """Decoded latents, each (h, w, M): integer residual symbols, scale indexes (uint8), gained latents y_hat."""

    symbols: np.ndarray
    indexes: np.ndarray
    y_hat: np.ndarray


@dataclass(frozen=True)
class LatentCoder:
    """All that coding needs, as NumPy arrays; built by `latent_coder`.

    Attributes:
      hyper_analysis, mean: float parameters of those paths.
      scale: integer parameters of the scale path, carried by float32.
      scale_offset: (nodes, M) int8.
      log_inverse_gain: (nodes, M) float.
      synthesis_energy: (M,) squared norm of each latent's basis function in pixels.
      y_tables: per scale level the frequencies of -k..k and the escape symbol.
      y_start, y_half_width, y_bits: where each level's -k stands in the flat table, its k, and the bits of each entry.
      z_tables: (nodes, Cz, 255) frequencies of -127..127.
    """

    hyper_analysis: Mapping[str, Any]
    mean: Mapping[str, Any]
    scale: Mapping[str, Any]
    scale_offset: np.ndarray
    log_inverse_gain: np.ndarray
    synthesis_energy: np.ndarray
    y_tables: list[np.ndarray]
    y_start: np.ndarray
    y_half_width: np.ndarray
    y_bits: np.ndarray
    z_tables: np.ndarray

    def check_size(self, size: int, positions: int, quality: int) -> None:
        """Raises JndError where `size` bytes cannot hold `positions` hyper-latents: a bound on what a file may ask for."""
        largest = self.z_tables[hyper.nearest_node(quality)].max(axis=-1)
        if positions * np.sum(PRECISION - np.log2(largest)) > 8 * size + 64:
            raise JndError("The coded data is too short for the declared image size; get a fresh copy of the file.")

    @single_blas_thread
    def hyper_latents(self, y: np.ndarray) -> np.ndarray:
        """Integer hyper-latents (h/4, w/4, Cz), float32, of gained latents y (h, w, M)."""
        z = np.round(hyper.hyper_analysis(np, self.hyper_analysis, y))
        return np.clip(z, -hyper.Z_MAX, hyper.Z_MAX)

    def encode_z(self, z: np.ndarray, quality: int, coder: str = "constriction") -> bytes:
        """Bytes of the hyper-latents, channel by channel; `coder` as in `entropy.coder.back_end`."""
        writer = back_end(coder)[0](self.z_tables[hyper.nearest_node(quality)])
        for channel in range(z.shape[-1]):
            writer.encode(z[..., channel].reshape(-1) + hyper.Z_MAX, channel)
        return writer.finish()

    def decode_z(self, data: bytes, height: int, width: int, quality: int, coder: str = "constriction") -> np.ndarray:
        """Hyper-latents (height, width, Cz) from `encode_z`'s bytes."""
        tables = self.z_tables[hyper.nearest_node(quality)]
        reader = back_end(coder)[1](data, tables)
        z = [reader.decode(height * width, channel) for channel in range(len(tables))]
        reader.finish()
        return (np.stack(z, axis=-1) - hyper.Z_MAX).astype(np.float32).reshape(height, width, -1)

    def encode_y(self, y: np.ndarray, z: np.ndarray, quality: Quality, coder: str = "constriction") -> bytes:
        """Bytes of gained latents y (h, w, M) given the hyper-latents, and the quality: of all, or (h, w) of each position.

        A symbol moves one step towards zero where that lowers bits + lambda * distortion (rate-distortion
        optimised quantisation), the distortion that of the linear synthesis alone.
        """
        writer, weight = back_end(coder)[0](self.y_tables), self._distortion_weight(quality)

        def code(index: np.ndarray, mean: np.ndarray, at: np.ndarray) -> np.ndarray:
            symbols = self._quantise(y[at] - mean, index, weight if weight.ndim == 1 else weight[at])
            self._encode_pass(writer, symbols, index)
            return symbols

        self._two_passes(z, quality, code)
        return writer.finish()

    def decode_y(self, data: bytes, z: np.ndarray, quality: Quality, coder: str = "constriction") -> Latents:
        """What `encode_y`'s bytes hold.

        Raises:
          JndError: the data is damaged.
        """
        reader = back_end(coder)[1](data, self.y_tables)
        latents = self._two_passes(z, quality, lambda index, mean, at: self._decode_pass(reader, index))
        reader.finish()
        return latents

    def recode_y(self, data: bytes, z: np.ndarray, quality: Quality, coder: str, new_coder: str) -> bytes:
        """The bytes that `encode_y` with `new_coder` would have written in place of its `data` with `coder`.

        Raises:
          JndError: the data is damaged.
        """
        reader, writer = back_end(coder)[1](data, self.y_tables), back_end(new_coder)[0](self.y_tables)

        def code(index: np.ndarray, mean: np.ndarray, at: np.ndarray) -> np.ndarray:
            symbols = self._decode_pass(reader, index)
            self._encode_pass(writer, symbols, index)
            return symbols

        self._two_passes(z, quality, code)
        reader.finish()
        return writer.finish()

    def _distortion_weight(self, quality: Quality) -> np.ndarray:
        """(..., M): `hyper.distortion_weight` between the nodes."""
        quality = np.asarray(quality)[..., None]
        low = np.minimum(quality[..., 0] // hyper.NODE_SPACING, hyper.NODES - 2)
        t = quality / hyper.NODE_SPACING - low[..., None]
        log_gain = (1 - t) * self.log_inverse_gain[low] + t * self.log_inverse_gain[low + 1]
        return hyper.distortion_weight(np, quality, log_gain, self.synthesis_energy)

    def _quantise(self, residual: np.ndarray, index: np.ndarray, weight: np.ndarray) -> np.ndarray:
        symbols = np.clip(np.round(residual), -_SYMBOL_MAX, _SYMBOL_MAX)
        rows, channels = np.nonzero(symbols)
        value, symbol, level = residual[rows, channels], symbols[rows, channels], index[rows, channels]
        lower = symbol - np.sign(symbol)
        half = self.y_half_width[level]
        inside = np.abs(symbol) <= half
        start = self.y_start[level] + half
        at = lambda s: self.y_bits[(start + np.where(inside, s, 0)).astype(np.int64)]
        distortion = (value - lower) ** 2 - (value - symbol) ** 2
        weight = np.broadcast_to(weight, residual.shape)[rows, channels]
        better = inside & (at(symbol) - at(lower) > weight * distortion)
        symbols[rows, channels] = np.where(better, lower, symbol)
        return symbols

    @single_blas_thread
    def _two_passes(self, z: np.ndarray, quality: Quality, code) -> Latents:
        """Runs `code(scale index, mean, where) -> symbols`, each (n, M), over the anchors, then over the rest."""
        h, w = 4 * z.shape[0], 4 * z.shape[1]
        anchor = hyper.anchors(np, h, w)
        offset = hyper.scale_offset(self.scale_offset, quality).astype(np.float32)
        scale_features = hyper.scale_features(np, self.scale, z)
        mean_features = hyper.mean_features(np, self.mean, z)
        symbols = np.zeros((h, w, offset.shape[-1]), np.float32)
        indexes = np.zeros(symbols.shape, np.uint8)
        y_hat = np.zeros_like(symbols)
        # Before the first pass nothing is known, so that one position speaks for all.
        known = symbols[:1, :1].copy(), y_hat[:1, :1].copy(), np.zeros((1, 1, 1), np.float32)
        for at in (anchor[..., 0] > 0, anchor[..., 0] == 0):
            known_symbols, known_y, decoded = known
            of_scale = hyper.scale_context(np, self.scale, known_symbols, decoded)
            of_mean, linear = hyper.mean_context(np, self.mean, known_y, decoded)
            here = lambda x: np.broadcast_to(x, (h, w, x.shape[-1]))[at]
            index = hyper.scale_indexes(
                np, self.scale, scale_features[at], here(of_scale), offset if offset.ndim == 1 else offset[at]
            )
            mean = hyper.means(np, self.mean, mean_features[at], here(of_mean), here(linear))
            indexes[at] = index
            symbols[at] = code(indexes[at], mean, at)
            y_hat[at] = symbols[at] + mean
            known = symbols, y_hat, anchor
        return Latents(symbols, indexes, y_hat)

    def _encode_pass(self, coder, symbols: np.ndarray, index: np.ndarray) -> None:
        symbols, (order, counts) = symbols.reshape(-1).astype(np.int32), _by_index(index)
        escaped, start = [], 0
        symbols = symbols[order]
        for level, count in enumerate(counts):
            if count:
                half = self.y_half_width[level]
                run = symbols[start : start + count]
                beyond = np.abs(run) > half
                escaped.append(run[beyond])
                coder.encode(np.where(beyond, 2 * half + 1, run + half), level)
            start += count
        coder.encode_bytes(np.concatenate(escaped).astype("<i2").view(np.uint8))

    def _decode_pass(self, coder, index: np.ndarray) -> np.ndarray:
        order, counts = _by_index(index)
        ordered, escapes, start = np.empty(index.size, np.int32), [], 0
        for level, count in enumerate(counts):
            if count:
                half = self.y_half_width[level]
                run = coder.decode(count, level)
                escapes.append(start + np.flatnonzero(run == 2 * half + 1))
                ordered[start : start + count] = run - half
            start += count
        escapes = np.concatenate(escapes)
        ordered[escapes] = coder.decode_bytes(2 * len(escapes)).view("<i2")
        symbols = np.empty(index.size, np.float32)
        symbols[order] = ordered
        return symbols.reshape(index.shape)


def _by_index(index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Order that groups the flat symbols by scale index, and how many each of the 64 groups has."""
    flat = index.reshape(-1)
    return np.argsort(flat, kind="stable"), np.bincount(flat, minlength=hyper.SCALE_LEVELS)


def latent_coder(params: Mapping[str, np.ndarray], tables: Mapping[str, np.ndarray]) -> LatentCoder:
    """The coder of a model file's `params` and `tables` (see `freeze.coding_tables`)."""

    def float_layer(name):
        return {part: np.asarray(params[f"{name}_{part}"], np.float32) for part in ("weight", "bias")}

    def integer_layer(name):
        part = lambda p: tables[f"scale.{name}.{p}"].astype(np.float32)
        return {"weight": part("weight"), "bias": part("bias"), "unit": np.exp2(-part("shift"))}

    layers = ("up1", "up2", "context1", "context2", "merge", "out")
    half_width = tables["y.half_width"].astype(np.int64)
    ends = np.cumsum(2 * half_width + 2)
    synthesis = np.asarray(params["linear_synthesis"], np.float64) * LINEAR_UNITS["synthesis"]
    return LatentCoder(
        hyper_analysis={n: float_layer(f"hyper_analysis_{n}") for n in ("reduce", "down1", "down2")},
        mean={n: float_layer(f"mean_{n}") for n in layers} | {"cross": np.asarray(params["mean_cross"], np.float32)},
        scale={n: integer_layer(n) for n in layers},
        scale_offset=tables["scale_offset"],
        log_inverse_gain=np.asarray(params["log_inverse_gain"], np.float64),
        synthesis_energy=np.sum(synthesis**2, axis=1),
        y_tables=np.split(tables["y.frequency"], ends[:-1]),
        y_start=ends - 2 * half_width - 2,
        y_half_width=half_width,
        y_bits=PRECISION - np.log2(tables["y.frequency"]),
        z_tables=tables["z.frequency"],
    )
