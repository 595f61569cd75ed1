"""SSIMULACRA2 in JAX, differentiable (J. Sneyers, Cloudinary: github.com/cloudinary/ssimulacra2).

Six scales of XYB images. At each scale and channel, from Gaussian windows of sigma 1.5: the SSIM error, edges that the
distorted image has and the original lacks (ringing, blocks), and edges that it lost (blur), each as a mean and as a
4-norm over the image. The 108 numbers are weighted, and a curve turns their sum into a score.
"""

from __future__ import annotations

import operator
from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np

from jnd_jax.perception.arrays import gaussian, safe_power
from jnd_jax.perception.colour import linear_light

SCALES = 6
_SMALLEST = 8  # a scale with a shorter side is left out
_C2 = 0.0009
_BIAS = 0.0037930732552754493
_ABSORBANCE = np.array(
    [
        [0.30, 0.622, 0.078],
        [0.23, 0.692, 0.078],
        [0.24342268924547819, 0.20476744424496821, 0.5518098665095536],
    ]
)
_SIGMA, _RADIUS = 1.5, 5

# Weights that are not zero: (channel X Y B, scale, norm 1 or 4) -> (SSIM error, added edges, lost edges).
_WEIGHTS = np.zeros((3, SCALES, 2, 3))
_WEIGHTS.reshape(-1)[
    [
        1,
        4,
        7,
        9,
        10,
        11,
        13,
        15,
        16,
        18,
        19,
        21,
        22,
        24,
        25,
        27,
        28,
        29,
        30,
        33,
        39,
        41,
        42,
        45,
        46,
        47,
        48,
        51,
        52,
        53,
        54,
        57,
        58,
        59,
        63,
        64,
        73,
        79,
        81,
        87,
        88,
        90,
        93,
        94,
        96,
        97,
        98,
        99,
        100,
        101,
        105,
        107,
    ]
] = [
    0.0007376606707406586,
    0.0007793481682867309,
    0.0004371155730107379,
    1.1041726426657346,
    0.00066284834129271,
    0.00015231632783718752,
    0.0016406437456599754,
    1.8422455520539298,
    11.441172603757666,
    0.0007989109436015163,
    0.000176816438078653,
    1.8787594979546387,
    10.94906990605142,
    0.0007289346991508072,
    0.9677937080626833,
    0.00014003424285435884,
    0.9981766977854967,
    0.00031949755934435053,
    0.0004550992113792063,
    0.0013648766163243398,
    7.466890328078848,
    17.445833984131262,
    0.0006235601634041466,
    6.683678146179332,
    0.00037724407979611296,
    1.027889937768264,
    225.20515300849274,
    19.213238186143016,
    0.0011401524586618361,
    0.001237755635509985,
    176.39317598450694,
    24.43300999870476,
    0.28520802612117757,
    0.0004485436923833408,
    34.77906344483772,
    44.835625328877896,
    0.0008680556573291698,
    0.0005313191874358747,
    0.00016533814161379112,
    0.0004179171803251336,
    0.0017290828234722833,
    0.0020827005846636437,
    8.826982764996862,
    23.19243343998926,
    95.1080498811086,
    0.9863978034400682,
    0.9834382792465353,
    0.0012286405048278493,
    171.2667255897307,
    0.9807858872435379,
    0.0005130064588990679,
    0.00010854057858411537,
]


def _window() -> list[float]:
    return [float(t) for t in gaussian(_RADIUS, _SIGMA)]


def _blur(x: jax.Array) -> jax.Array:
    """Gaussian over axes 1 and 2: mirrored at the upper and lower border, zeros left and right."""
    height, width = x.shape[1], x.shape[2]
    x = jnp.pad(x, ((0, 0), (_RADIUS, _RADIUS), (0, 0), (0, 0)), mode="symmetric")
    x = reduce(operator.add, (w * x[:, i : i + height] for i, w in enumerate(_window())))
    x = jnp.pad(x, ((0, 0), (0, 0), (_RADIUS, _RADIUS), (0, 0)))
    return reduce(operator.add, (w * x[:, :, i : i + width] for i, w in enumerate(_window())))


def _xyb(linear: jax.Array) -> jax.Array:
    """Linear RGB to XYB, shifted and scaled to be positive."""
    mixed = jnp.cbrt(linear @ jnp.asarray(_ABSORBANCE.T, jnp.float32) + _BIAS) - np.cbrt(_BIAS)
    first, second, blue = mixed[..., 0], mixed[..., 1], mixed[..., 2]
    x, y = 0.5 * (first - second), 0.5 * (first + second)
    return jnp.stack([14.0 * x + 0.42, y + 0.01, blue - y + 0.55], -1)


def _halve(x: jax.Array) -> jax.Array:
    """2x2 means; an odd side repeats its last row or column."""
    x = jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)), mode="edge")
    return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4


def _mean_and_4_norm(x: jax.Array) -> jax.Array:
    """(B, H, W, C) of values >= 0 -> (B, C, 2), with gradient 0 where x is 0 throughout."""
    fourth = jnp.mean(x**4, (1, 2))
    return jnp.stack([jnp.mean(x, (1, 2)), safe_power(fourth, 0.25)], -1)


def _scale_errors(x: jax.Array, y: jax.Array) -> jax.Array:
    """One scale's numbers, (B, 3 channels, 2 norms, 3 kinds of error)."""
    mean_x, mean_y = _blur(x), _blur(y)
    covariance = _blur(x * y) - mean_x * mean_y
    variances = _blur(x * x) - mean_x**2 + _blur(y * y) - mean_y**2
    ssim = (1.0 - (mean_x - mean_y) ** 2) * (2.0 * covariance + _C2) / (variances + _C2)
    edges = (1.0 + jnp.abs(y - mean_y)) / (1.0 + jnp.abs(x - mean_x)) - 1.0
    kinds = (jnp.maximum(1.0 - ssim, 0.0), jnp.maximum(edges, 0.0), jnp.maximum(-edges, 0.0))
    return jnp.stack([_mean_and_4_norm(kind) for kind in kinds], -1)


def weighted_errors(x: jax.Array, y: jax.Array) -> jax.Array:
    """What `ssimulacra2_error` is the sum of, by scale and by norm over the picture (mean, 4-norm): (B, scales, 2).

    Arguments as there.
    """
    x, y = linear_light(x), linear_light(y)
    found = []
    for scale in range(SCALES):
        if min(x.shape[1:3]) < _SMALLEST:
            break
        errors = _scale_errors(_xyb(x), _xyb(y))
        found.append(jnp.einsum("bcnk,cnk->bn", errors, jnp.asarray(_WEIGHTS[:, scale], jnp.float32)))
        x, y = _halve(x), _halve(y)
    return jnp.stack(found, 1)


def ssimulacra2_error(x: jax.Array, y: jax.Array) -> jax.Array:
    """The weighted sum of all errors, before the curve that makes it a score: 0 for equal images, higher is worse.

    Near zero it grows about as the squared error does, as a distance for rate-distortion should. An image whose
    shorter side is below 256 has fewer than six scales and a smaller sum.

    Args:
        x: (B, H, W, 3) originals, sRGB in [0, 1], H and W >= 8.
        y: (B, H, W, 3) distorted images; clipped to [0, 1].

    Returns:
        (B,).
    """
    return jnp.sum(weighted_errors(x, y), (1, 2))
