"""`jnd-jax`: encode, decode, look into files, and the commands of the other parts of the package."""

from __future__ import annotations

import argparse
import functools
import importlib
import io
import json
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jnd_jax import __version__, bitstream, files, modelfile, zoo
from jnd_jax.arguments import between
from jnd_jax.errors import JndError
from jnd_jax.files import FAILURES, complain, plan, workers_argument, write_bytes
from jnd_jax.memory import MemoryBudget

if TYPE_CHECKING:
    import numpy as np

    from jnd_jax.jnd import datasets

# Commands of other modules, which are imported when the command is given: name, module, extra, help.
_PLUGINS = (
    ("targets", "jnd_jax.jnd.targets", "eval", "make just-noticeable versions of images to train with"),
    ("eval", "jnd_jax.evaluation.run", "eval", "compare models with conventional codecs"),
    ("abtest", "jnd_jax.evaluation.abtest.command", "eval", "compare two codecs blindly, with people"),
    ("savings", "jnd_jax.evaluation.savings_page", "eval", "what smaller files are worth"),
    ("export", "jnd_jax.serving.export", "tf", "write a model's decoder for TensorFlow, TFLite, StableHLO or ONNX"),
    ("web", "jnd_jax.serving.web", "", "write a folder that shows .jnd files in browsers"),
    ("transcode", "jnd_jax.serving.transcode", "tfc", "change the range coder of .jnd files, without loss"),
    ("thumbnail", "jnd_jax.thumbnail", "", "write a small PNG of a .jnd file, for desktop file managers"),
    ("serve", "jnd_jax.serving.service.command", "serve", "encode and decode over HTTP"),
)
# Chelsea the cat by Stefan van der Walt, CC0.
_DEMO_PHOTO = zoo.FOLDER / "chelsea.png"


def _bpp(size: int, width: int, height: int) -> str:
    return f"{width}x{height}  {size} bytes  {8 * size / (width * height):.3f} bpp"


