"""Reasons to doubt a curve: each fires where it is true, and seldom where it is not."""

import csv
import gzip
import time
import warnings
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter

from foretrain.forecasting.doubts import bends_down, doubts, falls, local_noise, rises
from foretrain.status import FitStatus

X = np.geomspace(1.0, 300.0, 60)
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


def positions(spacing, n):
    return np.log(np.geomspace(1, 300, n) if spacing == "even" else np.linspace(1, 300, n))


def rate(test, shape, spacing, n, rho, heavy, *, sd=0.03, seeds=200):
    """How often a test fires on one shape with fresh noise."""
    log_x = positions(spacing, n)
    clean = shape(log_x)
    return np.mean([test(log_x, clean + noise(seed, n, sd, rho, heavy)) for seed in range(seeds)])


def rises_by_itself(log_x, log_y):
    return rises(log_y, local_noise(log_x, log_y))


def falls_by_itself(log_x, log_y):
    return falls(log_x, log_y, local_noise(log_x, log_y))


class TestNoise:
    @pytest.mark.parametrize("spacing", ["even", "late"])
    @pytest.mark.parametrize("rho", [0.0, 0.3, 0.6])
    def test_standard_deviation_and_correlation_on_a_falling_curve(self, rho, spacing):
        log_x = positions(spacing, 2000)
        told = [local_noise(log_x, -0.5 * log_x + noise(seed, 2000, 0.05, rho)) for seed in range(10)]
        assert np.mean([t.rho for t in told]) == pytest.approx(rho, abs=0.08)
        assert np.mean([t.sd for t in told]) == pytest.approx(0.05, rel=0.15)

    @pytest.mark.parametrize("rho", [0.0, 0.5])
    @pytest.mark.parametrize("length", [1, 3, 24])
    def test_the_mean_of_neighbours(self, rho, length):
        """Against the standard deviation of simulated means."""
        means = [noise(seed, length, 1.0, rho).mean() for seed in range(4000)]
        known = local_noise(np.arange(3.0), np.zeros(3))
        known = type(known)(sd=1.0, rho=rho, freedom=100.0)
        assert float(known.of_mean(length)) == pytest.approx(float(np.std(means)), rel=0.05)

    def test_a_smooth_curve_has_hardly_any(self):
        log_x = np.log(X)
        assert local_noise(log_x, np.log(0.5 + 3 * X**-0.5)).sd < 2e-3
        assert local_noise(log_x, -0.5 * log_x).sd < 1e-12
        assert local_noise(log_x[:2], log_x[:2]).sd == 0


class TestNonMonotone:
    @pytest.mark.parametrize("rho", [0.0, 0.3, 0.6])
    @pytest.mark.parametrize("n", [8, 20, 60, 200])
    @pytest.mark.parametrize("shape", SHAPES)
    def test_false_alarms(self, shape, n, rho):
        """The stated rate is 1%; of 200 curves at most 6, which chance exceeds once in 200 such tests."""
        assert rate(rises_by_itself, SHAPES[shape], "even", n, rho, False) <= 6 / 200

    @pytest.mark.parametrize("rho", [0.0, 0.3])
    @pytest.mark.parametrize("shape", SHAPES)
    def test_false_alarms_under_heavy_tails_and_late_points(self, shape, rho):
        assert rate(rises_by_itself, SHAPES[shape], "late", 60, rho, True) <= 6 / 200

    @pytest.mark.parametrize(("n", "sd"), [(30, 0.005), (60, 0.01), (200, 0.03)])
    def test_power_on_double_descent(self, n, sd):
        """A rise of 21% between two falls is seen in four of five curves: the usual demand on a test."""

        def shape(log_x):
            return -0.3 * log_x + 0.6 * np.exp(-0.5 * ((log_x - 3.0) / 0.6) ** 2)

        log_x = np.linspace(0, 5.7, 1000)
        clean = shape(log_x)
        assert np.max(clean - np.minimum.accumulate(clean)) == pytest.approx(np.log(1.21), abs=0.03)
        assert rate(rises_by_itself, shape, "even", n, 0.3, False, sd=sd, seeds=60) >= 0.8

    def test_power_on_over_fitting_at_the_end(self):
        def shape(log_x):
            return np.where(log_x < 4.5, -0.3 * log_x, -1.35 + 0.3 * (log_x - 4.5))

        assert rate(rises_by_itself, shape, "late", 100, 0.3, False, sd=0.01, seeds=60) >= 0.9

    def test_a_rise_that_does_not_matter(self):
        """A rise of 0.5% at the end, however sure, is no reason to doubt; one of 15% is."""
        for exponent, told in ((0.002, False), (0.06, True)):
            y = np.where(X < 30, 3 * X**-0.3, 3 * 30**-0.3 * (X / 30) ** exponent)
            assert rises_by_itself(np.log(X), np.log(y)) is told

    def test_one_outlier_is_no_rise(self):
        for index in (0, 20, 59):
            y = 3 * X**-0.3 * np.exp(noise(1, 60, 0.01))
            y[index] *= 3
            assert FitStatus.NON_MONOTONE not in doubts(X, y)

    def test_standard_errors_count(self):
        rise = np.where(X > 20, 0.06, 0.0)
        y = 2.0 * np.exp(rise + noise(0, 60, 0.003))
        assert FitStatus.NON_MONOTONE in doubts(X, y, y_se=np.full(60, 0.006))
        assert FitStatus.NON_MONOTONE not in doubts(X, y, y_se=np.full(60, 0.3))


