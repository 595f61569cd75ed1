"""EXIF blocks, from their TIFF header on: orientation, descriptive tags, and blocks made from a TIFF's tags."""

from __future__ import annotations

import warnings

import numpy as np
from PIL import Image

PREFIX = b"Exif\0\0"
# Maker notes and previews reach some hundred kilobytes.
MAX_BYTES = 4 << 20
ORIENTATION = 0x0112
_EXIF_IFD, _GPS_IFD, _INTEROP_IFD = 0x8769, 0x8825, 0xA005
# Tags of the first IFD that describe the picture; all others say how a TIFF's pixels are laid out.
_DESCRIPTIVE = (
    *(0x010E, 0x010F, 0x0110, 0x011A, 0x011B, 0x0128, 0x0131, 0x0132, 0x013B, 0x013C),  # description ... host computer
    *(0x4746, 0x4749, 0x8298),  # rating, rating in percent, copyright
    *(0x9C9B, 0x9C9C, 0x9C9D, 0x9C9E, 0x9C9F),  # title, comment, author, keywords, subject of Windows
)
_SHOWN = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a.swapaxes(0, 1)[::-1],
}
_STORED = {**_SHOWN, 6: _SHOWN[8], 8: _SHOWN[6]}
SIDEWAYS = (5, 6, 7, 8)  # orientations in which width and height change places


def parse(block: bytes | None) -> Image.Exif:
    """The tags of a block; none of a block that is damaged."""
    tags = Image.Exif()
    with warnings.catch_warnings():
        # Pillow warns of each tag that it skips.
        warnings.simplefilter("ignore")
        try:
            tags.load(PREFIX + (block or b""))
            dict(tags)
        except Exception:
            return Image.Exif()
    return tags


def orientation(block: bytes | None) -> int:
    """1..8 (EXIF 2.32, tag 0x0112); 1 where the block names none."""
    value = parse(block).get(ORIENTATION, 1) if block else 1
    return value if value in _SHOWN else 1


def as_shown(array: np.ndarray, orientation: int) -> np.ndarray:
    """An (H, W, ...) array of stored pixels as a viewer shows it; a view."""
    return _SHOWN.get(orientation, lambda a: a)(array)


def as_stored(array: np.ndarray, orientation: int) -> np.ndarray:
    """The inverse of `as_shown`."""
    return _STORED.get(orientation, lambda a: a)(array)


def descriptive(block: bytes | Image.Exif) -> Image.Exif:
    """The tags of a block that describe the picture, with the EXIF and GPS tags below them."""
    source, tags = parse(block) if isinstance(block, bytes) else block, Image.Exif()
    for tag in _DESCRIPTIVE:
        if tag in source:
            tags[tag] = source[tag]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for tag in (_EXIF_IFD, _GPS_IFD):
            below = {key: value for key, value in source.get_ifd(tag).items() if key != _INTEROP_IFD}
            if below:
                tags[tag] = below
    return tags


def from_tiff(image: Image.Image) -> bytes | None:
    """The block of a TIFF's descriptive tags; None where it has none that can be written."""
    try:
        tags = descriptive(image.getexif())
        # Pillow turns the pixels upright.
        return tags.tobytes().removeprefix(PREFIX) if len(tags) else None
    except Exception:
        return None
