"""The .jnd container: fixed header, chunk table, chunks. Standard library only; docs/format.md is normative.

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
VERSION = 2
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
GREY = 1


class Field(NamedTuple):
    """One field: its name, its code in Python's `struct`, and what it says."""

    name: str
    code: str
    meaning: str


HEADER_FIELDS = (
    Field("magic", "4s", "the bytes 4A 4E 44 1A"),
    Field("version", "B", "version of this format: 2"),
    Field("coder", "B", "range coder of z and y: 0 constriction, 1 tfc (TensorFlow Compression)"),
    Field("passes", "B", "passes in which y is coded: two for each group of the model's channels"),
    Field("chunks", "B", "number of entries in the chunk table: 2 to 11"),
    Field("model", "8s", "hash of the model that wrote the file"),
    Field("width", "I", "width in pixels: 1 to 65535"),
    Field("height", "I", "height in pixels: 1 to 65535; width * height is at most 2^28"),
    Field("quality", "H", "quality in tenths: 0 to 1000"),
    Field("bit_depth", "B", "bits of a sample of the decoded image: 8 to 16"),
    Field("flags", "B", "1 for a grey image, 0 for one of colours"),
    Field("header_crc", "I", "CRC-32 of the 28 bytes before it"),
)
CHUNK_FIELDS = (
    Field("tag", "B", "what the chunk holds"),
    Field("size", "I", "size of the chunk in bytes"),
    Field("crc", "I", "CRC-32 of the chunk"),
)
_HEADER = struct.Struct("<" + "".join(field.code for field in HEADER_FIELDS))
_CHUNK = struct.Struct("<" + "".join(field.code for field in CHUNK_FIELDS))
_CRC = struct.Struct("<I")
HEADER_SIZE = _HEADER.size
_NAMES = {tag: name for name, tag in TAGS.items()}


@dataclass(frozen=True)
class Header:
    """What a .jnd file says of itself.

    Attributes:
        model: hash of the model, 16 hexadecimal digits.
        width, height: pixels, each 1..65535, their product at most 2^28.
        quality: tenths, 0..1000.
        coder: one of `CODERS`.
        passes: passes in which y is coded, 1..255: two for each group of the model's channels.
        bit_depth: bits of a decoded sample, 8..16.
        grey: whether the image has one channel.
    """

    model: str
    width: int
    height: int
    quality: int
    coder: str = "constriction"
    passes: int = 2
    bit_depth: int = 8
    grey: bool = False


class _Entry(NamedTuple):
    name: str
    size: int
    crc: int
    offset: int

    def content(self, data: bytes) -> bytes:
        """The chunk of the file `data`, or what there is of it."""
        return data[self.offset : self.offset + self.size]

    def intact(self, data: bytes) -> bool:
        """Whether the chunk of the file `data` is the one that was written."""
        content = self.content(data)
        return len(content) == self.size and zlib.crc32(content) == self.crc


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
    if not 1 <= header.passes <= 255:
        raise JndError(f"Code y in 1 to 255 passes, not {header.passes}.")
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
        "coder": CODERS.index(header.coder),
        "passes": header.passes,
        "chunks": len(names),
        "model": bytes.fromhex(header.model),
        "width": header.width,
        "height": header.height,
        "quality": header.quality,
        "bit_depth": header.bit_depth,
        "flags": GREY * header.grey,
        "header_crc": 0,
    }
    head = _HEADER.pack(*(values[field.name] for field in HEADER_FIELDS))[: -_CRC.size]
    table = b"".join(_CHUNK.pack(TAGS[name], len(chunks[name]), zlib.crc32(chunks[name])) for name in names)
    return b"".join(
        [head, _CRC.pack(zlib.crc32(head)), table, _CRC.pack(zlib.crc32(table)), *(chunks[name] for name in names)]
    )


def as_bytes(data: Any) -> bytes:
    """The bytes of any buffer, such as a NumPy array of them; JndError for anything else."""
    try:
        return data if isinstance(data, bytes) else memoryview(data).tobytes()
    except TypeError as error:
        raise JndError(f"A .jnd file must be bytes, not {type(data).__name__}: read it in binary.") from error


