"""Swapped parts: lines of the part, and bits per pixel of a real file against the estimate that training sees.

    python -m bench.own_parts [--steps 100] [--data photos/]

Trains each example of docs/own-parts.md, and this package's codec, on 64x64 crops, and codes one photograph.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

import jnd_jax
from configs import base
from jnd_jax import bitstream, codec, losses, modelfile
from jnd_jax.data.cache import load_images
from jnd_jax.training.loop import train_and_evaluate

PAGE = Path(__file__).parents[1] / "docs/own-parts.md"
ROWS = {
    "none": (codec.settings("lapped"), losses.settings("rate_distortion"), None),
    "distance": (
        codec.settings("lapped"),
        losses.settings("rate_distortion", distance="own_loss:luma_error"),
        "own_loss",
    ),
    "loss": (codec.settings("lapped"), {"name": "own_loss:power_error", "power": 1.2}, "own_loss"),
    "analysis": ({"name": "own_analysis:WideAnalysis"}, losses.settings("rate_distortion"), "own_analysis"),
    "all of a codec": ({"name": "own_codec:Patches"}, losses.settings("rate_distortion"), "own_codec"),
    "mbt2018-mean": (codec.settings("mbt2018-mean"), losses.settings("rate_distortion"), None),
}


def examples(folder: Path) -> dict[str, int]:
    """Writes the page's modules into a folder; their lines without imports and blanks."""
    lines = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S):
        name = code.split("\n")[0].removeprefix("# ")
        (folder / name).write_text(code)
        counted = [line for line in code.splitlines() if line.strip() and not line.startswith(("#", "import", "from"))]
        lines[name.removesuffix(".py")] = len(counted)
    return lines


def rates(path: Path, image: np.ndarray, quality: float) -> tuple[float, float, float]:
    """Estimated and real bits per pixel, and the decoded image's PSNR."""
    file, model = modelfile.load(path), jnd_jax.load(path)
    x, q = image[None].astype(np.float32) / 255, jnp.full(1, 10 * quality)
    out: Any = jax.jit(codec.build(file.config).apply)({"params": file.params}, x, q, None)
    data = model.encode(image, None if len(model.qualities) == 1 else quality)
    _, chunks = bitstream.unpack(data)
    mse = np.mean((model.decode(data).astype(float) - image) ** 2)
    pixels = image.shape[0] * image.shape[1]
    real = 8 * sum(len(chunks[name]) for name in ("z", "y")) / pixels
    return float(out.bits_y[0] + out.bits_z[0]) / pixels, real, 10 * np.log10(255**2 / mse)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--data", default="", help="folders of images, by default those of scikit-image")
    args = parser.parse_args()
    image = np.asarray(load_images(args.data or None)[0][:512, :512])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sys.path.insert(0, name)
        lines = examples(folder)
        print("| part | lines | estimated bpp | real bpp | difference | PSNR |\n|---|---|---|---|---|---|", flush=True)
        for part, (model, loss, module) in ROWS.items():
            config = base.get_config()
            config.model, config.loss = ConfigDict(model), ConfigDict(loss)
            config.data.update(path=args.data, crop=64, batch=8)
            config.train.update(steps=args.steps, optimizer="adam", betas=(0.9, 0.999), learning_rate=1e-3, warmup=20)
            config.eval.update(every=0, images=1, max_size=64)
            train_and_evaluate(config, folder / part)
            estimated, real, psnr = rates(folder / part / "model.safetensors", image, 50.0)
            of = str(lines[module]) if module else "0"
            print(
                f"| {part} | {of} | {estimated:.4f} | {real:.4f} | {real / estimated - 1:+.2%} | {psnr:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
