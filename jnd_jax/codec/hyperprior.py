"""The field's two reference codecs, layer by layer as in CompressAI, and a reader for its weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from jnd_jax.codec.contract import HyperpriorCodec
from jnd_jax.codec.layers import GDN, Conv, ConvTranspose
from jnd_jax.codec.linear import FOOTPRINT
from jnd_jax.entropy.densities import factorized_bits, factorized_init
from jnd_jax.errors import JndError
from jnd_jax.perception.torch_file import read_state_dict


class ScaleHyperprior(HyperpriorCodec):
    """bmshj2018-hyperprior: a zero-mean Gaussian for each latent, its scale told by hyper-latents.

    Ballé, Minnen, Singh, Hwang, Johnston, "Variational image compression with a scale hyperprior", ICLR 2018.

              ┌───┐  y       ┌───┐  z  ┌───┐  z_hat  ┌───┐
        x ─►──┤g_a├─►──┬──►──┤h_a├──►──┤ Q ├──►──EB──┤h_s├──┐
              └───┘    │     └───┘     └───┘         └───┘  │
                     ┌─┴─┐                                  │
                     │ Q │                                  │ scale
                     └─┬─┘                                  │
              ┌───┐    │ y_hat                              │
    x_hat ─◄──┤g_s├─◄──┴──GC────────────────────────────────┘
              └───┘
        EB = factorized density ("entropy bottleneck"), GC = conditional Gaussian

    g_a: 5x5 convolutions 3-N-N-N-M of stride 2 with GDN between. g_s: its mirror with inverse GDN.
    h_a: |y|, 3x3 to N, then two 5x5 of stride 2. h_s: two 5x5 transposed of stride 2, then 3x3 to M. ReLU between.
    A model has one rate: `quality` is ignored.

    Attributes:
        N: width of the networks, and channels of z.
        M: channels of y.
    """

    N: int = 128
    M: int = 192
    one_rate = True

    def setup(self):
        N, M = self.N, self.M
        self.g_a = nn.Sequential(
            [Conv(N, stride=2), GDN(), Conv(N, stride=2), GDN(), Conv(N, stride=2), GDN(), Conv(M, stride=2)]
        )
        self.g_s = nn.Sequential(
            [
                ConvTranspose(N, stride=2),
                GDN(inverse=True),
                ConvTranspose(N, stride=2),
                GDN(inverse=True),
                ConvTranspose(N, stride=2),
                GDN(inverse=True),
                ConvTranspose(3, stride=2),
            ]
        )
        self.h_a, self.h_s = self._hyper_transforms()
        self.entropy_bottleneck = self.param("entropy_bottleneck", factorized_init, N)
        # Rounding is centred on it. CompressAI learns it by an auxiliary loss; no gradient of the rate reaches it.
        self.median = self.param("median", nn.initializers.zeros, (N,))

    def _hyper_transforms(self) -> tuple[nn.Sequential, nn.Sequential]:
        N, M = self.N, self.M
        h_a = [Conv(N, kernel_size=3), nn.relu, Conv(N, stride=2), nn.relu, Conv(N, stride=2)]
        h_s = [
            ConvTranspose(N, stride=2),
            nn.relu,
            ConvTranspose(N, stride=2),
            nn.relu,
            Conv(M, kernel_size=3),
            nn.relu,
        ]
        return nn.Sequential(h_a), nn.Sequential(h_s)

    def analysis(self, x: jax.Array, quality: jax.Array | None = None) -> jax.Array:
        """x (B, H, W, 3) in [0, 1], H and W multiples of 64 -> latents y (B, H/16, W/16, M)."""
        if x.shape[1] % FOOTPRINT or x.shape[2] % FOOTPRINT:
            raise JndError(f"Sides of {x.shape[1:3]} cannot be coded; pad them to multiples of {FOOTPRINT}.")
        return self.g_a(x)

    def synthesis(self, y_hat: jax.Array, quality: jax.Array | None = None) -> jax.Array:
        """Latents (B, H/16, W/16, M) -> x_hat (B, H, W, 3), not clipped."""
        return self.g_s(y_hat)

    def hyper_analysis(self, y: jax.Array) -> jax.Array:
        """Latents (B, H/16, W/16, M) -> hyper-latents z (B, H/64, W/64, N)."""
        return self.h_a(jnp.abs(y))

    def predict(self, z_hat: jax.Array, y_hat: jax.Array, known: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Hyper-latents (B, H/64, W/64, N) -> mean and scale of the latents, each (B, H/16, W/16, M)."""
        scale = self.h_s(z_hat)
        return jnp.zeros_like(scale), scale

    def hyper_centre(self) -> jax.Array:
        return self.median

    def hyper_bits(self, z: jax.Array) -> jax.Array:
        return factorized_bits(self.entropy_bottleneck, z)


