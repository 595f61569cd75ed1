"""Exports the decoder to TFLite for one image size: integers to pixels, with float32 and with float16 weights."""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from jnd_jax.codec import coding
from jnd_jax.modelfile import ModelFile
from jnd_jax.serving import export as exporting
from jnd_jax.serving.decoder import Decoder

SIGNATURE = "synthesize"


def export(model: ModelFile, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Writes synthesize-float32.tflite and synthesize-float16.tflite, reads them back and compares them with the codec.

    Both have the signature "synthesize": symbols, z and quality, as `Decoder.synthesize` for a batch of one.

    Args:
      model: to export.
      folder: to write to.
      options: size, (width, height) of the images.

    Returns:
      Entries of the report: "size" and "files".

    Raises:
      JndError: the float32 file does not decode as the codec does.
    """
    width, height = options.size
    h, w = exporting.grid(height), exporting.grid(width)
    decoder = Decoder(model)
    spec = lambda name, *shape: tf.TensorSpec(shape, tf.int32, name)
    function = tf.function(
        lambda symbols, z, quality: {"images": decoder.synthesize(symbols, z, quality, height, width)}
    ).get_concrete_function(
        symbols=spec("symbols", 1, h, w, decoder.latents),
        z=spec("z", 1, h // 4, w // 4, decoder.hyper_latents),
        quality=spec("quality", 1),
    )
    saved = folder / "saved_model"
    tf.saved_model.save(decoder, str(saved), {SIGNATURE: function})
    files = {}
    for kind in (tf.float32, tf.float16):
        converter = tf.lite.TFLiteConverter.from_saved_model(str(saved), signature_keys=[SIGNATURE])
        if kind == tf.float16:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [kind]
        name = f"synthesize-{kind.name}.tflite"
        (folder / name).write_bytes(converter.convert())
        files[name] = _report(model, folder / name, h, w)
    shutil.rmtree(saved)
    exporting.check(files["synthesize-float32.tflite"])
    return {"size": [width, height], "files": files}


def _report(model: ModelFile, path: Path, h: int, w: int) -> dict[str, Any]:
    interpreter = Interpreter(str(path))
    runner = interpreter.get_signature_runner(SIGNATURE)
    coder, reference = coding.latent_coder(model.params, model.tables), exporting.reference_pixels(model)
    ours, theirs = [], []
    for quality in exporting.QUALITIES:
        drawn = exporting.sample(coder, h, w, quality)
        images = runner(symbols=drawn.symbols, z=drawn.z, quality=drawn.quality)["images"]
        ours.append(images)
        if reference:
            theirs.append(reference(drawn)[:, : images.shape[1], : images.shape[2]])
    report = {"bytes": path.stat().st_size, "ops": sorted({op["op_name"] for op in interpreter._get_ops_details()})}
    report["inputs"] = exporting.synthesis_inputs(drawn)
    return report | ({"pixels": exporting.compare_pixels(np.stack(ours), np.stack(theirs))} if theirs else {})
