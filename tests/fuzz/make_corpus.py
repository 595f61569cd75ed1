"""Writes the seeds of the fuzzers: python -m tests.fuzz.make_corpus"""

from __future__ import annotations

import io
import pickle
import struct
import tempfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

import jnd_jax
import jnd_jax.policy
import jnd_jax.search
from jnd_jax import images, modelfile
from jnd_jax.formats import exif, icc, png
from tests.fuzz.targets import CORPUS, MODEL

_PIXELS = np.arange(12 * 9 * 3, dtype=np.uint8).reshape(9, 12, 3)


def _image(kind: str, mode: str = "RGB", **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(_PIXELS).convert(mode).save(file, kind, **options)
    return file.getvalue()


def _block() -> bytes:
    block = Image.Exif()
    block[exif.ORIENTATION], block[0x010F], block[0x8825] = 6, "Maker", {2: (1.0, 2.0, 3.0)}
    return block.tobytes()


def _weights() -> bytes:
    """A file as torch.save writes it, of one tensor of two by three."""
    pushed = lambda value: pickle.dumps(value, 2)[2:-1]
    storage = b"(" + pushed("storage") + b"ctorch\nFloatStorage\n" + pushed("0") + pushed("cpu") + pushed(8) + b"tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + pushed(0) + pushed((2, 3)) + pushed((3, 1)) + b"tR"
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\2}" + pushed("weight") + tensor + b"s.")
        archive.writestr("a/data/0", bytes(32))
    return file.getvalue()


def _model() -> bytes:
    """A model file with a table and a parameter."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.safetensors"
        arrays = {"a": np.zeros((2, 3), np.float32)}
        modelfile.save(path, name="a", config={"name": "jnd"}, params={"p": arrays}, tables=arrays, card={})
        return path.read_bytes()


def seeds() -> dict[str, dict[str, bytes]]:
    """By target, files by name."""
    profile, codec = icc.build("a profile", (2.2,), icc.BT709), jnd_jax.load(str(MODEL))
    alpha = np.tri(9, 12, dtype=np.uint8) * 255
    picture = images.Picture(_PIXELS, alpha, profile, _block(), b"<x/>", (11811, 11811))
    exact = jnd_jax.policy.Policy("p", "", *2 * [jnd_jax.search.Target("psnr", 1.0)], 90, 0)
    streams = {
        "plain": codec.encode(_PIXELS, 30),
        "chunks": codec.encode(_PIXELS, 30, extras=images.to_chunks(picture), mask=alpha, region_quality=70),
        "grey": codec.encode(_PIXELS[..., 0].astype(np.uint16) * 17, 60),
        "lossless": codec.encode(_PIXELS, policy=exact),
        "deep": codec.encode(_PIXELS[..., 0].astype(np.uint16) * 17, policy=exact),
    }
    deep = png.build(
        _PIXELS.astype(np.uint16) * 257,
        {b"gAMA": struct.pack(">I", 100000), b"iCCP": b"p\0\0" + zlib.compress(profile)},
    )
    pictures = {
        "png": _image("PNG", exif=_block(), icc_profile=profile),
        "deep": deep,
        "palette": _image("PNG", "P", transparency=3),
        "jpeg": _image("JPEG", exif=_block(), icc_profile=profile),
        "cmyk": _image("JPEG", "CMYK"),
        "webp": _image("WEBP", lossless=True),
        "tiff": images.format_image(picture, ".tiff"),
        "bmp": _image("BMP"),
        "gif": _image("GIF", "P"),
        "ppm": b"P6 2 1 1023\n" + bytes(12),
        "jp2": _image("JPEG2000"),
    }
    return {
        "container": streams,
        "stream": streams,
        "image": pictures,
        "metadata": {"exif": _block(), "icc": profile},
        "weights": {"tensor": _weights()},
        "model": {"small": _model()},
    }


def main() -> None:
    for target, files in seeds().items():
        (CORPUS / target).mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (CORPUS / target / name).write_bytes(data)


if __name__ == "__main__":
    main()
