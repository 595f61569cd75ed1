"""From trained parameters to the integers that coding needs. Runs once, when a model file is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jnd_jax.codec import hyper, hyper_context
from jnd_jax.codec.lapped import LappedCodec
from jnd_jax.entropy.tables import laplacian_tables, shifted_laplacian_tables
from jnd_jax.errors import JndError


def coding_tables(
    model: LappedCodec, params: Mapping[str, Any], counts: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """The `tables` of a model file: the integer networks, their offsets, and the frequency tables of y and z.

    Args:
      model: the codec.
      params: its parameters.
      counts: (SCALE_LEVELS, m) how often magnitudes of y's symbols occur, see `entropy.tables.laplacian_tables`.

    Raises:
      JndError: if a parameter is not finite.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not np.all(np.isfinite(leaf)):
            raise JndError(f"Parameter {jax.tree_util.keystr(path)} is not finite: use an earlier checkpoint.")
    bound = model.bind({"params": params})
    tables = {}
    layers: dict[str, Any] = bound.integer_scale_path()
    groups = {f"{i}.{name}": layer for i, group in enumerate(layers.pop("groups")) for name, layer in group.items()}
    of_scale = {f"scale.{name}": layer for name, layer in (layers | groups).items()}
    of_hyper = {f"hyper.{name}": layer for name, layer in bound.integer_hyper_context().items()}
    for name, layer in (of_scale | of_hyper).items():
        tables[f"{name}.weight"] = np.asarray(layer["weight"]).astype(np.int8)
        tables[f"{name}.bias"] = np.asarray(layer["bias"]).astype(np.int32)
        tables[f"{name}.shift"] = np.round(-np.log2(np.asarray(layer["unit"]))).astype(np.uint8)
    tables["scale_offset"] = np.asarray(bound.integer_scale_offset()).astype(np.int8)
    tables["hyper_offset"] = np.asarray(bound.integer_hyper_offset()).astype(np.int8)
    latents = laplacian_tables(hyper.scale_table(), counts)
    tables["y.frequency"] = latents["frequency"].astype(np.uint16)
    tables["y.half_width"] = latents["half_width"]
    scales = hyper_context.scale(np, np.arange(hyper_context.SCALES))
    means = np.arange(hyper_context.PARTS) / hyper_context.PARTS
    hyper_latents = shifted_laplacian_tables(np.repeat(scales, len(means)), np.tile(means, len(scales)))
    tables["z.frequency"] = hyper_latents["frequency"].astype(np.uint16)
    tables["z.half_width"] = hyper_latents["half_width"]
    return tables
