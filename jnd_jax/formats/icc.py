"""ICC profiles (ICC.1:2022): whether one fits its pixels, and profiles for what a PNG says without one."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

import numpy as np

# The largest profiles in use (printing presses, with tables) have about 3 MB.
MAX_BYTES = 4 << 20
_HEADER = 128
_D50 = np.array([0.9642, 1.0, 0.8249])
# Bradford cone responses (ICC.1:2022, Annex E).
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])

# White, red, green, blue as x, y: BT.709 (sRGB), BT.2020, Display P3.
BT709 = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
BT2020 = (0.3127, 0.3290, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046)
DISPLAY_P3 = (0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)
# Parameters g, a, b, c, d of a parametric curve of type 3 (ICC.1:2022, 10.18).
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
BT709_CURVE = (1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)


def space(profile: bytes) -> str | None:
    """The colour space of a profile's pixels, such as "RGB" or "GRAY"; None for bytes that are no profile."""
    if not _HEADER + 4 <= len(profile) <= MAX_BYTES or profile[36:40] != b"acsp":
        return None
    size, count = struct.unpack_from(">I", profile)[0], struct.unpack_from(">I", profile, _HEADER)[0]
    if size > len(profile) or _HEADER + 4 + 12 * count > len(profile):
        return None
    for i in range(count):
        offset, length = struct.unpack_from(">II", profile, _HEADER + 8 + 12 * i)
        if offset + length > len(profile):
            return None
    return profile[16:20].decode("latin-1").strip()


def _xyz(x: float, y: float) -> np.ndarray:
    return np.array([x / y, 1.0, (1 - x - y) / y])


def colorants(chromaticities: Sequence[float]) -> np.ndarray:
    """(3, 3) XYZ of red, green, blue (columns), adapted to D50, from x, y of white, red, green, blue.

    Raises:
        ValueError: primaries that span no space.
    """
    white, *primaries = (_xyz(x, y) for x, y in zip(chromaticities[::2], chromaticities[1::2]))
    matrix = np.stack(primaries, 1)
    matrix = matrix * np.linalg.solve(matrix, white)
    gain = (_BRADFORD @ _D50) / (_BRADFORD @ white)
    adapted = np.linalg.solve(_BRADFORD, gain[:, None] * (_BRADFORD @ matrix))
    if not np.isfinite(adapted).all() or abs(adapted).max() >= 1 << 15:
        raise ValueError("primaries that span no colour space")
    return adapted


def _fixed(values: Iterable[float]) -> bytes:
    """s15Fixed16Number."""
    return b"".join(struct.pack(">i", round(float(value) * 65536)) for value in values)


def _curve(parameters: Sequence[float]) -> bytes:
    kind = {1: 0, 5: 3}[len(parameters)]
    return b"para" + bytes(4) + struct.pack(">HH", kind, 0) + _fixed(parameters)


def _text(text: str) -> bytes:
    encoded = text.encode("utf-16-be")
    return b"mluc" + bytes(4) + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(encoded), 28) + encoded


def build(name: str, curve: Sequence[float], chromaticities: Sequence[float] | None) -> bytes:
    """A display profile, version 4.3.

    Args:
        name: description.
        curve: one gamma, or the five parameters of a curve of type 3, from samples to light.
        chromaticities: x, y of white, red, green, blue; None for a grey profile.

    Raises:
        ValueError: primaries that span no space.
    """
    tags = {b"desc": _text(name), b"cprt": _text("CC0"), b"wtpt": b"XYZ " + bytes(4) + _fixed(_D50)}
    if chromaticities is None:
        tags[b"kTRC"] = _curve(curve)
    else:
        for letter, column in zip((b"r", b"g", b"b"), colorants(chromaticities).T):
            tags[letter + b"XYZ"] = b"XYZ " + bytes(4) + _fixed(column)
            tags[letter + b"TRC"] = _curve(curve)
    table, body, start = b"", b"", _HEADER + 4 + 12 * len(tags)
    for tag, content in tags.items():
        table += tag + struct.pack(">II", start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    kind = b"GRAY" if chromaticities is None else b"RGB "
    header = struct.pack(
        ">I4sI4s4s4s12s4s4s4sI4sQI12s4s44s",
        start + len(body),
        b"",
        0x04300000,
        b"mntr",
        kind,
        b"XYZ ",
        struct.pack(">6H", 2026, 1, 1, 0, 0, 0),
        b"acsp",
        b"",
        b"",
        0,
        b"",
        0,
        0,
        _fixed(_D50),
        b"",
        b"",
    )
    return header + struct.pack(">I", len(tags)) + table + body
