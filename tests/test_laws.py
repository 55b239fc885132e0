"""The contract that every law keeps, run over all of them."""

import re
from pathlib import Path

import numpy as np
import pytest

from foretrain.fitting import fit
from foretrain.laws import LAWS, SeparableLaw
from foretrain.status import FitStatus

TRUE = {
    "power": (5.0, 0.3),
    "power_floor": (0.5, 30.0, 0.4),
    "shifted_power_floor": (0.5, 30.0, 0.4, 800.0),
    "m3": (5.0, 0.3, 2e-5),
    "m4": (0.1, 0.8, 188.0, 0.7, 0.6),
    "broken_power_1": (0.4, 8.0, 0.1, 0.4, 5e3, 0.5),
    "broken_power_2": (0.3, 8.0, 0.1, 0.4, 1.5e3, 0.3, 0.6, 8e4, 0.4),
    "exponential": (0.3, 1.2, 1e-5),
    "inverse_log": (0.2, 3.0, 50.0),
    "chinchilla": (1.7, 400.0, 400.0, 0.34, 0.28),
    "gadre": (1.8, 50.0, 90.0, 0.13),
    "kaplan": (6.4e13, 1.8e13, 0.076, 0.103),
    "rosenfeld": (0.9, 3.0, 1e-4, 5e-3, 0.6, 0.5),
    "repeated_data": (1.87, 521.0, 1488.0, 0.35, 0.36, 15.4, 5.3),
    "lovelace": (1.9, 400.0, 1500.0, 0.34, 0.36, 1e-3, 0.9, 0.8),
    "memorization": (2.0, 10.8, 600.0, 3000.0, 0.36, 0.4, 1.4, 20.0),
    "pruning": (0.06, 12.0, 0.8, 0.004),
    "model_growth": (100.0, 0.68),
    "annealing": (2.6, 0.6, 0.13, 0.45),
}
ABLE_TO_RISE = {"broken_power_1": (0.4, 8.0, 0.3, -0.8, 5e3, 0.5)}


def places(law):
    """Where a law is tried: 60 points along one axis, a grid along two or three."""
    if law.name == "pruning":
        return np.geomspace(3e-4, 1.0, 40)[None]
    if law.name == "annealing":
        left, trained = np.meshgrid(np.linspace(0.1, 1.0, 6), np.geomspace(0.5, 50.0, 10))
        return np.stack([left.ravel(), trained.ravel()])
    if law.n_axes == 1:
        return np.geomspace(1e2, 1e6, 60)[None]
    if law.n_axes == 3:
        grid = np.meshgrid(
            np.geomspace(1e7, 1e10, 6), np.geomspace(1e8, 1e10, 4), [1.0, 2.0, 4.0, 10.0, 40.0]
        )
        n, unique, epochs = (axis.ravel() for axis in grid)
        return np.stack([n, unique * epochs, unique])
    low = (1e4, 1e2) if law.name == "rosenfeld" else (1e6, 1e8)
    n, d = np.meshgrid(np.geomspace(low[0], 1e4 * low[0], 6), np.geomspace(low[1], 1e4 * low[1], 8))
    return np.stack([n.ravel(), d.ravel()])


@pytest.fixture(params=sorted(LAWS))
def law(request):
    return LAWS[request.param]


def differences(law, x, theta):
    """The gradient by central differences."""
    rows = []
    for i, value in enumerate(theta):
        step = np.zeros_like(theta)
        step[i] = 1e-5 * value
        rows.append((law.value(x, theta + step) - law.value(x, theta - step)) / (2 * step[i]))
    return np.array(rows)


def test_every_law_has_a_row_here(law):
    assert len(TRUE[law.name]) == len(law.parameters)
    assert set(TRUE) == set(LAWS)


def test_names_and_units_are_told(law):
    names = [parameter.name for parameter in law.parameters]
    assert len(set(names)) == len(names)
    assert all(parameter.unit and parameter.meaning for parameter in law.parameters)
    assert all(axis.name and axis.unit and axis.meaning for axis in law.axes)
    assert len(law.axes) == law.n_axes == len(law.monotone)
    assert all(axis.name in law.formula for axis in law.axes)
    assert all(parameter.name in law.formula for parameter in law.parameters)
    assert re.search(r"\d{4}", law.source) and "Source:" in type(law).__doc__


