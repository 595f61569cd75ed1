"""A squared error in the 8x8 DCT of lightness and opponent colours, weighted by how visible it is in the original."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jnd_jax.perception.colour import LUMA, seen_difference
from jnd_jax.perception.dct import BLOCK, block_dct, block_samples

# Visibility of errors in `masked_dct_error`; the values were chosen on training images, see the function.
_LUMA_CUTOFF, _LUMA_ORDER = 4.0, 1.15
_CHROMA_CUTOFF, _CHROMA_ORDER = 2.0, 0.9
_CHROMA_WEIGHTS = (0.4, 0.45)
_MASKING_ENERGY, _MASKING_ORDER = 20.0, 0.4

# From the samples of an RGB block, in (row, column, RGB) order, to luma by quarters of the block: one matrix product takes a
# fraction of the time of a product for colour and one for the rest.
_BY_QUARTERS = np.arange(BLOCK**2).reshape(2, BLOCK // 2, 2, BLOCK // 2).swapaxes(1, 2).reshape(-1)
_TO_LUMA = np.einsum("i,kp->pik", LUMA, np.eye(BLOCK**2)[_BY_QUARTERS]).reshape(3 * BLOCK**2, -1).astype(np.float32)

# Factor that gives `masked_dct_error` the size of 255^2 * MSE (bench/calibrate_distances.py).
AS_SQUARED_ERROR = 12.6


def _frequency() -> np.ndarray:
    """(64,) distance of each DCT coefficient from the mean."""
    u, v = np.meshgrid(np.arange(BLOCK), np.arange(BLOCK), indexing="ij")
    return np.sqrt(u**2 + v**2).reshape(-1)


def sensitivity(cutoff: float = _LUMA_CUTOFF) -> np.ndarray:
    """(3, 64) weight of a squared error in each coefficient of lightness, blue-yellow and red-green where nothing masks it.

    See `visibility`.
    """
    frequency = _frequency()
    luma = (1 + (frequency / cutoff) ** 2) ** -_LUMA_ORDER
    chroma = (1 + (frequency / _CHROMA_CUTOFF) ** 2) ** -_CHROMA_ORDER
    return np.stack([luma, *(a * chroma for a in _CHROMA_WEIGHTS)]).astype(np.float32)


def masking_order() -> np.ndarray:
    """(64,) g of each coefficient, see `visibility`."""
    frequency = _frequency()
    return (_MASKING_ORDER * frequency / (frequency + 1)).astype(np.float32)


def log_activity(x: jax.Array) -> jax.Array:
    """log(1 + A_b / A_0) of each 8x8 block, see `visibility`: (B, H, W, 3) in [0, 1] -> (B, ceil(H/8), ceil(W/8))."""
    luma = block_samples(255.0 * x) @ jnp.asarray(_TO_LUMA, x.dtype)
    quarters = luma.reshape(*luma.shape[:-1], 4, -1)
    activity = jnp.mean(jnp.sqrt(jnp.var(quarters, -1) + 1e-3), -1) ** 2
    return jnp.log1p(activity / _MASKING_ENERGY)


def visibility(x: jax.Array, cutoff: float = _LUMA_CUTOFF) -> jax.Array:
    """Weight of a squared error in each 8x8 DCT coefficient of what is seen, given the original.

    Coefficient k of frequency f (root of u^2 + v^2) in channel c of block b:

        w = a_c (1 + (f / f_c)^2)^-p_c (1 + A_b / A_0)^-g(f),   g(f) = g f / (f + 1)

    The first factors are the contrast sensitivity to lightness and to opponent colours, the last is masking: A_b is the
    block's activity, the squared mean of the standard deviations of luma in its four quarters (which an edge between two
    flat quarters does not raise). Low frequencies are masked less, the mean of a block is not masked.

    Args:
        x: (B, H, W, 3) originals in [0, 1].
        cutoff: f_c of lightness: the larger, the more fine errors count.

    Returns:
        (B, ceil(H/8), ceil(W/8), 3, 64).
    """
    return jnp.asarray(sensitivity(cutoff)) * jnp.exp(-masking_order() * log_activity(x)[..., None, None])


def block_errors(x: jax.Array, difference: jax.Array, cutoff: float = _LUMA_CUTOFF) -> jax.Array:
    """What `masked_dct_error` is the mean of, a square of the difference y - x: (B, ceil(H/8), ceil(W/8)). See `visibility`."""
    fixed = jax.lax.stop_gradient
    error = block_dct(seen_difference(fixed(x), 255.0 * difference))
    return jnp.mean(fixed(visibility(x, cutoff)) * error**2, (3, 4))


def masked_dct_error(x: jax.Array, y: jax.Array) -> jax.Array:
    """The mean of `block_errors`: squared errors of 8x8 DCT coefficients of what is seen, weighted by `visibility` in x.

    In the spirit of PSNR-HVS-M and Watson 1993, but smooth and in colour, so that it can take the place of squared
    error at all rates: a codec trained on it moves its noise to where it is seen less. What is seen are lightness and two
    opponent colours in 0..255, to the first order of the error (`colour.seen_difference`). The constants of `visibility`
    were chosen, with YCbCr in their place, so that an 8x8 transform codec whose steps are w^-1/2 needs few bits to reach one
    JND of SSIMULACRA2 and Butteraugli on six training images (a quarter fewer than with equal steps in RGB).

    Args:
      x: (B, H, W, 3) originals, sRGB in [0, 1].
      y: (B, H, W, 3) what stands for them.

    Returns:
      (B,).
    """
    return jnp.mean(block_errors(x, y - x), (1, 2))
