"""Symbols of latents and hyper-latents by a range coder: which table codes each, and what lies beyond the tables.

Latents are coded by scale index: all of index 0, then those of 1, and so on. A table of half width k codes -k..k and an
escape; the values that escape follow, as 16-bit integers. Hyper-latents are coded channel by channel, by a table each.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jnd_jax.entropy.coder import back_end
from jnd_jax.entropy.tables import PRECISION
from jnd_jax.errors import JndError

# Largest |symbol|: an escaped one has 16 bits.
SYMBOL_MAX = 2**15 - 1


def encode_by_index(writer: Any, symbols: np.ndarray, index: np.ndarray, half_width: np.ndarray) -> None:
    """Appends symbols to a range encoder.

    Args:
      writer: an encoder of `coder.back_end`, with a table for each index.
      symbols: integers within +-SYMBOL_MAX, of any shape and type.
      index: uint8 scale indexes, of the same shape.
      half_width: k of each table.
    """
    flat, (order, counts) = symbols.reshape(-1).astype(np.int32), _by_index(index, len(half_width))
    ordered, escaped, start = flat[order], [np.empty(0, np.int32)], 0
    for level, count in enumerate(counts):
        if count:
            half = half_width[level]
            run = ordered[start : start + count]
            beyond = np.abs(run) > half
            escaped.append(run[beyond])
            writer.encode(np.where(beyond, 2 * half + 1, run + half), level)
            start += count
    writer.encode_bytes(np.concatenate(escaped).astype("<i2").view(np.uint8))


def decode_by_index(reader: Any, index: np.ndarray, half_width: np.ndarray) -> np.ndarray:
    """Symbols that `encode_by_index` wrote, float32 of the shape of `index` (uint8); `reader` is the decoder."""
    order, counts = _by_index(index, len(half_width))
    ordered, escapes, start = np.empty(index.size, np.int32), [np.empty(0, np.int64)], 0
    for level, count in enumerate(counts):
        if count:
            half = half_width[level]
            run = reader.decode(count, level)
            escapes.append(start + np.flatnonzero(run == 2 * half + 1))
            ordered[start : start + count] = run - half
            start += count
    at = np.concatenate(escapes)
    ordered[at] = reader.decode_bytes(2 * len(at)).view("<i2")
    symbols = np.empty(index.size, np.float32)
    symbols[order] = ordered
    return symbols.reshape(index.shape)


def _by_index(index: np.ndarray, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Order that groups the flat uint8 scale indexes, and how many each of the groups has."""
    flat = index.reshape(-1)
    return np.argsort(flat, kind="stable"), np.bincount(flat, minlength=levels)


def encode_channels(z: np.ndarray, tables: np.ndarray, coder: str) -> bytes:
    """Bytes of integers (h, w, C), channel by channel; `tables` (C, 2 k + 1) code -k..k, `coder` as in `coder.back_end`."""
    writer = back_end(coder)[0](list(tables))
    for channel in range(z.shape[-1]):
        writer.encode(z[..., channel].reshape(-1) + len(tables[channel]) // 2, channel)
    return writer.finish()


def decode_channels(data: bytes, height: int, width: int, tables: np.ndarray, coder: str) -> np.ndarray:
    """(height, width, C) float32 integers from the bytes of `encode_channels`; JndError where these are damaged."""
    reader = back_end(coder)[1](data, list(tables))
    z = [reader.decode(height * width, channel) - len(table) // 2 for channel, table in enumerate(tables)]
    reader.finish()
    return np.stack(z, axis=-1).astype(np.float32).reshape(height, width, -1)


def check_size(size: int, positions: int, tables: np.ndarray) -> None:
    """Raises JndError where `size` bytes cannot hold `positions` of all channels: a bound on what a file may ask for."""
    if positions * np.sum(PRECISION - np.log2(tables.max(axis=-1))) > 8 * size + 64:
        raise JndError("The coded data is too short for the declared image size; get a fresh copy of the file.")
