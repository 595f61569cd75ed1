"""From the bytes of a .jnd file with coder tfc to pixels in one TensorFlow graph; docs/format.md is normative.

Needs the ops of `tensorflow-compression-ops`, where the graph is made and where it runs.
"""

from __future__ import annotations

import zlib

import numpy as np
import tensorflow as tf
import tensorflow_compression_ops as ops

from jnd_jax import bitstream
from jnd_jax.codec import coding, hyper
from jnd_jax.codec.linear import FOOTPRINT, round_up
from jnd_jax.entropy.tables import BYTE, PRECISION
from jnd_jax.entropy.tfc import lookup
from jnd_jax.modelfile import ModelFile
from jnd_jax.serving.decoder import Decoder

_LONGEST_TABLE = bitstream.HEADER_SIZE + 9 * 255 + 8
_DAMAGED = "the file is damaged or cut short: copy or download it again"

# Bytes that take a CRC-32 register from zero to its initial value, all ones.
_CRC_START = bytes.fromhex("62f52692")


def _advance(state: int, zeros: int) -> int:
    """A CRC-32 register after so many zero bytes."""
    return zlib.crc32(bytes(zeros), state ^ 0xFFFFFFFF) ^ 0xFFFFFFFF


def _crc_tables() -> np.ndarray:
    """(32, 4, 256) uint32: entry [n, k, b] is the CRC-32 register b << 8k after 2^n zero bytes."""
    first = [[_advance(b << 8 * k, 1) for b in range(256)] for k in range(4)]
    tables = [np.array(first, np.uint32)]
    for _ in range(31):
        last = tables[-1]
        tables.append(np.bitwise_xor.reduce([last[k][last >> 8 * k & 255] for k in range(4)]))
    return np.stack(tables)


