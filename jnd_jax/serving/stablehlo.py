"""The decoder for one image size as StableHLO, by jax.export: runs wherever jax does, without the model or its code.

Such a file is promised to load for months, not for ever: keep model files, and export anew.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers  # noqa: F401  what jax.export writes with; missing, it is named at once
import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

from jnd_jax import codec
from jnd_jax.codec import coding, hyper
from jnd_jax.codec.linear import BUCKET, TILE
from jnd_jax.modelfile import ModelFile
from jnd_jax.serving import export as exporting

FILE = "synthesize.stablehlo"
_PLATFORMS = ("cpu", "cuda", "tpu")


def synthesize(model: ModelFile, height: int, width: int) -> Callable[..., jax.Array]:
    """A function (symbols (1, h, w, M), z (1, h/4, w/4, Cz), quality (1,), all int32) -> (1, height, width, 3) uint8."""
    network = codec.build(model.config)
    params, mean = jax.device_put((model.params, coding.latent_coder(model.params, model.tables).mean))
    h, w = exporting.grid(height), exporting.grid(width)
    missing = [-n % BUCKET if n <= TILE else 0 for n in (h, w)]

    def decode(symbols, z, quality):
        y_hat = hyper.gained_latents(jnp, mean, z.astype(jnp.float32), symbols.astype(jnp.float32))
        y_hat = jnp.pad(y_hat, [(0, 0), (0, missing[0]), (0, missing[1]), (0, 0)])
        x: Any = network.apply({"params": params}, y_hat, quality.astype(jnp.float32), (h, w), method="synthesis")
        return jnp.clip(jnp.round(255.0 * x[:, :height, :width]), 0, 255).astype(jnp.uint8)

    return decode


def export(model: ModelFile, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Writes synthesize.stablehlo for images of `options.size` (width, height) and returns what to report.

    Raises:
      JndError: what was written decodes otherwise than the codec.
    """
    width, height = options.size
    h, w = exporting.grid(height), exporting.grid(width)
    coder, reference = coding.latent_coder(model.params, model.tables), exporting.reference_pixels(model)
    shapes = [(1, h, w, coder.scale_offset.shape[1]), (1, h // 4, w // 4, coder.hyper_latent_channels), (1,)]
    exported = jax_export.export(jax.jit(synthesize(model, height, width)), platforms=_PLATFORMS)(
        *(jax.ShapeDtypeStruct(shape, jnp.int32) for shape in shapes)
    )
    path = folder / FILE
    path.write_bytes(exported.serialize())
    loaded = jax.jit(jax_export.deserialize(bytearray(path.read_bytes())).call)
    assert reference is not None  # it needs jax, which wrote the file
    ours, theirs = [], []
    for quality in exporting.QUALITIES:
        drawn = exporting.sample(coder, h, w, quality)
        ours.append(np.asarray(loaded(drawn.symbols, drawn.z, drawn.quality)))
        theirs.append(reference(drawn)[:, :height, :width])
    differences = {"pixels": exporting.compare_pixels(np.stack(ours), np.stack(theirs))}
    exporting.check(differences)
    return {
        "size": [width, height],
        "platforms": list(_PLATFORMS),
        "inputs": exporting.synthesis_inputs(drawn),
        "bytes": path.stat().st_size,
        "differences": differences,
    }
