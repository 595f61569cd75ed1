"""Near-lossless mode: the quantised difference of original and decoded image, stored losslessly, bounds every sample's error.

docs/format.md has the normative form of the bytes.
"""

from __future__ import annotations

import struct
import zlib
from itertools import accumulate

import numpy as np

from jnd_jax import images
from jnd_jax.errors import JndError
from jnd_jax.perception.arrays import pieces

_STEP = struct.Struct("<H")
LOSSLESS = 0

# zlib knows one dimension alone, but makes at most so many times as much of a drawing as a lossless image takes.
_BY_ZLIB = 2


def _room(bit_depth: int) -> int:
    """Levels by which another runtime's decoder may differ: it rounds otherwise, and its floats err by less than 2^-12."""
    return max(1, 1 << bit_depth >> 12)


def check_bound(max_error: int, bit_depth: int) -> None:
    """Raises JndError unless `max_error` is a bound for images of this depth: 0, or 2 to half of the levels."""
    if isinstance(max_error, bool) or not isinstance(max_error, int | np.integer):
        raise JndError(f"A largest error must be a whole number of levels, not {max_error!r}.")
    largest = (1 << bit_depth - 1) - 1
    if max_error != LOSSLESS and not 2 <= max_error <= largest:
        raise JndError(f"A largest error of {max_error} levels cannot be kept: give 0 (lossless) or 2 to {largest}.")


def pack(image: np.ndarray, decoded: np.ndarray, max_error: int, bit_depth: int = 8) -> bytes:
    """The chunk that brings each sample of `decoded` within `max_error` of `image`, on every machine.

    It stores the image itself where that is found to take less, as for drawings.

    Args:
        image, decoded: (H, W, 3) or (H, W), uint8, or uint16 for more than 8 bits.
        max_error: levels; 0, or less than another machine may err by, stores the image itself.
        bit_depth: of the samples.

    Raises:
        JndError: a bound that cannot be kept.
    """
    check_bound(max_error, bit_depth)
    room = _room(bit_depth)
    lossless = images.encode_deep_lossless if image.dtype == np.uint16 else images.encode_lossless
    whole = lambda: _STEP.pack(LOSSLESS) + lossless(image)
    if max_error <= room:
        return whole()
    record = _record(image, decoded, 2 * (max_error - room) + 1)
    del decoded  # Of a large image, the coder below needs its memory.
    # Lossless WebP takes long, and of photographs it never takes less.
    worth_it = image.dtype == np.uint16 or _zlib_makes_less(image, _BY_ZLIB * len(record))
    return min(record, whole(), key=len) if worth_it else record


def _record(image: np.ndarray, decoded: np.ndarray, step: int) -> bytes:
    """The chunk that holds the difference in steps of so many levels."""
    difference = lambda rows: image[rows].astype(np.int32) - decoded[rows]
    largest = max((np.abs(difference(rows)).max() + step // 2) // step for rows in pieces(image))
    steps = np.empty(image.shape, np.uint8 if largest < 128 else np.uint16)
    for rows in pieces(image):
        error = difference(rows)
        steps[rows] = np.sign(error) * ((np.abs(error) + step // 2) // step) + _centre(steps)
    return _STEP.pack(step) + images.encode_lossless(steps)


def _zlib_makes_less(image: np.ndarray, size: int) -> bool:
    """Whether zlib makes less than `size` bytes of an image. It stops where there are more, as early in photographs."""
    made = (len(zlib.compress(np.ascontiguousarray(image[rows]).data, 1)) for rows in pieces(image))
    return all(total < size for total in accumulate(made))


def _centre(steps: np.ndarray) -> int:
    """What stands for no error."""
    return 128 if steps.dtype == np.uint8 else 32768


def _step(chunk: bytes) -> int:
    step = _STEP.unpack_from(chunk)[0] if len(chunk) >= _STEP.size else -1
    if step < 0 or (step and step % 2 == 0):
        raise JndError("The file's record of errors is damaged: copy or download it again.")
    return step


def apply(chunk: bytes, decoded: np.ndarray, bit_depth: int = 8, crop: images.Crop | None = None) -> np.ndarray:
    """`decoded` corrected by a chunk that `pack` made; JndError for a damaged one.

    Args:
        chunk: as `pack` made it.
        decoded: (H, W, 3) or (H, W), uint8, or uint16 for more than 8 bits.
        bit_depth: of the samples.
        crop: the part of the file's image that was decoded; None: all of it.
    """
    step, levels = _step(chunk), (1 << bit_depth) - 1
    stored = images.decode_part(chunk[_STEP.size :], decoded.shape, "record of errors", crop)
    if step == 0:
        if stored.dtype != decoded.dtype or stored.max() > levels:
            raise JndError(
                "The file's lossless image has another depth than its header says: have the file written again."
            )
        return stored
    corrected = np.empty_like(decoded)
    for rows in pieces(decoded):
        steps = stored[rows].astype(np.int64) - _centre(stored)
        corrected[rows] = np.clip(decoded[rows] + step * steps, 0, levels)
    return corrected


def max_error(chunk: bytes, bit_depth: int = 8) -> int:
    """The bound that a chunk keeps; JndError for a damaged one."""
    step = _step(chunk)
    return step // 2 + _room(bit_depth) if step else LOSSLESS
