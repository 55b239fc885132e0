"""Schedules as data: every rate is reproduced, whatever the rates, and parts are put together again."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretrain.knots import MAX_KNOTS, TOLERANCE, KnotBuilder, cut, splice, thin
from foretrain.schedule import MAX_STEP, Schedule

RATES = st.floats(0.0, 1e6)
N = 20_000


def warmup(step, length):
    return min(1.0, (step + 1) / length)


SHAPES = {
    "constant": lambda i: 3e-4,
    "zero": lambda i: 0.0,
    "linear": lambda i: 1.0 - i / N,
    "cosine": lambda i: 0.5 * (1 + math.cos(math.pi * i / N)),
    "warm-up and cosine": lambda i: 3e-4 * warmup(i, 500) * (0.55 + 0.45 * math.cos(math.pi * i / N)),
    "warm-up, stable, decay": lambda i: warmup(i, 500) * min(1.0, (N - i) / 4000),
    "root": lambda i: warmup(i, 500) * math.sqrt(500 / max(i, 500)),
    "exponential": lambda i: 0.9995**i,
    "steps": lambda i: 0.1 ** (i // 7000),
    "cycles": lambda i: abs(i % 2000 - 1000) / 1000,
    "restarts": lambda i: 0.5 * (1 + math.cos(math.pi * (i % 2500) / 2500)),
    "warm-up from zero": lambda i: min(1.0, i / 1000),
}
KNOTS = {
    "constant": 2,
    "zero": 2,
    "linear": 2,
    "warm-up, stable, decay": 4,
    "steps": 6,
    "warm-up from zero": 3,
}
"""For shapes of lines and jumps: as many as these have ends."""


@pytest.mark.parametrize("name", SHAPES)
def test_every_rate_is_reproduced_in_few_knots(name):
    rates = [SHAPES[name](i) for i in range(N)]
    schedule = Schedule.from_rates(rates)
    assert (schedule.first, schedule.end) == (1, N)
    assert schedule.tolerance == pytest.approx(TOLERANCE * max(rates))
    error = np.abs(schedule.rates() - rates).max()
    assert error <= schedule.tolerance * (1 + 1e-9)
    if name in KNOTS:
        assert len(schedule.steps) == KNOTS[name]
    assert len(schedule.steps) <= 400


@settings(max_examples=300, deadline=None)
@given(rates=st.lists(RATES, min_size=1, max_size=300), max_knots=st.integers(4, 64))
def test_any_rates_are_within_the_tolerance_that_is_told(rates, max_knots):
    builder = KnotBuilder(max_knots=max_knots)
    for step, rate in enumerate(rates, 1):
        builder.add(step, rate)
        assert len(builder._knots) <= max_knots
    assert (builder.step, builder.rate) == (len(rates), rates[-1])
    knots = builder.knots()
    steps, values = zip(*knots, strict=True)
    assert steps[0] == 1 and steps[-1] == len(rates) and len(knots) <= max_knots
    assert min(values) >= 0.0
    told = np.interp(np.arange(1, len(rates) + 1), steps, values)
    assert np.abs(told - rates).max() <= builder.tolerance * (1 + 1e-9) + 1e-300
    if builder.tolerance > TOLERANCE * max(rates) * (1 + 1e-9):
        assert len(rates) >= max_knots, "the tolerance grows only where the knots do not suffice"


@settings(max_examples=100, deadline=None)
@given(
    pieces=st.lists(
        st.tuples(st.integers(1, 2000), RATES, st.booleans()), min_size=1, max_size=12
    )
)  # fmt: skip
def test_lines_and_jumps_cost_two_knots_each(pieces):
    rates, last = [], 1.0
    for length, rate, jump in pieces:
        start = rate if jump else last
        rates += [start * (1 - (i + 1) / length) + rate * ((i + 1) / length) for i in range(length)]
        last = rate
    schedule = Schedule.from_rates(rates)
    assert np.abs(schedule.rates() - rates).max() <= TOLERANCE * max(rates) * (1 + 1e-9)
    # A piece shorter than the others' tolerance may take three.
    assert len(schedule.steps) <= 3 * len(pieces) + 1


def test_memory_is_bounded_whatever_comes():
    rng = np.random.default_rng(0)
    builder = KnotBuilder()
    most = 0
    for step, rate in enumerate(rng.random(50_000).tolist(), 1):
        builder.add(step, rate)
        most = max(most, len(builder._knots))
    assert most <= MAX_KNOTS
    schedule = Schedule.from_knots(builder.knots(), builder.tolerance)
    assert 0.1 < schedule.tolerance < 1.0, "noise cannot be told in so few knots, and this says so"


def test_numpy_agrees_step_by_step():
    rates = 3e-4 * (1 + np.cos(np.linspace(0, np.pi, 1000)))
    schedule = Schedule.from_rates(rates)
    some = np.array([[1, 2], [500, 1000]])
    assert schedule.at(some) == pytest.approx(rates[some - 1], abs=schedule.tolerance)
    assert schedule.rates(10) == pytest.approx(rates[:10], abs=schedule.tolerance)
    assert schedule.rates(10).shape == (10,) and schedule.at(some).shape == (2, 2)
    assert schedule.at(7).shape == ()
    assert schedule.at([]).shape == (0,)


def test_a_schedule_may_begin_later():
    schedule = Schedule.from_rates([1.0, 0.5], first_step=11)
    assert (schedule.first, schedule.end) == (11, 12)
    assert schedule.rates().tolist() == [1.0, 0.5]
    assert schedule.rates(11).tolist() == [1.0]


# What it says of its shape


@pytest.mark.parametrize(
    ("rates", "end", "constant"),
    [
        ([1.0] * 50, 1, True),
        ([0.0] * 5, 1, True),
        ([0.5], 1, True),
        ([i / 10 for i in range(1, 11)] + [1.0] * 90, 10, True),
        ([i / 10 for i in range(1, 11)] + [1 - i / 90 for i in range(1, 91)], 10, False),
        ([1.0] * 50 + [0.1] * 50, 1, False),
        ([i / 100 for i in range(1, 101)], 100, True),
        ([0.5, 1.0, 0.5, 1.0], 2, False),
    ],
)
def test_warmup(rates, end, constant):
    schedule = Schedule.from_rates(rates)
    assert schedule.warmup_end == end
    assert schedule.is_constant_after_warmup is constant
    assert schedule.peak == max(rates)


def test_the_end_of_a_warmup_is_found_within_the_tolerance():
    for length in (100, 1000, 5000):
        rates = [min(1.0, step / length, (N - step) / 4000) for step in range(1, N + 1)]
        found = Schedule.from_rates(rates).warmup_end
        assert abs(found - length) <= 4 * TOLERANCE * length + 1


# Stretching


def stretch(rate_of, warm, total, factor):
    """The same by its definition: step by step, from the function itself."""
    new = round(total * factor)
    scale = (total - warm) / (new - warm)
    return [rate_of(step if step <= warm else warm + (step - warm) * scale) for step in range(1, new + 1)]


@pytest.mark.parametrize("factor", [0.3, 1.0, 1.7, 4.0, 20.0])
def test_stretching_keeps_the_warmup_and_stretches_the_rest(factor):
    def rate_of(step):
        return min(step / 100, 0.55 + 0.45 * math.cos(math.pi * max(step - 100, 0) / 900))

    schedule = Schedule.from_rates([rate_of(step) for step in range(1, 1001)]).stretched(factor)
    expected = stretch(rate_of, 100, 1000, factor)
    assert schedule.end == round(1000 * factor)
    assert schedule.warmup_end == 100
    # The curve between two steps is a line for us: off by an eighth of its bend, besides the tolerance.
    assert schedule.rates() == pytest.approx(expected, abs=2 * schedule.tolerance)


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_stretching_a_jump(factor):
    schedule = Schedule.from_rates([1.0] * 60 + [0.1] * 40)
    rates = schedule.stretched(factor).rates()
    assert rates.size == 100 * factor
    assert (rates > 0.999).mean() == pytest.approx(0.6, abs=0.02)
    assert (rates < 0.101).mean() == pytest.approx(0.4, abs=0.02)


def test_stretching_by_one_changes_nothing():
    schedule = Schedule.from_rates([min(step / 7, 1.0, (50 - step) / 20) for step in range(1, 51)])
    assert schedule.stretched(1.0).rates() == pytest.approx(schedule.rates())


def test_stretching_what_only_rises_stays_at_the_peak():
    schedule = Schedule.from_rates([1.0, 2.0, 3.0])
    assert schedule.stretched(2.0).rates().tolist() == [1.0, 2.0, 3.0, 3.0, 3.0, 3.0]
    assert Schedule.from_rates([2.0]).stretched(3.0).rates().tolist() == [2.0] * 3


@pytest.mark.parametrize("factor", [0.0, -1.0, math.nan, math.inf, 0.09, 0.1])
def test_a_stretch_that_leaves_nothing_is_refused(factor):
    schedule = Schedule.from_rates([min(step / 10, 1.0, 2 - step / 50) for step in range(1, 101)])
    with pytest.raises(
        ValueError, match=r"after the warm-up of 10 steps, got .* 100 steps: pass a larger one"
    ):
        schedule.stretched(factor)


# Putting together


@settings(max_examples=200, deadline=None)
@given(
    rates=st.lists(RATES, min_size=1, max_size=120),
    marks=st.lists(st.integers(1, 120), max_size=8),
    max_knots=st.sampled_from([6, 1000]),
)
def test_parts_given_out_as_it_grows_are_the_whole(rates, marks, max_knots):
    """As the record file does: at some steps what is new is given out, and spliced to what was."""
    builder, kept, since, tolerance = KnotBuilder(max_knots=max_knots), [], 0, 0.0
    for step, rate in enumerate(rates, 1):
        builder.add(step, rate)
        if step in marks or step == len(rates):
            part = json.loads(json.dumps(builder.knots(since)))
            kept = splice(kept, [tuple(knot) for knot in part])
            since = kept[-1][0] if len(part) < 2 else part[-2][0]
            tolerance = max(tolerance, builder.tolerance)
            steps, values = zip(*kept, strict=True)
            assert list(steps) == sorted(set(steps)) and steps[-1] == step
            told = np.interp(np.arange(1, step + 1), steps, values)
            assert np.abs(told - rates[:step]).max() <= tolerance * (1 + 1e-9) + 1e-300


def test_a_part_replaces_what_it_covers():
    old = [(1, 1.0), (100, 1.0)]
    assert splice(old, [(50, 0.5), (60, 0.5)]) == [(1, 1.0), (49, 1.0), (50, 0.5), (60, 0.5)]
    assert splice(old, [(50, 1.0), (200, 1.0)]) == [(1, 1.0), (50, 1.0), (200, 1.0)]
    assert splice(old, [(101, 0.5)]) == [(1, 1.0), (100, 1.0), (101, 0.5)]
    assert splice(old, [(150, 0.5)]) == [(1, 1.0), (100, 1.0), (150, 0.5)]
    assert splice(old, [(1, 2.0)]) == [(1, 2.0)]
    assert splice([], old) == splice(old, []) == old


def test_a_cut_sets_knots_where_it_goes_through_a_line():
    knots = [(1, 0.0), (11, 1.0), (12, 0.5)]
    assert cut(knots, last=6) == [(1, 0.0), (6, 0.5)]
    assert cut(knots, first=6) == [(6, 0.5), (11, 1.0), (12, 0.5)]
    assert cut(knots, first=3, last=4) == [(3, pytest.approx(0.2)), (4, pytest.approx(0.3))]
    assert cut(knots, first=11, last=11) == [(11, 1.0)]
    assert cut(knots, last=0) == cut(knots, first=13) == []
    assert cut(knots, first=1, last=99) == knots


@settings(max_examples=100, deadline=None)
@given(a=st.lists(RATES, min_size=1, max_size=60), b=st.lists(RATES, min_size=1, max_size=60))
def test_appended_rates_follow(a, b):
    schedule = Schedule.from_rates(a).append(b)
    assert schedule.rates() == pytest.approx([*a, *b], abs=schedule.tolerance * (1 + 1e-9) + 1e-300)
    assert schedule.tolerance <= TOLERANCE * max(*a, *b) * (1 + 1e-9)
    assert schedule.append([]) == schedule


def test_a_plan_goes_on_where_the_used_rates_end():
    used, plan = Schedule.from_rates([1.0] * 10), Schedule.from_rates([2.0] * 20)
    assert used.joined(plan).rates().tolist() == [1.0] * 10 + [2.0] * 10
    assert plan.joined(used) is plan
    later = Schedule.from_rates([3.0, 3.0], first_step=11)
    assert used.joined(later).rates().tolist() == [1.0] * 10 + [3.0] * 2


def test_many_knots_are_thinned_and_said():
    rates = np.random.default_rng(1).random(4 * MAX_KNOTS)
    knots = [(step, float(rate)) for step, rate in enumerate(rates, 1)]
    schedule = Schedule.from_knots(knots)
    assert len(schedule.steps) <= MAX_KNOTS
    assert 0 < np.abs(schedule.rates() - rates).max() <= schedule.tolerance


@settings(max_examples=100, deadline=None)
@given(rates=st.lists(st.floats(0.0, 1e300), min_size=1, max_size=50), most=st.integers(2, 10))
def test_thinning_ends_at_any_scale(rates, most):
    knots, tolerance = thin(list(enumerate(rates, 1)), 0.0, most)
    assert len(knots) <= max(most, 1) and math.isfinite(tolerance)


# JSON, and what is refused


@settings(max_examples=100, deadline=None)
@given(rates=st.lists(RATES, min_size=1, max_size=60), first=st.integers(1, 10**9))
def test_json_round_trip(rates, first):
    schedule = Schedule.from_rates(rates, first)
    assert Schedule.from_json(json.loads(json.dumps(schedule.to_json()))) == schedule
    assert Schedule.from_json({**schedule.to_json(), "later": 1}) == schedule


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (None, "Expected knots"),
        ({}, "Expected knots"),
        ({"knots": "abc"}, "Expected knots"),
        ({"knots": [[1]]}, "Expected knots"),
        ({"knots": [[1.5, 1.0]]}, "Expected knots"),
        ({"knots": [[True, 1.0]]}, "Expected knots"),
        ({"knots": [[1, "x"]]}, "Expected knots"),
        ({"knots": [[1, None]]}, "Expected knots"),
        ({"knots": [[1, 10**400]]}, "Expected knots"),
        ({"knots": []}, "at least one step"),
        ({"knots": [[0, 1.0]]}, "steps that rise from 1 on, got 0"),
        ({"knots": [[2, 1.0], [2, 1.0]]}, "steps that rise from 1 on, got 2, 2"),
        ({"knots": [[1, 1.0], [10**30, 1.0]]}, "steps that rise"),
        ({"knots": [[1, -1.0]]}, "finite and not negative, got -1.0"),
        ({"knots": [[1, 1.0]], "tolerance": "x"}, "a number as tolerance, got 'x'"),
        ({"knots": [[1, 1.0]], "tolerance": -1}, "tolerance that is finite and not negative, got -1"),
    ],
)
def test_nonsense_is_refused(record, words):
    with pytest.raises(ValueError, match=words):
        Schedule.from_json(record)


@pytest.mark.parametrize("rate", [-1e-9, math.nan, math.inf, -math.inf])
def test_what_is_no_rate_is_refused(rate):
    with pytest.raises(
        ValueError, match=r"Expected a learning rate that is finite and not negative, got .* at step 3"
    ):
        Schedule.from_rates([1.0, 0.5, rate])
    with pytest.raises(ValueError, match=r"finite and not negative, got .* at step 1: leave out"):
        Schedule.from_rates([rate])
    with pytest.raises(ValueError, match="finite and not negative, got"):
        Schedule((1,), (rate,))


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="Expected a rate for each of at least one step, got 0 rates"):
        Schedule.from_rates([])
    with pytest.raises(ValueError, match=r"Expected learning rates of shape \(n,\), got shape \(1, 2\)"):
        Schedule.from_rates([[1.0, 2.0]])
    with pytest.raises(ValueError, match="got 2 rates and 1 steps"):
        Schedule((1,), (1.0, 1.0))
    with pytest.raises(ValueError, match="steps that rise"):
        Schedule((MAX_STEP + 1,), (1.0,))
    schedule = Schedule.from_rates([1.0, 2.0])
    for wrong in (0, 3):
        with pytest.raises(ValueError, match=f"`until` to be a step from 1 to 2, got {wrong}"):
            schedule.rates(wrong)
    for wrong in ([0.5], [2.5], [math.nan]):
        with pytest.raises(ValueError, match="Expected steps from 1 to 2, got"):
            schedule.at(wrong)


def test_steps_that_come_again_or_are_left_out():
    builder = KnotBuilder()
    assert (builder.step, builder.rate, builder.knots()) == (0, None, [])
    for step, rate in [(1, 1.0), (1, 5.0), (5, 1.0), (4, 9.0), (11, 0.4)]:
        builder.add(step, rate)
    schedule = Schedule.from_knots(builder.knots(), builder.tolerance)
    assert schedule.rates() == pytest.approx([1.0] * 5 + [0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
