"""What factor gives each perceptual distance the size of 255^2 * MSE? Prints the `DISTANCES` factors.

python bench/calibrate_distances.py PHOTOS_FOLDER

JPEG 2000 (which minimises squared error, as a codec trained on it does) codes 256x256 crops at PSNR 30 to 38 dB; the
factor is the geometric mean over the crops of 255^2 * MSE / distance, and the spread of its logarithm tells how far
the distance disagrees with squared error.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from jnd_jax import codecs
from jnd_jax.losses.distances import DISTANCES, squared_error


def crops(folder: Path, count: int, size: int = 256) -> list[np.ndarray]:
    files = sorted(f for f in folder.rglob("*") if f.suffix.lower() in {".png", ".jpg", ".jpeg", ".webp"})
    out = []
    for file in files[:: max(1, len(files) // count)]:
        image = np.asarray(Image.open(file).convert("RGB"))
        top, left = ((side - size) // 2 for side in image.shape[:2])
        if top >= 0 and left >= 0:
            out.append(image[top : top + size, left : left + size])
    return out[:count]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--crops", type=int, default=32)
    args = parser.parse_args()
    pairs = []
    for crop in crops(args.folder, args.crops):
        for quality in (30, 32, 34, 36, 38):
            pairs.append((crop, codecs.decode("j2k", codecs.encode("j2k", crop, quality))))
    x, y = (jnp.asarray(np.stack(side)) / 255.0 for side in zip(*pairs))
    measure = lambda function: np.concatenate(
        [jax.jit(function)(x[i : i + 20], y[i : i + 20]) for i in range(0, len(pairs), 20)]
    )
    reference = measure(squared_error)
    print(f"{len(pairs)} pairs, PSNR {10 * np.log10(255**2 / reference.mean()):.1f} dB")
    for name, (function, _) in DISTANCES.items():
        ratio = np.log(reference / measure(function))
        print(f"{name:12s} factor {np.exp(ratio.mean()):.4g}   sd of the logarithm {ratio.std():.2f}")


if __name__ == "__main__":
    main()
