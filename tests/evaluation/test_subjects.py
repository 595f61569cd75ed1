from __future__ import annotations

import math

import numpy as np
import pytest

from jnd_jax.errors import JndError
from jnd_jax.evaluation.abtest import subjects


def test_wilson_intervals_are_the_textbook_ones():
    assert subjects.wilson(8, 10) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)
    assert subjects.wilson(0, 10) == pytest.approx((0, 0.2775328), abs=1e-6)
    assert subjects.wilson(50, 100) == pytest.approx((0.4038315, 0.5961685), abs=1e-6)
    assert subjects.wilson(0, 0) == (0, 1)


def test_exact_binomial_probabilities():
    assert subjects.guessing_probability(7, 8) == 9 / 256
    assert subjects.preference_p_value(9, 10) == pytest.approx(2 * 11 / 1024)
    assert subjects.preference_p_value(5, 10) == 1


@pytest.mark.parametrize(
    "wins, total, verdict",
    [
        (70, 100, "first"),
        (30, 100, "second"),
        (5, 10, "open"),
        (500, 1000, "equal"),
        (560, 1000, "equal"),
        (600, 1000, "first"),
        (10, 16, "first no worse"),
        (6, 16, "second no worse"),
        (9, 16, "open"),
    ],
)
def test_verdicts(wins, total, verdict):
    assert subjects.preference("a", "b", wins, total).verdict == verdict


def test_equality_needs_evidence():
    few, many = subjects.preference("a", "b", 10, 20), subjects.preference("a", "b", 200, 400)
    assert few.p_value == many.p_value == 1
    assert (few.verdict, many.verdict) == ("open", "equal")
    with pytest.raises(JndError, match="no answer"):
        subjects.preference("a", "b", 0, 0)


def test_two_conditions_rank_by_their_odds():
    elo = subjects.bradley_terry(np.array([[0, 10], [1, 0]]), prior=0)
    assert elo[0] - elo[1] == pytest.approx(400) and elo.mean() == pytest.approx(1500)


def test_bradley_terry_recovers_strengths_from_expected_wins():
    truth = np.array([1700.0, 1500.0, 1300.0])
    odds = 10 ** (truth / 400)
    expected = 1000 * odds[:, None] / (odds[:, None] + odds)
    np.fill_diagonal(expected, 0)
    assert subjects.bradley_terry(expected, prior=0) == pytest.approx(truth, abs=1e-3)
    undefeated = subjects.bradley_terry(np.array([[0, 20], [0, 0]]))
    assert np.isfinite(undefeated).all() and undefeated[0] - undefeated[1] == pytest.approx(400 * math.log10(41))


def test_unconnected_conditions_cannot_be_ranked():
    wins = np.zeros((4, 4))
    wins[0, 1] = wins[2, 3] = 5
    with pytest.raises(JndError, match="compare every condition"):
        subjects.bradley_terry(wins)


def test_step_threshold_bears_a_slip():
    clean = [(10, True), (20, True), (30, True), (40, False), (50, False)]
    assert subjects.step_threshold(clean) == (40, True)
    assert subjects.step_threshold([*clean, (50, True), (50, False)]) == (40, True)
    assert subjects.step_threshold([(10, False), (20, False)]) == (10, True)
    assert subjects.step_threshold([(10, True), (20, True)]) == (20, False)


def check(right: bool) -> dict:
    return {"kind": "pair", "choice": "left", "expected": "left" if right else "right"}


def pair(choice: str) -> dict:
    return {"kind": "pair", "choice": choice, "expected": None}


def test_screening():
    sides = [pair("left"), pair("right")] * 10
    assert subjects.screen([check(True)] * 8 + sides) is None
    assert subjects.screen([check(True)] * 7 + [check(False)] + sides) is None
    assert "6 of 8" in subjects.screen([check(True)] * 6 + [check(False)] * 2 + sides)
    assert subjects.screen([check(True)] * 3 + sides) is None
    assert "2 of 3" in subjects.screen([check(True)] * 2 + [check(False)] + sides)
    assert "one side" in subjects.screen([check(True)] * 8 + [pair("left")] * 20)
    assert subjects.screen([]) == "no answers"


def test_guessers_are_mostly_screened_out():
    random = np.random.default_rng(0)
    kept = sum(subjects.screen([check(bool(b)) for b in random.integers(0, 2, 8)]) is None for _ in range(2000))
    assert kept / 2000 < 0.05
