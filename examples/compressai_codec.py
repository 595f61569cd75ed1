"""A model of CompressAI, with weights of your own, as a codec that `jnd-jax eval --against mbt2018-mean.toml` compares with.

    pip install compressai
    python examples/compressai_codec.py encode mbt2018-mean weights/ 4 photo.png photo.bin
    python examples/compressai_codec.py decode mbt2018-mean weights/ photo.bin decoded.png

`weights/` holds a file of each quality, a state dict named as CompressAI names them: mbt2018-mean-4.pth.tar or
mbt2018-mean-4-e1a1b2c3.pth.tar. `examples/mbt2018-mean.toml` tells `jnd-jax eval` these commands. The stream is a header
of 10 bytes, then each of the model's strings after its length.
"""

from __future__ import annotations

import hashlib
import struct
import sys
from pathlib import Path

import compressai
import numpy as np
import torch
from compressai.zoo.image import model_architectures
from compressai.zoo.pretrained import load_pretrained
from PIL import Image

_HEADER = struct.Struct("<BBHHHH")  # quality, number of strings, height, width, rows and columns of hyper-latents
_MULTIPLE = 64


def load_model(name: str, weights: Path, quality: int) -> torch.nn.Module:
    """The model of CompressAI's zoo, its tables made anew. Exits with a message where there is not one file."""
    files = list(weights.glob(f"{name}-{quality}[.-]*"))
    if name not in model_architectures or len(files) != 1:
        sys.exit(
            f"put one file {name}-{quality}.pth.tar into {weights}: there are {len(files)}; models of CompressAI "
            f"are {', '.join(model_architectures)}"
        )
    state = load_pretrained(torch.load(files[0], map_location="cpu", weights_only=True))
    model = model_architectures[name].from_state_dict(state)
    model.update(force=True)
    return model.eval()


def encode(name: str, weights: Path, quality: int, image: Image.Image) -> bytes:
    """The stream of an image, which is padded to multiples of 64 by its edges."""
    pixels = np.asarray(image.convert("RGB"))
    height, width = pixels.shape[:2]
    padded = np.pad(pixels, ((0, -height % _MULTIPLE), (0, -width % _MULTIPLE), (0, 0)), "edge")
    coded = load_model(name, weights, quality).compress(torch.from_numpy(padded).permute(2, 0, 1)[None].float() / 255)
    strings = [string for (string,) in coded["strings"]]
    return _HEADER.pack(quality, len(strings), height, width, *coded["shape"]) + b"".join(
        struct.pack("<I", len(string)) + string for string in strings
    )


def decode(name: str, weights: Path, stream: bytes) -> Image.Image:
    """The image of a stream that `encode` made with the same model and weights."""
    quality, count, height, width, *shape = _HEADER.unpack_from(stream)
    strings, position = [], _HEADER.size
    for _ in range(count):
        (length,) = struct.unpack_from("<I", stream, position)
        strings.append([stream[position + 4 : position + 4 + length]])
        position += 4 + length
    pixels = load_model(name, weights, quality).decompress(strings, tuple(shape))["x_hat"][0].clamp(0, 1)
    return Image.fromarray((255 * pixels).round().byte().permute(1, 2, 0).numpy()[:height, :width])


def version(name: str, weights: Path) -> str:
    """CompressAI's version and a hash of the weights: `jnd-jax eval` measures anew where it changed."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(weights.glob(f"{name}-*"))))
    return f"CompressAI {compressai.__version__}, weights {digest.hexdigest()[:8]}"


def main(arguments: list[str]) -> None:
    match arguments:
        case ["encode", name, weights, quality, source, target]:
            Path(target).write_bytes(encode(name, Path(weights), int(quality), Image.open(source)))
        case ["decode", name, weights, source, target]:
            decode(name, Path(weights), Path(source).read_bytes()).save(target)
        case ["version", name, weights]:
            print(version(name, Path(weights)))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    with torch.no_grad():
        main(sys.argv[1:])
