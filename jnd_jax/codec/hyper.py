"""The hyper path of the lapped codec: hyper-latents, then scale indexes and means from them and decoded latents.

Every function takes the array namespace `xp` (numpy or jax.numpy) and explicit parameters, so that the very same code
trains under jit and codes in NumPy. Arrays are (..., h, w, channels) at 1/16 resolution unless noted.

**Gained latents** are latents times the gain of their channel at the quality asked for. They are rounded, coded and
predicted in this unit.

**Passes.** The channels form groups, the strongest first. Each group is coded in two passes over a checkerboard: first
the anchors (blocks with even row + column), then the other blocks. Each pass sees the hyper-latents and all groups
before its own. A group's second pass also sees the group's anchors (He et al., "Checkerboard Context Model", CVPR 2021;
"ELIC", CVPR 2022). The means of the first group's anchors also follow those of the row above, see `code_from_above`. The
arrays of one pass are halves: (..., h/2, w/2, 2, channels), see `halves`.

**The scale path is an integer network.** Activations are integers 0..255. Weights are integers so small that no sum can
reach 2^24. float32 carries such integers exactly in any order of summation, so every runtime computes the same scale
indexes. An activation of 1 in the float network is ACTIVATION_UNIT here. The means are floats: they move pixels, never
bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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

# round(16 * log2(1 + n)) for |symbol| n: the input of the integer network for a decoded symbol.
_MAGNITUDE_LEVELS = 64
MAGNITUDE = np.round(ACTIVATION_UNIT * np.log2(1.0 + np.arange(_MAGNITUDE_LEVELS))).astype(np.float32)

# Multiplier on the distortion term in rate-distortion optimised quantisation, and the quality beyond which it falls, by half
# each so many steps of quality. Tuned on validation photographs.
RDO_DISTORTION_FACTOR = 4.0
_RDO_FALLS_FROM, _RDO_HALVES_EACH = 100, 500

Params = Mapping[str, Any]


def lmbda(quality):
    """Lagrangian weight of 255^2 * MSE against bits per pixel at `quality` in 0..1000: .001 to .36, log-linear."""
    return 0.001 * 360.0 ** (quality / QUALITY_MAX)


def distortion_weight(xp, quality, log_inverse_gain, energy):
    """Weight, in bits, of a squared error in one gained latent in rate-distortion optimised quantisation.

    f * lambda * 255^2 * d, where d is the mean squared error in pixels of an error of 1 in that latent, or what stands
    for it (see `energy`). f is RDO_DISTORTION_FACTOR, and less at high qualities, where more symbols may move to zero.

    Args:
      xp: numpy or jax.numpy.
      quality: (..., 1) in 0..1000.
      log_inverse_gain: (..., M), at that quality.
      energy: (..., M) squared norm of each latent's basis function in pixels of [0, 1], or `distortion.energy`.

    Returns:
      (..., M).
    """
    factor = RDO_DISTORTION_FACTOR * xp.exp2(-xp.maximum(quality - _RDO_FALLS_FROM, 0) / _RDO_HALVES_EACH)
    return factor * lmbda(quality) * 255.0**2 / 3 * xp.exp(2 * log_inverse_gain) * energy


def scale_table() -> np.ndarray:
    """(64,) standard deviations, log-spaced from .05 to 256 (as Ballé et al., ICLR 2018, who start at .11)."""
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
    if xp is np:  # One copy in place of three.
        *lead, h, w, _, c = anchors.shape
        x = np.empty((*lead, 2 * h, 2 * w, c), anchors.dtype)
        for i, j, half in ((0, 0, anchors), (0, 1, others), (1, 0, others), (1, 1, anchors)):
            x[..., i::2, j::2, :] = half[..., i, :]
        return x
    top = xp.stack([anchors[..., 0, :], others[..., 0, :]], axis=-2)
    bottom = xp.stack([others[..., 1, :], anchors[..., 1, :]], axis=-2)
    x = xp.stack([top, bottom], axis=-4)
    *lead, h, _, w, _, c = x.shape
    return x.reshape(*lead, 2 * h, 2 * w, c)


def _in_place(xp, function: Callable, x, *others):
    """function(x, *others). NumPy overwrites x: new memory costs more than the arithmetic."""
    return function(x, *others, out=x) if xp is np else function(x, *others)


def _product(x, weight):
    # One product of matrices: with more than two axes NumPy would compute many small products.
    return (x.reshape(-1, x.shape[-1]) @ weight).reshape(*x.shape[:-1], -1)


def joint_layer(layer: Params, inputs):
    """A linear layer on the concatenation of inputs (..., channels), computed without concatenating them.

    Inputs after the first are broadcast. Trailing inputs may be left out if they are zero.
    """
    total, end = 0.0, 0
    for x in inputs:
        start, end = end, end + x.shape[-1]
        product = _product(x, layer["weight"][start:end])
        if start:
            total += product
        else:
            total = product
    total += layer["bias"]
    return total


def _layer(layer: Params, x):
    return joint_layer(layer, [x])


def _convolution(xp, layer: Params, x):
    """3x3 convolution, edge-padded: (..., h, w, c) -> (..., h, w, features); weights by (row, column, c)."""
    columns = _columns(xp, x)
    return joint_layer(layer, [columns[..., i : i + x.shape[-3], :, :] for i in range(3)])


def _columns(xp, x):
    """(..., h + 2, w, 3 c): channels of the left neighbour, of x itself and of the right one; x is edge-padded."""
    if xp is np:
        *lead, h, w, c = x.shape
        columns = np.empty((*lead, h + 2, w, 3, c), x.dtype)
        rows = columns[..., 1:-1, :, :, :]
        rows[..., 1:, 0, :], rows[..., 0, 0, :] = x[..., :-1, :], x[..., 0, :]
        rows[..., 1, :] = x
        rows[..., :-1, 2, :], rows[..., -1, 2, :] = x[..., 1:, :], x[..., -1, :]
        columns[..., 0, :, :, :], columns[..., -1, :, :, :] = rows[..., 0, :, :, :], rows[..., -1, :, :, :]
        return columns.reshape(*lead, h + 2, w, 3 * c)
    padded = xp.pad(x, [(0, 0)] * (x.ndim - 3) + [(1, 1), (1, 1), (0, 0)], mode="edge")
    return xp.concatenate([padded[..., j : j + x.shape[-2], :] for j in range(3)], axis=-1)


def neighbours(xp, anchors):
    """The four anchors around each block that is no anchor: above, below, left, right; 0 beyond the border.

    Args:
      xp: numpy or jax.numpy.
      anchors: (..., h/2, w/2, 2, c).

    Returns:
      (..., h/2, w/2, 2, 4, c), for the blocks that are no anchors, in the order of `halves`.
    """
    if xp is np:
        around = np.zeros((*anchors.shape[:-1], 4, anchors.shape[-1]), anchors.dtype)
        for which in range(4):
            _set_neighbour(around[..., which, :], anchors, which)
        return around
    even, odd = anchors[..., 0, :], anchors[..., 1, :]
    row, column = xp.zeros_like(even[..., :1, :, :]), xp.zeros_like(even[..., :1, :])
    above = xp.concatenate([row, odd[..., :-1, :, :]], axis=-3)
    below = xp.concatenate([even[..., 1:, :, :], row], axis=-3)
    left = xp.concatenate([column, odd[..., :-1, :]], axis=-2)
    right = xp.concatenate([even[..., 1:, :], column], axis=-2)
    stack = lambda parts, axis: xp.stack(parts, axis=axis)
    return stack([stack([above, odd, even, right], -2), stack([even, below, left, odd], -2)], -3)


def _set_neighbour(near, anchors, which: int):
    """Sets `near`, zeros of the shape of NumPy's `anchors`, to the neighbours of that number, and returns it."""
    even, odd, first, second = anchors[..., 0, :], anchors[..., 1, :], near[..., 0, :], near[..., 1, :]
    if which == 0:
        first[..., 1:, :, :], second[...] = odd[..., :-1, :, :], even
    elif which == 1:
        first[...], second[..., :-1, :, :] = odd, even[..., 1:, :, :]
    elif which == 2:
        first[...], second[..., 1:, :] = even, odd[..., :-1, :]
    else:
        first[..., :-1, :], second[...] = even[..., 1:, :], odd
    return near


