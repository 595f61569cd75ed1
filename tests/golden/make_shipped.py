"""Writes the golden stream of each shipped model that has none: python tests/golden/make_shipped.py

A stream is never made anew: shipped models do not change, and what they once wrote decodes for ever. Streams of models that
left the package are removed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

import jnd_jax
from jnd_jax import zoo

FOLDER = Path(__file__).parent / "shipped"
QUALITY = 50


def photo() -> np.ndarray:
    """(130, 200, 3) uint8, cut from the photo that comes with the package; its sides are no multiples of a block's."""
    with Image.open(zoo.FOLDER / "chelsea.png") as image:
        return np.asarray(image.convert("RGB"))[40:170, 100:300]


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.iterdir():
        if path.stem not in zoo.models():
            path.unlink()
    for name in zoo.models():
        stream = FOLDER / f"{name}.jnd"
        if not stream.exists():
            codec = jnd_jax.load(name)
            stream.write_bytes(codec.encode(photo(), QUALITY))
            Image.fromarray(codec.decode(stream.read_bytes())).save(FOLDER / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
