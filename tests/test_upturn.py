"""Whether a validation curve is past its minimum: seldom where it is not, mostly where it is, and where."""

import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter
from scipy.stats import norm

from foretrain.forecasting.upturn import upturn

SHAPES = {
    "flat": np.zeros_like,
    "power": lambda log_x: -0.3 * log_x,
    "floor": lambda log_x: np.log(0.3 + np.exp(-0.5 * log_x)),
}


def noise(seed, n, sd, rho=0.0, heavy=False):
    """A stationary first-order autoregression of standard deviation `sd`; heavy: Student's t3 shocks."""
    rng = np.random.default_rng(seed)
    shocks = rng.standard_t(3, n + 100) / np.sqrt(3) if heavy else rng.normal(size=n + 100)
    return sd * lfilter([np.sqrt(1 - rho**2)], [1, -rho], shocks)[100:]


def valley(n, depth):
    """A curve that falls and rises again, and where and at which height its minimum truly lies."""

    def height(x):
        return np.log(3 + 0.1 / (x + 0.05)) + depth * np.maximum(x - 1, 0) ** 2

    fine = np.linspace(0.02, 2, 100_001)
    x = np.linspace(0.02, 2, n)
    best = np.argmin(height(fine))
    return x, height(x), fine[best], height(fine)[best]


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.6])
@pytest.mark.parametrize("n", [12, 50, 300])
@pytest.mark.parametrize("shape", SHAPES)
def test_false_alarms(shape, n, rho):
    x = np.linspace(1, 300, n)
    clean = np.exp(SHAPES[shape](np.log(x)))
    called = [upturn(x, clean * np.exp(noise(seed, n, 0.01, rho))).past for seed in range(200)]
    assert np.mean(called) <= 0.015  # below 1%: two in 200 are within chance, and three here


@pytest.mark.parametrize("rho", [0.0, 0.6])
def test_false_alarms_under_heavy_tails(rho):
    x = np.linspace(1, 300, 300)
    called = [upturn(x, np.exp(noise(seed, 300, 0.01, rho, heavy=True))).past for seed in range(200)]
    assert np.mean(called) <= 0.02


@pytest.mark.parametrize(("n", "sd"), [(20, 0.001), (50, 0.005), (200, 0.005)])
def test_power_where_the_end_lies_nine_per_cent_up(n, sd):
    x, log_y, _, _ = valley(n, 0.1)
    called = [upturn(x, np.exp(log_y + noise(seed, n, sd, 0.3))).past for seed in range(50)]
    assert np.mean(called) >= 0.95


def test_a_curve_that_comes_back_down_is_not_past_its_minimum():
    x = np.linspace(1, 100, 200)
    y = 1 / np.sqrt(x) + 0.3 * np.exp(-0.5 * ((x - 40) / 8) ** 2)
    assert upturn(x[:90], y[:90]).past
    assert not upturn(x, y).past


@pytest.mark.parametrize(("n", "depth", "sd"), [(50, 0.1, 0.005), (200, 0.03, 0.001), (200, 0.1, 0.005)])
def test_where_the_minimum_is_and_what_it_is(n, depth, sd):
    x, log_y, place, level = valley(n, depth)
    found = [upturn(x, np.exp(log_y + noise(seed, n, sd, 0.3))) for seed in range(100)]
    assert np.median([f.x_best for f in found]) == pytest.approx(place, rel=0.03)
    off = {
        "smoothed": np.mean([np.log(f.y_best) - level for f in found]) / sd,
        "lowest": np.mean([np.log(f.y_lowest) - level for f in found]) / sd,
        "corrected": np.mean([np.log(f.y_lowest + f.bias) - level for f in found]) / sd,
    }
    assert off["lowest"] < -1.0
    assert abs(off["smoothed"]) < 0.4 and abs(off["corrected"]) < 0.5


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.6])
def test_the_bias_is_that_of_the_best_of_so_many(rho):
    """On a flat curve: the mean of the lowest of the evaluations near it, from simulated autoregressions."""
    n, sd = 400, 0.01
    x = np.linspace(100, 101, n)
    found = [upturn(x, 2 * np.exp(noise(seed, n, sd, rho))) for seed in range(60)]
    near = n // 5
    lowest = np.mean([noise(seed, near, sd, rho).min() for seed in range(2000)])
    assert np.mean([f.bias / f.y_lowest for f in found]) == pytest.approx(-lowest, rel=0.12)