def _each_neighbour(xp, anchors):
    """The four (..., h/2, w/2, 2, c) of `neighbours`, one after the other: in NumPy only one is in memory."""
    if xp is np:
        return (_set_neighbour(np.zeros_like(anchors), anchors, which) for which in range(4))
    around = neighbours(xp, anchors)
    return (around[..., which, :] for which in range(4))


def _flat(near):
    """(..., 4, c) from `neighbours` -> (..., 4 c)."""
    return near.reshape(*near.shape[:-2], -1)


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
    return _in_place(xp, xp.maximum, x, 0.01 * x)


def _log_magnitude(xp, y):
    """log(1 + |y|)."""
    return _in_place(xp, xp.log, _in_place(xp, xp.add, xp.abs(y), 1.0))


def round_hyper_latents(xp, z):
    """Hyper-latents of any shape as files hold them: integers within +-Z_MAX."""
    return xp.clip(xp.round(z), -Z_MAX, Z_MAX)


def hyper_analysis(xp, p: Params, y):
    """Real-valued hyper-latents (..., h/4, w/4, Cz) of gained latents y (..., h, w, M); h, w multiples of 4."""
    return hyper_analysis_of_features(xp, p, block_features(xp, p, y))


def block_features(xp, p: Params, y):
    """The first layer of `hyper_analysis`, which sees each block by itself: gained latents (..., M) -> (..., C)."""
    return _relu(xp, joint_layer(p["reduce"], [_log_magnitude(xp, y), xp.tanh(y)]))


