"""Writes golden/<model>.npz: weights, inputs and outputs of CompressAI itself, for test_hyperprior.py.

    pip install torch==2.13.0 compressai==1.2.8
    python tests/codec/make_compressai_golden.py

Keys: "state/<key>" the state dict; "image" (B, H, W, 3) uint8; "x_hat" (B, H, W, 3) and the bits "bits_y", "bits_z"
(B,) of the evaluation pass.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from compressai.models import MeanScaleHyperprior, ScaleHyperprior

N, M = 8, 12


def _randomise(model: torch.nn.Module) -> None:
    """Away from initial values, so that each parameter matters: latents of a few steps, scales around one."""
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key.endswith((".beta", ".gamma")) or "entropy_bottleneck" in key:
                parameter += 0.1 * torch.randn_like(parameter).abs()
            if key.endswith("quantiles"):
                parameter[:, 0, 1] = 0.4 * torch.randn(parameter.shape[0])
            if key.startswith(("g_a.6", "h_a.4")):
                parameter *= 25
        model.h_s[4].bias[:M] += 1.5


def _distance_to_half(value: torch.Tensor) -> float:
    return float((value - value.floor() - 0.5).abs().min().detach())


def make(name: str, model_class: type, seed: int) -> None:
    torch.manual_seed(seed)
    model = model_class(N, M).eval()
    _randomise(model)
    rows, columns = np.mgrid[:64, :64]
    image = np.stack([rows * 4, columns * 4, (rows * columns) // 16], -1)
    image = np.stack([image, np.random.default_rng(seed).integers(0, 256, image.shape)]).astype(np.uint8)
    with torch.no_grad():
        x = torch.from_numpy(image).permute(0, 3, 1, 2).float() / 255
        out = model(x)
        y = model.g_a(x)
        z = model.h_a(y.abs() if name == "bmshj2018-hyperprior" else y)
        z_centre = model.entropy_bottleneck.quantiles[:, 0, 1].reshape(1, -1, 1, 1)
        z_hat = torch.round(z - z_centre) + z_centre
        mean = 0 if name == "bmshj2018-hyperprior" else model.h_s(z_hat).chunk(2, 1)[1]
    # A value at a rounding edge could fall on either side in another runtime.
    assert _distance_to_half(z - z_centre) > 1e-4 and _distance_to_half(y - mean) > 1e-5, "choose another seed"
    assert y.std() > 1 and z.std() > 1, "latents must not all round to zero"
    bits = {f"bits_{k}": -torch.log2(v.double()).sum((1, 2, 3)).numpy() for k, v in out["likelihoods"].items()}
    state = {f"state/{key}": value.numpy() for key, value in model.state_dict().items()}
    path = Path(__file__).parent / "golden" / f"{name}.npz"
    np.savez_compressed(path, image=image, x_hat=out["x_hat"].permute(0, 2, 3, 1).numpy(), **bits, **state)
    print(path.name, "y", float(y.std()), "z", float(z.std()), {k: v.tolist() for k, v in bits.items()})


if __name__ == "__main__":
    make("bmshj2018-hyperprior", ScaleHyperprior, seed=1)
    make("mbt2018-mean", MeanScaleHyperprior, seed=2)
