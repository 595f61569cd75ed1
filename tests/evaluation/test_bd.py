from __future__ import annotations

import numpy as np
import pytest

from jnd_jax.errors import JndError
from jnd_jax.evaluation.bd import bd_rate, rate_at
from jnd_jax.evaluation.curves import published

RATE = np.array([0.1, 0.2, 0.35, 0.6, 1.0, 1.7])
QUALITY = np.array([27.0, 29.5, 31.8, 34.1, 36.9, 40.0])
CURVES = {curve.name: list(zip(*curve.points)) for curve in published()}


@pytest.mark.parametrize("method", ["akima", "pchip"])
@pytest.mark.parametrize("factor", [0.5, 0.9, 1.25])
def test_constant_factor_is_exact(method, factor):
    result = bd_rate(RATE, QUALITY, factor * RATE, QUALITY, method=method)
    assert result.percent == pytest.approx(100 * (factor - 1), abs=1e-9)
    assert (result.overlap, result.low, result.high) == (1, 27, 40)


@pytest.mark.parametrize("method", ["akima", "pchip"])
def test_straight_lines_in_log_rate_integrate_exactly(method):
    """log R = .1 Q against log R = .1 Q + .02 (Q - 30): the mean difference over 28..36 is .02 * 2."""
    quality = np.linspace(28, 36, 5)
    result = bd_rate(
        np.exp(0.1 * quality), quality, np.exp(0.1 * quality + 0.02 * (quality - 30)), quality, method=method
    )
    assert result.percent == pytest.approx(100 * (np.exp(0.04) - 1), abs=1e-9)


@pytest.mark.parametrize(
    "name, percent", [("bmshj2018-hyperprior", 3.9), ("mbt2018-mean", -3.3), ("cheng2020-anchor", -18.9)]
)
def test_published_bd_rates_against_bpg(name, percent):
    assert bd_rate(*CURVES["BPG 4:4:4"], *CURVES[name]).percent == pytest.approx(percent, abs=0.1)


@pytest.mark.parametrize("method", ["akima", "pchip"])
def test_agrees_with_the_bjontegaard_package(method):
    oracle = pytest.importorskip("bjontegaard")
    for anchor in CURVES.values():
        for test in CURVES.values():
            expected = oracle.bd_rate(*anchor, *test, method=method, require_matching_points=False, min_overlap=0)
            assert bd_rate(*anchor, *test, method=method).percent == pytest.approx(expected, abs=1e-6)


def test_order_of_points_does_not_matter():
    shuffled = [4, 0, 5, 2, 1, 3]
    a = bd_rate(RATE, QUALITY, 0.8 * RATE[shuffled], QUALITY[shuffled] + 0.3)
    b = bd_rate(RATE, QUALITY, 0.8 * RATE, QUALITY + 0.3)
    assert a == b


def test_little_overlap_is_an_error():
    with pytest.raises(JndError, match="share 23 %"):
        bd_rate(RATE, QUALITY, RATE, QUALITY + 10)
    with pytest.raises(JndError, match="share 0 %"):
        bd_rate(RATE, QUALITY, RATE, QUALITY + 20, min_overlap=0)


def test_unfit_curves_are_errors():
    for rate, quality in (
        (RATE[:3], QUALITY[:3]),
        (-RATE, QUALITY),
        (RATE, QUALITY * [1, 1, 1, 1, 1, np.inf]),
        (RATE, np.minimum(QUALITY, 36)),
    ):
        with pytest.raises(JndError):
            bd_rate(RATE, QUALITY, rate, quality)
    with pytest.raises(JndError, match="akima or pchip"):
        bd_rate(RATE, QUALITY, RATE, QUALITY, method="cubic")


def test_published_curves_name_their_source_and_rise():
    for curve in published():
        rates, values = zip(*curve.points)
        assert curve.source and list(rates) == sorted(rates) and list(values) == sorted(values)


def test_rate_at_a_quality_lies_on_the_curve():
    """Straight in log rate: log R = .1 Q; at a measured point the rate is that of the point."""
    rate = np.exp(0.1 * QUALITY)
    assert rate_at(rate, QUALITY, 30.0) == pytest.approx(np.exp(3.0))
    assert rate_at(RATE[::-1], QUALITY[::-1], 34.1) == pytest.approx(0.6)


def test_rate_at_a_quality_beyond_the_points_is_none():
    assert rate_at(RATE, QUALITY, 40.1) == np.inf
    assert np.isnan(rate_at(RATE, QUALITY, 26.9))
    assert rate_at(RATE, QUALITY, 27.0) == RATE[0]


def test_a_dearer_point_that_is_no_better_does_not_count():
    assert rate_at([0.1, 0.2, 0.3, 0.4], [1.0, 2.0, 1.5, 3.0], 2.5) == rate_at([0.1, 0.2, 0.4], [1.0, 2.0, 3.0], 2.5)
