"""A codec with a quality: one type for conventional codecs, programs and models, and one look-up by name."""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.metadata
import io
import re
import shlex
import subprocess
import tempfile
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image, features

from jnd_jax import bitstream
from jnd_jax.errors import JndError
from jnd_jax.images import as_shown, parse_image

# Qualities of a model's rate-distortion curve.
MODEL_GRID = (0.0, 10.0, 25.0, 40.0, 55.0, 70.0, 85.0, 100.0)


@dataclass(frozen=True, kw_only=True)
class Codec:
    """A codec with a quality.

    Attributes:
        name: as users write it; unique in a comparison.
        title: as plots and tables write it.
        options: how it is run, in words.
        library: () -> name and version of what does the work.
        qualities: all qualities it has, ascending; better with each.
        grid: qualities of its rate-distortion curve, about 28 to 40 dB.
        encode: (image, quality) -> file; image (H, W, 3) uint8, quality one of `qualities`.
        decode: file -> (H, W, 3) uint8 image.
        media_type: what a browser calls its files, "" where browsers cannot show them.
        learned: whether it is a model.
        digest: hash of a model, "" for others.
        multiply_adds: for models, () -> thousands of multiply-adds a pixel, "encode" and "decode" among them; of several,
            those of the last.
    """

    name: str
    title: str
    options: str
    library: Callable[[], str]
    qualities: Sequence[float]
    grid: Sequence[float]
    encode: Callable[[np.ndarray, float], bytes]
    decode: Callable[[bytes], np.ndarray]
    media_type: str = ""
    learned: bool = False
    digest: str = ""
    multiply_adds: Callable[[], Mapping[str, float]] | None = None

    @functools.cached_property
    def settings(self) -> str:
        """How it is run and by which library; JndError if that is not installed."""
        return f"{self.options}; {self.library()}"

    @functools.cached_property
    def version(self) -> str:
        """16 hex digits that change whenever its files could."""
        return self.digest or hashlib.sha256(self.settings.encode()).hexdigest()[:16]


def _pillow_encode(**options: Any) -> Callable[[np.ndarray, float], bytes]:
    def encode(image: np.ndarray, quality: float) -> bytes:
        file = io.BytesIO()
        Image.fromarray(image).save(file, quality=int(quality), **options)
        return file.getvalue()

    return encode


def _pillow_decode(data: bytes) -> np.ndarray:
    return as_shown(parse_image(data))


