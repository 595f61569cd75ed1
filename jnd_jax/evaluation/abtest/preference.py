"""Which of two conditions people prefer: shares, equality and ranking from answers that cluster.

Answers of one subject resemble each other, and so do answers to one image. Counted as if each stood alone, "people
prefer" comes out falsely in 15 to 40 % of tests and "equal" in 16 to 27 % with moderate spread between subjects and
images. Hence the two-way cluster-robust variance; `bench/abtest_error_rates.py` measures how often verdicts err.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from jnd_jax.errors import JndError

# With fewer subjects or images no verdict is given.
FEWEST = 6
LEVEL = 0.05


@dataclass(frozen=True)
class Share:
    """A share of answers with its standard error over subjects and images.

    Attributes:
        share: 0..1.
        error: standard error.
        freedom: degrees of freedom of Student's t: one less than the subjects or the images, whichever are fewer.
    """

    share: float
    error: float
    freedom: int

    def interval(self, coverage: float = 0.95) -> tuple[float, float]:
        """Student's interval within 0..1; (0, 1) where there is but one subject or image."""
        if self.freedom < 1:
            return 0.0, 1.0
        from scipy import stats

        reach = float(stats.t.ppf(0.5 + coverage / 2, self.freedom)) * self.error
        return max(0.0, self.share - reach), min(1.0, self.share + reach)

    def above(self, share: float) -> float:
        """One-sided p-value for a true share above `share`."""
        if self.freedom < 1:
            return 1.0
        from scipy import stats

        return float(stats.t.sf((self.share - share) / self.error, self.freedom))


def _clusters(residuals: np.ndarray, labels: np.ndarray) -> float:
    """Variance of the sum of residuals that are dependent within a label, with the correction n / (n - 1)."""
    sums = np.bincount(labels, residuals)
    return float((sums**2).sum() * len(sums) / max(1, len(sums) - 1))


def clustered_share(preferred: Sequence[bool], subjects: Sequence[Hashable], images: Sequence[Hashable]) -> Share:
    """The share of `preferred`, with an error robust to clusters by subject and by image.

    Cameron, Gelbach and Miller, "Robust Inference with Multiway Clustering", Journal of Business & Economic Statistics
    29 (2011): V = V_subject + V_image - V_both; here at least either of the two, and at least that of independent
    answers (of two more for and two more against, so that unanimity is no certainty).

    Args:
        preferred: an answer each.
        subjects: who gave it.
        images: which image it is about.

    Raises:
        JndError: no answers.
    """
    if not len(preferred):
        raise JndError("There is no answer to this pair: collect some first.")
    chosen = np.asarray(preferred, float)
    count, share = len(chosen), float(chosen.mean())
    of_subject, of_image = (np.unique(np.asarray(labels), return_inverse=True)[1] for labels in (subjects, images))
    both = np.unique(of_subject * (of_image.max() + 1) + of_image, return_inverse=True)[1]
    v_subject, v_image, v_both = (_clusters(chosen - share, labels) for labels in (of_subject, of_image, both))
    robust = max(v_subject + v_image - v_both, v_subject, v_image) / count**2
    shrunk = (chosen.sum() + 2) / (count + 4)
    error = math.sqrt(max(robust, shrunk * (1 - shrunk) / (count + 4)))
    return Share(share, error, int(min(of_subject.max(), of_image.max())))


@dataclass(frozen=True)
class Preference:
    """One pair of conditions.

    Attributes:
        first: a condition.
        second: the other one.
        wins: answers that preferred `first`.
        total: answers.
        subjects: who answered.
        images: that were asked about.
        share: wins / total.
        low: lower end of the share's 95 % interval (of this pair alone).
        high: upper end.
        p_value: of no preference; after `judge` by Holm's method over all pairs.
        p_equal: of a share beyond the margin (two one-sided tests); likewise.
        p_first_worse: of a share below the margin; likewise.
        p_second_worse: of a share above the margin; likewise.
        verdict: "first" or "second" (preferred), with ", within the margin" where also shown to be small; "equal"
            (shown, and no preference); "first no worse" or "second no worse"; or "open".
    """

    first: str
    second: str
    wins: int
    total: int
    subjects: int
    images: int
    share: float
    low: float
    high: float
    p_value: float
    p_equal: float
    p_first_worse: float
    p_second_worse: float
    verdict: str = "open"


