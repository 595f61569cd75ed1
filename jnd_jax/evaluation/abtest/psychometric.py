"""Thresholds of a flicker test by a psychometric function, with rates of false alarms and lapses."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

# A subject's threshold, and the width over which seeing becomes not seeing, as shares of the range of qualities.
_THRESHOLDS = np.linspace(-0.25, 1.25, 151)
_WIDTHS = np.geomspace(0.01, 0.16, 9)
# Where the width lies before any answer, as the logarithm's mean and deviation: subjects are about as sharp as this.
_WIDTH_PRIOR = (math.log(0.04), 0.7)


def rate(wrong: int, total: int) -> float:
    """Share of trials with a known answer that were answered wrongly, by Jeffreys' prior: .02 to .5; .02 without trials."""
    return min(0.5, max(0.02, (wrong + 0.5) / (total + 1))) if total else 0.02


def threshold(
    answers: Sequence[tuple[float, bool]], low: float, high: float, *, guess: float = 0.02, lapse: float = 0.02
) -> float:
    """Quality at which one subject sees the difference of one image in half of the trials, but for guesses and lapses.

    The mean of the posterior of m under P(seen at q) = guess + (1 - guess - lapse) / (1 + exp((q - m) / w)), m uniform
    from a quarter of the range below `low` to a quarter above `high`, the width w log-normal about 4 % of the range
    (Kingdom and Prins, Psychophysics, 2010, chapter 4; Watson and Pelli, QUEST, 1983). The fit bears answers that a
    staircase has chosen.

    Args:
        answers: (quality, seen), at least one.
        low: lowest quality of the test.
        high: highest quality of the test.
        guess: probability of "seen" where there is no difference.
        lapse: probability of "not seen" where the difference is plain.

    Returns:
        The quality; infinite where the subject most probably still sees the difference at `high`.
    """
    qualities = (np.array([quality for quality, _ in answers], float) - low) / (high - low)
    seen = np.array([seen for _, seen in answers])
    steps = (qualities - _THRESHOLDS[:, None, None]) / _WIDTHS[:, None]
    probability = guess + (1 - guess - lapse) / (1 + np.exp(np.clip(steps, -60, 60)))
    log_likelihood = np.log(np.where(seen, probability, 1 - probability)).sum(-1)
    log_prior = -0.5 * ((np.log(_WIDTHS) - _WIDTH_PRIOR[0]) / _WIDTH_PRIOR[1]) ** 2
    posterior = np.exp(log_likelihood + log_prior - (log_likelihood + log_prior).max()).sum(1)
    posterior /= posterior.sum()
    if posterior[_THRESHOLDS > 1].sum() > 0.5:
        return math.inf
    return float(low + (high - low) * (posterior * _THRESHOLDS).sum())
