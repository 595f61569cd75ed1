"""Writes the frozen tiny model and its streams: python tests/golden/make_golden.py

Run once. The committed files are the promise that old streams decode for ever; making them anew would break it.
"""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
from skimage import data

import jnd_jax
from jnd_jax import codec
from jnd_jax.training.packaging import export_model

FOLDER = Path(__file__).parent
CONFIG = dict(
    name="lapped",
    latents=32,
    hyper_latents=4,
    hyper_width=8,
    hyper_context_width=8,
    widths=(8, 16),
    analysis_depths=(1, 1),
    synthesis_depths=(1, 1),
    groups=(8,),
    context_width=8,
    own_width=8,
    hidden_width=16,
)
STREAMS = {"astronaut-q20": (200, 130, 20.0), "astronaut-q60": (64, 64, 60.0), "astronaut-q100": (33, 49, 100.0)}


def main():
    model = codec.build(CONFIG)
    x = jnp.zeros((1, 64, 64, 3))
    params = model.init(jax.random.key(0), x, jnp.zeros(1), None)["params"]
    rng = np.random.default_rng(0)
    # Untrained parameters leave many paths at zero: a little noise makes every one of them matter.
    params = jax.tree.map(lambda p: np.asarray(p) + 0.01 * rng.standard_normal(p.shape).astype(np.float32), params)
    params["mean_0_above"] = params["mean_0_above"] + np.float32(0.4)
    export_model(params, FOLDER / "tiny.safetensors", model)
    tiny = jnd_jax.load(FOLDER / "tiny.safetensors")
    for name, (height, width, quality) in STREAMS.items():
        stream = tiny.encode(data.astronaut()[:height, 100 : 100 + width], quality)
        (FOLDER / f"{name}.jnd").write_bytes(stream)
        Image.fromarray(tiny.decode(stream)).save(FOLDER / f"{name}.png")


if __name__ == "__main__":
    main()
