"""From a trained run to one model file, and back.

    python -m jnd_jax.training.packaging runs/base -o jnd-base-1.safetensors --card card.json

writes the averaged parameters of a run's newest checkpoint as a model that is named after the file; the card is a JSON
object that says where the model comes from and what it reaches.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from jnd_jax import codec, modelfile
from jnd_jax.codec import float_coding
from jnd_jax.codec.contract import HyperpriorCodec
from jnd_jax.codec.freeze import coding_tables
from jnd_jax.codec.lapped import LappedCodec
from jnd_jax.training.checkpoint import load_params

# Small, and read as exponents or at coding time: float16 would save nothing and round twice.
_FULL_PRECISION = ("log_gain", "log_inverse_gain", "scale_offset", "factorized")


def export_model(params: Any, path: str | Path, model: nn.Module, card: Mapping[str, Any] | None = None) -> str:
    """Writes a model file named after `path`, and returns its hash.

    A model that keeps a contract of `codec.contract` gets the tables to code with, others can be trained and measured;
    a `LappedCodec` is written with float16 weights.

    Args:
        params: of `model`.
        path: the file.
        model: its class is named in the file, and every attribute.
        card: where the model comes from and what it reaches.
    """
    params = jax.tree.map(np.asarray, params)
    half = isinstance(model, LappedCodec)
    tables = {}
    if half:
        tables = coding_tables(model, params)
    elif isinstance(model, HyperpriorCodec):
        tables = float_coding.coding_tables(model, params)
    return modelfile.save(
        path,
        name=Path(path).stem,
        config=codec.describe(model),
        params=params,
        tables=tables,
        card=card or {},
        half=half,
        keep=_FULL_PRECISION,
    )


def load_model_params(name_or_path: str | Path) -> dict[str, Any]:
    """The parameters of a shipped model or a model file as nested dicts of NumPy arrays."""
    return modelfile.load(modelfile.find(name_or_path)).params


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workdir", type=Path, help="where the run has its checkpoints")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.safetensors")
    parser.add_argument("--card", type=Path, metavar="FILE.json")
    parser.add_argument("--best", action="store_true", help="the checkpoint of the lowest validation score")
    args = parser.parse_args()
    card = json.loads(args.card.read_text()) if args.card else {}
    params = load_params(args.workdir, best=args.best)
    model = codec.build(json.loads((args.workdir / "config.json").read_text())["model"])
    print(export_model(params, args.output, model, card))


if __name__ == "__main__":
    main()
