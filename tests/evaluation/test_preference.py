from __future__ import annotations

import math

import numpy as np
import pytest

from bench import abtest_error_rates
from jnd_jax.errors import JndError
from jnd_jax.evaluation.abtest import plan, preference


def answers(counts: np.ndarray, repeats: int) -> tuple[list[bool], list[int], list[int]]:
    """(subjects, images) counts of preferring the first, each of `repeats` answers."""
    preferred, subjects, images = [], [], []
    for (subject, image), wins in np.ndenumerate(counts):
        preferred += [True] * int(wins) + [False] * (repeats - int(wins))
        subjects += [subject] * repeats
        images += [image] * repeats
    return preferred, subjects, images


def even(share: float, subjects: int = 10, images: int = 10, repeats: int = 10) -> preference.Preference:
    """A pair in which every subject prefers the first equally often on every image."""
    counts = np.full((subjects, images), round(share * repeats))
    return preference.compare("a", "b", *answers(counts, repeats))


def verdict(pair: preference.Preference) -> str:
    return preference.judge([pair])[0].verdict


def test_variance_of_a_crossed_design_by_hand():
    """2 subjects x 2 images, one answer each: a prefers b's first on both images, the other on none. Residuals +-1/2:
    by subject sums of +1 and -1, doubled by 2 / (2 - 1): 4; by image sums of 0; by both 4 * 1/4 * 4/3. The greatest of
    the three combinations is the subjects' 4; V = 4 / 16."""
    share = preference.clustered_share([True, True, False, False], ["s", "s", "t", "t"], ["i", "j", "i", "j"])
    assert (share.share, share.error, share.freedom) == (0.5, pytest.approx(0.5), 1)
    with pytest.raises(JndError, match="no answer"):
        preference.clustered_share([], [], [])


def test_independent_answers_have_the_binomial_error():
    share = preference.clustered_share(np.arange(400) % 2 == 0, np.arange(400), np.arange(400))
    assert share.error == pytest.approx(math.sqrt(0.25 / 400), rel=0.01)


@pytest.mark.parametrize(
    "share, verdict_of_it",
    [
        (0.8, "first"),
        (0.2, "second"),
        (0.5, "equal"),
    ],
)
def test_verdicts(share, verdict_of_it):
    assert verdict(even(share)) == verdict_of_it


def test_a_small_but_certain_difference_is_not_called_equal():
    assert verdict(even(0.55, repeats=20)) == "first, within the margin"


def test_equality_needs_evidence():
    assert verdict(even(0.5, subjects=6, images=6, repeats=2)) == "open"
    assert verdict(even(0.6, subjects=6, images=6)) in ("first", "first no worse")


@pytest.mark.parametrize("subjects, images", [(5, 40), (40, 5)])
def test_below_six_subjects_or_images_all_is_open(subjects, images):
    assert verdict(even(1.0, subjects, images)) == "open"
    assert verdict(even(1.0, 6, 6)) == "first"


def test_holm_by_hand():
    assert preference.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert preference.holm([0.5, 0.9]) == [1.0, 1.0]


def test_more_pairs_need_more_evidence():
    pair = even(0.6, subjects=8, images=8, repeats=5)
    alone = preference.judge([pair])[0].p_value
    assert preference.judge([pair] * 5)[0].p_value == pytest.approx(min(1, 5 * alone))


def simulated(subjects: int, images: int, share: float, spread: float, tests: int, seed: int) -> list[str]:
    """Verdicts of tests with preferences normal in logits between subjects and between images."""
    from scipy import optimize

    random = np.random.default_rng(seed)
    nodes, weights = np.polynomial.hermite_e.hermegauss(61)
    mean = lambda c: (weights / (1 + np.exp(-(c + math.sqrt(2) * spread * nodes)))).sum() / weights.sum()
    centre = optimize.brentq(lambda c: mean(c) - share, -20, 20)
    verdicts = []
    for _ in range(tests):
        logits = centre + random.normal(0, spread, (subjects, 1)) + random.normal(0, spread, (1, images))
        chosen = random.random((subjects, images)) < 1 / (1 + np.exp(-logits))
        rows, columns = np.indices(chosen.shape)
        verdicts.append(
            verdict(
                preference.compare("a", "b", chosen.ravel().tolist(), rows.ravel().tolist(), columns.ravel().tolist())
            )
        )
    return verdicts


