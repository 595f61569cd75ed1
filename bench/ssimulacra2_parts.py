"""Which parts of SSIMULACRA2 tell the default model from AVIF at its best, at about equal bytes.

    python -m bench.ssimulacra2_parts PICTURE ... [--quality 60]

The score is a curve of a weighted sum: of the mean and the 4-norm over a picture, of errors of structure, of added and of
lost edges, in three channels at six scales. Prints a Markdown table of the sum's parts by scale and norm for the
pictures' central 384x384 pixels, as means over them: less is better.
"""

from __future__ import annotations

import argparse
import bisect

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from jnd_jax import codecs
from jnd_jax.perception import ssimulacra2

SIZE = 384
NORMS = ("mean", "4-norm")


@jax.jit
def parts(x: jax.Array, y: jax.Array) -> jax.Array:
    """(scales, norms) weighted errors of (1, H, W, 3) pictures in [0, 1]."""
    x, y = ssimulacra2.linear_light(x), ssimulacra2.linear_light(y)
    found = []
    for scale in range(ssimulacra2.SCALES):
        errors = ssimulacra2._scale_errors(ssimulacra2._xyb(x), ssimulacra2._xyb(y))[0]
        found.append(jnp.sum(errors * jnp.asarray(ssimulacra2._WEIGHTS[:, scale], jnp.float32), (0, 2)))
        x, y = ssimulacra2._halve(x), ssimulacra2._halve(y)
    return jnp.stack(found)


def middle(file: str) -> np.ndarray:
    image = np.asarray(Image.open(file).convert("RGB"))
    top, left = (max(0, side - SIZE) // 2 for side in image.shape[:2])
    return image[top : top + SIZE, left : left + SIZE]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="+", metavar="PICTURE")
    parser.add_argument("--quality", type=float, default=60.0)
    args = parser.parse_args()
    ours, avif = codecs.lookup("jnd-perceptual"), codecs.lookup("avif10")
    found = []
    for picture in map(middle, args.pictures):
        mine = ours.encode(picture, args.quality)
        alike = bisect.bisect_left(range(99), len(mine), key=lambda quality: len(avif.encode(picture, quality)))
        decoded = ours.decode(mine), avif.decode(avif.encode(picture, alike))
        as_seen = lambda image: jnp.asarray(image[None], jnp.float32) / 255
        found.append([np.asarray(parts(as_seen(picture), as_seen(image))) for image in decoded])
    first, second = np.mean(found, 0)
    print("| a pixel stands for | norm | jnd-perceptual | AVIF at its best |\n|---|---|---|---|")
    for scale in range(ssimulacra2.SCALES):
        for i, norm in enumerate(NORMS):
            print(f"| {2**scale} | {norm} | {first[scale, i]:.3f} | {second[scale, i]:.3f} |")
    print(f"| all | | {first.sum():.3f} | {second.sum():.3f} |")


if __name__ == "__main__":
    main()
