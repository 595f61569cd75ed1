"""From a trained run to one model file, and back."""
from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping

import jax
import numpy as np
from flax import linen as nn

from jnd_jax import codec, modelfile
from jnd_jax.codec.freeze import coding_tables
from jnd_jax.codec.jnd import JndCodec

# Small, and read as exponents or at coding time: float16 would save nothing and round twice.
_FULL_PRECISION = ("log_gain", "log_inverse_gain", "scale_offset", "factorized")


def export_model(
    config: Mapping[str, Any],
    params: Any,
    path: str | Path,
    card: Mapping[str, Any] | None = None,
    model: nn.Module | None = None,
) -> str:
    """Writes `params` with the model's config as a model file named after `path`, and returns its hash.

    `model` is what the parameters are of, where that is not what the config names.

    A `jnd` model is written with float16 weights and the tables to code with; others can be trained and measured.
    """
    model = model or codec.build(config["model"])
    params = jax.tree.map(np.asarray, params)
    half = isinstance(model, JndCodec)
    tables = coding_tables(model, params) if half else {}
    return modelfile.save(path, name=Path(path).stem, config=dict(config["model"]), params=params, tables=tables,
                          card=card or {}, half=half, keep=_FULL_PRECISION)


def load_model_params(path: str | Path) -> dict[str, Any]:
    """The parameters of a model file as nested dicts of NumPy arrays."""
    return modelfile.load(path).params
