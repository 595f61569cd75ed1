"""`jnd-jax eval`: models against conventional codecs by real bytes of full-size images, resumable.

Every measurement is appended to DIR/results.jsonl as it comes; a second run does only what is missing.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from jnd_jax import metrics, search
from jnd_jax.devices import spread
from jnd_jax.errors import JndError
from jnd_jax.evaluation import page
from jnd_jax.evaluation.results import (
    MODEL_GRID,
    Codec,
    Results,
    TestImage,
    baseline_codec,
    find_images,
    finite,
    load_image,
    model_codec,
)

DEFAULT_METRICS = ("psnr", "ms-ssim", "psnr-hvs", "ssimulacra2", "butteraugli")


def _timed(function: Callable, *arguments: object) -> tuple[object, float]:
    start = time.perf_counter()
    result = function(*arguments)
    return result, time.perf_counter() - start


def _decode_checked(codec: Codec, data: bytes, image: np.ndarray) -> np.ndarray:
    decoded = codec.decode(data)
    if decoded.shape != image.shape or decoded.dtype != np.uint8:
        raise JndError(
            f"{codec.name} decodes a {image.shape} image to {decoded.dtype} {decoded.shape}: repair it "
            "before comparing it"
        )
    return decoded


class _Warmup:
    """Learned codecs compile for each new image size; that is kept out of their times."""

    def __init__(self) -> None:
        self._done: set[tuple] = set()
        self._lock = threading.Lock()

    def __call__(self, codec: Codec, image: np.ndarray) -> None:
        with self._lock:
            if codec.learned and (codec.name, image.shape) not in self._done:
                codec.decode(codec.encode(image, codec.grid[0]))
                self._done.add((codec.name, image.shape))


def measure_points(
    codec: Codec,
    image: TestImage,
    pixels: np.ndarray,
    names: Sequence[str],
    results: Results,
    warm_up: Callable[[Codec, np.ndarray], None] = lambda codec, image: None,
) -> None:
    """Adds the missing points of one codec's grid on one image."""
    for quality in codec.grid:
        known = results.get("point", codec.name, codec.version, image.digest, float(quality))
        missing = [name for name in names if known is None or name not in known["metrics"]]
        if not missing:
            continue
        warm_up(codec, pixels)
        data, encode_s = _timed(codec.encode, pixels, quality)
        decoded, decode_s = _timed(_decode_checked, codec, data, pixels)
        results.append(
            {
                "kind": "point",
                "codec": codec.name,
                "version": codec.version,
                "image": image.name,
                "digest": image.digest,
                "quality": float(quality),
                "width": pixels.shape[1],
                "height": pixels.shape[0],
                "bytes": len(data),
                "bpp": len(data) * 8 / (pixels.shape[0] * pixels.shape[1]),
                "encode_s": round(encode_s, 5),
                "decode_s": round(decode_s, 5),
                "metrics": {name: finite(metrics.measure(name, pixels, decoded)) for name in missing},
            }
        )


def search_jnd(codec: Codec, image: TestImage, pixels: np.ndarray, metric: str, t: float, results: Results) -> None:
    """Adds, unless it is there, the smallest file of one image within `t` JND by `metric`.

    The codec's points are reused; the search ends within a quarter of a percent of the threshold.
    """
    if results.get("jnd", codec.name, codec.version, image.digest, metric, t) is not None:
        return
    threshold = metrics.jnd_threshold(metric, t)
    known = {}
    for quality in codec.grid:
        point = results.get("point", codec.name, codec.version, image.digest, float(quality))
        if point is not None and metric in point["metrics"]:
            known[quality] = metrics.margin(metric, point["metrics"][metric], threshold)
    record = {
        "kind": "jnd",
        "codec": codec.name,
        "version": codec.version,
        "image": image.name,
        "digest": image.digest,
        "metric": metric,
        "t": t,
    }

    def margin(decoded: np.ndarray) -> float:
        return metrics.margin(metric, finite(metrics.measure(metric, pixels, decoded)), threshold)

    try:
        found = search.smallest(
            lambda q: codec.encode(pixels, q),
            lambda data: _decode_checked(codec, data, pixels),
            margin,
            codec.qualities,
            tolerance=0.0025 * abs(threshold),
            known=known,
        )
    except search.OutOfReach:
        results.append({**record, "reached": False})
        return
    results.append(
        {
            **record,
            "reached": True,
            "quality": found.quality,
            "bytes": len(found.data),
            "bpp": len(found.data) * 8 / (pixels.shape[0] * pixels.shape[1]),
            "margin": found.value,
            "encodes": found.encodes,
        }
    )


