"""The luck of a test set, how fast errors fall, and what an error is made of."""

import numpy as np
import pytest

from foretrain.error_sources import (
    Verdict,
    error_change,
    error_std,
    judge_speed,
    split_error,
    two_point_exponent,
)


def test_exponents_of_two_points_have_the_luck_of_the_test_set():
    rng = np.random.default_rng(0)
    told = two_point_exponent([7291, 50000], [0.0409, 0.0274], 2007)
    drawn = rng.binomial(2007, [0.0409, 0.0274], (20000, 2)) / 2007
    exponents = np.log(drawn[:, 0] / drawn[:, 1]) / np.log(50000 / 7291)
    assert told.exponent == pytest.approx(0.208, abs=0.001)
    assert told.std == pytest.approx(exponents.std(), rel=0.03)
    low, high = told.interval()
    assert (low, high) == pytest.approx(tuple(np.quantile(exponents, [0.05, 0.95])), abs=0.01)


def test_the_published_exponents_of_1989_and_2022_are_not_told_apart():
    base = two_point_exponent([7291, 50000], [0.0409, 0.0274], 2007)
    modern = two_point_exponent([7291, 50000], [0.0159, 0.0125], 2007)
    assert modern.exponent == pytest.approx(0.125, abs=0.001)
    assert modern.std == pytest.approx(0.138, abs=0.001)
    # z = (.208 - .125) / hypot(.0885, .138) = .508
    assert base.p_same(modern) == modern.p_same(base) == pytest.approx(0.61, abs=0.01)
    assert base.p_same(base) == 1
    sure = two_point_exponent([7291, 50000], [0.0159, 0.0125], 2_007_000)
    assert two_point_exponent([7291, 50000], [0.0409, 0.0274], 2_007_000).p_same(sure) < 1e-6


def test_a_change_of_the_error_has_the_luck_of_test_set_and_seeds():
    rng, trials = np.random.default_rng(1), 2000
    hits = 0
    for _ in range(trials):
        levels = np.array([0.05, 0.03])[:, None] * np.exp(rng.normal(0, 0.15, (2, 6)))
        seeds = rng.binomial(1000, levels.clip(max=1)) / 1000  # each seed on a test set of its own
        told = error_change(seeds[0], seeds[1], 6000)
        hits += told.lower < 0.4 < told.upper
    assert 0.87 < hits / trials < 0.99
    told = error_change([0.05], [0.03], 2007)
    assert told.median == pytest.approx(0.4)
    assert error_change([0.03], [0.05], 2007).upper < 0
    assert error_std(0.0409, 2007) == pytest.approx(0.0044, abs=5e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: error_std(4.09, 2007), "between 0 and 1, as a share of at least one example, got 4.09"),
        (lambda: error_std(0.04, 0), "got 0.04 of 0: divide per cent by 100"),
        (lambda: two_point_exponent([2, 1], [0.1, 0.05], 9), r"more data in the second, got data \[2.0, 1"),
        (lambda: two_point_exponent([1, 2, 3], [0.1] * 3, 9), "Expected two points"),
        (lambda: error_change([0.1], [0.0], 9), "`errors` to hold positive, finite numbers, got 0.0"),
    ],
)
def test_what_is_no_share_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# How fast errors fall

SIZES = np.repeat(64 * 2 ** (np.arange(12) / 2), 2)  # 64 to 2,896, two runs each


def curve(shape, noise=0.08, seed=0):
    return shape(SIZES) * np.exp(np.random.default_rng(seed).normal(0, noise, SIZES.size))


def power_law(m):
    return 3 * m**-0.7


def exponential(m):
    return np.exp(-m / 1500)


def test_a_power_law_is_called_one_with_its_exponent():
    calls, held = [], 0
    for seed in range(300):
        told = judge_speed(SIZES, curve(power_law, seed=seed))
        calls.append(told.verdict)
        held += told.exponent.lower < 0.7 < told.exponent.upper
    assert 0.86 < held / 300 < 0.94
    assert calls.count(Verdict.POWER_LAW) >= 294  # false alarms at 1 %
    assert told.zero_from is None and told.before_zero is None
    assert told.judged == 14  # the last decade


@pytest.mark.parametrize("seed", range(3))
def test_what_falls_faster_or_slower_is_told(seed):
    told = judge_speed(SIZES, curve(exponential, seed=seed))
    assert told.verdict is Verdict.FASTER and told.bend.lower > 0
    floor = judge_speed(SIZES, curve(lambda m: 0.02 + 300 / m**1.5, seed=seed))
    assert floor.verdict is Verdict.SLOWER and floor.bend.upper < 0
    flat = judge_speed(SIZES, curve(lambda m: 1 + m / 1e4, seed=seed))
    assert flat.verdict is Verdict.NOT_FALLING


