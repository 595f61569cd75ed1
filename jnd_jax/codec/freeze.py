"""From trained parameters to the integers that coding needs. Runs once, when a model file is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jnd_jax.codec import hyper
from jnd_jax.codec.lapped import LappedCodec
from jnd_jax.entropy.densities import factorized_bits
from jnd_jax.entropy.tables import categorical_tables, laplacian_tables
from jnd_jax.errors import JndError


def coding_tables(
    model: LappedCodec, params: Mapping[str, Any], counts: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """The `tables` of a model file: integer scale path, its offsets, and the frequency tables of y and z.

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
    for name, layer in (layers | groups).items():
        tables[f"scale.{name}.weight"] = np.asarray(layer["weight"]).astype(np.int8)
        tables[f"scale.{name}.bias"] = np.asarray(layer["bias"]).astype(np.int32)
        tables[f"scale.{name}.shift"] = np.round(-np.log2(np.asarray(layer["unit"]))).astype(np.uint8)
    tables["scale_offset"] = np.asarray(bound.integer_scale_offset()).astype(np.int8)
    latents = laplacian_tables(hyper.scale_table(), counts)
    tables["y.frequency"] = latents["frequency"].astype(np.uint16)
    tables["y.half_width"] = latents["half_width"]
    z = jnp.arange(-hyper.Z_MAX, hyper.Z_MAX + 1, dtype=jnp.float32)[:, None]
    z = jnp.broadcast_to(z, (len(z), model.hyper_latents))
    bits = jax.vmap(lambda density: factorized_bits(density, z))(params["factorized"])
    pmf = np.exp2(-np.asarray(bits, np.float64)).transpose(0, 2, 1)
    tables["z.frequency"] = categorical_tables(pmf).astype(np.uint16)
    return tables
