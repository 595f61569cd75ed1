"""Parses and checks the container of a .jnd file in a TensorFlow graph; docs/format.md is normative."""

from __future__ import annotations

import functools
import zlib
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from jnd_jax import bitstream

DAMAGED = "The file is damaged or cut short: copy or download it again"
_ENTRY = 5  # bytes of an entry of the chunk table: tag, size
_LONGEST_TABLE = bitstream.HEADER_SIZE + _ENTRY * 255 + 8

# Bytes that take a CRC-32 register from zero to its initial value, all ones.
_CRC_START = bytes.fromhex("62f52692")


def _advance(state: int, zeros: int) -> int:
    """A CRC-32 register after so many zero bytes."""
    return zlib.crc32(bytes(zeros), state ^ 0xFFFFFFFF) ^ 0xFFFFFFFF


@functools.cache
def _crc_tables() -> np.ndarray:
    """(32, 4, 256) uint32: entry [n, k, b] is the CRC-32 register b << 8k after 2^n zero bytes."""
    first = [[_advance(b << 8 * k, 1) for b in range(256)] for k in range(4)]
    tables = [np.array(first, np.uint32)]
    for _ in range(31):
        last = tables[-1]
        tables.append(np.bitwise_xor.reduce([last[k][last >> 8 * k & 255] for k in range(4)]))
    return np.stack(tables)


def crc32(data: tf.Tensor) -> tf.Tensor:
    """zlib's CRC-32 of (n,) uint8, a uint32 scalar.

    CRCs are linear in the message, so neighbouring stretches are combined pairwise, in log2(n) steps.
    """
    tables, message = tf.constant(_crc_tables()), tf.concat([np.frombuffer(_CRC_START, np.uint8), data], axis=0)

    def combine(level, register):
        register = tf.pad(register, [[tf.size(register) % 2, 0]])
        left, right = register[::2], register[1::2]
        for k in range(4):
            byte = tf.cast(
                tf.bitwise.bitwise_and(tf.bitwise.right_shift(left, tf.constant(8 * k, tf.uint32)), 255), tf.int32
            )
            right = tf.bitwise.bitwise_xor(right, tf.gather(tables[level, k], byte))
        return level + 1, right

    register = tf.gather(tables[0, 0], tf.cast(message, tf.int32))
    _, register = tf.while_loop(
        lambda level, register: tf.size(register) > 1,
        combine,
        (0, register),
        shape_invariants=(tf.TensorShape([]), tf.TensorShape([None])),
    )
    return tf.bitwise.invert(register[0])


def _number(raw: tf.Tensor, offset: tf.Tensor | int, size: int) -> tf.Tensor:
    """The little-endian number, int64, in `size` bytes of (n,) uint8."""
    return tf.reduce_sum(tf.cast(raw[offset : offset + size], tf.int64) * [256**i for i in range(size)])


class File(NamedTuple):
    """A parsed file; all fields but `status` are zero or empty if it cannot be decoded.

    Attributes:
      status: string scalar, why the file cannot be decoded, or "".
      height, width: int32 scalars, pixels.
      quality: int32 scalar, tenths.
      chunks: string scalars by name (`bitstream.TAGS`), "" for a chunk that the file does not have.
    """

    status: tf.Tensor
    height: tf.Tensor
    width: tf.Tensor
    quality: tf.Tensor
    chunks: dict[str, tf.Tensor]


