"""Codes symbols of latents and hyper-latents by a range coder: which table codes each, and what lies beyond the tables.

Latents are coded by scale index: all of index 0, then those of 1, and so on. A table of half width k codes -k..k and an
escape symbol. The values that escape follow at the end, as 16-bit integers. Hyper-latents of models with a prior are coded
channel by channel, with a table for each.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from jnd_jax.entropy.coder import back_end

# Largest |symbol|: an escaped one has 16 bits.
SYMBOL_MAX = 2**15 - 1

# Symbols that are sorted at once.
_PART = 2**20


def encode_by_index(writer: Any, symbols: np.ndarray, index: np.ndarray, half_width: np.ndarray) -> None:
    """Appends symbols to a range encoder.

    Args:
      writer: an encoder of `coder.back_end`, with a table for each index.
      symbols: integers within +-SYMBOL_MAX, of any shape and type.
      index: uint8 scale indexes, of the same shape.
      half_width: k of each table.
    """
    flat, parts = symbols.reshape(-1), _Parts(index, len(half_width))
    ordered = np.empty(flat.size, np.int16)
    for part, order, runs in parts:
        values, start = flat[part][order], 0
        for run in runs:
            end = start + run.stop - run.start
            ordered[run] = values[start:end]
            start = end
    half = parts.spread(half_width)
    beyond = np.flatnonzero(np.abs(ordered) > half)
    escaped = ordered[beyond].astype("<i2")
    ordered += half
    ordered[beyond] = 2 * half[beyond] + 1
    for level, run in parts.runs():
        writer.encode(ordered[run], level)
    writer.encode_bytes(escaped.view(np.uint8))


def decode_by_index(reader: Any, index: np.ndarray, half_width: np.ndarray) -> np.ndarray:
    """Symbols that `encode_by_index` wrote, int16 of the shape of `index` (uint8); `reader` is the decoder."""
    parts = _Parts(index, len(half_width))
    ordered = np.empty(index.size, np.int16)
    for level, run in parts.runs():
        ordered[run] = reader.decode(run.stop - run.start, level)
    half = parts.spread(half_width)
    ordered -= half
    escapes = np.flatnonzero(ordered > half)
    ordered[escapes] = reader.decode_bytes(2 * len(escapes)).view("<i2")
    symbols = np.empty(index.size, np.int16)
    for part, order, runs in parts:
        symbols[part][order] = np.concatenate([ordered[run] for run in runs])
    return symbols.reshape(index.shape)


class _Parts:
    """Sorts symbols by scale index, a part at a time: sorting all at once would take eight bytes a symbol."""

    def __init__(self, index: np.ndarray, levels: int):
        self._flat, self._levels = index.reshape(-1), levels
        self._parts = [slice(start, start + _PART) for start in range(0, self._flat.size, _PART)]
        counts = [np.bincount(self._flat[part], minlength=levels) for part in self._parts]
        self._counts = np.array(counts).reshape(len(counts), levels)
        self._total = self._counts.sum(axis=0)
        self._ends = np.cumsum(self._total)

    def spread(self, values: np.ndarray) -> np.ndarray:
        """The int16 value of each symbol's level; symbols are in the order of levels."""
        return np.repeat(values.astype(np.int16), self._total)

    def runs(self) -> Iterator[tuple[int, slice]]:
        """Each level that occurs, with slices of its symbols in the order of levels, at most _PART symbols a slice."""
        occur = np.flatnonzero(self._total)
        for level, count, end in zip(occur.tolist(), self._total[occur].tolist(), self._ends[occur].tolist()):
            for start in range(end - count, end, _PART):
                yield level, slice(start, min(start + _PART, end))

    def __iter__(self) -> Iterator[tuple[slice, np.ndarray, list[slice]]]:
        """For each part: where it lies, the order that groups it by level, and where its groups lie.

        The last are slices in the order of levels of all symbols.
        """
        starts = self._ends - self._total
        for part, counts in zip(self._parts, self._counts):
            if len(self._parts) == 1:
                runs = [slice(0, self._flat.size)]  # Its groups follow one another.
            else:
                occur = np.flatnonzero(counts)
                runs = list(map(slice, starts[occur].tolist(), (starts + counts)[occur].tolist()))
            yield part, np.argsort(self._flat[part], kind="stable"), runs
            starts = starts + counts


def encode_channels(z: np.ndarray, tables: np.ndarray, coder: str) -> bytes:
    """Bytes of integers (h, w, C), channel by channel.

    Args:
      z: the integers.
      tables: (C, 2 k + 1) frequencies of -k..k in each channel.
      coder: as in `coder.back_end`.
    """
    writer = back_end(coder)[0](list(tables))
    for channel in range(z.shape[-1]):
        writer.encode(z[..., channel].reshape(-1) + len(tables[channel]) // 2, channel)
    return writer.finish()


def decode_channels(data: bytes, height: int, width: int, tables: np.ndarray, coder: str) -> np.ndarray:
    """(height, width, C) float32 integers from the bytes of `encode_channels`; JndError if they are damaged."""
    reader = back_end(coder)[1](data, list(tables))
    z = [reader.decode(height * width, channel) - len(table) // 2 for channel, table in enumerate(tables)]
    reader.finish()
    return np.stack(z, axis=-1).astype(np.float32).reshape(height, width, -1)