def _goal(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `ImageCodec.encode` that say what each file is to reach; none where --sur looks it up."""
    from jnd_jax import policy, search

    if args.sur is not None and (args.quality, args.policy, args.target or "jnd") != (None, None, "jnd"):
        raise JndError("Give --sur alone or with --target jnd.")
    if (args.sur is None) != (args.labels is None):
        raise JndError(
            "Give --sur and --labels together: only people's answers tell the share of satisfied users, and "
            "`jnd-jax abtest analyse` writes them as jnd.csv."
        )
    if args.sur is not None:
        return {}
    if args.metric is not None and args.target is None:
        raise JndError("Give --metric with --target aic or konjnd.")
    if args.target is not None:
        return {"target": search.parse_target(args.target, args.metric)}
    return {"policy": policy.load(args.policy)} if args.policy is not None else {"quality": args.quality}


def _from_label(needs: Mapping[str, datasets.Need], image: str, args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `ImageCodec.encode` for an image of which people told the quality they need."""
    if image not in needs:
        raise JndError(
            f"Ask people about it first: {args.labels} has no row of this image and of the codec {args.model}."
        )
    quality, subjects, _ = needs[image]
    if math.isinf(quality):
        raise JndError(
            f"Raise the qualities of the test: the highest one satisfied fewer than {args.sur} % of its subjects."
        )
    return {"quality": quality, "extras": {"note": json.dumps({"sur": args.sur, "subjects": subjects}).encode()}}


def _read_mask(path: str) -> np.ndarray:
    from jnd_jax import images

    picture = images.read_image(path)
    if picture.alpha is not None:
        raise JndError(f"The mask {path} has opacity: draw it in grey without, white where quality is to be higher.")
    pixels = images.as_shown(picture)
    if (pixels != pixels[..., :1]).any():
        raise JndError(f"The mask {path} has colours: draw it in grey, white where quality is to be higher.")
    if pixels.max() == 1:
        raise JndError(f"The mask {path} is nearly black where it marks anything: draw it white (255) there.")
    return pixels[..., 0]


def _encode(args: argparse.Namespace) -> int:
    pairs = plan(args.inputs, args.output, _image_suffixes(), (".jnd",), ".jnd")
    goal = _goal(args)
    if args.region_quality is not None and args.region is None:
        raise JndError("Give --region-quality with --region.")
    mask = None if args.region is None else _read_mask(args.region)
    import jnd_jax
    from jnd_jax import images
    from jnd_jax.image_codec import measure

    codec = jnd_jax.load(args.model)
    needs = None
    if args.sur is not None:
        from jnd_jax.jnd.datasets import own_needs

        needs = {
            image: need
            for (image, tested), need in own_needs(args.labels, args.sur / 100).items()
            if tested in (codec.name, args.model)
        }

    budget = _memory_budget(args, args.effort > 0)

    def work(source: Path, target: Path) -> tuple[bytes, str]:
        with budget.admit() as wait:
            return encoded(source, wait)

    def encoded(source: Path, wait: Callable[[int, int], None]) -> tuple[bytes, str]:
        def check(width: int, height: int) -> None:
            images.check_size(width, height)
            wait(width, height)

        picture = images.read_image(source, convert=args.convert, patient=args.patient_data, check=check)
        files.warn(str(source), picture.lost)
        wanted = goal if needs is None else _from_label(needs, source.stem, args)
        extras = images.to_chunks(picture) | wanted.get("extras", {})
        region = (
            {} if mask is None else {"mask": images.as_stored(mask, picture), "region_quality": args.region_quality}
        )
        further = region | {"extras": extras, "coder": args.coder, "effort": args.effort}
        data = codec.encode(picture.pixels, **wanted | further)
        height, width = picture.pixels.shape[:2]
        line = f"{source}  {_bpp(len(data), width, height)}"
        if "quality" not in goal:
            line += f"  quality {bitstream.probe(data)['quality'] / 10:g}"
        note = _read_note(bitstream.unpack(data)[1])
        if "reached" in note:
            line += f"  {note['metric']} {note['reached']:g}"
        if args.verify:
            alpha = picture.alpha
            coded = picture.pixels if alpha is None else images.smooth_hidden(picture.pixels, alpha)
            psnr = measure("psnr", coded, codec.decode(data), None if alpha is None else alpha > 0)
            line += f"  PSNR {psnr:.2f} dB"
        return data, line

    return files.each_of(args, pairs, work, _image_suffixes(), args.workers)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _read_note(chunks: Mapping[str, bytes]) -> dict[str, Any]:
    """The file's note, see `_parsed`."""
    return _parsed(chunks.get("note", b"{}"))


def _parsed(content: bytes) -> dict[str, Any]:
    """A JSON object; what is none as {"text": ...}."""
    text = content.decode("utf-8", "replace")
    try:
        note = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        note = None
    return note if isinstance(note, dict) else {"text": text}


def _memory_budget(args: argparse.Namespace, effort: bool = False) -> MemoryBudget:
    return MemoryBudget(None if args.memory is None else 1e6 * args.memory, effort)


def _image_suffixes() -> tuple[str, ...]:
    from jnd_jax.images import READ_SUFFIXES

    return READ_SUFFIXES


def _decode(args: argparse.Namespace) -> int:
    from jnd_jax import images

    pairs = plan(args.inputs, args.output, (".jnd",), images.WRITE_SUFFIXES, f".{args.format}")
    model_of = functools.cache(lambda digest: args.model or str(modelfile.find_by_hash(digest)))

    def whole(header: bitstream.Header, chunks: Mapping[str, bytes], data: bytes) -> images.Picture:
        import jnd_jax

        crop = images.Crop(*args.crop, image_width=header.width, image_height=header.height) if args.crop else None
        return images.from_chunks(jnd_jax.load(model_of(header.model)).decode(data, args.crop), chunks, crop)

    def small(header: bitstream.Header, data: bytes) -> images.Picture:
        from jnd_jax import preview

        return preview.load(model_of(header.model)).decode(data, args.scale)

    budget = _memory_budget(args)

    def work(source: Path, target: Path) -> tuple[bytes, str]:
        data = files.read_bytes(source)
        header, chunks = bitstream.arrived(data)[:2] if args.partial else bitstream.unpack(data)
        with budget.admit() as wait:
            wait(header.width, header.height)
            return decoded(source, target, header, chunks, data)

    def decoded(
        source: Path, target: Path, header: bitstream.Header, chunks: Mapping[str, bytes], data: bytes
    ) -> tuple[bytes, str]:
        note = ""
        if args.partial:
            import jnd_jax

            pixels, share = jnd_jax.load(model_of(header.model)).decode_partial(data)
            picture = images.from_chunks(pixels, chunks)
            lost = sorted(bitstream.salvage(data)[2] - set(chunks))
            if share < 1 or lost:
                note = f"  PARTIAL: {share:.0%} of the latents arrived" + ", without ".join(["", *lost])
        else:
            picture = small(header, data) if args.scale else whole(header, chunks, data)
        suffix = target.suffix if target.suffix.lower() in images.WRITE_SUFFIXES else f".{args.format}"
        if chunks.get("residual") and suffix.lower() in (".jpg", ".jpeg"):
            files.warn(str(source), ["a JPEG does not keep the bound on its errors, PNG, WebP and TIFF do"])
        height, width = picture.pixels.shape[:2]
        return images.format_image(picture, suffix), f"{source}  {width}x{height}  {target}{note}"

    return files.each_of(args, pairs, work, (".jnd",), args.workers)


def _read_info(name: str) -> dict[str, Any]:
    path = files.STDIN if name == "-" else Path(name)
    shipped = zoo.resolve(name, zoo.models()) is not None
    if shipped or path.suffix == modelfile.SUFFIX or not (path.exists() or path.suffix == ".jnd"):
        return modelfile.describe(modelfile.find(name))
    data = files.read_bytes(path)
    fields = bitstream.probe(data)
    fields["bpp"] = round(8 * fields["file_size"] / (fields["width"] * fields["height"]), 4)
    names = {modelfile.describe(file)["hash"]: known for known, file in zoo.models().items()}
    fields["model_name"] = names.get(fields["model"])
    if fields["intact"]:
        header, chunks = bitstream.unpack(data)
        if "regions" in chunks:
            fields["regions"] = _describe_regions(header, chunks)
        if chunks.get("residual"):
            from jnd_jax import residual

            fields["max_error"] = residual.max_error(chunks["residual"], header.bit_depth)
        if "dicom" in chunks:
            fields["dicom"] = _parsed(chunks["dicom"])
        if "note" in chunks:
            fields["note"] = _read_note(chunks)
    return fields


def _describe_regions(header: bitstream.Header, chunks: Mapping[str, bytes]) -> dict[str, float]:
    """Lowest and highest quality of a file with regions, and the share of its blocks above the background's."""
    from jnd_jax.codec import regions

    levels: Any = regions.of_file(header, chunks)
    return {
        "lowest": levels.min() / 10,
        "highest": levels.max() / 10,
        "raised": round(float((levels > header.quality).mean()), 4),
    }


def _info(args: argparse.Namespace) -> int:
    try:
        fields = _read_info(args.file)
    except FAILURES as error:
        if args.json:
            print(json.dumps({"error": str(error)}))
        raise
    status = 0 if fields.get("intact", True) else 2
    if args.json:
        print(json.dumps(fields))
        return status
    table = fields.pop("table", [])
    width = max(map(len, fields))
    for name, value in fields.items():
        print(f"{name:{width}}  {json.dumps(value) if value is None or isinstance(value, dict) else value}")
    for chunk in table:
        print(
            f"chunk {chunk['tag']} {chunk['name']:8} {chunk['size']:10} bytes  "
            f"{'intact' if chunk['intact'] else 'DAMAGED'}"
        )
    return status


def _models(args: argparse.Namespace) -> int:
    known = zoo.models()
    described = {name: modelfile.describe(path) for name, path in known.items()}
    if args.json:
        print(json.dumps(described))
        return 0
    newest = zoo.resolve(zoo.DEFAULT, known)
    for name, model in described.items():
        alias = f"  ({zoo.DEFAULT})" if name == newest else ""
        print(
            f"{name}  {model['hash']}  {model['bytes'] / 1e6:.1f} MB  "
            f"{model['parameters'] / 1e6:.2f} M parameters{alias}"
        )
    return 0


def _timed(function: Callable[[], Any]) -> tuple[Any, float, float]:
    """The result, and the seconds of the first and of the second call."""
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        result = function()
        seconds.append(time.perf_counter() - start)
    return result, *seconds


def _demo(args: argparse.Namespace) -> int:
    import jnd_jax
    from jnd_jax import images
    from jnd_jax.image_codec import measure

    if args.image.resolve() in (Path("demo.jnd").resolve(), Path("demo.png").resolve()):
        raise JndError(f"{args.image} would be replaced by what the demonstration writes: rename it.")
    picture = images.read_image(args.image)
    codec = jnd_jax.load(args.model)
    data, first_encode, encode = _timed(
        lambda: codec.encode(picture.pixels, quality=args.quality, extras=images.to_chunks(picture))
    )
    decoded, first_decode, decode = _timed(lambda: codec.decode(data))
    write_bytes("demo.jnd", data)
    images.write_image("demo.png", images.from_chunks(decoded, bitstream.unpack(data)[1]))
    height, width = picture.pixels.shape[:2]
    size = args.image.stat().st_size
    print(
        f"{args.image.name}  {_bpp(size, width, height)}\n"
        f"demo.jnd  {_bpp(len(data), width, height)}  1/{size / len(data):.1f} of {args.image.name}\n"
        f"demo.png  PSNR {measure('psnr', picture.pixels, decoded):.2f} dB\n"
        f"{codec.name}, quality {args.quality:g}: encoded in {encode:.2f} s, decoded in {decode:.2f} s "
        f"(the first time {first_encode:.2f} s and {first_decode:.2f} s)"
    )
    return 0


def _quality(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100 or abs(value * 10 - round(value * 10)) > 1e-6:
        raise argparse.ArgumentTypeError(f"Give a quality of 0 to 100 in tenths, not {text!r}")
    return value


def _rectangle(text: str) -> tuple[int, ...]:
    numbers = text.split(",")
    if len(numbers) != 4 or not all(number.isdecimal() for number in numbers):
        raise argparse.ArgumentTypeError(
            f"Give left, top, width and height in pixels, such as 0,0,640,480, not {text!r}"
        )
    return tuple(map(int, numbers))


def _target(text: str) -> str:
    from jnd_jax.search import parse_target

    try:
        parse_target(text)
    except JndError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _plugin(parser: argparse.ArgumentParser, module: str, extra: str) -> None:
    try:
        plugin = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "jnd_jax").startswith("jnd_jax"):
            raise
        raise JndError(
            f"Install what this command needs with: pip install 'jnd-jax[{extra}]' ({error.name} is missing)."
        ) from error
    plugin.add_arguments(parser)
    parser.set_defaults(run=plugin.run)


def _several_arguments(parser: argparse.ArgumentParser) -> None:
    files.overwrite_argument(parser)
    workers_argument(parser)
    parser.add_argument(
        "--memory",
        type=between(0),
        metavar="MB",
        help="that all images at once may take together: more of them wait (default: what is available)",
    )


def _add_encode(commands: Any) -> None:
    encode = commands.add_parser("encode", help="write images as .jnd files")
    encode.add_argument(
        "inputs", nargs="+", metavar="IN", help="image files or folders of them, or - for standard input"
    )
    encode.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="OUT",
        help="a .jnd file, a folder for several, or - for standard output",
    )
    encode.add_argument("--model", default=zoo.DEFAULT, help="name or file of the model (default: %(default)s)")
    goal = encode.add_mutually_exclusive_group()
    goal.add_argument("--quality", type=_quality, metavar="Q", help="0 to 100 in tenths (default: 50)")
    goal.add_argument(
        "--target",
        type=_target,
        metavar="T",
        help="what the smallest file must reach: aic=1 (one just-noticeable difference as people told it; jnd means the "
        "same), konjnd=1 (of a flicker test), visually-lossless, psnr=38, ssimulacra2=70, bpp=0.5, ...",
    )
    goal.add_argument(
        "--policy", metavar="NAME", help="what a class of content must keep: medical, inspection, text, or a TOML file"
    )
    encode.add_argument(
        "--metric",
        metavar="NAME",
        help="that tells just-noticeable differences (default: cvvdp for aic, ssimulacra2 for konjnd)",
    )
    encode.add_argument(
        "--sur",
        type=int,
        choices=(50, 75),
        metavar="SHARE",
        help="the quality that satisfies 50 or 75 %% of people, as --labels has it",
    )
    encode.add_argument(
        "--labels", metavar="CSV", help="jnd.csv or jnd_subjects.csv of `jnd-jax abtest analyse`, for --sur"
    )
    encode.add_argument(
        "--region", metavar="MASK", help="greyscale image of the same size, white where quality is to be higher"
    )
    encode.add_argument(
        "--region-quality",
        type=_quality,
        metavar="Q",
        help="of the white of --region (default: the policy's, or 25 above the rest)",
    )
    encode.add_argument(
        "--coder",
        choices=bitstream.CODERS,
        default=bitstream.CODERS[0],
        help="range coder; TensorFlow decodes files of tfc by itself (default: %(default)s)",
    )
    encode.add_argument(
        "--effort",
        type=int,
        choices=range(10),
        default=0,
        metavar="N",
        help="0 to 3: times that the encoder corrects what it would decode, for fewer bits at the same look (default: 0)",
    )
    encode.add_argument("--verify", action="store_true", help="decode each file and print its PSNR")
    encode.add_argument(
        "--convert", action="store_true", help="convert CMYK and Lab to sRGB, by the profile, instead of refusing them"
    )
    encode.add_argument(
        "--patient-data", action="store_true", help="keep what a DICOM file says of patient, places and times"
    )
    _several_arguments(encode)
    encode.set_defaults(run=_encode)


