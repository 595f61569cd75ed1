"""What a region costs and saves: an ellipse in the middle of each image at another quality than the rest.

    python bench/region.py [--data photos/] [--quality 30 --region-quality 70]

Prints bits per pixel and PSNR inside and outside of the ellipse: all at the one quality, all at the other, and by region.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from skimage import data

import jnd_jax
from jnd_jax.evaluation.results import find_images
from jnd_jax.images import read_rgb


def ellipse(height: int, width: int) -> np.ndarray:
    """(height, width) uint8 mask, 255 in an ellipse of half the sides."""
    y, x = np.linspace(-2, 2, height)[:, None], np.linspace(-2, 2, width)
    return np.where(x**2 + y**2 < 1, 255, 0).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of images (default: two of scikit-image's)")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--model", default="jnd-perceptual")
    parser.add_argument("--quality", type=float, default=30.0)
    parser.add_argument("--region-quality", type=float, default=70.0)
    args = parser.parse_args()
    codec = jnd_jax.load(args.model)
    found = find_images(args.data, args.limit) if args.data else ()
    images = [read_rgb(image.path) for image in found] or [data.astronaut(), data.coffee()]
    low, high = args.quality, args.region_quality
    ways = {
        f"quality {low:g}": {"quality": low},
        f"quality {high:g}": {"quality": high},
        f"quality {high:g} in the ellipse, {low:g} outside": {"quality": low, "region_quality": high},
    }
    rows = {name: [] for name in ways}
    for image in images:
        mask = ellipse(*image.shape[:2])
        for name, way in ways.items():
            file = codec.encode(image, **way, mask=mask if "region_quality" in way else None)
            error = (codec.decode(file).astype(float) - image) ** 2
            psnr = [10 * np.log10(255**2 / error[part].mean()) for part in (mask > 0, mask == 0)]
            rows[name].append([8 * len(file) / mask.size, *psnr])
    print("| way | bpp | PSNR inside | PSNR outside |\n|---|---|---|---|")
    for name, values in rows.items():
        bpp, inside, outside = np.mean(values, axis=0)
        print(f"| {name} | {bpp:.3f} | {inside:.2f} dB | {outside:.2f} dB |")


if __name__ == "__main__":
    main()
