"""Damage for .jnd files that their checksums do not see."""

from __future__ import annotations

import struct
import zlib

_ENTRY = struct.Struct("<BII")


def reseal(data: bytes) -> bytes:
    """`data` with every CRC-32 recomputed, as far as its header and chunk table reach."""
    if len(data) < 32:
        return data
    head, rest = data[:28] + struct.pack("<I", zlib.crc32(data[:28])), data[32:]
    size = data[7] * _ENTRY.size
    if len(rest) < size + 4:
        return head + rest
    table, payload, position = b"", rest[size + 4 :], 0
    for tag, length, _ in _ENTRY.iter_unpack(rest[:size]):
        table += _ENTRY.pack(tag, length, zlib.crc32(payload[position : position + length]))
        position += length
    return head + table + struct.pack("<I", zlib.crc32(table)) + payload