def test_the_bias_of_independent_noise_is_bloms():
    x = np.linspace(100, 101, 1000)
    found = [upturn(x, np.exp(noise(seed, 1000, 0.01))) for seed in range(40)]
    blom = norm.ppf((200 - 0.375) / (200 + 0.25))
    assert np.mean([f.bias / f.y_lowest / 0.01 for f in found]) == pytest.approx(blom, rel=0.06)


def test_a_clean_curve_has_no_bias_and_its_own_minimum():
    x = np.geomspace(1, 100, 101)
    y = 2 + np.log(x / 10) ** 2
    found = upturn(x, y)
    assert found.past
    assert found.x_best == pytest.approx(10, rel=0.01)
    assert found.y_best == pytest.approx(2, rel=1e-3)
    assert found.y_lowest == y.min()
    assert found.bias < 1e-3


def test_a_falling_curve_has_its_minimum_at_its_end():
    x = np.geomspace(1, 1000, 60)
    found = upturn(x, x**-0.3)
    assert not found.past
    assert found.x_best == pytest.approx(1000)
    assert found.y_best == pytest.approx(1000**-0.3, rel=1e-3)


def test_too_few_evaluations_are_never_past():
    x = np.arange(1.0, 8.0)
    found = upturn(x, np.array([3, 2, 1, 2, 3, 4, 5.0]))
    assert (found.past, found.x_best, found.y_best, found.y_lowest, found.bias) == pytest.approx(
        (0, 3, 1, 1, 0)
    )


@pytest.mark.parametrize(
    ("x", "y", "told"),
    [
        ([1, 2], [1], r"x and y of one shape \(n,\)"),
        ([1, 2], [1, np.nan], "positive, finite y, got nan: leave those points out"),
        ([2, 1], [1, 1], "ascending order, got a fall: sort x"),
    ],
)
def test_refuses_what_is_no_curve(x, y, told):
    with pytest.raises(ValueError, match=told):
        upturn(x, y)


positive = st.floats(1e-300, 1e300)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(positive, positive), min_size=1, max_size=40))
def test_any_curve_is_judged_without_a_warning(points):
    x, y = np.array(sorted(points)).T
    with np.errstate(all="raise", under="ignore"):
        found = upturn(x, y)
    assert np.isfinite([found.x_best, found.y_best, found.y_lowest, found.bias]).all()
    assert x[0] * 0.99 <= found.x_best <= x[-1] * 1.01
    assert found.bias >= 0 and found.candidates >= 1


@pytest.mark.parametrize(
    ("path", "keys", "axis"),
    [
        ("olmo_ladder/val_loss_curves.csv", ("run",), "tokens"),
        ("multipowerlaw/loss_curves.csv", ("model_M", "schedule"), "step"),
    ],
)
def test_runs_that_see_their_data_once_are_never_past_their_minimum(published_curves, path, keys, axis):
    with (published_curves / path).open() as file:
        rows = list(csv.DictReader(file))
    losses = [name for name in rows[0] if name == "loss" or name.startswith("loss_")]
    runs = {tuple(row[key] for key in keys) for row in rows}
    for run in sorted(runs):
        own = [row for row in rows if tuple(row[key] for key in keys) == run]
        for loss in losses:
            points = sorted((float(row[axis]), float(row[loss])) for row in own if row[loss])
            x, y = np.array([point for point in points if point[0] > 0]).T
            assert not upturn(x, y).past, (run, loss)
