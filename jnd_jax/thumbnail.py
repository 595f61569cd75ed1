"""`jnd-jax thumbnail`: what desktop file managers call for a small picture of a file; imports no jax."""

from __future__ import annotations

import argparse
import io

from PIL import Image, ImageOps

import jnd_jax.pillow  # noqa: F401  registers the format
from jnd_jax.errors import JndError
from jnd_jax.files import write_bytes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `jnd-jax thumbnail`."""
    parser.add_argument("input", metavar="IN", help="a .jnd file, whatever its name")
    parser.add_argument("output", metavar="OUT", help="the PNG to write, whatever its name")
    parser.add_argument("--size", type=int, default=256, metavar="N", help="longest side in pixels (default: 256)")


def run(args: argparse.Namespace) -> int:
    """Writes the thumbnail, upright, and returns 0."""
    if args.size < 1:
        raise JndError(f"Give a size of 1 or more, not {args.size}.")
    with Image.open(args.input, formats=("JND",)) as image:
        image.thumbnail((args.size, args.size))
        buffer = io.BytesIO()
        ImageOps.exif_transpose(image).save(buffer, "PNG")
    write_bytes(args.output, buffer.getvalue())
    return 0
