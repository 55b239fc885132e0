"""Runs with repeated data, forecast from runs with few repeats: made-up runs, then published ones."""

import csv

import numpy as np
import pytest

from foretrain.families.repeated_model import CAPACITY, CAPACITY_DOUBT, REPEATS, model_repeated
from foretrain.laws import LAWS
from foretrain.status import FitStatus

GUESS = float(np.log(50257))
BASE = (2.3, GUESS, 4e5, 1e6, 0.7, 0.62)


def runs(epochs, *, capacity=CAPACITY, repeats=REPEATS, sd=0.01, seed=0):
    """Made-up runs of six sizes at three amounts of unique data: n, d, u and y."""
    grid = np.meshgrid(np.geomspace(5e7, 4e9, 6), [2e8, 2e9, 2e10], epochs)
    n, u, repeat = (axis.ravel() for axis in grid)
    x = np.stack([n, u * repeat, u])
    y = LAWS["memorization"].value(x, np.array([*BASE, capacity, repeats]))
    return (*x, y * np.exp(np.random.default_rng(seed).normal(0, sd, y.size)))


FEW, MANY = (1.0, 2.0, 4.0), (10.0, 40.0, 150.0)


def test_the_constants_are_those_of_the_literature():
    """2 bits a parameter in the end, and 1 bit after 100 repeats."""
    assert CAPACITY / np.log(2) == pytest.approx(2)
    assert CAPACITY * (1 - np.exp(-100 / REPEATS)) / np.log(2) == pytest.approx(1)
    assert CAPACITY * (1 - np.exp(-1000 / REPEATS)) / np.log(2) == pytest.approx(2, rel=2e-3)


def test_few_epochs_and_the_literature_forecast_many():
    model = model_repeated(*runs(FEW), random_guess=GUESS)
    n, d, u, y = runs(MANY, sd=0.0)
    off = np.log(model.forecast(n, d, u).median / y)
    assert np.sqrt(np.mean(off**2)) < 0.05
    assert model.borrowed


def test_runs_that_over_fit_move_what_is_memorised():
    """Without noise to the truth; with it the priors, a factor of three away, still pull a little."""
    clean = model_repeated(*runs(FEW + MANY, capacity=0.5, repeats=50.0, sd=0.0), random_guess=GUESS)
    assert clean.fit.parameters["M"] == pytest.approx(0.5, rel=0.01)
    assert clean.fit.parameters["R_M"] == pytest.approx(50.0, rel=0.02)
    model = model_repeated(*runs(FEW + MANY, capacity=0.5, repeats=50.0), random_guess=GUESS)
    found = model.fit.parameters
    assert found["M"] == pytest.approx(0.5, rel=0.15)
    assert abs(np.log(found["M"] / 0.5)) < 3 * np.log(model.draws[:, 6]).std()
    assert not model.borrowed
    assert found["L0"] == GUESS and model.fit.fixed == ("L0",)
    assert model.scale == pytest.approx(0.01, rel=0.4)


def test_few_repeats_leave_the_prior_as_it_is():
    """Within the first epoch nothing is repeated, so the draws are the prior's."""
    model = model_repeated(*runs((0.25, 0.5, 1.0)), random_guess=GUESS)
    assert model.fit.parameters["M"] == pytest.approx(CAPACITY)
    assert model.fit.parameters["R_M"] == pytest.approx(REPEATS)
    assert np.log(model.draws[:, 6]).std() == pytest.approx(CAPACITY_DOUBT, rel=0.05)


def test_intervals_hold_what_they_promise_where_the_prior_holds():
    """Capacity and repeats are drawn from the prior anew for each family of runs."""
    rng = np.random.default_rng(3)
    held = []
    for seed in range(12):
        capacity, repeats = CAPACITY * np.exp(0.5 * rng.normal()), REPEATS * np.exp(0.7 * rng.normal())
        model = model_repeated(
            *runs(FEW, capacity=capacity, repeats=repeats, seed=seed), random_guess=GUESS, seed=seed
        )
        n, d, u, y = runs(MANY, capacity=capacity, repeats=repeats, seed=100 + seed)
        told = model.forecast(n, d, u, levels=(0.9,))
        held.append(np.mean((told.lower[0.9] <= y) & (y <= told.upper[0.9])))
    assert 0.8 <= np.mean(held) <= 0.99


def test_runs_of_other_seeds_count_as_one():
    n, d, u, y = runs(FEW)
    up, down = y * np.exp(0.02), y * np.exp(-0.02)
    once = model_repeated(n, d, u, y, random_guess=GUESS)
    twice = model_repeated(*(np.tile(v, 2) for v in (n, d, u)), np.append(up, down), random_guess=GUESS)
    np.testing.assert_allclose(twice.fit.theta, once.fit.theta, rtol=1e-6)


