"""Distances between batches of images, differentiable in the second: what a loss weighs against the rate.

Each is a function (x, y) -> (B,) of originals x and reconstructions y, both (B, H, W, 3), x in [0, 1] and y around
it; 0 for equal images. Gradients are finite everywhere, at equal images included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jnd_jax.errors import JndError
from jnd_jax.perception import ssimulacra2
from jnd_jax.perception.dct import BLOCK, block_dct, to_blocks
from jnd_jax.perception.msssim import ms_ssim_batch

Distance = Callable[[jax.Array, jax.Array], jax.Array]

# RGB to full-range BT.601 YCbCr, columns Y, Cb, Cr.
_YCBCR = np.array(
    [
        [0.299, -0.168736, 0.5],
        [0.587, -0.331264, -0.418688],
        [0.114, 0.5, -0.081312],
    ],
    np.float32,
)

# Rows as in the published code (N. Ponomarenko, psnrhvsm.m): sensitivity of PSNR-HVS and masking of PSNR-HVS-M.
_HVS_SENSITIVITY = np.array(
    [
        1.608443,
        2.339554,
        2.573509,
        1.608443,
        1.072295,
        0.643377,
        0.504610,
        0.421887,
        2.144591,
        2.144591,
        1.838221,
        1.354478,
        0.989811,
        0.443708,
        0.428918,
        0.467911,
        1.838221,
        1.979622,
        1.608443,
        1.072295,
        0.643377,
        0.451493,
        0.372972,
        0.459555,
        1.838221,
        1.513829,
        1.169777,
        0.887417,
        0.504610,
        0.295806,
        0.321689,
        0.415082,
        1.429727,
        1.169777,
        0.695543,
        0.459555,
        0.378457,
        0.236102,
        0.249855,
        0.334222,
        1.072295,
        0.735288,
        0.467911,
        0.402111,
        0.317717,
        0.247453,
        0.227744,
        0.279729,
        0.525206,
        0.402111,
        0.329937,
        0.295806,
        0.249855,
        0.212687,
        0.214459,
        0.254803,
        0.357432,
        0.279729,
        0.270896,
        0.262603,
        0.229778,
        0.257351,
        0.249855,
        0.259950,
    ],
    np.float32,
)
_HVS_MASKING = np.array(
    [
        0.390625,
        0.826446,
        1.000000,
        0.390625,
        0.173611,
        0.062500,
        0.038447,
        0.026874,
        0.694444,
        0.694444,
        0.510204,
        0.277008,
        0.147929,
        0.029727,
        0.027778,
        0.033058,
        0.510204,
        0.591716,
        0.390625,
        0.173611,
        0.062500,
        0.030779,
        0.021004,
        0.031888,
        0.510204,
        0.346021,
        0.206612,
        0.118906,
        0.038447,
        0.013212,
        0.015625,
        0.026015,
        0.308642,
        0.206612,
        0.073046,
        0.031888,
        0.021626,
        0.008417,
        0.009426,
        0.016866,
        0.173611,
        0.081633,
        0.033058,
        0.024414,
        0.015242,
        0.009246,
        0.007831,
        0.011815,
        0.041649,
        0.024414,
        0.016437,
        0.013212,
        0.009426,
        0.006830,
        0.006944,
        0.009803,
        0.019290,
        0.011815,
        0.011080,
        0.010412,
        0.007972,
        0.010000,
        0.009426,
        0.010203,
    ],
    np.float32,
)

# Thresholds of Watson 1993 for 8x8 DCT coefficients of luma in 0..255 at 32 pixels a degree.
WATSON_THRESHOLDS = np.array(
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
_WATSON_LUMINANCE, _WATSON_CONTRAST, _WATSON_POOLING = 0.649, 0.7, 4.0


def _power(x: jax.Array, exponent: float) -> jax.Array:
    """x ** exponent for x >= 0, with gradient 0 at 0."""
    positive = x > 0
    return jnp.where(positive, jnp.where(positive, x, 1.0) ** exponent, 0.0)


def squared_error(x: jax.Array, y: jax.Array) -> jax.Array:
    """255^2 * MSE over all RGB samples: CompressAI's convention."""
    return 255.0**2 * jnp.mean((x - y) ** 2, (1, 2, 3))


def structural_error(x: jax.Array, y: jax.Array) -> jax.Array:
    """1 - MS-SSIM; see `jnd_jax.perception.msssim` for what it does with small images."""
    return 1.0 - ms_ssim_batch(x, y)


