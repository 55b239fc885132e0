"""`forecast` and `forecast_joint`: what checks from outside may rely on."""

import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import foretrain
from foretrain.projection import band, named_projection
from foretrain.status import FitStatus

X = np.geomspace(1e3, 1e5, 30)
POSITIVE = st.floats(1e-300, 1e300)


def test_a_clean_curve_is_continued():
    at = np.array([1e5, 1e6, 1e7])
    result = foretrain.forecast(X, 0.5 + 30 * X**-0.4, at)
    np.testing.assert_allclose(result.median, 0.5 + 30 * at**-0.4, rtol=0.03)
    assert result.status == "ok"
    for level in (0.5, 0.8, 0.9):
        assert (result.lower[level] <= 0.5 + 30 * at**-0.4).all()
        assert (result.upper[level] >= 0.5 + 30 * at**-0.4).all()


def test_intervals_are_nested_and_widen_with_distance():
    y = (0.5 + 30 * X**-0.4) * np.exp(np.random.default_rng(0).normal(0, 0.01, 30))
    result = foretrain.forecast(X, y, np.array([2e5, 1e6, 1e7]))
    assert (result.lower[0.9] < result.lower[0.8]).all() and (result.lower[0.8] < result.lower[0.5]).all()
    assert (result.upper[0.9] > result.upper[0.8]).all() and (result.upper[0.8] > result.upper[0.5]).all()
    width = result.upper[0.9] / result.lower[0.9]
    assert (np.diff(width) > 0).all()


def test_order_repeats_and_seed_change_nothing():
    y = 0.5 + 30 * X**-0.4
    shuffled = np.random.default_rng(1).permutation(30)
    one, other = foretrain.forecast(X, y, 1e6), foretrain.forecast(X[shuffled], y[shuffled], 1e6, seed=7)
    assert one.median == other.median
    assert one.upper[0.9] == other.upper[0.9]


@pytest.mark.parametrize("shape", [(), (3,), (2, 2)])
def test_answers_have_the_shape_of_the_question(shape):
    result = foretrain.forecast(X, 0.5 + 30 * X**-0.4, np.full(shape, 1e6))
    assert result.median.shape == result.lower[0.9].shape == shape


def test_units_do_not_matter():
    y = 0.5 + 30 * X**-0.4
    plain, scaled = foretrain.forecast(X, y, 1e6), foretrain.forecast(X * 1e9, y * 1e-6, 1e15)
    assert float(scaled.median) == pytest.approx(float(plain.median) * 1e-6, rel=1e-9)


@pytest.mark.parametrize(
    ("x", "y", "at", "message"),
    [
        ([1, -2], [3, 1], [1], r"`x` to hold positive, finite numbers, got -2.0 \(1 of 2"),
        ([1, 2], [3, float("nan")], [1], "`y` to hold positive, finite numbers, got nan"),
        ([1, 2], [3, 1], [0], "`at` to hold positive, finite numbers, got 0.0"),
        ([1, 2], [3, float("inf")], [1], "`y` to hold positive, finite numbers, got inf"),
        ([], [], [1], "`x` to hold at least one number"),
        ([1, 2, 3], [3, 1], [1], r"same length, got `x` of shape \(3,\), `y` of shape \(2,\)"),
        ([[1, 2]], [[3, 1]], [1], "one-dimensional"),
        (["a"], [1], [1], "`x` to be an array of numbers"),
        (None, [1], [1], "`x`"),
    ],
)
def test_refuses_with_the_remedy(x, y, at, message):
    with pytest.raises(ValueError, match=message):
        foretrain.forecast(x, y, at)


@pytest.mark.parametrize("levels", [(), (0.0,), (1.0,), (90,), "x", None])
def test_refuses_levels_that_are_no_shares(levels):
    with pytest.raises(ValueError, match="numbers between 0 and 1"):
        foretrain.forecast(X, 1 / X, 1e6, levels=levels)


@pytest.mark.parametrize(
    ("x", "y", "status"),
    [
        ([5.0], [2.0], FitStatus.TOO_FEW_POINTS),
        ([5.0, 6.0], [2.0, 1.9], FitStatus.TOO_FEW_POINTS),
        ([5.0] * 9, [2.0] * 9, FitStatus.TOO_FEW_POINTS),
        (np.arange(1.0, 20), np.arange(1.0, 20), FitStatus.NOT_DECREASING),
        (np.arange(1.0, 20), np.ones(19), FitStatus.NOT_DECREASING),
    ],
)
def test_what_is_no_law_has_a_status_and_a_wide_interval(x, y, status):
    result = foretrain.forecast(x, y, 10 * np.max(x))
    assert result.status is status
    assert result.upper[0.9] / result.lower[0.9] > 1.5


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(POSITIVE, POSITIVE), min_size=1, max_size=12),
    st.lists(POSITIVE, min_size=1, max_size=3),
)
def test_any_positive_input_gives_finite_ordered_numbers_without_a_warning(points, at):
    x, y = zip(*points, strict=True)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        result = foretrain.forecast(x, y, at)
        joint = foretrain.forecast_joint(x, y, y, at[0], at)
    for told in (result, joint):
        assert not np.isnan(told.median).any()
        assert (told.lower[0.9] <= told.median).all() and (told.median <= told.upper[0.9]).all()


