"""Distances between batches of images, differentiable in the second: what a loss weighs against the rate.

Each is a function (x, y) -> (B,) of originals x and reconstructions y, both (B, H, W, 3), x in [0, 1] and y around
it; 0 for equal images. Gradients are finite everywhere, at equal images included.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from functools import reduce

import jax
import jax.numpy as jnp

from jnd_jax.errors import JndError
from jnd_jax.imports import imported, is_import_path
from jnd_jax.perception import cvvdp, masked_dct
from jnd_jax.perception.hvs import hvs_error, hvs_m_error
from jnd_jax.perception.msssim import ms_ssim_batch
from jnd_jax.perception.ssimulacra2 import ssimulacra2_error
from jnd_jax.perception.watson import watson_error

Distance = Callable[[jax.Array, jax.Array], jax.Array]


def squared_error(x: jax.Array, y: jax.Array) -> jax.Array:
    """255^2 * MSE over all RGB samples: CompressAI's convention."""
    return 255.0**2 * jnp.mean((x - y) ** 2, (1, 2, 3))


def structural_error(x: jax.Array, y: jax.Array) -> jax.Array:
    """1 - MS-SSIM; see `jnd_jax.perception.msssim` for what it does with small images."""
    return 1.0 - ms_ssim_batch(x, y)


# Name -> (distance, the factor that gives it the size of 255^2 * MSE). The factors are the mean ratio over crops of
# photos, coded by JPEG 2000 at 30 to 38 dB (bench/calibrate_distances.py): so lambda keeps its meaning.
DISTANCES: dict[str, tuple[Distance, float]] = {
    "mse": (squared_error, 1.0),
    "ms-ssim": (structural_error, 1975.0),
    "ssimulacra2": (ssimulacra2_error, 8.0),
    "psnr-hvs": (hvs_error, 8.7e4),
    "psnr-hvs-m": (hvs_m_error, 2.5e5),
    "watson": (watson_error, 0.16),
    "masked-dct": (masked_dct.masked_dct_error, masked_dct.AS_SQUARED_ERROR),
    "cvvdp": (cvvdp.cvvdp_error, cvvdp.AS_SQUARED_ERROR),
}


def make_distance(spec: str | Mapping[str, float]) -> Distance:
    """The distance of a name in `DISTANCES`, or the weighted sum of several, scaled to the size of 255^2 * MSE.

    Args:
        spec: "mse", or {"masked-dct": 0.9, "mse": 0.1}; a name may be the import path of an own function (x, y) -> (B,),
            "package.module:function", which is taken as it is.

    Raises:
        JndError: a name that is not in `DISTANCES`, or nothing at an import path.
    """
    weights = {spec: 1.0} if isinstance(spec, str) else dict(spec)
    known = DISTANCES | {name: (imported(name), 1.0) for name in weights if is_import_path(name)}
    unknown = [name for name in weights if name not in known]
    if unknown or not weights:
        raise JndError(f"No distance is named {unknown}: choose from {', '.join(DISTANCES)}.")
    parts = [(w * known[name][1], known[name][0]) for name, w in weights.items()]
    return lambda x, y: reduce(operator.add, (factor * distance(x, y) for factor, distance in parts))
