"""What a model's transforms and densities are worth, apart from any comparison.

    python bench/codec_figures.py [--model jnd-base] [--data FOLDER] [--qualities 0,25,50,75,100]

- PSNR of analysis and synthesis alone, nothing rounded, the mean over images: how near to lossless quality 100 can be.
- Multiply-adds a pixel of each part, as XLA counts them in the compiled functions (a multiply-add is two operations).
- Bytes of real files against the bits that the float densities of training give the very symbols in them: how much the
  integer tables and the range coder cost. The header is left out of the ratio and printed beside it.

Without --data the photos are those that scikit-image ships.
"""
from __future__ import annotations

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jnd_jax
from jnd_jax import bitstream
from jnd_jax.codec import hyper
from jnd_jax.codec.jnd import JndCodec
from jnd_jax.data.cache import decode_rgb, find_images, sample_photos
from jnd_jax.entropy.densities import conditional_laplacian_bits, factorized_bits
from jnd_jax.metrics.psnr import psnr

SIDE = 512  # of the image for which multiply-adds are counted


def transform_psnr(codec, image: np.ndarray) -> float:
    """PSNR in dB of synthesis(analysis(image)), rounded to 8 bits only at the end, at the highest quality."""
    y = codec.analyse(image, hyper.QUALITY_MAX)
    return psnr(image, codec.synthesise(y, hyper.QUALITY_MAX)[: image.shape[0], : image.shape[1]])


def multiply_adds(model: JndCodec, params) -> dict[str, float]:
    """Thousands of multiply-adds a pixel of the networks of each part.

    Of the hyper-synthesis the decoder runs the part that reads the neighbours in each of its two passes, the part that
    reads the hyper-latents once, and the last layers once for each position.
    """
    q, h = jnp.zeros(1), SIDE // 16
    y, z = jnp.zeros((1, h, h, model.latents)), jnp.zeros((1, h // 4, h // 4, model.hyper_latents))
    some = jnp.zeros((1, h, h, 1))
    wide, narrow = (jnp.zeros((1, h, h, n)) for n in (model.hyper_width, model.hyper_width // 2))
    offset = jnp.zeros(model.latents)

    def count(function, *arrays) -> float:
        cost = jax.jit(lambda p, *a: function(model.bind({"params": p}), *a)).lower(params, *arrays).compile()
        return cost.cost_analysis()["flops"] / 2 / SIDE**2 / 1e3

    once = count(lambda m, z: (hyper.scale_features(jnp, m.integer_scale_path(), z, jnp.floor),
                               hyper.mean_features(jnp, m.mean_path, z)), z)
    twice = count(lambda m, y, d: (hyper.scale_context(jnp, m.integer_scale_path(), y, d, jnp.floor),
                                   hyper.mean_context(jnp, m.mean_path, y, d)), y, some)
    last = count(lambda m, a, b, y, o: (hyper.scale_indexes(jnp, m.integer_scale_path(), a, a, o, jnp.floor),
                                        hyper.means(jnp, m.mean_path, b, b, y)), wide, narrow, y, offset)
    return {
        "analysis": count(lambda m, x: m.analysis(x, q), jnp.zeros((1, SIDE, SIDE, 3))),
        "hyper-analysis": count(lambda m, y: m.hyper_analysis(y), y),
        "hyper-synthesis": once + 2 * twice + last,
        "synthesis": count(lambda m, y: m.synthesis(y, q), y),
    }


def estimated_bits(codec, params, data: bytes) -> float:
    """Bits that the float densities give the symbols in a file."""
    header, chunks = bitstream.unpack(data)
    latents = codec.decode_latents(header, chunks)
    z = codec._latents.decode_z(
        chunks["z"], *(n // 4 for n in latents.symbols.shape[:2]), header.quality, header.coder)
    scale = hyper.scale_table()[latents.indexes]
    density = jax.tree.map(lambda p: p[hyper.nearest_node(header.quality)], params["factorized"])
    return float(jnp.sum(conditional_laplacian_bits(latents.symbols, 0.0, scale)) + jnp.sum(factorized_bits(density, z)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="jnd-base")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--qualities", default="0,25,50,75,100")
    args = parser.parse_args()
    codec = jnd_jax.load(args.model)
    images = [decode_rgb(path) for path in (find_images(args.data) if args.data else sample_photos())]
    fidelity = [transform_psnr(codec, image) for image in images]
    print(f"{args.model}, {len(images)} images\ntransforms alone: mean {np.mean(fidelity):.2f} dB, "
          f"lowest {min(fidelity):.2f} dB")
    parts = multiply_adds(codec._model, codec._params)
    decoder = parts["hyper-synthesis"] + parts["synthesis"]
    print("thousand multiply-adds a pixel: " + ", ".join(f"{k} {v:.2f}" for k, v in parts.items())
          + f"; to decode {decoder:.2f}")
    for quality in (float(q) for q in args.qualities.split(",")):
        ratios, headers = [], []
        for image in images:
            data = codec.encode(image, quality)
            _, chunks = bitstream.unpack(data)
            payload = len(chunks["z"]) + len(chunks["y"])
            ratios.append(8 * payload / estimated_bits(codec, codec._params, data))
            headers.append(len(data) - payload)
        print(f"quality {quality:5.1f}: bytes / estimate {min(ratios):.4f} to {max(ratios):.4f}, "
              f"mean {np.mean(ratios):.4f}; header {max(headers)} bytes", flush=True)


if __name__ == "__main__":
    main()
