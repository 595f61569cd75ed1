"""How well threshold maps hide noise: scores of noise shaped by a map less those of white noise at the same PSNR.

    python bench/jnd_maps.py [--data FOLDER] [--mse 36]

Random signs times the map are added to luma and scaled to one mean squared error. Without --data on ten crops of
160x160 of photos that scikit-image ships; with it on the central 320x320 of each image.
"""

from __future__ import annotations

import argparse

import numpy as np

from jnd_jax import metrics
from jnd_jax.data.cache import find_images, sample_photos
from jnd_jax.jnd import targets
from jnd_jax.perception import profiles

METRICS = ("ssimulacra2", "psnr-hvs-m")


def crops(folder: str | None) -> list[np.ndarray]:
    """(H, W, 3) uint8 pieces of photos."""
    if folder:
        images = [targets.read_pixels(path) for path in find_images(folder)]
        corners = [(image, max(0, image.shape[0] - 320) // 2, max(0, image.shape[1] - 320) // 2) for image in images]
        return [image[top : top + 320, left : left + 320] for image, top, left in corners]
    photos = {path.stem: targets.read_pixels(path) for path in sample_photos()}
    corners = (
        ("astronaut", 0, 128),
        ("astronaut", 250, 150),
        ("coffee", 100, 200),
        ("coffee", 200, 0),
        ("chelsea", 60, 100),
        ("chelsea", 100, 250),
        ("rocket", 200, 250),
        ("rocket", 0, 0),
        ("motorcycle_left", 200, 300),
        ("motorcycle_left", 0, 0),
    )
    return [photos[name][top : top + 160, left : left + 160] for name, top, left in corners]


def scores(image: np.ndarray, threshold: np.ndarray, mse: float) -> np.ndarray:
    """The metrics' values of `image` with noise shaped by `threshold` (H, W)."""
    random = np.random.default_rng(0)
    sign, dither = random.choice([-1.0, 1.0], threshold.shape), random.random(image.shape)
    scale = 1.0
    for _ in range(8):  # rounding and clipping change the error a little
        noisy = np.clip(np.floor(image + (scale * sign * threshold)[..., None] + dither), 0, 255).astype(np.uint8)
        scale *= (mse / np.mean((noisy - image.astype(float)) ** 2)) ** 0.5
    return np.array([metrics.measure(name, image, noisy) for name in METRICS])


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="folder of images")
    parser.add_argument("--mse", type=float, default=36.0, help="mean squared error of the noise")
    args = parser.parse_args()
    images = crops(args.data)
    white = [scores(image, np.ones(image.shape[:2]), args.mse) for image in images]
    print(f"{len(images)} crops, noise of {10 * np.log10(255**2 / args.mse):.1f} dB PSNR")
    for name, profile in profiles.PROFILES.items():
        gains = np.array(
            [
                scores(image, np.asarray(profile(profiles.luma(image[None] / np.float32(255))))[0], args.mse) - plain
                for image, plain in zip(images, white)
            ]
        )
        print(
            f"{name:8}",
            *(
                f"  {metric} {gains[:, i].mean():+.2f} (better on {np.sum(gains[:, i] > 0)})"
                for i, metric in enumerate(METRICS)
            ),
        )


if __name__ == "__main__":
    main()
