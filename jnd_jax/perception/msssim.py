"""Multi-scale structural similarity, for measuring (NumPy) and as a loss (JAX).

Wang, Simoncelli, Bovik, "Multiscale structural similarity for image quality assessment" (Asilomar 2003), in
the form that learned compression reports: Gaussian 11-tap window of sigma 1.5 without padding, five scales,
mean over the RGB channels, 2x2 average pooling between scales.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jnd_jax.errors import JndError
from jnd_jax.perception.arrays import gaussian, namespace, safe_power

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_TAPS = 11
_SIGMA = 1.5
_K1, _K2 = 0.01, 0.03


def _blur(x: Any) -> Any:
    """Separable valid correlation over axes 1 and 2, from slices only: the same code for NumPy and JAX."""
    window = [float(w) for w in gaussian(_TAPS // 2, _SIGMA)]
    height, width = x.shape[1] - _TAPS + 1, x.shape[2] - _TAPS + 1
    x = sum(w * x[:, i : i + height] for i, w in enumerate(window))
    return sum(w * x[:, :, i : i + width] for i, w in enumerate(window))


def _halve(x: Any) -> Any:
    """2x2 average; an odd side gets one row of zeros before and after, as pytorch_msssim has it."""
    xp = namespace(x)
    rows, columns = x.shape[1] % 2, x.shape[2] % 2
    if rows or columns:
        x = xp.pad(x, ((0, 0), (rows, rows), (columns, columns), (0, 0)))
    height, width = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    x = x[:, :height, :width]
    return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4


def _similarities(x: Any, y: Any) -> tuple[Any, Any]:
    """Mean SSIM and mean contrast-structure term of one scale, each (B, C), for values in [0, 1]."""
    c1, c2 = _K1**2, _K2**2
    mean_x, mean_y = _blur(x), _blur(y)
    variance_x = _blur(x * x) - mean_x**2
    variance_y = _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    contrast = (2 * covariance + c2) / (variance_x + variance_y + c2)
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return (luminance * contrast).mean((1, 2)), contrast.mean((1, 2))


def scales_for(height: int, width: int) -> int:
    """Number of scales an image admits: 5 from 161 pixels on its shorter side, fewer below.

    Raises:
        JndError: a side is shorter than 11 pixels.
    """
    shorter = min(height, width)
    if shorter < _TAPS:
        raise JndError(f"MS-SSIM needs images of at least {_TAPS} pixels a side, not {width}x{height}.")
    scales = 1
    while scales < len(WEIGHTS) and shorter > (_TAPS - 1) * 2**scales:
        scales += 1
    return scales


def ms_ssim_batch(x: Any, y: Any) -> Any:
    """MS-SSIM of each pair of a batch; differentiable when given JAX arrays.

    Images too small for five scales (a side of 160 pixels or fewer) use the scales that fit, their weights
    scaled to the same sum; such values compare only with values of images of about that size.

    Args:
        x: (B, H, W, C) float in [0, 1], NumPy or JAX.
        y: the same shape and kind.

    Returns:
        (B,), 1 for equal images.
    """
    scales = scales_for(x.shape[1], x.shape[2])
    weights = np.array(WEIGHTS[:scales]) * (sum(WEIGHTS) / sum(WEIGHTS[:scales]))
    product: Any = 1.0
    for scale in range(scales):
        similarity, contrast = _similarities(x, y)
        last = scale == scales - 1
        product = product * safe_power(similarity if last else contrast, float(weights[scale]))
        if not last:
            x, y = _halve(x), _halve(y)
    return product.mean(1)