def crc32(data: tf.Tensor) -> tf.Tensor:
    """CRC-32 as zlib's of (n,) uint8, a uint32 scalar.

    The register is linear in the message, so that those of neighbouring stretches are combined pairwise: log2(n) steps.
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


def _within(side: tf.Tensor, largest: int) -> tf.Tensor:
    return (side > 0) & (side <= largest)


def _positions(side: tf.Tensor) -> tf.Tensor:
    """Hyper-latents along a side in pixels."""
    return round_up(side) // FOOTPRINT


class StreamDecoder(tf.Module):
    """.jnd files to images; its methods are made to be signatures of a SavedModel."""

    def __init__(self, model: ModelFile, decoder: Decoder):
        super().__init__(name="jnd_stream")
        coder = coding.latent_coder(model.params, model.tables)
        constant = lambda array: tf.Variable(np.asarray(array, np.int32), trainable=False)
        self._decoder = decoder
        self._y_lookup = constant(lookup([*coder.y_tables, BYTE]))
        self._half_width = constant(coder.y_half_width)
        self._z_lookup = constant([[lookup([table]) for table in node] for node in coder.z_tables])
        # By node, the bits that the hyper-latents of one position need at least; see `LatentCoder.check_size`.
        least = np.sum(PRECISION - np.log2(coder.z_tables.max(axis=-1)), axis=-1)
        self._least_bits = tf.Variable(least.astype(np.float32), trainable=False)

    def decode(self, data: tf.Tensor) -> tf.Tensor:
        """The (H, W, 3) uint8 image of a file, a scalar string.

        Fails with InvalidArgumentError and a sentence for a file that is damaged, of another model or another coder.
        """
        height, width, quality, z_data, y_data = self._parse(data)
        z = self._decode_z(z_data, _positions(height), _positions(width), hyper.nearest_node(quality))
        symbols = self._decode_y(y_data, z, quality)
        return self._decoder.synthesize(symbols[None], z[None], quality[None], height, width)[0]

    def decode_batch(self, data: tf.Tensor) -> dict[str, tf.Tensor]:
        """Images of (B,) files: "images" (B, H, W, 3) uint8, H and W the largest sides, with zeros at the right and
        bottom of smaller ones; "heights" and "widths" (B,) int32. Fails as `decode` if one of the files does.
        """
        heights, widths = tf.map_fn(lambda file: self._parse(file)[:2], data, fn_output_signature=(tf.int32, tf.int32))
        largest = tf.reduce_max(heights), tf.reduce_max(widths)

        def one(file):
            image = self.decode(file)
            missing = [[0, side - tf.shape(image)[axis]] for axis, side in enumerate(largest)]
            return tf.pad(image, [*missing, [0, 0]])

        images = tf.map_fn(one, data, fn_output_signature=tf.TensorSpec([None, None, 3], tf.uint8))
        return {"images": images, "heights": heights, "widths": widths}

    def _parse(self, data: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """(height, width, quality) int32 and (z, y) strings of a file, once all that counts has been checked."""
        raw = tf.io.decode_raw(data, tf.uint8)
        size = tf.size(raw, tf.int64)
        # A field beyond the end reads as zeros, so that no op fails before the check that says why.
        fields = tf.pad(raw, [[0, _LONGEST_TABLE]])
        number = lambda offset, length: _number(fields, offset, length)
        intact = lambda part, at: tf.cast(crc32(part), tf.int64) == number(at, 4)
        width, height, quality = number(16, 4), number(20, 4), number(24, 2)
        table_end = bitstream.HEADER_SIZE + 9 * tf.cast(number(7, 1), tf.int32)
        tags = fields[bitstream.HEADER_SIZE : table_end : 9]
        model = list(bytes.fromhex(self._decoder.hash))
        start = tf.cast(table_end, tf.int64) + 4
        z_size, y_size = number(33, 4), number(42, 4)
        middle = tf.minimum(start + z_size, size)
        z, y = raw[start:middle], raw[middle : middle + y_size]
        checks = (
            (tf.reduce_all(fields[:4] == list(bitstream.MAGIC)), "the file is not a .jnd file"),
            (intact(fields[:28], 28), _DAMAGED),
            (number(4, 1) == bitstream.VERSION, "the file is of a newer format than this program reads: update it"),
            (
                number(5, 1) == bitstream.CODERS.index("tfc"),
                "the file is coded for constriction: transcode it with `jnd-jax transcode --coder tfc`",
            ),
            (number(6, 1) == self._decoder.passes, _DAMAGED),
            (tf.reduce_all(fields[8:16] == model), f"the file was made with another model than {self._decoder.hash}"),
            (number(7, 1) <= len(bitstream.TAGS), _DAMAGED),
            (
                ~tf.reduce_any(tags == bitstream.TAGS["regions"]),
                "the file has a quality by region, which this program does not read: decode it with jnd-jax",
            ),
            (
                ~tf.reduce_any(tags == bitstream.TAGS["residual"]),
                "the file has a bound on its errors, which this program does not read: decode it with jnd-jax",
            ),
            (
                _within(width, bitstream.MAX_SIDE)
                & _within(height, bitstream.MAX_SIDE)
                & (width * height <= bitstream.MAX_PIXELS)
                & (quality <= bitstream.MAX_QUALITY),
                "the file declares a size or a quality that no file has",
            ),
            (intact(fields[bitstream.HEADER_SIZE : table_end], table_end), _DAMAGED),
            ((tf.size(z, tf.int64) == z_size) & intact(z, 37), _DAMAGED),
            ((tf.size(y, tf.int64) == y_size) & intact(y, 46), _DAMAGED),
            (
                self._plausible(z_size, height, width, quality),
                "the coded data is too short for the declared image size: get a fresh copy of the file",
            ),
        )
        for condition, message in checks:
            with tf.control_dependencies([tf.debugging.Assert(condition, [message])]):
                start = tf.identity(start)
        with tf.control_dependencies([start]):
            sides = [tf.cast(value, tf.int32) for value in (height, width, quality)]
            start, middle = tf.cast(start, tf.int32), tf.cast(middle, tf.int32)
            z_size, y_size = tf.cast(z_size, tf.int32), tf.cast(y_size, tf.int32)
            return *sides, tf.strings.substr(data, start, z_size), tf.strings.substr(data, middle, y_size)

    def _plausible(self, z_size: tf.Tensor, height: tf.Tensor, width: tf.Tensor, quality: tf.Tensor) -> tf.Tensor:
        """Whether the bytes of z can be those of an image of this size: a bound on what a file may ask for."""
        positions = tf.cast(_positions(height) * _positions(width), tf.float32)
        least = tf.gather(self._least_bits, tf.minimum(hyper.nearest_node(quality), hyper.NODES - 1))
        return positions * least <= tf.cast(8 * z_size + 64, tf.float32)

    def _decode_z(self, data: tf.Tensor, h: tf.Tensor, w: tf.Tensor, node: tf.Tensor) -> tf.Tensor:
        """(h, w, Cz) int32."""
        channels = self._decoder.hyper_latents
        handle = ops.create_range_decoder(data, tf.gather(self._z_lookup, node))
        index = tf.repeat(tf.range(channels), h * w)
        handle, z = ops.entropy_decode_index(handle, index, tf.shape(index), Tdecoded=tf.int32)
        tf.debugging.Assert(ops.entropy_decode_finalize(handle), [_DAMAGED])
        return tf.transpose(tf.reshape(z, [channels, h, w]), [1, 2, 0]) - hyper.Z_MAX

    def _decode_y(self, data: tf.Tensor, z: tf.Tensor, quality: tf.Tensor) -> tf.Tensor:
        """(h, w, M) int32 residual symbols of all passes."""
        handle = ops.create_range_decoder(data, self._y_lookup)

        def decode(index: tf.Tensor) -> tf.Tensor:
            nonlocal handle
            handle, values = self._decode_pass(handle, tf.reshape(index, [-1]))
            return tf.reshape(values, tf.shape(index))

        symbols = self._decoder.decode_symbols(z[None], quality[None], decode)[0]
        tf.debugging.Assert(ops.entropy_decode_finalize(handle), [_DAMAGED])
        return symbols

    def _decode_pass(self, handle: tf.Tensor, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The decoder after a pass, and the (n,) symbols of (n,) scale indexes: in their order, then the escaped ones."""
        order = tf.argsort(index, stable=True)
        level = tf.gather(index, order)
        handle, values = ops.entropy_decode_index(handle, level, tf.shape(level), Tdecoded=tf.int32)
        half = tf.gather(self._half_width, level)
        escaped = tf.where(values == 2 * half + 1)
        parts = tf.fill([2 * tf.shape(escaped)[0]], hyper.SCALE_LEVELS)
        handle, parts = ops.entropy_decode_index(handle, parts, tf.shape(parts), Tdecoded=tf.int32)
        wide = parts[::2] + 256 * parts[1::2]
        wide -= tf.where(wide < 2**15, 0, 2**16)
        values = tf.tensor_scatter_nd_update(values - half, escaped, wide)
        return handle, tf.scatter_nd(order[:, None], values, tf.shape(index))
