"""Conventional codecs behind one pair of functions: (image, quality) -> file and file -> image."""

from __future__ import annotations

import importlib.metadata
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
        raise JndError(
            f"install the baseline codecs with `pip install jnd_jax[eval]`: {name} is missing"
        ) from error


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
    return _package("imagecodecs").jpegxl_encode(
        image, distance=jxl_distance(quality), effort=7, numthreads=1
    )


def _j2k_encode(image: np.ndarray, quality: float) -> bytes:
    return _package("imagecodecs").jpeg2k_encode(
        image, level=float(quality), codecformat="j2k", reversible=False
    )


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


def lookup(name: str) -> Baseline:
    """The table's row for `name`; JndError names the known ones otherwise."""
    if name not in BASELINES:
        raise JndError(f"unknown codec {name!r}: choose from {', '.join(BASELINES)}")
    return BASELINES[name]


def encode(name: str, image: np.ndarray, quality: float) -> bytes:
    """File of codec `name` at `quality`, a value of its `qualities`.

    Args:
        name: jpeg, jpegli, webp, avif, jxl or j2k.
        image: (H, W, 3) uint8.
        quality: in the codec's own scale, see `BASELINES`.

    Raises:
        JndError: unknown codec, quality out of range, or a package that is not installed.
    """
    baseline = lookup(name)
    if not baseline.qualities[0] <= quality <= baseline.qualities[-1]:
        raise JndError(
            f"give {name} a quality of {baseline.qualities[0]:g} to {baseline.qualities[-1]:g}, "
            f"not {quality:g}"
        )
    return baseline.encode(image, quality)


def decode(name: str, data: bytes) -> np.ndarray:
    """(H, W, 3) uint8 image of a file of codec `name`."""
    return lookup(name).decode(data)