def grid_of_runs(alpha=0.34, beta=0.28, noise=0.0):
    n, d = np.meshgrid(np.geomspace(1e7, 3e8, 4), np.geomspace(1e9, 3e10, 10))
    n, d = n.ravel(), d.ravel()
    y = 1.7 + 400 * n**-alpha + 400 * d**-beta
    return n, d, y * np.exp(np.random.default_rng(0).normal(0, noise, n.size))


def test_joint_projection_of_a_larger_model():
    n, d, y = grid_of_runs(noise=0.002)
    truth = 1.7 + 400 * 1e9**-0.34 + 400 * 3e10**-0.28
    result = foretrain.forecast_joint(n, d, y, 1e9, 3e10)
    assert float(result.median) == pytest.approx(truth, rel=0.015)
    assert result.lower[0.9] < truth < result.upper[0.9]
    assert result.status == "ok"


def test_joint_questions_broadcast():
    n, d, y = grid_of_runs()
    result = foretrain.forecast_joint(n, d, y, np.array([[1e9], [2e9]]), np.array([1e10, 2e10, 4e10]))
    assert result.median.shape == (2, 3)
    assert (np.diff(result.median, axis=1) < 0).all() and (np.diff(result.median, axis=0) < 0).all()
    with pytest.raises(
        ValueError, match=r"`at_params` and `at_data` to broadcast, got shapes \(2,\) and \(3,\)"
    ):
        foretrain.forecast_joint(n, d, y, [1e9, 2e9], [1.0, 2.0, 3.0])


def test_two_sizes_are_not_a_law_of_size():
    n, d, y = grid_of_runs()
    few = n < 9e7
    assert np.unique(n[few]).size == 2
    result = foretrain.forecast_joint(n[few], d[few], y[few], 1e9, 3e10)
    assert result.status is FitStatus.TOO_FEW_SIZES
    assert result.upper[0.9] / result.lower[0.9] > 1.5


def test_one_run_is_one_observation_however_often_it_is_measured():
    """Ten times the points of the same runs must not make the interval much narrower."""
    n, d, y = grid_of_runs(noise=0.003)
    fine_d = np.repeat(d, 10) * np.tile(np.linspace(0.97, 1.03, 10), d.size)
    fine_n = np.repeat(n, 10)
    fine_y = (1.7 + 400 * fine_n**-0.34 + 400 * fine_d**-0.28) * np.repeat(
        y / (1.7 + 400 * n**-0.34 + 400 * d**-0.28), 10
    )
    few = foretrain.forecast_joint(n, d, y, 1e9, 3e10)
    many = foretrain.forecast_joint(fine_n, fine_d, fine_y, 1e9, 3e10)
    widths = [np.log(r.upper[0.9] / r.lower[0.9]) for r in (few, many)]
    assert widths[1] > 0.7 * widths[0]


def test_larger_runs_of_gadre_are_held(published_curves):
    """Gadre et al. 2024: from runs of four sizes, the 1.4B runs' C4 loss lies in the 90 % interval."""
    with (published_curves / "gadre2024" / "runs.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if float(row["chinchilla_multiplier"]) >= 1]
    n, d, y = (np.array([float(r[name]) for r in rows]) for name in ("N", "D_tokens", "loss_c4_val"))
    small, large = n < 1e9, (n > 1e9) & (n < 2e9)
    result = foretrain.forecast_joint(n[small], d[small], y[small], n[large], d[large])
    assert (result.lower[0.9] <= y[large]).all() and (y[large] <= result.upper[0.9]).all()
    np.testing.assert_allclose(result.median, y[large], rtol=0.03)


def test_bands_and_named_projections_say_what_the_forecast_says():
    def moments(x):
        return np.log(np.full_like(x, 2.0)), np.full_like(x, 0.1)

    x = np.array([1.0, 2.0])
    curve = band(moments(x), x, (0.9,))
    assert curve.median == (2.0, 2.0)
    assert curve.upper["0.9"][0] == pytest.approx(2.0 * np.exp(0.1 * 2.015048), rel=1e-5)  # t, 5 degrees
    one = named_projection("10x", moments(np.array([1.0])), params=None, data=10.0, levels=(0.9,))
    assert (one.median, one.data) == (pytest.approx(2.0), 10.0)
    assert one.lower["0.9"] == pytest.approx(2.0 * np.exp(-0.1 * 2.015048), rel=1e-5)
