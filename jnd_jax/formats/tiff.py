"""TIFF 6.0 files of 8 or 16 bits a sample, deflated, with descriptive tags alone."""

from __future__ import annotations

import io
import zlib
from typing import Any

import numpy as np
from PIL import TiffImagePlugin, TiffTags

from jnd_jax.formats import exif

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _OFFSETS, _CHANNELS = 256, 257, 258, 259, 262, 273, 277
_ROWS, _SIZES, _X_RESOLUTION, _Y_RESOLUTION, _UNIT, _PREDICTOR, _EXTRA = 278, 279, 282, 283, 296, 317, 338
_ORIENTATION, _XMP, _ICC = 274, 700, 34675
_STRIP = 1 << 20


def build(
    samples: np.ndarray,
    profile: bytes | None = None,
    block: bytes | None = None,
    xmp: bytes | None = None,
    density: tuple[int, int] | None = None,
) -> bytes:
    """A little-endian TIFF.

    Args:
        samples: (H, W, C) uint8 or uint16, upright: grey, grey and alpha, RGB, or RGBA.
        profile: ICC profile.
        block: EXIF block, of which the tags are written that describe the picture.
        xmp: XMP packet.
        density: pixels per metre, horizontally and vertically.
    """
    height, width, channels = samples.shape
    samples = samples.astype(samples.dtype.newbyteorder("<"), copy=True)
    samples[:, 1:] -= samples[:, :-1].copy()
    rows = max(1, _STRIP // (width * channels * samples.itemsize))
    strips = [zlib.compress(samples[top : top + rows].tobytes(), 6) for top in range(0, height, rows)]

    ifd: Any = TiffImagePlugin.ImageFileDirectory_v2(b"II*\0\10\0\0\0")
    for tag, value in exif.descriptive(block).items() if block else ():
        ifd[tag] = value
    values = {_WIDTH: width, _HEIGHT: height, _BITS: (8 * samples.itemsize,) * channels, _COMPRESSION: 8}
    values |= {_PHOTOMETRIC: 2 if channels > 2 else 1, _CHANNELS: channels, _ROWS: rows, _PREDICTOR: 2}
    # Said, so that readers do not look for an orientation in XMP, which may hold that of the source.
    values[_ORIENTATION] = 1
    if channels in (2, 4):
        values[_EXTRA] = (2,)
    if density is not None and not block_names_density(ifd):
        values |= {_UNIT: 3, _X_RESOLUTION: density[0] / 100, _Y_RESOLUTION: density[1] / 100}
    for tag, content in ((_XMP, xmp), (_ICC, profile)):
        if content:
            values[tag] = content
            ifd.tagtype[tag] = TiffTags.BYTE if tag == _XMP else TiffTags.UNDEFINED
    values |= {_SIZES: tuple(map(len, strips)), _OFFSETS: tuple(np.cumsum([0, *map(len, strips[:-1])]).tolist())}
    for tag in (_OFFSETS, _SIZES):
        ifd.tagtype[tag] = TiffTags.LONG
    for tag, value in values.items():
        ifd[tag] = value
    file = io.BytesIO()
    ifd.save(file)
    return b"".join([file.getvalue(), *strips])


def block_names_density(tags: Any) -> bool:
    """Whether tags state a resolution."""
    return _X_RESOLUTION in tags and _Y_RESOLUTION in tags
