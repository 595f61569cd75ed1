"""`jnd-jax web`: a folder that shows .jnd files in browsers: the decoder of `web/`, a model, and a demo page."""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import save

import jnd_jax
from jnd_jax import files, images, modelfile, zoo
from jnd_jax.codec import coding, preview
from jnd_jax.codec.linear import BLOCK, synthesis_matrices
from jnd_jax.errors import JndError
from jnd_jax.image_codec import ImageCodec
from jnd_jax.serving import onnx_models

_ASSETS = Path(jnd_jax.__file__).parent.parent / "web" / "dist"
_LEFT_OUT = shutil.ignore_patterns("*.map", "types")
_TABLES = {"y.frequency": np.uint32, "y.half_width": np.int32, "z.frequency": np.uint32}


def model_bytes(model: modelfile.ModelFile) -> bytes:
    """The model as the browser's decoder reads it: a safetensors file of ONNX graphs (bytes) and coding tables."""
    graphs = {f"{name}.onnx": graph.SerializeToString() for name, graph in onnx_models.graphs(model).items()}
    tensors: dict[str, np.ndarray] = {name: np.frombuffer(graph, np.uint8) for name, graph in graphs.items()}
    tensors |= {name: model.tables[name].astype(dtype) for name, dtype in _TABLES.items()}
    first = coding.latent_coder(model.params, model.tables).group_channels[0].stop
    synthesis, postfilter = synthesis_matrices(model.params)
    kernels = preview.kernels(synthesis[:first], postfilter, BLOCK)
    tensors["preview.kernels"] = kernels.reshape(3, 3, first, -1)
    tensors["preview.log_inverse_gain"] = np.ascontiguousarray(model.params["log_inverse_gain"][:, :first], np.float32)
    return save(tensors, {"name": model.name, "hash": model.hash})


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
    model = modelfile.load(modelfile.find(args.model))
    picture, codec = images.read_image(args.image), ImageCodec(model)
    coded = codec.encode(picture.pixels, args.quality, extras=images.to_chunks(picture))
    data = model_bytes(model)
    manifest = {model.hash: {"url": f"{model.name}.web", "sha256": hashlib.sha256(data).hexdigest()}}
    with files.new_folder(args.output) as folder:
        shutil.copytree(args.assets, folder, ignore=_LEFT_OUT, dirs_exist_ok=True)
        (folder / f"{model.name}.web").write_bytes(data)
        (folder / "models.json").write_text(json.dumps(manifest))
        (folder / "photo.jnd").write_bytes(coded)
        images.write_image(folder / "photo.png", picture)
    print(f"{args.output}  serve it with: python -m http.server -d {args.output}")
    return 0