@pytest.mark.parametrize("subjects, images", [(8, 8), (12, 12), (24, 12)])
def test_false_verdicts_are_rare(subjects, images):
    """Answers that each count for themselves err in 10 to 40 % of these tests (bench/abtest_error_rates.py)."""
    tests = 300
    null = simulated(subjects, images, 0.5, 0.5, tests, seed=0)
    assert sum(v.startswith(("first", "second")) and "no worse" not in v for v in null) / tests < 0.075
    at_margin = simulated(subjects, images, 0.6, 0.5, tests, seed=1)
    assert sum(v == "equal" or "within" in v for v in at_margin) / tests < 0.075


def test_a_plan_keeps_its_power():
    tests = 200
    found = simulated(36, 24, 0.6, plan.SPREAD, tests, seed=2)
    share = sum(v.startswith("first") and "no worse" not in v for v in found) / tests
    assert share == pytest.approx(plan.power(36, 24), abs=0.09) and plan.power(36, 24) > 0.8
    needed = plan.subjects_needed(24)
    assert plan.power(needed, 24) >= 0.8 > plan.power(needed - 1, 24)
    assert plan.subjects_needed(4) is None and plan.subjects_needed(6, share=0.52) is None


def test_two_conditions_rank_by_their_odds():
    elo = preference.bradley_terry(np.array([[0, 10], [1, 0]]), prior=0)
    assert elo[0] - elo[1] == pytest.approx(400) and elo.mean() == pytest.approx(1500)


def test_bradley_terry_recovers_strengths_from_expected_wins():
    truth = np.array([1700.0, 1500.0, 1300.0])
    odds = 10 ** (truth / 400)
    expected = 1000 * odds[:, None] / (odds[:, None] + odds)
    np.fill_diagonal(expected, 0)
    assert preference.bradley_terry(expected, prior=0) == pytest.approx(truth, abs=1e-3)
    undefeated = preference.bradley_terry(np.array([[0, 20], [0, 0]]))
    assert np.isfinite(undefeated).all() and undefeated[0] - undefeated[1] == pytest.approx(400 * math.log10(41))


def test_unconnected_conditions_cannot_be_ranked():
    wins = np.zeros((4, 4))
    wins[0, 1] = wins[2, 3] = 5
    with pytest.raises(JndError, match="Compare every condition"):
        preference.bradley_terry(wins)


def test_planned_looks_do_not_add_false_verdicts():
    """Three looks and the end, each at 5 %, would find a preference that is not there in more tests."""
    size = (24, 24)
    planned, unplanned = (abtest_error_rates.looked_at(*size, 0.5, 0.8, 300, kind) for kind in (True, False))
    assert planned["preferred"] <= preference.LEVEL and unplanned["preferred"] > 0.075
    assert abtest_error_rates.looked_at(*size, 0.6, 0.8, 300, True, seed=1)["equal"] < 0.075


def test_the_levels_of_planned_looks_add_up_to_five_percent():
    looks = [plan.Look("t", count, "2026-01-31") for count in (9, 18, 27)]
    fixed = {"subjects": 36, "looks": 3}
    levels = [plan.level(count, fixed, looks[:place]) for place, count in enumerate((9, 18, 27, 36))]
    assert sum(levels) == pytest.approx(preference.LEVEL) and min(levels) == plan.EARLY_LEVEL
    assert plan.level(30, fixed, looks) == 0
    assert plan.level(40, fixed, [*looks, plan.Look("t", 36, "2026-02-01")]) == 0
    assert plan.level(30, fixed, [plan.Look("t", 36, "2026-02-01")]) == 0
    assert plan.level(8, {"subjects": 9}) == 0 and plan.level(9, {"subjects": 9}) == plan.level(9, None) == 0.05
