"""Netpbm's PGM and PPM of more than 8 bits a sample, binary and plain, which Pillow cuts to 8."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from jnd_jax.errors import JndError

# The kind, then width, height and the largest sample; comments may stand between them.
_BITMAP = re.compile(rb"P4" + 2 * rb"(?:\s|#[^\n]*\n)+(\d{1,9})" + rb"\s")
_HEADER = re.compile(rb"P([2356])" + 3 * rb"(?:\s|#[^\n]*\n)+(\d{1,9})" + rb"\s")
_COMMENT = re.compile(rb"#[^\n]*")


def _refuse_another(data: bytes, end: int) -> None:
    if re.match(rb"\s*P[1-6]\s", data[end : end + 16]):
        raise JndError("The file holds several images: extract them as one file each.")


def read(data: bytes, check: Callable[[int, int], None]) -> np.ndarray | None:
    """uint16 samples (H, W) or (H, W, 3), scaled to 0..65535; None for 8 bits and for other files.

    Args:
        data: the file.
        check: called with width and height before samples are read; raises JndError where they are too many.

    Raises:
        JndError: truncated, or several images in one file.
    """
    if bitmap := _BITMAP.match(data):
        width, height = map(int, bitmap.groups())
        _refuse_another(data, bitmap.end() + height * -(-width // 8))
    match = _HEADER.match(data)
    if match is None:
        return None
    kind, (width, height, largest) = int(match[1]), (int(number) for number in match.groups()[1:])
    shape = (height, width) if kind in (2, 5) else (height, width, 3)
    deep, plain, start = 255 < largest < 65536, kind in (2, 3), match.end()
    if not plain:
        end = start + int(np.prod(shape)) * (2 if deep else 1)
        _refuse_another(data, end)
    if not deep:
        return None
    check(width, height)
    count = int(np.prod(shape))
    if plain:
        samples = np.fromstring(_COMMENT.sub(b"", data[start:]).decode("ascii"), np.int64, sep=" ")[:count]
    else:
        samples = np.frombuffer(data[start:end], ">u2", min(count, len(data[start:end]) // 2))
    if len(samples) < count or count == 0:
        raise JndError("The image is truncated: copy or download the image again.")
    if samples.min() < 0 or samples.max() > largest:
        raise JndError(f"The image has samples beyond {largest}, its largest: copy or download the image again.")
    return ((samples.astype(np.uint32) * 65535 + largest // 2) // largest).astype(np.uint16).reshape(shape)
