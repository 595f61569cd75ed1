from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from jnd_jax.errors import JndError
from jnd_jax.jnd import sur


def test_sur_and_jnd_quality_by_hand():
    thresholds = [20, 30, 30, 40, 50, 60, 70, math.inf]
    assert sur.jnd_quality(thresholds, 3 / 8) == 30
    assert sur.jnd_quality(thresholds, 0.5) == 40
    assert sur.jnd_quality(thresholds, 0.75) == 60
    assert sur.jnd_quality(thresholds, 1.0) == math.inf


def test_a_curve_without_shape_is_gumbel_by_hand():
    """Distortions of Gumbel(-50, 5): SUR(q) = 1 - exp(-exp((q - 50) / 5)), and its inverse."""
    curve = sur.SurCurve(0.0, -50.0, 5.0)
    assert curve.ratio(50) == pytest.approx(1 - math.exp(-1))
    assert curve.quality(0.75) == pytest.approx(50 + 5 * math.log(math.log(4)))
    np.testing.assert_allclose(
        curve.ratio(np.array([40.0, 60.0])), [1 - math.exp(-math.exp(-2)), 1 - math.exp(-math.exp(2))]
    )


@pytest.mark.parametrize("shape", [-0.2, 0.0, 0.4])
def test_the_fit_recovers_the_distribution_of_many_subjects(shape):
    """From exact quantiles of the distribution of distortion levels; thresholds are their negatives."""
    levels = stats.genextreme.ppf((np.arange(2000) + 0.5) / 2000, shape, loc=60, scale=8)
    curve = sur.fit(100 - levels)
    assert curve.shape == pytest.approx(shape, abs=0.03)
    assert curve.location == pytest.approx(-40, abs=0.3) and curve.scale == pytest.approx(8, rel=0.03)
    assert curve.quality(0.75) == pytest.approx(sur.jnd_quality(100 - levels, 0.75), abs=0.3)


@pytest.mark.parametrize("seed", range(5))
def test_no_start_of_scipy_finds_a_likelier_curve_for_forty_subjects(seed):
    levels = np.rint(stats.genextreme.rvs(0.3, loc=-60, scale=8, size=40, random_state=seed))
    curve = sur.fit(-levels)
    ours = stats.genextreme.logpdf(levels, curve.shape, curve.location, curve.scale).sum()
    for start in (-0.3, 0.3, 1.0):
        assert ours > stats.genextreme.logpdf(levels, *stats.genextreme.fit(levels, start)).sum() - 0.01


def test_subjects_who_are_never_satisfied_lower_the_curve():
    thresholds = [20, 25, 30, 35, 40, 50]
    whole, part = sur.fit(thresholds), sur.fit([*thresholds, math.inf, math.inf])
    assert part.reachable == 0.75
    assert part.ratio(33.0) == pytest.approx(0.75 * whole.ratio(33.0))
    assert part.quality(0.6) == pytest.approx(whole.quality(0.8)) and part.quality(0.8) == math.inf


def test_too_few_different_thresholds_are_refused():
    with pytest.raises(JndError, match="2 different thresholds of 4"):
        sur.fit([30, 30, 40, math.inf])
