"""The golden streams as a decoder in TensorFlow meets them; needs neither jax nor TensorFlow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from jnd_jax import bitstream, modelfile
from jnd_jax.codec import coding

FOLDER = Path(__file__).parents[1] / "golden"
MODEL = FOLDER / "tiny.safetensors"
NAMES = ("astronaut-q20", "astronaut-q60", "astronaut-q100")


def read(name: str):
    """(header, Latents, z (h, w, Cz) float32, expected (H, W, 3) uint8 image) of a golden stream."""
    model = modelfile.load(MODEL)
    coder = coding.latent_coder(model.params, model.tables)
    header, chunks = bitstream.unpack((FOLDER / f"{name}.jnd").read_bytes())
    h, w = (-(-side // 64) for side in (header.height, header.width))
    z = coder.decode_z(chunks["z"], h, w, header.quality)
    return header, coder.decode_y(chunks["y"], z, header.quality), z, np.asarray(Image.open(FOLDER / f"{name}.png"))


def integers(header, latents, z) -> dict[str, np.ndarray]:
    """Arguments of `Decoder.synthesize` but for the size: a batch of one."""
    return {
        "symbols": latents.symbols[None].astype(np.int32),
        "z": z[None].astype(np.int32),
        "quality": np.array([header.quality], np.int32),
    }


def request(header, latents, z) -> dict[str, np.ndarray]:
    """Inputs of the signature `synthesize`: a batch of one."""
    inputs = integers(header, latents, z)
    sides = {"height": np.array([header.height], np.int32), "width": np.array([header.width], np.int32)}
    return inputs | sides | {"symbols": inputs["symbols"].astype(np.int16), "z": inputs["z"].astype(np.int8)}


def latents(codec, image: np.ndarray) -> dict[str, np.ndarray]:
    """Inputs of the signature `synthesize` for an image that a codec has encoded."""
    header, chunks = bitstream.unpack(codec.encode(image, 50))
    h, w = (-(-side // 64) for side in image.shape[:2])
    z = codec._latents.decode_z(chunks["z"], h, w, header.quality)
    return request(header, codec.decode_latents(header, chunks), z)


def assert_same_pixels(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Within a level, and at least 99.5 % of them equal."""
    assert ours.shape == theirs.shape and ours.dtype == np.uint8
    difference = np.abs(ours.astype(int) - theirs)
    assert difference.max() <= 1 and np.mean(difference == 0) >= 0.995
