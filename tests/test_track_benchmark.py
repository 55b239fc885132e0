"""The benchmark of a run's own track record: how its two rules follow what came, and what is scored."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

BENCHMARKS = str(Path(__file__).parents[1] / "benchmarks")
sys.path.insert(0, BENCHMARKS)
try:
    import track_record
finally:
    sys.path.remove(BENCHMARKS)

TIMES = 6


def forecasts(came):
    """Of a median of 1 with a band from 1/1.1 to 1.1, whenever it was made."""
    ones = np.ones((TIMES, TIMES))
    return ones, ones / 1.1, ones * 1.1, np.full(TIMES, came)


@pytest.mark.parametrize(("came", "misses"), [(1.0, 0.0), (2.0, 1.0)])
def test_the_width_follows_the_misses(came, misses):
    found = track_record.factors(forecasts(came), "width", 0.5)
    expected = [math.exp(0.5 * (misses - 0.1) * min(k, TIMES - 2)) for k in range(TIMES)]
    np.testing.assert_allclose(found[:-1], expected[:-1], rtol=1e-12)


def test_the_level_follows_the_misses_and_keeps_its_bounds():
    good = track_record.factors(forecasts(1.0), "level", 0.1)
    alphas = [0.1 + 0.01 * k for k in range(TIMES - 1)]
    np.testing.assert_allclose(good[:-1], [norm.isf(a / 2) / norm.isf(0.05) for a in alphas], rtol=1e-12)
    bad = track_record.factors(forecasts(2.0), "level", 0.1)
    np.testing.assert_allclose(bad[1:-1], norm.isf(0.005) / norm.isf(0.05), rtol=1e-12)


def test_coverage_and_score_are_those_of_the_bands():
    found = [forecasts(1.0), forecasts(2.0)]
    for end in (False, True):
        covered, error, width, score = track_record.scored(found, "", 0.0, end)
        assert (covered, width) == (0.5, 1.0) and error == pytest.approx(0.5 / math.sqrt(2))
        missed = 2 * math.log(1.1) + 20 * (math.log(2) - math.log(1.1))
        assert score == pytest.approx((2 * math.log(1.1) + missed) / 2)


def test_each_forecast_is_made_from_what_came_before_it():
    asked = []

    def ask(x, y, at):
        asked.append((x[-1], list(at)))
        return type("Told", (), {"median": at, "lower": {0.9: at - 1}, "upper": {0.9: at + 1}})

    x = np.arange(1.0, 201.0)
    median, _, _, came = track_record.made_along(x, 2 * x, ask)
    assert came[-1] == 400 and len(asked) == came.size - 1
    for (newest, at), row in zip(asked, range(came.size), strict=False):
        assert all(place > newest for place in at) and 2 * newest == came[row]
        np.testing.assert_array_equal(median[row, row + 1 :], at)
        assert np.isnan(median[row, : row + 1]).all()
    assert track_record.made_along(x[:5], x[:5], ask) is None