def ssimulacra2_error(x: jax.Array, y: jax.Array) -> jax.Array:
    """SSIMULACRA2's weighted sum of errors, before it becomes a score; see `jnd_jax.perception.ssimulacra2`."""
    return ssimulacra2.ssimulacra2_error(x, y)


def _studio_luma(x: jax.Array) -> jax.Array:
    """(B, H, W, 3) RGB -> (B, H, W, 1) BT.601 luma in 16/255 .. 235/255."""
    return (x @ jnp.array([65.481, 128.553, 24.966], x.dtype) + 16.0)[..., None] / 255.0


def hvs_error(x: jax.Array, y: jax.Array) -> jax.Array:
    """Weighted squared error of luma whose -10 log10 is PSNR-HVS (Egiazarian et al., VPQM 2006).

    Mean over 8x8 blocks of sum_k (CSF_k dC_k)^2 / 64, C the block's DCT.
    """
    error = block_dct(_studio_luma(x) - _studio_luma(y)) * _HVS_SENSITIVITY
    return jnp.mean(error**2, (1, 2, 3, 4))


def _sum_of_squares_about_mean(samples: jax.Array) -> jax.Array:
    """n^2 / (n - 1) times the (population) variance over the last axis: what psnrhvsm.m calls vari."""
    n = samples.shape[-1]
    return jnp.var(samples, -1) * n * n / (n - 1)


def _hvs_mask(luma: jax.Array, coefficients: jax.Array) -> jax.Array:
    """(B, h, w, 1) masking strength of each block: its weighted AC energy, less where an edge carries it."""
    energy = jnp.sum(coefficients[..., 1:] ** 2 * _HVS_MASKING[1:], -1)
    blocks = to_blocks(luma)
    quarters = blocks.reshape(*blocks.shape[:-1], 2, 4, 2, 4).swapaxes(-3, -2)
    quarters = quarters.reshape(*blocks.shape[:-1], 4, 16)
    whole = _sum_of_squares_about_mean(blocks)
    flat = whole <= 1e-12
    ratio = jnp.where(flat, 0.0, _sum_of_squares_about_mean(quarters).sum(-1) / jnp.where(flat, 1.0, whole))
    return _power(energy * ratio / (16 * 64), 0.5)


def hvs_m_error(x: jax.Array, y: jax.Array) -> jax.Array:
    """The error whose -10 log10 is PSNR-HVS-M: `hvs_error` beyond contrast masking (Ponomarenko et al., VPQM 2007).

    Mean over blocks of [(CSF_0 dC_0)^2 + sum_k>0 (CSF_k max(0, |dC_k| - M / m_k))^2] / 64, where M is the larger of
    both blocks' masking strengths.
    """
    luma_x, luma_y = _studio_luma(x), _studio_luma(y)
    dct_x, dct_y = block_dct(luma_x), block_dct(luma_y)
    mask = jnp.maximum(_hvs_mask(luma_x, dct_x), _hvs_mask(luma_y, dct_y))[..., None]
    hidden = (mask / _HVS_MASKING) * (np.arange(BLOCK * BLOCK) > 0)
    error = jnp.maximum(jnp.abs(dct_x - dct_y) - hidden, 0.0) * _HVS_SENSITIVITY
    return jnp.mean(error**2, (1, 2, 3, 4))


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
    threshold = WATSON_THRESHOLDS.reshape(-1) * (dc / jnp.mean(dc, (1, 2, 3, 4), keepdims=True)) ** _WATSON_LUMINANCE
    contrast = jnp.abs(coefficients) ** _WATSON_CONTRAST * threshold ** (1.0 - _WATSON_CONTRAST)
    return jnp.where(np.arange(BLOCK * BLOCK) > 0, jnp.maximum(threshold, contrast), threshold)


def watson_distance(x: jax.Array, y: jax.Array) -> jax.Array:
    """Watson's pooled error in just-noticeable differences of a block: (mean over blocks sum_k |dC_k / s_k|^4)^(1/4).

    The paper sums over all blocks; the mean makes images of different sizes comparable. Luma only.
    """
    luma = 255.0 * (x @ _YCBCR)[..., :1]
    error = block_dct(255.0 * (y @ _YCBCR)[..., :1] - luma) / jax.lax.stop_gradient(watson_slack(luma))
    return _power(jnp.mean(jnp.sum(error**_WATSON_POOLING, -1), (1, 2, 3)), 1.0 / _WATSON_POOLING)


def watson_error(x: jax.Array, y: jax.Array) -> jax.Array:
    """`watson_distance` squared: grows as the squared error does, as rate-distortion wants it."""
    return watson_distance(x, y) ** 2


