"""Does CVVDP in JAX say what its package says? 60 pairs of real codecs on two screens, as a table on standard output.

    pip install cvvdp && python bench/cvvdp_agreement.py PHOTOS_FOLDER > bench/cvvdp_agreement.csv

Crops of 384x512 of five photographs, coded by JPEG, AVIF, JPEG XL and JPEG 2000 at three qualities each.
"""

from __future__ import annotations

import argparse
import csv
import sys
from functools import partial
from pathlib import Path

import jax
import numpy as np

from jnd_jax import codecs
from jnd_jax.jnd.targets import named_images, read_pixels
from jnd_jax.perception.cvvdp import BEST_JOD, STANDARD_4K, STANDARD_FHD, cvvdp_error

SCREENS = {"standard_fhd": STANDARD_FHD, "standard_4k": STANDARD_4K}
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
    packages = {name: pycvvdp.cvvdp(display_name=name, quiet=True) for name in SCREENS}
    functions = {name: jax.jit(partial(cvvdp_error, display=display)) for name, display in SCREENS.items()}
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(("screen", "image", "codec", "quality", "package", "jnd_jax", "difference"))
    differences = []
    for name, image in crops(parser.parse_args().folder).items():
        for codec, qualities in QUALITIES.items():
            for quality in qualities:
                decoded = codecs.decode(codec, codecs.encode(codec, image, quality))
                batches = [a[None] / np.float32(255) for a in (image, decoded)]
                for screen in SCREENS:
                    theirs = float(packages[screen].predict(decoded, image, dim_order="HWC")[0])
                    ours = BEST_JOD - float(functions[screen](*batches)[0])
                    differences.append(abs(ours - theirs))
                    values = f"{theirs:.4f}", f"{ours:.4f}", f"{ours - theirs:+.5f}"
                    table.writerow((screen, name, codec, quality, *values))
    print(f"{len(differences)} pairs, greatest difference {max(differences):.5f} JOD", file=sys.stderr)


if __name__ == "__main__":
    main()