def _add_decode(commands: Any) -> None:
    decode = commands.add_parser("decode", help="write .jnd files as images")
    decode.add_argument(
        "inputs", nargs="+", metavar="IN", help=".jnd files or folders of them, or - for standard input"
    )
    decode.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="OUT",
        help="a .png, .jpg, .webp or .tiff file, a folder for several, or - for standard output",
    )
    decode.add_argument("--model", help="name or file of the model, if it is not one that comes with the package")
    decode.add_argument(
        "--format",
        default="png",
        choices=("png", "jpg", "webp", "tiff"),
        help="of the files in a folder, and of standard output (default: %(default)s)",
    )
    part = decode.add_mutually_exclusive_group()
    part.add_argument(
        "--scale", type=int, choices=(2, 4, 8, 16), help="a preview of 1/2 to 1/16 of the width and height, much sooner"
    )
    part.add_argument(
        "--partial", action="store_true", help="files that end too soon: what arrived of them, with a note of how much"
    )
    part.add_argument(
        "--crop", type=_rectangle, metavar="X,Y,W,H", help="that part alone, in pixels of the image as it is stored"
    )
    _several_arguments(decode)
    decode.set_defaults(run=_decode)


def _parser(command: str | None) -> argparse.ArgumentParser:
    """The parser of all commands; a plugin's own arguments are there only if `command` names it."""
    parser = argparse.ArgumentParser(prog="jnd-jax", description="A learned image codec.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_encode(commands)
    _add_decode(commands)

    info = commands.add_parser("info", help="what a .jnd file or a model file says of itself")
    info.add_argument("file", metavar="FILE", help="a .jnd file, a model file or the name of a model")
    info.add_argument("--json", action="store_true", help="one JSON object")
    info.set_defaults(run=_info)

    models = commands.add_parser("models", help="the models that come with the package")
    models.add_argument("--json", action="store_true", help="one JSON object, with the model cards")
    models.set_defaults(run=_models)

    demo = commands.add_parser("demo", help="encode and decode a photo; writes demo.jnd and demo.png")
    demo.add_argument(
        "image", nargs="?", type=Path, default=_DEMO_PHOTO, metavar="IMAGE", help="a photo (default: one of a cat)"
    )
    demo.add_argument("--quality", type=_quality, default=50.0, metavar="Q", help="0 to 100 in tenths (default: 50)")
    demo.add_argument("--model", default=zoo.DEFAULT, help="name or file of the model (default: %(default)s)")
    demo.set_defaults(run=_demo)

    for name, module, extra, summary in _PLUGINS:
        plugin = commands.add_parser(name, help=summary)
        if name == command:
            _plugin(plugin, module, extra)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Carries out one command; returns 0, 1 if files were skipped, 2 if any failed, 130 if it was interrupted."""
    argv = sys.argv[1:] if argv is None else list(argv)
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal cannot show ends no job.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if sys.stderr is None:
        # Closed: `print` would write to standard output, into the image.
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    # Of each damaged tag; `warnings.catch_warnings` does not hold among threads.
    warnings.filterwarnings("ignore", module="PIL")
    files.keep_compiled()
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    try:
        args = _parser(argv[0] if argv else None).parse_args(argv)
        return args.run(args)
    except FAILURES as error:
        complain("", error)
        return 2
    except KeyboardInterrupt:
        print("jnd-jax: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