class TestFasterThanAPowerLaw:
    @pytest.mark.parametrize("rho", [0.0, 0.3, 0.6])
    @pytest.mark.parametrize(("n", "spacing"), [(20, "even"), (60, "even"), (60, "late"), (200, "late")])
    def test_false_alarms_on_a_pure_power_law(self, n, spacing, rho):
        """The stated rate is 1%; of 200 curves at most 6."""
        assert rate(bends_down, SHAPES["power"], spacing, n, rho, False) <= 6 / 200

    @pytest.mark.parametrize("heavy", [False, True])
    def test_hardly_ever_on_a_floor(self, heavy):
        assert rate(bends_down, SHAPES["floor"], "late", 60, 0.3, heavy) <= 3 / 200

    @pytest.mark.parametrize(("n", "sd", "power"), [(40, 0.01, 0.9), (120, 0.03, 0.85)])
    def test_power_where_the_error_falls_exponentially(self, n, sd, power):
        """ln y = -x / 100: the local slope goes from -0.3 to -3 along the last decade."""
        assert rate(bends_down, lambda log_x: -np.exp(log_x) / 100, "even", n, 0.3, False, sd=sd) >= power

    def test_a_floor_that_is_identified_speaks_against_it(self):
        y = np.exp(-X / 100)
        assert FitStatus.FASTER_THAN_POWER_LAW in doubts(X, y)
        assert FitStatus.FASTER_THAN_POWER_LAW in doubts(X, y, floor_interval=(0.0, 0.01))
        assert FitStatus.FASTER_THAN_POWER_LAW not in doubts(X, y, floor_interval=(0.01, 0.02))

    def test_not_from_a_few_points_or_a_short_range(self):
        assert not bends_down(np.log(X[:7]), -X[:7])
        assert not bends_down(np.linspace(0, 1.0, 50), -(np.linspace(0, 1.0, 50) ** 2))


class TestNotDecreasing:
    @pytest.mark.parametrize("n", [4, 8, 60])
    def test_flat_curves_seldom_pass(self, n):
        """A standard error is exceeded once in six by chance."""
        assert rate(falls_by_itself, SHAPES["flat"], "even", n, 0.0, False) <= 0.25

    @pytest.mark.parametrize("n", [4, 8, 60])
    def test_falling_curves_pass(self, n):
        assert rate(falls_by_itself, SHAPES["power"], "even", n, 0.3, True) >= 0.95
        assert rate(falls_by_itself, SHAPES["floor"], "even", n, 0.3, True) >= 0.95

    @pytest.mark.parametrize("y", [np.ones(60), X, 1 + 1e-15 * X, np.ones(60) + 1e-13 / X])
    def test_constant_rising_and_rounded_curves(self, y):
        assert FitStatus.NOT_DECREASING in doubts(X, y)

    def test_the_same_x_throughout(self):
        assert doubts(np.ones(9), np.arange(9.0, 0, -1))[:2] == (
            FitStatus.TOO_FEW_POINTS,
            FitStatus.NOT_DECREASING,
        )


CLEAN = 3 * X**-0.3


def test_a_clean_curve_leaves_no_doubt():
    told = doubts(
        *(X, CLEAN),
        y_se=0.01 * CLEAN,
        random_guess=5.0,
        floor_interval=(0.0, 0.1),
        exponent=0.3,
        exponent_bounds=(0.01, 3.0),
        n_scores=3,
    )
    assert told == ()


