"""The compute-optimal size: its growth with compute and where it lies at one budget."""

import csv
from collections import defaultdict

import numpy as np
import pytest
from scipy.optimize import curve_fit

from foretrain.frontier import find_optimum, fit_growth

SETTING = ("file", "dataset", "hparams", "warmup", "decay", "param_count", "val")


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def setting(row):
    return tuple(row[name] for name in SETTING)


def column(rows, name):
    return np.array([float(row[name]) for row in rows])


@pytest.fixture(scope="module")
def pairs(published_curves):
    found = defaultdict(list)
    for row in rows_of(published_curves / "porian2024" / "optimal_pairs.csv"):
        if row["n"]:
            found[setting(row)].append(row)
    return found


def test_all_published_exponents_of_porian_are_reproduced(published_curves, pairs):
    published = rows_of(published_curves / "porian2024" / "published_fit_results.csv")
    assert len(published) == 10
    for row in published:
        points = pairs[setting(row)]
        c, n, std = (column(points, name) for name in ("flops", "n", "n_star_std"))
        weighted, basic = fit_growth(c, n, std), fit_growth(c, n)
        assert weighted.exponent == pytest.approx(float(row["weighted_n_exponent"]), abs=5e-5)
        assert weighted.coefficient == pytest.approx(float(row["weighted_n_coef"]), rel=1e-4)
        assert weighted.r2 == pytest.approx(float(row["weighted_n_r2"]), abs=1e-6)
        assert basic.exponent == pytest.approx(float(row["basic_n_exponent"]), abs=5e-5)
        assert basic.r2 == pytest.approx(float(row["basic_n_r2"]), abs=1e-6)


def test_optima_of_porian_agree_with_the_published(published_curves, pairs):
    points = defaultdict(list)
    for row in rows_of(published_curves / "porian2024" / "isoflop_points.csv"):
        points[setting(row), float(row["flops"])].append(row)
    apart = []
    for key, rows in pairs.items():
        for row in rows:
            at = points[key, float(row["flops"])]
            found = find_optimum(column(at, "N"), column(at, "loss"), log_noise=0.002, replicates=50)
            assert found.inside
            assert found.loss == pytest.approx(float(row["loss"]), rel=0.005)
            apart.append(np.log(found.n / float(row["n"])) / float(row["n_star_std"]))
    assert len(apart) == 115
    assert (np.abs(apart) < 1).mean() > 0.95


@pytest.mark.parametrize("weighted", [True, False])
def test_regression_and_standard_errors_are_those_of_scipy(weighted):
    rng = np.random.default_rng(0)
    c = np.geomspace(1e17, 1e21, 9)
    std = rng.uniform(0.05, 0.4, 9)
    n = 0.1 * c**0.5 * np.exp(rng.normal(0, std))
    growth = fit_growth(c, n, std if weighted else None)
    reference, covariance = curve_fit(
        lambda x, k, a: k + a * x,
        np.log(c),
        np.log(n),
        sigma=std if weighted else None,
        absolute_sigma=weighted,
    )
    deviations = np.sqrt(np.diag(covariance))
    assert growth.exponent == pytest.approx(reference[1], rel=1e-6)
    assert np.log(growth.coefficient) == pytest.approx(reference[0], rel=1e-5)
    assert growth.exponent_std == pytest.approx(deviations[1], rel=1e-5)
    assert growth.log_coefficient_std == pytest.approx(deviations[0], rel=1e-5)


def test_an_exact_law_is_found_and_continued():
    c = np.geomspace(1e18, 1e20, 5)
    growth = fit_growth(c, 0.3 * c**0.49)
    assert (growth.exponent, growth.coefficient) == (pytest.approx(0.49), pytest.approx(0.3))
    assert growth.r2 == pytest.approx(1.0) and growth.exponent_std < 1e-12
    np.testing.assert_allclose(growth.predict([1e22]), [0.3 * 1e22**0.49])
    assert np.isnan(fit_growth(c[:2], c[:2]).exponent_std)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0, 2.0], [1.0]), "same length, got 2, 1 and 1"),
        (([1.0, 2.0], [1.0, 2.0], [1.0]), "same length, got 2, 2 and 1"),
        (([3.0, 3.0], [1.0, 2.0]), "at least two different budgets, got 2 of 3.0"),
        (([1.0, -2.0], [1.0, 2.0]), "`c` to be a one-dimensional array of positive, finite"),
        (([1.0, 2.0], [1.0, np.nan]), "`n` to be a one-dimensional"),
        (([1.0, 2.0], [1.0, 2.0], [0.0, 1.0]), "`n_log_std` to be a one-dimensional"),
        (([], []), "`c` to be a one-dimensional"),
        (([[1.0], [2.0]], [1.0, 2.0]), "`c` to be a one-dimensional"),
        ((["a"], [1.0]), "`c` to be a one-dimensional"),
    ],
)
def test_growth_refuses_with_the_remedy(arguments, message):
    with pytest.raises(ValueError, match=message):
        fit_growth(*arguments)


N = np.geomspace(1e7, 1e9, 9)


def isoflop(n, c=1e20):
    return 1.7 + 400 * n**-0.34 + 400 * (c / (6 * n)) ** -0.28


def test_the_optimum_of_a_known_law():
    exact = (0.34 * 400 / (0.28 * 400)) ** (1 / 0.62) * (1e20 / 6) ** (0.28 / 0.62)
    assert N[0] < exact < N[-1]
    found = find_optimum(N[::-1], isoflop(N[::-1]))
    assert found.inside and np.isnan(found.log_n_std) and np.isnan(found.share_inside)
    assert found.n == pytest.approx(exact, rel=0.03)
    assert found.loss == pytest.approx(isoflop(exact), rel=1e-4)


def test_noise_widens_the_optimum_and_is_seeded():
    calm, loud = (
        find_optimum(N, isoflop(N), log_noise=s, replicates=400, seed=1).log_n_std for s in (0.0, 0.01)
    )
    assert calm == pytest.approx(np.log(100) / 8 / 3)  # the grid alone
    assert loud > 1.5 * calm
    first, again, other = (
        find_optimum(N, isoflop(N), log_noise=0.01, replicates=50, seed=s) for s in (1, 1, 2)
    )
    assert first == again and first.n != other.n
    assert 0.5 < first.share_inside <= 1.0


@pytest.mark.parametrize("loss", [np.linspace(3, 2, 9), np.linspace(2, 3, 9)])
def test_a_minimum_at_an_edge_is_none(loss):
    assert not find_optimum(N, loss).inside and np.isnan(find_optimum(N, loss).n)
    noisy = find_optimum(N, loss, log_noise=1e-9, replicates=5)
    assert not noisy.inside and noisy.share_inside == 0.0 and np.isnan(noisy.n)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((N[:3], N[:3]), {}, "at least 4 different model sizes at one budget, got 3 in 3 points"),
        ((np.ones(5), N[:5]), {}, "got 1 in 5 points: train more sizes"),
        ((N, N[:4]), {}, "same length, got 9 and 4"),
        ((N, -N), {}, "`loss` to be a one-dimensional"),
        ((N, N), {"log_noise": -1.0}, "not below 0, got -1.0 and 0"),
        ((N, N), {"replicates": -1}, "not below 0, got 0.0 and -1"),
    ],
)
def test_the_optimum_refuses_with_the_remedy(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        find_optimum(*arguments, **options)
