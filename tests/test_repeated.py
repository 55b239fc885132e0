"""What repeats are worth, and the best number of epochs: against closed forms and a minimiser of scipy."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from foretrain.families.repeated import R_D, best_epochs, effective_data, past_best
from foretrain.fitting import Fit, fit
from foretrain.laws import LAWS

THETA = {
    "memorization": (2.3, 10.8, 1e5, 1e5, 0.65, 0.5, 1.4, 140.0),
    "lovelace": (1.9, 400.0, 1500.0, 0.34, 0.36, 1e-3, 0.9, 0.8),
    "repeated_data": (1.87, 521.0, 1488.0, 0.35, 0.36, 15.4, 5.3),
}


def law_of(name):
    """A law with its parameters, as if it had been fitted."""
    n, u, epochs = (
        axis.ravel() for axis in np.meshgrid(np.geomspace(1e7, 1e10, 5), [1e8, 1e9], [1, 4, 40.0])
    )
    x = np.stack([n, u * epochs, u])
    theta = np.array(THETA[name])
    found = fit(name, x, LAWS[name].value(x, theta))
    np.testing.assert_allclose(found.predict(x), LAWS[name].value(x, theta), rtol=1e-6)
    return found


@pytest.fixture(scope="module")
def laws() -> dict[str, Fit]:
    return {name: law_of(name) for name in THETA}


def test_four_epochs_are_worth_93_per_cent_and_no_number_more_than_16_times():
    assert effective_data(4e9, 1e9) / 4e9 == pytest.approx(0.93, abs=0.005)
    assert effective_data(1e300, 1e9) == pytest.approx(16.387756e9, rel=1e-12)
    assert effective_data(40e9, 1e9, r=15.4) / 1e9 == pytest.approx(15.2, abs=0.05)


def test_the_closed_form():
    rng = np.random.default_rng(0)
    unique = 10 ** rng.uniform(3, 12, 200)
    seen = unique * 10 ** rng.uniform(0, 3, 200)
    for r in (0.5, 4.0, R_D, 200.0):
        expected = unique + unique * r * (1 - np.exp(-(seen / unique - 1) / r))
        np.testing.assert_allclose(effective_data(seen, unique, r), expected, rtol=1e-10)


def test_within_the_first_epoch_it_is_the_data_seen():
    seen = np.array([1.0, 10.0, 1e8, 1e9])
    np.testing.assert_allclose(effective_data(seen, 1e9), seen, rtol=1e-12)


def test_shapes_broadcast_and_no_number_is_too_large():
    assert effective_data(np.ones((3, 1)), np.ones(4)).shape == (3, 4)
    every = np.geomspace(1e-300, 1e300, 41)
    with np.errstate(all="raise", under="ignore"):
        worth = effective_data(every[:, None], every, r=1e-3)
        assert (worth > 0).all() and (worth <= every[:, None] * (1 + 1e-9)).all()


@pytest.mark.parametrize(
    ("seen", "unique", "r", "told"),
    [
        ([1, 0], [1, 1], 15, r"`seen` to hold positive, finite numbers, got 0.0 \(1 of 2"),
        ([1, 1], [1, np.nan], 15, "`unique` to hold positive, finite numbers, got nan"),
        ([1, 1], [1, 1], -1, "`r` to hold positive, finite numbers, got -1.0"),
        (
            [1, 1],
            [1, 1, 1],
            15,
            r"that broadcast, got `seen` of shape \(2,\), `unique` of shape \(3,\)",
        ),
    ],
)
def test_refuses_what_is_no_amount(seen, unique, r, told):
    with pytest.raises(ValueError, match=told):
        effective_data(seen, unique, r)


@pytest.mark.parametrize("name", ["memorization", "lovelace"])
@pytest.mark.parametrize(("n", "u"), [(1e9, 1e8), (3e8, 4e8), (1e10, 1e9)])
def test_the_best_number_of_epochs_agrees_with_a_minimiser(laws, name, n, u):
    law, theta = LAWS[name], np.array(THETA[name])

    def loss(log_epochs):
        return law.value(np.array([[n], [u * np.exp(log_epochs)], [u]]), theta)[0]

    starts = np.linspace(0, np.log(300), 40)
    lowest = min(starts, key=loss)
    reference = minimize_scalar(loss, bounds=(max(lowest - 0.3, 0), lowest + 0.3), options={"xatol": 1e-9})
    found = best_epochs(laws[name], n, u, most=300)
    assert found.epochs == pytest.approx(np.exp(reference.x), rel=2e-3)
    assert found.loss == pytest.approx(reference.fun, rel=1e-6)
    assert found.past and past_best(laws[name], n, 300 * u, u)
    fewer = u * max(found.epochs * 0.8, 1.0)
    assert not past_best(laws[name], n, fewer, u)
    assert past_best(laws[name], n, u * found.epochs * 1.25, u)


def test_a_law_that_never_rises_has_no_best_epoch(laws):
    found = best_epochs(laws["repeated_data"], [1e8, 1e10], 1e8, most=[20.0, 60.0])
    np.testing.assert_allclose(found.epochs, [20.0, 60.0])
    assert not found.past.any()


def test_within_the_first_epoch_no_run_is_past_its_best(laws):
    assert not past_best(laws["memorization"], [1e10, 1e10], [1e8, 5e7], 1e8).any()


def test_places_broadcast(laws):
    found = best_epochs(laws["memorization"], np.array([1e8, 1e9])[:, None], [1e8, 1e9, 1e10])
    assert found.epochs.shape == found.loss.shape == found.past.shape == (2, 3)
    assert (np.diff(found.epochs, axis=1) >= 0).all()  # more unique data can be repeated more
    assert (np.diff(found.epochs, axis=0) <= 0).all()  # larger models over-fit sooner


def test_refuses_other_laws_and_less_than_an_epoch(laws):
    x = np.geomspace(1, 100, 10)
    with pytest.raises(ValueError, match="law of N, D and U, such as memorization, got power, which has x"):
        best_epochs(fit("power", x, x**-0.3), 1e9, 1e9)
    with pytest.raises(ValueError, match="`most` to be at least one epoch, got"):
        best_epochs(laws["lovelace"], 1e9, 1e9, most=0.5)
    with pytest.raises(ValueError, match="`n` to hold positive, finite numbers, got"):
        past_best(laws["lovelace"], 0, 1e9, 1e9)
    with pytest.raises(ValueError, match=r"broadcast, got `n` of shape \(2,\), `d` of shape \(3,\)"):
        past_best(laws["lovelace"], [1, 2], [1, 2, 3], 1e9)
