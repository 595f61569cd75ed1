"""Validation on whole images with hard rounding: rate, PSNR, the score to choose models by, and pictures."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.experimental import multihost_utils

from jnd_jax import codec
from jnd_jax.codec.linear import FOOTPRINT, round_up
from jnd_jax.codec.types import Forward
from jnd_jax.data.cache import ImageSet
from jnd_jax.losses.combine import Loss
from jnd_jax.perception.cvvdp import difference_picture
from jnd_jax.training.parallel import compiler_options, wait_for_all
from jnd_jax.training.step import to_float

Result = dict[str, float]
Pictures = dict[str, np.ndarray]


def choose(images: ImageSet, partners: ImageSet | None, count: int, largest: int) -> list[dict[str, np.ndarray]]:
    """`count` images, spread evenly over the set, as examples {"image": (H, W, 3) uint8, "jnd": its partner, if any}.

    They are cut around their centre to whole multiples of 64, at most `largest` pixels a side; images smaller than 64
    pixels are continued by their edges.
    """
    order = sorted(range(len(images)), key=lambda i: images.names[i])
    picks = [order[i] for i in np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int))]
    pairs = {"image": images} if partners is None else {"image": images, "jnd": partners}
    return [{name: _centre(source[i], largest) for name, source in pairs.items()} for i in picks]


def _centre(image: np.ndarray, largest: int) -> np.ndarray:
    sides = [max(1, min(side, largest) // FOOTPRINT) * FOOTPRINT for side in image.shape[:2]]
    top, left = (max(0, have - want) // 2 for have, want in zip(image.shape, sides))
    cut = image[top : top + sides[0], left : left + sides[1]]
    return np.pad(cut, [*((0, round_up(side) - side) for side in cut.shape[:2]), (0, 0)], "edge")


def picture(image: np.ndarray, decoded: np.ndarray, bits: np.ndarray | None) -> np.ndarray:
    """Original, decode, eightfold error around grey, visible differences by ColorVideoVDP (see
    `perception.cvvdp.difference_picture`) and bits by position (white: most), side by side.

    Args:
        image: (H, W, 3) uint8.
        decoded: (H, W, 3) uint8.
        bits: (h, w), a position for each (H / h)^2 pixels, or None.

    Returns:
        (H, n W, 3) uint8.
    """
    error = np.clip(128 + 8 * (decoded.astype(np.float32) - image), 0, 255)
    tiles = [image, decoded, error, difference_picture(image, decoded)]
    if bits is not None:
        block = image.shape[0] // bits.shape[0]
        large = np.kron(bits / max(float(bits.max()), 1e-9), np.ones((block, block)))
        tiles.append(np.repeat(255 * large[..., None], 3, -1))
    return np.concatenate([tile.astype(np.uint8) for tile in tiles], axis=1)


def make_evaluator(
    model: nn.Module,
    examples: Sequence[Mapping[str, np.ndarray]],
    qualities: Sequence[int],
    loss: Loss,
    lmbda: float = 0.0,
) -> Callable[[Any], tuple[Result, Pictures]]:
    """A function of parameters that codes `examples` and returns their mean figures and the first one's pictures.

    The figures are "bpp_q..." (estimated) and "psnr_q..." at each quality, and "score", the mean over images and
    qualities of (R + lambda D) / sqrt(lambda), with decoded images rounded to 8 bits: the objective of training without its
    power. Lower is better. Where several processes train, each codes its share of the examples; all get the means.

    Args:
        model: (x, quality, None) -> `Forward`.
        examples: as from `choose`.
        qualities: 0..1000; a positive `lmbda` takes their place, and its figures are called "fixed".
        loss: D.
        lmbda: see `qualities`.
    """
    points = [("fixed", 0, lmbda)] if lmbda > 0 else [(f"q{q}", q, float(codec.lmbda(q))) for q in qualities]
    turns = itertools.count()
    mine = range(jax.process_index(), len(examples), jax.process_count())

    @functools.partial(jax.jit, compiler_options=compiler_options())
    def measure(params: Any, example: Mapping[str, jax.Array], quality: jax.Array, weight: jax.Array):
        batch = {name: value[None] for name, value in to_float(example).items()} | {"quality": quality[None]}
        x = batch["image"]
        with jax.default_matmul_precision("highest"):
            out = cast(Forward, model.apply({"params": params}, x, batch["quality"], None))
            decoded = jnp.clip(jnp.round(out.x_hat * 255.0), 0, 255)
            distortion = loss(batch, decoded / 255.0)[0]
        bpp = (out.bits_y + out.bits_z)[0] / (x.shape[1] * x.shape[2])
        mse = jnp.mean((decoded - 255.0 * x) ** 2)
        score = (bpp + weight * distortion) / jnp.sqrt(weight)
        figures = jnp.stack([bpp, 10 * jnp.log10(255.0**2 / jnp.maximum(mse, 1e-4)), score])
        return figures, decoded[0].astype(jnp.uint8), None if out.bits_map is None else out.bits_map[0]

    def evaluate(params: Any) -> tuple[Result, Pictures]:
        figures, pictures = np.full((len(examples), len(points), 3), np.nan, np.float32), {}
        for i in mine:
            for k, (label, quality, weight) in enumerate(points):
                values, decoded, bits = measure(params, examples[i], jnp.float32(quality), jnp.float32(weight))
                figures[i, k] = values
                if i == 0:
                    bits = None if bits is None else np.asarray(bits)
                    pictures[label] = picture(examples[i]["image"], np.asarray(decoded), bits)
        if jax.process_count() > 1:
            wait_for_all(f"validated {next(turns)}")
            figures = np.nanmax(multihost_utils.process_allgather(figures), axis=0)
        result = {}
        for (label, _, _), (bpp, psnr, _) in zip(points, figures.mean(0)):
            result |= {f"bpp_{label}": float(bpp), f"psnr_{label}": float(psnr)}
        return result | {"score": float(figures[..., 2].mean())}, pictures

    return evaluate
