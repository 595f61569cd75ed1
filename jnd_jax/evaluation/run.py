"""`jnd-jax eval`: models against conventional codecs by real bytes of full-size images, resumable."""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from jnd_jax import codecs, metrics
from jnd_jax.arguments import at_least, between
from jnd_jax.errors import JndError
from jnd_jax.evaluation import measure, report, summary, tables
from jnd_jax.evaluation.results import Results, TestImage, find_images

DEFAULT_METRICS = ("psnr", "ms-ssim", "psnr-hvs", "ssimulacra2", "butteraugli", "cvvdp")


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _some_names(text: str) -> list[str]:
    if not _names(text):
        raise argparse.ArgumentTypeError("give at least one")
    return _names(text)


def _qualities(text: str) -> list[float]:
    try:
        return sorted({float(number) for number in _some_names(text)})
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"Write qualities as numbers with commas, not {text!r}") from error


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `jnd-jax eval`."""
    parser.add_argument(
        "models",
        nargs="*",
        metavar="MODEL",
        help="model names or model files, MODEL:N with an effort of 1 to 3; NAME=MODEL,MODEL joins models of one rate each, "
        "lowest first, to one curve",
    )
    parser.add_argument(
        "--data", type=Path, help="folder of test images; without it, the tables of -o are made anew from its results"
    )
    parser.add_argument(
        "--against",
        type=_names,
        default=["jpeg", "webp", "avif", "jxl"],
        help="conventional codecs, with commas (jpeg,jpegli,webp,avif,avif10,jxl,j2k, or TOML files of programs); "
        "avif10@60+74 takes these qualities",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for the results")
    parser.add_argument(
        "--metrics",
        type=_some_names,
        default=None,
        help=f"metrics, with commas (default: {','.join(DEFAULT_METRICS)}, as far as installed)",
    )
    parser.add_argument(
        "--qualities",
        type=_qualities,
        default=list(codecs.MODEL_GRID),
        help="qualities of the models' curves, 0 to 100 in tenths",
    )
    parser.add_argument(
        "--jnd", type=between(0), default=1.0, metavar="T", help="JNDs at which bits are compared (default: 1)"
    )
    parser.add_argument("--limit", type=at_least(1), default=None, metavar="N", help="only the first N images")
    parser.add_argument(
        "--viewer-images", type=at_least(0), default=3, metavar="N", help="images in the report's viewer"
    )
    parser.add_argument("--viewer-bpp", type=between(0), default=0.5, help="bits per pixel of the viewer's files")
    parser.add_argument(
        "--workers",
        type=at_least(1),
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


def _installed_metrics() -> tuple[list[str], list[str]]:
    """The default metrics, and of those that lack their tool what to install."""
    missing = []
    if not shutil.which("butteraugli_main"):
        missing.append("Butteraugli, which needs libjxl's `butteraugli_main` (Debian: apt install libjxl-devtools)")
    return [name for name in DEFAULT_METRICS if name != "butteraugli" or not missing], missing


def _conventional(text: str) -> codecs.Codec:
    """The codec of "NAME", at its own qualities, or of "NAME@60+74", at these."""
    named = re.fullmatch(r"(.+)@([-.\d+]+)", text)
    if named is None:
        return codecs.lookup(text)
    codec = codecs.lookup(named[1])
    try:
        grid = tuple(sorted({float(number) for number in named[2].split("+")}))
    except ValueError as error:
        raise JndError(f"Write the qualities of {named[1]} as in {named[1]}@60+74, not {text}.") from error
    if unknown := [f"{quality:g}" for quality in grid if quality not in codec.qualities]:
        raise JndError(f"{named[1]} has no quality {', '.join(unknown)}.")
    return dataclasses.replace(codec, grid=grid)


def _tested(args: argparse.Namespace) -> list[codecs.Codec]:
    for quality in args.qualities:
        if not 0 <= quality <= 100 or round(quality * 10, 6) % 1:
            raise JndError(f"Give the models qualities of 0 to 100 in tenths, not {quality:g}.")
    found = [codecs.lookup(name) for name in args.models]
    # Models of one rate have no other qualities.
    models = [
        dataclasses.replace(codec, grid=tuple(args.qualities)) if {*args.qualities} <= {*codec.qualities} else codec
        for codec in found
    ]
    tested = models + [_conventional(text) for text in args.against]
    if not tested:
        raise JndError("Name at least one model or codec.")
    named = [codec.name for codec in tested]
    if twice := [name for name in dict.fromkeys(named) if named.count(name) > 1]:
        raise JndError(
            f"Two of these codecs are named {twice[0]!r}: name each once, or write a run's model under another name with "
            "`python -m jnd_jax.training.packaging RUN -o NAME.safetensors`."
        )
    return tested


def _measure(args: argparse.Namespace, results: Results, viewer_folder: Path) -> list[TestImage]:
    """Measures what is missing; the images of the viewer."""
    names, missing = (args.metrics, []) if args.metrics is not None else _installed_metrics()
    for name in names:
        metrics.lookup(name)
    for line in missing:
        print(f"jnd-jax: left out: {line}", file=sys.stderr)
    tested, images = _tested(args), find_images(args.data, args.limit)
    viewer_folder.mkdir(parents=True, exist_ok=True)
    measure.evaluate(
        tested,
        images,
        names,
        results,
        viewer=[image.name for image in images[: args.viewer_images]],
        viewer_bpp=args.viewer_bpp,
        viewer_folder=viewer_folder,
        workers=args.workers,
        progress=lambda line: print(line, file=sys.stderr, flush=True),
    )
    summary.record(
        results,
        tested,
        images,
        names,
        t=args.jnd,
        command=_command(args, names),
        workers=args.workers,
        missing=missing,
    )
    return images[: args.viewer_images]


def run(args: argparse.Namespace) -> int:
    """Carries out `jnd-jax eval`; returns the exit status."""
    path = args.output / "results.jsonl"
    if args.data is None and (args.models or not path.exists()):
        raise JndError(f"Give --data, a folder of images, or -o, a folder with results.jsonl: {args.output} has none.")
    if args.data is not None:
        find_images(args.data, 1)
        args.output.mkdir(parents=True, exist_ok=True)
    results = Results(path)
    viewer_folder = args.output / "viewer"
    viewer = [] if args.data is None else _measure(args, results, viewer_folder)
    figures = summary.summarise(results)
    tables.write(figures, summary.image_bits(results), args.output)
    report.write_png(figures, args.output / "rate-distortion.png")
    print((args.output / "tables.md").read_text(encoding="utf-8"))
    if args.data is not None:
        page = args.output / "report.html"
        report.write(figures, results, page, viewer=viewer, viewer_bpp=args.viewer_bpp, viewer_folder=viewer_folder)
        print(f"report: {page}")
    return 0
