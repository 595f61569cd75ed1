"""Range coding of integer symbols with integer tables, by the `constriction` library.

`jnd_jax.entropy.tfc` has the same classes for TensorFlow Compression's range coder; `back_end` chooses.
`constriction` takes float probabilities. Multiples of 2^-16 are exact in every float arithmetic, so it quantises
them alike everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import constriction
import numpy as np

from jnd_jax.entropy.tables import BYTE, TOTAL
from jnd_jax.errors import JndError


def back_end(name: str) -> tuple[type, type]:
    """(RangeEncoder, RangeDecoder) of the coder that a .jnd file names: "constriction" or "tfc".

    Raises:
      JndError: TensorFlow Compression's ops are not installed.
    """
    if name == "constriction":
        return RangeEncoder, RangeDecoder
    try:
        from jnd_jax.entropy import tfc
    except ImportError as error:
        raise JndError(
            "The coder tfc needs an environment of its own: install it there with pip install "
            f"'jnd-jax[tfc]', and transcode files there ({error})."
        ) from error
    return tfc.RangeEncoder, tfc.RangeDecoder


def _model(frequency: np.ndarray):
    probabilities = frequency.astype(np.float64) / TOTAL
    return constriction.stream.model.Categorical(probabilities, perfect=False)


def _models(tables: Sequence[np.ndarray]) -> Callable[[int], Any]:
    """Table number -> its `_model`, made once. The number after the last is that of the table for bytes."""
    return cache(lambda table: _model(tables[table] if table < len(tables) else BYTE))


class RangeEncoder:
    """Encodes runs of symbols, each run with one table.

    Args:
      tables: integer frequencies by table, each sums to 2^16.
    """

    def __init__(self, tables: Sequence[np.ndarray]):
        self._coder = constriction.stream.queue.RangeEncoder()
        self._byte, self._model = len(tables), _models(tables)

    def encode(self, symbols: np.ndarray, table: int) -> None:
        """Appends (n,) integers in 0..k - 1, k the length of table number `table`."""
        self._coder.encode(np.ascontiguousarray(symbols, np.int32), self._model(table))

    def encode_bytes(self, values: np.ndarray) -> None:
        """Appends (n,) uint8 values as they are."""
        self.encode(values, self._byte)

    def finish(self) -> bytes:
        """All that was encoded."""
        return self._coder.get_compressed().astype("<u4").tobytes()


class RangeDecoder:
    """Decodes what `RangeEncoder` wrote with the same tables, run by run.

    Every method raises JndError where the data cannot be what an encoder wrote.
    """

    def __init__(self, data: bytes, tables: Sequence[np.ndarray]):
        if len(data) % 4:
            raise JndError(
                "The coded data is damaged: its size is not a multiple of 4 bytes; get a fresh copy of the file."
            )
        self._coder = constriction.stream.queue.RangeDecoder(np.frombuffer(data, "<u4").astype(np.uint32))
        self._byte, self._model = len(tables), _models(tables)

    def decode(self, count: int, table: int) -> np.ndarray:
        """(count,) int32 symbols."""
        try:
            return self._coder.decode(self._model(table), count)
        except AssertionError as error:
            raise JndError("The coded data is damaged; get a fresh copy of the file.") from error

    def decode_bytes(self, count: int) -> np.ndarray:
        """(count,) uint8 values."""
        return self.decode(count, self._byte).astype(np.uint8)

    def finish(self) -> None:
        """Checks that nothing is left."""
        if not self._coder.maybe_exhausted():
            raise JndError("The coded data is damaged: some of it was left over; get a fresh copy of the file.")


class PartialRangeDecoder:
    """As `RangeDecoder`, for data that may end too soon. Symbols that it does not decide become the likeliest symbol.

    The missing bits lie between all zeros and all ones. Symbols are decided as long as both decode to the same.
    """

    _MISSING = 4

    def __init__(self, data: bytes, tables: Sequence[np.ndarray]):
        words = data[: len(data) // 4 * 4]
        self._bounds = [RangeDecoder(words + 4 * self._MISSING * byte, tables) for byte in (b"\x00", b"\xff")]
        self._likeliest = [int(np.argmax(table)) for table in tables]
        self._over = False

    def decode(self, count: int, table: int) -> np.ndarray:
        """(count,) int32 symbols."""
        return self._decode(lambda reader: reader.decode(count, table), count, self._likeliest[table])

    def decode_bytes(self, count: int) -> np.ndarray:
        """(count,) uint8 values."""
        return self._decode(lambda reader: reader.decode_bytes(count), count, 0).astype(np.uint8)

    def _decode(self, decode: Callable[[RangeDecoder], np.ndarray], count: int, likeliest: int) -> np.ndarray:
        decided = np.full(count, likeliest, np.int32)
        if not self._over:
            try:
                low, high = map(decode, self._bounds)
            except JndError:
                self._over = True
                return decided
            same = int(np.argmin(np.append(low == high, False)))
            self._over = same < count
            decided[:same] = low[:same]
        return decided

    def finish(self) -> None:
        """Nothing to check."""
