"""What an error in one latent costs, as rate-distortion optimised quantisation weighs it.

An encoder may round a latent towards zero where that saves more bits than it costs distortion. The distortion is that
of the linear synthesis alone. It is squared error. In models that were trained with masked DCT error, a share of it is
masked DCT error, which weighs an error by how visible it is at its place in the image (`perception.masked_dct`).

Decoders need none of this.

`xp` is the array namespace, numpy or jax.numpy.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jnd_jax.codec.layers import space_to_depth
from jnd_jax.codec.linear import BLOCK
from jnd_jax.perception import masked_dct
from jnd_jax.perception.colour import RGB_TO_YCBCR
from jnd_jax.perception.dct import BLOCK as DCT_BLOCK
from jnd_jax.perception.dct import DCT

_CELLS = BLOCK // DCT_BLOCK

# Weight of masked DCT error in visible errors, by how many times as small both pictures are that it sees. Training has it at
# full resolution alone, beside ColorVideoVDP; latents that are corrected by it so need fewer bits, in less time
# (bench/correction.py).
_MASKED_WEIGHTS = {1: 0.6, 2: 0.7, 4: 0.7}

# Errors of lightness count up to finer ones than in training, whose distance has a cut-off of 4, see `masked_dct.visibility`; and
# the factor that gives them the size of 255^2 * MSE, a little less than calibrated (10.7).
_LUMA_CUTOFF, _AS_SQUARED_ERROR = 8.0, 10.0

# Metrics, and people, judge by the worst places: errors are lowered as their sum to this power would be, most where most is left.
_POOLING = 1.5

# Coefficients with one order (exponent of masking, see `masked_dct.visibility`) are masked alike.
_ORDERS, _ORDER_OF = np.unique(masked_dct.masking_order(), return_inverse=True)


def log_activity(x: jax.Array) -> jax.Array:
    """`masked_dct.log_activity` of each block's four 8x8 blocks: x (B, H, W, 3) in [0, 1] -> (B, H/16, W/16, 4)."""
    return space_to_depth(masked_dct.log_activity(x)[..., None], _CELLS)


def masked_energy(xp, synthesis):
    """Energy of each basis function in each set of DCT coefficients that are masked alike, weighted by sensitivity.

    Colours are taken as on grey ground, where YCbCr is near what masked DCT error sees. To follow the ground's colour here
    gains nothing more.

    Args:
      xp: numpy or jax.numpy.
      synthesis: (M, 768) basis functions of a block before the post-filter, in (row, column, RGB) order, in pixels
        of [0, 1].

    Returns:
      (n, M): one row for each of the block's four 8x8 blocks and each order of masking, in the scale of the basis
      functions' squared norms.
    """
    pixels = synthesis.reshape(-1, BLOCK, BLOCK, 3)
    size = DCT_BLOCK
    blocks = (pixels @ RGB_TO_YCBCR).reshape(-1, _CELLS, size, _CELLS, size, 3)
    blocks = xp.moveaxis(blocks, 2, 3).reshape(-1, _CELLS**2, size * size, 3)
    coefficients = xp.einsum("kp,mbpc->mbkc", DCT, blocks)
    energy = xp.sum(coefficients**2 * masked_dct.sensitivity(_LUMA_CUTOFF).T, axis=-1)
    alike = (np.arange(len(_ORDERS)) == _ORDER_OF[:, None]).astype(np.float32)
    return _AS_SQUARED_ERROR * (energy @ alike).reshape(len(synthesis), -1).T


def energy(xp, share: float, squared, masked, log_activity):
    """Distortion of a unit error in each latent, in the scale of squared error.

    Args:
      xp: numpy or jax.numpy.
      share: share of masked DCT error, 0..1; the rest is squared error.
      squared: (M,) squared norms of the basis functions, in pixels of [0, 1].
      masked: (n, M) from `masked_energy`.
      log_activity: (..., 4) from `log_activity`.

    Returns:
      (..., M), or (M,) where nothing is masked.
    """
    if not share:
        return squared
    masking = xp.exp(-log_activity[..., None] * _ORDERS)
    # NumPy multiplies arrays of more than two axes in small pieces.
    masked = (masking.reshape(-1, len(masked)) @ (share * masked)).reshape(*log_activity.shape[:-1], -1)
    return masked + (1 - share) * squared