def hyper_analysis_of_features(xp, p: Params, x):
    """The other layers of `hyper_analysis`: `block_features` (..., h, w, C) -> (..., h/4, w/4, Cz)."""
    x = _relu(xp, _convolution(xp, p["down1"], _downsample(xp, x)))
    return _convolution(xp, p["down2"], _downsample(xp, x))


def folded(path: Params) -> dict[str, Any]:
    """The integer scale path with each layer's shift in its weights: floor(x @ weight + bias), still exact.

    Args:
      path: layers {"weight", "bias", "unit"} by name, and under "groups" the layers of each group. Weights and biases
        are integers carried by float32; unit = 2^-shift. A layer stands for
        (x @ weight + bias + 2^(shift - 1)) >> shift.
    """
    fold = lambda layer: {
        "weight": layer["weight"] * layer["unit"],
        "bias": layer["bias"] * layer["unit"] + np.float32(0.5),
    }
    return {name: [folded(group) for group in part] if name == "groups" else fold(part) for name, part in path.items()}


def integers(xp, x, floor: Callable):
    """Activations 0..255 of the integer network, from a layer's sums."""
    return _in_place(xp, xp.clip, _in_place(xp, floor, x), 0.0, float(ACTIVATION_MAX))


def scale_features(xp, q: Params, z, floor: Callable = np.floor):
    """Integer features of the hyper-latents: z (..., h/4, w/4, Cz) integers in +-127 -> (..., h, w, C)."""
    x = _upsample(xp, integers(xp, _convolution(xp, q["up1"], z), floor))
    return _upsample(xp, integers(xp, _convolution(xp, q["up2"], x), floor))


def magnitude(xp, symbols):
    """The scale path's inputs for symbols of any type: integers 0..255, float32."""
    return xp.take(xp.asarray(MAGNITUDE), xp.abs(symbols).astype(xp.int32), mode="clip")


def scale_lower(xp, q: Params, magnitudes, floor: Callable = np.floor):
    """Integer features of all groups before a group, for its scale path.

    Args:
      xp: numpy or jax.numpy.
      q: integer parameters of the group's scale path.
      magnitudes: both halves (..., 2, channels before the group's) of the symbols' `magnitude`.
      floor: numpy.floor, or one with a straight-through gradient.

    Returns:
      Halves (..., 2, E).
    """
    x = interleave(xp, *(integers(xp, _layer(q["embed"], half), floor) for half in magnitudes))
    return halves(xp, integers(xp, _convolution(xp, q["context"], x), floor))