@pytest.mark.parametrize(
    ("arguments", "keywords", "status"),
    [
        ((X[:7], CLEAN[:7]), {}, FitStatus.TOO_FEW_POINTS),
        ((np.repeat(X[::10], 10), np.repeat(CLEAN[::10], 10)), {}, FitStatus.TOO_FEW_POINTS),
        ((X, CLEAN), {"random_guess": 0.55}, FitStatus.AT_RANDOM_GUESS),
        ((X[X < 9.9], CLEAN[X < 9.9]), {}, FitStatus.SHORT_RANGE),
        ((X, CLEAN), {"floor_interval": (0.0, 0.5 * CLEAN[-1] + 1e-6)}, FitStatus.FLOOR_NOT_IDENTIFIED),
        ((X, CLEAN), {"floor_interval": (0.1, np.inf)}, FitStatus.FLOOR_NOT_IDENTIFIED),
        ((X, CLEAN), {"exponent": 0.0101, "exponent_bounds": (0.01, 3.0)}, FitStatus.EXPONENT_AT_BOUND),
        ((X, CLEAN), {"exponent": 2.99, "exponent_bounds": (0.01, 3.0)}, FitStatus.EXPONENT_AT_BOUND),
        ((X, CLEAN), {"n_scores": 0}, FitStatus.UNCALIBRATED),
    ],
)
def test_each_doubt_alone(arguments, keywords, status):
    assert status in doubts(*arguments, **keywords)
    assert status not in doubts(X, CLEAN)


@pytest.mark.parametrize(
    ("keywords", "status"),
    [
        ({"random_guess": 0.7}, FitStatus.AT_RANDOM_GUESS),
        ({"floor_interval": (0.3, 0.3 + 0.5 * CLEAN[-1] - 1e-6)}, FitStatus.FLOOR_NOT_IDENTIFIED),
        ({"exponent": 0.011, "exponent_bounds": (0.01, 3.0)}, FitStatus.EXPONENT_AT_BOUND),
        ({"n_scores": 1}, FitStatus.UNCALIBRATED),
    ],
)
def test_just_inside_there_is_no_doubt(keywords, status):
    assert CLEAN[-1] == pytest.approx(0.542, abs=1e-3)
    assert status not in doubts(X, CLEAN, **keywords)


def test_a_decade_exactly_is_not_short():
    x = np.geomspace(3.0, 30.0, 20)
    assert FitStatus.SHORT_RANGE not in doubts(x, 1 / x)
    assert FitStatus.SHORT_RANGE in doubts(x[:-1], 1 / x[:-1])


def test_the_gravest_comes_first():
    """All at once, in the order in which the codes are listed."""
    told = doubts(
        np.array([1.0, 2.0]),
        np.array([1.0, 2.0]),
        random_guess=1.0,
        floor_interval=(0.0, 9.0),
        exponent=3.0,
        exponent_bounds=(0.01, 3.0),
        n_scores=0,
    )
    assert told == (
        FitStatus.TOO_FEW_POINTS,
        FitStatus.NOT_DECREASING,
        FitStatus.AT_RANDOM_GUESS,
        FitStatus.SHORT_RANGE,
        FitStatus.FLOOR_NOT_IDENTIFIED,
        FitStatus.EXPONENT_AT_BOUND,
        FitStatus.UNCALIBRATED,
    )
    order = list(FitStatus)
    assert [order.index(status) for status in told] == sorted(order.index(status) for status in told)


@pytest.mark.parametrize("status", list(FitStatus)[1:])
def test_every_sentence_says_what_is_in_doubt_and_what_would_help(status):
    sentence, *help_ = status.sentence.rstrip(".").split(". ")
    assert help_ and sentence[0].isupper() and status.sentence.endswith(".") and status.value not in sentence


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"y_se": np.ones(3)}, r"`y_se` of shape \(60,\), finite and not negative, got shape \(3,\): leave"),
        ({"y_se": np.full(60, -1.0)}, "`y_se` .* not negative"),
        ({"y_se": np.full(60, np.nan)}, "`y_se` .* finite"),
        ({"random_guess": 0.0}, "`random_guess` to be positive and finite, got 0.0: leave it out"),
        ({"floor_interval": (1.0, 0.5)}, r"0 <= low <= high, got \(1.0, 0.5\): leave it out"),
        ({"exponent": np.nan, "exponent_bounds": (0.01, 3.0)}, "finite exponent .* got nan .*leave them out"),
        ({"exponent": 1.0, "exponent_bounds": (3.0, 0.01)}, r"0 < low < high, got 1.0 and \(3.0, 0.01\)"),
    ],
)
def test_refuses_with_the_remedy(keywords, message):
    with pytest.raises(ValueError, match=message):
        doubts(X, CLEAN, **keywords)


