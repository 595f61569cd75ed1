"""PNG (third edition): chunks with their checksums, what they say of colours and metadata, and 16-bit files."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from jnd_jax.errors import JndError
from jnd_jax.formats import exif, icc

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_TEXT = 16 << 20
IPTC_LOST = "its IPTC captions are left out"
XMP_KEY = "XML:com.adobe.xmp"
# What Pillow needs to decode pixels and to count frames.
_PIXEL_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT"}
_CURVES = {
    1: icc.BT709_CURVE,
    4: (2.2,),
    5: (2.8,),
    6: icc.BT709_CURVE,
    8: (1.0,),
    13: icc.SRGB_CURVE,
    14: icc.BT709_CURVE,
    15: icc.BT709_CURVE,
}
_PRIMARIES = {1: icc.BT709, 9: icc.BT2020, 12: icc.DISPLAY_P3}
# First column and row, and the steps, of the passes of an interlaced image (PNG, 8.1).
_ADAM7 = (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)
_PIECE = 1 << 20
_HDR = {16: "PQ", 18: "HLG"}


@dataclass
class Parts:
    """A PNG taken apart.

    Attributes:
        pixels: a PNG of the same pixels, without metadata.
        bits: of a sample, 1 to 16.
        grey: whether the pixels are grey, with or without alpha.
        profile: ICC profile of the pixels, None for sRGB.
        exif, xmp: blocks.
        density: pixels per metre, horizontally and vertically.
        lost: sentences about what was left out.
    """

    pixels: bytes
    bits: int
    grey: bool
    profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    density: tuple[int, int] | None = None
    lost: list[str] = field(default_factory=list)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
    """Type, content and whether the checksum is right."""
    offset = len(SIGNATURE)
    while offset + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, offset)
        content = data[offset + 8 : offset + 8 + length]
        stated = data[offset + 8 + length : offset + 12 + length]
        if len(stated) < 4:
            raise JndError(
                f"The PNG is truncated or damaged in its chunk {kind.decode('latin-1')}: copy or download it again."
            )
        yield kind, content, zlib.crc32(content, zlib.crc32(kind)).to_bytes(4, "big") == stated
        if kind == b"IEND":
            return
        offset += 12 + length
    raise JndError("The PNG is truncated or damaged, its last chunk is missing: copy or download it again.")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))


def _inflate(data: bytes, limit: int) -> bytes | None:
    """What a zlib stream holds; None for one that is damaged or holds more than `limit` bytes."""
    stream = zlib.decompressobj()
    try:
        content = stream.decompress(data, limit + 1)
    except zlib.error:
        return None
    return content if stream.eof and len(content) <= limit else None


def _texts(chunks: Mapping[bytes, list[bytes]]) -> dict[str, bytes]:
    """tEXt, zTXt and iTXt by key; those that cannot be read are left out."""
    texts: dict[str, bytes] = {}
    for content in chunks.get(b"tEXt", []):
        key, _, text = content.partition(b"\0")
        texts[key.decode("latin-1")] = text
    for content in chunks.get(b"zTXt", []):
        key, _, text = content.partition(b"\0")
        texts[key.decode("latin-1")] = _inflate(text[1:], MAX_TEXT) or b""
    for content in chunks.get(b"iTXt", []):
        key, _, rest = content.partition(b"\0")
        packed, rest = rest[:1] == b"\1", rest[2:]
        text = rest.partition(b"\0")[2].partition(b"\0")[2]
        texts[key.decode("latin-1")] = (_inflate(text, MAX_TEXT) or b"") if packed else text
    return texts


def _raw_profile(text: bytes) -> bytes | None:
    """ImageMagick's "Raw profile type": a name, a length and hexadecimal digits, each on lines of their own."""
    words = text.split(maxsplit=2)
    try:
        content = bytes.fromhex(b"".join(words[2].split()).decode("ascii"))
        return content if len(content) == int(words[1]) else None
    except (IndexError, ValueError):
        return None


def _stated_profile(chunks: Mapping[bytes, list[bytes]], grey: bool, lost: list[str]) -> bytes | None:
    """The ICC profile that cICP, iCCP, sRGB, or gAMA and cHRM stand for, in this order of precedence."""
    first = lambda kind: chunks.get(kind, [b""])[0]
    if len(cicp := first(b"cICP")) == 4:
        primaries, transfer, _, full = cicp
        if transfer in _HDR:
            raise JndError(
                f"The PNG is an HDR image ({_HDR[transfer]}), which cannot be coded: convert it to sRGB or Display P3 first."
            )
        if primaries not in _PRIMARIES or transfer not in _CURVES or not full:
            raise JndError(
                f"The PNG has the colours {tuple(cicp)} of its cICP chunk, which are not known: convert it first."
            )
        if (primaries, transfer) == (1, 13):
            return None
        return icc.build("cICP", _CURVES[transfer], None if grey else _PRIMARIES[primaries])
    if b"iCCP" in chunks:
        profile = _inflate(first(b"iCCP").partition(b"\0")[2][1:], icc.MAX_BYTES)
        if profile is not None:
            return profile
        lost.append("its colour profile is damaged or too large, and is left out")
    if b"sRGB" in chunks:
        return None
    gamma = struct.unpack(">I", first(b"gAMA"))[0] / 1e5 if len(first(b"gAMA")) == 4 else 0
    corners = [v / 1e5 for v in struct.unpack(">8I", first(b"cHRM"))] if len(first(b"cHRM")) == 32 else None
    # What files state that mean sRGB, and what its writers put beside it.
    plain = not gamma or abs(gamma * 2.2 - 1) < 0.005
    if corners is not None and (grey or np.allclose(corners, icc.BT709, atol=2e-3)):
        corners = None
    if plain and corners is None:
        return None
    curve = (1 / gamma,) if gamma else icc.SRGB_CURVE
    try:
        return icc.build("gAMA and cHRM", curve, None if grey else corners or icc.BT709)
    except (ValueError, ZeroDivisionError, np.linalg.LinAlgError, OverflowError, struct.error):
        lost.append("its chunks gAMA and cHRM state no colour space, and are left out")
        return None


