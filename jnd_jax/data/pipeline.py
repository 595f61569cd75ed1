"""Training batches as a pure function of (seed, position).

Example `i` of a run is fixed by the seed and `i` alone: which image it visits, where it crops, how it is flipped. So
every process reads its own share without a word to the others, and a resumed run sees what it would have seen.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import grain
import numpy as np

from jnd_jax.data.cache import ImageSet
from jnd_jax.data.drawing import drawn
from jnd_jax.errors import JndError
from jnd_jax.perception.colour import LUMA

_EPOCH, _EXAMPLE = 0, 1


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a crop: chances of a flip, of halving the scale, of stronger colours, of graphics; if turns are drawn.

    A just-noticeable difference holds for the image it was found in: pairs are only flipped and turned.
    """

    flip: float = 0.5
    rotate: bool = False
    downscale: float = 0.0
    saturate: float = 0.0
    draw: float = 0.0

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Augmentation:
        """What the part `data` of a config asks for, by the names of the fields."""
        return cls(**{field.name: data[field.name] for field in fields(cls)})


@dataclass(frozen=True)
class Examples:
    """Random access to the endless stream of training examples of one crop size.

    An epoch visits each image about as often as crops fit into it, in an order drawn from (seed, epoch); visit (image,
    number) occurs once in an epoch.
    """

    images: ImageSet
    crop: int
    seed: int
    augmentation: Augmentation = Augmentation()
    jnd: ImageSet | None = None

    @functools.cached_property
    def visits(self) -> np.ndarray:
        """(L, 2) int64: the (image, visit number) pairs of an epoch, in fixed order."""
        counts = [max(1, round(h * w / self.crop**2)) for h, w in self.images.shapes]
        image = np.repeat(np.arange(len(counts)), counts)
        return np.stack([image, np.concatenate([np.arange(n) for n in counts])], 1)

    def visit(self, index: int) -> tuple[int, int, int]:
        """(epoch, image, visit number) of example `index`."""
        epoch, position = divmod(index, len(self.visits))
        image, number = self.visits[_order(self.seed, epoch, len(self.visits))[position]]
        return epoch, int(image), int(number)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """Example `index`: "image" (crop, crop, 3) uint8 and, for a paired set, "jnd" of the same window."""
        _, image, _ = self.visit(index)
        rng = np.random.default_rng([self.seed, _EXAMPLE, index])
        height, width = self.images.shapes[image]
        alone = self.jnd is None
        halve = rng.random() < self.augmentation.downscale and alone and min(height, width) >= 2 * self.crop
        window = self.crop * (2 if halve else 1)
        top, left = (int(rng.integers(max(0, side - window) + 1)) for side in (height, width))
        flip = rng.random() < self.augmentation.flip
        turns = int(rng.integers(4)) if self.augmentation.rotate else 0
        saturation = rng.uniform(1.0, 3.0) if rng.random() < self.augmentation.saturate and alone else 1.0
        draws = rng.random() < self.augmentation.draw and alone

        def cut(source: np.ndarray) -> np.ndarray:
            patch = _pad_to(source[top : top + window, left : left + window], window)
            if halve:
                patch = halve_scale(patch)
            if saturation > 1:
                patch = saturated(patch, saturation)
            if draws:
                patch = drawn(patch, rng)
            return np.rot90(patch[:, ::-1] if flip else patch, turns)

        example = {"image": cut(self.images[image])}
        if self.jnd is not None:
            example["jnd"] = cut(self.jnd[image])
        return example


@functools.lru_cache(maxsize=4)
def _order(seed: int, epoch: int, length: int) -> np.ndarray:
    return np.random.default_rng([seed, _EPOCH, epoch]).permutation(length)


def _pad_to(patch: np.ndarray, size: int) -> np.ndarray:
    height, width = patch.shape[:2]
    if (height, width) == (size, size):
        return patch
    return np.pad(patch, ((0, size - height), (0, size - width), (0, 0)), "symmetric")


def halve_scale(patch: np.ndarray) -> np.ndarray:
    """Mean of 2x2 blocks, rounded: (2H, 2W, 3) uint8 to (H, W, 3) uint8."""
    rows = patch[::2].astype(np.uint16) + patch[1::2]
    return ((rows[:, ::2] + rows[:, 1::2] + 2) >> 2).astype(np.uint8)


def saturated(patch: np.ndarray, factor: float) -> np.ndarray:
    """Colours so many times as far from the grey of their luma (BT.601), clipped: (H, W, 3) uint8 to the same."""
    grey = patch @ LUMA.astype(np.float32)
    return np.clip(grey[..., None] + factor * (patch - grey[..., None]) + 0.5, 0, 255).astype(np.uint8)


def batch_at(
    examples: Examples, first_example: int, batch: int, process: int = 0, processes: int = 1
) -> dict[str, np.ndarray]:
    """This process's share of the global batch that starts at example `first_example`.

    "image" (batch / processes, crop, crop, 3) uint8, "index" the same number of int32 global example indices
    (modulo 2^31), and "jnd" like "image" for paired sets.
    """
    if batch % processes:
        raise JndError(f"A batch of {batch} does not divide among {processes} processes; change data.batch.")
    share = batch // processes
    indices = first_example + process * share + np.arange(share)
    rows = [examples[int(i)] for i in indices]
    out = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    return out | {"index": (indices % 2**31).astype(np.int32)}


def batches(
    examples: Examples,
    batch: int,
    first_example: int,
    count: int,
    *,
    process: int = 0,
    processes: int = 1,
    threads: int = 1,
    ahead: int = 4,
) -> Iterator[Mapping[str, np.ndarray]]:
    """`count` consecutive batches from example `first_example` on.

    Args:
        examples: where they are drawn.
        batch: global size.
        first_example: index of the first example.
        count: how many batches.
        process, processes: which share of each batch.
        threads: how many prepare batches.
        ahead: batches prepared before they are used; two a thread where that is more.
    """
    make = lambda k: batch_at(examples, first_example + int(k) * batch, batch, process, processes)
    return iter(
        grain.MapDataset.range(count).map(make).to_iter_dataset(grain.ReadOptions(threads, max(ahead, 2 * threads)))
    )
