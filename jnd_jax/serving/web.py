"""`jnd-jax web`: a folder that shows .jnd files in browsers: the decoder of `web/`, a model, and a demo page."""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

import jnd_jax
from jnd_jax import files, images, modelfile, zoo
from jnd_jax.codec import build, coding, preview
from jnd_jax.codec.linear import BLOCK, synthesis_matrices
from jnd_jax.errors import JndError
from jnd_jax.image_codec import ImageCodec
from jnd_jax.serving import export as exporting

_ASSETS = Path(jnd_jax.__file__).parent.parent / "web" / "dist"
_LEFT_OUT = shutil.ignore_patterns("*.map", "types")
_TABLES = {f"{of}.frequency": np.uint32 for of in "yz"} | {f"{of}.half_width": np.int32 for of in "yz"}


def model_bytes(model: modelfile.ModelFile) -> bytes:
    """The model as the browser's decoder reads it: a safetensors file of layers, coding tables and the preview.

    A layer `NAME` is `NAME.weight` (inputs, outputs), `NAME.bias` and, if it is an integer layer, `NAME.unit`. The inputs
    of a 3x3 convolution are (row, column, channel).

    Raises:
        JndError: the model has transforms of its own.
    """
    if not model.is_lapped:
        raise JndError(f"Model {model.name!r} is of a family of its own: the browser's decoder is for 'lapped' alone.")
    coder = coding.latent_coder(model.params, model.tables)
    first = coder.group_channels[0].stop
    synthesis, postfilter = synthesis_matrices(model.params)
    arrays = {
        **_path("scale", coder.scale),
        **_path("mean", coder.mean),
        **_path("hyper", coder.hyper_context),
        **_network(model),
        "scale.offset": coder.scale_offset,
        "hyper.offset": coder.hyper_offset,
        "basis": synthesis,
        "postfilter": postfilter,
        "log_inverse_gain": coder.log_inverse_gain,
        "preview.kernels": preview.kernels(synthesis[:first], postfilter, BLOCK).reshape(3, 3, first, -1),
    }
    tensors = {name: exporting.smallest(np.ascontiguousarray(array, np.float32)) for name, array in arrays.items()}
    tensors |= {name: model.tables[name].astype(dtype) for name, dtype in _TABLES.items()}
    return save(tensors, {"hash": model.hash})


def _path(name: str, path: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The arrays of a hyper path: layers, and a list of groups of layers, if it has any."""
    layers = {key: layer for key, layer in path.items() if key != "groups"}
    layers |= {f"{i}.{key}": layer for i, group in enumerate(path.get("groups", ())) for key, layer in group.items()}
    named = lambda key, layer: layer.items() if isinstance(layer, Mapping) else [("", layer)]
    return {
        f"{name}.{key}.{part}".rstrip("."): array for key, layer in layers.items() for part, array in named(key, layer)
    }


def _network(model: modelfile.ModelFile) -> dict[str, np.ndarray]:
    """The arrays of `lapped.SynthesisNet`: its bottlenecks by resolution, 1/8 and 1/4."""
    net, (_, coarse) = model.params["synthesis_net"], build(model.config).synthesis_depths
    layers, out = {}, {}
    for name, parameters in net.items():
        kind, number = name.split("_")
        if kind == "Conv":
            layers[number] = parameters
        elif kind == "Bottleneck":
            i = int(number)
            place = f"coarse.{i}" if i < coarse else f"fine.{i - coarse}"
            layers |= {f"{place}.{j}": parameters[f"Conv_{j}"] for j in range(3)}
        else:
            out |= {f"net.{('coarse', 'fine')[int(number)]}.{part}": table for part, table in parameters.items()}
    for name, layer in layers.items():
        out[f"net.{name}.weight"] = layer["kernel"].reshape(-1, layer["kernel"].shape[-1])
        out[f"net.{name}.bias"] = layer["bias"]
    return out


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `jnd-jax web`."""
    parser.add_argument("output", type=Path, metavar="DIR", help="a folder to make")
    parser.add_argument("--model", default=zoo.DEFAULT, help="name or file of the model (default: %(default)s)")
    parser.add_argument(
        "--assets",
        type=Path,
        default=_ASSETS,
        metavar="DIST",
        help="what `npm run build` in web/ made, or the folder dist of the npm package (default: web/dist)",
    )
    parser.add_argument(
        "--image", type=Path, default=zoo.FOLDER / "chelsea.png", help="what the page shows first (default: a cat)"
    )
    parser.add_argument("--quality", type=float, default=50.0, metavar="Q", help="of it, 0 to 100 (default: 50)")


def run(args: argparse.Namespace) -> int:
    """Writes the folder, all of it or nothing, and returns 0."""
    if not (args.assets / "index.js").is_file():
        raise JndError(
            f"{args.assets} does not hold the browser's decoder: run `npm ci && npm run build` in web/, or name the "
            "folder dist of the npm package jnd-decoder with --assets."
        )
    with files.new_folder(args.output) as folder:
        model = modelfile.load(modelfile.find(args.model))
        picture, codec = images.read_image(args.image), ImageCodec(model)
        coded = codec.encode(picture.pixels, args.quality, extras=images.to_chunks(picture))
        data = model_bytes(model)
        manifest = {model.hash: {"url": f"{model.name}.web", "sha256": hashlib.sha256(data).hexdigest()}}
        shutil.copytree(args.assets, folder, ignore=_LEFT_OUT, dirs_exist_ok=True)
        (folder / f"{model.name}.web").write_bytes(data)
        (folder / "models.json").write_text(json.dumps(manifest))
        (folder / "photo.jnd").write_bytes(coded)
        images.write_image(folder / "photo.png", picture)
    print(f"{args.output}  serve it with: python -m http.server -d {args.output}")
    return 0
