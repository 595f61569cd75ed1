"""Damage for .jnd files that their checksums do not see."""

from __future__ import annotations

import struct
import zlib

from jnd_jax.bitstream import HEADER_SIZE

ENTRY = 5  # bytes of an entry of the chunk table
CRC = 4


def payloads(data: bytes) -> list[slice]:
    """Where the chunks of a file are, without their CRC-32, as far as its chunk table reaches."""
    if len(data) < HEADER_SIZE:
        return []
    start, found = HEADER_SIZE + ENTRY * data[5], []
    entries = min(data[5], (len(data) - HEADER_SIZE) // ENTRY)
    for i in range(entries):
        size = struct.unpack_from("<I", data, HEADER_SIZE + ENTRY * i + 1)[0]
        found.append(slice(start, start + size))
        start += size + CRC
    return found


def reseal(data: bytes) -> bytes:
    """`data` with every CRC-32 recomputed, as far as its chunks reach."""
    sealed, covered = bytearray(data), 0
    for place in payloads(data):
        behind = place.stop + CRC
        if behind > len(data):
            break
        sealed[place.stop : behind] = zlib.crc32(sealed[covered : place.stop]).to_bytes(CRC, "little")
        covered = behind
    return bytes(sealed)