def _read_header(data: bytes) -> dict[str, Any]:
    if data[: len(MAGIC)] != MAGIC:
        raise JndError("This is not a .jnd file: give one that jnd-jax has written")
    if len(data) < HEADER_SIZE:
        raise JndError(f"The file ends after {len(data)} bytes, inside its header: copy or download it again")
    values = dict(zip((field.name for field in HEADER_FIELDS), _HEADER.unpack_from(data)))
    if zlib.crc32(data[: HEADER_SIZE - _CRC.size]) != values["header_crc"]:
        raise JndError("The file's header is damaged: copy or download it again")
    if values["version"] < VERSION:
        raise JndError(
            f"The file is of the older format {values['version']}, which is no longer read; encode its image anew."
        )
    if (
        values["version"] != VERSION
        or values["flags"] & ~GREY
        or values["coder"] >= len(CODERS)
        or not values["passes"]
        or values["bit_depth"] not in BIT_DEPTHS
    ):
        raise JndError(
            f"The file is of a newer format (version {values['version']}) than this program reads; update jnd_jax."
        )
    return {**values, "coder": CODERS[values["coder"]], "model": values["model"].hex()}


def _read_table(data: bytes, count: int) -> list[_Entry]:
    end = HEADER_SIZE + count * _CHUNK.size
    if len(data) < end + _CRC.size:
        raise JndError(f"The file ends after {len(data)} bytes, inside its chunk table: copy or download it again")
    if zlib.crc32(data[HEADER_SIZE:end]) != _CRC.unpack_from(data, end)[0]:
        raise JndError("The file's chunk table is damaged: copy or download it again")
    entries, offset, last = [], end + _CRC.size, 0
    for tag, size, crc in _CHUNK.iter_unpack(data[HEADER_SIZE:end]):
        if tag not in _NAMES:
            raise JndError(f"The file holds a chunk of the unknown kind {tag}: update jnd_jax")
        if tag <= last:
            raise JndError("The file's chunk table is out of order: have the file written again")
        entries.append(_Entry(_NAMES[tag], size, crc, offset))
        offset, last = offset + size, tag
    missing = set(REQUIRED) - {entry.name for entry in entries}
    if missing:
        raise JndError(f"The file lacks its chunk {' and '.join(sorted(missing))}: have the file written again")
    return entries


def _read(data: bytes) -> tuple[dict[str, Any], Header, list[_Entry]]:
    values = _read_header(data)
    header = Header(
        values["model"],
        values["width"],
        values["height"],
        values["quality"],
        values["coder"],
        values["passes"],
        values["bit_depth"],
        bool(values["flags"] & GREY),
    )
    _check(header)
    return values, header, _read_table(data, values["chunks"])


def _end(entries: Sequence[_Entry]) -> int:
    """The size that the chunk table gives the file."""
    return entries[-1].offset + entries[-1].size


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
    end = _end(entries)
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
        JndError: as `unpack`, for header and chunk table.
    """
    _, header, entries = _read(data)
    whole = {entry.name: entry.content(data) for entry in entries if entry.intact(data)}
    return header, whole, {entry.name for entry in entries}


def arrived(data: bytes) -> tuple[Header, dict[str, bytes], float]:
    """Header, chunks and the share of y that is there, of a file that may end too soon: y as far as it goes.

    Raises:
        JndError: as `unpack` for all that is there; z or what y depends on is missing, or the coder is not constriction.
    """
    data = as_bytes(data)
    _, header, entries = _read(data)
    _check_nothing_follows(data, _end(entries))
    sizes = {entry.name: entry.size for entry in entries}
    chunks = {entry.name: entry.content(data) for entry in entries if entry.offset < len(data)}
    cut = {name for name in sizes if len(chunks.get(name, b"")) < sizes[name]}
    for entry in entries:
        if entry.name not in cut and not entry.intact(data):
            raise JndError(f"The file's chunk {entry.name} is damaged: copy or download it again.")
    if cut & {"z", "regions"} or header.coder != CODERS[0]:
        raise JndError(
            "The file ends before what a part of its image could be decoded from: copy or download it again."
        )
    share = len(chunks.get("y", b"")) / max(sizes["y"], 1)
    return header, {"y": b""} | {name: chunk for name, chunk in chunks.items() if name == "y" or name not in cut}, share


def probe(data: bytes) -> dict[str, Any]:
    """Every field of a .jnd file by name, "table" a list of its chunks, for display.

    Chunks may be damaged or missing, which "intact" says of each; "bytes" is the size of the data and
    "file_size" what the chunk table asks for.

    Raises:
        JndError: as `unpack`, for header and chunk table.
    """
    values, _, entries = _read(data)
    table = [
        {
            "name": entry.name,
            "tag": TAGS[entry.name],
            "size": entry.size,
            "crc": f"{entry.crc:08x}",
            "intact": entry.intact(data),
        }
        for entry in entries
    ]
    end = _end(entries)
    return {
        **values,
        "magic": values["magic"].decode("latin-1"),
        "header_crc": f"{values['header_crc']:08x}",
        "table": table,
        "bytes": len(data),
        "file_size": end,
        "intact": len(data) == end and all(chunk["intact"] for chunk in table),
    }