def take_apart(data: bytes) -> Parts:
    """The parts of a PNG.

    Raises:
        JndError: truncated, a wrong checksum where pixels are, or colours that cannot be coded.
    """
    kept, others, lost = [SIGNATURE], {}, []
    for kind, content, intact in _chunks(data):
        if kind in _PIXEL_CHUNKS:
            if not intact:
                raise JndError(f"The PNG's chunk {kind.decode()} has a wrong checksum: copy or download it again.")
            kept.append(_chunk(kind, content))
        elif not kind[0] & 0x20:
            raise JndError(
                f"The PNG's pixels depend on a chunk {kind.decode('latin-1')}, which is not known: save it as a plain PNG."
            )
        elif intact:
            others.setdefault(kind, []).append(content)
        else:
            lost.append(f"its chunk {kind.decode('latin-1')} is damaged, and is left out")
    header = data[16:29]
    if len(header) < 13:
        raise JndError("The PNG has no header: copy or download it again.")
    bits, grey = header[8], header[9] in (0, 4)
    parts = Parts(b"".join(kept), bits, grey, lost=lost)
    parts.profile = _stated_profile(others, grey, lost)
    texts = _texts(others)
    raw = {name: _raw_profile(texts.get(f"Raw profile type {name}", b"")) for name in ("exif", "APP1", "xmp")}
    parts.exif = others.get(b"eXIf", [None])[0] or raw["exif"]
    if raw["APP1"] and raw["APP1"].startswith(exif.PREFIX):
        parts.exif = parts.exif or raw["APP1"]
    parts.xmp = texts.get(XMP_KEY) or raw["xmp"]
    if {"Raw profile type iptc", "Raw profile type 8bim"} & texts.keys():
        lost.append(IPTC_LOST)
    if len(physical := others.get(b"pHYs", [b""])[0]) == 9 and physical[8] == 1:
        parts.density = struct.unpack_from(">II", physical)
    return parts


def check_pixels(parts: Parts, size: tuple[int, int]) -> None:
    """Raises JndError for a PNG whose stream of pixels ends before the last of its (width, height) does."""
    missing, stream = _size_of_rows(parts.pixels, *size), zlib.decompressobj()
    for kind, content, _ in _chunks(parts.pixels):
        while kind == b"IDAT" and content and missing > 0 and not stream.eof:
            missing -= len(stream.decompress(content, _PIECE))
            content = stream.unconsumed_tail
    if missing > len(stream.flush()):
        raise JndError("The PNG is truncated: its pixels end too soon. Copy or download it again.")


def _size_of_rows(data: bytes, width: int, height: int) -> int:
    """Bytes of the filtered rows of a PNG, of all passes of an interlaced one."""
    bits = data[24] * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[data[25]]
    passes = _ADAM7 if data[28] else ((0, 0, 1, 1),)
    sides = ((-(-(width - left) // right), -(-(height - top) // down)) for left, top, right, down in passes)
    return sum(rows * (1 + -(-columns * bits // 8)) for columns, rows in sides if columns > 0 and rows > 0)


def build(samples: np.ndarray, chunks: Mapping[bytes, bytes] | None = None) -> bytes:
    """A 16-bit PNG.

    Args:
        samples: (H, W, C) uint16: grey, grey and alpha, RGB, or RGBA.
        chunks: further chunks by type, before the pixels.
    """
    height, width, channels = samples.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = samples.astype(">u2").view(np.uint8).reshape(height, width, 2 * channels).astype(np.uint8)
    left, above, corner = (np.zeros_like(rows) for _ in range(3))
    left[:, 1:], above[1:], corner[1:, 1:] = rows[:, :-1], rows[:-1], rows[:-1, :-1]
    # Paeth's predictor (PNG, 9.4): the nearest to left + above - corner, in this order.
    a, b, c = (x.astype(np.int16) for x in (left, above, corner))
    to_a, to_b, to_c = abs(b - c), abs(a - c), abs(a + b - 2 * c)
    paeth = np.where((to_a <= to_b) & (to_a <= to_c), left, np.where(to_b <= to_c, above, corner))
    filtered = np.full((height, 1 + 2 * channels * width), 4, np.uint8)
    filtered[:, 1:] = (rows - paeth).reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    body = [_chunk(b"IHDR", header), *(_chunk(kind, content) for kind, content in (chunks or {}).items())]
    return SIGNATURE + b"".join([*body, _chunk(b"IDAT", zlib.compress(filtered.tobytes(), 9)), _chunk(b"IEND", b"")])


def deflate(content: bytes) -> bytes:
    """A zlib stream, as iCCP and zTXt hold it."""
    return zlib.compress(content, 9)
