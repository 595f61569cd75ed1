"""Several metrics as one judge, in just-noticeable differences."""

from __future__ import annotations

import numpy as np

from jnd_jax.metrics import packaged, perceptual
from jnd_jax.metrics.levels import AIC_FITS, STRICT

_FUNCTIONS = {"cvvdp": perceptual.cvvdp, "ssimulacra2": packaged.ssimulacra2}


def aic_strict(reference: np.ndarray, distorted: np.ndarray) -> float:
    """JNDs on the scale `aic` by the stricter of CVVDP and SSIMULACRA2: the greater of the two predictions.

    Args:
        reference: (H, W, 3) uint8, sides of at least 8.
        distorted: (H, W, 3) uint8.

    Raises:
        JndError: the package ssimulacra2 is missing or the image is too small.
    """
    return max(AIC_FITS[name].jnds(_FUNCTIONS[name](reference, distorted)) for name in STRICT)
