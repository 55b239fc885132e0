"""The three regions of a learning curve, against curves whose regions are known by construction."""

import csv
import time
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretrain.regions import label_regions, local_slopes

X = np.geomspace(1.0, 1e6, 90)


def bent(x, guess=0.9, corner=100.0, alpha=0.5):
    """A plateau that bends into a power law; its local slope is -alpha (x / corner) / (1 + x / corner)."""
    return guess * (1 + x / corner) ** -alpha


def noisy(y, seed, sd=0.01):
    return y * np.exp(sd * np.random.default_rng(seed).normal(size=y.size))


@pytest.mark.parametrize("spacing", ["even", "ragged"])
@pytest.mark.parametrize("seed", range(5))
def test_the_power_law_begins_where_the_error_leaves_the_guess(spacing, seed):
    x = X if spacing == "even" else np.sort(np.exp(np.random.default_rng(seed).uniform(0, 13.8, 90)))
    truth = 100.0 * (0.9 ** (-1 / 0.5) - 1)  # where 0.9 (1 + x / 100)^-.5 is 0.9 * 0.9
    found = label_regions(x, noisy(bent(x), seed), random_guess=0.9)
    assert truth / 2 < found.power_law_start < truth * 2
    assert found.irreducible_start is None


@pytest.mark.parametrize("seed", range(10))
def test_without_the_level_of_guessing_the_plateau_is_told_from_the_slope(seed):
    truth = 100.0 / 3  # where the local slope is a quarter of the steepest
    found = label_regions(X, noisy(bent(X), seed, sd=0.02))
    assert truth / 2.5 < found.power_law_start < truth * 2.5


@pytest.mark.parametrize("sd", [0.0, 0.01, 0.05])
def test_a_power_law_with_or_without_a_floor_has_no_plateau_on_the_left(sd):
    for seed in range(25):
        for y in (5 * X**-0.3, 0.5 + 5 * X**-0.5, np.full_like(X, 2.0)):
            assert label_regions(X, noisy(y, seed, sd)).power_law_start is None


@pytest.mark.parametrize("seed", range(5))
def test_the_irreducible_region_begins_near_the_floor(seed):
    y = noisy(0.2 + 0.8 * X**-0.5, seed)
    truth = (0.8 / (0.2 * (1.5 - 1))) ** 2  # where 0.2 + 0.8 x^-.5 is 0.3
    found = label_regions(X, y, floor=(0.18, 0.22))
    assert truth / 2 < found.irreducible_start < truth * 2
    assert found.labels[-1] == 3 and found.labels[0] == 2


@pytest.mark.parametrize("floor", [None, (0.0, 0.4), (0.0, float("inf"))])
def test_without_an_identified_floor_there_is_no_irreducible_region(floor):
    found = label_regions(X, 0.2 + 0.8 * X**-0.5, floor=floor)
    assert (found.labels == 2).all() and found.irreducible_start is None


def test_all_three_regions_with_their_indices():
    y = 0.05 + 0.85 * (1 + X / 100) ** -0.7
    found = label_regions(X, y, random_guess=0.9, floor=(0.045, 0.055))
    assert found.starts == (0, found.ends[0], found.ends[1]) and found.ends[2] == X.size
    np.testing.assert_array_equal(found.labels, np.repeat([1, 2, 3], np.subtract(found.ends, found.starts)))
    assert (np.bincount(found.labels, minlength=4)[1:] > 5).all()
    for index, boundary in ((1, found.power_law_start), (2, found.irreducible_start)):
        assert X[found.starts[index] - 1] < boundary < X[found.starts[index]]


def test_all_points_at_the_guess_are_small_data():
    assert (label_regions(X, np.full_like(X, 0.9), random_guess=0.9).labels == 1).all()
    assert (label_regions(np.ones(4), np.full(4, 0.9), random_guess=0.9).labels == 1).all()
    assert label_regions(X, np.full_like(X, 0.9), random_guess=0.9).power_law_start is None


def test_an_outlier_moves_no_boundary_far():
    y = bent(X)
    y[10], y[60] = 0.3, 5.0
    clean, spoilt = (label_regions(X, v, random_guess=0.9).power_law_start for v in (bent(X), y))
    assert clean / 2 < spoilt < clean * 2