def scale_near(xp, q: Params, own, floor: Callable = np.floor):
    """Integer features of a group's anchors, at the blocks that are no anchors.

    Args:
      xp: numpy or jax.numpy.
      q: integer parameters of the group's scale path.
      own: (..., h/2, w/2, 2, c) `magnitude` of the anchors' symbols.
      floor: numpy.floor, or one with a straight-through gradient.

    Returns:
      (..., h/2, w/2, 2, O).
    """
    x = integers(xp, _layer(q["own1"], own), floor)
    return integers(xp, _layer(q["own2"], _flat(neighbours(xp, x))), floor)


def scale_indexes(xp, q: Params, features, level, lower, near, offset, floor: Callable = np.floor):
    """Scale-table indexes 0..63 of one half of a group.

    Args:
      xp: numpy or jax.numpy.
      q: integer parameters of the group's scale path.
      features: (..., 2, C) features of the hyper-latents.
      level: `quality_level`, broadcastable to (..., 2, 1).
      lower: (..., 2, E) from `scale_lower`; None in the first group.
      near: (..., 2, O) from `scale_near`; None for the anchors.
      offset: integers from `scale_offset`, broadcastable to (..., 2, c).
      floor: numpy.floor, or one with a straight-through gradient.

    Returns:
      (..., 2, c); NumPy's are uint8.
    """
    inputs = [x for x in (features, level, lower, near) if x is not None]
    x = integers(xp, joint_layer(q["merge"], inputs), floor)
    x += _in_place(xp, floor, _layer(q["mid"], x))
    x = _in_place(xp, xp.clip, x, 0.0, float(ACTIVATION_MAX))
    index = _in_place(xp, floor, _layer(q["out"], x))
    index += offset
    index = _in_place(xp, xp.clip, index, 0.0, float(SCALE_LEVELS - 1))
    return index.astype(np.uint8) if xp is np else index


def quality_level(quality):
    """The scale path's input for a quality in 0..1000: an integer 0..250. Takes integers of any shape."""
    return quality // 4


