"""Watson's visibility of errors in the 8x8 DCT of luma (A. B. Watson, SPIE 1913:202, 1993)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jnd_jax.perception.arrays import safe_power
from jnd_jax.perception.colour import LUMA
from jnd_jax.perception.dct import BLOCK, block_dct

# Thresholds of Watson 1993 for 8x8 DCT coefficients of luma in 0..255 at 32 pixels a degree.
THRESHOLDS = np.array(
    [
        [1.40, 1.01, 1.16, 1.66, 2.40, 3.43, 4.79, 6.56],
        [1.01, 1.45, 1.32, 1.52, 2.00, 2.71, 3.67, 4.93],
        [1.16, 1.32, 2.24, 2.59, 2.98, 3.64, 4.60, 5.88],
        [1.66, 1.52, 2.59, 3.77, 4.55, 5.30, 6.28, 7.60],
        [2.40, 2.00, 2.98, 4.55, 6.15, 7.46, 8.71, 10.17],
        [3.43, 2.71, 3.64, 5.30, 7.46, 9.62, 11.58, 13.51],
        [4.79, 3.67, 4.60, 6.28, 8.71, 11.58, 14.50, 17.29],
        [6.56, 4.93, 5.88, 7.60, 10.17, 13.51, 17.29, 21.15],
    ],
    np.float32,
)
_LUMINANCE, _CONTRAST, _POOLING = 0.649, 0.7, 4.0


def watson_slack(luma: jax.Array) -> jax.Array:
    """Just-noticeable change s of each 8x8 DCT coefficient of luma, both in units of 1/255 of full scale.

    s = max(t_L, |C|^.7 t_L^.3) with t_L = t (C_00 / mean C_00)^.649; no contrast masking of the DC
    (Watson, "DCT quantization matrices visually optimized for individual images", SPIE 1913, 1993).

    Args:
        luma: (B, H, W, 1) in [0, 255].

    Returns:
        (B, H/8, W/8, 1, 64), > 0.
    """
    coefficients = block_dct(luma)
    dc = jnp.maximum(coefficients[..., :1], 1.0)
    threshold = THRESHOLDS.reshape(-1) * (dc / jnp.mean(dc, (1, 2, 3, 4), keepdims=True)) ** _LUMINANCE
    contrast = jnp.abs(coefficients) ** _CONTRAST * threshold ** (1.0 - _CONTRAST)
    return jnp.where(np.arange(BLOCK * BLOCK) > 0, jnp.maximum(threshold, contrast), threshold)


def watson_distance(x: jax.Array, y: jax.Array) -> jax.Array:
    """Watson's pooled error in just-noticeable differences of a block: (mean over blocks sum_k |dC_k / s_k|^4)^(1/4).

    The paper sums over all blocks; the mean makes images of different sizes comparable. Luma only.
    """
    luma = 255.0 * (x @ jnp.asarray(LUMA, x.dtype))[..., None]
    error = block_dct(255.0 * (y @ jnp.asarray(LUMA, y.dtype))[..., None] - luma) / jax.lax.stop_gradient(
        watson_slack(luma)
    )
    return safe_power(jnp.mean(jnp.sum(error**_POOLING, -1), (1, 2, 3)), 1.0 / _POOLING)


def watson_error(x: jax.Array, y: jax.Array) -> jax.Array:
    """`watson_distance` squared: grows as the squared error does, as rate-distortion wants it."""
    return watson_distance(x, y) ** 2
