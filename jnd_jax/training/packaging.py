"""From a trained run to one model file, and back.

    python -m jnd_jax.training.packaging runs/base -o jnd-base-1.safetensors --card card.json

writes the averaged parameters of a run's newest checkpoint as a model that is named after the file; the card is a JSON
object that says where the model comes from and what it reaches. With `--count photos/` the frequency tables of its
latents are counted on the photographs that it was trained on; a model file in place of the run gets new tables so.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jnd_jax import codec, modelfile
from jnd_jax.codec import distortion, float_coding, hyper
from jnd_jax.codec.contract import HyperpriorCodec
from jnd_jax.codec.freeze import coding_tables
from jnd_jax.codec.lapped import LappedCodec
from jnd_jax.data import cache
from jnd_jax.errors import JndError
from jnd_jax.training.checkpoint import load_params
from jnd_jax.training.commandline import fail
from jnd_jax.training.validate import choose

_MAGNITUDES = 1024  # that are counted; larger ones count as the largest
_LARGEST = 512  # pixels a side of what is taken of a photograph

# Small, and read as exponents, at coding time or far from zero: float16 would save nothing, and round twice or too much.
FULL_PRECISION = ("log_gain", "log_inverse_gain", "scale_offset", "hyper_offset", "synthesis_net/Modulation_1")


def export_model(
    params: Any,
    path: str | Path,
    model: nn.Module,
    card: Mapping[str, Any] | None = None,
    counts: np.ndarray | None = None,
    name: str = "",
) -> str:
    """Writes a model file, and returns its hash.

    A model that keeps a contract of `codec.contract` gets the tables to code with, others can be trained and measured;
    a `LappedCodec` is written with float16 weights.

    Args:
        params: of `model`.
        path: the file.
        model: its class is named in the file, and every attribute.
        card: where the model comes from and what it reaches.
        counts: of a `LappedCodec`, from `count_symbols`.
        name: of the model; the file's by default.
    """
    params = jax.tree.map(np.asarray, params)
    half = isinstance(model, LappedCodec)
    tables = {}
    if half:
        tables = coding_tables(model, params, counts)
    elif isinstance(model, HyperpriorCodec):
        tables = float_coding.coding_tables(model, params)
    return modelfile.save(
        path,
        name=name or Path(path).stem,
        config=codec.describe(model),
        params=params,
        tables=tables,
        card=card or {},
        half=half,
        keep=FULL_PRECISION,
    )


def count_symbols(model: LappedCodec, params: Any, images: Sequence[np.ndarray], seed: int = 0) -> np.ndarray:
    """How often each magnitude of a symbol of y occurs at each scale index, (SCALE_LEVELS, _MAGNITUDES).

    Args:
        model: the codec.
        params: of it.
        images: (H, W, 3) uint8, sides multiples of 64; each is coded at one random quality.
        seed: of the qualities.
    """

    @jax.jit
    def code(params, x, quality):
        bound, x = model.bind({"params": params}), x.astype(jnp.float32) / 255
        y, to_code = jnp.split(bound.to_code(x, quality), 2, axis=-1)
        z = hyper.round_hyper_latents(jnp, bound.hyper_analysis(y))
        coded = bound.code(to_code, z, quality, distortion.log_activity(x))
        magnitude = jnp.minimum(jnp.round(jnp.abs(coded.symbols)), _MAGNITUDES - 1)
        return (coded.indexes * _MAGNITUDES + magnitude).astype(jnp.int32)

    rng, counts = np.random.default_rng(seed), np.zeros(hyper.SCALE_LEVELS * _MAGNITUDES)
    for image in images:
        quality = jnp.full(1, rng.integers(hyper.QUALITY_MAX + 1), jnp.float32)
        counts += np.bincount(np.asarray(code(params, image[None], quality)).reshape(-1), minlength=len(counts))
    return counts.reshape(hyper.SCALE_LEVELS, _MAGNITUDES)


def _read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises JndError where there is none."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise JndError(f"{path} cannot be read ({error}); give a file with a JSON object.") from error
    if not isinstance(found, dict):
        raise JndError(f"{path} holds no JSON object; give a file with one.")
    return found


def _source(run: Path, best: bool) -> tuple[nn.Module, Any, Mapping[str, Any]]:
    """Model, parameters and card of a run's folder or of a model."""
    if run.is_dir():
        return codec.build(_read_json(run / "config.json")["model"]), load_params(run, best=best), {}
    file = modelfile.load(modelfile.find(run))
    return codec.build(file.config), file.params, file.card


def _counts(model: nn.Module, params: Any, folders: str) -> np.ndarray:
    """`count_symbols` on the photographs of folders, separated by commas, that training would see."""
    if not isinstance(model, LappedCodec):
        raise JndError("Symbols are counted for models of the 'lapped' family only: leave --count out.")
    photographs, _ = cache.split(cache.load_images(folders.split(",")), 10)
    pictures = [example["image"] for example in choose(photographs, None, len(photographs), _LARGEST)]
    return count_symbols(model, params, pictures)


def check_name(path: Path) -> None:
    """Raises JndError where no model can be written under this name."""
    if path.suffix != modelfile.SUFFIX:
        raise JndError(f"{path} is no name for a model; let it end in {modelfile.SUFFIX}.")


def load_model_params(name_or_path: str | Path) -> dict[str, Any]:
    """The parameters of a shipped model or a model file as nested dicts of NumPy arrays."""
    return modelfile.load(modelfile.find(name_or_path)).params


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder with the run's checkpoints, or a model")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.safetensors")
    parser.add_argument("--card", type=Path, metavar="FILE.json")
    parser.add_argument("--count", metavar="DIR,DIR", help="photographs to count symbols on; every tenth is left out")
    parser.add_argument("--best", action="store_true", help="the checkpoint of the lowest validation score")
    args = parser.parse_args()
    try:
        check_name(args.output)
        card = _read_json(args.card) if args.card else {}
        model, params, known = _source(args.run, args.best)
        counts = _counts(model, params, args.count) if args.count else None
        print(export_model(params, args.output, model, {**known, **card}, counts))
    except (JndError, OSError) as error:
        fail("packaging", error)


if __name__ == "__main__":
    main()
