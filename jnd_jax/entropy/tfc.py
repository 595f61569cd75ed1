"""Range coding by TensorFlow Compression's ops, so that a TensorFlow graph can decode the bytes; see `entropy.coder`.

The ops take all tables at the start and code many symbols in one call, so the encoder codes when it finishes.
Their own escape (overflow) code is not used: on damaged data it may never end.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tensorflow_compression_ops as ops

from jnd_jax.entropy.tables import BYTE, PRECISION
from jnd_jax.errors import JndError


def lookup(tables: Sequence[np.ndarray]) -> np.ndarray:
    """The ops' form of frequency tables, int32: for each its precision, then its cumulative frequencies from 0 on."""
    return np.concatenate(
        [part for table in tables for part in ([PRECISION, 0], np.cumsum(table, dtype=np.int64))]
    ).astype(np.int32)


class RangeEncoder:
    """As `entropy.coder.RangeEncoder`."""

    def __init__(self, tables: Sequence[np.ndarray]):
        self._tables = [*tables, BYTE]
        self._symbols, self._indexes = [], []

    def encode(self, symbols: np.ndarray, table: int) -> None:
        """Appends (n,) integers in 0..k - 1, k the length of table number `table`."""
        self._symbols.append(np.asarray(symbols, np.int32))
        self._indexes.append(np.full(len(symbols), table, np.int32))

    def encode_bytes(self, values: np.ndarray) -> None:
        """Appends (n,) uint8 values as they are."""
        self.encode(values, len(self._tables) - 1)

    def finish(self) -> bytes:
        """All that was encoded."""
        handle = ops.create_range_encoder([], lookup(self._tables))
        handle = ops.entropy_encode_index(handle, np.concatenate(self._indexes), np.concatenate(self._symbols))
        return ops.entropy_encode_finalize(handle).numpy()


class RangeDecoder:
    """As `entropy.coder.RangeDecoder`, except that the ops notice little damage."""

    def __init__(self, data: bytes, tables: Sequence[np.ndarray]):
        self._byte = len(tables)
        self._handle = ops.create_range_decoder(tf.constant(data), lookup([*tables, BYTE]))

    def decode(self, count: int, table: int) -> np.ndarray:
        """(count,) int32 symbols."""
        self._handle, symbols = ops.entropy_decode_index(
            self._handle, np.full(count, table, np.int32), [count], Tdecoded=tf.int32
        )
        return symbols.numpy()

    def decode_bytes(self, count: int) -> np.ndarray:
        """(count,) uint8 values."""
        return self.decode(count, self._byte).astype(np.uint8)

    def finish(self) -> None:
        """Checks that nothing is left."""
        if not ops.entropy_decode_finalize(self._handle).numpy():
            raise JndError("The coded data is damaged: some of it was left over; get a fresh copy of the file.")
