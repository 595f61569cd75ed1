"""How many subjects and images a test needs, and when it is looked at, fixed before the first answer."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jnd_jax.errors import JndError
from jnd_jax.evaluation.abtest.preference import FEWEST, LEVEL

# Between subjects and between images, standard deviation of the preference in logits.
SPREAD = 0.5
# A look before the end gives a verdict at this level.
EARLY_LEVEL = 0.001
MOST_LOOKS = 20


@dataclass(frozen=True)
class Look:
    """One analysis of a test.

    Attributes:
        test: its id.
        subjects: whose answers counted.
        date: of the analysis, as 2026-01-31.
        options: that chose the subjects and the margin, as on the command line.
    """

    test: str
    subjects: int
    date: str
    options: str = ""


def end_level(looks: int) -> float:
    """Level at the planned end of a test with so many looks before it, after Haybittle (Brit. J. Radiology, 1971) and Peto.

    The levels of all looks add up to 5 %, so that the chance of a false verdict at any of them is 5 % at most, however
    the looks depend on each other.

    Raises:
        JndError: too many looks, or fewer than none.
    """
    if not 0 <= looks <= MOST_LOOKS:
        raise JndError(f"Plan 0 to {MOST_LOOKS} looks before the end, not {looks}.")
    return LEVEL - EARLY_LEVEL * looks


def level(subjects: int, plan: Mapping[str, Any] | None, earlier: Sequence[Look] = ()) -> float:
    """Level at which a look gives verdicts; 0: it gives none.

    Args:
        subjects: whose answers count.
        plan: {"subjects": N, "looks": planned before the end}, or None.
        earlier: looks before this one.
    """
    if plan is None:
        return LEVEL
    if any(look.subjects >= plan["subjects"] for look in earlier):
        return 0.0
    if subjects >= plan["subjects"]:
        return end_level(plan.get("looks", 0))
    return EARLY_LEVEL if len(earlier) < plan.get("looks", 0) else 0.0


@dataclass(frozen=True)
class Variances:
    """Variance of one answer's expected share over subjects, over images, and what is left of the answer itself."""

    subject: float
    image: float
    rest: float


@functools.cache
def variances(share: float, spread: float = SPREAD) -> Variances:
    """Of answers that prefer one side with probability 1 / (1 + exp(-(c + a + b))), a by subject and b by image.

    Args:
        share: mean over all subjects and images, 0..1.
        spread: standard deviation of a and of b.
    """
    from scipy import optimize

    nodes, weights = np.polynomial.hermite_e.hermegauss(41)
    weights = weights / weights.sum()
    logits = spread * (nodes[:, None] + nodes)
    probabilities = lambda c: 1 / (1 + np.exp(-(c + logits)))
    mean = lambda table: float(weights @ table @ weights)
    centre = optimize.brentq(lambda c: mean(probabilities(c)) - share, -20, 20)
    table = probabilities(centre)
    of_cluster = float(weights @ (table @ weights - share) ** 2)
    return Variances(of_cluster, of_cluster, share * (1 - share) - 2 * of_cluster)


def power(subjects: int, images: int, share: float = 0.6, spread: float = SPREAD, level: float = LEVEL) -> float:
    """Probability that a test shows a preference which is there, every subject judging every image once.

    Student's t at min(subjects, images) - 1 degrees of freedom, as the analysis uses it.
    """
    from scipy import stats

    parts = variances(share, spread)
    error = math.sqrt(parts.subject / subjects + parts.image / images + parts.rest / (subjects * images))
    freedom = min(subjects, images) - 1
    return float(stats.nct.sf(stats.t.ppf(1 - level / 2, freedom), freedom, abs(share - 0.5) / error))


def subjects_needed(
    images: int, share: float = 0.6, spread: float = SPREAD, level: float = LEVEL, wanted: float = 0.8, most: int = 1000
) -> int | None:
    """Smallest number of subjects for a power of `wanted` with so many images; None if not even `most` are enough."""
    enough = lambda count: power(count, images, share, spread, level) >= wanted
    if images < FEWEST or not enough(most):
        return None
    low, high = FEWEST - 1, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
