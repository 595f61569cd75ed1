"""Image quality metrics on pairs of uint8 images: one table of names, units, directions and JND levels.

>>> measure("psnr", reference, distorted)  # doctest: +SKIP
34.2
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from jnd_jax.errors import JndError
from jnd_jax.metrics import packaged, perceptual, psnr


@dataclass(frozen=True)
class Metric:
    """One row of the table.

    Attributes:
        name: as users write it.
        title: as plots and tables write it.
        unit: "dB", "JOD" or "" for a bare score.
        better: which direction is better.
        function: (reference, distorted) -> float, for uint8 (H, W, 3) images of one size.
        jnd: value at a distance of t just-noticeable differences, or None where no calibration is published.
    """

    name: str
    title: str
    unit: str
    better: Literal["higher", "lower"]
    function: Callable[[np.ndarray, np.ndarray], float]
    jnd: Callable[[float], float] | None = None


# JND levels: mean metric value at the point of just-noticeable difference of KonJND-1k (flicker test),
# averaged over BPG and JPEG (table 4 of the CID22 paper), extended to t JND by the metric's own scale.
METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("psnr", "PSNR (RGB)", "dB", "higher", psnr.psnr),
        Metric("psnr-y", "PSNR (luma)", "dB", "higher", psnr.psnr_y),
        Metric(
            "ms-ssim",
            "MS-SSIM",
            "",
            "higher",
            perceptual.ms_ssim,
            lambda t: 1 - 0.008 * t**2,
        ),
        Metric(
            "psnr-hvs",
            "PSNR-HVS",
            "dB",
            "higher",
            packaged.psnr_hvs,
            lambda t: 40.1 - 20 * math.log10(t),
        ),
        Metric("psnr-hvs-m", "PSNR-HVS-M", "dB", "higher", packaged.psnr_hvs_m),
        Metric(
            "ssimulacra2",
            "SSIMULACRA2",
            "",
            "higher",
            packaged.ssimulacra2,
            lambda t: 100 - 36 * t,
        ),
        Metric(
            "butteraugli",
            "Butteraugli 3-norm",
            "",
            "lower",
            packaged.butteraugli,
            lambda t: 1.6 * t,
        ),
        Metric("cvvdp", "CVVDP", "JOD", "higher", perceptual.cvvdp),
        Metric("lite0", "EfficientNet-Lite0 distance", "", "lower", perceptual.lite0),
    )
}


def lookup(name: str) -> Metric:
    """The table's row for `name`; JndError names the known ones otherwise."""
    if name not in METRICS:
        raise JndError(f"Unknown metric {name!r}: choose from {', '.join(METRICS)}.")
    return METRICS[name]


def _check_pair(reference: np.ndarray, distorted: np.ndarray) -> None:
    """Raises JndError unless both are uint8 (H, W, 3) arrays of one shape."""
    for image in (reference, distorted):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise JndError(f"Give uint8 images of shape (H, W, 3) to a metric, not {image.dtype} {image.shape}.")
    if reference.shape != distorted.shape:
        raise JndError(f"Give images of one size to a metric, not {reference.shape} and {distorted.shape}.")


def measure(name: str, reference: np.ndarray, distorted: np.ndarray) -> float:
    """Value of metric `name` for two uint8 (H, W, 3) images.

    Raises:
        JndError: unknown name, images that do not fit together, or a package or tool that is not installed.
    """
    function = lookup(name).function
    _check_pair(reference, distorted)
    return function(reference, distorted)


def jnd_threshold(name: str, t: float = 1.0) -> float:
    """Value of metric `name` at a distance of `t` just-noticeable differences from the original (t > 0).

    Raises:
        JndError: t is not positive, or the metric has no published calibration.
    """
    metric = lookup(name)
    if t <= 0:
        raise JndError(f"Give a positive number of JNDs, not {t}.")
    if metric.jnd is None:
        raise JndError(f"{name} has no JND calibration: use {', '.join(m.name for m in METRICS.values() if m.jnd)}.")
    return metric.jnd(t)


def margin(name: str, value: float, threshold: float) -> float:
    """How far `value` is on the good side of `threshold`, in the metric's unit; negative on the bad side."""
    return value - threshold if lookup(name).better == "higher" else threshold - value
