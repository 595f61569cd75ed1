"""What is fuzzed: each target takes bytes, and lets nothing out but `JndError`.

python -m tests.fuzz.run TARGET [-max_total_time=SECONDS] [FOLDER ...]     coverage-guided, needs atheris
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from PIL import Image

import jnd_jax
from jnd_jax import bitstream, images, modelfile
from jnd_jax.errors import JndError
from jnd_jax.formats import exif, icc
from jnd_jax.perception.torch_file import read_state_dict
from tests.streams import reseal

MODEL = Path(__file__).parents[1] / "golden" / "tiny.safetensors"
CORPUS = Path(__file__).parent / "corpus"
# Larger images cost time and find nothing more.
_PIXELS = 1 << 16


@cache
def _codec():
    return jnd_jax.load(str(MODEL))


def container(data: bytes) -> None:
    """The header, the chunk table and the metadata of a .jnd file, with checksums made right."""
    for form in (data, reseal(data)):
        header, chunks = bitstream.unpack(form)
        bitstream.probe(form)
        if header.width * header.height <= _PIXELS:
            images.decode_lossless(chunks.get("alpha", b""), (header.height, header.width), "alpha channel")


def stream(data: bytes) -> None:
    """A whole .jnd file, with checksums made right."""
    form = reseal(data)
    header, chunks = bitstream.unpack(form)
    if header.width * header.height <= _PIXELS:
        images.from_chunks(_codec().decode(form), chunks)


def image(data: bytes) -> None:
    """An image file of any kind."""
    try:
        with Image.open(io.BytesIO(data), formats=images.FORMATS) as opened:
            if opened.size[0] * opened.size[1] > _PIXELS:
                return
    except Exception:
        return
    picture = images.parse_image(data)
    images.from_chunks(picture.pixels, images.to_chunks(picture))
    images.format_image(picture, ".tiff")


def metadata(data: bytes) -> None:
    """An EXIF block and an ICC profile."""
    exif.orientation(data)
    icc.space(data)
    for suffix in (".png", ".tiff"):
        pixels = images.np.zeros((2, 3, 3), images.np.uint8)
        images.format_image(images.Picture(pixels, exif=data or None, icc=data or None), suffix)


def _as_file(function: Callable[[Path], object], data: bytes) -> None:
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
        file.write(data)
        file.flush()
        function(Path(file.name))


def model(data: bytes) -> None:
    """A model file."""
    _as_file(modelfile.describe, data)
    _as_file(modelfile.load, data)


def weights(data: bytes) -> None:
    """A file of torch.save."""
    _as_file(read_state_dict, data)


TARGETS = {function.__name__: function for function in (container, stream, image, metadata, model, weights)}


def check(name: str, data: bytes) -> None:
    """Runs a target; raises what it should not have let out."""
    try:
        TARGETS[name](data)
    except JndError:
        pass
