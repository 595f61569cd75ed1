"""Colour spaces: the one place of their weights. RGB is sRGB as stored; matrices multiply from the right, rgb @ matrix."""

from __future__ import annotations

from typing import Any

import numpy as np

from jnd_jax.perception.arrays import namespace

# Full-range luma of ITU-R BT.601, as in JPEG (JFIF).
LUMA = np.array([0.299, 0.587, 0.114])

# RGB to full-range YCbCr: columns Y, Cb, Cr.
RGB_TO_YCBCR = np.stack(
    [
        LUMA,
        [-0.168736, -0.331264, 0.5],
        [0.5, -0.418688, -0.081312],
    ],
    axis=1,
)

# Columns map (Y, Cb, Cr) to RGB: rgb = YCBCR_TO_RGB @ ycbcr.
YCBCR_TO_RGB = np.array([[1.0, 0.0, 1.402], [1.0, -0.344136, -0.714136], [1.0, 1.772, 0.0]])

# RGB in [0, 1] to studio-range luma less its offset of 16: 0 to 219.
STUDIO_LUMA = np.array([65.481, 128.553, 24.966])


def linear_light(x: Any) -> Any:
    """sRGB in [0, 1], NumPy or JAX, to linear light in [0, 1] (IEC 61966-2-1); values outside are clipped."""
    xp = namespace(x)
    x = xp.clip(x, 0.0, 1.0)
    return xp.where(x <= 0.04045, x / 12.92, ((xp.maximum(x, 0.04045) + 0.055) / 1.055) ** 2.4)