# Visibility of errors in `masked_dct_error`; the values were chosen on training images, see the function.
_LUMA_CUTOFF, _LUMA_ORDER = 4.0, 1.15
_CHROMA_CUTOFF, _CHROMA_ORDER = 2.0, 0.9
_CHROMA_WEIGHTS = (0.4, 0.45)
_MASKING_ENERGY, _MASKING_ORDER = 20.0, 0.4


def visibility(x: jax.Array) -> jax.Array:
    """Weight of a squared error in each 8x8 DCT coefficient of YCbCr, given the original.

    Coefficient k of frequency f (root of u^2 + v^2) in channel c of block b:

        w = a_c (1 + (f / f_c)^2)^-p_c (1 + A_b / A_0)^-g(f),   g(f) = g f / (f + 1)

    The first factors are the contrast sensitivity to luma, Cb and Cr, the last is masking: A_b is the block's activity,
    the squared mean of the standard deviations of luma in its four quarters (which an edge between two flat quarters
    does not raise). Low frequencies are masked less, the mean of a block is not masked.

    Args:
        x: (B, H, W, 3) originals in [0, 1].

    Returns:
        (B, ceil(H/8), ceil(W/8), 3, 64).
    """
    u, v = np.meshgrid(np.arange(BLOCK), np.arange(BLOCK), indexing="ij")
    frequency = np.sqrt(u**2 + v**2).reshape(-1)
    luma = (1 + (frequency / _LUMA_CUTOFF) ** 2) ** -_LUMA_ORDER
    chroma = (1 + (frequency / _CHROMA_CUTOFF) ** 2) ** -_CHROMA_ORDER
    sensitivity = np.stack([luma, *(a * chroma for a in _CHROMA_WEIGHTS)]).astype(np.float32)
    blocks = to_blocks(255.0 * (x @ _YCBCR)[..., :1])
    quarters = blocks.reshape(*blocks.shape[:-1], 2, 4, 2, 4)
    activity = jnp.mean(jnp.sqrt(jnp.var(quarters, (-3, -1)) + 1e-3), (-2, -1)) ** 2
    order = (_MASKING_ORDER * frequency / (frequency + 1)).astype(np.float32)
    return sensitivity * jnp.exp(-order * jnp.log1p(activity / _MASKING_ENERGY)[..., None])


def masked_dct_error(x: jax.Array, y: jax.Array) -> jax.Array:
    """Squared error of 8x8 DCT coefficients of YCbCr in 0..255, each weighted by its `visibility` in x.

    In the spirit of PSNR-HVS-M and Watson 1993, but smooth and in colour, so that it can take the place of squared
    error at all rates: a codec trained on it moves its noise to where it is seen less. The constants of `visibility`
    were chosen so that an 8x8 transform codec whose steps are w^-1/2 needs few bits to reach one JND of SSIMULACRA2
    and Butteraugli on six training images (a quarter fewer than with equal steps in RGB).
    """
    error = block_dct(255.0 * ((y - x) @ _YCBCR))
    return jnp.mean(jax.lax.stop_gradient(visibility(x)) * error**2, (1, 2, 3, 4))


# Name -> (distance, the factor that gives it the size of 255^2 * MSE). The factors are the mean ratio over crops of
# photos, coded by JPEG 2000 at 30 to 38 dB (bench/calibrate_distances.py): so lambda keeps its meaning.
DISTANCES: dict[str, tuple[Distance, float]] = {
    "mse": (squared_error, 1.0),
    "ms-ssim": (structural_error, 1975.0),
    "ssimulacra2": (ssimulacra2_error, 8.0),
    "psnr-hvs": (hvs_error, 8.7e4),
    "psnr-hvs-m": (hvs_m_error, 2.5e5),
    "watson": (watson_error, 0.16),
    "masked-dct": (masked_dct_error, 12.6),
}


def make_distance(spec: str | Mapping[str, float]) -> Distance:
    """The distance of a name in `DISTANCES`, or the weighted sum of several, scaled to the size of 255^2 * MSE.

    Args:
        spec: "mse", or {"masked-dct": 0.9, "mse": 0.1}.

    Raises:
        JndError: a name that is not in `DISTANCES`.
    """
    weights = {spec: 1.0} if isinstance(spec, str) else dict(spec)
    unknown = [name for name in weights if name not in DISTANCES]
    if unknown or not weights:
        raise JndError(f"no distance is named {unknown}: choose from {', '.join(DISTANCES)}")
    parts = [(w * DISTANCES[name][1], DISTANCES[name][0]) for name, w in weights.items()]
    return lambda x, y: sum(factor * distance(x, y) for factor, distance in parts)
