"""CPU time of previews beside the whole image, and how close they are to its means.

python bench/preview_speed.py --data photos/ --model jnd-perceptual
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import jnd_jax
from jnd_jax import images, preview

TIMES = 4


def _least(function: Callable[[], object]) -> float:
    """CPU milliseconds of the fastest of several calls, after one that compiles."""
    function()
    spent = []
    for _ in range(TIMES):
        start = time.process_time()
        function()
        spent.append(1e3 * (time.process_time() - start))
    return min(spent)


def _psnr(small: np.ndarray, whole: np.ndarray, scale: int) -> float:
    rows, columns = (side // scale for side in whole.shape[:2])
    cells = whole[: rows * scale, : columns * scale].astype(float).reshape(rows, scale, columns, scale, 3)
    return float(10 * np.log10(255**2 / np.mean((small[:rows, :columns] - cells.mean((1, 3))) ** 2)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of PNG photos, of which every fourth is used")
    parser.add_argument("--model", required=True, help="name or file of the model")
    parser.add_argument("--quality", type=float, default=50.0)
    args = parser.parse_args()
    codec, previewer = jnd_jax.load(args.model), preview.load(args.model)
    files = [
        codec.encode(images.read_image(path).pixels, args.quality) for path in sorted(args.data.glob("*.png"))[::4]
    ]
    whole = [codec.decode(data) for data in files]
    print(f"whole  {np.median([_least(lambda: codec.decode(data)) for data in files]):.0f} ms")
    for scale in preview.SCALES:
        decode = lambda data: previewer.decode(data, scale).pixels
        spent = np.median([_least(lambda: decode(data)) for data in files])
        close = np.mean([_psnr(decode(data), image, scale) for data, image in zip(files, whole)])
        print(f"1/{scale}  {spent:.0f} ms  {close:.1f} dB")


if __name__ == "__main__":
    main()
