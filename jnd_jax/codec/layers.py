"""Convolutions in two lowerings, and generalised divisive normalisation.

A strided convolution equals space_to_depth followed by a stride-1 convolution, a transposed one equals a stride-1
convolution followed by depth_to_space. XLA's CPU back end has no fast path for the dilated convolutions that the
direct form needs (in a transposed convolution and in the gradient of a strided one), so there the polyphase form is
several times faster; on other back ends the direct form is. For the same reason the kernels of wide layers get their
gradients as products of matrices in the polyphase form. Parameters are the same, numbers agree within float error.

Everything is NHWC with HWIO kernels of odd size k. Padding is k // 2 on each side (a stride-s convolution maps H to
ceil(H / s), a transposed one H to s * H), which is CompressAI's `conv` and `deconv`.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from functools import partial
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jnd_jax.entropy.densities import lower_bound
from jnd_jax.errors import JndError

Lowering = Literal["polyphase", "strided"]
Padding = Literal["zero", "edge"]

_forced_lowering: contextvars.ContextVar[Lowering | None] = contextvars.ContextVar("lowering", default=None)

# Torch's default for convolutions: uniform in +-1/sqrt(fan_in).
_uniform_fan_in = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")

# CompressAI stores sqrt(value + offset) so that gradients near zero stay bounded.
_GDN_PEDESTAL = 2.0**-36
_GDN_BETA_MIN = 1e-6

# Channels, of input or output, from which on a kernel's gradient is a product of matrices: patches are made of the other
# side, so that this many products stand against each element that is copied.
_WIDE = 128

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")

# Elements of the patches of one image or more that a gradient makes at once: 64 MB of float32.
_PATCHES_MAX = 2**24


@contextlib.contextmanager
def use_lowering(lowering: Lowering) -> Iterator[None]:
    """Traces strided and transposed convolutions inside the block in this form, whatever the back end.

    The choice is made at trace time: a function that was already jitted keeps the form it was traced with.
    """
    token = _forced_lowering.set(lowering)
    try:
        yield
    finally:
        _forced_lowering.reset(token)


def _resolve_lowering(lowering: Lowering | None) -> Lowering:
    lowering = lowering or _forced_lowering.get()
    if lowering is None:
        return "polyphase" if jax.default_backend() == "cpu" else "strided"
    if lowering not in ("polyphase", "strided"):
        raise JndError(f"lowering must be 'polyphase' or 'strided', not {lowering!r}")
    return lowering


def space_to_depth(x: jax.Array, block: int) -> jax.Array:
    """(..., H, W, C) -> (..., H/block, W/block, block^2 C); channels ordered (row, column, C) within a block."""
    *batch, height, width, channels = x.shape
    if height % block or width % block:
        raise JndError(f"height and width must be multiples of {block}, not {height} x {width}")
    x = x.reshape(*batch, height // block, block, width // block, block, channels)
    return jnp.swapaxes(x, -4, -3).reshape(*batch, height // block, width // block, block * block * channels)


def depth_to_space(x: jax.Array, block: int) -> jax.Array:
    """(..., H, W, block^2 C) -> (..., block H, block W, C): the inverse of space_to_depth."""
    *batch, height, width, channels = x.shape
    if channels % block**2:
        raise JndError(f"the number of channels must be a multiple of {block**2}, not {channels}")
    x = x.reshape(*batch, height, width, block, block, channels // block**2)
    return jnp.swapaxes(x, -4, -3).reshape(*batch, height * block, width * block, channels // block**2)


def conv(
    x: jax.Array,
    kernel: jax.Array,
    stride: int = 1,
    padding: Padding = "zero",
    lowering: Lowering | None = None,
) -> jax.Array:
    """Convolution (cross-correlation) of x (B, H, W, I) with kernel (k, k, I, O) -> (B, ceil(H/s), ceil(W/s), O).

    Torch's Conv2d(k, stride, padding=k // 2); padding "edge" repeats the border pixels instead of zeros.
    Raises JndError for an even kernel, an unknown padding or an unknown lowering.
    """
    half = _half_width(kernel, padding)
    if stride == 1 or _resolve_lowering(lowering) == "strided":
        return _convolve(x, kernel, [(half, half)] * 2, padding, lowering, stride=stride)
    phases = _phases(kernel, stride)
    taps, _, _, _, features_in, features = phases.shape
    kernel = phases.swapaxes(1, 2).reshape(taps, taps, stride * stride * features_in, features)
    low = -(-half // stride)
    high = taps - 1 - low
    missing = [-size % stride for size in x.shape[1:3]]
    if padding == "edge":
        # Pixels are repeated, not blocks of them; the kernel's zeros meet what this pads too far.
        x = _pad(x, [(stride * low, extra + stride * high) for extra in missing], "edge")
        low = high = 0
    elif any(missing):
        x = _pad(x, [(0, extra) for extra in missing], "zero")
    return _convolve(space_to_depth(x, stride), kernel, [(low, high)] * 2, "zero", lowering)


def conv_transpose(
    x: jax.Array,
    kernel: jax.Array,
    stride: int = 1,
    padding: Padding = "zero",
    lowering: Lowering | None = None,
) -> jax.Array:
    """Transposed convolution of x (B, H, W, I) with kernel (k, k, I, O) -> (B, s H, s W, O).

    Torch's ConvTranspose2d(k, stride, padding=k // 2, output_padding=s - 1); padding "edge" continues x by its border.
    Raises JndError for an even kernel, an unknown padding or an unknown lowering.
    """
    half = _half_width(kernel, padding)
    low, high = half // stride, (half + stride - 1) // stride
    if _resolve_lowering(lowering) == "strided":
        pads = [(half, half + stride - 1)] * 2
        if padding == "edge":
            x = _pad(x, [(low, high)] * 2, "edge")
            pads = [(half - stride * low, half + stride - 1 - stride * high)] * 2
        return _convolve(x, kernel[::-1, ::-1], pads, "zero", lowering, dilation=stride)
    phases = _phases(kernel, stride)
    taps, _, _, _, features_in, features = phases.shape
    kernel = phases[::-1, :, ::-1].transpose(0, 2, 4, 1, 3, 5)
    kernel = kernel.reshape(taps, taps, features_in, stride * stride * features)
    return depth_to_space(_convolve(x, kernel, [(low, high)] * 2, padding, lowering), stride)


def _half_width(kernel: jax.Array, padding: Padding) -> int:
    height, width = kernel.shape[:2]
    if height != width or height % 2 == 0:
        raise JndError(f"a kernel must be square and of odd size, not {height} x {width}")
    if padding not in ("zero", "edge"):
        raise JndError(f"padding must be 'zero' or 'edge', not {padding!r}")
    return height // 2


def _phases(kernel: jax.Array, stride: int) -> jax.Array:
    """(k, k, I, O) -> (taps, s, taps, s, I, O): zeros around the kernel align it to blocks of s x s pixels."""
    size, _, features_in, features = kernel.shape
    front = -(size // 2) % stride
    taps = -(-(front + size) // stride)
    pads = (front, taps * stride - front - size)
    return jnp.pad(kernel, (pads, pads, (0, 0), (0, 0))).reshape(taps, stride, taps, stride, features_in, features)


def _pad(x: jax.Array, pads: list[tuple[int, int]], padding: Padding) -> jax.Array:
    return jnp.pad(x, [(0, 0), *pads, (0, 0)], mode="edge" if padding == "edge" else "constant")


def _convolve(
    x: jax.Array,
    kernel: jax.Array,
    pads: list[tuple[int, int]],
    padding: Padding,
    lowering: Lowering | None,
    *,
    stride: int = 1,
    dilation: int = 1,
) -> jax.Array:
    if padding == "edge":
        x, pads = _pad(x, pads, "edge"), [(0, 0)] * 2
    by_product = kernel.shape[:2] == (1, 1) or max(kernel.shape[2:]) >= _WIDE
    if stride == dilation == 1 and by_product and _resolve_lowering(lowering) == "polyphase":
        return _convolve_densely(tuple(pads), x, kernel)
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        pads,
        lhs_dilation=(dilation, dilation),
        dimension_numbers=_DIMENSIONS,
    )


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _convolve_densely(pads: tuple[tuple[int, int], ...], x: jax.Array, kernel: jax.Array) -> jax.Array:
    """A stride-1 convolution whose gradient in the kernel is a product of matrices: on a CPU, XLA's own takes three times
    as long where there are many channels.
    """
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), pads, dimension_numbers=_DIMENSIONS)


def _convolve_densely_forward(pads, x, kernel):
    return _convolve_densely(pads, x, kernel), (x, kernel)


def _convolve_densely_backward(pads, saved, gradient):
    x, kernel = saved
    rows, columns, features_in, features = kernel.shape
    inverse = [(n - 1 - low, n - 1 - high) for n, (low, high) in zip((rows, columns), pads)]
    flipped = kernel[::-1, ::-1].swapaxes(2, 3)
    x_gradient = jax.lax.conv_general_dilated(gradient, flipped, (1, 1), inverse, dimension_numbers=_DIMENSIONS)

    # Patches are made of the one with fewer channels.
    if features_in > features:
        wide, narrow, size = x, _pad(gradient, inverse, "zero"), x.shape[1:3]
        offsets = [(rows - 1 - i, columns - 1 - j) for i in range(rows) for j in range(columns)]
    else:
        wide, narrow, size = gradient, _pad(x, pads, "zero"), gradient.shape[1:3]
        offsets = [(i, j) for i in range(rows) for j in range(columns)]

    def product(wide, narrow):
        shifted = [narrow[:, i : i + size[0], j : j + size[1]] for i, j in offsets]
        patches = jnp.concatenate(shifted, -1).reshape(-1, len(offsets) * narrow.shape[-1])
        return wide.reshape(-1, wide.shape[-1]).T @ patches

    if len(offsets) * narrow.shape[-1] * wide[..., 0].size <= _PATCHES_MAX:
        total = product(wide, narrow)
    else:
        add = lambda total, pair: (total + product(pair[0][None], pair[1][None]), None)
        zero = jnp.zeros((wide.shape[-1], len(offsets) * narrow.shape[-1]), x.dtype)
        total, _ = jax.lax.scan(add, zero, (wide, narrow))
    total = total.reshape(wide.shape[-1], rows, columns, narrow.shape[-1])
    return x_gradient, total.transpose((1, 2, 0, 3) if features_in > features else (1, 2, 3, 0))


_convolve_densely.defvjp(_convolve_densely_forward, _convolve_densely_backward)


class _Convolution(nn.Module):
    features: int
    kernel_size: int = 5
    stride: int = 1
    padding: Padding = "zero"
    use_bias: bool = True
    kernel_init: nn.initializers.Initializer = _uniform_fan_in
    bias_init: nn.initializers.Initializer = nn.initializers.zeros
    lowering: Lowering | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        y = self._function(x, kernel, self.stride, self.padding, self.lowering)
        if self.use_bias:
            y += self.param("bias", self.bias_init, (self.features,))
        return y


class Conv(_Convolution):
    """`conv` with parameters "kernel" (k, k, I, features) and "bias" (features,)."""

    _function = staticmethod(conv)


class ConvTranspose(_Convolution):
    """`conv_transpose` with parameters "kernel" (k, k, I, features) and "bias" (features,)."""

    _function = staticmethod(conv_transpose)


class GDN(nn.Module):
    """Generalised divisive normalisation, y_i = x_i / sqrt(beta_i + sum_j gamma_ij x_j^2); `inverse` multiplies.

    Ballé et al., "Density modeling of images using a generalized normalization transformation" (ICLR 2016).
    Parameters hold CompressAI's reparametrisation sqrt(value + 2^-36): "beta" (C,) and "gamma" (C_in, C_out), the
    transpose of CompressAI's. x: (..., C); same shape returned.
    """

    inverse: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        beta = self.param("beta", lambda key: jnp.sqrt(jnp.ones(channels) + _GDN_PEDESTAL))
        gamma = self.param("gamma", lambda key: jnp.sqrt(0.1 * jnp.eye(channels) + _GDN_PEDESTAL))
        norm = jnp.matmul(x * x, _non_negative(gamma, 0.0)) + _non_negative(beta, _GDN_BETA_MIN)
        return x * (jnp.sqrt(norm) if self.inverse else jax.lax.rsqrt(norm))


def _non_negative(stored: jax.Array, minimum: float) -> jax.Array:
    return lower_bound(stored, (minimum + _GDN_PEDESTAL) ** 0.5) ** 2 - _GDN_PEDESTAL