def _smaller(side: int, x: jax.Array) -> jax.Array:
    """Means of blocks of side x side pixels of (B, H, W, 3) pictures."""
    batch, height, width, channels = x.shape
    return jnp.mean(x.reshape(batch, height // side, side, width // side, side, channels), (2, 4))


def _pooled(blocks: jax.Array) -> jax.Array:
    """Errors (B, h, w) as they are, but with slopes in proportion to those of their power of `_POOLING`.

    Their sum stays what it is, so that neither the whole step grows nor blocks without errors, as beyond a border, change it.
    """
    fixed = jax.lax.stop_gradient(blocks)
    weight = fixed ** (_POOLING - 1)
    total = partial(jnp.sum, axis=(1, 2), keepdims=True)
    return blocks * weight * total(fixed) / jnp.maximum(total(fixed * weight), 1e-9)


def visible_error(share: float, x: jax.Array, y: jax.Array) -> jax.Array:
    """What `LappedCodec.corrected` lowers: errors that are seen from afar count more than in training.

    The slope is steeper than that of the value where the error is large, less steep where it is small: as that of a sum of
    powers of the errors of 8x8 blocks.

    Args:
      share: share of masked DCT error, 0..1, at three resolutions; the rest is squared error.
      x: (B, H, W, 3) originals in [0, 1], H and W multiples of 16.
      y: (B, H, W, 3) what stands for them.

    Returns:
      (B,), in the scale of 255^2 * MSE.
    """
    error = (1 - share) * 255.0**2 * jnp.mean((x - y) ** 2, (1, 2, 3))
    if not share:
        return error
    for side, weight in _MASKED_WEIGHTS.items():
        blocks = masked_dct.block_errors(_smaller(side, x), _smaller(side, y - x), _LUMA_CUTOFF)
        error += share * weight * _AS_SQUARED_ERROR * jnp.mean(_pooled(blocks), (1, 2))
    return error


def _error_by_block(share: float, x: jax.Array, difference: jax.Array) -> jax.Array:
    """What `visible_error` is the mean of, in each 16x16 block: (B, H/16, W/16), a square of the difference."""
    rows, columns = x.shape[1] // BLOCK, x.shape[2] // BLOCK
    in_blocks = lambda a: jnp.mean(a.reshape(len(a), rows, a.shape[1] // rows, columns, -1), (2, 4))
    error = (1 - share) * 255.0**2 * in_blocks(jnp.mean(difference**2, -1))
    if not share:
        return error
    for side, weight in _MASKED_WEIGHTS.items():
        errors = masked_dct.block_errors(_smaller(side, x), _smaller(side, difference), _LUMA_CUTOFF)
        wide = side * DCT_BLOCK // BLOCK  # in blocks
        errors = jnp.repeat(jnp.repeat(errors, wide, 1), wide, 2)[:, :rows, :columns] if wide else in_blocks(errors)
        error += share * weight * _AS_SQUARED_ERROR * errors
    return error


def least_error_at(share: float, x: jax.Array, y: jax.Array, change: jax.Array) -> jax.Array:
    """How many times `change` must be added to y for the least `visible_error` in each block and those around it.

    Args:
      share, x, y: as in `visible_error`.
      change: (B, H, W, 3).

    Returns:
      (B, H/16, W/16). Where nothing changes, 0.
    """
    by_block = partial(_error_by_block, share, x)
    _, slope = jax.jvp(by_block, (y - x,), (change,))
    near = lambda a: jax.lax.reduce_window(a, 0.0, jax.lax.add, (1, 3, 3), (1, 1, 1), "SAME")
    return -near(slope) / jnp.maximum(2 * near(by_block(change)), 1e-9)
