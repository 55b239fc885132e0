"""Cross-validation of a law, and extrapolation from a corner."""

import numpy as np
import pytest

from foretrain.cross_validation import cross_validate, extrapolate
from foretrain.laws import LAWS

# Rosenfeld et al. 2020 on CIFAR-10: e0, b, c, eta, alpha, beta, for shares of the full model and data.
CIFAR = np.array([0.9, 5.87e-2, 7.14e-14, 19.77, 0.66, 0.53])
SHARES = 2.0 ** -np.arange(6)
PLACES = np.stack([np.repeat(SHARES, 5), np.tile(SHARES[:5], 6)])


def errors():
    return LAWS["rosenfeld"].value(PLACES, CIFAR)


def test_an_exact_law_predicts_what_it_has_not_seen():
    told = cross_validate("rosenfeld", PLACES, errors(), folds=2, fixed={"e0": 0.9})
    assert told.predicted.shape == (30,) and np.abs(told.relative).max() < 1e-3
    corner = (PLACES <= 0.25).all(axis=0)
    ahead = extrapolate("rosenfeld", PLACES, errors(), corner, fixed={"e0": 0.9})
    assert (ahead.judged == np.flatnonzero(~corner)).all() and np.abs(ahead.relative).max() < 0.02


def test_noise_shows_as_the_deviation_it_has():
    y = (0.05 + 0.02 * PLACES[0] ** -0.5 + 0.03 * PLACES[1] ** -0.4) * np.exp(
        np.random.default_rng(0).normal(0, 0.03, 30)
    )
    told = cross_validate("chinchilla", PLACES, y)
    assert abs(told.mean) < 0.015 and told.std == pytest.approx(0.03, rel=0.35)
    assert told.relative == pytest.approx((told.predicted - y) / y)
    assert told.std == pytest.approx(np.sqrt(np.mean((told.relative - told.mean) ** 2)))


def test_a_point_is_predicted_without_itself():
    x = np.geomspace(1, 100, 6)  # so few that no point counts as an outlier
    y = 3 * x**-0.5
    y[-1] *= 1.25  # at the end, with a fold for each point: what is fitted with it would follow it
    told = cross_validate("power", x, y, folds=6)
    assert told.predicted[-1] == pytest.approx(3 * x[-1] ** -0.5, rel=1e-6)
    assert told.relative[-1] == pytest.approx(-0.2, rel=1e-6)


def test_the_split_is_by_the_seed_and_each_fold_leaves_out_its_own():
    first, again, other = (cross_validate("power", *_noisy(), folds=3, seed=s).relative for s in (0, 0, 1))
    assert (first == again).all() and (first != other).any()


def _noisy():
    x = np.geomspace(1, 100, 12)
    return x, x**-0.5 * np.exp(np.random.default_rng(0).normal(0, 0.1, 12))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x, y: cross_validate("power", x, y, folds=13), "Expected 2 to 12 `folds`"),
        (lambda x, y: cross_validate("power", [*x[1:], x[1]], y), "take the mean or the median over seeds"),
        (lambda x, y: cross_validate("chinchilla", x, y), r"`x` of shape \(2, n\) .* got \(1, 12\)"),
        (lambda x, y: cross_validate("power", x, -y), "`y` to hold positive"),
        (lambda x, y: extrapolate("power", x, y, [True] * 12), "12 true: leave points to be judged"),
        (lambda x, y: extrapolate("power", x, y, [True] * 3), "`known` as 12 booleans"),
    ],
)
def test_bad_input_is_refused_with_the_remedy(make, message):
    with pytest.raises(ValueError, match=message):
        make(*_noisy())
