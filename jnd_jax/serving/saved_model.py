"""Exports the decoder as a SavedModel of plain TensorFlow ops, and if these are installed, of ops that decode bytes."""

from __future__ import annotations

import argparse
import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

from jnd_jax import bitstream
from jnd_jax.codec import coding, hyper
from jnd_jax.codec.linear import BLOCK, GRID
from jnd_jax.modelfile import ModelFile
from jnd_jax.serving import export as exporting
from jnd_jax.serving import warmup
from jnd_jax.serving.decoder import Decoder

# No Python control flow depends on a tensor, so AutoGraph would only cost time.
_traced = functools.partial(tf.function, autograph=False)
# By image format, what writes `image_bytes`.
_WRITERS = {
    "png": tf.io.encode_png,
    "jpeg": lambda image: tf.io.encode_jpeg(image, quality=90, chroma_downsampling=False),
}


def signatures(
    model: ModelFile, *, plain: bool, max_pixels: int, image_format: str
) -> tuple[tf.Module, dict[str, tf.types.experimental.ConcreteFunction]]:
    """Traces the signatures of a SavedModel.

    Args:
      model: to decode with.
      plain: leave out the signatures with custom ops, even if these are installed.
      max_pixels: pixels of the largest image that is decoded.
      image_format: "png" or "jpeg", for `image_bytes`.

    Returns:
      The module that holds the variables, and the concrete functions by name.
    """
    root = tf.Module()
    root.decoder = decoder = Decoder(model)
    functions = _latent_functions(decoder, max_pixels, _WRITERS[image_format])
    try:
        from jnd_jax.serving.stream import StreamDecoder
    except ImportError:
        plain = True
    if not plain:
        root.stream = stream = StreamDecoder(model, decoder, max_pixels)
        functions |= _file_functions(stream, _WRITERS[image_format])
    functions["serving_default"] = functions["synthesize_image" if plain else "decode_image"]
    return root, functions


def _latent_functions(decoder: Decoder, max_pixels: int, write: Callable) -> dict[str, Any]:
    """Signatures that take decoded latents: symbols need 16 bits and z needs 8."""
    spec = lambda name, kind, *shape: tf.TensorSpec((None, *shape), kind, name)
    latents = {
        "symbols": spec("symbols", tf.int16, None, None, decoder.latents),
        "z": spec("z", tf.int8, None, None, decoder.hyper_latents),
        "quality": spec("quality", tf.int32),
    }
    sides = {"height": spec("height", tf.int32), "width": spec("width", tf.int32)}
    integers = lambda symbols, z: (tf.cast(symbols, tf.int32), tf.cast(z, tf.int32))

    def synthesize(symbols, z, quality, height, width):
        checks = _latent_checks(symbols, z, quality, max_pixels) + _size_checks(symbols, height, width)
        with tf.control_dependencies(checks):
            symbols, z = integers(symbols, z)
        return decoder.synthesize(symbols, z, quality, tf.reduce_max(height), tf.reduce_max(width))

    def synthesize_image(symbols, z, quality, height, width):
        images = synthesize(symbols, z, quality, height, width)
        one = lambda image: write(image[0][: image[1], : image[2]])
        written = tf.map_fn(one, (images, height, width), fn_output_signature=tf.string)
        return {"image_bytes": written}

    def hyper_pass(symbols, z, quality, number):
        with tf.control_dependencies(_latent_checks(symbols, z, quality, max_pixels)):
            symbols, z = integers(symbols, z)
        return decoder.hyper(z, quality, symbols, number)

    return {
        "synthesize": _traced(lambda **inputs: {"images": synthesize(**inputs)}).get_concrete_function(
            **latents, **sides
        ),
        "synthesize_image": _traced(synthesize_image).get_concrete_function(**latents, **sides),
        "hyper": _traced(hyper_pass).get_concrete_function(**latents, number=tf.TensorSpec([], tf.int32, "number")),
    }


def _file_functions(stream: Any, write: Callable) -> dict[str, Any]:
    """Signatures that take the bytes of files."""
    files = tf.TensorSpec([None], tf.string, "data")
    return {
        "decode": _traced(stream.decode).get_concrete_function(tf.TensorSpec([], tf.string, "data")),
        "decode_batch": _traced(stream.decode_batch).get_concrete_function(files),
        "decode_image": _traced(lambda data: stream.decode_image(data, write)).get_concrete_function(files),
    }