def test_the_docs_have_a_section_for_each_law(law):
    docs = Path(__file__).parent.parent / "docs"
    text = "".join(page.read_text() for page in sorted((docs / "laws").glob("*.md")))
    sections = {part.split("\n", 1)[0]: part for part in text.split("\n## ")}
    assert law.name in sections
    assert f"#{law.name}) | " in (docs / "laws.md").read_text(), "missing from the table of docs/laws.md"
    assert law.formula in sections[law.name].replace("\n", " ")


def test_recovers_its_own_parameters(law):
    x, theta = places(law), np.array(TRUE[law.name])
    found = fit(law, x, law.value(x, theta))
    np.testing.assert_allclose(found.theta, theta, rtol=1e-3)
    assert found.objective < 1e-10
    assert FitStatus.EXPONENT_AT_BOUND not in found.reasons


def test_describes_noisy_points_as_well_as_the_truth_does(law):
    x, theta = places(law), np.array(TRUE[law.name])
    noise = np.random.default_rng(5).normal(0, 0.01, x.shape[1])
    y = law.value(x, theta) * np.exp(noise)
    found = fit(law, x, y, huber_delta=10.0)  # no residual is as large: least squares
    assert ((np.log(found.predict(x)) - np.log(y)) ** 2).sum() <= (noise**2).sum()


def test_gradient_agrees_with_differences(law):
    x, theta = places(law), np.array(TRUE[law.name])
    reference = differences(law, x, theta)
    size = np.abs(reference).max(axis=1, keepdims=True)
    np.testing.assert_allclose(law.gradient(x, theta) / size, reference / size, rtol=1e-5, atol=1e-7)


def test_goes_along_every_axis_as_declared(law):
    rng, x = np.random.default_rng(6), places(law)
    lower, upper = law.bounds
    most = np.zeros(law.n_axes)
    for _ in range(30):
        theta = np.clip(np.array(TRUE[law.name]) * np.exp(rng.normal(0, 0.5, lower.size)), lower, upper)
        y = law.value(x, theta)
        for axis, direction in enumerate(law.monotone):
            further = x.copy()
            further[axis] *= 1.5
            change = direction * (law.value(further, theta) - y)
            assert (change >= -1e-12 * y).all()
            most[axis] = max(most[axis], change.max())
    assert (most[np.array(law.monotone) != 0] > 0).all()


def test_a_law_declared_free_does_rise_and_fall():
    free = {name for name in LAWS if 0 in LAWS[name].monotone}
    assert free == {"broken_power_1", "broken_power_2", "lovelace", "memorization"}
    x = places(LAWS["broken_power_1"])
    for name, tail in (("broken_power_1", ()), ("broken_power_2", (0.0, 8e4, 0.4))):
        theta = np.array([*ABLE_TO_RISE["broken_power_1"], *tail])
        change = np.diff(LAWS[name].value(x, theta))
        assert change.min() < 0 < change.max()


@pytest.mark.parametrize("name", ["lovelace", "memorization"])
def test_over_fitting_can_rise_with_epochs_and_with_model_size(name):
    law, theta = LAWS[name], np.array(TRUE[name])
    assert [axis.name for axis, way in zip(law.axes, law.monotone, strict=True) if way == 0] == ["N", "D"]
    epochs, sizes = np.geomspace(1, 300, 60), np.geomspace(1e6, 1e10, 60)
    with_epochs = np.stack([np.full(60, 1e9), 1e8 * epochs, np.full(60, 1e8)])
    with_size = np.stack([sizes, np.full(60, 3e9), np.full(60, 1e8)])
    for x in (with_epochs, with_size):
        change = np.diff(law.value(x, theta))
        assert change[0] < 0 < change.max()


def test_rescaled_parameters_say_the_same(law):
    x, theta = places(law), np.array(TRUE[law.name])
    x_unit = law.units(x) * 3
    there = law.rescale(theta, x_unit, 7.0)
    np.testing.assert_allclose(law.value(x * x_unit[:, None], there), 7.0 * law.value(x, theta), rtol=1e-9)


