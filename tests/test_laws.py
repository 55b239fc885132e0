"""The contract that every law keeps, run over all of them."""

import numpy as np
import pytest

from foretrain.fitting import fit
from foretrain.laws import LAWS
from foretrain.status import FitStatus

TRUE = {
    "power": (5.0, 0.3),
    "power_floor": (0.5, 30.0, 0.4),
    "shifted_power_floor": (0.5, 30.0, 0.4, 800.0),
    "chinchilla": (1.7, 400.0, 400.0, 0.34, 0.28),
}


def places(law):
    """Where a law is tried: 40 points along one axis, a 6 x 8 grid along two."""
    if law.n_axes == 1:
        return np.geomspace(1e2, 1e6, 40)[None]
    n, d = np.meshgrid(np.geomspace(1e6, 1e9, 6), np.geomspace(1e8, 1e11, 8))
    return np.stack([n.ravel(), d.ravel()])


@pytest.fixture(params=sorted(LAWS))
def law(request):
    return LAWS[request.param]


def test_every_law_has_a_row_here(law):
    assert len(TRUE[law.name]) == len(law.parameters)


def test_names_and_units_are_told(law):
    names = [parameter.name for parameter in law.parameters]
    assert len(set(names)) == len(names)
    assert all(parameter.unit and parameter.meaning for parameter in law.parameters)
    assert law.formula and law.source and "Source:" in type(law).__doc__


def test_recovers_its_own_parameters(law):
    x, theta = places(law), np.array(TRUE[law.name])
    found = fit(law, x, law.value(x, theta))
    np.testing.assert_allclose(found.theta, theta, rtol=2e-4)


def test_gradient_agrees_with_differences(law):
    x, theta = places(law), np.array(TRUE[law.name])
    gradient = law.gradient(x, theta)
    for i, value in enumerate(theta):
        step = np.zeros_like(theta)
        step[i] = 1e-6 * value
        difference = (law.value(x, theta + step) - law.value(x, theta - step)) / (2 * step[i])
        np.testing.assert_allclose(gradient[i], difference, rtol=1e-5, atol=1e-12)


def test_falls_along_every_axis(law):
    theta = np.array(TRUE[law.name])
    x = places(law)
    for axis in range(law.n_axes):
        further = x.copy()
        further[axis] *= 2
        assert (law.value(further, theta) < law.value(x, theta)).all()


def test_rescaled_parameters_say_the_same(law):
    x, theta = places(law), np.array(TRUE[law.name])
    x_unit = x.min(axis=1) * 3
    there = law.rescale(theta, x_unit, 7.0)
    np.testing.assert_allclose(law.value(x * x_unit[:, None], there), 7.0 * law.value(x, theta), rtol=1e-9)


def test_refuses_fewer_points_than_parameters(law):
    x = places(law)[:, : len(law.parameters) - 1]
    with pytest.raises(ValueError, match=rf"{law.name} has {len(law.parameters)} parameters.*wait for"):
        fit(law, x, np.linspace(3, 2, x.shape[1]))


def test_few_points_are_a_doubt_not_an_error(law):
    x, theta = places(law), np.array(TRUE[law.name])
    few = x[:, :: x.shape[1] // (len(law.parameters) + 1)][:, : len(law.parameters) + 1]
    assert FitStatus.TOO_FEW_POINTS in fit(law, few, law.value(few, theta)).reasons
