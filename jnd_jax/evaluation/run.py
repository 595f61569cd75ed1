"""`jnd-jax eval`: models against conventional codecs by real bytes of full-size images, resumable."""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from jnd_jax import codecs, metrics
from jnd_jax.errors import JndError
from jnd_jax.evaluation import measure
from jnd_jax.evaluation.results import Results, find_images

DEFAULT_METRICS = ("psnr", "ms-ssim", "psnr-hvs", "ssimulacra2", "butteraugli")


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
        default=list(codecs.MODEL_GRID),
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
    if args.models and args.qualities != list(codecs.MODEL_GRID):
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
    models = [dataclasses.replace(codecs.lookup(name), grid=tuple(args.qualities)) for name in args.models]
    tested = models + [codecs.lookup(name) for name in args.against]
    if not tested or len({codec.name for codec in tested}) < len(tested):
        raise JndError("name at least one model or codec, and each of them once")
    images = find_images(args.data, args.limit)
    args.output.mkdir(parents=True, exist_ok=True)
    viewer_folder = args.output / "viewer"
    viewer_folder.mkdir(exist_ok=True)
    results = Results(args.output / "results.jsonl")
    measure.evaluate(
        tested,
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
        results, tested, images, names, t=args.jnd, command=_command(args, names), workers=args.workers
    )
    summary.write(table, args.output)
    report.write(
        table,
        results,
        tested,
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
