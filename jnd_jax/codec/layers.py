"""Convolutions in three lowerings, and generalised divisive normalisation.

The polyphase form of a strided convolution is space_to_depth, then a stride-1 convolution. That of a transposed
convolution is a stride-1 convolution, then depth_to_space. The direct form ("strided") needs dilated convolutions for a
transposed convolution and for the gradient of a strided one, and XLA's CPU back end has no fast path for them. So the
polyphase form is several times faster on CPUs; on other back ends the direct form is faster. For the same reason the
kernel gradients of wide layers are products of matrices on CPUs. On CUDA a stride-1 convolution is a product of
matrices too: cuDNN's are slow until they are tuned, which takes minutes a program.

All forms have the same parameters, and their numbers agree within float error. The platform that runs a program chooses
the form, not the one that traces it.

Everything is NHWC with HWIO kernels of odd size k. Padding is k // 2 zeros on each side, as in CompressAI's `conv` and
`deconv`: a stride-s convolution maps H to ceil(H / s), a transposed one maps H to s * H.
"""

from __future__ import annotations

import contextlib
import contextvars
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from jnd_jax.entropy.densities import lower_bound
from jnd_jax.errors import JndError

Lowering = Literal["polyphase", "strided", "product"]

_forced_lowering: contextvars.ContextVar[Lowering | None] = contextvars.ContextVar("lowering", default=None)
_compute_dtype: contextvars.ContextVar[Any] = contextvars.ContextVar("compute_dtype", default=None)

# Name of a block's output for `jax.checkpoint_policies`. Rematerialisation keeps only these outputs.
BLOCK_OUTPUT = "block_output"

# Torch's default for convolutions: uniform in +-1/sqrt(fan_in).
_uniform_fan_in = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")

# CompressAI stores sqrt(value + offset) so that gradients near zero stay bounded.
_GDN_PEDESTAL = 2.0**-36
_GDN_BETA_MIN = 1e-6

# Use im2col and a product of matrices for a kernel's gradient if either channel count is at least this.
_WIDE = 128

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")

# Into so many parts the rows of a tall product are cut for its gradient.
_PARTS = 64

# Upper bound on the im2col elements that are materialised at once: 64 MB in float32.
_PATCHES_MAX = 2**24


@contextlib.contextmanager
def use_lowering(lowering: Lowering) -> Iterator[None]:
    """Convolutions that are traced inside the block have this form on every platform.

    "product" is polyphase where there are strides.

    The choice is made at trace time: a function that was already jitted keeps the form it was traced with.
    """
    if lowering not in ("polyphase", "strided", "product"):
        raise JndError(f"No lowering is named {lowering!r}; use polyphase, strided or product.")
    token = _forced_lowering.set(lowering)
    try:
        yield
    finally:
        _forced_lowering.reset(token)


@contextlib.contextmanager
def compute_in(dtype: Any) -> Iterator[None]:
    """Convolutional layers traced inside the block compute in this type; parameters keep theirs. None: as given."""
    token = _compute_dtype.set(dtype)
    try:
        yield
    finally:
        _compute_dtype.reset(token)


def _by_platform(polyphase: Callable[..., jax.Array], strided: Callable[..., jax.Array], *args: jax.Array) -> jax.Array:
    """`polyphase(*args)` if the program runs on a CPU, else `strided(*args)`, which gives the same."""
    forced = _forced_lowering.get()
    if forced is None:
        return jax.lax.platform_dependent(*args, cpu=polyphase, default=strided)
    return (strided if forced == "strided" else polyphase)(*args)


def _on_cuda(product: Callable[..., jax.Array], direct: Callable[..., jax.Array], *args: jax.Array) -> jax.Array:
    """`product(*args)` if the program runs on CUDA, else `direct(*args)`, which gives the same."""
    forced = _forced_lowering.get()
    if forced is None:
        return jax.lax.platform_dependent(*args, cuda=product, default=direct)
    return (product if forced == "product" else direct)(*args)


