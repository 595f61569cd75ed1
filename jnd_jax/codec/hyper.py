"""The hyper path of the lapped codec: hyper-latents, and from them and decoded latents scale indexes and means.

Every function takes the array namespace `xp` (numpy or jax.numpy) and explicit parameters, so that the very same code
trains under jit and codes in NumPy. Arrays are (..., h, w, channels) at 1/16 resolution unless noted.

**Gained latents** are latents times the gain of their channel at the quality asked for: the unit in which they are
rounded, coded and predicted.

**Passes.** The channels form groups, the strongest first; each group is coded in two passes over a checkerboard: the
anchors (blocks with even row + column), then the other blocks. A pass sees the hyper-latents, all groups before its
own and, in its second half, the anchors of its own group (He et al., "Checkerboard Context Model", CVPR 2021; "ELIC",
CVPR 2022). Arrays of one pass are halves: (..., h/2, w/2, 2, channels), see `halves`.

**The scale path is an integer network.** Activations are integers 0..255, weights integers so small that no sum can
reach 2^24; float32 carries such integers exactly whatever the order of summation, so every runtime computes the same
scale indexes. One unit of the float network is ACTIVATION_UNIT. The means are floats: they move pixels, never bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

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

# Multiplier on the distortion term in rate-distortion optimised quantisation, tuned on validation photographs.
RDO_DISTORTION_FACTOR = 4.0

Params = Mapping[str, Any]


def lmbda(quality):
    """Lagrangian weight of 255^2 * MSE against bits per pixel at `quality` in 0..1000: .001 to .36, log-linear."""
    return 0.001 * 360.0 ** (quality / QUALITY_MAX)


def distortion_weight(xp, quality, log_inverse_gain, energy):
    """Weight, in bits, of a squared error in one gained latent in rate-distortion optimised quantisation.

    RDO_DISTORTION_FACTOR * lambda * 255^2 * (mean squared error, or what stands for it, of an error of 1).

    Args:
      xp: numpy or jax.numpy.
      quality: (..., 1) in 0..1000.
      log_inverse_gain: (..., M), at that quality.
      energy: (..., M) squared norm of each latent's basis function in pixels of [0, 1], or `distortion.energy`.

    Returns:
      (..., M).
    """
    return RDO_DISTORTION_FACTOR * lmbda(quality) * 255.0**2 / 3 * xp.exp(2 * log_inverse_gain) * energy


def scale_table() -> np.ndarray:
    """(64,) standard deviations, log-spaced from .05 to 256 (as Balle et al., ICLR 2018, who start at .11)."""
    return scale(np, np.arange(SCALE_LEVELS))


def scale(xp, index):
    """Standard deviation at a scale index, of the shape of `index`."""
    return SCALE_MIN * xp.exp(LOG_SCALE_STEP * index)


def weight_limit(fan_in: int) -> int:
    """Largest |integer weight| with which a layer of `fan_in` inputs is exact in float32."""
    return min(WEIGHT_MAX, _SUM_MAX // (ACTIVATION_MAX * fan_in))


def halves(xp, x):
    """(anchors, others) of x (..., h, w, c), h and w even: each (..., h/2, w/2, 2, c).

    A cell of 2x2 blocks has the anchors (0, 0) and (1, 1) and the others (0, 1) and (1, 0), in that order.
    """
    at = lambda row, column: x[..., row::2, column::2, :]
    return xp.stack([at(0, 0), at(1, 1)], axis=-2), xp.stack([at(0, 1), at(1, 0)], axis=-2)


def interleave(xp, anchors, others):
    """(..., h, w, c) of both halves: the inverse of `halves`."""
    top = xp.stack([anchors[..., 0, :], others[..., 0, :]], axis=-2)
    bottom = xp.stack([others[..., 1, :], anchors[..., 1, :]], axis=-2)
    x = xp.stack([top, bottom], axis=-4)
    *lead, h, _, w, _, c = x.shape
    return x.reshape(*lead, 2 * h, 2 * w, c)


def _patches(xp, x):
    """3x3 neighbourhoods, edge-padded: (..., h, w, c) -> (..., h, w, 9 c)."""
    padding = [(0, 0)] * (x.ndim - 3) + [(1, 1), (1, 1), (0, 0)]
    padded = xp.pad(x, padding, mode="edge")
    h, w = x.shape[-3:-1]
    return xp.concatenate([padded[..., i : i + h, j : j + w, :] for i in range(3) for j in range(3)], axis=-1)


def neighbours(xp, anchors):
    """The anchors above, below, left and right of each other block, 0 beyond the border.

    Args:
      xp: numpy or jax.numpy.
      anchors: (..., h/2, w/2, 2, c).

    Returns:
      Four arrays (..., h/2, w/2, 2, c), for the other blocks in the order of `halves`.
    """
    even, odd = anchors[..., 0, :], anchors[..., 1, :]
    lead = [(0, 0)] * (even.ndim - 3)
    h, w = even.shape[-3:-1]
    from_row = lambda x, by: xp.pad(x, [*lead, (1, 1), (0, 0), (0, 0)])[..., 1 + by : 1 + by + h, :, :]
    from_column = lambda x, by: xp.pad(x, [*lead, (0, 0), (1, 1), (0, 0)])[..., :, 1 + by : 1 + by + w, :]
    pair = lambda first, second: xp.stack([first, second], axis=-2)
    return (
        pair(from_row(odd, -1), even),
        pair(odd, from_row(even, 1)),
        pair(even, from_column(odd, -1)),
        pair(from_column(even, 1), odd),
    )


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
    # As one product of matrices: NumPy would make many small ones of more than two axes.
    flat = x.reshape(-1, x.shape[-1]) @ layer["weight"] + layer["bias"]
    return flat.reshape(*x.shape[:-1], -1)


def hyper_analysis(xp, p: Params, y):
    """Real-valued hyper-latents (..., h/4, w/4, Cz) of gained latents y (..., h, w, M); h, w multiples of 4."""
    x = xp.concatenate([xp.log1p(xp.abs(y)), xp.tanh(y)], axis=-1)
    x = _downsample(xp, _relu(xp, _layer(p["reduce"], x)))
    x = _downsample(xp, _relu(xp, _layer(p["down1"], _patches(xp, x))))
    return _layer(p["down2"], _patches(xp, x))


def _integer_layer(layer: Params, x, floor: Callable):
    """(x @ weight + bias + half) >> shift, on integers carried by float32. Shift is given as 2^-shift."""
    return floor(_layer(layer, x) * layer["unit"] + 0.5)


def _clip(xp, x):
    return xp.clip(x, 0.0, float(ACTIVATION_MAX))


def scale_features(xp, q: Params, z, floor: Callable = np.floor):
    """Integer features of the hyper-latents: z (..., h/4, w/4, Cz) integers in +-127 -> (..., h, w, C)."""
    x = _clip(xp, _integer_layer(q["up1"], _patches(xp, z), floor))
    x = _upsample(xp, x)
    x = _clip(xp, _integer_layer(q["up2"], _patches(xp, x), floor))
    return _upsample(xp, x)


def _magnitude(xp, symbols):
    table = xp.asarray(MAGNITUDE)
    level = xp.minimum(xp.abs(symbols), _MAGNITUDE_LEVELS - 1).astype(xp.int32)
    return table[level]


def scale_lower(xp, q: Params, magnitudes, floor: Callable = np.floor):
    """Integer features of the groups before one.

    Args:
      xp: numpy or jax.numpy.
      q: integer parameters of the group's scale path.
      magnitudes: (..., h, w, channels before the group's) from `_magnitude`, of the symbols.
      floor: numpy.floor, or one with a straight-through gradient.

    Returns:
      (..., h, w, E).
    """
    x = _clip(xp, _integer_layer(q["embed"], magnitudes, floor))
    return _clip(xp, _integer_layer(q["context"], _patches(xp, x), floor))


def scale_indexes(xp, q: Params, features, level, lower, own, offset, floor: Callable = np.floor):
    """Scale-table indexes 0..63 of one half of a group.

    Args:
      xp: numpy or jax.numpy.
      q: integer parameters of the group's scale path.
      features: (..., 2, C), of the hyper-latents.
      level: `quality_level`, broadcastable to (..., 2, 1).
      lower: (..., 2, E) from `scale_lower`; None in the first group.
      own: (..., 2, c) integer symbols of the group's anchors; None for the anchors themselves.
      offset: integers from `scale_offset`, broadcastable to (..., 2, c).
      floor: numpy.floor, or one with a straight-through gradient.

    Returns:
      (..., 2, c).
    """
    near = xp.zeros((*features.shape[:-1], q["own2"]["bias"].shape[-1]), features.dtype)
    if own is not None:
        x = _clip(xp, _integer_layer(q["own1"], _magnitude(xp, own), floor))
        near = _clip(xp, _integer_layer(q["own2"], xp.concatenate(neighbours(xp, x), axis=-1), floor))
    level = xp.broadcast_to(level, (*features.shape[:-1], 1))
    inputs = [features, level, *([] if lower is None else [lower]), near]
    x = _clip(xp, _integer_layer(q["merge"], xp.concatenate(inputs, axis=-1), floor))
    x = _clip(xp, x + _integer_layer(q["mid"], x, floor))
    x = _integer_layer(q["out"], x, floor)
    return xp.clip(x + offset, 0.0, float(SCALE_LEVELS - 1))


def quality_level(quality):
    """How a quality in 0..1000 enters the scale path: an integer 0..250, for integers of any shape."""
    return quality // 4


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


def mean_lower(xp, p: Params, compressed):
    """Float features of the groups before one.

    Args:
      xp: numpy or jax.numpy.
      p: parameters of the group's mean path.
      compressed: (..., h, w, channels before the group's) arcsinh of the gained latents.

    Returns:
      (..., h, w, E).
    """
    return _relu(xp, _layer(p["context"], _patches(xp, _relu(xp, _layer(p["embed"], compressed)))))


def means(xp, p: Params, features, lower, own):
    """Means of the gained latents of one half of a group.

    Args:
      xp: numpy or jax.numpy.
      p: parameters of the group's mean path.
      features: (..., 2, C), of the hyper-latents.
      lower: (..., 2, E) from `mean_lower`; None in the first group.
      own: (..., 2, c) gained latents of the group's anchors; None for the anchors themselves.

    Returns:
      (..., 2, c).
    """
    near, linear = xp.zeros((*features.shape[:-1], p["own2"]["bias"].shape[-1]), features.dtype), 0.0
    if own is not None:
        x = _relu(xp, _layer(p["own1"], xp.arcsinh(own)))
        near = _relu(xp, _layer(p["own2"], xp.concatenate(neighbours(xp, x), axis=-1)))
        linear = sum(y * weight for y, weight in zip(neighbours(xp, own), p["cross"]))
    inputs = [features, *([] if lower is None else [lower]), near]
    x = _relu(xp, _layer(p["merge"], xp.concatenate(inputs, axis=-1)))
    x = x + _relu(xp, _layer(p["mid"], x))
    return _layer(p["out"], x) + linear


class Coded(NamedTuple):
    """What `passes` gives, each (..., h, w, M).

    Attributes:
      symbols: integer residual symbols.
      y_hat: gained latents, symbols + means.
      means: float.
      indexes: scale indexes, integers carried by float32.
    """

    symbols: Any
    y_hat: Any
    means: Any
    indexes: Any


def passes(xp, q: Params, p: Params, z, level, offset, code: Callable, floor: Callable = np.floor) -> Coded:
    """Runs all passes over the latents, in the order in which they are coded.

    Args:
      xp: numpy or jax.numpy.
      q: integer parameters of the scale path; those of its groups in "groups".
      p: parameters of the mean path, likewise.
      z: (..., h/4, w/4, Cz) integer hyper-latents.
      level: `quality_level`, (..., h, w, 1) or (..., 1, 1, 1).
      offset: `scale_offset`, (..., h, w, M) or (..., 1, 1, M).
      code: (channels, half, scale indexes, means) -> symbols: codes or decodes one pass. `channels` is a slice, `half` 0
        for the anchors and 1 for the other blocks; arrays are halves of those channels.
      floor: numpy.floor, or one with a straight-through gradient.
    """
    split = lambda x: (x[..., None, :],) * 2 if x.shape[-3] == 1 else halves(xp, x)
    of_scale, of_mean = halves(xp, scale_features(xp, q, z, floor)), halves(xp, mean_features(xp, p, z))
    level, offset = split(level), split(offset)
    done: list[Coded] = []
    magnitudes, compressed = [], []
    for channels, scale_group, mean_group in zip(group_channels(p), q["groups"], p["groups"]):
        lower_scale = lower_mean = None, None
        if done:
            magnitudes.append(_magnitude(xp, done[-1].symbols))
            compressed.append(xp.arcsinh(done[-1].y_hat))
            lower_scale = halves(xp, scale_lower(xp, scale_group, _joined(xp, magnitudes), floor))
            lower_mean = halves(xp, mean_lower(xp, mean_group, _joined(xp, compressed)))
        coded: list[Coded] = []
        for half in (0, 1):
            own = coded[0] if coded else Coded(None, None, None, None)
            index = scale_indexes(
                xp,
                scale_group,
                of_scale[half],
                level[half],
                lower_scale[half],
                own.symbols,
                offset[half][..., channels],
                floor,
            )
            mean = means(xp, mean_group, of_mean[half], lower_mean[half], own.y_hat)
            symbols = code(channels, half, index, mean)
            coded.append(Coded(symbols, symbols + mean, mean, index))
        done.append(Coded(*(interleave(xp, anchors, others) for anchors, others in zip(*coded))))
    return Coded(*(_joined(xp, parts) for parts in zip(*done)))


def gained_latents(xp, p: Params, z, symbols):
    """Gained latents (..., h, w, M) of all symbols, once they are known: those of `passes`, by the mean path alone."""
    features = halves(xp, mean_features(xp, p, z))
    done: list[Any] = []
    compressed = []
    for channels, group in zip(group_channels(p), p["groups"]):
        lower = None, None
        if done:
            compressed.append(xp.arcsinh(done[-1]))
            lower = halves(xp, mean_lower(xp, group, _joined(xp, compressed)))
        anchors, others = halves(xp, symbols[..., channels])
        anchors = anchors + means(xp, group, features[0], lower[0], None)
        others = others + means(xp, group, features[1], lower[1], anchors)
        done.append(interleave(xp, anchors, others))
    return _joined(xp, done)


def group_channels(p: Params) -> list[slice]:
    """The channels of each group, as slices, from the parameters of the mean path."""
    ends = np.cumsum([0, *(group["out"]["bias"].shape[-1] for group in p["groups"])]).tolist()
    return [slice(start, stop) for start, stop in zip(ends, ends[1:])]


def _joined(xp, groups):
    return xp.concatenate(groups, axis=-1)
