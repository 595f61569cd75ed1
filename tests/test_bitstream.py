from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path

import pytest

from jnd_jax import bitstream
from jnd_jax.bitstream import Header
from jnd_jax.errors import JndError
from tests.streams import reseal

HEADER = Header("0123456789abcdef", 640, 480, 505)
CHUNKS = {"z": b"\x01\x02\x03", "y": bytes(range(40)), "icc": b"profile", "note": b"{}"}
HEAD = 22 + 4 * 5 + 3 + 4  # bytes of the head of a file of these


@pytest.mark.parametrize(
    "header",
    [
        HEADER,
        Header("00" * 8, 1, 1, 0, coder="tfc"),
        Header("ff" * 8, 65535, 4096, 1000, "tfc", 16, grey=True),
        Header("ff" * 8, 4096, 65535, 1000, bit_depth=9, grey=True),
    ],
)
@pytest.mark.parametrize("chunks", [CHUNKS, {"z": b"", "y": b""}, {name: b"x" for name in bitstream.TAGS}])
def test_round_trip(header, chunks):
    assert bitstream.unpack(bitstream.pack(header, chunks)) == (header, chunks)


def test_the_order_of_the_chunks_given_does_not_matter():
    assert bitstream.pack(HEADER, dict(reversed(CHUNKS.items()))) == bitstream.pack(HEADER, CHUNKS)


def test_a_file_has_40_bytes_besides_z_and_y_and_9_more_for_each_other_chunk():
    assert bitstream.HEADER_SIZE == 22
    assert len(bitstream.pack(HEADER, {"z": b"", "y": b""})) == 40
    assert len(bitstream.pack(HEADER, {"z": b"12", "y": b"345", "icc": b"6789"})) == 40 + 9 + 9


def test_every_flipped_bit_is_detected():
    data = bitstream.pack(HEADER, CHUNKS)
    for position in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            with pytest.raises(JndError):
                bitstream.unpack(bytes(damaged))


def test_every_truncation_and_any_trailing_byte_is_detected():
    data = bitstream.pack(HEADER, CHUNKS)
    for length in range(len(data)):
        with pytest.raises(JndError):
            bitstream.unpack(data[:length])
    with pytest.raises(JndError, match="1 bytes follow"):
        bitstream.unpack(data + b"\0")


@pytest.mark.parametrize("read", [bitstream.unpack, bitstream.salvage, bitstream.arrived, bitstream.probe])
def test_nothing_is_read_of_a_file_that_ends_inside_its_head(read):
    data = bitstream.pack(HEADER, CHUNKS)
    for length in range(4, HEAD):
        with pytest.raises(JndError, match=f"after {length} bytes, inside its head: copy or download"):
            read(data[:length])


@pytest.mark.parametrize("read", [bitstream.unpack, bitstream.salvage, bitstream.arrived, bitstream.probe])
def test_damage_of_the_head_is_told_from_what_no_file_has(read):
    data = bitstream.pack(HEADER, CHUNKS)
    for position in range(5, HEAD):
        with pytest.raises(JndError, match="head is damaged|inside its head"):
            read(data[:position] + bytes([data[position] ^ 0x40]) + data[position + 1 :])


def test_what_arrived_of_y_is_given():
    data = bitstream.pack(HEADER, CHUNKS)
    assert bitstream.arrived(data) == (HEADER, CHUNKS, 1)
    z, y = CHUNKS["z"], CHUNKS["y"]
    for length in range(len(y) + 4):
        assert bitstream.arrived(data[: HEAD + length]) == (HEADER, {"z": z, "y": y[:length]}, min(length / len(y), 1))
    assert bitstream.arrived(data[:-1])[1] == {name: CHUNKS[name] for name in ("z", "y", "icc")}
    with pytest.raises(JndError, match="chunk y is damaged"):
        bitstream.arrived(data[: HEAD + 3] + b"!" + data[HEAD + 4 : -1])


def damaged(position: int, value: bytes) -> bytes:
    data = bitstream.pack(HEADER, CHUNKS)
    return reseal(data[:position] + value + data[position + len(value) :])


