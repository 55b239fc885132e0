"""Whatever comes in: a `ValueError` that says what to do, or finite, ordered, nested numbers and a status."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import foretrain
from fault_ledger import effort, record
from foretrain.fitting import Fit, fit
from foretrain.status import FitStatus

LARGEST, SMALLEST = math.log(1.7976931348623157e308), math.log(5e-324)
REMEDY = r"(?s)Expected .+got .+|.+: (wait|leave|sort|give|choose|use) "
POSITIVE = st.floats(1e-300, 1e300)
USUAL = st.floats(1e-3, 1e6)
EDGE = st.sampled_from([5e-324, 1e-310, 1e-300, 1e-12, 1.0, 1.0 + 2**-52, 1e12, 1e300, 1.797e308])
NO_NUMBER = st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0, -1.0, -1e-300, -5e-324])
ANY = st.one_of(POSITIVE, USUAL, EDGE, NO_NUMBER, st.floats())
VALID = st.one_of(POSITIVE, USUAL, EDGE)


tried = []


@pytest.fixture(scope="module", autouse=True)
def told_in_the_end():
    yield
    record(11, "arrays of anything, for every fit and forecast", len(tried), effort(1, 10_000))


def examples(quick, full):
    return settings(
        max_examples=effort(quick, full),
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )


def strictly(function, *arguments, **keywords):
    """The function's answer, with every warning and every floating-point event an error.

    A number too small for a float becomes zero, which is right, and what numpy does unasked.
    """
    with warnings.catch_warnings(), np.errstate(all="raise"):
        warnings.simplefilter("error")
        return function(*arguments, **keywords)


def is_valid(*columns):
    return all(len(column) > 0 for column in columns) and all(
        math.isfinite(value) and value > 0 for column in columns for value in column
    )


def check_numbers(told, told_at_one, unit, y):
    """Ordered and nested, and infinite or zero only where the true number leaves the floats.

    The true number's logarithm is told by the forecast of the same curve divided by `unit`, a power of two
    near its errors: there it is far from the ends of the floats. The two agree but for rounding, which can
    move a number by the whole spread of the errors where that spread is absurd (more than 1e20).
    """
    spread = float(np.ptp(np.log(y)))
    margin = spread if spread > math.log(1e20) else 1e-3
    inner_lower = inner_upper = told.median
    for level in sorted(told.lower):
        lower, upper = told.lower[level], told.upper[level]
        assert (lower <= inner_lower).all() and (inner_upper <= upper).all()  # false for nan, too
        inner_lower, inner_upper = lower, upper
    pairs = [(told.median, told_at_one.median)]
    pairs += [(told.lower[level], told_at_one.lower[level]) for level in told.lower]
    pairs += [(told.upper[level], told_at_one.upper[level]) for level in told.upper]
    for here, at_one in pairs:
        with np.errstate(divide="ignore"):
            log = np.log(at_one) + math.log(unit)
        assert (np.isfinite(here) | (log > LARGEST - margin)).all()
        assert ((here > 0) | (log < SMALLEST + margin)).all()
    low, high = (told_at_one.lower, told_at_one.upper)
    finite = (low[0.9] > 0) & np.isfinite(high[0.9])
    ratio = [np.log(high[level][finite]) - np.log(low[level][finite]) for level in (0.5, 0.9)]
    assert ((ratio[1] > ratio[0]) | (ratio[1] < 1e-9)).all()
    assert isinstance(told.status, FitStatus)
    assert told.status is (told.reasons[0] if told.reasons else FitStatus.OK)
    assert len(set(told.reasons)) == len(told.reasons)


def unit_of(y):
    """A power of two near the errors, by which dividing is exact."""
    return 2.0 ** round(float(np.clip(np.mean(np.log2(y)), -1000, 1000)))


def check_forecast(x, y, at):
    tried.append("forecast")
    x, y, at = list(x), list(y), list(at)
    if not is_valid(x, y, at):
        with pytest.raises(ValueError, match=REMEDY):
            strictly(foretrain.forecast, x, y, at)
        return None
    told = strictly(foretrain.forecast, x, y, at)
    unit = unit_of(y)
    scaled = [value / unit for value in y]
    if all(0 < value < math.inf and value * unit == v for value, v in zip(scaled, y, strict=True)):
        check_numbers(told, strictly(foretrain.forecast, x, scaled, at) if unit != 1 else told, unit, y)
    if len(set(x)) < 4:
        assert FitStatus.TOO_FEW_POINTS in told.reasons
    return told


POINTS = st.lists(st.tuples(ANY, ANY), max_size=6)


@examples(1000, 6000)
@given(POINTS, st.lists(ANY, min_size=0, max_size=2))
def test_forecast_of_anything(points, at):
    check_forecast([x for x, _ in points], [y for _, y in points], at)


@examples(300, 1500)
@given(st.lists(st.tuples(VALID, VALID), min_size=1, max_size=10), st.lists(VALID, min_size=1, max_size=3))
def test_forecast_of_any_positive_points(points, at):
    check_forecast([x for x, _ in points], [y for _, y in points], at)


@st.composite
def curves(draw):
    """Spoilt curves: constant, rising, doubled, shuffled, noisy, of tiny or huge spread."""
    n = draw(st.integers(2, 12))
    first, span = draw(st.floats(-600, 600)), draw(st.sampled_from([0.0, 1e-15, 1e-9, 1e-3, 0.1, 2.0, 90.0]))
    log_x = np.clip(first + span * np.linspace(0, 1, n), -690, 690)
    slope, level = draw(st.sampled_from([0.0, -1e-12, -0.3, -3.0, 0.3, 7.0])), draw(st.floats(-600, 600))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    noise = draw(st.sampled_from([0.0, 1e-15, 1e-3, 0.3, 30.0]))
    log_y = np.clip(level + slope * (log_x - log_x[0]) + noise * rng.normal(size=n), -690, 690)
    order = rng.permutation(n) if draw(st.booleans()) else np.arange(n)
    repeats = draw(st.integers(1, 3))
    x, y = np.tile(np.exp(log_x[order]), repeats), np.tile(np.exp(log_y[order]), repeats)
    far = draw(st.sampled_from([-1300.0, -3.0, 0.0, 1e-9, 2.0, 30.0, 1300.0]))
    return x, y, np.exp(np.clip(log_x[-1] + np.array([far, far / 2]), -690, 690))


@examples(300, 1500)
@given(curves())
def test_forecast_of_spoilt_curves(curve):
    check_forecast(*curve)


@pytest.mark.parametrize("n", [4, 5, 8, 12, 40])
@pytest.mark.parametrize("slope", [0.0, 0.05, 1.0])
def test_a_curve_that_does_not_fall_is_called_so(n, slope):
    x = np.geomspace(1.0, 1e4, n)
    told = check_forecast(x, 0.7 * x**slope, [1e6])
    assert FitStatus.NOT_DECREASING in told.reasons


def check_fit(law, x, y, n_parameters):
    tried.append("fit")
    if not is_valid(x, y) or len(y) < n_parameters:
        with pytest.raises(ValueError, match=REMEDY):
            strictly(fit, law, x, y)
        return
    found = strictly(fit, law, x, y)
    assert isinstance(found, Fit)
    assert np.isfinite(found.unit_theta).all() and (found.unit_theta >= 0).all()
    assert math.isfinite(found.objective) and found.objective >= 0
    assert math.isfinite(found.scale) and found.scale >= 0
    assert not np.isnan(found.theta).any()
    assert not np.isnan(strictly(found.predict, np.array(x))).any()
    assert found.status is (found.reasons[0] if found.reasons else FitStatus.OK)
    if len(y) < n_parameters + 2:
        assert FitStatus.TOO_FEW_POINTS in found.reasons


@examples(200, 900)
@given(st.sampled_from([("power", 2), ("power_floor", 3), ("shifted_power_floor", 4)]), POINTS)
def test_fit_of_anything(law, points):
    check_fit(law[0], [x for x, _ in points], [y for _, y in points], law[1])


@examples(60, 200)
@given(st.sampled_from([("power", 2), ("power_floor", 3), ("shifted_power_floor", 4)]), curves())
def test_fit_of_spoilt_curves(law, curve):
    check_fit(law[0], list(curve[0]), list(curve[1]), law[1])


RUNS = st.lists(st.tuples(VALID, VALID, VALID), min_size=1, max_size=7)
ANY_RUNS = st.lists(st.tuples(ANY, ANY, ANY), max_size=4)


@examples(60, 300)
@given(st.one_of(RUNS, ANY_RUNS), ANY, ANY)
def test_joint_forecast_of_anything(points, at_params, at_data):
    tried.append("joint forecast")
    n, d, y = ([point[i] for point in points] for i in range(3))
    if not is_valid(n, d, y, [at_params], [at_data]):
        with pytest.raises(ValueError, match=REMEDY):
            strictly(foretrain.forecast_joint, n, d, y, at_params, at_data)
        return
    told = strictly(foretrain.forecast_joint, n, d, y, at_params, at_data)
    unit = unit_of(y)
    scaled = [value / unit for value in y]
    if all(0 < value < math.inf and value * unit == v for value, v in zip(scaled, y, strict=True)):
        at_one = strictly(foretrain.forecast_joint, n, d, scaled, at_params, at_data)
        check_numbers(told, at_one if unit != 1 else told, unit, y)
    if len(set(n)) < 3:
        assert FitStatus.TOO_FEW_SIZES in told.reasons


@pytest.mark.parametrize(
    "value",
    [None, "a", ["a", 1], [[1, 2], [3]], [1, None], {"a": 1}, object(), [1 + 2j, 3], [[1.0, 2.0]], 3.0, b"x"],
    ids=lambda value: repr(value) if type(value) is not object else "object",  # without its address
)
def test_what_is_no_row_of_numbers_is_refused(value):
    good = [1.0, 2.0]
    for x, y in ((value, good), (good, value)):
        with pytest.raises(ValueError, match=REMEDY):
            strictly(foretrain.forecast, x, y, [3.0])
    for columns in ((value, good, good), (good, value, good), (good, good, value)):
        with pytest.raises(ValueError, match=REMEDY):
            strictly(foretrain.forecast_joint, *columns, 3.0, 3.0)


def test_the_sentence_names_what_came_and_what_to_do():
    x = [1.0, 2.0, 3.0, 4.0, 5.0]
    with pytest.raises(ValueError, match=r"`y` to hold positive, finite numbers, got -3\.0 .*leave those"):
        foretrain.forecast(x, [1.0, 2.0, -3.0, 1.0, 1.0], [9.0])
    with pytest.raises(ValueError, match=r"power_floor.* 3 parameters.* wait for at least 4"):
        fit("power_floor", np.array([1.0, 2.0]), np.array([2.0, 1.0]))
