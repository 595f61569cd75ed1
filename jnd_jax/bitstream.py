"""The .jnd container: header, chunk table, chunks. Standard library only; docs/format.md is normative.

Each field is named once, in `HEADER_FIELDS` or `CHUNK_FIELDS`: writing, reading and probing derive from them.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from jnd_jax.errors import JndError

MAGIC = b"JND\x1a"
VERSION = 3
CODERS = ("constriction", "tfc")
TAGS = {
    "z": 1,
    "y": 2,
    "icc": 3,
    "exif": 4,
    "alpha": 5,
    "regions": 6,
    "note": 7,
    "residual": 8,
    "xmp": 9,
    "density": 10,
    "dicom": 11,
}
REQUIRED = ("z", "y")
MAX_SIDE = 65535
MAX_PIXELS = 1 << 28
MAX_QUALITY = 1000
BIT_DEPTHS = range(8, 17)
GREY, TFC = 1, 2  # bits of the flags


class Field(NamedTuple):
    """One field: its name, its code in Python's `struct`, and what it says."""

    name: str
    code: str
    meaning: str


HEADER_FIELDS = (
    Field("magic", "4s", "the bytes 4A 4E 44 1A"),
    Field("version", "B", "version of this format: 3"),
    Field("chunks", "B", "number of entries in the chunk table: 2 to 11"),
    Field("bit_depth", "B", "bits of a sample of the decoded image: 8 to 16"),
    Field("flags", "B", "1 for a grey image, plus 2 if the range coder of z and y is tfc"),
    Field("model", "8s", "hash of the model that wrote the file"),
    Field("width", "H", "width in pixels: 1 to 65535"),
    Field("height", "H", "height in pixels: 1 to 65535; width * height is at most 2^28"),
    Field("quality", "H", "quality in tenths: 0 to 1000"),
)
CHUNK_FIELDS = (
    Field("tag", "B", "what the chunk holds"),
    Field("size", "I", "size of the chunk in bytes"),
)
_HEADER = struct.Struct("<" + "".join(field.code for field in HEADER_FIELDS))
_CHUNK = struct.Struct("<" + "".join(field.code for field in CHUNK_FIELDS))
_CRC = struct.Struct("<I")
HEADER_SIZE = _HEADER.size
_NAMES = {tag: name for name, tag in TAGS.items()}
_DAMAGED_HEAD = "The file's head is damaged: copy or download it again"


@dataclass(frozen=True)
class Header:
    """What a .jnd file says of itself.

    Attributes:
        model: hash of the model, 16 hexadecimal digits.
        width, height: pixels, each 1..65535, their product at most 2^28.
        quality: tenths, 0..1000.
        coder: one of `CODERS`.
        bit_depth: bits of a decoded sample, 8..16.
        grey: whether the image has one channel.
    """

    model: str
    width: int
    height: int
    quality: int
    coder: str = "constriction"
    bit_depth: int = 8
    grey: bool = False


class _Entry(NamedTuple):
    """A chunk's bytes are those from `start` to `end`; the CRC-32 behind them covers all from `covered` on."""

    tag: int
    covered: int
    start: int
    end: int

    @property
    def name(self) -> str:
        return _NAMES[self.tag]

    @property
    def size(self) -> int:
        return self.end - self.start

    @property
    def behind(self) -> int:
        """Where the CRC-32 of the chunk ends."""
        return self.end + _CRC.size

    def content(self, data: bytes) -> bytes:
        """The chunk of the file `data`, or what there is of it."""
        return data[self.start : self.end]

    def crc(self, data: bytes) -> bytes:
        """The CRC-32 that stands behind the chunk, or what there is of it."""
        return data[self.end : self.behind]

    def intact(self, data: bytes) -> bool:
        """Whether the chunk of the file `data` is the one that was written."""
        return self.crc(data) == _crc(data[self.covered : self.end])


def _crc(data: bytes) -> bytes:
    return _CRC.pack(zlib.crc32(data))


def fits(width: int, height: int) -> bool:
    """Whether a file can hold an image of this size."""
    return 0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and width * height <= MAX_PIXELS