def read(data: tf.Tensor, model: str, max_pixels: int) -> File:
    """Parses a file and checks every byte of it.

    Args:
      data: string scalar, the bytes of the file.
      model: hash of the model whose files are accepted.
      max_pixels: pixels of the largest image accepted.
    """
    raw = tf.io.decode_raw(data, tf.uint8)
    size = tf.size(raw, tf.int64)
    # Fields beyond the end read as zeros, so no op fails before the check that says why.
    fields = tf.pad(raw, [[0, _LONGEST_TABLE]])
    number = lambda offset, length: _number(fields, offset, length)
    numbers = lambda offsets: tf.map_fn(lambda at: number(at, 4), offsets, fn_output_signature=tf.int64)
    width, height, quality, flags = number(16, 2), number(18, 2), number(20, 2), number(7, 1)
    count = tf.cast(number(5, 1), tf.int32)
    table_end = bitstream.HEADER_SIZE + _ENTRY * count
    tags = tf.cast(fields[bitstream.HEADER_SIZE : table_end : _ENTRY], tf.int32)
    sizes = numbers(bitstream.HEADER_SIZE + _ENTRY * tf.range(count) + 1)
    behind = tf.cast(table_end, tf.int64) + tf.cumsum(sizes + 4)
    ends = behind - 4
    starts = ends - sizes
    crcs = numbers(tf.minimum(ends, size))
    intact = _checked(raw, starts, ends) == crcs
    required = tf.constant([bitstream.TAGS[name] for name in bitstream.REQUIRED])
    has = lambda name: tf.reduce_any(tags == bitstream.TAGS[name])
    checks = (
        (tf.reduce_all(fields[:4] == list(bitstream.MAGIC)), "The file is not a .jnd file"),
        (
            number(4, 1) == bitstream.VERSION,
            "The file is damaged or of another format than this program reads: get a fresh copy of it or update the program",
        ),
        ((count >= 2) & (count <= len(bitstream.TAGS)), DAMAGED),
        (tf.reduce_all(intact[:1]), DAMAGED),
        (
            flags & bitstream.TFC != 0,
            "The file is coded for constriction: transcode it with `jnd-jax transcode --coder tfc`",
        ),
        (
            tf.reduce_all(fields[8:16] == list(bytes.fromhex(model))),
            f"The file was made with another model than {model}",
        ),
        (
            tf.reduce_all(tags[:2] == required[: tf.size(tags[:2])])
            & tf.reduce_all(tags[1:] > tags[:-1])
            & tf.reduce_all(tags <= len(bitstream.TAGS)),
            "The file's chunk table is out of order: have the file written again",
        ),
        (
            ~has("regions"),
            "The file has a quality by region, which this program does not read: decode it with jnd-jax",
        ),
        (
            ~has("residual"),
            "The file has a bound on its errors, which this program does not read: decode it with jnd-jax",
        ),
        (
            _within(width, bitstream.MAX_SIDE)
            & _within(height, bitstream.MAX_SIDE)
            & (width * height <= bitstream.MAX_PIXELS)
            & (quality <= bitstream.MAX_QUALITY),
            "The file declares a size or a quality that no file has",
        ),
        (
            (number(6, 1) == 8) & (flags == bitstream.TFC),
            "The file is grey or has more than 8 bits a sample, which this program does not read: decode it with jnd-jax",
        ),
        (width * height <= max_pixels, f"The image has more than the {max_pixels} pixels that this program decodes"),
        (tf.reduce_max(tf.concat([[0], behind], 0)) == size, DAMAGED),
        (tf.reduce_all(intact), DAMAGED),
    )
    status = tf.constant("")
    for condition, message in reversed(checks):
        status = tf.where(condition, status, message)
    return _file(data, status, (height, width, quality), tags, starts, sizes)


def _checked(raw: tf.Tensor, starts: tf.Tensor, ends: tf.Tensor) -> tf.Tensor:
    """CRC-32 of each chunk, int64; the first covers all of the file's head."""
    size = tf.size(raw, tf.int64)
    part = lambda span: raw[tf.minimum(span[0], size) : tf.minimum(span[1], size)]
    spans = tf.concat([tf.zeros_like(starts[:1]), starts[1:]], 0), ends
    return tf.map_fn(lambda span: tf.cast(crc32(part(span)), tf.int64), spans, fn_output_signature=tf.int64)


def _file(data, status, values, tags, starts, sizes) -> File:
    good = status == ""

    def chunk(tag: int) -> tf.Tensor:
        here = tf.cast((tags == tag) & good, tf.int32)
        at, size = (tf.reduce_sum(tf.cast(column, tf.int32) * here) for column in (starts, sizes))
        return tf.strings.substr(data, at, size)

    chunks = {name: chunk(tag) for name, tag in bitstream.TAGS.items()}
    height, width, quality = (tf.cast(tf.where(good, value, 0), tf.int32) for value in values)
    return File(status, height, width, quality, chunks)


def _within(side: tf.Tensor, largest: int) -> tf.Tensor:
    return (side > 0) & (side <= largest)
