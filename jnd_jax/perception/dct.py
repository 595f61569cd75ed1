"""8x8 block DCT of batches and the tables of contrast sensitivity that perceptual distances weigh it with."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

BLOCK = 8


def dct_matrix(size: int = BLOCK) -> np.ndarray:
    """(size, size) orthonormal DCT-II: row k holds basis function k."""
    k, n = np.arange(size)[:, None], np.arange(size)
    matrix = np.sqrt(2 / size) * np.cos(np.pi * (2 * n + 1) * k / (2 * size))
    matrix[0] /= np.sqrt(2)
    return matrix


# Row (8 u + v) maps the 64 samples of a block, row by row, to coefficient (u, v).
DCT = np.kron(dct_matrix(), dct_matrix()).astype(np.float32)


def block_samples(x: jax.Array) -> jax.Array:
    """(B, H, W, C) -> (B, ceil(H/8), ceil(W/8), 64 C): each block in (row, column, C) order; a last part block repeats the border."""
    rows, columns = -x.shape[1] % BLOCK, -x.shape[2] % BLOCK
    if rows or columns:
        x = jnp.pad(x, ((0, 0), (0, rows), (0, columns), (0, 0)), mode="edge")
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // BLOCK, BLOCK, width // BLOCK, BLOCK * channels)
    return x.swapaxes(2, 3).reshape(batch, height // BLOCK, width // BLOCK, BLOCK * BLOCK * channels)


def to_blocks(x: jax.Array) -> jax.Array:
    """(B, H, W, C) -> (B, ceil(H/8), ceil(W/8), C, 64), each block row by row; a last part block repeats the border."""
    blocks = block_samples(x)
    return blocks.reshape(*blocks.shape[:-1], BLOCK * BLOCK, x.shape[-1]).swapaxes(-1, -2)


def block_dct(x: jax.Array) -> jax.Array:
    """Orthonormal 8x8 DCT: (B, H, W, C) -> (B, H/8, W/8, C, 64), coefficient (u, v) at 8 u + v, DC = 8 * mean."""
    return to_blocks(x) @ DCT.T
