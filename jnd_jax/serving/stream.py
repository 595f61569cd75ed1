"""Decodes the bytes of .jnd files (coder tfc) to pixels in one TensorFlow graph; docs/format.md is normative.

Needs the ops of `tensorflow-compression-ops` where the graph is built and where it runs.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tensorflow_compression_ops as ops

from jnd_jax.codec import coding, hyper, hyper_context
from jnd_jax.codec.linear import FOOTPRINT, round_up
from jnd_jax.entropy.tables import BYTE
from jnd_jax.entropy.tfc import lookup
from jnd_jax.modelfile import ModelFile
from jnd_jax.serving import container
from jnd_jax.serving.decoder import Decoder

# Chunks that are returned as they are.
BESIDE = ("alpha", "icc", "exif", "xmp", "note")
# TensorFlow Serving sends outputs with this suffix in base64.
_BYTES = "_bytes"
# A batch may have this many times the pixels of the largest image, padding included.
BATCH_IMAGES = 4


def _beside(file: container.File) -> dict[str, tf.Tensor]:
    return {name + _BYTES: file.chunks[name] for name in BESIDE}


def _positions(side: tf.Tensor) -> tf.Tensor:
    """Hyper-latents along a side in pixels."""
    return round_up(side) // FOOTPRINT


class StreamDecoder(tf.Module):
    """Decodes .jnd files; the methods become signatures of a SavedModel."""

    def __init__(self, model: ModelFile, decoder: Decoder, max_pixels: int):
        """Raises JndError for a model without tables.

        Args:
          model: whose files are decoded.
          decoder: of the same model.
          max_pixels: pixels of the largest image; a larger one is refused before memory is allocated for it.
        """
        super().__init__(name="jnd_stream")
        coder = coding.latent_coder(model.params, model.tables)
        constant = lambda array: tf.Variable(np.asarray(array, np.int32), trainable=False)
        self._decoder, self._max_pixels = decoder, max_pixels
        self._y_lookup = constant(lookup([*coder.y_tables, BYTE]))
        self._y_half_width = constant(coder.y_half_width)
        self._z_lookup = constant(lookup([*coder.z_tables, BYTE]))
        self._z_half_width = constant(coder.z_half_width)

    def decode(self, data: tf.Tensor) -> dict[str, tf.Tensor]:
        """Decodes one file; fails with InvalidArgumentError and a sentence if it cannot be decoded.

        Args:
          data: string scalar, the bytes of the file.

        Returns:
          "image", (H, W, 3) uint8, and string scalars, empty if the file has none: "alpha_bytes", the opacity as a PNG or
          WebP file; "icc_bytes", the colour profile; "exif_bytes", "xmp_bytes" and "note_bytes".
        """
        file = self._read(data)
        status, image = self._image(file)
        with tf.control_dependencies([tf.debugging.Assert(status == "", [status])]):
            return {"image": tf.identity(image), **_beside(file)}

    def decode_batch(self, data: tf.Tensor) -> dict[str, tf.Tensor]:
        """Decodes several files; one that cannot be decoded does not fail the others.

        Args:
          data: (B,) strings, the bytes of the files.

        Returns:
          "images" (B, H, W, 3) uint8, H and W the largest sides, smaller images padded with zeros at the right and bottom;
          "heights" and "widths" (B,) int32, 0 for a file that cannot be decoded; "status" (B,) strings: why it cannot be
          decoded, or ""; and the chunks that `decode` returns, each (B,).
        """
        sizes = tf.map_fn(self._size, data, fn_output_signature=(tf.int32, tf.int32))
        largest = [tf.reduce_max(tf.concat([side, [0]], 0)) for side in sizes]
        pixels = tf.size(data, tf.int64) * tf.cast(largest[0], tf.int64) * tf.cast(largest[1], tf.int64)
        message = f"The batch has more than {BATCH_IMAGES * self._max_pixels} pixels in all: send fewer files"
        with tf.control_dependencies([tf.debugging.Assert(pixels <= BATCH_IMAGES * self._max_pixels, [message])]):
            data = tf.identity(data)

        def padded(image: tf.Tensor) -> tf.Tensor:
            missing = [[0, side - tf.shape(image)[axis]] for axis, side in enumerate(largest)]
            return tf.pad(image, [*missing, [0, 0]])

        return self._each(data, "images", padded, tf.TensorSpec([None, None, 3], tf.uint8))

    def decode_image(self, data: tf.Tensor, encode: Callable[[tf.Tensor], tf.Tensor]) -> dict[str, tf.Tensor]:
        """As `decode_batch`, with "image_bytes" (B,), image files written by `encode`, in place of "images"."""
        written = lambda image: tf.cond(tf.size(image) > 0, lambda: encode(image), lambda: tf.constant(""))
        return self._each(data, "image_bytes", written, tf.TensorSpec([], tf.string))

    def _each(self, data, name: str, finish: Callable[[tf.Tensor], tf.Tensor], spec: tf.TensorSpec):
        def one(data: tf.Tensor) -> dict[str, tf.Tensor]:
            file = self._read(data)
            status, image = self._image(file)
            good = tf.cast(status == "", tf.int32)
            sides = {"heights": file.height * good, "widths": file.width * good}
            return {name: finish(image), "status": status, **sides, **_beside(file)}

        string, number = tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int32)
        signature = {
            name: spec,
            "status": string,
            "heights": number,
            "widths": number,
            **dict.fromkeys([chunk + _BYTES for chunk in BESIDE], string),
        }
        return tf.map_fn(one, data, fn_output_signature=signature)

    def _read(self, data: tf.Tensor) -> container.File:
        return container.read(data, self._decoder.hash, self._max_pixels)

    def _size(self, data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        file = self._read(data)
        return file.height, file.width

    def _image(self, file: container.File) -> tuple[tf.Tensor, tf.Tensor]:
        """Status and (H, W, 3) uint8 image of a file; (0, 0, 3) with a status that is not ""."""
        nothing = tf.zeros([0, 0, 3], tf.uint8)

        def decoded():
            z, z_intact = self._decode_z(
                file.chunks["z"], _positions(file.height), _positions(file.width), file.quality
            )
            symbols, y_intact = self._decode_y(file.chunks["y"], z, file.quality)
            image = self._decoder.synthesize(symbols[None], z[None], file.quality[None], file.height, file.width)[0]
            return tf.cond(z_intact & y_intact, lambda: (tf.constant(""), image), lambda: (container.DAMAGED, nothing))

        return tf.cond(file.status == "", decoded, lambda: (file.status, nothing))

    def _decode_z(self, data: tf.Tensor, h: tf.Tensor, w: tf.Tensor, quality: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Hyper-latents (h, w, Cz) int32, and whether the data ended where it should."""
        channels, parts = self._decoder.hyper_latents, hyper_context.PARTS

        def step(number: tf.Tensor, handle: tf.Tensor, z: tf.Tensor):
            rows = tf.range(tf.maximum(0, (number - w) // 2 + 1), tf.minimum(h, number // 2 + 1))
            at = tf.stack([rows, number - 2 * rows], axis=-1) + 1
            around = tf.stack([tf.gather_nd(z, at + offset) for offset in hyper_context.NEIGHBOURS], axis=1)
            level, mean = self._decoder.hyper_context(around, quality)
            whole = mean // parts
            table = tf.reshape(parts * level + mean - parts * whole, [-1])
            handle, values = self._decode_pass(handle, table, self._z_half_width)
            values = tf.clip_by_value(tf.reshape(values, [-1, channels]) + whole, -hyper.Z_MAX, hyper.Z_MAX)
            return number + 1, handle, tf.tensor_scatter_nd_update(z, at, values)

        start = 0, ops.create_range_decoder(data, self._z_lookup), tf.zeros([h + 1, w + 2, channels], tf.int32)
        shapes = tf.TensorShape([]), tf.TensorShape([]), tf.TensorShape([None, None, channels])
        more = lambda number, *_: number < w + 2 * h - 2
        _, handle, z = tf.while_loop(more, step, start, shape_invariants=shapes, parallel_iterations=1)
        return z[1:, 1:-1], ops.entropy_decode_finalize(handle)

    def _decode_y(self, data: tf.Tensor, z: tf.Tensor, quality: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """(h, w, M) int32 residual symbols of all passes, and whether the data ended where it should."""
        handle = ops.create_range_decoder(data, self._y_lookup)

        def decode(index: tf.Tensor) -> tf.Tensor:
            nonlocal handle
            handle, values = self._decode_pass(handle, tf.reshape(index, [-1]), self._y_half_width)
            return tf.reshape(values, tf.shape(index))

        symbols = self._decoder.decode_symbols(z[None], quality[None], decode)[0]
        return symbols, ops.entropy_decode_finalize(handle)

    def _decode_pass(self, handle: tf.Tensor, index: tf.Tensor, half_width: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The range decoder after a pass, and its (n,) symbols, from the numbers (n,) of their tables.

        A pass is coded table by table; the values of escaped symbols follow.
        """
        order = tf.argsort(index, stable=True)
        level = tf.gather(index, order)
        handle, values = ops.entropy_decode_index(handle, level, tf.shape(level), Tdecoded=tf.int32)
        half = tf.gather(half_width, level)
        escaped = tf.where(values == 2 * half + 1)
        parts = tf.fill([2 * tf.shape(escaped)[0]], tf.size(half_width))
        handle, parts = ops.entropy_decode_index(handle, parts, tf.shape(parts), Tdecoded=tf.int32)
        wide = parts[::2] + 256 * parts[1::2]
        wide -= tf.where(wide < 2**15, 0, 2**16)
        values = tf.tensor_scatter_nd_update(values - half, escaped, wide)
        return handle, tf.scatter_nd(order[:, None], values, tf.shape(index))
