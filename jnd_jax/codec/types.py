"""What every training-time codec returns."""

from __future__ import annotations

from typing import NamedTuple

import jax


class Forward(NamedTuple):
    """One pass through a codec, as training and evaluation see it. The rate of an image is bits_y + bits_z.

    Attributes:
        x_hat: (B, H, W, 3) reconstruction, nominally in [0, 1], not clipped.
        bits_y: (B,) estimated bits of the latents of the whole image.
        bits_z: (B,) estimated bits of the hyper-latents of the whole image.
        bits_map: (B, h, w) estimated bits of the latents by position, for display; None: the codec has no such map.
    """

    x_hat: jax.Array
    bits_y: jax.Array
    bits_z: jax.Array
    bits_map: jax.Array | None = None
