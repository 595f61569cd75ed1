"""`jnd-jax export`: the decoder of a model as a TensorFlow SavedModel, as TFLite files, as StableHLO or as ONNX.

Each export is a folder with `conversion.json`: the model, versions, signatures, ops, and the differences from the codec,
measured on random latents after the export was read back.
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jnd_jax import __version__, files, modelfile
from jnd_jax.bitstream import MAX_PIXELS
from jnd_jax.codec import coding, hyper
from jnd_jax.codec.linear import BLOCK, round_up
from jnd_jax.errors import JndError
from jnd_jax.serving import tree

# Each module has export(model, folder, options) -> report, and is imported when its format is asked for.
_FORMATS = {
    "saved_model": "jnd_jax.serving.saved_model",
    "tflite": "jnd_jax.serving.tflite",
    "stablehlo": "jnd_jax.serving.stablehlo",
    "onnx": "jnd_jax.serving.onnx_models",
}
_EXTRAS = {"stablehlo": "stablehlo", "onnx": "onnx"}
_PACKAGES = ("numpy", "jax", "tensorflow", "tensorflow-compression-ops", "onnx", "onnxruntime")
_WARM_PIXELS = 768 * 512  # Size of the warm-up requests: an export must accept it.
# Qualities, in tenths, at which exports are compared with the codec.
QUALITIES = (0, hyper.QUALITY_MAX // 3, 2 * hyper.QUALITY_MAX // 3, hyper.QUALITY_MAX)


class Sample(NamedTuple):
    """The latents of one image as a decoder meets them, and what the codec makes of them.

    symbols, indexes: (1, h, w, M) int32; z: (1, h/4, w/4, Cz) int32; quality: (1,) int32; y_hat: (1, h, w, M) float32;
    coded: the symbols as the bytes of constriction.
    """

    symbols: np.ndarray
    z: np.ndarray
    quality: np.ndarray
    indexes: np.ndarray
    y_hat: np.ndarray
    coded: bytes


def smallest(array: np.ndarray) -> np.ndarray:
    """The same float32 numbers as int8 or float16, if one of these holds them exactly."""
    return next((small for small in map(array.astype, (np.int8, np.float16)) if np.array_equal(small, array)), array)


def sample(coder: coding.LatentCoder, h: int, w: int, quality: int, seed: int = 0) -> Sample:
    """Latents of h x w blocks of 16 pixels (multiples of 4), drawn with the codec's own NumPy arithmetic."""
    y = np.random.default_rng(seed).laplace(0.0, 2.0, (h, w, coder.scale_offset.shape[1])).astype(np.float32)
    z = coder.hyper_latents(y)
    coded = coder.encode_y(y, z, quality)
    latents = coder.decode_y(coded, z, quality)
    return Sample(
        latents.symbols[None].astype(np.int32),
        z[None].astype(np.int32),
        np.array([quality], np.int32),
        latents.indexes[None].astype(np.int32),
        latents.y_hat[None],
        coded,
    )


def synthesis_inputs(drawn: Sample) -> dict[str, list[Any]]:
    """Type and shape of what `synthesize` takes, in order, as reports name them."""
    values = {"symbols": drawn.symbols, "z": drawn.z, "quality": drawn.quality}
    return {name: [value.dtype.name, list(value.shape)] for name, value in values.items()}


def of_passes(coder: coding.LatentCoder, values: np.ndarray) -> list[np.ndarray]:
    """(B, h, w, M) values pass by pass, in the order of coding: each (B, h/2, w/2, 2, channels of the group)."""
    halves = hyper.halves(np, values)
    return [half[..., channels] for channels in coder.group_channels for half in halves]