def test_intervals_are_nested_and_the_seed_decides_them():
    model = model_repeated(*runs(FEW), random_guess=GUESS)
    told = model.forecast([1e8, 1e9], 1e10, 2e8, levels=(0.5, 0.9), seed=1)
    assert told.median.shape == (2,)
    assert (told.lower[0.9] < told.lower[0.5]).all() and (told.lower[0.5] < told.median).all()
    assert (told.median < told.upper[0.5]).all() and (told.upper[0.5] < told.upper[0.9]).all()
    again = model.forecast([1e8, 1e9], 1e10, 2e8, levels=(0.5, 0.9), seed=1)
    assert (again.median == told.median).all() and (again.upper[0.9] == told.upper[0.9]).all()
    assert told.status is model.fit.status is FitStatus.OK


def test_the_chance_of_being_past_the_best_epoch():
    model = model_repeated(*runs(FEW), random_guess=GUESS)
    assert model.chance_past_best(1e9, 1e8, 2e8) == 0.0
    assert model.chance_past_best(1e8, 4e9, 2e9) < 0.05
    assert model.chance_past_best(4e9, 3e10, 2e8) > 0.99
    rising = [model.chance_past_best(5e8, 2e9 * epochs, 2e9) for epochs in (5, 20, 80, 200)]
    assert (np.diff(rising) >= 0).all() and rising[0] < 0.1 and rising[-1] > 0.5


def test_few_sizes_are_a_doubt():
    n, d, u, y = runs(FEW)
    two = n < 2e8
    model = model_repeated(n[two], d[two], u[two], y[two], random_guess=GUESS)
    assert FitStatus.TOO_FEW_SIZES in model.forecast(1e9, 1e10, 1e9).reasons


def test_refuses_what_is_no_family_of_runs():
    n, d, u, y = runs(FEW)
    with pytest.raises(ValueError, match="`random_guess` to hold positive, finite numbers"):
        model_repeated(n, d, u, y, random_guess=-1.0)
    with pytest.raises(ValueError, match="arrays of the same length, got `n` of shape"):
        model_repeated(n[1:], d, u, y, random_guess=GUESS)
    with pytest.raises(ValueError, match="memorization has 5 parameters to fit, so 4 observations cannot"):
        model_repeated(n[:4], d[:4], u[:4], y[:4], random_guess=GUESS)
    with pytest.raises(ValueError, match="`levels` to be numbers between 0 and 1"):
        model_repeated(n, d, u, y, random_guess=GUESS).forecast(1e9, 1e9, 1e9, levels=(2.0,))


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_absurd_runs_raise_no_warning(scale):
    rng = np.random.default_rng(0)
    n, d, u = (np.exp(rng.normal(0, 200, 20)) for _ in range(3))
    y = scale * np.exp(rng.normal(0, 5, 20))
    model = model_repeated(n, d, u, y, random_guess=scale)
    told = model.forecast(n, d, u)
    assert np.isfinite(told.median).all() and np.isfinite(told.upper[0.9]).all()


def published_law(n, d, u):
    """Muennighoff et al. 2023 with the constants of their code, alpha = beta; written out anew."""
    a, b, e, alpha = np.exp(6.255414), np.exp(7.3049974), np.exp(0.6254804), 0.3526596
    optimum = u * (a / b) ** (1 / alpha)
    size = np.minimum(n, optimum)
    new_d = u + u * 15.387756 * (1 - np.exp(-(d / u - 1) / 15.387756))
    new_n = size + size * 5.309743 * (1 - np.exp(-(n / size - 1) / 5.309743))
    return e + a / new_n**alpha + b / new_d**alpha


def test_published_runs_of_many_epochs_from_those_of_at_most_four(published_curves):
    """The error is less than half of the published law's on the same runs, and nine tenths lie inside."""
    path = published_curves / "datablations" / "data_constrained_runs.csv"
    if not path.is_file():
        pytest.skip(f"no datablations in {published_curves}")
    with path.open() as file:
        rows = [row for row in csv.DictReader(file) if row["val_loss"] and row["dedup"] == "0"]
    keys = ("N", "D_tokens", "U_unique_tokens", "val_loss")
    n, d, u, y = (np.array([float(row[key]) for row in rows]) for key in keys)
    few = d / u <= 4
    model = model_repeated(n[few], d[few], u[few], y[few], random_guess=np.log(50257))
    told = model.forecast(n[~few], d[~few], u[~few])
    ours = np.sqrt(np.mean(np.log(told.median / y[~few]) ** 2))
    theirs = np.sqrt(np.mean(np.log(published_law(n, d, u)[~few] / y[~few]) ** 2))
    assert ours < 0.5 * theirs
    inside = (told.lower[0.9] <= y[~few]) & (y[~few] <= told.upper[0.9])
    assert 0.85 <= inside.mean() <= 0.97
