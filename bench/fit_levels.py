"""Which metric values are how many just-noticeable differences to people? Fits on the JPEG AIC-3/4 scores.

    python bench/fit_levels.py AIC4_FOLDER [--photos FOLDER]

AIC4_FOLDER holds JPEG-AIC_metric_scores.csv: 300 images that people judged in JNDs, with metric scores. For each metric
t = gain (best - value)^exponent is fitted by least squares; the error is that of each codec by the fit on the others.
The images themselves are not there. So --photos checks that this package's metrics mean the same: photographs are coded
by two of the codecs, and the other metrics are read off at two scores of SSIMULACRA2, in the list and here.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
from scipy.optimize import curve_fit
from scipy.stats import spearmanr

from jnd_jax import codecs, metrics
from jnd_jax.jnd.targets import named_images, read_pixels
from jnd_jax.metrics.levels import STRICT

# Column of the table -> metric here, best value.
COLUMNS = {"CVVDP": ("cvvdp", 10.0), "MS-SSIM": ("ms-ssim", 1.0), "SSIMULACRA2": ("ssimulacra2", 100.0)}
LEVELS = (0.25, 0.5, 1.0, 2.0, 3.0)
CODEC_NAMES = {"1": "AVIF", "2": "JPEG", "3": "JPEG 2000", "4": "JPEG XL", "5": "VVC", "6": "JPEG AI"}
CHECKED = {"jpeg": ("JPEG", (60, 80, 90)), "jxl": ("JPEG XL", (70, 82, 90))}
PHOTOS, CROP = 6, 384


def power_law(distance: np.ndarray, gain: float, exponent: float) -> np.ndarray:
    return gain * distance**exponent


def fit(distance: np.ndarray, jnds: np.ndarray) -> np.ndarray:
    """(gain, exponent) of least squares."""
    return curve_fit(power_law, distance, jnds, p0=(jnds.mean() / distance.mean(), 1.0))[0]


def held_out_errors(distance: np.ndarray, jnds: np.ndarray, codec: np.ndarray) -> np.ndarray:
    """Predicted less judged JNDs, each codec by the fit on the others."""
    errors = np.zeros_like(jnds)
    for name in set(codec):
        there = codec == name
        errors[there] = power_law(distance[there], *fit(distance[~there], jnds[~there])) - jnds[there]
    return errors


def report(rows: list[dict[str, str]]) -> None:
    jnds, codec = np.array([float(row["distortion"]) for row in rows]), np.array([row["codec"] for row in rows])
    names = [CODEC_NAMES[key] for key in sorted(CODEC_NAMES)]
    levels = " | ".join(f"at {t:g}" for t in LEVELS)
    print(f"| metric | gain | exponent | error, JND | Spearman | {levels} | mean error: {' | '.join(names)} |")
    print("|---" * (5 + len(LEVELS) + len(names)) + "|")
    predicted = {}
    for column, (name, best) in COLUMNS.items():
        distance = best - np.array([float(row[column]) for row in rows])
        gain, exponent = fit(distance, jnds)
        errors = held_out_errors(distance, jnds, codec)
        values = [f"{best - (t / gain) ** (1 / exponent):.5g}" for t in LEVELS]
        bias = [f"{errors[codec == key].mean():+.2f}" for key in sorted(CODEC_NAMES)]
        rmse, order = np.sqrt((errors**2).mean()), spearmanr(distance, jnds)[0]
        predicted[name] = jnds + errors
        print(f"| {name} | {gain:.5g} | {exponent:.5g} | {rmse:.3f} | {order:.3f} | {' | '.join(values + bias)} |")
    strict = np.maximum.reduce([predicted[name] for name in STRICT])
    errors = strict - jnds
    bias = [f"{errors[codec == key].mean():+.2f}" for key in sorted(CODEC_NAMES)]
    rmse, order = np.sqrt((errors**2).mean()), spearmanr(strict, jnds)[0]
    print(
        f"| aic-strict | | | {rmse:.3f} | {order:.3f} | {' | '.join(f'{t:g}' for t in LEVELS)} | {' | '.join(bias)} |"
    )


def where_ssimulacra2_is(score: float, points: list[tuple[float, float]]) -> float:
    """What the other metric lacks of its best value at a SSIMULACRA2 score, on a line of least squares of logarithms.

    Args:
        score: SSIMULACRA2.
        points: (100 - score, what the other metric lacks) of images.
    """
    ssimulacra2, other = np.log(np.array(points)).T
    return float(np.exp(np.polyval(np.polyfit(ssimulacra2, other, 1), np.log(100.0 - score))))


def check(rows: list[dict[str, str]], folder: Path) -> None:
    lost_in = lambda row, column: COLUMNS[column][1] - float(row[column])
    listed, ours = defaultdict(list), defaultdict(list)
    for row in rows:
        for column in ("CVVDP", "MS-SSIM"):
            point = lost_in(row, "SSIMULACRA2"), lost_in(row, column)
            listed[CODEC_NAMES[row["codec"]], COLUMNS[column]].append(point)
    paths = named_images(folder)
    for name in sorted(paths)[:: max(1, len(paths) // PHOTOS)][:PHOTOS]:
        image = read_pixels(paths[name])
        top, left = ((side - CROP) // 2 for side in image.shape[:2])
        image = np.ascontiguousarray(image[top : top + CROP, left : left + CROP])
        for codec, (title, qualities) in CHECKED.items():
            for quality in qualities:
                decoded = codecs.decode(codec, codecs.encode(codec, image, quality))
                ssimulacra2 = 100.0 - metrics.measure("ssimulacra2", image, decoded)
                for metric, best in (COLUMNS["CVVDP"], COLUMNS["MS-SSIM"]):
                    ours[title, (metric, best)].append((ssimulacra2, best - metrics.measure(metric, image, decoded)))
    print("\n| at SSIMULACRA2 | listed | this package |\n|---|---|---|")
    for (title, (metric, best)), points in ours.items():
        for score in (80, 65):
            there, here = (best - where_ssimulacra2_is(score, p) for p in (listed[title, (metric, best)], points))
            print(f"| {score}: {metric} of {title} | {there:.5g} | {here:.5g} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=Path)
    args = parser.parse_args()
    with (args.folder / "JPEG-AIC_metric_scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    report(rows)
    if args.photos:
        check(rows, args.photos)


if __name__ == "__main__":
    main()
