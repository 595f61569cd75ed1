"""`jnd-jax transcode`: the same symbols by another range coder; needs no jax."""

from __future__ import annotations

import argparse
import dataclasses
import functools
from pathlib import Path

from jnd_jax import bitstream, files, modelfile
from jnd_jax.codec import coding, regions
from jnd_jax.errors import JndError


def transcode(data: bytes, coder: str, model: modelfile.ModelFile) -> bytes:
    """The .jnd file `data` with `coder` (one of `bitstream.CODERS`) in place of its own: the same image, to the bit.

    Raises:
      JndError: the file is damaged or of another model, or a coder is not installed.
    """
    header, chunks = bitstream.unpack(data)
    if header.model != model.hash:
        raise JndError(
            f"This file was made with model {header.model}, not {model.name} ({model.hash}): "
            "name the model that made it with --model."
        )
    latents, quality = coding.latent_coder(model.params, model.tables), header.quality
    z = coding.z_of_file(latents, header, chunks)
    recoded = {
        "z": latents.encode_z(z, quality, coder),
        "y": latents.recode_y(chunks["y"], z, regions.of_file(header, chunks), header.coder, coder),
    }
    return bitstream.pack(dataclasses.replace(header, coder=coder), chunks | recoded)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `jnd-jax transcode`."""
    parser.add_argument("inputs", nargs="+", metavar="IN", help=".jnd files or folders of them")
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="a .jnd file, or a folder for several")
    parser.add_argument(
        "--coder", choices=bitstream.CODERS, required=True, help="tfc for TensorFlow, constriction for everything else"
    )
    files.overwrite_argument(parser)
    parser.add_argument("--model", help="name or file of the model, if it is not one that comes with the package")


def run(args: argparse.Namespace) -> int:
    """Transcodes all files; returns the exit status."""

    @functools.cache
    def model_of(digest: str) -> modelfile.ModelFile:
        return modelfile.load(modelfile.find(args.model) if args.model else modelfile.find_by_hash(digest))

    def work(source: Path, target: Path) -> tuple[bytes, str]:
        data = source.read_bytes()
        recoded = transcode(data, args.coder, model_of(bitstream.unpack(data)[0].model))
        return recoded, f"{source}  {len(data)} bytes  {target}  {len(recoded)} bytes"

    return files.each_of(args, files.plan(args.inputs, args.output, (".jnd",), (".jnd",), ".jnd"), work, (".jnd",))