def _latent_checks(symbols, z, quality, max_pixels: int) -> list[tf.Operation]:
    """Assertions that an encoder can have made these latents."""
    batch, h, w, _ = tf.unstack(tf.shape(symbols))
    pixels = BLOCK**2 * tf.cast(h, tf.int64) * tf.cast(w, tf.int64)
    return [
        _check(
            tf.reduce_all(tf.shape(z)[:3] == [batch, h // GRID, w // GRID]) & (h % GRID + w % GRID == 0),
            f"Give z for each {GRID} x {GRID} positions of symbols, h and w multiples of {GRID}",
        ),
        _check(tf.size(quality) == batch, "Give a quality for each image of the batch"),
        _check(_within(quality, 0, hyper.QUALITY_MAX), f"Give qualities of 0 to {hyper.QUALITY_MAX} tenths"),
        _check(pixels <= max_pixels, f"Give images of at most {max_pixels} pixels"),
    ]


def _size_checks(symbols, height, width) -> list[tf.Operation]:
    """Assertions that the latents cover images of these sizes."""
    batch, h, w, _ = tf.unstack(tf.shape(symbols))
    return [
        _check(
            (tf.size(height) == batch) & (tf.size(width) == batch),
            "Give a height and a width for each image of the batch",
        ),
        _check(
            _within(height, 1, BLOCK * h) & _within(width, 1, BLOCK * w),
            f"Give heights of 1 to {BLOCK} h and widths of 1 to {BLOCK} w pixels",
        ),
    ]


def _within(values: tf.Tensor, low: Any, high: Any) -> tf.Tensor:
    return tf.reduce_all((values >= low) & (values <= high))


def _check(condition: tf.Tensor, message: str) -> tf.Operation:
    """Fails with InvalidArgumentError and the message unless the condition holds."""
    return tf.debugging.Assert(condition, [message])


def ops(function: tf.types.experimental.ConcreteFunction) -> list[str]:
    """Names of the ops that a function runs, those of the functions it calls included."""
    graph = function.graph.as_graph_def()
    nodes = [*graph.node, *(node for inner in graph.library.function for node in inner.node_def)]
    return sorted({node.op for node in nodes})


def export(model: ModelFile, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Writes the SavedModel with its warm-up requests, reads it back and compares it with the codec.

    Args:
      model: to export.
      folder: to write to.
      options: plain, max_pixels and image_format, as in `signatures`.

    Returns:
      Entries of the report: "signatures" and "differences".

    Raises:
      JndError: the export does not decode as the codec does.
    """
    root, functions = signatures(
        model, plain=options.plain, max_pixels=options.max_pixels, image_format=options.image_format
    )
    tf.saved_model.save(root, str(folder), functions)
    coder = coding.latent_coder(model.params, model.tables)
    warmup.write(folder, _requests(model, coder, exporting.sample(coder, 32, 48, hyper.QUALITY_MAX // 2), functions))
    loaded = tf.saved_model.load(str(folder)).signatures
    described = {
        name: {
            "inputs": _describe(function.structured_input_signature[1]),
            "outputs": _describe(function.structured_outputs),
            "ops": ops(function),
        }
        for name, function in loaded.items()
    }
    differences = compare(model, loaded)
    exporting.check(differences)
    return {"signatures": described, "differences": differences}


def _describe(specs: dict[str, tf.TensorSpec]) -> dict[str, str]:
    return {name: f"{spec.dtype.name}{spec.shape.as_list()}" for name, spec in specs.items()}


def _latents(drawn: exporting.Sample) -> dict[str, np.ndarray]:
    """A sample as inputs of signatures."""
    symbols, z = drawn.symbols.astype(np.int16), drawn.z.astype(np.int8)
    return {"symbols": symbols, "z": z, "quality": drawn.quality}


def _requests(model, coder, drawn: exporting.Sample, functions: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """A request of 768x512 pixels for each signature that takes whole images."""
    requests: dict[str, dict[str, Any]] = {
        name: _latents(drawn) | {"height": [512], "width": [768]} for name in ("synthesize", "synthesize_image")
    }
    if "decode_image" in functions:
        requests["decode_image"] = {"data": [_file(model, coder, drawn, 512, 768)]}
    return requests


def compare(model: ModelFile, loaded: Any) -> dict[str, Any]:
    """How far a SavedModel's signatures are from the codec on random latents of several qualities."""
    coder = coding.latent_coder(model.params, model.tables)
    reference = exporting.reference_pixels(model)
    wrong, count, ours, theirs, decoded = 0, 0, [], [], []
    for quality in exporting.QUALITIES:
        drawn = exporting.sample(coder, 8, 12, quality)
        for number, expected in enumerate(exporting.of_passes(coder, drawn.indexes)):
            known = _latents(drawn) | {"symbols": exporting.before(coder, drawn.symbols, number).astype(np.int16)}
            indexes = loaded["hyper"](**known, number=number)["indexes"]
            wrong += int(np.sum(indexes.numpy() != expected))
            count += expected.size
        height, width = 8 * BLOCK - 5, 12 * BLOCK - 7
        images = loaded["synthesize"](**_latents(drawn), height=[height], width=[width])["images"].numpy()
        ours.append(images)
        if reference:
            theirs.append(reference(drawn)[:, :height, :width])
        if "decode" in loaded:
            file = _file(model, coder, drawn, height, width)
            decoded.append(loaded["decode"](data=tf.constant(file))["image"].numpy()[None])
    result = {
        "qualities": list(exporting.QUALITIES),
        "scale_indexes": count,
        "scale_indexes_wrong": wrong,
    }
    if theirs:
        result["pixels"] = exporting.compare_pixels(np.stack(ours), np.stack(theirs))
    if decoded:
        result["bytes_to_pixels"] = exporting.compare_pixels(np.stack(decoded), np.stack(ours))
    return result


def _file(model: ModelFile, coder: coding.LatentCoder, drawn: exporting.Sample, height: int, width: int) -> bytes:
    quality, z = int(drawn.quality[0]), drawn.z[0].astype(np.float32)
    y = coder.recode_y(drawn.coded, z, quality, "constriction", "tfc")
    chunks = {"z": coder.encode_z(z, quality, "tfc"), "y": y}
    return bitstream.pack(bitstream.Header(model.hash, width, height, quality, "tfc"), chunks)