def compare(
    first: str,
    second: str,
    preferred: Sequence[bool],
    subjects: Sequence[Hashable],
    images: Sequence[Hashable],
    margin: float = 0.1,
) -> Preference:
    """The answers to one pair, without a verdict: `judge` gives it over all pairs.

    Args:
        first: a condition.
        second: the other one.
        preferred: of each answer, whether it chose `first`.
        subjects: of each answer, who gave it.
        images: of each answer, which image it is about.
        margin: within which a share counts as equal, to both sides of one half.

    Raises:
        JndError: no answers.
    """
    share = clustered_share(preferred, subjects, images)
    low, high = share.interval()
    above = share.above(0.5)
    worse = share.above(0.5 - margin)
    better = 1 - share.above(0.5 + margin) if share.freedom >= 1 else 1.0
    return Preference(
        first=first,
        second=second,
        wins=int(sum(preferred)),
        total=len(preferred),
        subjects=len(set(subjects)),
        images=len(set(images)),
        share=share.share,
        low=low,
        high=high,
        p_value=min(1.0, 2 * min(above, 1 - above)) if share.freedom >= 1 else 1.0,
        p_equal=max(worse, better),
        p_first_worse=worse,
        p_second_worse=better,
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values: the chance of one false verdict among all is bounded (Holm, Scand. J. Statistics, 1979)."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def _verdict(pair: Preference, level: float) -> str:
    if min(pair.subjects, pair.images) < FEWEST:
        return "open"
    if pair.p_value < level:
        side = "first" if pair.share > 0.5 else "second"
        return f"{side}, within the margin" if pair.p_equal < level else side
    if pair.p_equal < level:
        return "equal"
    if pair.p_first_worse < level:
        return "first no worse"
    return "second no worse" if pair.p_second_worse < level else "open"


def judge(pairs: Sequence[Preference], level: float = LEVEL) -> list[Preference]:
    """The pairs with p-values adjusted over all of them, and the verdicts that follow at a level.

    A pair with fewer than `FEWEST` subjects or images is open, whatever its answers.
    """
    fields = ("p_value", "p_equal", "p_first_worse", "p_second_worse")
    adjusted = zip(*(holm([getattr(pair, field) for pair in pairs]) for field in fields))
    judged = [replace(pair, **dict(zip(fields, values))) for pair, values in zip(pairs, adjusted)]
    return [replace(pair, verdict=_verdict(pair, level)) for pair in judged]


def bradley_terry(wins: np.ndarray, prior: float = 0.5, iterations: int = 10_000) -> np.ndarray:
    """Elo ratings by the Bradley-Terry model (Hunter's MM algorithm, Annals of Statistics 2004).

    Args:
        wins: (K, K) counts, [i, j] = how often i was preferred to j.
        prior: wins added both ways to every pair that was compared, so that an undefeated condition stays
            finite.
        iterations: at most so many.

    Returns:
        (K,) Elo ratings of mean 1500; 400 points are odds of 10 to 1.

    Raises:
        JndError: the comparisons do not connect all conditions.
    """
    wins = np.asarray(wins, float)
    compared = (wins + wins.T) > 0
    if not np.linalg.matrix_power(np.eye(len(wins)) + compared, len(wins))[0].all():
        raise JndError("Compare every condition, directly or over others, with every other before ranking them")
    wins = wins + prior * compared
    games = wins + wins.T
    strength = np.ones(len(wins))
    for _ in range(iterations):
        updated = wins.sum(1) / (games / (strength[:, None] + strength)).sum(1)
        updated /= np.exp(np.log(updated).mean())
        converged = np.abs(np.log(updated / strength)).max() < 1e-12
        strength = updated
        if converged:
            break
    return 1500 + 400 * np.log10(strength)