def make_view(codec: Codec, image: TestImage, pixels: np.ndarray, bpp: float, folder: Path, results: Results) -> None:
    """Adds, unless it is there, the best file of at most `bpp`, written to `folder` in a form browsers can
    show.
    """
    budget = int(bpp * pixels.shape[0] * pixels.shape[1] / 8)
    known = results.get("view", codec.name, codec.version, image.digest, budget)
    if known is not None and (known["file"] is None or (folder / known["file"]).exists()):
        return
    try:
        found = search.largest_within(lambda q: codec.encode(pixels, q), budget, codec.qualities, 0.01 * budget)
    except search.OutOfReach:
        results.append(
            {
                "kind": "view",
                "codec": codec.name,
                "version": codec.version,
                "image": image.name,
                "digest": image.digest,
                "budget": budget,
                "file": None,
            }
        )
        return
    suffix = ".bin" if codec.media_type else ".webp"
    path = folder / f"{image.name}-{image.digest[:6]}.{codec.name}-{codec.version[:6]}.{budget}{suffix}"
    if codec.media_type:
        path.write_bytes(found.data)
    else:
        path.write_bytes(page.lossless(_decode_checked(codec, found.data, pixels)))
    results.append(
        {
            "kind": "view",
            "codec": codec.name,
            "version": codec.version,
            "image": image.name,
            "digest": image.digest,
            "budget": budget,
            "quality": found.quality,
            "bytes": len(found.data),
            "file": path.name,
            "media_type": codec.media_type or "image/webp",
        }
    )