def space_to_depth(x: jax.Array, block: int) -> jax.Array:
    """(..., H, W, C) -> (..., H/block, W/block, block^2 C); channels ordered (row, column, C) within a block."""
    *batch, height, width, channels = x.shape
    if height % block or width % block:
        raise JndError(f"Blocks of {block} do not divide {height} x {width}; pad height and width to multiples of it.")
    x = x.reshape(*batch, height // block, block, width // block, block, channels)
    return jnp.swapaxes(x, -4, -3).reshape(*batch, height // block, width // block, block * block * channels)


def depth_to_space(x: jax.Array, block: int) -> jax.Array:
    """(..., H, W, block^2 C) -> (..., block H, block W, C): the inverse of space_to_depth."""
    *batch, height, width, channels = x.shape
    if channels % block**2:
        raise JndError(f"Blocks of {block} need a multiple of {block**2} channels, not {channels}.")
    x = x.reshape(*batch, height, width, block, block, channels // block**2)
    return jnp.swapaxes(x, -4, -3).reshape(*batch, height * block, width * block, channels // block**2)


def conv(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """Convolution (cross-correlation) of x (B, H, W, I) with kernel (k, k, I, O) -> (B, ceil(H/s), ceil(W/s), O).

    Torch's Conv2d(k, stride, padding=k // 2).

    Raises:
        JndError: the kernel is not square, or of even size.
    """
    half = _half_width(kernel)
    if stride == 1:
        return _dense(x, kernel, [(half, half)] * 2)
    polyphase = partial(_polyphase_conv, stride=stride)
    return _by_platform(polyphase, lambda x, k: _convolve(x, k, [(half, half)] * 2, stride=stride), x, kernel)


def _polyphase_conv(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    half, phases = kernel.shape[0] // 2, _phases(kernel, stride)
    taps, _, _, _, features_in, features = phases.shape
    kernel = phases.swapaxes(1, 2).reshape(taps, taps, stride * stride * features_in, features)
    low = -(-half // stride)
    missing = [-size % stride for size in x.shape[1:3]]
    if any(missing):
        x = _pad(x, [(0, extra) for extra in missing])
    return _dense(space_to_depth(x, stride), kernel, [(low, taps - 1 - low)] * 2)


def conv_transpose(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """Transposed convolution of x (B, H, W, I) with kernel (k, k, I, O) -> (B, s H, s W, O).

    Torch's ConvTranspose2d(k, stride, padding=k // 2, output_padding=s - 1).

    Raises:
        JndError: the kernel is not square, or of even size.
    """
    half = _half_width(kernel)
    if stride == 1:
        return _dense(x, kernel[::-1, ::-1], [(half, half)] * 2)
    pads = [(half, half + stride - 1)] * 2
    return _by_platform(
        partial(_polyphase_conv_transpose, stride=stride),
        lambda x, k: _convolve(x, k[::-1, ::-1], pads, dilation=stride),
        x,
        kernel,
    )


def _polyphase_conv_transpose(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    half, phases = kernel.shape[0] // 2, _phases(kernel, stride)
    taps, _, _, _, features_in, features = phases.shape
    kernel = phases[::-1, :, ::-1].transpose(0, 2, 4, 1, 3, 5)
    kernel = kernel.reshape(taps, taps, features_in, stride * stride * features)
    return depth_to_space(_dense(x, kernel, [(half // stride, (half + stride - 1) // stride)] * 2), stride)


def _half_width(kernel: jax.Array) -> int:
    height, width = kernel.shape[:2]
    if height != width or height % 2 == 0:
        raise JndError(f"A kernel of {height} x {width} does not fit; make it square and of odd size.")
    return height // 2


def _phases(kernel: jax.Array, stride: int) -> jax.Array:
    """(k, k, I, O) -> (taps, s, taps, s, I, O): zeros around the kernel align it to blocks of s x s pixels."""
    size, _, features_in, features = kernel.shape
    front = -(size // 2) % stride
    taps = -(-(front + size) // stride)
    pads = (front, taps * stride - front - size)
    return jnp.pad(kernel, (pads, pads, (0, 0), (0, 0))).reshape(taps, stride, taps, stride, features_in, features)


def _pad(x: jax.Array, pads: Sequence[tuple[int, int]]) -> jax.Array:
    return jnp.pad(x, [(0, 0), *pads, (0, 0)])


def _convolve(
    x: jax.Array, kernel: jax.Array, pads: Sequence[tuple[int, int]], *, stride: int = 1, dilation: int = 1
) -> jax.Array:
    def direct(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), pads, lhs_dilation=(dilation, dilation), dimension_numbers=_DIMENSIONS
        )

    if stride > 1 or dilation > 1:
        return direct(x, kernel)
    return _on_cuda(partial(_product_of_patches, pads), direct, x, kernel)


def _product_of_patches(pads: Sequence[tuple[int, int]], x: jax.Array, kernel: jax.Array) -> jax.Array:
    """A stride-1 convolution by im2col and a product of matrices."""
    rows, columns, _, features = kernel.shape
    x = _pad(x, pads)
    height, width = x.shape[1] - rows + 1, x.shape[2] - columns + 1
    shifted = [x[:, i : i + height, j : j + width] for i in range(rows) for j in range(columns)]
    return tall_product(jnp.concatenate(shifted, -1), kernel.reshape(-1, features))


@jax.custom_vjp
def tall_product(x: jax.Array, matrix: jax.Array) -> jax.Array:
    """x (..., K) @ matrix (K, M), for an x of many rows. On CUDA the matrix's gradient is a sum over parts of the rows.

    A product of few elements and long sums keeps one to ten of a GPU's 132 processors busy, where its form is not tuned.
    """
    return x @ matrix


def _tall_product_backward(saved, gradient):
    x, matrix = saved
    at_once = lambda x, gradient: jnp.einsum("...k,...m->km", x, gradient)
    return gradient @ matrix.T, _on_cuda(_product_in_parts, at_once, x, gradient)


tall_product.defvjp(lambda x, matrix: (tall_product(x, matrix), (x, matrix)), _tall_product_backward)


def _product_in_parts(x: jax.Array, gradient: jax.Array) -> jax.Array:
    rows = x[..., 0].size
    parts = math.gcd(rows, _PARTS)
    x, gradient = (a.reshape(parts, rows // parts, -1) for a in (x, gradient))
    return jnp.sum(jnp.einsum("pnk,pnm->pkm", x, gradient), 0)


def left_product(matrix: jax.Array, x: jax.Array) -> jax.Array:
    """matrix (O, I) times each (I, S) of x (B, N, I, S). On CUDA the gradient is in parts, as that of `tall_product`."""
    each = lambda matrix, x: jnp.broadcast_to(matrix, (*x.shape[:2], *matrix.shape)) @ x
    return _on_cuda(each, lambda matrix, x: jnp.einsum("oi,bnis->bnos", matrix, x), matrix, x)


def _dense(x: jax.Array, kernel: jax.Array, pads: Sequence[tuple[int, int]]) -> jax.Array:
    """A stride-1 convolution, with a gradient that is fast on every platform."""
    by_product = kernel.shape[:2] == (1, 1) or max(kernel.shape[2:]) >= _WIDE
    return _convolve_densely(tuple(pads), x, kernel) if by_product else _convolve(x, kernel, pads)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _convolve_densely(pads: tuple[tuple[int, int], ...], x: jax.Array, kernel: jax.Array) -> jax.Array:
    """A stride-1 convolution whose kernel gradient is a product of matrices on a CPU.

    With many channels XLA's own gradient takes three times as long there.
    """
    return _convolve(x, kernel, pads)


def _convolve_densely_forward(pads, x, kernel):
    return _convolve_densely(pads, x, kernel), (x, kernel)


def _convolve_densely_backward(pads, saved, gradient):
    x, kernel = saved
    x_gradient = jax.vjp(lambda x: _convolve(x, kernel, pads), x)[1](gradient)[0]
    direct = lambda x, gradient: jax.vjp(lambda k: _convolve(x, k, pads), kernel)[1](gradient)[0]
    return x_gradient, _by_platform(partial(_kernel_gradient, pads, kernel.shape), direct, x, gradient)


_convolve_densely.defvjp(_convolve_densely_forward, _convolve_densely_backward)


def _kernel_gradient(
    pads: tuple[tuple[int, int], ...], shape: tuple[int, ...], x: jax.Array, gradient: jax.Array
) -> jax.Array:
    """Gradient (k, k, I, O) of a stride-1 convolution in its kernel, by im2col and a product of matrices."""
    rows, columns, features_in, features = shape
    inverse = [(n - 1 - low, n - 1 - high) for n, (low, high) in zip((rows, columns), pads)]
    # Patches are made of the array with fewer channels.
    if features_in > features:
        wide, narrow, size = x, _pad(gradient, inverse), x.shape[1:3]
        offsets = [(rows - 1 - i, columns - 1 - j) for i in range(rows) for j in range(columns)]
    else:
        wide, narrow, size = gradient, _pad(x, pads), gradient.shape[1:3]
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
    return total.transpose((1, 2, 0, 3) if features_in > features else (1, 2, 3, 0))


class _Convolution(nn.Module):
    features: int
    kernel_size: int = 5
    stride: int = 1
    kernel_init: nn.initializers.Initializer = _uniform_fan_in

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        dtype = _compute_dtype.get() or x.dtype
        return self._function(x.astype(dtype), kernel.astype(dtype), self.stride) + bias.astype(dtype)


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
        scaled = x * (jnp.sqrt(norm) if self.inverse else jax.lax.rsqrt(norm))
        return checkpoint_name(scaled.astype(x.dtype), BLOCK_OUTPUT)


def _non_negative(stored: jax.Array, minimum: float) -> jax.Array:
    return jnp.square(lower_bound(stored, (minimum + _GDN_PEDESTAL) ** 0.5)) - _GDN_PEDESTAL