def _check(header: Header) -> None:
    try:
        valid_model = len(bytes.fromhex(header.model)) == 8
    except (ValueError, TypeError):
        valid_model = False
    if not valid_model:
        raise JndError(f"Give the model's hash as 16 hexadecimal digits, not {header.model!r}")
    if not fits(header.width, header.height):
        raise JndError(
            f"An image of {header.width}x{header.height} pixels does not fit a .jnd file: use 1 "
            f"to {MAX_SIDE} pixels a side and at most {MAX_PIXELS} in all"
        )
    if not 0 <= header.quality <= MAX_QUALITY:
        raise JndError(f"Give a quality of 0 to {MAX_QUALITY} tenths, not {header.quality}")
    if header.coder not in CODERS:
        raise JndError(f"Use one of the coders {', '.join(CODERS)}, not {header.coder!r}")
    if header.bit_depth not in BIT_DEPTHS:
        raise JndError(f"Code 8 to 16 bits a sample, not {header.bit_depth}")


def pack(header: Header, chunks: Mapping[str, bytes]) -> bytes:
    """The file that holds `chunks`, in the order of their tags.

    Args:
        header: what the file says of itself.
        chunks: contents by name (`TAGS`), "z" and "y" among them.

    Raises:
        JndError: a value of the header is out of range, or a chunk is unknown, missing or of 4 GiB or more.
    """
    _check(header)
    unknown, missing = set(chunks) - set(TAGS), set(REQUIRED) - set(chunks)
    if unknown or missing:
        raise JndError(
            f"Give a .jnd file the chunks {' and '.join(REQUIRED)} and any of {', '.join(TAGS)}, "
            f"not {', '.join(sorted(chunks)) or 'none'}"
        )
    names = sorted(chunks, key=TAGS.__getitem__)
    if any(len(chunks[name]) >= 1 << 32 for name in names):
        raise JndError("Keep each chunk of a .jnd file below 4 GiB")
    values = {
        "magic": MAGIC,
        "version": VERSION,
        "chunks": len(names),
        "bit_depth": header.bit_depth,
        "flags": GREY * header.grey | TFC * CODERS.index(header.coder),
        "model": bytes.fromhex(header.model),
        "width": header.width,
        "height": header.height,
        "quality": header.quality,
    }
    head = _HEADER.pack(*(values[field.name] for field in HEADER_FIELDS))
    table = b"".join(_CHUNK.pack(TAGS[name], len(chunks[name])) for name in names)
    parts = [head + table + chunks["z"], *(chunks[name] for name in names if name != "z")]
    return b"".join(piece for part in parts for piece in (part, _crc(part)))


def as_bytes(data: Any) -> bytes:
    """The bytes of any buffer, such as a NumPy array of them; JndError for anything else."""
    try:
        return data if isinstance(data, bytes) else memoryview(data).tobytes()
    except TypeError as error:
        raise JndError(f"A .jnd file must be bytes, not {type(data).__name__}: read it in binary.") from error


def _newer(version: int) -> JndError:
    return JndError(
        f"The file is of a newer format (version {version}) than this program reads: update jnd_jax, or get a fresh "
        "copy if the file is damaged"
    )


def _check_head_reaches(data: bytes, end: int) -> None:
    if len(data) < end:
        raise JndError(f"The file ends after {len(data)} bytes, inside its head: copy or download it again")


def _read_header(data: bytes) -> dict[str, Any]:
    """The fields of the header, unchecked but for magic bytes and version."""
    if data[: len(MAGIC)] != MAGIC:
        raise JndError("This is not a .jnd file: give one that jnd-jax has written")
    _check_head_reaches(data, HEADER_SIZE)
    values = dict(zip((field.name for field in HEADER_FIELDS), _HEADER.unpack_from(data)))
    if values["version"] < VERSION:
        raise JndError(
            f"The file is of the older format {values['version']}, which is no longer read; encode its image anew."
        )
    if values["version"] > VERSION:
        raise _newer(values["version"])
    return values


def _read_table(data: bytes, count: int) -> list[_Entry]:
    """The `count` entries of the chunk table, unchecked but for the CRC-32 of the head."""
    if not len(REQUIRED) <= count <= len(TAGS):
        raise JndError(_DAMAGED_HEAD)
    start = HEADER_SIZE + count * _CHUNK.size
    _check_head_reaches(data, start)
    entries = []
    for tag, size in _CHUNK.iter_unpack(data[HEADER_SIZE:start]):
        entries.append(_Entry(tag, start if entries else 0, start, start + size))
        start = entries[-1].behind
    _check_head_reaches(data, entries[0].behind)
    if not entries[0].intact(data):
        raise JndError(_DAMAGED_HEAD)
    return entries


