"""`forecast_run`: what it says, what it doubts, and what it refuses."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import foretrain
from foretrain.status import FitStatus
from test_annealing import cosine
from test_run_model import THETA, curve

LR = cosine(20_000, 200)
STEPS = np.append(np.arange(450, 20_001, 450), 20_000)


def measured(theta=THETA, *, noise=2e-3, seed=0, lr=LR, steps=STEPS):
    made = curve(lr, steps, theta, noise=noise, seed=seed)
    assert made.log_y.size == steps.size  # no cells: every point is there
    return np.exp(made.log_y)


def test_a_run_half_done_ends_inside_its_band_and_below_its_power_law_in_steps():
    y = measured(noise=0.0)
    half = STEPS <= 10_000
    told = foretrain.forecast_run(STEPS[half], y[half], LR, [20_000])
    assert told.lower[0.9][0] < y[-1] < told.upper[0.9][0]
    blind = foretrain.forecast(STEPS[half], y[half], [20_000])
    assert abs(np.log(told.median[0] / y[-1])) < abs(np.log(blind.median[0] / y[-1]))


def test_earlier_runs_narrow_the_band_and_say_so():
    y, young = measured(seed=5), STEPS <= 4000
    library = [{"step": STEPS, "y": measured(seed=s), "lr": LR, "n_params": 1e6} for s in range(3)]
    alone = foretrain.forecast_run(STEPS[young], y[young], LR, [20_000])
    among = foretrain.forecast_run(STEPS[young], y[young], LR, [20_000], library)
    width = [np.log(told.upper[0.9] / told.lower[0.9])[0] for told in (alone, among)]
    assert width[1] < 0.4 * width[0]
    assert among.lower[0.9][0] < y[-1] < among.upper[0.9][0]
    assert FitStatus.ANNEALING_ASSUMED in alone.reasons and FitStatus.UNCALIBRATED in alone.reasons
    assert FitStatus.ANNEALING_BORROWED in among.reasons and FitStatus.UNCALIBRATED not in among.reasons


def test_earlier_runs_of_another_size_tell_less():
    y, young = measured(seed=5), STEPS <= 4000
    library = [{"step": STEPS, "y": measured(seed=s), "lr": LR, "n_params": 1e6} for s in range(3)]
    widths = []
    for n_params in (None, 1e6, 1e8):
        told = foretrain.forecast_run(STEPS[young], y[young], LR, [20_000], library, n_params=n_params)
        widths.append(float(np.log(told.upper[0.9] / told.lower[0.9])[0]))
    assert widths[0] == widths[1] < 0.8 * widths[2]


def test_what_the_run_itself_has_shown_is_not_borrowed():
    y, late = measured(), STEPS <= 19_000
    told = foretrain.forecast_run(STEPS[late], y[late], LR, [20_000])
    assert FitStatus.ANNEALING_ASSUMED not in told.reasons


def test_a_constant_rate_is_not_annealed():
    lr = np.full(20_000, 1e-3)
    half = STEPS <= 10_000
    told = foretrain.forecast_run(STEPS[half], measured(lr=lr)[half], lr, [20_000])
    assert FitStatus.NOT_ANNEALED in told.reasons and FitStatus.ANNEALING_ASSUMED not in told.reasons


def test_a_curve_that_rises_gets_its_last_value():
    y = 3.0 + 0.02 * np.arange(20)
    told = foretrain.forecast_run(400 * np.arange(1, 21), y, LR, [20_000])
    assert told.status is FitStatus.NOT_DECREASING
    assert told.median[0] == pytest.approx(np.sqrt(y[-1] * y[-2]), rel=1e-6)


def test_levels_and_shape_are_those_asked_for():
    at = np.array([[9000, 12_000, 15_000], [16_000, 18_000, 20_000]])
    told = foretrain.forecast_run(STEPS[:20], measured()[:20], LR, at, levels=(0.5, 0.99))
    assert told.median.shape == at.shape and set(told.lower) == {0.5, 0.99}
    assert (told.lower[0.99] < told.lower[0.5]).all() and (told.upper[0.5] < told.upper[0.99]).all()
    order = np.random.default_rng(0).permutation(20)
    shuffled = foretrain.forecast_run(STEPS[:20][order], measured()[:20][order], LR, at)
    assert shuffled.median == pytest.approx(told.median, rel=1e-12)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"lr": []}, r"`lr` to hold the rate of every step.*got shape \(0,\)"),
        ({"lr": "high"}, r"`lr` to be an array of numbers, got 'high'"),
        ({"lr": [0.0, 0.0]}, r"none negative and one positive, got 0.0 at step 1"),
        ({"lr": [1e-3, -1e-3]}, r"none negative and one positive, got -0.001 at step 2"),
        ({"lr": [1e-3, np.nan]}, r"finite rates.*got nan at step 2"),
        ({"step": [100, 30_000]}, r"`step` to hold whole numbers of steps from 1 to 20000.*got 30000"),
        ({"step": [100, 200.5]}, r"`step` to hold whole numbers.*got 200.5"),
        ({"step": [0, 200]}, r"`step` to hold positive, finite numbers, got 0"),
        ({"step": [100]}, r"arrays of the same length, got `step` of shape \(1,\), `y` of shape \(2,\)"),
        ({"y": [3.0, 0.0]}, r"`y` to hold positive, finite numbers, got 0"),
        ({"at": [20_001]}, r"`at` to hold whole numbers of steps from 1 to 20000.*got 20001"),
        ({"levels": [90]}, r"`levels` to be numbers between 0 and 1"),
        ({"library": [{"step": [1], "y": [2.0]}]}, r"`library\[0\]` to be a mapping.*without lr"),
        ({"library": [{"step": [9], "y": [2.0], "lr": [1.0]}]}, r"`library\[0\]\.step`.*from 1 to 1.*got 9"),
        ({"n_params": 0}, r"`n_params` to hold positive, finite numbers, got 0"),
    ],
)
def test_bad_input_says_what_was_expected(changed, message):
    given_ = {"step": [1000, 2000], "y": [4.0, 3.5], "lr": LR, "at": [20_000], **changed}
    with pytest.raises(ValueError, match=message):
        foretrain.forecast_run(**given_)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_numbers_give_an_ordered_band_without_a_warning(data):
    length = data.draw(st.integers(1, 60))
    rate = st.one_of(st.just(0.0), st.floats(1e-12, 1e3), st.sampled_from([1e-3, 1.0]))
    lr = data.draw(st.lists(rate, min_size=length, max_size=length).filter(any))
    count = data.draw(st.integers(1, 12))
    value = st.one_of(st.floats(1e-300, 1e300), st.floats(2.0, 4.0))

    def points():
        steps = data.draw(st.lists(st.integers(1, length), min_size=count, max_size=count))
        return {"step": steps, "y": data.draw(st.lists(value, min_size=count, max_size=count)), "lr": lr}

    run, library = points(), [points() for _ in range(data.draw(st.integers(0, 2)))]
    with warnings.catch_warnings(), np.errstate(divide="raise", over="raise", invalid="raise"):
        warnings.simplefilter("error")
        told = foretrain.forecast_run(**run, at=[length], library=library)
    assert (
        told.lower[0.9][0] <= told.lower[0.5][0] <= told.median[0] <= told.upper[0.5][0] <= told.upper[0.9][0]
    )
    assert isinstance(told.status, FitStatus)


@pytest.mark.parametrize("factors", [[100.0] * 4, [1e6] * 4, [1e-200, 1e200, 1e-3, 1e300]])
def test_earlier_runs_of_another_order_of_magnitude_tell_nothing(factors):
    step = np.arange(50, 2001, 50)
    lr = np.linspace(1e-3, 0.0, 2000)
    y = 2.0 + 8.0 * step**-0.35
    library = [{"step": step, "y": np.clip(f * y, 1e-305, 1e305), "lr": lr} for f in factors]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        alone = foretrain.forecast_run(step[:20], y[:20], lr, [2000])
        got = foretrain.forecast_run(step[:20], y[:20], lr, [2000], library)
    assert got.median == alone.median
    assert got.lower[0.9] == alone.lower[0.9]
    # One that is as it should be counts, however many others there are.
    good = {"step": step, "y": 1.01 * y, "lr": lr}
    one = foretrain.forecast_run(step[:20], y[:20], lr, [2000], [good])
    assert foretrain.forecast_run(step[:20], y[:20], lr, [2000], [*library, good]).median == one.median


def test_earlier_runs_with_no_training_in_common_are_kept():
    step, lr = np.arange(50, 2001, 50), np.full(2000, 1e-3)
    y = 2.0 + 800.0 * step**-1.0
    late = {"step": step[10:], "y": y[10:], "lr": lr}
    alone = foretrain.forecast_run(step[:8], 20.0 * y[:8], lr, [2000])
    assert foretrain.forecast_run(step[:8], 20.0 * y[:8], lr, [2000], [late]).median != alone.median


def test_curves_too_far_apart_for_a_number_have_no_common_one():
    from foretrain.runs.curve import RunCurve
    from foretrain.runs.templates import make_template

    step, lr = np.arange(50, 2001, 50), np.linspace(1e-3, 0.0, 2000)
    y = 2.0 + 8.0 * step**-0.35
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = make_template([RunCurve.of(step, y * f, lr) for f in (1e-200, 1.0, 1e200)])
    assert np.isfinite(found.log_shape).all()
