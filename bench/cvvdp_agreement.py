"""Does CVVDP in JAX say what its package says? 60 pairs of real codecs, as a table on standard output.

    pip install cvvdp && python bench/cvvdp_agreement.py PHOTOS_FOLDER > bench/cvvdp_agreement.csv

Crops of 384x512 of five photographs, coded by JPEG, AVIF, JPEG XL and JPEG 2000 at three qualities each.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

import numpy as np

from jnd_jax import codecs, metrics
from jnd_jax.jnd.targets import named_images, read_pixels

QUALITIES = {"jpeg": (25, 60, 90), "avif": (30, 60, 85), "jxl": (40, 70, 92), "j2k": (28, 34, 42)}
HEIGHT, WIDTH, PHOTOS = 384, 512, 5


def crops(folder: Path) -> dict[str, np.ndarray]:
    """By name, the centre (384, 512, 3) of photographs spread over the folder."""
    paths = named_images(folder)
    result = {}
    for name in sorted(paths)[:: max(1, len(paths) // PHOTOS)][:PHOTOS]:
        image = read_pixels(paths[name])
        top, left = (image.shape[0] - HEIGHT) // 2, (image.shape[1] - WIDTH) // 2
        result[name] = np.ascontiguousarray(image[top : top + HEIGHT, left : left + WIDTH])
    return result


def main() -> None:
    import pycvvdp

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    package = pycvvdp.cvvdp(display_name="standard_fhd", quiet=True)
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(("image", "codec", "quality", "package", "jnd_jax", "difference"))
    differences = []
    for name, image in crops(parser.parse_args().folder).items():
        for codec, qualities in QUALITIES.items():
            for quality in qualities:
                decoded = codecs.decode(codec, codecs.encode(codec, image, quality))
                theirs = float(package.predict(decoded, image, dim_order="HWC")[0])
                ours = metrics.measure("cvvdp", image, decoded)
                differences.append(abs(ours - theirs))
                table.writerow((name, codec, quality, f"{theirs:.4f}", f"{ours:.4f}", f"{ours - theirs:+.5f}"))
    print(f"{len(differences)} pairs, greatest difference {max(differences):.5f} JOD", file=sys.stderr)


if __name__ == "__main__":
    main()