# Offsets as docs/format.md gives them.
@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (0, b"PNG!", "not a .jnd file"),
        (4, b"\x02", "older format 2.*anew"),
        (4, b"\x04", "newer format.*version 4.*update.*fresh copy"),
        (5, b"\x00", "head is damaged"),
        (5, b"\x01", "head is damaged"),
        (5, b"\x0c", "head is damaged"),
        (6, b"\x07", "newer format"),
        (6, b"\x11", "newer format"),
        (7, b"\x04", "newer format"),
        (16, struct.pack("<H", 0), "0x480 pixels"),
        (18, struct.pack("<H", 0), "640x0 pixels"),
        (16, struct.pack("<HH", 65535, 4097), "65535x4097 pixels does not fit"),
        (20, struct.pack("<H", 1001), "quality of 0 to 1000"),
        (22, b"\x0c", "unknown kind 12: update"),
        (22, b"\x00", "unknown kind 0"),
        (22, b"\x02", "out of order"),
        (22, struct.pack("<BIBIB", 2, 3, 3, 40, 4), "lacks its chunk z"),
        (27, struct.pack("<BIB", 3, 40, 4), "lacks its chunk y"),
        (23, struct.pack("<I", 2**32 - 1), "inside its head"),
        (28, struct.pack("<I", 2**32 - 1), "ends after"),
        (23, struct.pack("<I", 2), "1 bytes follow"),
        (28, struct.pack("<I", 39), "1 bytes follow"),
    ],
)
def test_impossible_values_are_refused_even_under_a_correct_crc(position, value, message):
    with pytest.raises(JndError, match=message):
        bitstream.unpack(damaged(position, value))


def test_a_damaged_chunk_is_named():
    data = bytearray(bitstream.pack(HEADER, CHUNKS))
    data[-4 - len("{}") - 4 - 1] ^= 1
    with pytest.raises(JndError, match="chunk icc is damaged"):
        bitstream.unpack(bytes(data))


@pytest.mark.parametrize(
    "header",
    [
        Header("0123", 1, 1, 0),
        Header("zz" * 8, 1, 1, 0),
        Header("00" * 8, 0, 1, 0),
        Header("00" * 8, 65536, 1, 0),
        Header("00" * 8, 65535, 65535, 0),
        Header("00" * 8, 1, 1, 1001),
        Header("00" * 8, 1, 1, -1),
        Header("00" * 8, 1, 1, 0, coder="zip"),
        Header("00" * 8, 1, 1, 0, bit_depth=17),
    ],
)
def test_a_header_out_of_range_is_not_written(header):
    with pytest.raises(JndError):
        bitstream.pack(header, CHUNKS)


@pytest.mark.parametrize("chunks", [{}, {"z": b""}, {"y": b""}, {"z": b"", "y": b"", "sound": b""}])
def test_missing_and_unknown_chunks_are_not_written(chunks):
    with pytest.raises(JndError, match="chunks z and y"):
        bitstream.pack(HEADER, chunks)


def test_probe_lists_every_field_and_chunk():
    data = bitstream.pack(HEADER, CHUNKS)
    fields = bitstream.probe(data)
    assert {field.name for field in bitstream.HEADER_FIELDS} <= set(fields)
    expected = {
        "version": 3,
        "coder": "constriction",
        "chunks": 4,
        "model": "0123456789abcdef",
        "width": 640,
        "height": 480,
        "quality": 505,
        "bit_depth": 8,
        "flags": 0,
        "head_crc": f"{zlib.crc32(data[: HEAD - 4]):08x}",
        "bytes": len(data),
        "file_size": len(data),
        "intact": True,
    }
    assert {name: fields[name] for name in expected} == expected
    for chunk in fields["table"]:
        assert {field.name for field in bitstream.CHUNK_FIELDS} <= set(chunk)
    assert [(c["name"], c["size"]) for c in fields["table"]] == [(name, len(chunk)) for name, chunk in CHUNKS.items()]


def test_probe_tells_which_chunks_are_intact():
    data = bytearray(bitstream.pack(HEADER, CHUNKS))
    data[HEAD] ^= 1
    fields = bitstream.probe(bytes(data[:-1]))
    assert not fields["intact"]
    assert {chunk["name"]: chunk["intact"] for chunk in fields["table"]} == {
        "z": True,
        "y": False,
        "icc": True,
        "note": False,
    }


def _rows(title: str) -> list[list[str]]:
    page = (Path(__file__).parents[1] / "docs" / "format.md").read_text(encoding="utf-8")
    section = page.split(f"\n## {title}\n")[1].split("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("|")
    ]
    return rows[2:]


@pytest.mark.parametrize(
    ("title", "fields"), [("Header", bitstream.HEADER_FIELDS), ("Chunk table", bitstream.CHUNK_FIELDS)]
)
def test_the_documented_fields_are_those_of_the_code(title, fields):
    types = {"B": "u8", "H": "u16", "I": "u32"}
    expected, offset = [], 0
    for field in fields:
        kind = types.get(field.code) or f"{field.code.removesuffix('s')} bytes"
        expected.append([str(offset), kind, f"`{field.name}`", field.meaning])
        offset += struct.calcsize("<" + field.code)
    assert _rows(title) == expected


def test_the_documented_chunks_are_those_of_the_code():
    documented = {re.sub("`", "", row[1]): int(row[0]) for row in _rows("Chunks")}
    assert documented == bitstream.TAGS
