"""Shapes averaged over one curve, and what its own past forecasts make of them."""

import numpy as np
import pytest
from scipy.stats import t as student

from foretrain.forecasting.averaging import COARSE, FINE, WINDOWS, average
from foretrain.forecasting.doubts import local_noise
from foretrain.forecasting.past_forecasts import ORIGINS
from foretrain.forecasting.uncertainty import CURVE_LAWS, SCALES, model_curve, quantile_factor
from foretrain.status import FitStatus

X = np.geomspace(1e3, 1e6, 60)
EVEN = np.full(len(WINDOWS), 1.0 / len(WINDOWS))


def noisy(x, law, deviation, seed):
    return law(x) * np.exp(np.random.default_rng(seed).normal(0, deviation, x.size))


def with_floor(x):
    return 0.5 + 30 * x**-0.4


@pytest.mark.parametrize("grid", [COARSE, FINE], ids=["coarse", "fine"])
def test_shapes_are_the_formula(grid):
    u = np.array([0.01, 0.3, 1.0, 20.0])
    logs = grid.logs(np.log(u))
    assert logs.shape == (grid.alpha.size, 4)
    for i in range(0, grid.alpha.size, 37):
        alpha, floor, shift = grid.alpha[i], grid.floor[i], grid.shift[i]
        expected = floor + (1 - floor) * ((u + shift) / (1 + shift)) ** -alpha
        np.testing.assert_allclose(np.exp(logs[i]), expected, rtol=1e-12)


