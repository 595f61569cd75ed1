"""Rates at equal quality, from curves of measured points: at one quality, and on average (Bjøntegaard delta rate)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from jnd_jax.errors import JndError


@dataclass(frozen=True)
class BDRate:
    """Attributes:
    percent: bits the test codec needs more than the anchor (negative: fewer), averaged over the common
        quality range.
    overlap: common quality range divided by the range of the shorter curve, 0..1.
    low: lowest quality of the average.
    high: highest quality of the average.
    """

    percent: float
    overlap: float
    low: float
    high: float


def _curve(rates: ArrayLike, qualities: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    rate, quality = np.asarray(rates, float), np.asarray(qualities, float)
    if rate.shape != quality.shape or rate.ndim != 1 or rate.size < 4:
        raise JndError("BD-rate needs at least four points a curve, each a rate and a quality")
    if not (np.isfinite(rate).all() and np.isfinite(quality).all() and (rate > 0).all()):
        raise JndError("BD-rate needs finite qualities and positive rates")
    order = np.argsort(quality)
    rate, quality = rate[order], quality[order]
    if (np.diff(quality) <= 0).any() or (np.diff(rate) <= 0).any():
        raise JndError("BD-rate needs curves whose quality rises with the rate: drop the points that do not")
    return np.log(rate), quality


def rate_at(rates: ArrayLike, qualities: ArrayLike, quality: float) -> float:
    """The rate at which a curve reaches a quality: PCHIP of log rate over quality (Fritsch and Butland, 1984).

    Points that are no better than a cheaper one are left out, so that the curve rises.

    Args:
        rates: (N,) bits per pixel, or any positive rate.
        qualities: (N,) quality of each point, higher is better.
        quality: to reach.

    Returns:
        The rate; infinite if no point reaches the quality, nan if all points are above it.
    """
    from scipy.interpolate import PchipInterpolator

    points: list[tuple[float, float]] = []
    for rate, value in sorted(zip(np.asarray(rates, float), np.asarray(qualities, float))):
        if not points or (value > points[-1][1] and rate > points[-1][0]):
            points.append((rate, value))
    if quality > points[-1][1]:
        return np.inf
    if quality <= points[0][1]:
        return points[0][0] if quality == points[0][1] else np.nan
    rate, value = np.array(points).T
    return float(np.exp(PchipInterpolator(value, np.log(rate))(quality)))


def bd_rate(
    anchor_rate: ArrayLike,
    anchor_quality: ArrayLike,
    test_rate: ArrayLike,
    test_quality: ArrayLike,
    *,
    method: str = "akima",
    min_overlap: float = 0.5,
    between: tuple[float, float] | None = None,
) -> BDRate:
    """BD-rate of a test codec against an anchor, interpolating log rate over quality.

    Bjøntegaard, VCEG-M33 (2001), with the piecewise interpolation of JCTVC/JVET (PCHIP) or Akima's, which
    Herglotz et al. ("Beyond Bjøntegaard", 2022) found closest to densely sampled curves.

    Args:
        anchor_rate: bits per pixel (or any positive rate), four points or more.
        anchor_quality: quality of each point, higher is better (negate a distance).
        test_rate: as for the anchor.
        test_quality: as for the anchor.
        method: "akima" or "pchip".
        min_overlap: smallest overlap (see `BDRate`) that is accepted.
        between: qualities between which the difference is averaged; None means the whole common range. The overlap
            then is the share of this range that both curves cover.

    Raises:
        JndError: unfit curves, unknown method or too little overlap.
    """
    from scipy.interpolate import Akima1DInterpolator, PchipInterpolator

    interpolators = {"akima": Akima1DInterpolator, "pchip": PchipInterpolator}
    if method not in interpolators:
        raise JndError(f"Unknown interpolation {method!r}: choose akima or pchip")
    anchor, test = _curve(anchor_rate, anchor_quality), _curve(test_rate, test_quality)
    low, high = max(anchor[1][0], test[1][0]), min(anchor[1][-1], test[1][-1])
    wanted, of_what = min(np.ptp(anchor[1]), np.ptp(test[1])), "the shorter one's quality range"
    if between is not None:
        low, high = max(low, between[0]), min(high, between[1])
        wanted, of_what = between[1] - between[0], f"the range {between[0]:g} to {between[1]:g}"
    overlap = max(0.0, high - low) / wanted
    if overlap < min_overlap or overlap == 0:
        raise JndError(
            f"The curves share {100 * overlap:.0f} % of {of_what}, less than {100 * min_overlap:.0f} %: measure more "
            "qualities."
        )
    area = [
        float(interpolators[method](quality, log_rate).integrate(low, high)) for log_rate, quality in (anchor, test)
    ]
    return BDRate(100 * float(np.expm1((area[1] - area[0]) / (high - low))), float(overlap), float(low), float(high))
