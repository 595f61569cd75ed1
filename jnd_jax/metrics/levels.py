"""How much people see: metric values at t just-noticeable differences (JND), on two scales with names.

name     how people judged
aic      JPEG AIC-3/4: crowds compared triplets of boosted images; 300 images by six codecs in units of JND
konjnd   KonJND-1k: at which quality a flicker between original and coded image is first seen, JPEG and BPG

One JND is no absolute amount: people see differences on `aic` that the point of one JND on `konjnd` lets pass. SSIMULACRA2
of 64, 1 on `konjnd`, is about 2 on `aic`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jnd_jax.errors import JndError

AIC, KONJND = "aic", "konjnd"


@dataclass(frozen=True)
class PowerLaw:
    """t = gain (best - value)^exponent, fitted to people's JNDs (bench/fit_levels.py, bench/fit_levels.md).

    Attributes:
        best: value of equal images.
        gain: of the law.
        exponent: of the law.
        error: rms of predicted less judged JNDs, each codec by the fit on the others.
    """

    best: float
    gain: float
    exponent: float
    error: float

    def value(self, t: float) -> float:
        """Metric value at t JNDs."""
        return self.best - self.lost(t)

    def lost(self, t: Any) -> Any:
        """What the metric lacks of its best value at t JNDs, a number or an array."""
        return (t / self.gain) ** (1.0 / self.exponent)

    def jnds(self, value: float) -> float:
        """JNDs at a metric value."""
        return self.gain * max(self.best - value, 0.0) ** self.exponent


AIC_FITS: dict[str, PowerLaw] = {
    "cvvdp": PowerLaw(10.0, 3.1889, 1.0129, 0.279),
    "ssimulacra2": PowerLaw(100.0, 0.022223, 1.2680, 0.485),
}
# MS-SSIM was listed too, but of luma; this package's, the mean over RGB, has other values (bench/fit_levels.md).
# The judges of `aic-strict`: each sees less than people in some codec, so the stricter one counts.
STRICT = ("cvvdp", "ssimulacra2")


@dataclass(frozen=True)
class Scale:
    """A scale of JNDs.

    Attributes:
        name: as users write it.
        title: as tables write it.
        metric: the best judge on it, the default.
        values: by metric, t -> value at t JNDs.
        errors: by metric, rms error of its JNDs against people's, where it is known.
        range: of t in which the levels hold.
    """

    name: str
    title: str
    metric: str
    values: Mapping[str, Callable[[float], float]] = field(repr=False)
    errors: Mapping[str, float] = field(default_factory=dict)
    range: tuple[float, float] = (0.0, math.inf)


# KonJND-1k: mean metric value at the point of just-noticeable difference, averaged over BPG and JPEG (table 4 of the
# CID22 paper), extended to t JND by the metric's own scale.
_KONJND_VALUES = {
    "ms-ssim": lambda t: 1 - 0.008 * t**2,
    "psnr-hvs": lambda t: 40.1 - 20 * math.log10(t),
    "ssimulacra2": lambda t: 100 - 36 * t,
    "butteraugli": lambda t: 1.6 * t,
}

SCALES: dict[str, Scale] = {
    AIC: Scale(
        AIC,
        "AIC",
        "cvvdp",
        {**{name: law.value for name, law in AIC_FITS.items()}, "aic-strict": lambda t: t},
        {**{name: law.error for name, law in AIC_FITS.items()}, "aic-strict": 0.369},
        (0.25, 3.0),
    ),
    KONJND: Scale(KONJND, "KonJND", "ssimulacra2", _KONJND_VALUES),
}


def scale_of(metric: str) -> Scale | None:
    """The scale that stands for a metric where none is named: konjnd if it has the metric, else aic; None without levels."""
    return next((SCALES[name] for name in (KONJND, AIC) if metric in SCALES[name].values), None)


def scales_of(metric: str, t: float) -> list[str]:
    """The names of all scales that have a level of a metric at `t` JNDs."""
    return [s.name for s in SCALES.values() if metric in s.values and s.range[0] <= t <= s.range[1]]


def level(scale: str, t: float = 1.0, metric: str | None = None) -> tuple[str, float]:
    """The metric and its value at `t` JNDs of a scale.

    Args:
        scale: a name in `SCALES`.
        t: > 0; from .25 to 3 on aic.
        metric: None: the scale's best judge.

    Raises:
        JndError: t is out of the range, or the metric has no level on the scale.
    """
    found = SCALES[scale]
    metric = metric or found.metric
    if not t > 0:
        raise JndError(f"Give a positive number of JNDs, not {t:g}.")
    low, high = found.range
    if not low <= t <= high:
        raise JndError(f"Give {low:g} to {high:g} JNDs of the scale {scale}, not {t:g}: people were asked no further.")
    if metric not in found.values:
        raise JndError(f"The scale {scale} has no level of {metric}: use {', '.join(found.values)}.")
    return metric, found.values[metric](t)