def test_a_flat_beginning_does_not_make_a_power_law_faster_than_one():
    wide = np.repeat(2.0 ** np.arange(4, 15, 0.5), 2)
    error = np.where(wide < 300, 1.0, (wide / 300) ** -0.6)
    error = error * np.exp(np.random.default_rng(0).normal(0, 0.05, wide.size))
    assert judge_speed(wide, error).verdict is Verdict.POWER_LAW


def test_zero_at_finite_data_is_faster_than_any_power_law():
    m = np.repeat(np.array([8, 16, 24, 32, 40, 48, 49, 64, 128]), 2)
    noise = np.exp(np.random.default_rng(0).normal(0, 0.1, m.size))
    error = np.where(m < 49, 1.05 - m / 50, 1e-14) * noise
    told = judge_speed(m[::-1], error[::-1])
    assert told.verdict is Verdict.FASTER
    assert (told.before_zero, told.zero_from, told.judged) == (48, 49, 12)


def test_a_steep_power_law_that_reaches_zero_is_no_faster_than_itself():
    m = 10.0 ** np.arange(1, 8, 0.5)
    told = judge_speed(m, m**-2.0 * np.exp(np.random.default_rng(0).normal(0, 0.05, m.size)))
    assert told.zero_from == pytest.approx(10**4.5, rel=0.7)
    assert told.verdict is not Verdict.FASTER


def test_few_points_tell_nothing():
    told = judge_speed([10, 20, 40], [3, 2, 1])
    assert told.verdict is Verdict.UNCLEAR and np.isnan(told.exponent.median)
    near = judge_speed([10, 11, 12, 13, 14, 15, 16], [3, 2.8, 2.5, 2.4, 2.2, 2.1, 2.0])
    assert near.verdict is Verdict.UNCLEAR
    assert all(member.sentence.endswith(".") for member in Verdict)


# What an error is made of


def test_the_parts_add_up_and_the_floor_is_what_was_not_explained():
    data = np.repeat(1000.0 * 2 ** np.arange(6), 3)
    noise = np.random.default_rng(0).normal(0, 0.01, data.size)
    error = (0.05 + 20 * data**-0.6) * np.exp(noise)
    told = split_error(data, error, noise=0.02, realizability=0.01, train_error=0.035)
    last = float(np.median(error[data == 32000]))
    assert told.data == 32000 and told.total == last
    assert told.deficiency == pytest.approx(0.005)
    assert told.uncertainty.median == pytest.approx(last - 0.035, rel=0.02)
    assert told.uncertainty.lower < last - 0.035 < told.uncertainty.upper
    assert told.floor.lower < 0.05 < told.floor.upper
    assert told.unexplained.lower < 0.02 < told.unexplained.upper and told.unexplained.lower > 0
    assert told.missing == ()


def test_what_is_not_given_is_named_with_what_would_tell_it():
    data = 1000.0 * 2 ** np.arange(5)
    told = split_error(data, 20 * data**-0.5 * np.array([1.02, 0.99, 1, 1.01, 0.98]))
    assert told.noise is told.realizability is told.deficiency is told.uncertainty is told.unexplained is None
    assert [sentence.split(":")[0] for sentence in told.missing] == [
        *("Noise", "Realizability", "Deficiency", "The floor")
    ]
    few = split_error(data[:3], data[:3] ** -0.5, noise=0, realizability=0, train_error=0)
    assert few.floor is few.uncertainty is None
    assert few.missing == ("The floor and the luck of a run: train on at least four amounts of data.",)


def test_training_that_reaches_zero_leaves_all_to_the_data():
    data = 1000.0 * 2 ** np.arange(5)
    error = 20 * data**-0.5
    told = split_error(data, error, noise=0, realizability=0, train_error=1e-9)
    assert told.deficiency == pytest.approx(1e-9) and told.uncertainty.median == pytest.approx(error[-1])
    worse = split_error(data, error, noise=0, realizability=0, train_error=1.0)
    assert worse.deficiency == error[-1] and worse.uncertainty.median == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise": 0.6}, "`noise` between 0 and the error 0.5 at the most data, got 0.6: it is a part"),
        ({"realizability": -0.1}, "`realizability` between 0 and the error 0.5"),
        ({"train_error": -1}, "`train_error` to be 0 or more, got -1"),
    ],
)
def test_a_part_that_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        split_error([1, 2, 3, 4], [2, 1, 0.7, 0.5], **options)
