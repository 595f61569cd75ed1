"""Images of more than 8 bits: sizes and errors beside JPEG XL and JPEG 2000, without loss and with a bound on the error.

    python bench/deep.py -o docs/results/pictures/deep.md

The images are those of 9 to 13 bits that pydicom ships; 693_J2KI.dcm and JPEG2000.dcm were coded as JPEG 2000 before. Errors are in the image's own levels. JPEG XL and JPEG 2000
have no bound on the error: their quality is the smallest that keeps the largest error within it.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom

import jnd_jax
from jnd_jax import images
from jnd_jax.image_codec import bit_depth, measure
from jnd_jax.policy import Policy
from jnd_jax.search import Target

NAMES = (
    "CT_small.dcm",
    "MR_small.dcm",
    "693_J2KI.dcm",
    "J2K_pixelrep_mismatch.dcm",
    "JPEG2000.dcm",
    "examples_overlay.dcm",
)
BOUNDS = (0, 4, 16)


def pictures(names) -> dict[str, np.ndarray]:
    """Grey images by name, their middle cut out where they are large."""
    folder, found = Path(pydicom.__file__).parent / "data" / "test_files", {}
    for name in names:
        try:
            pixels = images.read_image(folder / name).pixels
        except (jnd_jax.JndError, OSError):
            continue
        if pixels.dtype == np.uint16 and pixels.ndim == 2:
            rows, columns = (slice(max(0, side // 2 - 256), side // 2 + 256) for side in pixels.shape)
            found[name] = np.ascontiguousarray(pixels[rows, columns])
    return found


def within(image: np.ndarray, bound: int, encode: Callable[[float], bytes], decode: Callable, settings) -> bytes | None:
    """The smallest file among settings that keeps the bound."""
    files = (encode(setting) for setting in settings)
    kept = [data for data in files if abs(decode(data).astype(int) - image).max() <= bound]
    return min(kept, key=len, default=None)


def jpeg_xl(image: np.ndarray, bound: int) -> tuple[bytes | None, Callable]:
    decode = imagecodecs.jpegxl_decode
    if bound == 0:
        return imagecodecs.jpegxl_encode(image, lossless=True, effort=7), decode
    encode = lambda distance: imagecodecs.jpegxl_encode(image, distance=distance, effort=7)
    return within(image, bound, encode, decode, np.geomspace(0.01, 3, 14).tolist()), decode


def jpeg_2000(image: np.ndarray, bound: int) -> tuple[bytes | None, Callable]:
    decode = imagecodecs.jpeg2k_decode
    if bound == 0:
        return imagecodecs.jpeg2k_encode(image, reversible=True), decode
    encode = lambda level: imagecodecs.jpeg2k_encode(image, level=level, reversible=False)
    return within(image, bound, encode, decode, range(40, 110, 3)), decode


def ours(codec, image: np.ndarray, bound: int) -> tuple[bytes, Callable]:
    # Below a lossless image, the lossy one is a preview.
    policy = Policy("bench", "", Target("psnr", 45.0 if bound else 1.0), Target("psnr", 1.0), 90.0, bound)
    return codec.encode(image, policy=policy), codec.decode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--model", default="jnd-base")
    args = parser.parse_args()
    codec = jnd_jax.load(args.model)
    lines = [f"`{shlex.join(['python', *sys.argv])}`, model {codec.name}", ""]
    lines += [
        "Bits a pixel (largest error, PSNR in dB).",
        "",
        "| image | bits | bound | jnd | JPEG XL | JPEG 2000 | PNG |",
        "|" + "---|" * 7,
    ]
    for name, image in pictures(args.names).items():
        for bound in BOUNDS:
            row = []
            for data, decode in (ours(codec, image, bound), jpeg_xl(image, bound), jpeg_2000(image, bound)):
                if data is None:
                    row.append("not within it")
                    continue
                decoded = decode(data)
                error = abs(decoded.astype(int) - image).max()
                quality = f", {measure('psnr', image, decoded):.1f}" if error else ""
                row.append(f"{8 * len(data) / image.size:.2f} ({error}{quality})")
            plain = f"{8 * len(images.encode_lossless(image)) / image.size:.2f}" if bound == 0 else ""
            height, width = image.shape
            lines.append(f"| {name} {width}x{height} | {bit_depth(image)} | {bound} | {' | '.join(row)} | {plain} |")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