def scale_offset(table: np.ndarray, quality) -> np.ndarray:
    """Integer offsets of the scale index at `quality` (0..1000) from the (nodes, M) integer table.

    Linear between nodes, rounded, in integer arithmetic. Gives (M,) for one quality, (h, w, M) for (h, w) of them.
    """
    quality = np.asarray(quality)
    node = np.minimum(quality // NODE_SPACING, NODES - 2)
    t = (quality - node * NODE_SPACING)[..., None]
    low, high = table[node].astype(np.int64), table[node + 1].astype(np.int64)
    return (2 * (low * (NODE_SPACING - t) + high * t) + NODE_SPACING) // (2 * NODE_SPACING)


def nearest_node(quality):
    """Node nearest to `quality`; half-way, the higher one."""
    return (quality + NODE_SPACING // 2) // NODE_SPACING


def mean_features(xp, p: Params, z):
    """Float features of the hyper-latents: z (..., h/4, w/4, Cz) -> (..., h, w, C)."""
    x = _upsample(xp, _relu(xp, _convolution(xp, p["up1"], z)))
    return _upsample(xp, _relu(xp, _convolution(xp, p["up2"], x)))


def compress(xp, y):
    """arcsinh of gained latents. NumPy's own arcsinh takes eight times as long as this form."""
    if xp is not np:
        return xp.arcsinh(y)
    magnitude = np.abs(y)
    x = magnitude * magnitude
    x += 1.0
    np.sqrt(x, out=x)
    x += magnitude
    return np.copysign(np.log(x, out=x), y, out=x)


def mean_lower(xp, p: Params, compressed):
    """Float features of all groups before a group, for its mean path.

    Args:
      xp: numpy or jax.numpy.
      p: parameters of the group's mean path.
      compressed: both halves (..., 2, channels before the group's) of the gained latents, from `compress`.

    Returns:
      Halves (..., 2, E).
    """
    x = interleave(xp, *(_relu(xp, _layer(p["embed"], half)) for half in compressed))
    return halves(xp, _relu(xp, _convolution(xp, p["context"], x)))


def mean_near(xp, p: Params, own, compressed):
    """Float features of a group's anchors, at the blocks that are no anchors, and what they add to the means there.

    Args:
      xp: numpy or jax.numpy.
      p: parameters of the group's mean path.
      own: (..., h/2, w/2, 2, c) gained latents of the anchors.
      compressed: (..., h/2, w/2, 2, c), `compress` of `own`.

    Returns:
      Features (..., h/2, w/2, 2, O), and the addition to the means (..., h/2, w/2, 2, c).
    """
    x = _relu(xp, _layer(p["own1"], compressed))
    around = zip(_each_neighbour(xp, own), p["cross"])
    near, share = next(around)
    linear = near * share
    for near, share in around:
        linear += near * share
    return _relu(xp, _layer(p["own2"], _flat(neighbours(xp, x)))), linear


def means(xp, p: Params, features, lower, near, linear):
    """Means of the gained latents of one half of a group.

    Args:
      xp: numpy or jax.numpy.
      p: parameters of the group's mean path.
      features: (..., 2, C) features of the hyper-latents.
      lower: (..., 2, E) from `mean_lower`; None in the first group.
      near, linear: from `mean_near`; None for the anchors.

    Returns:
      (..., 2, c).
    """
    x = _relu(xp, joint_layer(p["merge"], [x for x in (features, lower, near) if x is not None]))
    x += _relu(xp, _layer(p["mid"], x))
    mean = _layer(p["out"], x)
    if linear is not None:
        mean += linear
    return mean


def shares_from_above(xp, above):
    """(2, c) parameters as shares for `code_from_above`, at most 1 in sum: rounding errors must not grow from row to row."""
    return above / xp.maximum(xp.sum(xp.abs(above), axis=0), 1)


def code_from_above(xp, above, code: Callable, start, mean, *operands):
    """Codes a group's anchors row after row: each mean also knows how far the means of the row above it were off.

    Hyper-latents tell little of the lowest frequencies, so that where a mean is off, those beside it are too. An anchor takes a
    share of the deviations (gained latent less mean without them) of the two anchors diagonally above it: a prediction as in
    DPCM, of means alone. Scale indexes do not depend on it, so that all symbols are still one pass.

    Args:
      xp: numpy or jax.numpy.
      above: (2, c) shares of the deviations above left and above right; beyond the border these are 0.
      code: (means, *operands) -> symbols, element by element.
      start: (..., w/2, c) deviations of the row above the first; None at the top.
      mean: (..., h/2, w/2, 2, c), from `means`.
      operands: what `code` needs, of the same shape.

    Returns:
      Symbols and means, both (..., h/2, w/2, 2, c), and the deviations of the last row.
    """

    def anchors(cells, i, left, right):
        mean, *more = (x[..., i, :] for x in cells)
        shift = above[0] * left + above[1] * right
        mean = mean + shift
        symbols = code(mean, *more)
        return symbols + shift, (symbols, mean)

    def row(deviation, cells):
        beyond = xp.zeros_like(deviation[..., :1, :])
        before = xp.concatenate([beyond, deviation[..., :-1, :]], axis=-2)
        deviation, even = anchors(cells, 0, before, deviation)
        after = xp.concatenate([deviation[..., 1:, :], beyond], axis=-2)
        deviation, odd = anchors(cells, 1, deviation, after)
        return deviation, tuple(xp.stack(pair, axis=-2) for pair in zip(even, odd))

    rows = [xp.moveaxis(x, -4, 0) for x in (mean, *operands)]
    if start is None:
        start = xp.zeros_like(mean[..., 0, :, 0, :])
    if xp is np:
        made = []
        for cells in zip(*rows):
            start, coded = row(start, cells)
            made.append(coded)
        symbols, mean = (np.stack(part, axis=-4) for part in zip(*made))
        return symbols, mean, start
    from jax import lax  # Decoders without jax import this module too.

    start, made = lax.scan(row, start, tuple(rows))
    symbols, mean = (xp.moveaxis(x, 0, -4) for x in made)
    return symbols, mean, start


class Coded(NamedTuple):
    """What `passes` gives, each (..., h, w, M).

    Attributes:
      symbols: integer residual symbols.
      y_hat: gained latents, symbols + means.
      indexes: scale indexes, integers; NumPy's are uint8.
    """

    symbols: Any
    y_hat: Any
    indexes: Any


def passes(
    xp, q: Params, p: Params, z, level, offset, operands: Callable, code: Callable, floor: Callable = np.floor
) -> Coded:
    """Runs all passes over the latents, in the order of coding. `wavefront` does the same in strips.

    Args:
      xp: numpy or jax.numpy.
      q: integer parameters of the scale path, `folded`; its groups are in "groups".
      p: parameters of the mean path, likewise.
      z: (..., h/4, w/4, Cz) integer hyper-latents.
      level: `quality_level`, (..., h, w, 1) or (..., 1, 1, 1).
      offset: `scale_offset`, (..., h, w, M) or (..., 1, 1, M).
      operands: (channels, half) -> what `code` needs of a pass, halves of these channels. `channels` is a slice. `half` is
        0 for the anchors, 1 for the other blocks.
      code: (means, scale indexes, *operands) -> symbols, element by element.
      floor: numpy.floor, or one with a straight-through gradient.
    """
    split = lambda x: (x[..., None, :],) * 2 if x.shape[-3] == 1 else halves(xp, x)
    of_scale, of_mean = halves(xp, scale_features(xp, q, z, floor)), halves(xp, mean_features(xp, p, z))
    level, offset = split(level), split(offset)
    coded: tuple[list[Coded], list[Coded]] = [], []
    for channels, scale_group, mean_group in zip(group_channels(p), q["groups"], p["groups"]):
        lower_scale = lower_mean = None, None
        if channels.start:
            so_far = [joined(xp, half) for half in coded]
            lower_scale = scale_lower(xp, scale_group, [magnitude(xp, half.symbols) for half in so_far], floor)
            lower_mean = mean_lower(xp, mean_group, [compress(xp, half.y_hat) for half in so_far])
        near_scale, near_mean = None, (None, None)
        for half in (0, 1):
            if half:
                own = coded[0][-1]
                near_scale = scale_near(xp, scale_group, magnitude(xp, own.symbols), floor)
                near_mean = mean_near(xp, mean_group, own.y_hat, compress(xp, own.y_hat))
            offset_here = offset[half][..., channels]
            index = scale_indexes(
                xp, scale_group, of_scale[half], level[half], lower_scale[half], near_scale, offset_here, floor
            )
            mean = means(xp, mean_group, of_mean[half], lower_mean[half], *near_mean)
            given = index, *operands(channels, half)
            if half or channels.start:
                symbols = code(mean, *given)
            else:
                symbols, mean, _ = code_from_above(xp, mean_group["above"], code, None, mean, *given)
            coded[half].append(Coded(symbols, symbols + mean, index))
    return Coded(*(interleave(xp, *parts) for parts in zip(*(joined(xp, half) for half in coded))))


def joined(xp, groups: Sequence[Coded]) -> Coded:
    """Concatenates the channels of consecutive groups."""
    return Coded(*(xp.concatenate(parts, axis=-1) for parts in zip(*groups)))


def gained_latents(xp, p: Params, z, symbols):
    """Gained latents (..., h, w, M) from symbols that are all known: those of `passes`, by the mean path alone."""
    features, symbols = halves(xp, mean_features(xp, p, z)), halves(xp, symbols)
    y_hat: tuple[list[Any], list[Any]] = [], []
    for channels, group in zip(group_channels(p), p["groups"]):
        lower, near = (None, None), (None, None)
        if channels.start:
            lower = mean_lower(xp, group, [compress(xp, xp.concatenate(half, axis=-1)) for half in y_hat])
        for half in (0, 1):
            if half:
                near = mean_near(xp, group, y_hat[0][-1], compress(xp, y_hat[0][-1]))
            here, mean = symbols[half][..., channels], means(xp, group, features[half], lower[half], *near)
            if not half and not channels.start:
                _, mean, _ = code_from_above(xp, group["above"], lambda _, known: known, None, mean, here)
            y_hat[half].append(here + mean)
    return interleave(xp, *(xp.concatenate(half, axis=-1) for half in y_hat))


def group_channels(p: Params) -> list[slice]:
    """The channels of each group, as slices, from the parameters of the mean path."""
    ends = np.cumsum([0, *(group["out"]["bias"].shape[-1] for group in p["groups"])]).tolist()
    return [slice(start, stop) for start, stop in zip(ends, ends[1:])]