def before(coder: coding.LatentCoder, symbols: np.ndarray, number: int) -> np.ndarray:
    """(B, h, w, M) symbols as far as they are known before pass `number`, zero elsewhere."""
    known = np.zeros_like(symbols)
    channels = coder.group_channels[number // 2]
    known[..., : channels.start] = symbols[..., : channels.start]
    if number % 2:
        anchors, others = hyper.halves(np, symbols[..., channels])
        known[..., channels] = hyper.interleave(np, anchors, 0 * others)
    return known


def reference_pixels(model: modelfile.ModelFile) -> Callable[[Sample], np.ndarray] | None:
    """A function from a sample to the (1, 16 h, 16 w, 3) uint8 image that the codec decodes; None without jax."""
    try:
        from jnd_jax.image_codec import ImageCodec
    except ImportError:
        return None
    codec = ImageCodec(model)
    return lambda drawn: codec.synthesise(drawn.y_hat[0], int(drawn.quality[0]))[None]


def compare_pixels(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    """Largest difference in levels, and the share of samples that are equal, of two uint8 arrays."""
    difference = np.abs(ours.astype(int) - theirs)
    return {"largest_difference": int(difference.max()), "equal": float(np.mean(difference == 0))}


def grid(side: int) -> int:
    """Blocks of 16 pixels, a multiple of 4, that cover `side` pixels."""
    return round_up(side) // BLOCK


def _versions() -> dict[str, str]:
    found = {"jnd_jax": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            pass
    return found


def _size(text: str) -> tuple[int, int]:
    try:
        width, height = map(int, text.lower().split("x"))
    except ValueError:
        width = height = 0
    if min(width, height) < 1 or max(width, height) > 8192:
        raise argparse.ArgumentTypeError(f"Give a size of 1 to 8192 pixels a side, such as 768x512, not {text!r}")
    return width, height


def _megapixels(text: str) -> int:
    try:
        pixels = int(float(text) * 1e6)
    except (ValueError, OverflowError):
        pixels = 0
    if not _WARM_PIXELS <= pixels <= MAX_PIXELS:
        raise argparse.ArgumentTypeError(f"Give a number of megapixels from 0.4 to {MAX_PIXELS / 1e6:g}, not {text!r}")
    return pixels


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `jnd-jax export`."""
    parser.add_argument("model", metavar="MODEL", help="name or file of a model")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="DIR", help="a folder to make")
    parser.add_argument(
        "--tree",
        action="store_true",
        help="DIR is a model repository of TensorFlow Serving: add the SavedModel to it as the next version",
    )
    parser.add_argument("--format", choices=tuple(_FORMATS), default="saved_model", help="(default: %(default)s)")
    parser.add_argument(
        "--plain",
        action="store_true",
        help="a SavedModel without `decode`, for servers that lack the ops to decode bytes",
    )
    parser.add_argument(
        "--max-megapixels",
        dest="max_pixels",
        type=_megapixels,
        default=24_000_000,
        metavar="N",
        help="largest image that a SavedModel decodes (default: 24)",
    )
    parser.add_argument(
        "--image-format",
        choices=("png", "jpeg"),
        default="png",
        help="format of the image files that a SavedModel returns (default: %(default)s)",
    )
    parser.add_argument(
        "--size",
        type=_size,
        default=(768, 512),
        metavar="WxH",
        help="of the images, for tflite and stablehlo; the others decode any (default: 768x512)",
    )


def run(args: argparse.Namespace) -> int:
    """Writes the folder and prints its report; returns 0."""
    if args.tree and args.format != "saved_model":
        raise JndError(f"TensorFlow Serving does not serve {args.format}: leave out --tree, or --format.")
    model = modelfile.load(modelfile.find(args.model))
    if not model.is_lapped or not model.tables:
        raise JndError(
            f"Model {model.name!r} is of the family {model.config.get('name')!r}: only 'lapped' itself is exported."
        )
    try:
        exporter = importlib.import_module(_FORMATS[args.format])
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get(args.format, "tf")
        raise JndError(
            f"Install what this format needs with pip install 'jnd-jax[{extra}]' ({error.name} is missing)."
        ) from error
    output = tree.next_version(args.output, model.hash) if args.tree else args.output
    with files.new_folder(output) as folder:
        report = {
            "model": model.name,
            "hash": model.hash,
            "format": args.format,
            "versions": _versions(),
            **exporter.export(model, folder, args),
        }
        (folder / tree.REPORT).write_text(json.dumps(report, indent=2) + "\n")
    if args.tree:
        tree.write_config(args.output)
    print(json.dumps(report, indent=2))
    return 0


def check(differences: Mapping[str, Any]) -> None:
    """Raises JndError where an export does not decode as the codec does: indexes differ, or pixels by over a level."""
    pixels = differences.get("pixels") or {"largest_difference": 0}
    if differences.get("scale_indexes_wrong") or pixels["largest_difference"] > 1:
        raise JndError(
            f"The export would not decode as the codec does ({dict(differences)}): try another version of "
            "the exporting library."
        )