class MeanScaleHyperprior(ScaleHyperprior):
    """mbt2018-mean: as ScaleHyperprior, but the hyper-latents tell the mean of each latent too.

    Minnen, Ballé, Toderici, "Joint autoregressive and hierarchical priors for learned image compression", NeurIPS
    2018, without the autoregressive part.

              ┌───┐  y       ┌───┐  z  ┌───┐  z_hat  ┌───┐
        x ─►──┤g_a├─►──┬──►──┤h_a├──►──┤ Q ├──►──EB──┤h_s├──┐
              └───┘    │     └───┘     └───┘         └───┘  │
                     ┌─┴─┐                                  │
                     │ Q │◄────────── mean ─────────────────┤
                     └─┬─┘                                  │ mean, scale
              ┌───┐    │ y_hat                              │
    x_hat ─◄──┤g_s├─◄──┴──GC────────────────────────────────┘
              └───┘

    h_a sees y itself; h_s: 5x5 transposed to M and 3M/2, then 3x3 to 2M (scales, then means); leaky ReLU between.
    """

    def _hyper_transforms(self) -> tuple[nn.Sequential, nn.Sequential]:
        N, M = self.N, self.M
        h_a = [Conv(N, kernel_size=3), nn.leaky_relu, Conv(N, stride=2), nn.leaky_relu, Conv(N, stride=2)]
        h_s = [
            ConvTranspose(M, stride=2),
            nn.leaky_relu,
            ConvTranspose(M * 3 // 2, stride=2),
            nn.leaky_relu,
            Conv(M * 2, kernel_size=3),
        ]
        return nn.Sequential(h_a), nn.Sequential(h_s)

    def hyper_analysis(self, y: jax.Array) -> jax.Array:
        """Latents (B, H/16, W/16, M) -> hyper-latents z (B, H/64, W/64, N)."""
        return self.h_a(y)

    def predict(self, z_hat: jax.Array, y_hat: jax.Array, known: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Hyper-latents (B, H/64, W/64, N) -> mean and scale of the latents, each (B, H/16, W/16, M)."""
        scale, mean = jnp.split(self.h_s(z_hat), 2, axis=-1)
        return mean, scale


MODELS = {"bmshj2018-hyperprior": ScaleHyperprior, "mbt2018-mean": MeanScaleHyperprior}


_TRANSPOSED = {"g_s.0", "g_s.2", "g_s.4", "g_s.6", "h_s.0", "h_s.2"}

# Constants and coding tables, which follow from the parameters.
_BUFFERS = re.compile(
    r".*\.(pedestal|bound)"
    r"|(entropy_bottleneck|gaussian_conditional)\.(_offset|_quantized_cdf|_cdf_length|target|scale_table|scale_bound)"
)


def from_compressai(source: Mapping[str, Any] | str | Path, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Config and parameters of a reference codec from CompressAI's weights.

    Args:
        source: a CompressAI state dict, arrays by key, of any release (with "entropy_bottleneck._matrix0" or
            "entropy_bottleneck.matrices.0"); or the path of a torch file that holds one, alone or under "state_dict".
        name: "bmshj2018-hyperprior" or "mbt2018-mean".

    Returns:
        ({"name", "N", "M"}, params): N and M are read from the weights; params are float32 NumPy arrays.

    Raises:
        JndError: an unknown name, or keys that are missing, unknown or of a wrong shape.
    """
    if name not in MODELS:
        raise JndError(f"There is no reference codec {name!r}; choose one of {', '.join(MODELS)}.")
    state = read_state_dict(source) if isinstance(source, (str, Path)) else source
    state = {_modern_key(key): np.asarray(value) for key, value in state.items()}
    last = state.get("g_a.6.weight")
    if last is None or last.ndim != 4:
        raise JndError(f"The state dict has no 4-D array g_a.6.weight; give one of {name} from CompressAI.")
    M, N = last.shape[:2]
    model = MODELS[name](N=N, M=M)
    sample = jnp.zeros((1, FOOTPRINT, FOOTPRINT, 3))
    expected = jax.eval_shape(model.init, jax.random.key(0), sample, None, None)["params"]
    params = {}
    leaves: Any = traverse_util.flatten_dict(expected)
    for path, leaf in leaves.items():
        key = _compressai_key(path)
        if key not in state:
            raise JndError(f"The state dict has no {key}, which {name} has; give one of {name}.")
        value = _to_flax_layout(key, state.pop(key))
        if value.shape != leaf.shape:
            raise JndError(f"{key} does not have the shape it has in {name} with N={N}, M={M}; give one of {name}.")
        params[path] = value.astype(np.float32)
    unknown = sorted(key for key in state if not _BUFFERS.fullmatch(key))
    if unknown:
        raise JndError(
            f"The state dict has keys that {name} does not have: {', '.join(unknown[:5])}; give one of {name}."
        )
    return {"name": name, "N": N, "M": M}, traverse_util.unflatten_dict(params)


def _modern_key(key: str) -> str:
    plural = {"matrix": "matrices", "bias": "biases", "factor": "factors"}
    match = re.fullmatch(r"entropy_bottleneck\._(matrix|bias|factor)(\d+)", key)
    return f"entropy_bottleneck.{plural[match[1]]}.{match[2]}" if match else key


def _compressai_key(path: tuple[str, ...]) -> str:
    if path == ("median",):
        return "entropy_bottleneck.quantiles"
    if path[0] == "entropy_bottleneck":
        return _modern_key(f"entropy_bottleneck._{path[1].replace('_', '')}")
    stage, layer, leaf = path
    return f"{stage}.{layer.removeprefix('layers_')}.{'weight' if leaf == 'kernel' else leaf}"


def _to_flax_layout(key: str, value: np.ndarray) -> np.ndarray:
    if key.endswith(".quantiles"):
        return value[:, 0, 1]
    if key.endswith(".gamma"):
        return value.T
    if key.endswith(".weight") and value.ndim == 4:
        return value.transpose((2, 3, 0, 1) if key.removesuffix(".weight") in _TRANSPOSED else (2, 3, 1, 0))
    return value
