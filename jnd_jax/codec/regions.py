"""Quality by region: an integer quality 0..1000 for each block of 16x16 pixels, from masks and to bytes.

This module needs NumPy and the standard library alone. docs/format.md is normative for the bytes.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np

from jnd_jax.bitstream import Header
from jnd_jax.codec.hyper import QUALITY_MAX
from jnd_jax.codec.linear import BLOCK, round_up
from jnd_jax.errors import JndError

_DAMAGED = "The file's map of regions is damaged: get a fresh copy of it."


def from_mask(mask: np.ndarray, quality: int, region_quality: int, height: int, width: int) -> np.ndarray:
    """(height, width) qualities of the blocks of an image, from a greyscale mask.

    A block takes the largest grey level among the 32x32 pixels that its lapped basis functions reach. So only marked
    blocks contribute to a marked pixel.

    Args:
      mask: (H, W) uint8, 255 in the region, 0 in the background; quality is linear in the levels between.
      quality: quality of the background, 0..1000.
      region_quality: quality of the region, 0..1000. The region is never coded below the background.
      height, width: size of the grid in blocks; the grid covers the mask.
    """
    half = BLOCK // 2
    sides = [(half, BLOCK * (blocks + 1) - half - side) for blocks, side in zip((height, width), mask.shape)]
    cells = np.pad(mask, sides).reshape(height + 1, BLOCK, width + 1, BLOCK).max(axis=(1, 3)).astype(np.int64)
    grey = np.maximum.reduce([cells[i : i + height, j : j + width] for i in (0, 1) for j in (0, 1)])
    return quality + (2 * grey * max(region_quality - quality, 0) + 255) // 510


def pack(levels: np.ndarray) -> bytes:
    """Bytes of (h, w) qualities with at most 256 different values."""
    palette, index = np.unique(levels, return_inverse=True)
    return (
        bytes([len(palette) - 1]) + palette.astype("<u2").tobytes() + zlib.compress(index.astype(np.uint8).tobytes(), 9)
    )


def unpack(data: bytes, height: int, width: int) -> np.ndarray:
    """(height, width) int64 qualities from the bytes of `pack`; raises JndError if they are damaged."""
    count = data[0] + 1 if data else 0
    palette = np.frombuffer(data[1 : 1 + 2 * count], np.uint8)
    reader = zlib.decompressobj()
    try:
        index = np.frombuffer(reader.decompress(data[1 + 2 * count :], height * width + 1), np.uint8)
    except zlib.error as error:
        raise JndError(_DAMAGED) from error
    if (
        not count
        or len(palette) != 2 * count
        or len(index) != height * width
        or not reader.eof
        or reader.unused_data
        or index.max() >= count
        or palette.view("<u2").max() > QUALITY_MAX
    ):
        raise JndError(_DAMAGED)
    return palette.view("<u2").astype(np.int64)[index].reshape(height, width)


def of_file(header: Header, chunks: Mapping[str, bytes]) -> int | np.ndarray:
    """The quality of y in an unpacked file: the header's, or (h, w) by block. Raises JndError for a damaged map."""
    if "regions" not in chunks:
        return header.quality
    return unpack(chunks["regions"], *(round_up(side) // BLOCK for side in (header.height, header.width)))
