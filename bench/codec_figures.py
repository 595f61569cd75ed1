"""What a model's transforms and densities are worth, apart from any comparison.

    python bench/codec_figures.py [--model jnd-base] [--data FOLDER] [--qualities 0,25,50,75,100]

- PSNR of analysis and synthesis alone, nothing rounded, the mean over images: how near to lossless quality 100 can be.
- Multiply-adds a pixel of each part.
- Bytes of real files against the bits that the float densities of training give the very symbols in them: how much the
  integer tables and the range coder cost. The header is left out of the ratio and printed beside it.

Without --data the photos are those that scikit-image ships.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import jax.numpy as jnp
import numpy as np

import jnd_jax
from jnd_jax import bitstream, modelfile
from jnd_jax.codec import build, coding, hyper, hyper_context
from jnd_jax.data.cache import find_images, sample_photos
from jnd_jax.entropy.densities import conditional_laplacian_bits
from jnd_jax.images import read_rgb
from jnd_jax.metrics.psnr import psnr


def transform_psnr(codec, image: np.ndarray) -> float:
    """PSNR in dB of synthesis(analysis(image)), rounded to 8 bits only at the end, at the highest quality."""
    y = codec.analyse(image, hyper.QUALITY_MAX)
    return psnr(image, codec.synthesise(y, hyper.QUALITY_MAX)[: image.shape[0], : image.shape[1]])


def estimated_bits(model: modelfile.ModelFile, codec, data: bytes) -> float:
    """Bits that the float densities give the symbols in a file."""
    header, chunks = bitstream.unpack(data)
    latents = codec.decode_latents(header, chunks)
    coder = coding.latent_coder(model.params, model.tables)
    z = coder.decode_z(chunks["z"], *(n // 4 for n in latents.symbols.shape[:2]), header.quality, header.coder)
    scale = hyper.scale_table()[latents.indexes]
    around, quality = hyper_context.neighbours(jnp, z)[None], jnp.full(1, header.quality)
    of_z = build(model.config).apply({"params": model.params}, around, quality, method="hyper_context")
    return float(
        jnp.sum(conditional_laplacian_bits(latents.symbols, 0.0, scale))
        + jnp.sum(conditional_laplacian_bits(z[None], *of_z))
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="jnd-base")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--qualities", default="0,25,50,75,100")
    args = parser.parse_args()
    model, codec = modelfile.load(modelfile.find(args.model)), jnd_jax.load(args.model)
    images = [read_rgb(path) for path in (find_images(args.data) if args.data else sample_photos())]
    fidelity = [transform_psnr(codec, image) for image in images]
    print(
        f"{args.model}, {len(images)} images\ntransforms alone: mean {np.mean(fidelity):.2f} dB, "
        f"lowest {min(fidelity):.2f} dB"
    )
    print("thousand multiply-adds a pixel: " + ", ".join(f"{k} {v:.2f}" for k, v in codec.multiply_adds().items()))
    for quality in (float(q) for q in args.qualities.split(",")):
        ratios, headers = [], []
        for image in images:
            data = codec.encode(image, quality)
            _, chunks = bitstream.unpack(data)
            payload = len(chunks["z"]) + len(chunks["y"])
            ratios.append(8 * payload / estimated_bits(model, codec, data))
            headers.append(len(data) - payload)
        print(
            f"quality {quality:5.1f}: bytes / estimate {min(ratios):.4f} to {max(ratios):.4f}, "
            f"mean {np.mean(ratios):.4f}; header {max(headers)} bytes",
            flush=True,
        )


if __name__ == "__main__":
    main()
