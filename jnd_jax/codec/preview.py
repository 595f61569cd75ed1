"""Small previews by the linear synthesis alone, in NumPy: means over cells of pixels, without computing the pixels.

Each latent's basis function is averaged once over cells of `scale` x `scale` pixels, with its post-filtered tails in
the neighbouring blocks. A preview is then one small matrix product for each block and an overlap-add. The residual
network is left out.
"""

from __future__ import annotations

import numpy as np

from jnd_jax.codec.linear import BLOCK

SCALES = (16, 8, 4, 2)


def _tails(postfilter: np.ndarray, first: bool, last: bool) -> np.ndarray:
    """(48, 16): what 16 samples of a block add to the block before it, to itself and to the one after it.

    Args:
      postfilter: (16, 16), applied to the 16 samples around each border between two blocks.
      first, last: whether the block lies at that end of the image, whose border is not filtered.
    """
    half, before, here, after = BLOCK // 2, *(BLOCK * i for i in range(3))
    out = np.zeros((3 * BLOCK, BLOCK))
    if first:
        out[here : here + half, :half] = np.eye(half)
    else:
        out[before + half : here + half, :half] = postfilter[:, half:]
    if last:
        out[here + half : after, half:] = np.eye(half)
    else:
        out[here + half : after + half, half:] = postfilter[:, :half]
    return out


def _kernel(synthesis: np.ndarray, rows: np.ndarray, columns: np.ndarray, scale: int) -> np.ndarray:
    """(M, 3 n, 3 n, 3) cell means, n = 16 / scale, of basis functions (M, 768) and their tails."""
    mean = np.kron(np.eye(3 * BLOCK // scale), np.full((1, scale), 1 / scale))
    blocks = synthesis.reshape(-1, BLOCK, BLOCK, 3)
    return np.einsum("ap,mpqc,bq->mabc", mean @ rows, blocks, mean @ columns, optimize=True).astype(np.float32)


def kernels(synthesis: np.ndarray, postfilter: np.ndarray, scale: int) -> np.ndarray:
    """(3, 3, M, 3 n, 3 n, 3), n = 16 / scale: what a latent adds to the cells of its block and of the blocks around it.

    The first two axes are the block's place in its column and in its row: first, inner, last.

    Args:
      synthesis: (M, 768) basis functions of a block, in (row, column, RGB) order.
      postfilter: (16, 16) filter across block borders.
      scale: one of `SCALES`.
    """
    places = [_tails(postfilter, first, last) for first, last in ((True, False), (False, False), (False, True))]
    return np.stack([[_kernel(synthesis, rows, columns, scale) for columns in places] for rows in places])


def preview(y: np.ndarray, kernels: np.ndarray) -> np.ndarray:
    """Means over cells of pixels of the linear synthesis of latents.

    Args:
      y: (h, w, M) latents with their gain undone.
      kernels: from `kernels`, of M channels.

    Returns:
      (16 h / scale, 16 w / scale, 3) float32, nominally -0.5..0.5.
    """
    (h, w, channels), n = y.shape, kernels.shape[3] // 3
    out = np.zeros((h + 2, n, w + 2, n, 3), np.float32)
    spans = lambda length: ((0, 1), (1, length - 1), (length - 1, length))
    for row, (top, bottom) in enumerate(spans(h)):
        for column, (left, right) in enumerate(spans(w)):
            cells = y[top:bottom, left:right] @ kernels[row, column].reshape(channels, -1)
            cells = cells.reshape(bottom - top, right - left, 3, n, 3, n, 3)
            for i in range(3):
                for j in range(3):
                    part = cells[:, :, i, :, j].transpose(0, 2, 1, 3, 4)
                    out[top + i : bottom + i, :, left + j : right + j] += part
    return out[1:-1, :, 1:-1].reshape(h * n, w * n, 3)
