"""A curve's own past forecasts, each against the same average made by hand."""

import numpy as np
import pytest

from foretrain.forecasting.averaging import COARSE, WINDOWS, average
from foretrain.forecasting.past_forecasts import (
    PastForecast,
    evenly,
    past_forecasts,
    usual_error,
    window_shares,
)

LOG_X = np.linspace(0.0, np.log(1000.0), 40)
LOG_Y = np.log(0.5 + 3 * np.exp(-0.4 * LOG_X)) + np.random.default_rng(0).normal(0, 0.01, 40)
EVEN = np.ones(40)


def forecast_of(error, z, counts=1.0):
    return PastForecast(np.array(error, dtype=float), np.array(z, dtype=float), counts)


def test_each_origin_is_forecast_from_what_came_before_it():
    found = past_forecasts(LOG_X, LOG_Y, EVEN)
    assert [one.counts for one in found] == pytest.approx([1 / 1.5, 1 / 2, 1 / 3, 1 / 4.5])
    for one, divisor in zip(found, (1.5, 2.0, 3.0, 4.5), strict=True):
        x = np.exp(LOG_X)
        seen = x <= x[-1] / divisor
        origin = x[seen][-1]
        asked = ~seen & (x <= 2.2 * origin)
        then = average(np.log(x[seen] / origin), LOG_Y[seen], EVEN[seen], evenly(), COARSE)
        at = np.log(x[asked] / origin)
        np.testing.assert_allclose(one.z, at, rtol=1e-12)
        for k in range(len(WINDOWS)):
            said = then.weights[k] @ (then.levels[k][:, None] + COARSE.logs(at))
            np.testing.assert_allclose(one.error[k], LOG_Y[asked] - said, rtol=1e-9, atol=1e-12)


def test_an_origin_with_too_few_points_before_it_tells_nothing():
    few = slice(5, None, 5)  # 7 points: 6 up to x_max over 1.5, 5 up to x_max over 3
    assert len(past_forecasts(LOG_X[few], LOG_Y[few], EVEN[few])) == 1
    assert past_forecasts(LOG_X[:5], LOG_Y[:5], EVEN[:5]) == []


def test_origins_with_the_same_points_before_them_count_once():
    few = slice(None, None, 4)  # 10 points: 9 up to x_max over 1.5 and over 2, 8 over 3, 7 over 4.5
    found = past_forecasts(LOG_X[few], LOG_Y[few], EVEN[few])
    assert [one.counts for one in found] == pytest.approx([1 / 1.5, 1 / 3, 1 / 4.5])
    assert [one.z.size for one in found] == [1, 1, 1]


def test_late_forecasts_count_most_for_the_usual_error():
    z = [0.3, 0.6]
    norm = np.sqrt(np.mean(np.square(z) + 0.05))
    past = [
        forecast_of([[0.1, 0.1], [0.3, 0.3]], z, 1 / 1.5),
        forecast_of([[0.8, 0.8], [0.8, 0.8]], z, 1 / 4.5),
    ]
    expected = (0.2 * 3 + 0.8) / 4 / norm
    assert usual_error(past, evenly()) == pytest.approx(expected)
    assert usual_error(past, np.array([1.0, 0.0])) == pytest.approx((0.1 * 3 + 0.8) / 4 / norm)
    assert usual_error([], evenly()) == 0.0


def test_the_window_that_forecast_better_counts_more():
    assert window_shares([]) == pytest.approx([0.5, 0.5])
    one = forecast_of([[0.1, -0.1], [0.3, 0.3]], [0.3, 0.6])
    powers = np.array([0.1 + 0.02, 0.3 + 0.02]) ** -(1 / 3)
    assert window_shares([one]) == pytest.approx(powers / powers.sum())
    inverse = 1 / np.array([0.12, 0.32])
    assert window_shares([one] * 3) == pytest.approx(inverse / inverse.sum())
