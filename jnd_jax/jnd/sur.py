"""Satisfied user ratio: the share of people who see no difference from the original at a quality.

A subject's threshold is the lowest quality at which that subject sees no difference, on a scale that rises with
quality (negate quantisation parameters); it is infinite for one who sees a difference even at the best quality.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from jnd_jax.errors import JndError


def jnd_quality(thresholds: Sequence[float], share: float) -> float:
    """Lowest threshold quality at which at least `share` of the subjects are satisfied (infinite: never).

    Args:
        thresholds: one quality a subject, infinite where a subject saw a difference even at the best quality.
        share: satisfied user ratio, such as .5 or .75.
    """
    ordered = sorted(thresholds)
    return ordered[max(0, math.ceil(share * len(ordered) - 1e-9) - 1)]


@dataclass(frozen=True)
class SurCurve:
    """A generalised extreme value distribution of the subjects' distortion levels, the negated qualities.

    Of the parametric families this one fits JNDs best (Fan et al., "SUR-FeatNet", Quality and User Experience 5:5,
    2020).

    Attributes:
        shape: of the distribution in scipy's sign (c = -xi).
        location: in units of distortion.
        scale: likewise, > 0.
        reachable: share of the subjects whom some quality satisfies.
    """

    shape: float
    location: float
    scale: float
    reachable: float = 1.0

    def ratio(self, quality: float | np.ndarray) -> float | np.ndarray:
        """Satisfied user ratio at `quality`."""
        return self.reachable * stats.genextreme.sf(-np.asarray(quality), self.shape, self.location, self.scale)

    def quality(self, share: float) -> float:
        """Quality that satisfies `share` of the subjects (0 < share < 1); infinite if none does."""
        if share > self.reachable:
            return math.inf
        return -float(stats.genextreme.isf(share / self.reachable, self.shape, self.location, self.scale))


def fit(thresholds: Sequence[float]) -> SurCurve:
    """The curve of greatest likelihood for the subjects' threshold qualities.

    Raises:
        JndError: fewer than three different finite thresholds, from which no curve can be told.
    """
    levels = np.array([-threshold for threshold in thresholds if math.isfinite(threshold)])
    if len(np.unique(levels)) < 3:
        raise JndError(
            f"Ask more subjects: {len(np.unique(levels))} different thresholds of {len(thresholds)} "
            "subjects do not make a curve of satisfied users."
        )
    # Started from a Gumbel distribution of the sample's moments: scipy's own start may end in a poor optimum.
    scale = levels.std() * math.sqrt(6) / math.pi
    shape, location, scale = stats.genextreme.fit(levels, 0.1, loc=levels.mean() - np.euler_gamma * scale, scale=scale)
    return SurCurve(float(shape), float(location), float(scale), len(levels) / len(thresholds))
