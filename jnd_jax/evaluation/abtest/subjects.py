"""Statistics of subject tests: preference, equality, ranking, just-noticeable differences, screening.

All are pure functions of counts or of plain answers; probabilities are computed exactly where that is short.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from jnd_jax.errors import JndError

Z95 = 1.959963984540054
Z90 = 1.6448536269514722


def wilson(wins: float, total: int, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval of a share (Wilson, JASA 1927), 95 % by default; (0, 1) without any answer."""
    if total == 0:
        return 0.0, 1.0
    share = wins / total
    centre = share + z * z / (2 * total)
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def guessing_probability(right: int, total: int) -> float:
    """Probability that guessing (one half each) gets at least `right` of `total`."""
    return sum(math.comb(total, k) for k in range(right, total + 1)) / 2**total


def preference_p_value(wins: int, total: int) -> float:
    """Two-sided exact binomial test of a share of one half."""
    if total == 0:
        return 1.0
    return min(1.0, 2 * guessing_probability(max(wins, total - wins), total))


@dataclass(frozen=True)
class Preference:
    """One pair of conditions.

    Attributes:
        first: a condition.
        second: the other one.
        wins: answers that preferred `first`.
        total: answers.
        share: wins / total.
        low: lower end of the 95 % Wilson interval of the share.
        high: upper end.
        p_value: of no preference.
        verdict: "first" or "second" (preferred at 5 %), "equal" (shown equal), "first no worse" or "second no
            worse" (shown to be as good as the other), or "open".
    """

    first: str
    second: str
    wins: int
    total: int
    share: float
    low: float
    high: float
    p_value: float
    verdict: str


def preference(first: str, second: str, wins: int, total: int, margin: float = 0.1) -> Preference:
    """Judges a pair.

    Equality is shown by two one-sided tests at 5 %: the 90 % Wilson interval lies within one half +-
    `margin`. That one is no worse than the other is shown by one of these tests alone. A lack of a
    significant difference shows neither.

    Raises:
        JndError: no answers.
    """
    if total == 0:
        raise JndError(f"there is no answer to {first} against {second}: collect some first")
    low, high = wilson(wins, total)
    low90, high90 = wilson(wins, total, Z90)
    if low90 > 0.5 - margin and high90 < 0.5 + margin:
        verdict = "equal"
    elif low > 0.5:
        verdict = "first"
    elif high < 0.5:
        verdict = "second"
    elif low90 > 0.5 - margin:
        verdict = "first no worse"
    elif high90 < 0.5 + margin:
        verdict = "second no worse"
    else:
        verdict = "open"
    return Preference(first, second, wins, total, wins / total, low, high, preference_p_value(wins, total), verdict)


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
        raise JndError("compare every condition, directly or over others, with every other before ranking them")
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


def step_threshold(answers: Sequence[tuple[float, bool]]) -> tuple[float, bool]:
    """Lowest quality at which one subject sees no difference any more.

    The step "seen below, not seen from here on" that contradicts the fewest answers; among equally good steps
    the median one.

    Args:
        answers: (quality, seen) of one image, at least one.

    Returns:
        (quality, reached): not reached, with the highest quality shown, if the subject saw a difference even
        there.
    """
    qualities = sorted({quality for quality, _ in answers})
    errors = [
        sum(seen != (quality < (qualities + [math.inf])[step]) for quality, seen in answers)
        for step in range(len(qualities) + 1)
    ]
    best = [step for step, error in enumerate(errors) if error == min(errors)]
    step = best[len(best) // 2]
    return (qualities[-1], False) if step == len(qualities) else (qualities[step], True)


def screen(answers: Sequence[Mapping], level: float = 0.05) -> str | None:
    """Why one subject's answers cannot be used, or None.

    A subject must pass the attention checks (pairs in which one side is the original; flicker trials without
    any difference) better than guessing would at `level`, or without a single error where there are too few
    for that, and must not press one side nearly always.

    Args:
        answers: of one subject, as the test page stores them.
        level: significance.
    """
    checks = [answer["choice"] == answer["expected"] for answer in answers if answer.get("expected") is not None]
    if not checks:
        return None if answers else "no answers"
    right, total = sum(checks), len(checks)
    chance = guessing_probability(right, total)
    if chance >= level and (right < total or 0.5**total < level):
        return f"attention checks: {right} of {total} right, as by guessing"
    sides = [answer["choice"] for answer in answers if answer["kind"] == "pair" and answer.get("expected") is None]
    if len(sides) >= 10:
        most = max(sides.count("left"), sides.count("right"))
        if preference_p_value(most, len(sides)) < 0.001 and most >= 0.9 * len(sides):
            return f"one side: {most} of {len(sides)} answers"
    return None
