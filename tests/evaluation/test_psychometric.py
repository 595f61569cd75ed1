from __future__ import annotations

import math

import numpy as np
import pytest

from jnd_jax.evaluation.abtest import psychometric

LEVELS = np.linspace(10, 95, 16)


def staircase(threshold: float, width: float, random: np.random.Generator, count: int = 12) -> list[tuple[float, bool]]:
    """The page's staircase with an observer who sees below `threshold`, and errs in 3 % of the trials."""
    level, step, last, answers = len(LEVELS) // 2, len(LEVELS) // 4, None, []
    for _ in range(count):
        seen = bool(random.random() < 0.03 + 0.94 / (1 + math.exp((LEVELS[level] - threshold) / width)))
        answers.append((float(LEVELS[level]), seen))
        if last is not None and seen != last:
            step = max(1, step // 2)
        last = seen
        level = min(len(LEVELS) - 1, max(0, level + (step if seen else -step)))
    return answers


@pytest.mark.parametrize("width, spread", [(1.5, 2.5), (4.0, 4.5)])
def test_thresholds_are_unbiased(width, spread):
    """The last steps of the same staircases are 3.3 too high, with a spread of 2.5 to 4.7."""
    random, errors = np.random.default_rng(0), []
    for _ in range(200):
        truth = random.uniform(30, 75)
        errors.append(psychometric.threshold(staircase(truth, width, random), 10, 95, guess=0.03, lapse=0.03) - truth)
    assert abs(np.mean(errors)) < 0.8 and np.std(errors) < spread


def test_a_slip_moves_little():
    clean = [(quality, quality < 50) for quality in LEVELS]
    assert psychometric.threshold(clean, 10, 95) == pytest.approx(50, abs=3)
    assert psychometric.threshold([*clean, (95.0, True)], 10, 95) == pytest.approx(50, abs=4)


def test_a_difference_seen_to_the_end_has_no_threshold():
    assert psychometric.threshold([(quality, True) for quality in LEVELS], 10, 95) == math.inf
    assert psychometric.threshold([(quality, False) for quality in LEVELS], 10, 95) < 20


def test_rates_stay_within_reason():
    assert psychometric.rate(0, 0) == 0.02 and psychometric.rate(0, 200) == 0.02
    assert psychometric.rate(2, 20) == pytest.approx(2.5 / 21)
