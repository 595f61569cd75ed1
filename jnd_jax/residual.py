"""A bound on the error of every sample: what a decoded image lacks of the original, coarsely, as a lossless image.

docs/format.md has the normative form of the bytes.
"""

from __future__ import annotations

import numpy as np

from jnd_jax import images
from jnd_jax.errors import JndError

MAX_ERRORS = range(2, 128)
# Another runtime's decoder may round a sample to the next level: the bound leaves room for that.
_ROUNDING = 1
_ZERO = 128


def pack(image: np.ndarray, decoded: np.ndarray, max_error: int) -> bytes:
    """The chunk that brings each sample of `decoded` within `max_error` of `image`, on every machine.

    Args:
        image, decoded: (H, W, 3) uint8.
        max_error: levels, one of `MAX_ERRORS`.

    Raises:
        JndError: another `max_error`.
    """
    if max_error not in MAX_ERRORS:
        raise JndError(
            f"give a largest error of {MAX_ERRORS[0]} to {MAX_ERRORS[-1]} levels, not {max_error}; for none at all "
            "keep the image in a lossless format"
        )
    step = 2 * (max_error - _ROUNDING) + 1
    difference = image.astype(np.int16) - decoded
    steps = np.sign(difference) * ((np.abs(difference) + step // 2) // step)
    return bytes([step]) + images.encode_lossless((steps + _ZERO).astype(np.uint8))


def apply(chunk: bytes, decoded: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 `decoded` with the steps of a chunk that `pack` made; JndError for a damaged one."""
    step = chunk[0] if chunk else 0
    steps = images.decode_lossless(chunk[1:], decoded.shape, "record of errors").astype(np.int16) - _ZERO
    return np.clip(decoded + step * steps, 0, 255).astype(np.uint8)


def max_error(chunk: bytes) -> int:
    """The bound that a chunk was made for."""
    return chunk[0] // 2 + _ROUNDING
