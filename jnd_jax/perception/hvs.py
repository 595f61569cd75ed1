"""PSNR-HVS and PSNR-HVS-M as errors: 8x8 DCT of luma weighted by contrast sensitivity, without and with masking."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jnd_jax.perception.arrays import safe_power
from jnd_jax.perception.colour import STUDIO_LUMA
from jnd_jax.perception.dct import BLOCK, block_dct, to_blocks

# Contrast sensitivity and masking by DCT coefficient, from the authors' program (N. Ponomarenko, psnrhvsm.m).
_SENSITIVITY = np.array(
    [
        [1.608443, 2.339554, 2.573509, 1.608443, 1.072295, 0.643377, 0.504610, 0.421887],
        [2.144591, 2.144591, 1.838221, 1.354478, 0.989811, 0.443708, 0.428918, 0.467911],
        [1.838221, 1.979622, 1.608443, 1.072295, 0.643377, 0.451493, 0.372972, 0.459555],
        [1.838221, 1.513829, 1.169777, 0.887417, 0.504610, 0.295806, 0.321689, 0.415082],
        [1.429727, 1.169777, 0.695543, 0.459555, 0.378457, 0.236102, 0.249855, 0.334222],
        [1.072295, 0.735288, 0.467911, 0.402111, 0.317717, 0.247453, 0.227744, 0.279729],
        [0.525206, 0.402111, 0.329937, 0.295806, 0.249855, 0.212687, 0.214459, 0.254803],
        [0.357432, 0.279729, 0.270896, 0.262603, 0.229778, 0.257351, 0.249855, 0.259950],
    ],
    np.float32,
).reshape(-1)
_MASKING = np.array(
    [
        [0.390625, 0.826446, 1.000000, 0.390625, 0.173611, 0.062500, 0.038447, 0.026874],
        [0.694444, 0.694444, 0.510204, 0.277008, 0.147929, 0.029727, 0.027778, 0.033058],
        [0.510204, 0.591716, 0.390625, 0.173611, 0.062500, 0.030779, 0.021004, 0.031888],
        [0.510204, 0.346021, 0.206612, 0.118906, 0.038447, 0.013212, 0.015625, 0.026015],
        [0.308642, 0.206612, 0.073046, 0.031888, 0.021626, 0.008417, 0.009426, 0.016866],
        [0.173611, 0.081633, 0.033058, 0.024414, 0.015242, 0.009246, 0.007831, 0.011815],
        [0.041649, 0.024414, 0.016437, 0.013212, 0.009426, 0.006830, 0.006944, 0.009803],
        [0.019290, 0.011815, 0.011080, 0.010412, 0.007972, 0.010000, 0.009426, 0.010203],
    ],
    np.float32,
).reshape(-1)


def _studio_luma(x: jax.Array) -> jax.Array:
    """(B, H, W, 3) RGB -> (B, H, W, 1) BT.601 luma in 16/255 .. 235/255."""
    return (x @ jnp.asarray(STUDIO_LUMA, x.dtype) + 16.0)[..., None] / 255.0


def hvs_error(x: jax.Array, y: jax.Array) -> jax.Array:
    """Weighted squared error of luma whose -10 log10 is PSNR-HVS (Egiazarian et al., VPQM 2006).

    Mean over 8x8 blocks of sum_k (CSF_k dC_k)^2 / 64, C the block's DCT.
    """
    error = block_dct(_studio_luma(x) - _studio_luma(y)) * _SENSITIVITY
    return jnp.mean(error**2, (1, 2, 3, 4))


def _sum_of_squares_about_mean(samples: jax.Array) -> jax.Array:
    """n^2 / (n - 1) times the (population) variance over the last axis: what psnrhvsm.m calls vari."""
    n = samples.shape[-1]
    return jnp.var(samples, -1) * n * n / (n - 1)


def _hvs_mask(luma: jax.Array, coefficients: jax.Array) -> jax.Array:
    """(B, h, w, 1) masking strength of each block: its weighted AC energy, less where an edge carries it."""
    energy = jnp.sum(coefficients[..., 1:] ** 2 * _MASKING[1:], -1)
    blocks = to_blocks(luma)
    quarters = blocks.reshape(*blocks.shape[:-1], 2, 4, 2, 4).swapaxes(-3, -2)
    quarters = quarters.reshape(*blocks.shape[:-1], 4, 16)
    whole = _sum_of_squares_about_mean(blocks)
    flat = whole <= 1e-12
    ratio = jnp.where(flat, 0.0, _sum_of_squares_about_mean(quarters).sum(-1) / jnp.where(flat, 1.0, whole))
    return safe_power(energy * ratio / (16 * 64), 0.5)


def hvs_m_error(x: jax.Array, y: jax.Array) -> jax.Array:
    """The error whose -10 log10 is PSNR-HVS-M: `hvs_error` beyond contrast masking (Ponomarenko et al., VPQM 2007).

    Mean over blocks of [(CSF_0 dC_0)^2 + sum_k>0 (CSF_k max(0, |dC_k| - M / m_k))^2] / 64, where M is the larger of
    both blocks' masking strengths.
    """
    luma_x, luma_y = _studio_luma(x), _studio_luma(y)
    dct_x, dct_y = block_dct(luma_x), block_dct(luma_y)
    mask = jnp.maximum(_hvs_mask(luma_x, dct_x), _hvs_mask(luma_y, dct_y))[..., None]
    hidden = (mask / _MASKING) * (np.arange(BLOCK * BLOCK) > 0)
    error = jnp.maximum(jnp.abs(dct_x - dct_y) - hidden, 0.0) * _SENSITIVITY
    return jnp.mean(error**2, (1, 2, 3, 4))
