"""The hyper path of the `jnd` codec: hyper-latents, and from them and decoded neighbours scale indexes and means.

Every function takes the array namespace `xp` (numpy or jax.numpy) and explicit parameters, so that the
very same code trains under jit and codes in NumPy. Arrays are (..., h, w, channels) at 1/16 resolution
unless noted.

The scale path is an integer network. Activations are integers 0..255, weights integers small enough that
no sum can reach 2^24; float32 carries such integers exactly whatever the order of summation, so that
every runtime computes the same scale indexes. One unit of the float network is ACTIVATION_UNIT.

Latents are decoded in two passes over a checkerboard: first the blocks with even row + column (the
anchors), from the hyper-latents alone; then the others, which also see their decoded neighbours (He et
al., CVPR 2021, "Checkerboard Context Model"). A pass is one call of `scale_indexes` and one of `means`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

ACTIVATION_UNIT = 16
ACTIVATION_MAX = 255
WEIGHT_MAX = 127
BIAS_MAX = 2**21
SHIFT_MAX = 20
# Largest sum of |weight| * activation that leaves room for bias and rounding below 2^24.
_SUM_MAX = 2**24 - BIAS_MAX - 2**SHIFT_MAX

SCALE_LEVELS = 64
SCALE_MIN, SCALE_MAX = 0.05, 256.0
LOG_SCALE_STEP = float(np.log(SCALE_MAX / SCALE_MIN) / (SCALE_LEVELS - 1))
Z_MAX = 127

QUALITY_MAX = 1000
NODES = 9
NODE_SPACING = QUALITY_MAX // (NODES - 1)

# round(16 * log2(1 + n)) for |symbol| n: how a decoded symbol enters the integer network.
_MAGNITUDE_LEVELS = 64
MAGNITUDE = np.round(ACTIVATION_UNIT * np.log2(1.0 + np.arange(_MAGNITUDE_LEVELS))).astype(np.float32)

# Share of the distortion's weight that rate-distortion optimised quantisation uses; chosen on validation photographs.
RDO_STRENGTH = 4.0

Params = Mapping[str, Any]


def lmbda(quality):
    """Lagrangian weight of 255^2 * MSE against bits per pixel at `quality` in 0..1000: .001 to .36, log-linear."""
    return 0.001 * 360.0 ** (quality / QUALITY_MAX)


def distortion_weight(xp, quality, log_inverse_gain, energy):
    """RDO_STRENGTH * lambda * 255^2 * MSE, in bits of an image, of a unit error in one gained latent.

    quality, log_inverse_gain, energy: (..., 1) in 0..1000, (..., M) at that quality, and (M,), the squared norm of each
    latent's basis function in pixels. Returns (..., M).
    """
    return RDO_STRENGTH * lmbda(quality) * 255.0**2 / 3 * xp.exp(2 * log_inverse_gain) * energy


def scale_table() -> np.ndarray:
    """(64,) standard deviations, log-spaced from .05 to 256 (as Balle et al., ICLR 2018, who start at .11)."""
    return scale(np, np.arange(SCALE_LEVELS))


def scale(xp, index):
    """Standard deviation at a scale index, of the shape of `index`."""
    return SCALE_MIN * xp.exp(LOG_SCALE_STEP * index)


def weight_limit(fan_in: int) -> int:
    """Largest |integer weight| with which a layer of `fan_in` inputs is exact in float32."""
    return min(WEIGHT_MAX, _SUM_MAX // (ACTIVATION_MAX * fan_in))


def anchors(xp, height: int, width: int):
    """(height, width, 1) float mask: 1 at the blocks of the first pass."""
    row, column = xp.arange(height)[:, None, None], xp.arange(width)[None, :, None]
    return ((row + column + 1) % 2).astype(xp.float32)


def _patches(xp, x):
    """3x3 neighbourhoods, edge-padded: (..., h, w, c) -> (..., h, w, 9 c)."""
    padding = [(0, 0)] * (x.ndim - 3) + [(1, 1), (1, 1), (0, 0)]
    padded = xp.pad(x, padding, mode="edge")
    h, w = x.shape[-3:-1]
    return xp.concatenate([padded[..., i : i + h, j : j + w, :] for i in range(3) for j in range(3)], axis=-1)


def _upsample(xp, x):
    """Depth to space by 2: (..., h, w, 4 c) -> (..., 2 h, 2 w, c)."""
    *lead, h, w, c = x.shape
    n = len(lead)
    x = x.reshape(*lead, h, w, 2, 2, c // 4)
    x = xp.moveaxis(x, n + 2, n + 1)
    return x.reshape(*lead, 2 * h, 2 * w, c // 4)


def _downsample(xp, x):
    """Space to depth by 2: (..., h, w, c) -> (..., h/2, w/2, 4 c)."""
    *lead, h, w, c = x.shape
    n = len(lead)
    x = x.reshape(*lead, h // 2, 2, w // 2, 2, c)
    x = xp.moveaxis(x, n + 1, n + 2)
    return x.reshape(*lead, h // 2, w // 2, 4 * c)


def _relu(xp, x):
    return xp.maximum(x, 0.01 * x)


def _layer(layer: Params, x):
    return x @ layer["weight"] + layer["bias"]


def hyper_analysis(xp, p: Params, y):
    """Real-valued hyper-latents (..., h/4, w/4, Cz) of gained latents y (..., h, w, M); h, w multiples of 4."""
    x = xp.concatenate([xp.log1p(xp.abs(y)), xp.tanh(y)], axis=-1)
    x = _downsample(xp, _relu(xp, _layer(p["reduce"], x)))
    x = _downsample(xp, _relu(xp, _layer(p["down1"], _patches(xp, x))))
    return _layer(p["down2"], _patches(xp, x))


def _integer_layer(layer: Params, x, floor: Callable):
    """(x @ weight + bias + half) >> shift, on integers carried by float32. Shift is given as 2^-shift."""
    total = x @ layer["weight"] + layer["bias"]
    return floor(total * layer["unit"] + 0.5)


def _clip(xp, x):
    return xp.clip(x, 0.0, float(ACTIVATION_MAX))


def scale_features(xp, q: Params, z, floor: Callable = np.floor):
    """Integer features of the hyper-latents: z (..., h/4, w/4, Cz) integers in +-127 -> (..., h, w, C)."""
    x = _clip(xp, _integer_layer(q["up1"], _patches(xp, z), floor))
    x = _upsample(xp, x)
    x = _clip(xp, _integer_layer(q["up2"], _patches(xp, x), floor))
    return _upsample(xp, x)


def scale_context(xp, q: Params, symbols, decoded, floor: Callable = np.floor):
    """Integer features of the decoded neighbours.

    Args:
      q: integer parameters of the scale path.
      symbols: (..., h, w, M) integer residual symbols, zero where not yet decoded.
      decoded: (..., h, w, 1) 1 where decoded, else 0.
    """
    magnitude = _magnitude(xp, symbols)
    mask = xp.broadcast_to(decoded * ACTIVATION_UNIT, (*symbols.shape[:-1], 1))
    x = xp.concatenate([magnitude, mask.astype(magnitude.dtype)], axis=-1)
    x = _clip(xp, _integer_layer(q["context1"], x, floor))
    return _clip(xp, _integer_layer(q["context2"], _patches(xp, x), floor))


def _magnitude(xp, symbols):
    table = xp.asarray(MAGNITUDE)
    level = xp.minimum(xp.abs(symbols), _MAGNITUDE_LEVELS - 1).astype(xp.int32)
    return table[level]


def scale_indexes(xp, q: Params, features, context, offset, floor: Callable = np.floor):
    """Scale-table indexes 0..63 of all M channels.

    Args:
      q: integer parameters of the scale path.
      features: (..., C) from `scale_features`.
      context: (..., C) from `scale_context`.
      offset: (M,) or broadcastable integers from `scale_offset`.
    """
    x = xp.concatenate([features, context], axis=-1)
    x = _clip(xp, _integer_layer(q["merge"], x, floor))
    x = _integer_layer(q["out"], x, floor)
    return xp.clip(x + offset, 0.0, float(SCALE_LEVELS - 1))


def scale_offset(table: np.ndarray, quality) -> np.ndarray:
    """Integer offsets of the scale index at `quality` (0..1000) from the (nodes, M) integer table.

    (M,) for an integer, (h, w, M) for (h, w) integers. Linear between nodes, rounded, in integer arithmetic.
    """
    quality = np.asarray(quality)
    node = np.minimum(quality // NODE_SPACING, NODES - 2)
    t = (quality - node * NODE_SPACING)[..., None]
    low, high = table[node].astype(np.int64), table[node + 1].astype(np.int64)
    return (2 * (low * (NODE_SPACING - t) + high * t) + NODE_SPACING) // (2 * NODE_SPACING)


def nearest_node(quality):
    """Node whose tables code z at `quality`."""
    return (quality + NODE_SPACING // 2) // NODE_SPACING


def mean_features(xp, p: Params, z):
    """Float features of the hyper-latents: z (..., h/4, w/4, Cz) -> (..., h, w, C)."""
    x = _upsample(xp, _relu(xp, _layer(p["up1"], _patches(xp, z))))
    return _upsample(xp, _relu(xp, _layer(p["up2"], _patches(xp, x))))


def mean_context(xp, p: Params, y_hat, decoded):
    """What the means take from decoded neighbours: hidden features (..., h, w, C) and a linear part (..., h, w, M).

    Args:
      p: parameters of the mean path.
      y_hat: (..., h, w, M) gained latents decoded so far, zero elsewhere.
      decoded: (..., h, w, 1) 1 where decoded, else 0.
    """
    padding = [(0, 0)] * (y_hat.ndim - 3) + [(1, 1), (1, 1), (0, 0)]
    padded = xp.pad(y_hat, padding, mode="edge")
    cross = p["cross"]
    linear = padded[..., :-2, 1:-1, :] * cross[0]
    linear += padded[..., 2:, 1:-1, :] * cross[1]
    linear += padded[..., 1:-1, :-2, :] * cross[2]
    linear += padded[..., 1:-1, 2:, :] * cross[3]
    mask = xp.broadcast_to(decoded, (*y_hat.shape[:-1], 1)).astype(y_hat.dtype)
    x = _relu(xp, _layer(p["context1"], xp.concatenate([xp.arcsinh(y_hat), mask], axis=-1)))
    return _relu(xp, _layer(p["context2"], _patches(xp, x))), linear


def means(xp, p: Params, features, context, linear):
    """Means (..., M) of the latents in the gained domain, from `mean_features` and both parts of `mean_context`."""
    x = _relu(xp, _layer(p["merge"], xp.concatenate([features, context], axis=-1)))
    return _layer(p["out"], x) + linear
