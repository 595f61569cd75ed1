"""A SavedModel of the decoder: plain TensorFlow ops, and where they are installed the ops that decode bytes."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

from jnd_jax import bitstream
from jnd_jax.codec import coding
from jnd_jax.codec.linear import BLOCK
from jnd_jax.modelfile import ModelFile
from jnd_jax.serving import export as exporting
from jnd_jax.serving.decoder import Decoder


def signatures(model: ModelFile, plain: bool) -> tuple[tf.Module, dict[str, tf.types.experimental.ConcreteFunction]]:
    """The module that holds the variables, and the functions that a SavedModel serves, by name.

    `plain`: only those without custom ops, though the others' ops are installed.
    """
    root = tf.Module()
    root.decoder = decoder = Decoder(model)
    spec = lambda name, *shape: tf.TensorSpec(shape, tf.int32, name)
    latents = {
        "symbols": spec("symbols", None, None, None, decoder.latents),
        "z": spec("z", None, None, None, decoder.hyper_latents),
        "quality": spec("quality", None),
    }
    functions = {
        "synthesize": tf.function(
            lambda symbols, z, quality, height, width: {
                "images": decoder.synthesize(symbols, z, quality, height, width)
            }
        ).get_concrete_function(**latents, height=spec("height"), width=spec("width")),
        "hyper": tf.function(decoder.hyper).get_concrete_function(**latents, number=spec("number")),
    }
    if plain:
        return root, functions
    try:
        from jnd_jax.serving.stream import StreamDecoder
    except ImportError:
        return root, functions
    root.stream = stream = StreamDecoder(model, decoder)
    functions["decode"] = tf.function(lambda data: {"image": stream.decode(data)}).get_concrete_function(
        tf.TensorSpec([], tf.string, "data")
    )
    functions["decode_batch"] = tf.function(stream.decode_batch).get_concrete_function(
        tf.TensorSpec([None], tf.string, "data")
    )
    return root, functions


def ops(function: tf.types.experimental.ConcreteFunction) -> list[str]:
    """Names of the ops that a function runs, those of the functions it calls included."""
    graph = function.graph.as_graph_def()
    nodes = [*graph.node, *(node for inner in graph.library.function for node in inner.node_def)]
    return sorted({node.op for node in nodes})


def export(model: ModelFile, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Writes the SavedModel, reads it back and returns what to report; `options.plain` as in `signatures`.

    Raises:
      JndError: what was written decodes otherwise than the codec.
    """
    root, functions = signatures(model, options.plain)
    tf.saved_model.save(root, str(folder), functions)
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


def compare(model: ModelFile, loaded: Any) -> dict[str, Any]:
    """How far a SavedModel's signatures are from the codec on random latents of several qualities."""
    coder = coding.latent_coder(model.params, model.tables)
    reference = exporting.reference_pixels(model)
    wrong, count, ours, theirs, decoded = 0, 0, [], [], []
    for quality in exporting.QUALITIES:
        drawn = exporting.sample(coder, 8, 12, quality)
        for number, expected in enumerate(exporting.of_passes(coder, drawn.indexes)):
            symbols = exporting.before(coder, drawn.symbols, number)
            indexes = loaded["hyper"](z=drawn.z, quality=drawn.quality, symbols=symbols, number=number)["indexes"]
            wrong += int(np.sum(indexes.numpy() != expected))
            count += expected.size
        height, width = 8 * BLOCK - 5, 12 * BLOCK - 7
        images = loaded["synthesize"](
            symbols=drawn.symbols, z=drawn.z, quality=drawn.quality, height=height, width=width
        )["images"].numpy()
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
    return bitstream.pack(bitstream.Header(model.hash, width, height, quality, "tfc", coder.passes), chunks)
