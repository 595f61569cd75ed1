"""Conventional codecs behind one pair of functions: (image, quality) -> file and file -> image.

Others come in as programs, described by a TOML file that stands in the place of the name, see `external`.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import shlex
import subprocess
import tempfile
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image, features

from jnd_jax.errors import JndError


@dataclass(frozen=True)
class Baseline:
    """One conventional codec.

    Attributes:
        name: as users write it.
        title: as plots and tables write it.
        settings: how it is run, in words.
        suffix: file name extension.
        media_type: what a browser calls the file, "" where browsers cannot show it.
        qualities: all qualities it has, ascending; better with each.
        grid: qualities for a rate-distortion curve over about 28 to 40 dB.
        encode: (image, quality) -> file.
        decode: file -> image.
        version: of the library that does the work.
    """

    name: str
    title: str
    settings: str
    suffix: str
    media_type: str
    qualities: Sequence[float]
    grid: Sequence[float]
    encode: Callable[[np.ndarray, float], bytes]
    decode: Callable[[bytes], np.ndarray]
    version: Callable[[], str]


def _pillow_encode(**options: Any) -> Callable[[np.ndarray, float], bytes]:
    def encode(image: np.ndarray, quality: float) -> bytes:
        file = io.BytesIO()
        Image.fromarray(image).save(file, quality=int(quality), **options)
        return file.getvalue()

    return encode


def _pillow_decode(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def _package(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise JndError(f"install the baseline codecs with `pip install jnd_jax[eval]`: {name} is missing") from error


def _jpegli_encode(image: np.ndarray, quality: float) -> bytes:
    height, width = image.shape[:2]
    return _package("pyjpegli").encode(image.tobytes(), width, height, int(quality))


def jxl_distance(quality: float) -> float:
    """libjxl's Butteraugli distance for a JPEG-like quality in 0..100 (its JxlEncoderDistanceFromQuality)."""
    if quality >= 100:
        return 0.0
    if quality >= 30:
        return 0.1 + (100 - quality) * 0.09
    return 53 / 3000 * quality**2 - 23 / 20 * quality + 25


def _jxl_encode(image: np.ndarray, quality: float) -> bytes:
    return _package("imagecodecs").jpegxl_encode(image, distance=jxl_distance(quality), effort=7, numthreads=1)


def _j2k_encode(image: np.ndarray, quality: float) -> bytes:
    return _package("imagecodecs").jpeg2k_encode(image, level=float(quality), codecformat="j2k", reversible=False)


def _imagecodecs_version(key: str) -> Callable[[], str]:
    def version() -> str:
        words = _package("imagecodecs").version(dict)
        return f"{key} {words.get(key, 'unknown')}"

    return version


BASELINES: dict[str, Baseline] = {
    baseline.name: baseline
    for baseline in (
        Baseline(
            "jpeg",
            "JPEG",
            "libjpeg-turbo by Pillow, 4:2:0, optimised Huffman tables",
            ".jpg",
            "image/jpeg",
            range(1, 96),
            (10, 20, 35, 50, 65, 80, 90, 95),
            _pillow_encode(format="JPEG", optimize=True, subsampling="4:2:0"),
            _pillow_decode,
            lambda: f"libjpeg-turbo {features.version('libjpeg_turbo')}",
        ),
        Baseline(
            "jpegli",
            "jpegli",
            "pyjpegli, 4:4:4, its defaults",
            ".jpg",
            "image/jpeg",
            range(1, 101),
            (10, 20, 35, 50, 65, 80, 90, 95),
            _jpegli_encode,
            _pillow_decode,
            lambda: f"pyjpegli {importlib.metadata.version('pyjpegli')}",
        ),
        Baseline(
            "webp",
            "WebP",
            "libwebp by Pillow, method 6",
            ".webp",
            "image/webp",
            range(101),
            (2, 10, 25, 45, 65, 80, 90, 97),
            _pillow_encode(format="WEBP", method=6),
            _pillow_decode,
            lambda: f"libwebp {features.version('webp')}",
        ),
        Baseline(
            "avif",
            "AVIF",
            "libavif by Pillow, 4:4:4, speed 4",
            ".avif",
            "image/avif",
            range(101),
            (15, 25, 35, 45, 55, 65, 75, 85),
            _pillow_encode(format="AVIF", speed=4, subsampling="4:4:4"),
            _pillow_decode,
            lambda: f"libavif {features.version('avif')}",
        ),
        Baseline(
            "jxl",
            "JPEG XL",
            "libjxl by imagecodecs, effort 7",
            ".jxl",
            "",
            [tenth / 10 for tenth in range(50, 1000)],
            (10, 25, 40, 55, 70, 80, 90, 95),
            _jxl_encode,
            lambda data: _package("imagecodecs").jpegxl_decode(data),
            _imagecodecs_version("libjxl"),
        ),
        Baseline(
            "j2k",
            "JPEG 2000",
            "OpenJPEG by imagecodecs, 9/7 wavelet; quality is the encoder's PSNR in dB",
            ".j2k",
            "",
            [tenth / 10 for tenth in range(200, 601)],
            (26, 28, 30, 32, 34, 36, 39, 42),
            _j2k_encode,
            lambda data: _package("imagecodecs").jpeg2k_decode(data),
            _imagecodecs_version("openjpeg"),
        ),
    )
}


