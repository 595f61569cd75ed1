"""Rate and distortion on whole validation images, rounded as in files: the figure to choose models by, and pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jnd_jax import codec
from jnd_jax.codec.linear import FOOTPRINT
from jnd_jax.data.cache import ImageSet
from jnd_jax.losses.distances import Distance, squared_error


def choose(images: ImageSet, count: int, largest: int) -> list[np.ndarray]:
    """`count` images spread evenly over the set, cut around their centre to at most `largest` pixels a side."""
    order = sorted(range(len(images)), key=lambda i: images.names[i])
    picks = [order[i] for i in np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int))]
    return [_centre(images[i], largest) for i in picks]


def _centre(image: np.ndarray, largest: int) -> np.ndarray:
    top, left = (max(0, side - largest) // 2 for side in image.shape[:2])
    return np.array(image[top : top + largest, left : left + largest])


def picture(image: np.ndarray, decoded: np.ndarray, bits: np.ndarray | None) -> np.ndarray:
    """Original, decode, eightfold error around grey and (white: most) bits by position, side by side, (H, n W, 3) uint8.

    image, decoded: (H, W, 3) in 0..255; bits: (h, w) over the image padded to the codec's grid, or None.
    """
    height, width = image.shape[:2]
    error = np.clip(128 + 8 * (decoded.astype(np.float32) - image), 0, 255)
    tiles = [image, decoded, error]
    if bits is not None:
        block = (-(-height // FOOTPRINT) * FOOTPRINT) // bits.shape[0]
        large = np.kron(bits / max(float(bits.max()), 1e-9), np.ones((block, block)))[:height, :width]
        tiles.append(np.repeat(255 * large[..., None], 3, -1))
    return np.concatenate([tile.astype(np.uint8) for tile in tiles], axis=1)


def make_evaluator(
    model: nn.Module,
    images: Sequence[np.ndarray],
    qualities: Sequence[int],
    lmbda: float = 0.0,
    distance: Distance = squared_error,
) -> Callable[[Any], tuple[dict[str, float], dict[str, np.ndarray]]]:
    """params -> mean bpp and PSNR at each quality (one, "fixed", for a positive `lmbda`) and the mean objective; pictures.

    "score" is the mean over images and qualities of (bpp + lambda * distance) / sqrt(lambda), lower is better; the
    decoded image is rounded to 8 bits, bpp is the estimated rate. Images are padded to multiples of 64 by their edges.
    The pictures are those of `picture`, of the first image at each quality.
    """

    @jax.jit
    def code(params: Any, x: jax.Array, quality: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array | None]:
        out = model.apply({"params": params}, x, quality, None)
        return jnp.clip(jnp.round(out.x_hat * 255.0), 0, 255), out.bits_y + out.bits_z, out.bits_map

    measure = jax.jit(distance)

    def evaluate(params: Any) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        result, scores, pictures = {}, [], {}
        for quality in qualities if lmbda <= 0 else (0,):
            weight = lmbda if lmbda > 0 else float(codec.lmbda(jnp.float32(quality)))
            label = f"q{quality}" if lmbda <= 0 else "fixed"
            rates, psnrs = [], []
            for image in images:
                height, width = image.shape[:2]
                padded = np.pad(image, ((0, -height % FOOTPRINT), (0, -width % FOOTPRINT), (0, 0)), "edge")
                x_hat, bits, where = code(
                    params, padded[None].astype(np.float32) / 255.0, jnp.full(1, quality, jnp.float32)
                )
                decoded = np.asarray(x_hat)[0, :height, :width]
                if label not in pictures:
                    pictures[label] = picture(image, decoded, None if where is None else np.asarray(where)[0])
                mse = np.mean((decoded.astype(np.float64) - image) ** 2)
                rates.append(float(bits[0]) / (height * width))
                psnrs.append(10 * np.log10(255.0**2 / max(mse, 1e-4)))
                error = measure(*(pixels[None].astype(np.float32) / 255.0 for pixels in (image, decoded)))
                scores.append((rates[-1] + weight * float(error[0])) / weight**0.5)
            result[f"bpp_{label}"], result[f"psnr_{label}"] = float(np.mean(rates)), float(np.mean(psnrs))
        return result | {"score": float(np.mean(scores))}, pictures

    return evaluate
