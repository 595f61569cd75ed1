"""What a distance lets go: visible damage by kind of content, beside what training distances say of it.

    python -m bench.loss_by_content --data photos/,cid22/ [--model jnd-perceptual] [--crops DIR]

Crops of 128x128 of training photographs: saturated red, saturated blue, skin, dark texture, and anything else. The model
codes them at a few qualities; SSIMULACRA2 and Butteraugli, with which no loss here is related, judge them. Over the plain
crops a straight line gives the logarithm of the judged damage by that of a distance. A table entry is how much more
damage a kind of content has than that line says, in percent; 0 is a distance that is fair to it. `--crops` writes the
crops, coded beside original, to look at.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from PIL import Image

import jnd_jax
from jnd_jax import metrics
from jnd_jax.data import cache
from jnd_jax.losses.distances import DISTANCES
from jnd_jax.perception.colour import LUMA, RGB_TO_YCBCR

SIZE = 128
PLAIN = "other"
JUDGES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "SSIMULACRA2": lambda x, y: 100 - metrics.measure("ssimulacra2", x, y),
    "Butteraugli 3-norm": lambda x, y: metrics.measure("butteraugli", x, y),
}


def kind(crop: np.ndarray) -> str | None:
    """The kind of content of an (H, W, 3) uint8 crop; None for one without any texture."""
    red, green, blue = np.moveaxis(crop.astype(float), -1, 0)
    luma = crop @ LUMA
    if luma.std() < 4:
        return None
    _, cb, cr = np.moveaxis(crop @ RGB_TO_YCBCR, -1, 0)
    if np.mean(red - np.maximum(green, blue) > 80) > 0.6:
        return "saturated red"
    if np.mean(blue - np.maximum(red, green) > 50) > 0.6:
        return "saturated blue"
    if np.mean((cr > 8) & (cr < 45) & (cb < -5) & (cb > -45) & (luma > 80)) > 0.7:
        return "skin"
    return "dark texture" if luma.mean() < 40 else PLAIN


def crops(images: list[np.ndarray], count: int) -> list[tuple[str, np.ndarray]]:
    """Up to `count` crops of each kind, one of a kind an image."""
    found: dict[str, list[np.ndarray]] = {}
    for image in images:
        kinds = {}
        for top in range(0, image.shape[0] - SIZE + 1, SIZE):
            for left in range(0, image.shape[1] - SIZE + 1, SIZE):
                crop = image[top : top + SIZE, left : left + SIZE]
                kinds.setdefault(kind(crop), crop)
        for name, crop in kinds.items():
            if name is not None and len(found.setdefault(name, [])) < count:
                found[name].append(crop)
    return [(name, crop) for name in sorted(found, key=lambda name: name == PLAIN) for crop in found[name]]


def excess(distance: np.ndarray, damage: np.ndarray, plain: np.ndarray) -> np.ndarray:
    """Logarithm of the damage less what a line through the plain crops says by the logarithm of the distance."""
    line = np.polyfit(np.log(distance[plain]), np.log(damage[plain]), 1)
    return np.log(damage) - np.polyval(line, np.log(distance))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, metavar="DIR,DIR")
    parser.add_argument("--model", default="jnd-perceptual")
    parser.add_argument("--distances", default="mse,masked-dct")
    parser.add_argument("--qualities", default="35,50")
    parser.add_argument("--count", type=int, default=12, help="crops of each kind (default: %(default)s)")
    parser.add_argument("--crops", type=Path, metavar="DIR")
    args = parser.parse_args()
    codec, rows = jnd_jax.load(args.model), []
    photographs = cache.load_images(args.data.split(","))
    chosen = crops([photographs[i] for i in range(len(photographs))], args.count)
    functions = {name: jax.jit(DISTANCES[name][0]) for name in args.distances.split(",")}
    for number, (name, crop) in enumerate(chosen):
        for quality in map(float, args.qualities.split(",")):
            coded = codec.decode(codec.encode(crop, quality))
            pair = [side[None] / np.float32(255) for side in (crop, coded)]
            told = {key: float(function(*pair)[0]) for key, function in functions.items()}
            rows.append((name, told, {key: judge(crop, coded) for key, judge in JUDGES.items()}))
            if args.crops:
                args.crops.mkdir(parents=True, exist_ok=True)
                side = Image.fromarray(np.hstack([crop, coded]))
                side.save(args.crops / f"{name.replace(' ', '-')}-{number:03d}-{quality:g}.png")
    kinds = np.array([name for name, _, _ in rows])
    print("| content | crops | " + " | ".join(f"{d}, by {j}" for d in functions for j in JUDGES) + " |")
    print("|---|---|" + "---|" * (len(functions) * len(JUDGES)))
    for name in dict.fromkeys(kinds):
        cells = []
        for key in functions:
            distance = np.array([told[key] for _, told, _ in rows])
            for judge in JUDGES:
                damage = np.array([judged[judge] for _, _, judged in rows])
                cells.append(f"{100 * np.expm1(excess(distance, damage, kinds == PLAIN)[kinds == name].mean()):+.0f} %")
        print(f"| {name} | {sum(n == name for n, _ in chosen)} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