@pytest.mark.parametrize("n", [60, 400, 3000])
def test_local_slopes_and_their_errors(n):
    """The slope of a power law lies within three standard errors nearly everywhere, and not idly so."""
    x = np.log(np.geomspace(1, 1e4, n))
    away = []
    for seed in range(40):
        smooth = local_slopes(x, -0.3 * x + np.random.default_rng(seed).normal(0, 0.05, n))
        away.append(np.abs(smooth.slope + 0.3) / smooth.error)
    away = np.concatenate(away)
    assert np.mean(away > 3) < 0.05
    assert np.median(away) > 0.2  # the error is no wild overstatement: 0.67 if it were exact


def test_units_do_not_matter():
    y = noisy(bent(X), 0)
    one, other = label_regions(X, y), label_regions(X * 1e250, y * 1e-200)
    np.testing.assert_array_equal(one.labels, other.labels)
    assert other.power_law_start == pytest.approx(one.power_law_start * 1e250, rel=1e-9)


def test_a_hundred_points_take_about_a_millisecond():
    y = noisy(bent(X), 0)
    took = []
    for _ in range(30):
        began = time.perf_counter()
        label_regions(X, y, floor=(0.01, 0.02))
        took.append(time.perf_counter() - began)
    assert min(took) < 3e-3  # about 0.4 ms on one slow core; three times the aim, for busy machines


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.floats(1e-300, 1e300), st.floats(1e-300, 1e300)), min_size=1, max_size=15),
    st.one_of(st.none(), st.floats(1e-300, 1e300)),
    st.one_of(st.none(), st.tuples(st.floats(0, 1e300), st.floats(0, 1e300)).map(sorted)),
)
def test_any_curve_gets_labels_that_never_fall(points, guess, floor):
    x, y = np.array(sorted(points)).T
    with warnings.catch_warnings(), np.errstate(all="raise", under="ignore"):
        warnings.simplefilter("error")
        found = label_regions(x, y, random_guess=guess, floor=floor)
    assert (np.diff(found.labels) >= 0).all() and set(found.labels) <= {1, 2, 3}
    for region, start, end in zip((1, 2, 3), found.starts, found.ends, strict=True):
        assert (found.labels[start:end] == region).all() and end - start == (found.labels == region).sum()
    if floor is None or floor[0] == 0:
        assert 3 not in found.labels


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0, 2.0], [1.0]), r"one shape \(n,\) .*got \(2,\) and \(1,\)"),
        (([], []), r"at least one point, got \(0,\)"),
        (([2.0, 1.0], [1.0, 1.0]), "ascending order, got a fall: sort x"),
        (([1.0, 2.0], [1.0, np.nan]), "positive, finite y, got nan: leave those points out"),
        (([0.0, 2.0], [1.0, 1.0]), "positive, finite x, got 0.0: leave those points out"),
    ],
)
def test_refuses_what_is_no_curve(arguments, message):
    with pytest.raises(ValueError, match=message):
        label_regions(*map(np.array, arguments))


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ({"random_guess": -1.0}, "`random_guess` to be positive and finite, got -1.0: leave it out"),
        ({"random_guess": np.inf}, "`random_guess` to be positive and finite, got inf: leave it out"),
        ({"floor": (2.0, 1.0)}, r"0 <= low <= high, got \(2.0, 1.0\): leave it out"),
        ({"floor": (np.nan, 1.0)}, r"got \(nan, 1.0\): leave it out"),
    ],
)
def test_refuses_levels_that_are_none(levels, message):
    with pytest.raises(ValueError, match=message):
        label_regions(X, 1 / X, **levels)


def test_image_classifiers_begin_at_random_guess(published_curves):
    """Birds have 200 and more classes: few-shot error starts near 1, and each curve soon leaves it."""
    curves = {}
    with (published_curves / "alabdulmohsin2022" / "learning_curves.csv").open() as file:
        for row in csv.DictReader(file):
            if row["task"].startswith("bird_5"):
                curves.setdefault((row["task"], row["model"]), []).append(
                    (float(row["seen"]), float(row["loss"]))
                )
    assert len(curves) >= 6
    for points in curves.values():
        x, y = np.array(sorted(points)).T
        found = label_regions(x, y, random_guess=0.995)
        assert y[0] > 0.9 and 1 <= found.ends[0] < x.size / 10 and found.irreducible_start is None
