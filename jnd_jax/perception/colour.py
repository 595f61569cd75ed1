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

# Linear sRGB to CIE 1931 XYZ (D65; the middle row is luminance), and to the responses of the L, M and S cones (CIE 2006).
_LINEAR_RGB_TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
LINEAR_RGB_TO_CONES = (
    np.array(
        [
            [0.187596268556126, 0.585168649077728, -0.026384263306304],
            [-0.133397430663221, 0.405505777260049, 0.034502127690364],
            [0.000244379021663, -0.000542995890619, 0.019406849066323],
        ]
    )
    @ _LINEAR_RGB_TO_XYZ
)

# Linear sRGB to luminance and to the cones, each 1 for white: what `seen_difference` is made of.
_LIGHTS = np.stack([_LINEAR_RGB_TO_XYZ[1], *LINEAR_RGB_TO_CONES])
_LIGHTS = (_LIGHTS / _LIGHTS.sum(axis=1, keepdims=True)).tolist()

# sRGB without its straight part by black: light is (x + offset) ** power.
_OFFSET, _POWER = 0.055, 2.4

# Weights of S less lightness and of L less M: on grey ground, blue or red alone then count .8 times what they count in Cb or Cr.
# Of 1.2, 1 and .8 that was best for an encoder that lowers such errors.
_BLUE_YELLOW, _RED_GREEN = 0.49, 2.3

# RGB in [0, 1] to studio-range luma less its offset of 16: 0 to 219.
STUDIO_LUMA = np.array([65.481, 128.553, 24.966])


def linear_light(x: Any) -> Any:
    """sRGB in [0, 1], NumPy or JAX, to linear light in [0, 1] (IEC 61966-2-1); values outside are clipped."""
    xp = namespace(x)
    x = xp.clip(x, 0.0, 1.0)
    return xp.where(x <= 0.04045, x / 12.92, ((xp.maximum(x, 0.04045) + 0.055) / 1.055) ** 2.4)


def seen_difference(x: Any, error: Any) -> Any:
    """What a small error is for the eye: its lightness, blue against yellow, and red against green.

    Lightness is luminance, the others are S less lightness and L less M of the cones' responses, each of these as stored in sRGB
    for a grey of that light; to the first order of the error. On grey ground, lightness changes much as luma does. On
    saturated blue or red, luma knows too little of what is light there.

    Args:
      x: (..., 3) the colours that the error is added to, sRGB in [0, 1], NumPy or JAX.
      error: (..., 3), in the unit of sRGB.

    Returns:
      (..., 3), in the unit of the error.
    """
    xp = namespace(error)
    x = xp.asarray(x)
    # Written out, since XLA's own powers take three times as long on a CPU, and its products by three channels five times.
    power = lambda base, exponent: xp.exp(exponent * xp.log(base))
    stored = [x[..., i] + _OFFSET for i in range(3)]
    slope = [power(s, _POWER - 1) for s in stored]
    light = [a * b for a, b in zip(slope, stored)]
    change = [a * error[..., i] for i, a in enumerate(slope)]
    total = lambda weights, parts: sum(w * part for w, part in zip(weights, parts))
    lightness, long, medium, short = (
        power(total(weights, light), 1 / _POWER - 1) * total(weights, change) for weights in _LIGHTS
    )
    return xp.stack([lightness, _BLUE_YELLOW * (short - lightness), _RED_GREEN * (long - medium)], axis=-1)
