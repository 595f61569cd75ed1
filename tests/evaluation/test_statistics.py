from __future__ import annotations

import numpy as np
import pytest

from jnd_jax.errors import JndError
from jnd_jax.evaluation import statistics
from jnd_jax.evaluation.bd import bd_rate


def test_the_interval_of_a_geometric_mean_is_students():
    """For a mean of logarithms the jackknife is the textbook's mean +- t s / sqrt(n), with n - 1 for n."""
    logs = np.random.default_rng(0).normal(-0.3, 0.2, 15)
    estimate = statistics.mean_ratio(np.exp(logs), np.ones(15))
    reach = 2.1447867 * logs.std(ddof=1) / np.sqrt(14)
    assert np.log([estimate.low, estimate.value, estimate.high]) == pytest.approx(
        [logs.mean() - reach, logs.mean(), logs.mean() + reach]
    )


def test_below_twelve_images_there_is_no_interval():
    values = np.linspace(1, 2, 11)
    assert statistics.ratio_of_means(values, np.ones(11)) == statistics.Estimate(1.5)
    assert statistics.ratio_of_means(np.linspace(1, 2, 12), np.ones(12)).low is not None


def test_a_figure_that_hangs_on_one_image_has_no_interval():
    def statistic(rows: np.ndarray) -> float:
        if 3 not in rows:
            raise JndError("No figure.")
        return 1.0

    assert statistics.interval(statistic, 12) == statistics.Estimate(1.0)


@pytest.mark.parametrize("images", [12, 24])
def test_intervals_cover_the_truth(images):
    """Log-normal rates and ratios, as photographs have (see bench/coverage.py for measured ones)."""
    random, held, samples = np.random.default_rng(images), np.zeros(2), 1000
    truth = (np.exp(-0.3 + 0.15**2 / 2), np.exp(-0.3))
    for _ in range(samples):
        anchor = np.exp(random.normal(-0.5, 0.55, images))
        test = anchor * np.exp(random.normal(-0.3, 0.15, images))
        estimates = (statistics.ratio_of_means(test, anchor), statistics.mean_ratio(test, anchor))
        held += [e.low <= true <= e.high for e, true in zip(estimates, truth)]
    assert (held / samples > 0.93).all() and (held / samples < 0.97).all()


def test_bd_rate_between_two_qualities():
    """log R = .1 Q against log R = .1 Q + .02 (Q - 30): over 32..36 the mean difference is .02 * 4."""
    quality = np.linspace(28, 40, 7)
    curves = (np.exp(0.1 * quality), quality, np.exp(0.1 * quality + 0.02 * (quality - 30)), quality)
    result = bd_rate(*curves, between=(32, 36))
    assert result.percent == pytest.approx(100 * np.expm1(0.08)) and (result.low, result.high) == (32, 36)
    assert bd_rate(*curves, between=(36, 44), min_overlap=0.5).overlap == pytest.approx(0.5)
    with pytest.raises(JndError, match="50 % of the range 36 to 44"):
        bd_rate(*curves, between=(36, 44), min_overlap=0.8)