def evaluate(
    codecs: Sequence[Codec],
    images: Sequence[TestImage],
    names: Sequence[str],
    results: Results,
    *,
    t: float = 1.0,
    viewer: Sequence[str] = (),
    viewer_bpp: float = 0.5,
    viewer_folder: Path | None = None,
    workers: int = 1,
    progress: Callable[[str], None] = lambda line: None,
) -> None:
    """Measures whatever `results` lacks.

    Args:
        codecs: under test, each name once.
        images: test images.
        names: metrics.
        results: where records are looked up and added.
        t: just-noticeable differences allowed in the "bits at JND" search.
        viewer: names of the images that get files for the viewer.
        viewer_bpp: bits per pixel of these files.
        viewer_folder: where these files go.
        workers: images in parallel, see `devices.spread`.
        progress: called with a line after each image and codec.
    """
    warm_up = _Warmup()
    jnd_metrics = [name for name in names if metrics.lookup(name).jnd is not None]

    def one_image(image: TestImage) -> None:
        pixels = load_image(image.path)
        for codec in codecs:
            measure_points(codec, image, pixels, names, results, warm_up)
            for name in jnd_metrics:
                search_jnd(codec, image, pixels, name, t, results)
            if image.name in viewer and viewer_folder is not None:
                make_view(codec, image, pixels, viewer_bpp, viewer_folder, results)
            progress(f"{image.name} {codec.name}")

    for _ in spread(one_image, images, workers):
        pass


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _qualities(text: str) -> list[float]:
    try:
        return sorted({float(number) for number in _names(text)})
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"write qualities as numbers with commas, not {text!r}") from error


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `jnd-jax eval`."""
    parser.add_argument("models", nargs="*", metavar="MODEL", help="model names or model files")
    parser.add_argument("--data", type=Path, required=True, help="folder of test images")
    parser.add_argument(
        "--against",
        type=_names,
        default=["jpeg", "webp", "avif", "jxl"],
        help="conventional codecs, with commas (jpeg,jpegli,webp,avif,jxl,j2k, or TOML files of programs)",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for the results")
    parser.add_argument(
        "--metrics",
        type=_names,
        default=None,
        help=f"metrics, with commas (default: {','.join(DEFAULT_METRICS)}, as far as installed)",
    )
    parser.add_argument(
        "--qualities",
        type=_qualities,
        default=list(MODEL_GRID),
        help="qualities of the models' curves, 0 to 100 in tenths",
    )
    parser.add_argument("--jnd", type=float, default=1.0, metavar="T", help="JNDs allowed in `bits at JND`")
    parser.add_argument("--limit", type=int, default=None, metavar="N", help="only the first N images")
    parser.add_argument("--viewer-images", type=int, default=3, metavar="N", help="images in the report's viewer")
    parser.add_argument("--viewer-bpp", type=float, default=0.5, help="bits per pixel of the viewer's files")
    parser.add_argument(
        "--workers",
        type=int,
        default=os.cpu_count() or 1,
        metavar="N",
        help="images in parallel; 1 for undisturbed times",
    )


def _command(args: argparse.Namespace, names: Sequence[str]) -> str:
    """The command line that gives the same tables."""
    words = ["jnd-jax", "eval", *map(str, args.models), "--data", str(args.data)]
    words += ["--against", ",".join(args.against), "--metrics", ",".join(names)]
    if args.models and args.qualities != list(MODEL_GRID):
        words += ["--qualities", ",".join(f"{quality:g}" for quality in args.qualities)]
    if args.jnd != 1:
        words += ["--jnd", f"{args.jnd:g}"]
    if args.limit is not None:
        words += ["--limit", str(args.limit)]
    return shlex.join([*words, "-o", str(args.output)])


def run(args: argparse.Namespace) -> int:
    """Carries out `jnd-jax eval`; returns the exit status."""
    from jnd_jax.evaluation import report, summary

    names = args.metrics
    if names is None:
        names = [name for name in DEFAULT_METRICS if name != "butteraugli" or shutil.which("butteraugli_main")]
    for name in names:
        metrics.lookup(name)
    for quality in args.qualities:
        if not 0 <= quality <= 100 or round(quality * 10, 6) % 1:
            raise JndError(f"give the models qualities of 0 to 100 in tenths, not {quality:g}")
    codecs = []
    if args.models:
        import jnd_jax

        codecs += [model_codec(jnd_jax.load(model), args.qualities) for model in args.models]
    codecs += [baseline_codec(name) for name in args.against]
    if not codecs or len({codec.name for codec in codecs}) < len(codecs):
        raise JndError("name at least one model or codec, and each of them once")
    images = find_images(args.data, args.limit)
    args.output.mkdir(parents=True, exist_ok=True)
    viewer_folder = args.output / "viewer"
    viewer_folder.mkdir(exist_ok=True)
    results = Results(args.output / "results.jsonl")
    evaluate(
        codecs,
        images,
        names,
        results,
        t=args.jnd,
        viewer=[image.name for image in images[: args.viewer_images]],
        viewer_bpp=args.viewer_bpp,
        viewer_folder=viewer_folder,
        workers=max(1, args.workers),
        progress=lambda line: print(line, file=sys.stderr, flush=True),
    )
    table = summary.summarise(
        results, codecs, images, names, t=args.jnd, command=_command(args, names), workers=args.workers
    )
    summary.write(table, args.output)
    report.write(
        table,
        results,
        codecs,
        images,
        args.output / "report.html",
        viewer=images[: args.viewer_images],
        viewer_bpp=args.viewer_bpp,
        viewer_folder=viewer_folder,
    )
    report.write_png(table, args.output / "rate-distortion.png")
    print((args.output / "tables.md").read_text(encoding="utf-8"))
    print(f"report: {args.output / 'report.html'}")
    return 0
