"""Image quality metrics on pairs of uint8 images: one table of names, units and directions.

>>> measure("psnr", reference, distorted)  # doctest: +SKIP
34.2
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from jnd_jax.errors import JndError
from jnd_jax.metrics import judges, levels, packaged, perceptual, psnr


@dataclass(frozen=True)
class Metric:
    """One row of the table.

    Attributes:
        name: as users write it.
        title: as plots and tables write it.
        unit: "dB", "JOD", "JND" or "" for a bare score.
        better: which direction is better.
        function: (reference, distorted) -> float, for uint8 (H, W, 3) images of one size.
        best: value of equal images where the scale ends there, else None.
    """

    name: str
    title: str
    unit: str
    better: Literal["higher", "lower"]
    function: Callable[[np.ndarray, np.ndarray], float]
    best: float | None = None


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("psnr", "PSNR (RGB)", "dB", "higher", psnr.psnr),
        Metric("psnr-y", "PSNR (luma)", "dB", "higher", psnr.psnr_y),
        Metric("ms-ssim", "MS-SSIM", "", "higher", perceptual.ms_ssim, 1.0),
        Metric("psnr-hvs", "PSNR-HVS", "dB", "higher", packaged.psnr_hvs),
        Metric("psnr-hvs-m", "PSNR-HVS-M", "dB", "higher", packaged.psnr_hvs_m),
        Metric("ssimulacra2", "SSIMULACRA2", "", "higher", packaged.ssimulacra2, 100.0),
        Metric("butteraugli", "Butteraugli 3-norm", "", "lower", packaged.butteraugli, 0.0),
        Metric("cvvdp", "CVVDP", "JOD", "higher", perceptual.cvvdp, 10.0),
        Metric("aic-strict", "Stricter of CVVDP and SSIMULACRA2", "JND", "lower", judges.aic_strict, 0.0),
        Metric("lite0", "EfficientNet-Lite0 distance", "", "lower", perceptual.lite0, 0.0),
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
    """Value of metric `name` at a distance of `t` just-noticeable differences from the original.

    On the scale that stands for the metric, see `levels.scale_of`; `levels.level` takes any.

    Raises:
        JndError: the metric has no level, or none at this t.
    """
    lookup(name)
    scale = levels.scale_of(name)
    if scale is None:
        calibrated = ", ".join(metric for metric in METRICS if levels.scale_of(metric))
        raise JndError(f"{name} has no JND calibration: use {calibrated}.")
    return levels.level(scale.name, t, name)[1]


def jnd_title(name: str, scale: str) -> str:
    """A metric's title with the title of a scale of JNDs: "CVVDP (AIC)"."""
    return f"{lookup(name).title} ({levels.SCALES[scale].title})"


def span(name: str, value: float) -> float:
    """What a share of a metric's value is a share of: its distance from the best value, or the value if there is none."""
    best = lookup(name).best
    return abs(value) if best is None else abs(best - value)


def margin(name: str, value: float, threshold: float) -> float:
    """How far `value` is on the good side of `threshold`, in the metric's unit; negative on the bad side."""
    return value - threshold if lookup(name).better == "higher" else threshold - value
