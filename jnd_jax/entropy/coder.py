"""Range coding of integer symbols with integer tables, by the `constriction` library.

`constriction` takes float probabilities; multiples of 2^-16 are exact in every float arithmetic, so that its
own quantisation of them is the same everywhere.
"""

from __future__ import annotations

import constriction
import numpy as np

from jnd_jax.entropy.tables import TOTAL
from jnd_jax.errors import JndError

_BYTE = np.full(256, TOTAL // 256)


def _model(frequency: np.ndarray):
    probabilities = frequency.astype(np.float64) / TOTAL
    return constriction.stream.model.Categorical(probabilities, perfect=False)


class RangeEncoder:
    """Encodes runs of symbols, each run with one table."""

    def __init__(self):
        self._coder = constriction.stream.queue.RangeEncoder()

    def encode(self, symbols: np.ndarray, frequency: np.ndarray) -> None:
        """Appends (n,) integers in 0..len(frequency) - 1; `frequency` sums to 2^16."""
        self._coder.encode(np.ascontiguousarray(symbols, np.int32), _model(frequency))

    def encode_bytes(self, values: np.ndarray) -> None:
        """Appends (n,) uint8 values as they are."""
        self.encode(values, _BYTE)

    def finish(self) -> bytes:
        """All that was encoded."""
        return self._coder.get_compressed().astype("<u4").tobytes()


class RangeDecoder:
    """Decodes what `RangeEncoder` wrote, run by run.

    Every method raises JndError where the data cannot be what an encoder wrote.
    """

    def __init__(self, data: bytes):
        if len(data) % 4:
            raise JndError("The coded data is damaged: its size is not a multiple of 4 bytes; get a fresh copy of the file.")
        self._coder = constriction.stream.queue.RangeDecoder(np.frombuffer(data, "<u4").astype(np.uint32))

    def decode(self, count: int, frequency: np.ndarray) -> np.ndarray:
        """(count,) int32 symbols."""
        try:
            return self._coder.decode(_model(frequency), count)
        except AssertionError as error:
            raise JndError("The coded data is damaged; get a fresh copy of the file.") from error

    def decode_bytes(self, count: int) -> np.ndarray:
        """(count,) uint8 values."""
        return self.decode(count, _BYTE).astype(np.uint8)

    def finish(self) -> None:
        """Checks that nothing is left."""
        if not self._coder.maybe_exhausted():
            raise JndError("The coded data is damaged: some of it was left over; get a fresh copy of the file.")
