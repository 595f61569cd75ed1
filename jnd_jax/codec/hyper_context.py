"""How hyper-latents are coded: what is known of each, from its neighbours, by a network of integers.

A position sees four that are coded before it: to the left, above left, above and above right. Those beyond the border
are zero. Positions of the same column + 2 * row see none of each other: they are one *step*, coded together.

For each hyper-latent the network gives a scale and a mean, and with them a table: a rounded Laplacian with one of SCALES
standard deviations, and with a mean in eighths, since most hyper-latents are zero and narrow Laplacians off the grid are
far from symmetrical. All of it decides bits, so all of it is integers, as in the scale path of `hyper`.

Functions that take the array namespace `xp` (numpy or jax.numpy) serve training and coding; `code` runs in NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from jnd_jax.codec import hyper

SCALES = 24
SCALE_MIN = 0.1  # narrower, a symbol would cost nothing: no size of a file would be too small for its image
LOG_SCALE_STEP = 2 * hyper.LOG_SCALE_STEP
PARTS = 8  # of a step of the hyper-latents, in which means are given
MEAN_MAX = PARTS * hyper.Z_MAX

# Rows down and columns to the right.
NEIGHBOURS = ((0, -1), (-1, -1), (-1, 0), (-1, 1))

# The network sees the magnitudes of the neighbours above zero, then of those below.
SIGNS = 1, -1


def scale(xp, level):
    """Standard deviation at a level 0..SCALES - 1, of the shape of `level`."""
    return SCALE_MIN * xp.exp(LOG_SCALE_STEP * level)


def steps(height: int, width: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows and columns of each step's positions, from top to bottom."""
    for step in range(width + 2 * height - 2):
        rows = np.arange(max(0, (step - width) // 2 + 1), min(height, step // 2 + 1))
        if rows.size:
            yield rows, step - 2 * rows


def neighbours(xp, z):
    """(..., h, w, 4, Cz), in the order of NEIGHBOURS, of all positions of z (..., h, w, Cz)."""
    h, w = z.shape[-3:-1]
    padded = xp.pad(z, [(0, 0)] * (z.ndim - 3) + [(1, 0), (1, 1), (0, 0)])
    return xp.stack([padded[..., 1 + i : 1 + i + h, 1 + j : 1 + j + w, :] for i, j in NEIGHBOURS], -2)


def predict(xp, q: hyper.Params, around, level, offset, floor: Callable = np.floor):
    """Scale and mean of hyper-latents.

    Args:
      xp: numpy or jax.numpy.
      q: integer parameters, `hyper.folded`: layers "hidden" and "out".
      around: (..., 4, Cz) integers, see NEIGHBOURS.
      level: `hyper.quality_level`, broadcastable to (..., 1).
      offset: integers from `hyper.scale_offset`, broadcastable to (..., 2 Cz): of scales, then of means.
      floor: numpy.floor, or one with a straight-through gradient.

    Returns:
      Levels 0..SCALES - 1 of the scales, and means in eighths: integers (..., Cz).
    """
    flat = around.reshape(*around.shape[:-2], -1)
    inputs = xp.concatenate([magnitudes(xp, flat, sign) for sign in SIGNS], -1)
    return _predict(xp, q, inputs, level, offset, floor)


def magnitudes(xp, z, sign: int):
    """What the network sees of hyper-latents: the magnitude of those of this sign, 0 for the others."""
    return hyper.magnitude(xp, xp.maximum(sign * z, 0))


def _predict(xp, q: hyper.Params, inputs, level, offset, floor: Callable):
    x = hyper.integers(xp, hyper.joint_layer(q["hidden"], [inputs, level]), floor)
    level, mean = xp.split(floor(hyper.joint_layer(q["out"], [x])) + offset, 2, -1)
    return xp.clip(level, 0, SCALES - 1), xp.clip(mean, -MEAN_MAX, MEAN_MAX)


def code(q: hyper.Params, level, offset, shape: tuple[int, ...], code: Callable) -> np.ndarray:
    """Runs all steps, in NumPy.

    Args:
      q, level, offset: as in `predict`.
      shape: of z, (h, w, Cz).
      code: (table numbers, what is taken off the hyper-latents, rows and columns of the positions) -> hyper-latents of a
        step, (n, Cz) all. A table's number is PARTS * level of the scale + eighths of the mean.

    Returns:
      z (h, w, Cz), float32.
    """
    h, w, channels = shape
    z, down_and_right = np.empty(shape, np.float32), np.array(NEIGHBOURS).T
    seen = np.zeros((h + 1, w + 2, len(SIGNS), channels), np.float32)
    for at in steps(h, w):
        rows, columns = (1 + place[:, None] for place in at)
        around = seen[rows + down_and_right[0], columns + down_and_right[1]]
        inputs = np.moveaxis(around, 2, 1).reshape(len(rows), -1)
        scales, means = _predict(np, q, inputs, level, offset, np.floor)
        whole = np.floor(means / PARTS)
        here = code((PARTS * scales + means - PARTS * whole).astype(np.uint8), whole, at)
        z[at] = here
        for i, sign in enumerate(SIGNS):
            seen[rows[:, 0], columns[:, 0], i] = magnitudes(np, here, sign)
    return z
