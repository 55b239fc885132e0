"""What a finite test set tells: standard errors, two-point exponents, changes."""

import numpy as np
import pytest

from foretrain.error_sources import error_change, error_std, two_point_exponent


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