def _package(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise JndError(
            f"Install the conventional codecs with `pip install jnd_jax[eval]`: {name} is missing."
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
    return _package("imagecodecs").jpegxl_encode(image, distance=jxl_distance(quality), effort=7, numthreads=1)


def _j2k_encode(image: np.ndarray, quality: float) -> bytes:
    return _package("imagecodecs").jpeg2k_encode(image, level=float(quality), codecformat="j2k", reversible=False)


def _avif10_encode(image: np.ndarray, quality: float) -> bytes:
    ten_bits = np.rint(image * (1023 / 255)).astype(np.uint16)
    return _package("imagecodecs").avif_encode(
        ten_bits, level=int(quality), speed=4, bitspersample=10, pixelformat="444", codec="aom", numthreads=1
    )


def _avif10_decode(data: bytes) -> np.ndarray:
    return np.rint(_package("imagecodecs").avif_decode(data) * (255 / 1023)).astype(np.uint8)


def _imagecodecs_version(key: str) -> Callable[[], str]:
    return lambda: f"{key} {_package('imagecodecs').version(dict).get(key, 'unknown')}"


_TABLE = (
    Codec(
        name="jpeg",
        title="JPEG",
        options="libjpeg-turbo by Pillow, 4:2:0, optimised Huffman tables",
        library=lambda: f"libjpeg-turbo {features.version('libjpeg_turbo')}",
        media_type="image/jpeg",
        qualities=range(1, 96),
        grid=(10, 20, 35, 50, 65, 80, 90, 95),
        encode=_pillow_encode(format="JPEG", optimize=True, subsampling="4:2:0"),
        decode=_pillow_decode,
    ),
    Codec(
        name="jpegli",
        title="jpegli",
        options="pyjpegli, 4:4:4, its defaults",
        library=lambda: f"pyjpegli {importlib.metadata.version('pyjpegli')}",
        media_type="image/jpeg",
        qualities=range(1, 101),
        grid=(10, 20, 35, 50, 65, 80, 90, 95),
        encode=_jpegli_encode,
        decode=_pillow_decode,
    ),
    Codec(
        name="webp",
        title="WebP",
        options="libwebp by Pillow, method 6",
        library=lambda: f"libwebp {features.version('webp')}",
        media_type="image/webp",
        qualities=range(101),
        grid=(2, 10, 25, 45, 65, 80, 90, 97),
        encode=_pillow_encode(format="WEBP", method=6),
        decode=_pillow_decode,
    ),
    Codec(
        name="avif",
        title="AVIF",
        options="libavif by Pillow, 4:4:4, speed 4",
        library=lambda: f"libavif {features.version('avif')}",
        media_type="image/avif",
        qualities=range(101),
        grid=(15, 25, 35, 45, 55, 65, 75, 85),
        encode=_pillow_encode(format="AVIF", speed=4, subsampling="4:4:4"),
        decode=_pillow_decode,
    ),
    # libavif 1.4 chooses libaom's tune=iq for still pictures by itself; imagecodecs has no argument for it.
    Codec(
        name="avif10",
        title="AVIF 10-bit",
        options="libaom by imagecodecs, 4:4:4, 10 bits, tune=iq, speed 4, one thread",
        library=_imagecodecs_version("libavif"),
        media_type="image/avif",
        qualities=range(101),
        grid=(20, 35, 48, 60, 74, 82),
        encode=_avif10_encode,
        decode=_avif10_decode,
    ),
    Codec(
        name="jxl",
        title="JPEG XL",
        options="libjxl by imagecodecs, effort 7",
        library=_imagecodecs_version("libjxl"),
        qualities=[tenth / 10 for tenth in range(50, 1000)],
        grid=(10, 25, 40, 55, 70, 80, 90, 95),
        encode=_jxl_encode,
        decode=lambda data: _package("imagecodecs").jpegxl_decode(data),
    ),
    Codec(
        name="j2k",
        title="JPEG 2000",
        options="OpenJPEG by imagecodecs, 9/7 wavelet; quality is the encoder's PSNR in dB",
        library=_imagecodecs_version("openjpeg"),
        qualities=[tenth / 10 for tenth in range(200, 601)],
        grid=(26, 28, 30, 32, 34, 36, 39, 42),
        encode=_j2k_encode,
        decode=lambda data: _package("imagecodecs").jpeg2k_decode(data),
    ),
)
CONVENTIONAL: dict[str, Codec] = {codec.name: codec for codec in _TABLE}


def _run(command: str, **places: str) -> str:
    words = [word.format(**places) for word in shlex.split(command)]
    try:
        done = subprocess.run(words, capture_output=True, text=True)
    except OSError as error:
        raise JndError(f"Install {words[0]} or correct the command `{command}`: it cannot be run.") from error
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise JndError(f"Correct the command `{command}`: it fails with {last}.")
    return done.stdout + done.stderr


def _through(command: str, content: bytes, given: str, wanted: str, **places: str) -> bytes:
    """What `command` makes of a file with suffix `given`: the content of the file with suffix `wanted`."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / f"in{given}", Path(folder) / f"out{wanted}"
        source.write_bytes(content)
        _run(command, input=str(source), output=str(target), **places)
        if not target.exists():
            raise JndError(f"Correct the command `{command}`: it writes no {{output}}.")
        return target.read_bytes()


def of_program(path: Path) -> Codec:
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
        raise JndError(f"Describe the codec in {path} by the lines {', '.join(lines)}: {error}.") from error
    if list(qualities) != sorted(set(qualities)) or not grid or not set(grid) <= set(qualities):
        raise JndError(f"Give ascending qualities in {path}, and a grid of some of them.")

    def encode_image(image: np.ndarray, quality: float) -> bytes:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        places = {"quality": f"{quality:g}", "qp": f"{-quality:g}"}
        return _through(encode, file.getvalue(), ".png", suffix, **places)

    return Codec(
        name=path.stem,
        title=title,
        options=f"`{encode}`; description {hashlib.sha256(text.encode()).hexdigest()[:8]}",
        library=lambda: (_run(version).strip().splitlines() or ["unknown"])[0],
        qualities=qualities,
        grid=grid,
        encode=encode_image,
        decode=lambda data: _pillow_decode(_through(decode, data, suffix, ".png")),
    )


def of_model(model: Any, grid: Sequence[float] = MODEL_GRID, effort: int = 0) -> Codec:
    """A model as `jnd_jax.load` returns it: with name, hash, encode(image, quality), decode(file), multiply_adds().

    With an effort, `encode` takes it too.
    """
    suffix, further = (f":{effort}", {"effort": effort}) if effort else ("", {})
    return Codec(
        name=model.name + suffix,
        title=model.name + suffix,
        options="learned" + (f", effort {effort}" if effort else ""),
        library=lambda: f"model hash {model.hash}",
        qualities=model.qualities,
        grid=tuple(q for q in grid if q in model.qualities) or model.qualities,
        encode=lambda image, quality: model.encode(image, quality=quality, **further),
        decode=model.decode,
        learned=True,
        digest=model.hash + suffix,
        multiply_adds=model.multiply_adds,
    )


def of_models(name: str, models: Sequence[Any]) -> Codec:
    """Models of one rate each as one codec, whose qualities are 1, 2, 3 and so on in their order.

    Args:
        name: of the codec.
        models: as `jnd_jax.load` returns them, that of the lowest rate first.

    Raises:
        JndError: a model has many rates, or comes twice.
    """
    for model in models:
        if len(model.qualities) > 1:
            raise JndError(f"{model.name} has many rates by itself: name it alone, not as a part of {name}.")
    by_hash = {model.hash: model for model in models}
    if len(by_hash) < len(models):
        raise JndError(f"A model comes twice in {name}: name each once.")
    qualities = tuple(float(number) for number in range(1, len(models) + 1))
    of_quality = dict(zip(qualities, models))
    return Codec(
        name=name,
        title=name,
        options=f"{len(models)} models of one rate each",
        library=lambda: f"model hashes {', '.join(by_hash)}",
        qualities=qualities,
        grid=qualities,
        encode=lambda image, quality: of_quality[quality].encode(image),
        decode=lambda data: by_hash[bitstream.unpack(data)[0].model].decode(data),
        learned=True,
        digest=hashlib.sha256("".join(by_hash).encode()).hexdigest()[:16],
        multiply_adds=models[-1].multiply_adds,
    )


def lookup(name: str) -> Codec:
    """The codec that a name means.

    Args:
        name: one of `CONVENTIONAL`; a .toml file, see `of_program`; a model's name or file, with ":N" behind it for an effort
            of 1 to 3; or NAME=MODEL,MODEL, see `of_models`.

    Raises:
        JndError: none of these.
    """
    if name in CONVENTIONAL:
        return CONVENTIONAL[name]
    if name.endswith(".toml"):
        return of_program(Path(name))
    import jnd_jax

    own_name, equals, models = name.partition("=")
    if own_name and equals and not Path(name).exists():
        return of_models(own_name, [jnd_jax.load(model) for model in models.split(",")])
    with_effort = re.fullmatch("(.+):([1-9])", name)
    if with_effort and not Path(name).exists():
        return of_model(jnd_jax.load(with_effort[1]), effort=int(with_effort[2]))
    try:
        return of_model(jnd_jax.load(name))
    except JndError as error:
        if Path(name).exists():
            raise
        raise JndError(
            f"There is no codec {name!r}: choose from {', '.join(CONVENTIONAL)}, describe it in a .toml file, or give "
            "a model's name or file."
        ) from error


def at_least(codec: Codec, quality: float) -> float:
    """The codec's lowest quality that is not below `quality`; its highest where none is."""
    return min((own for own in codec.qualities if own >= quality), default=codec.qualities[-1])


def encode(name: str, image: np.ndarray, quality: float) -> bytes:
    """File of codec `name` at `quality`, a value of its `qualities`.

    Args:
        name: see `lookup`.
        image: (H, W, 3) uint8.
        quality: in the codec's own scale.

    Raises:
        JndError: unknown codec, quality out of range, or a package that is not installed.
    """
    codec = lookup(name)
    if not codec.qualities[0] <= quality <= codec.qualities[-1]:
        raise JndError(f"Give {name} a quality of {codec.qualities[0]:g} to {codec.qualities[-1]:g}, not {quality:g}.")
    return codec.encode(image, quality)


def decode(name: str, data: bytes) -> np.ndarray:
    """(H, W, 3) uint8 image of a file of codec `name`."""
    return lookup(name).decode(data)