def test_an_average_is_a_weighted_mean_over_shapes():
    log_u = np.log(X / X[-1])
    log_y = np.log(with_floor(X))
    found = average(log_u, log_y, np.ones_like(X), EVEN, COARSE)
    at = np.array([-1.0, 0.0, 0.7, 3.0])
    predicted = found.levels[:, :, None] + COARSE.logs(at)[None]
    share = (EVEN[:, None] * found.weights)[:, :, None]
    mean = (share * predicted).sum(axis=(0, 1))
    deviation = np.sqrt((share * (predicted - mean) ** 2).sum(axis=(0, 1)))
    np.testing.assert_allclose(found.moments(at)[0], mean, rtol=1e-10)
    np.testing.assert_allclose(found.moments(at)[1], deviation, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(EVEN @ found.by_window(COARSE.logs(at)), mean, rtol=1e-10)
    assert found.weights.sum(axis=1) == pytest.approx(1.0)


def test_levels_are_weighted_least_squares():
    log_u, log_y = np.log(X / X[-1]), np.log(noisy(X, with_floor, 0.02, 0))
    found = average(log_u, log_y, np.ones_like(X), EVEN, COARSE)
    logs = COARSE.logs(log_u)
    for k, recency in enumerate(WINDOWS):
        for i in (0, 100, 559):
            w = np.exp(recency * log_u)
            reference = np.polynomial.polynomial.polyfit(log_u, log_y - logs[i], 0, w=np.sqrt(w))
            assert found.levels[k, i] == pytest.approx(reference[0], abs=1e-10)


def test_the_law_that_made_the_points_has_the_largest_share():
    clean = model_curve(X, with_floor(X))
    assert clean.share("power_floor") > 0.9
    assert sum(clean.share(law) for law in CURVE_LAWS) == pytest.approx(1.0)
    bent = model_curve(X, 0.5 + 30 * (X + 5e4) ** -0.4)
    assert bent.share("shifted_power_floor") > 3 * clean.share("shifted_power_floor")
    assert bent.share("shifted_power_floor") > 0.2, "although the prior makes a shift an exception"


def test_the_irreducible_error_lies_in_its_interval():
    inside = []
    for seed in range(20):
        low, high = model_curve(X, noisy(X, lambda x: 0.2 + 300 * x**-0.8, 0.02, seed)).floor_interval
        inside.append(low <= 0.2 <= high)
        assert 0.1 < low < high < 0.25
    assert np.mean(inside) >= 0.8


def test_many_points_say_what_few_say():
    few, many = X, np.geomspace(1e3, 1e6, 20_000)
    at = np.array([2e6, 1e7])
    one, other = (model_curve(x, with_floor(x)).log_moments(at)[0] for x in (few, many))
    np.testing.assert_allclose(one, other, atol=0.005)


def test_past_forecasts_are_counted_and_scale_the_interval():
    steady = model_curve(X, noisy(X, with_floor, 0.002, 1))
    assert steady.n_scores == len(ORIGINS)
    assert FitStatus.UNCALIBRATED not in steady.reasons
    broken = with_floor(X) * np.where(X > 3e5, 0.9, 1.0)  # a drop that no earlier part foretells
    assert model_curve(X, broken).past > 5 * steady.past
    short = model_curve(X[:5], with_floor(X[:5]))
    assert short.n_scores == 0 and FitStatus.UNCALIBRATED in short.reasons


def test_no_rise_is_projected_where_the_error_has_stopped_falling():
    y = np.where(X < 2e5, 30 * X**-0.3, 30 * 2e5**-0.3 * (X / 2e5) ** -0.02)
    mean = model_curve(X, y).log_moments(np.geomspace(1e6, 1e9, 20))[0]
    assert (np.diff(mean) <= 1e-12).all()


def test_a_fall_within_the_noise_is_believed_in_part():
    """Against the formula written out, from what the average says and second differences."""
    x = np.geomspace(1e3, 1e6, 40)
    model = model_curve(x, noisy(x, lambda x: 2 * x**-0.02, 0.03, 4))
    far = np.geomspace(1.2e6, 1e9, 30)
    said = model.average.moments(np.log(far / x[-1]))[0] - model.level
    nearby = model.average.moments(np.log([1.0, 2.0]))[0]
    doubling = nearby[0] - nearby[1]
    noise = local_noise(np.log(x), np.log(noisy(x, lambda x: 2 * x**-0.02, 0.03, 4))).sd
    assert doubling < noise, "or the curve is none that falls within its noise"
    stands = np.maximum(-said, doubling)
    share = stands**2 / (stands**2 + (1.25 * noise) ** 2)
    mean = model.log_moments(far)[0]
    np.testing.assert_allclose(mean - model.level, share * said, rtol=1e-6)
    assert share[0] < 0.5 < share[-1]
    assert (np.diff(mean) < 0).all()


def test_a_clear_fall_is_believed_whole():
    model = model_curve(X, noisy(X, with_floor, 1e-4, 0))
    far = np.geomspace(1.1e6, 1e8, 9)
    said = model.average.moments(np.log(far) - model.log_top)[0] - model.level
    np.testing.assert_allclose(model.log_moments(far)[0] - model.level, said, rtol=2e-3)


def test_points_seen_are_told_as_averaged():
    model = model_curve(X, noisy(X, lambda x: 2 * x**-0.02, 0.03, 4))
    seen = model.average.moments(np.log(X) - model.log_top)[0]
    np.testing.assert_allclose(model.log_moments(X)[0], seen, atol=1e-9)


def test_the_scale_is_its_parts():
    model = model_curve(X, noisy(X, with_floor, 0.01, 2))
    at = np.array([1e6, 4e6])
    mean, parts = model.scale_parts(at)
    told_mean, told = model.log_moments(at)
    np.testing.assert_allclose(mean, told_mean)
    expected = sum((scale * part) ** 2 for scale, part in zip(SCALES.values(), parts, strict=True))
    np.testing.assert_allclose(told, np.sqrt(expected), rtol=1e-6)
    assert told[1] > told[0]


def test_few_points_have_the_standard_error_of_a_straight_line():
    """As far as past forecasts are missing: of five points none, of eight two of the three wanted."""
    at = np.array([1.5e6, 2e6, 1e7])
    for n, forecasts in ((5, 0), (8, 2)):
        x = np.geomspace(1e4, 1e6, n)
        y = noisy(x, lambda x: 30 * x**-0.5, 0.03, 2)
        model = model_curve(x, y)
        assert model.n_scores == forecasts
        missing = 1 - forecasts / 3
        design = np.column_stack([np.ones(n), np.log(x)])
        asked = np.column_stack([np.ones(3), np.log(at)])
        variance = (asked @ np.linalg.inv(design.T @ design) * asked).sum(axis=1)
        sd = local_noise(np.log(x), np.log(y)).sd
        np.testing.assert_allclose(model.scale_parts(at)[1][-1], sd * np.sqrt(missing * variance), rtol=1e-6)
    many = model_curve(X, noisy(X, with_floor, 0.03, 2))
    assert (many.scale_parts(at)[1][-1] == 0).all()


@pytest.mark.parametrize(("n", "noise"), [(5, 0.03), (6, 0.03), (6, 0.1), (7, 0.1)])
def test_intervals_hold_on_few_noisy_points(n, noise):
    """Power laws with floor of which a law is told; without the line's part .4 to .8 hold."""
    rng = np.random.default_rng(n)
    inside = []
    for _ in range(150):
        alpha, floor = rng.uniform(0.1, 0.8), rng.uniform(0.0, 0.8)
        x = np.geomspace(1.0 / rng.choice([8.0, 30.0, 100.0]), 1.0, n)
        y = (floor + (1 - floor) * x**-alpha) * np.exp(rng.normal(0, noise, n))
        model = model_curve(x, y)
        if model.average is not None:
            mean, scale = model.log_moments(np.array([2.0]))
            outcome = np.log(floor + (1 - floor) * 2.0**-alpha) + rng.normal(0, noise)
            inside.append(abs(outcome - mean[0]) <= quantile_factor(0.9) * scale[0])
    assert len(inside) > 90
    assert 0.8 <= np.mean(inside) <= 0.97


def test_points_of_large_standard_error_count_less():
    y = with_floor(X)
    spoilt, se = y.copy(), 0.001 * y
    spoilt[-8:] *= 1.15
    se[-8:] = 0.15 * y[-8:]
    at = np.array([2e6])
    truth = np.log(with_floor(at))
    plain = abs(model_curve(X, spoilt).log_moments(at)[0] - truth)
    told = abs(model_curve(X, spoilt, y_se=se).log_moments(at)[0] - truth)
    assert told < 0.6 * plain


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.98])
def test_quantiles_are_those_of_student(level):
    assert quantile_factor(level) == pytest.approx(student(5).interval(level)[1], rel=1e-9)


def test_intervals_hold_where_the_law_is_right():
    """200 noisy power laws with floor, no setting of which the scales have seen."""
    rng = np.random.default_rng(3)
    inside = []
    for _ in range(200):
        alpha, floor = rng.uniform(0.2, 0.8), rng.uniform(0.0, 0.6)
        x = np.geomspace(1.0, 10 ** rng.uniform(1.2, 3), int(rng.integers(12, 60)))

        def law(at, alpha=alpha, floor=floor):
            return floor + at**-alpha

        y = law(x) * np.exp(rng.normal(0, 0.01, x.size))
        at = x[-1] * np.array([2.0])
        mean, scale = model_curve(x, y).log_moments(at)
        outcome = np.log(law(at)) + rng.normal(0, 0.01)
        inside.append(abs(outcome - mean) <= quantile_factor(0.9) * scale)
    assert 0.85 <= np.mean(inside)