def _check_tags(entries: Sequence[_Entry]) -> None:
    tags = [entry.tag for entry in entries]
    for tag in tags:
        if tag not in _NAMES:
            raise JndError(f"The file holds a chunk of the unknown kind {tag}: update jnd_jax")
    if tags != sorted(set(tags)):
        raise JndError("The file's chunk table is out of order: have the file written again")
    missing = set(REQUIRED) - {entry.name for entry in entries}
    if missing:
        raise JndError(f"The file lacks its chunk {' and '.join(sorted(missing))}: have the file written again")


def _read(data: bytes) -> tuple[dict[str, Any], Header, list[_Entry]]:
    values = _read_header(data)
    entries = _read_table(data, values["chunks"])
    flags = values["flags"]
    if flags & ~(GREY | TFC) or values["bit_depth"] not in BIT_DEPTHS:
        raise _newer(values["version"])
    header = Header(
        values["model"].hex(),
        values["width"],
        values["height"],
        values["quality"],
        CODERS[bool(flags & TFC)],
        values["bit_depth"],
        bool(flags & GREY),
    )
    _check(header)
    _check_tags(entries)
    return values, header, entries


def _check_nothing_follows(data: bytes, end: int) -> None:
    if len(data) > end:
        raise JndError(f"{len(data) - end} bytes follow the end of the file: copy or download it again")


def unpack(data: bytes) -> tuple[Header, dict[str, bytes]]:
    """Header and chunks by name of a .jnd file; every byte of it has been checked.

    Raises:
        JndError: not a .jnd file, a newer format, hostile sizes, or a file truncated, damaged or too long.
    """
    data = as_bytes(data)
    _, header, entries = _read(data)
    end = entries[-1].behind
    if len(data) < end:
        raise JndError(f"The file ends after {len(data)} of {end} bytes: copy or download it again")
    _check_nothing_follows(data, end)
    for entry in entries:
        if not entry.intact(data):
            raise JndError(f"The file's chunk {entry.name} is damaged: copy or download it again")
    return header, {entry.name: entry.content(data) for entry in entries}


def salvage(data: bytes) -> tuple[Header, dict[str, bytes], set[str]]:
    """Header, whole chunks by name, and the names of all chunks of a file that may be truncated or damaged.

    Raises:
        JndError: as `unpack`, for the head of the file.
    """
    _, header, entries = _read(data)
    whole = {entry.name: entry.content(data) for entry in entries if entry.intact(data)}
    return header, whole, {entry.name for entry in entries}


def arrived(data: bytes) -> tuple[Header, dict[str, bytes], float]:
    """Header, chunks and the share of y that is there, of a file that may end too soon: y as far as it goes.

    Raises:
        JndError: as `unpack` for all that is there; the head or what y depends on is not whole, or the coder is not constriction.
    """
    data = as_bytes(data)
    _, header, entries = _read(data)
    _check_nothing_follows(data, entries[-1].behind)
    cut = {entry.name for entry in entries if entry.behind > len(data)}
    for entry in entries:
        if entry.name not in cut and not entry.intact(data):
            raise JndError(f"The file's chunk {entry.name} is damaged: copy or download it again.")
    if "regions" in cut or header.coder != CODERS[0]:
        raise JndError(
            "The file ends before what a part of its image could be decoded from: copy or download it again."
        )
    chunks = {entry.name: entry.content(data) for entry in entries if entry.name == "y" or entry.name not in cut}
    share = len(chunks["y"]) / max(entries[1].size, 1)  # the second is y
    return header, chunks, share


def probe(data: bytes) -> dict[str, Any]:
    """Every field of a .jnd file by name, its coder, and "table", a list of its chunks, for display.

    Chunks may be damaged or missing, which "intact" says of each; "bytes" is the size of the data and
    "file_size" what the chunk table asks for.

    Raises:
        JndError: as `unpack`, for the head of the file.
    """
    values, header, entries = _read(data)
    table = [
        {"name": entry.name, "tag": entry.tag, "size": entry.size, "intact": entry.intact(data)} for entry in entries
    ]
    end = entries[-1].behind
    return {
        **values,
        "magic": values["magic"].decode("latin-1"),
        "model": header.model,
        "coder": header.coder,
        "head_crc": f"{_CRC.unpack(entries[0].crc(data))[0]:08x}",
        "table": table,
        "bytes": len(data),
        "file_size": end,
        "intact": len(data) == end and all(chunk["intact"] for chunk in table),
    }
