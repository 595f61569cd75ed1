"""The lapped codec, the family of the shipped models: a lapped linear transform with residual networks.

One model serves all rates. `LappedCodec.rate` estimates the bits that training minimises.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

from jnd_jax.codec import distortion, hyper, hyper_context, linear
from jnd_jax.codec.layers import BLOCK_OUTPUT, Conv, depth_to_space, left_product, space_to_depth, tall_product
from jnd_jax.codec.rounding import ste_floor, ste_rdo_round, ste_round
from jnd_jax.codec.types import Forward
from jnd_jax.entropy.densities import conditional_laplacian_bits
from jnd_jax.errors import JndError

# At the reference lambda, a latent of 1 is one quantiser step of this size in pixel units.
_STEP = 0.2
_REFERENCE_LAMBDA = 0.0067

# Features of the analysis network stay within this; photographs reach 2. Without it, what the network does not know can grow
# from block to block without end.
_FEATURE_LIMIT = 4.0
_LIMITED_EACH = 5  # blocks: after each one it would take a tenth of the time of encoding

# What an encoder takes of Newton's step, see `LappedCodec.corrected`: it ends so many quantiser steps away at most, more in the
# first correction, and goes to so many times where errors are least at most, since it goes a small part of the way; and how far
# from zero a latent becomes one, since rate-distortion optimised rounding lowers more than halves (bench/correction.py).
_CORRECTION_RATE, _LARGEST_CORRECTION, _LARGEST_FIRST_CORRECTION = 0.3, 0.5, 2.0
_BEYOND_LEAST_ERROR, _SHORTEST = 2.5, 0.1
_BECOMES_ONE = 0.6

# Photographs vary: in one, a coefficient's typical deviation lies this far (in nats) below that over all photographs.
_LOG_SCALE_TYPICAL = -0.5


def _interpolate(table: jax.Array, quality: jax.Array) -> jax.Array:
    """Rows of a (nodes, C) table at (B,) or (B, h, w) qualities, linear between nodes: (B, 1, 1, C) or (B, h, w, C)."""
    position = quality / hyper.NODE_SPACING
    node = jnp.clip(jnp.floor(position), 0, hyper.NODES - 2).astype(jnp.int32)
    t = (position - node)[..., None]
    rows = table[node] * (1 - t) + table[node + 1] * t
    return rows[:, None, None, :] if quality.ndim == 1 else rows


def _spread(quality: jax.Array, height: int) -> jax.Array:
    """Nearest-neighbour upsampling of (B, h, w) qualities to `height` rows, the width alike; (B,) is left unchanged."""
    if quality.ndim == 1:
        return quality
    factor = height // quality.shape[1]
    return jnp.repeat(jnp.repeat(quality, factor, axis=1), factor, axis=2)


def _conv(features: int, size: int, kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()) -> Conv:
    return Conv(features, size, kernel_init=kernel_init)


def _limited(h: jax.Array) -> jax.Array:
    return jnp.clip(h, -_FEATURE_LIMIT, _FEATURE_LIMIT)


class Bottleneck(nn.Module):
    """Residual block: 1x1 down, 3x3, 1x1 up (He et al., CVPR 2016). Its last layer starts small."""

    width: int

    @nn.compact
    def __call__(self, x):
        channels = x.shape[-1]
        h = nn.leaky_relu(_conv(self.width, 1)(x))
        h = nn.leaky_relu(_conv(self.width, 3)(h))
        h = _conv(channels, 1, kernel_init=nn.initializers.variance_scaling(0.1, "fan_in", "normal"))(h)
        return checkpoint_name(x + h, BLOCK_OUTPUT)


class Modulation(nn.Module):
    """Scale and shift of each channel by quality, linear between nodes; identity at the start."""

    @nn.compact
    def __call__(self, x, quality):
        shape = (hyper.NODES, x.shape[-1])
        scale = self.param("scale", nn.initializers.zeros, shape)
        shift = self.param("shift", nn.initializers.zeros, shape)
        quality = _spread(quality, x.shape[1])
        return (x * (1 + _interpolate(scale, quality)) + _interpolate(shift, quality)).astype(x.dtype)


class AnalysisNet(nn.Module):
    """Residual part of the analysis transform, from pixels (B, H, W, 3) to (B, H/16, W/16, M).

    s2d 4 - conv 3x3 - modulation - bottlenecks (1/4) - s2d 2 - conv 1x1 - bottlenecks (1/8) - s2d 2 - conv 1x1, which
    starts at zero. s2d: space to depth.
    """

    latents: int
    widths: tuple[int, int]
    depths: tuple[int, int]

    @nn.compact
    def __call__(self, x, quality):
        h = _conv(self.widths[0], 3)(space_to_depth(x, 4))
        h = nn.leaky_relu(Modulation()(h, quality))
        for _ in range(self.depths[0]):
            h = Bottleneck(self.widths[0] // 2)(h)
        h = _conv(self.widths[1], 1)(_limited(space_to_depth(h, 2)))
        for block in range(self.depths[1]):
            h = Bottleneck(self.widths[1] // 2)(h)
            if block % _LIMITED_EACH == _LIMITED_EACH - 1:
                h = _limited(h)
        return _conv(self.latents, 1, kernel_init=nn.initializers.zeros)(space_to_depth(h, 2))


class SynthesisNet(nn.Module):
    """Residual part of the synthesis transform, from latents (B, h, w, M) to (B, 16 h, 16 w, 3).

    conv 1x1 - d2s 2 - conv 1x1 - modulation - bottlenecks (1/8) - conv 1x1 - d2s 2 - modulation - bottlenecks (1/4) -
    conv 3x3, which starts at zero - d2s 4. d2s: depth to space.
    """

    widths: tuple[int, int]
    depths: tuple[int, int]

    @nn.compact
    def __call__(self, y, quality):
        h = _conv(4 * self.widths[1] // 2, 1)(y)
        h = _conv(self.widths[1], 1)(depth_to_space(h, 2))
        h = nn.leaky_relu(Modulation()(h, quality))
        for _ in range(self.depths[1]):
            h = Bottleneck(self.widths[1] // 2)(h)
        h = depth_to_space(_conv(4 * self.widths[0], 1)(h), 2)
        h = nn.leaky_relu(Modulation()(h, quality))
        for _ in range(self.depths[0]):
            h = Bottleneck(self.widths[0] // 2)(h)
        return depth_to_space(_conv(48, 3, kernel_init=nn.initializers.zeros)(h), 4)


def _border_filter(x: jax.Array, matrix: jax.Array, axis: int, blocks: jax.Array | None) -> jax.Array:
    """Applies (16, 16) `matrix` to the 16 samples around every block border along `axis` (1 or 2) of (B, H, W, C).

    The outer border of the image is not filtered: the border of the array, or of its first `blocks` blocks.
    """
    half, (batch, height, width, channels) = linear.BLOCK // 2, x.shape
    length = x.shape[axis]
    first, inner, last = jnp.split(x, [half, length - half], axis)
    # Both branches multiply by a matrix without moving an axis: moving one takes longer than the product.
    if axis == 1:
        groups = inner.reshape(batch, -1, linear.BLOCK, width * channels)
        filtered = left_product(matrix, groups)
    else:
        groups = inner.reshape(batch, height, -1, linear.BLOCK * channels)
        filtered = tall_product(groups, jnp.kron(matrix.T, jnp.eye(channels, dtype=matrix.dtype)))
    if blocks is not None:
        inside = jnp.arange(groups.shape[axis]) < blocks - 1
        filtered = jnp.where(inside[:, None, None] if axis == 1 else inside[:, None], filtered, groups)
    return jnp.concatenate([first, filtered.reshape(inner.shape), last], axis)


class LappedCodec(nn.Module):
    """Lapped linear transform + residual networks, gains for all rates, conditional Laplacian latents in passes.

          x --> g_a: linear + net --> y --gain--> y' --round(y' - mu)--> symbols
                                      |                      ^  ^ scale index
                                      h_a -> z -> round -> h_s (scale: integers, mean: floats; both see
                                                           the symbols of the passes before)
          x_hat <-- g_s: linear + net <-- gain^-1 <-- symbols + mu

    Attributes:
      latents: M, channels of y.
      hyper_latents: Cz, channels of z.
      hyper_width: width of the features of the hyper-latents; the mean path has half of it.
      hyper_context_width: width of the layer that sees the neighbours of a hyper-latent; see `hyper_context`.
      widths: widths of the residual networks at 1/4 and 1/8 resolution.
      analysis_depths, synthesis_depths: bottleneck blocks at 1/4 and 1/8 resolution.
      groups: channels of each group but the last, which has the rest of the latents; see `hyper`.
      context_width: width of the features of all groups before a group.
      own_width: width of the features of a group's own anchors.
      hidden_width: width of the layers that see all features of a pass.
      masked_share: share of masked DCT error in the distortion that rounding weighs, see `distortion`.
    """

    latents: int = 448
    hyper_latents: int = 64
    hyper_width: int = 96
    hyper_context_width: int = 64
    widths: tuple[int, int] = (64, 128)
    analysis_depths: tuple[int, int] = (2, 3)
    synthesis_depths: tuple[int, int] = (1, 3)
    groups: tuple[int, ...] = (16, 32, 64, 128)
    context_width: int = 48
    own_width: int = 32
    hidden_width: int = 112
    masked_share: float = dataclasses.field(default=0.0, metadata={"shapes": False})

    def setup(self):
        if sum(self.groups) >= self.latents:
            raise JndError(f"The groups {self.groups} leave nothing of {self.latents} latents; give model.groups less.")
        basis = linear.initial_basis(self.latents, _STEP)
        constant = lambda name, value: self.param(name, lambda _: jnp.asarray(value, jnp.float32))
        for name, unit in linear.LINEAR_UNITS.items():
            setattr(self, f"{name}_basis", unit * constant(f"linear_{name}", basis[name] / unit))
        nodes = np.arange(hyper.NODES) * hyper.NODE_SPACING
        log_gain = 0.5 * np.log(hyper.lmbda(nodes) / _REFERENCE_LAMBDA)
        log_gain = np.repeat(log_gain[:, None], self.latents, axis=1)
        self.log_gain = constant("log_gain", log_gain)
        self.log_inverse_gain = constant("log_inverse_gain", -log_gain)
        self.scale_offset = hyper.ACTIVATION_UNIT * constant(
            "scale_offset", log_gain / (hyper.LOG_SCALE_STEP * hyper.ACTIVATION_UNIT)
        )
        self.analysis_net = AnalysisNet(self.latents, self.widths, self.analysis_depths)
        self.synthesis_net = SynthesisNet(self.widths, self.synthesis_depths)
        self.hyper_analysis_path = self._hyper_analysis_path()
        self.hyper_context_path = self._hyper_context_path()
        unit_scale = -np.log(hyper_context.SCALE_MIN) / hyper_context.LOG_SCALE_STEP
        offset = np.tile(np.repeat([unit_scale, 0.0], self.hyper_latents), (hyper.NODES, 1))
        self.hyper_offset = hyper.ACTIVATION_UNIT * constant("hyper_offset", offset / hyper.ACTIVATION_UNIT)
        self.scale_path = self._scale_path(
            (basis["log_scale"] + _LOG_SCALE_TYPICAL - np.log(hyper.SCALE_MIN)) / hyper.LOG_SCALE_STEP
        )
        self.mean_path = self._mean_path()

    def _dense(self, name, fan_in, features, gain=2.0, bias=None):
        kernel = nn.initializers.variance_scaling(gain, "fan_in", "normal") if gain else nn.initializers.zeros
        weight = self.param(f"{name}_weight", kernel, (fan_in, features))
        bias = np.zeros(features) if bias is None else bias
        return {"weight": weight, "bias": self.param(f"{name}_bias", lambda _: jnp.asarray(bias, jnp.float32))}

    def _hyper_analysis_path(self):
        z, c, m = self.hyper_latents, self.hyper_width, self.latents
        return {
            "reduce": self._dense("hyper_analysis_reduce", 2 * m, c),
            "down1": self._dense("hyper_analysis_down1", 36 * c, c),
            "down2": self._dense("hyper_analysis_down2", 36 * c, z, gain=8.0),
        }

    def _hyper_context_path(self):
        z, n = self.hyper_latents, self.hyper_context_width
        seen = len(hyper_context.SIGNS) * len(hyper_context.NEIGHBOURS) * z
        return {
            "hidden": self._dense("hyper_context_hidden", seen + 1, n, bias=np.full(n, 0.5)),
            "out": self._dense("hyper_context_out", n, 2 * z, gain=0.05),
        }

    def _scale_path(self, index):
        z, c, e, o, n = self.hyper_latents, self.hyper_width, self.context_width, self.own_width, self.hidden_width
        index = np.clip(index, 0, hyper.SCALE_LEVELS - 1) / hyper.ACTIVATION_UNIT
        half = np.full(4 * c, 0.5)
        path = {
            "up1": self._dense("scale_up1", 9 * z, 4 * c, bias=half),
            "up2": self._dense("scale_up2", 9 * c, 4 * c, bias=half),
            "groups": [],
        }
        for i, (before, size) in enumerate(self._groups()):
            group: dict[str, Any] = self._group_context(f"scale_{i}", before, size, e)
            group["merge"] = self._dense(f"scale_{i}_merge", c + 1 + e * (before > 0) + o, n, bias=np.full(n, 0.5))
            group["mid"] = self._dense(f"scale_{i}_mid", n, n, gain=0.2)
            group["out"] = self._dense(f"scale_{i}_out", n, size, gain=0.05, bias=index[before : before + size])
            path["groups"].append(group)
        return path

    def _mean_path(self):
        z, c, e, o, n = self.hyper_latents, self.hyper_width // 2, self.context_width, self.own_width, self.hidden_width
        path = {
            "up1": self._dense("mean_up1", 9 * z, 4 * c),
            "up2": self._dense("mean_up2", 9 * c, 4 * c),
            "groups": [],
        }
        for i, (before, size) in enumerate(self._groups()):
            group: dict[str, Any] = self._group_context(f"mean_{i}", before, size, e)
            group["merge"] = self._dense(f"mean_{i}_merge", c + e * (before > 0) + o, n)
            group["mid"] = self._dense(f"mean_{i}_mid", n, n, gain=0.2)
            group["out"] = self._dense(f"mean_{i}_out", n, size, gain=0.0)
            group["cross"] = self.param(f"mean_{i}_cross", nn.initializers.zeros, (4, size))
            if not before:
                above = self.param(f"mean_{i}_above", nn.initializers.zeros, (2, size))
                group["above"] = hyper.shares_from_above(jnp, above)
            path["groups"].append(group)
        return path

    def _groups(self):
        """(channels before it, channels) of each group."""
        ends = [0, *np.cumsum(self.groups).tolist(), self.latents]
        return [(start, stop - start) for start, stop in zip(ends, ends[1:])]

    def _group_context(self, name, before, size, width):
        own = self.own_width
        context = {
            "own1": self._dense(f"{name}_own1", size, own),
            "own2": self._dense(f"{name}_own2", 4 * own, own),
        }
        if before:
            context["embed"] = self._dense(f"{name}_embed", before, width)
            context["context"] = self._dense(f"{name}_context", 9 * width, width)
        return context

    def analysis(self, x, quality, blocks=(None, None)):
        """Gained latents: x (B, H, W, 3) in [0, 1], quality (B,) or (B, H/16, W/16) in 0..1000 -> (B, H/16, W/16, M).

        `blocks`: how many rows and columns of 16x16 blocks belong to the image, if x is padded beyond it.
        """
        x = x - 0.5
        y = self.analysis_net(x, quality)
        for axis in (1, 2):
            x = _border_filter(x, self.prefilter_basis, axis, blocks[axis - 1])
        y = y + space_to_depth(x, linear.BLOCK) @ self.analysis_basis
        return y * jnp.exp(_interpolate(self.log_gain, quality))

    def synthesis(self, y_hat, quality, blocks=(None, None)):
        """Pixels, not clipped: gained y_hat (B, h, w, M), quality (B,) or (B, h, w) -> (B, 16 h, 16 w, 3).

        `blocks`: as in `analysis`.
        """
        y_hat = y_hat * jnp.exp(_interpolate(self.log_inverse_gain, quality))
        return self._linear_synthesis(y_hat, blocks) + self.synthesis_net(y_hat, quality) + 0.5

    def _linear_synthesis(self, y_hat, blocks):
        x = depth_to_space(y_hat @ self.synthesis_basis, linear.BLOCK)
        for axis in (1, 2):
            x = _border_filter(x, self.postfilter_basis, axis, blocks[axis - 1])
        return x

    def synthesis_residual(self, y_hat, quality):
        """What the network adds to the pixels of the linear transform. Arguments as in `synthesis`, without borders."""
        return self.synthesis_net(y_hat * jnp.exp(_interpolate(self.log_inverse_gain, quality)), quality)

    def hyper_analysis(self, y):
        """Real-valued hyper-latents (B, h/4, w/4, Cz) of gained latents (B, h, w, M)."""
        return hyper.hyper_analysis(jnp, self.hyper_analysis_path, y)

    def integer_scale_path(self):
        """The scale path's integer parameters, carried by float32, with straight-through gradients."""
        quantise = lambda path: {
            name: [quantise(group) for group in layer]
            if name == "groups"
            else quantise_layer(layer, hyper.ACTIVATION_UNIT if name == "up1" else 1)
            for name, layer in path.items()
        }
        return quantise(self.scale_path)

    def integer_scale_offset(self):
        """(nodes, M) integer offsets of the scale index, carried by float32."""
        return ste_round(jnp.clip(self.scale_offset, -127, 127))

    def integer_hyper_context(self):
        """As `integer_scale_path`, of the network of `hyper_context`."""
        return {name: quantise_layer(layer, 1) for name, layer in self.hyper_context_path.items()}

    def integer_hyper_offset(self):
        """(nodes, 2 Cz) integer offsets for `hyper_context.predict`, carried by float32."""
        return ste_round(jnp.clip(self.hyper_offset, -127, 127))

    def __call__(self, x, quality, keys=None) -> Forward:
        """Reconstruction and estimated bits.

        Args:
          x: (B, H, W, 3) in [0, 1], H and W multiples of 64.
          quality: (B,) in 0..1000.
          keys: (B,) PRNG keys. With keys, the rate is that of latents with uniform noise (Ballé et al., ICLR 2017) and
            the reconstruction is that of rounded latents (Minnen & Singh, ICIP 2020). None: both are of rounded ones.
            Rounding is rate-distortion optimised, as when files are written. In either case the scales learn from the
            rate of the rounded symbols, which they have to code.
        """
        y = self.analysis(x, quality)
        y_noise, z_noise = (None, None) if keys is None else self.noise(keys, y.shape)
        z_hat, bits_z = self.hyper_latents_and_rate(y, quality, z_noise)
        coded, bits_y = self.rate(y, z_hat, quality, distortion.log_activity(x), y_noise)
        total = partial(jnp.sum, axis=(1, 2, 3))
        return Forward(self.synthesis(coded.y_hat, quality), total(bits_y), total(bits_z), jnp.sum(bits_y, -1))

    def noise(self, keys, shape) -> tuple[jax.Array, jax.Array]:
        """Uniform noise in +-.5 for y and z, from (B,) keys and the shape of y."""
        return _noise(keys, shape[1:], (*(side // linear.GRID for side in shape[1:3]), self.hyper_latents))

    def hyper_latents_and_rate(self, y, quality, noise=None) -> tuple[jax.Array, jax.Array]:
        """Integer hyper-latents (B, h/4, w/4, Cz) of gained latents, and the estimated bits of each.

        Args:
          y: (B, h, w, M).
          quality: (B,) in 0..1000.
          noise: from `noise`: the rate is that of z + noise. None: that of the integers.
        """
        z = jnp.clip(self.hyper_analysis(y), -hyper.Z_MAX, hyper.Z_MAX)
        z_hat, fixed = ste_round(z), jax.lax.stop_gradient
        mean, scale = self.hyper_context(hyper_context.neighbours(jnp, fixed(z_hat)), quality)
        bits = conditional_laplacian_bits(fixed(z_hat), mean, scale)
        if noise is not None:
            # As in `rate`: what predicts learns from the integers in files, what is predicted from noisy ones.
            bits += conditional_laplacian_bits(z + noise, fixed(mean), fixed(scale)) - fixed(bits)
        return z_hat, bits

    def hyper_context(self, around, quality) -> tuple[jax.Array, jax.Array]:
        """Means and standard deviations (B, h, w, Cz) that code integer hyper-latents.

        Args:
          around: (B, h, w, 4, Cz) their neighbours, see `hyper_context.neighbours`.
          quality: (B,) in 0..1000.
        """
        network, level = hyper.folded(self.integer_hyper_context()), hyper.quality_level(quality)[:, None, None, None]
        offset = ste_round(_interpolate(self.integer_hyper_offset(), quality))
        level, mean = hyper_context.predict(jnp, network, around, level, offset, ste_floor)
        return mean / hyper_context.PARTS, hyper_context.scale(jnp, level)

    def rate(self, y, z_hat, quality, log_activity, noise=None) -> tuple[hyper.Coded, jax.Array]:
        """The rate in training: the latents as they are coded, and the estimated bits of each. See `__call__`.

        Args:
          y: (B, h, w, M) gained latents.
          z_hat: (B, h/4, w/4, Cz) integer hyper-latents.
          quality: (B,) in 0..1000.
          log_activity: (B, h, w, 4) from `distortion.log_activity`.
          noise: uniform in +-.5, of the shape of y: the rate is that of y + noise. None: that of the symbols.
        """
        coded, fixed = self.code(y, z_hat, quality, log_activity), jax.lax.stop_gradient
        scale = hyper.scale(jnp, coded.indexes)
        bits = conditional_laplacian_bits(fixed(coded.symbols), 0.0, scale)
        if noise is not None:
            # Analysis and means learn from noisy latents, whose rate has a gradient; scales from the symbols in files.
            means = coded.y_hat - coded.symbols
            bits += conditional_laplacian_bits(y + noise - means, 0.0, fixed(scale)) - fixed(bits)
        return coded, bits

    def code(self, y, z_hat, quality, log_activity) -> hyper.Coded:
        """Runs all passes over gained latents y; gives them as the decoder will see them. Arguments as in `rate`."""
        per_image = quality[:, None, None, None]
        energy = self._energy(log_activity)
        weight = hyper.distortion_weight(jnp, per_image, _interpolate(self.log_inverse_gain, quality), energy)
        weight = hyper.halves(jnp, jax.lax.stop_gradient(jnp.broadcast_to(weight, y.shape)))
        latents = hyper.halves(jnp, y)

        operands = lambda channels, half: (latents[half][..., channels], weight[half][..., channels])
        code = lambda mean, index, y, weight: ste_rdo_round(y - mean, hyper.scale(jnp, index), weight)
        level, offset = hyper.quality_level(per_image), self._offset_at(quality)
        scale_path = hyper.folded(self.integer_scale_path())
        return hyper.passes(jnp, scale_path, self.mean_path, z_hat, level, offset, operands, code, ste_floor)

    def to_code(self, x, quality, blocks=(None, None)):
        """(B, h, w, 2 M): gained latents of `analysis`, which hyper-latents are made of, then what is coded: them, `corrected` once.

        A decoder is taken to have each latent rounded by itself: to code them to know would cost a pass of the entropy model.
        Hyper-latents of corrected latents would predict worse, as small ones are less even. Arguments as in `analysis`.
        """
        y = self.analysis(x, quality, blocks)
        rounded = jnp.sign(y) * jnp.floor(jnp.abs(y) + 1 - _BECOMES_ONE)
        corrected = self.corrected(y, rounded, x, quality, blocks, _LARGEST_FIRST_CORRECTION)
        return jnp.concatenate([y, corrected], axis=-1)

    def corrected(self, y, y_hat, x, quality, blocks=(None, None), largest=_LARGEST_CORRECTION):
        """Gained latents y that were moved towards those of least `distortion.visible_error`, (B, h, w, M).

        They go a part of the way to where Newton's step from the decoded latents ends. Slope and curvature are those of the linear
        synthesis alone, and latents are taken as independent. Where they are not, or the curvature is steeper than on grey ground,
        the steps of a block are shortened together.

        Args:
          y: (B, h, w, M) gained latents.
          y_hat: (B, h, w, M) what a decoder has of them.
          x: (B, 16 h, 16 w, 3) the originals, in [0, 1].
          quality, blocks: as in `synthesis`.
          largest: how far a step ends from y at most, in quantiser steps.
        """
        gain = jnp.exp(_interpolate(self.log_inverse_gain, quality))
        shown = self.synthesis(y_hat, quality, blocks)
        gradient = jax.grad(lambda shown: jnp.sum(distortion.visible_error(self.masked_share, x, shown)))(shown)
        _, transposed = jax.vjp(lambda y_hat: self._linear_synthesis(y_hat, blocks), y_hat)
        (descent,) = transposed(-x[0].size / 255.0**2 * gradient)
        step = descent / (2 * self._energy(distortion.log_activity(x)))
        least = distortion.least_error_at(self.masked_share, x, shown, self._linear_synthesis(step, blocks))
        step = step / gain * jnp.clip(_BEYOND_LEAST_ERROR * least, _SHORTEST, 1)[..., None]
        return y + _CORRECTION_RATE * jnp.clip(y_hat + step - y, -largest, largest)

    def _energy(self, log_activity):
        return distortion.energy(
            jnp,
            self.masked_share,
            jnp.sum(self.synthesis_basis**2, axis=-1),
            distortion.masked_energy(jnp, self.synthesis_basis),
            log_activity,
        )

    def _offset_at(self, quality):
        return ste_round(_interpolate(self.integer_scale_offset(), quality))


def quantise_layer(layer, input_unit: int):
    """Integer weight, bias and 2^-shift, carried by float32, of a layer {"weight": (K, C), "bias": (C,)}.

    The integer network's activations are ACTIVATION_UNIT times the float network's. The layer's inputs are
    ACTIVATION_UNIT / `input_unit` times the float ones. Each column's shift is the largest that
    `hyper.weight_limit` and SHIFT_MAX allow. Gradients are straight-through.
    """
    weight = layer["weight"] * input_unit
    limit = hyper.weight_limit(weight.shape[0])
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(weight), axis=0))
    shift = jnp.clip(jnp.floor(jnp.log2(limit / jnp.maximum(largest, 1e-9))), 0, hyper.SHIFT_MAX)
    unit = jnp.exp2(-shift)
    bias = layer["bias"] * hyper.ACTIVATION_UNIT / unit
    return {
        "weight": jnp.clip(ste_round(weight / unit), -limit, limit),
        "bias": jnp.clip(ste_round(bias), -hyper.BIAS_MAX, hyper.BIAS_MAX),
        "unit": unit,
    }


def _noise(keys, y_shape, z_shape):
    def one(key):
        y_key, z_key = jax.random.split(key)
        return (
            jax.random.uniform(y_key, y_shape, minval=-0.5, maxval=0.5),
            jax.random.uniform(z_key, z_shape, minval=-0.5, maxval=0.5),
        )

    return jax.vmap(one)(keys)