def test_refuses_what_is_no_curve():
    with pytest.raises(ValueError, match="ascending order, got a fall: sort x"):
        doubts(X[::-1], CLEAN)


@settings(max_examples=500, deadline=None)
@given(st.lists(st.tuples(st.floats(5e-324, 1.7e308), st.floats(5e-324, 1.7e308)), min_size=1, max_size=20))
def test_any_curve_is_judged_without_a_warning(points):
    x, y = np.array(sorted(points)).T
    with warnings.catch_warnings(), np.errstate(all="raise", under="ignore"):
        warnings.simplefilter("error")
        told = doubts(x, y, y_se=y[::-1], random_guess=float(y[0]), floor_interval=(0.0, float(y[0])))
    assert len(set(told)) == len(told)
    assert (FitStatus.TOO_FEW_POINTS in told) == (np.unique(x).size < 8)


def read(path, key, x, y, se=None):
    curves = {}
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        for row in csv.DictReader(file):
            if float(row[y]) > 0:
                point = (float(row[x]), float(row[y]), float(row[se]) if se else 0.0)
                curves.setdefault(tuple(row[k] for k in key), []).append(point)
    return {name: np.array(sorted(points)).T for name, points in curves.items()}


def test_double_descent_is_mostly_seen(published_curves):
    """Nakkiran et al. 2019: eight curves, each of which rises somewhere by 6% or more."""
    curves = read(published_curves / "double_descent" / "curves.csv", ("task",), "x", "y")
    seen = [FitStatus.NON_MONOTONE in doubts(x, y) for x, y, _ in curves.values()]
    assert len(seen) == 8 and sum(seen) >= 6


def test_published_curves_that_fall_are_left_in_peace(published_curves):
    """Alabdulmohsin et al. 2022: of 46 curves hardly one is doubted."""
    path = published_curves / "alabdulmohsin2022" / "learning_curves.csv"
    curves = read(path, ("domain", "task", "model"), "seen", "loss")
    told = Counter(status for x, y, _ in curves.values() for status in doubts(x, y))
    assert len(curves) == 46
    assert told[FitStatus.NON_MONOTONE] <= 1
    assert told[FitStatus.NOT_DECREASING] <= 1
    assert told[FitStatus.FASTER_THAN_POWER_LAW] <= 4


@pytest.mark.parametrize(
    ("path", "key", "x", "y", "n_curves"),
    [
        ("multipowerlaw/loss_curves.csv", ("model_M", "schedule"), "step", "loss", 18),
        ("olmo_ladder/val_loss_curves.csv", ("run",), "tokens", "loss_c4_en", 8),
        ("olmo_ladder/val_loss_curves.csv", ("run",), "tokens", "loss_pile", 8),
    ],
)
def test_runs_of_language_models_are_never_called_rising(published_curves, path, key, x, y, n_curves):
    """Losses during training, which fall under every schedule of the learning rate."""
    curves = read(published_curves / path, key, x, y)
    told = [doubts(at[at > 0], loss[at > 0]) for at, loss, _ in curves.values() if at.size >= 8]
    assert len(told) >= n_curves
    assert not any({FitStatus.NON_MONOTONE, FitStatus.NOT_DECREASING} & set(found) for found in told)


def test_the_cost_is_bounded():
    """Twenty thousand points, with a rise that long windows must see."""
    log_x = np.log(np.arange(1.0, 20001.0))
    log_y = -0.3 * log_x + 1.0 * np.exp(-(((log_x - 8.0) / 0.7) ** 2)) + noise(0, 20000, 0.05, 0.3)
    began = time.process_time()
    assert rises_by_itself(log_x, log_y)
    assert time.process_time() - began < 0.5  # about 0.02 s on one slow core


def test_the_share_of_ill_behaved_curves_of_small_learners(published_curves):
    """Yan et al. 2025 (LCDB 1.1) call about 14% ill-behaved: not monotone, or not convex."""
    curves = read(
        published_curves / "lcdb11" / "curves.csv.gz", ("dataset", "learner"), "n_train", "test", "test_se"
    )
    some = [curve for curve in list(curves.values())[::4] if curve[0].size >= 8]
    rising = np.mean([FitStatus.NON_MONOTONE in doubts(x, y, y_se=se) for x, y, se in some])
    assert 0.04 < rising < 0.16