def _run(command: str, **places: str) -> str:
    words = [word.format(**places) for word in shlex.split(command)]
    try:
        done = subprocess.run(words, capture_output=True, text=True)
    except OSError as error:
        raise JndError(f"install {words[0]} or correct the command `{command}`: it cannot be run") from error
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise JndError(f"correct the command `{command}`: it fails with {last}")
    return done.stdout + done.stderr


def external(path: Path) -> Baseline:
    """A codec that other programs run, from a TOML file; its name is the file's.

        title = "VVC"
        encode = "sh vvc_encode.sh {input} {output} {qp}"    # {input} is a PNG; or {quality}, {qp} being -quality
        decode = "sh vvc_decode.sh {input} {output}"         # {output} is a PNG
        version = "vvencapp --version"                       # a command; its first line of output tells the version
        suffix = ".266"
        qualities = [-47, -42, -37, -32, -27, -22]           # all it has, ascending, better with each
        grid = [-47, -42, -37, -32, -27, -22]                # of them, those of its curve

    Raises:
        JndError: the file is missing or wrong, or later a program fails.
    """
    lines = ("title", "encode", "decode", "version", "suffix", "qualities", "grid")
    try:
        text = path.read_text(encoding="utf-8")
        title, encode, decode, version, suffix, qualities, grid = (tomllib.loads(text)[line] for line in lines)
    except (OSError, ValueError, KeyError) as error:
        raise JndError(f"describe the codec in {path} by the lines {', '.join(lines)}: {error}") from error
    if list(qualities) != sorted(set(qualities)) or not grid or not set(grid) <= set(qualities):
        raise JndError(f"give ascending qualities in {path}, and a grid of some of them")

    def through(command: str, given: str, wanted: str, content: bytes, **places: str) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / f"in{given}", Path(folder) / f"out{wanted}"
            source.write_bytes(content)
            _run(command, input=str(source), output=str(target), **places)
            if not target.exists():
                raise JndError(f"correct the command `{command}`: it writes no {{output}}")
            return target.read_bytes()

    def encode_image(image: np.ndarray, quality: float) -> bytes:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        return through(encode, ".png", suffix, file.getvalue(), quality=f"{quality:g}", qp=f"{-quality:g}")

    return Baseline(
        path.stem,
        title,
        f"`{encode}`; description {hashlib.sha256(text.encode()).hexdigest()[:8]}",
        suffix,
        "",
        qualities,
        grid,
        encode_image,
        lambda data: _pillow_decode(through(decode, suffix, ".png", data)),
        lambda: (_run(version).strip().splitlines() or ["unknown"])[0],
    )


def lookup(name: str) -> Baseline:
    """The table's row for `name`, or what a TOML file of that name describes; JndError names the known ones
    otherwise.
    """
    if name.endswith(".toml"):
        return external(Path(name))
    if name not in BASELINES:
        raise JndError(f"unknown codec {name!r}: choose from {', '.join(BASELINES)}, or describe it in a .toml file")
    return BASELINES[name]


def encode(name: str, image: np.ndarray, quality: float) -> bytes:
    """File of codec `name` at `quality`, a value of its `qualities`.

    Args:
        name: jpeg, jpegli, webp, avif, jxl, j2k, or a TOML file.
        image: (H, W, 3) uint8.
        quality: in the codec's own scale, see `BASELINES`.

    Raises:
        JndError: unknown codec, quality out of range, or a package that is not installed.
    """
    baseline = lookup(name)
    if not baseline.qualities[0] <= quality <= baseline.qualities[-1]:
        raise JndError(
            f"give {name} a quality of {baseline.qualities[0]:g} to {baseline.qualities[-1]:g}, not {quality:g}"
        )
    return baseline.encode(image, quality)


def decode(name: str, data: bytes) -> np.ndarray:
    """(H, W, 3) uint8 image of a file of codec `name`."""
    return lookup(name).decode(data)