def test_units_do_not_change_a_fit(law):
    x, theta = places(law), np.array(TRUE[law.name])
    y = law.value(x, theta) * np.exp(np.random.default_rng(7).normal(0, 0.003, x.shape[1]))
    one, other = fit(law, x, y), fit(law, x * 1e-3, y * 1e5)
    np.testing.assert_allclose(other.predict(x * 1e-3), 1e5 * one.predict(x), rtol=1e-6)


def test_parameters_stay_within_their_bounds(law):
    x = places(law)
    lower, upper = law.bounds
    assert (lower <= TRUE[law.name]).all() and (upper >= TRUE[law.name]).all()
    rng = np.random.default_rng(8)
    for y in (rng.uniform(0.1, 3.0, x.shape[1]), x[0] ** 0.7, x[0] ** -3.5):
        found = fit(law, x, y)
        assert (found.unit_theta >= lower).all() and (found.unit_theta <= upper).all()
        assert np.isfinite(found.predict(x)).all()


def test_finite_anywhere_without_a_warning(law):
    every = np.geomspace(1e-300, 1e300, 61)
    x = np.stack([axis.ravel() for axis in np.meshgrid(*[every[:: 2 * law.n_axes - 1]] * law.n_axes)])
    theta = np.array(TRUE[law.name])
    found = fit(law, places(law), law.value(places(law), theta))
    with np.errstate(all="raise"):
        assert np.isfinite(law.value(x, theta)).all() and (law.value(x, theta) > 0).all()
        assert np.isfinite(found.predict(x)).all()
        assert np.isfinite(law.gradient(x, theta)).all()


def test_fits_points_anywhere_without_a_warning(law):
    at = np.geomspace(1e-300, 1e300, 30)
    x = np.stack([np.roll(at, 7 * axis) for axis in range(law.n_axes)])
    for y in (np.geomspace(1e200, 1e-200, 30), np.geomspace(3.0, 2.0, 30)):
        with np.errstate(over="raise", divide="raise", invalid="raise"):
            found = fit(law, x, y)
        assert np.isfinite(found.unit_theta).all() and np.isfinite(found.predict(x)).all()


def test_refuses_fewer_points_than_parameters(law):
    x = places(law)[:, : len(law.parameters) - 1]
    with pytest.raises(ValueError, match=rf"{law.name} has {len(law.parameters)} parameters.*wait for"):
        fit(law, x, np.linspace(3, 2, x.shape[1]))


def test_refuses_another_number_of_axes(law):
    x = np.ones((law.n_axes + 1, 40))
    with pytest.raises(
        ValueError, match=rf"x of shape \({law.n_axes}, n\) for the law {law.name}, one row for"
    ):
        fit(law, x, np.linspace(3, 2, 40))


def test_few_points_are_a_doubt_not_an_error(law):
    x, theta = places(law), np.array(TRUE[law.name])
    few = x[:, :: x.shape[1] // (len(law.parameters) + 1)][:, : len(law.parameters) + 1]
    assert FitStatus.TOO_FEW_POINTS in fit(law, few, law.value(few, theta)).reasons


def test_an_outlier_hardly_moves_any_law(law):
    x, theta = places(law), np.array(TRUE[law.name])
    y = law.value(x, theta) * np.exp(np.random.default_rng(9).normal(0, 0.002, x.shape[1]))
    clean = fit(law, x, y).predict(x)
    y[[x.shape[1] // 3, -1]] *= [2.0, 1.5]
    np.testing.assert_allclose(fit(law, x, y).predict(x), clean, rtol=0.01)


def test_only_separable_laws_have_a_basis(law):
    x, theta = places(law), np.array(TRUE[law.name])
    if isinstance(law, SeparableLaw):
        k = len(law.linear)
        np.testing.assert_allclose(theta[:k] @ law.basis(x, theta[k:, None])[0], law.value(x, theta))
        assert law.grid(x / law.units(x)[:, None]).shape[0] == len(law.nonlinear)
    else:
        with pytest.raises(TypeError, match="not separable, so it has no basis: use `value`"):
            law.basis(x, theta[:, None])
        with pytest.raises(TypeError, match="not separable, so it has no grid: use `starts`"):
            law.grid(x)
