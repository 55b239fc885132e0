"""Fits with some parameters given: the others are found, the given ones stay, and nothing else changes."""

import numpy as np
import pytest
from scipy.optimize import least_squares

import foretrain
from foretrain.fitting import fit
from foretrain.freezing import freedom
from foretrain.laws import LAWS
from foretrain.status import FitStatus
from test_laws import TRUE, places

SEVERAL = sorted(name for name in LAWS if len(LAWS[name].parameters) > 1)


def true_points(name, sd=0.0, seed=5):
    """The law's points, its parameters, and their names."""
    law = LAWS[name]
    x, theta = places(law), np.array(TRUE[name])
    noise = np.random.default_rng(seed).normal(0, sd, x.shape[1])
    return x, law.value(x, theta) * np.exp(noise), theta, [p.name for p in law.parameters]


@pytest.mark.parametrize("name", SEVERAL)
def test_the_others_are_recovered(name):
    x, y, theta, names = true_points(name)
    for i in {0, len(names) // 2, len(names) - 1}:
        found = foretrain.fit(name, x, y, fixed={names[i]: theta[i]})
        np.testing.assert_allclose(found.theta, theta, rtol=1e-3)
        assert found.theta[i] == theta[i]
        assert found.fixed == (names[i],)
        assert found.objective < 1e-10


@pytest.mark.parametrize("name", SEVERAL)
def test_what_is_given_stays_even_if_it_is_wrong(name):
    x, y, theta, names = true_points(name, sd=0.01)
    lower, upper = LAWS[name].bounds
    for i in {0, len(names) - 1}:
        wrong = float(np.clip(1.2 * theta[i], lower[i], upper[i]))
        found = fit(name, x, y, fixed={names[i]: wrong}, huber_delta=10.0)
        assert found.parameters[names[i]] == wrong
        np.testing.assert_allclose(found.predict(x), LAWS[name].value(x, found.theta), rtol=1e-6)


@pytest.mark.parametrize("given", [{"A": 300.0}, {"E": 1.8}, {"alpha": 0.3}, {"A": 350.0, "beta": 0.3}])
def test_agrees_with_least_squares_over_the_others_alone(given):
    """The reference knows no units: it varies the free parameters as they are, from the truth."""
    x, y, theta, names = true_points("chinchilla", sd=0.01)
    free = np.array([name not in given for name in names])
    start = np.array([given.get(name, value) for name, value in zip(names, theta, strict=True)])

    def residuals(scale):
        whole = start.copy()
        whole[free] *= scale
        e, a, b, alpha, beta = whole
        return np.log(e + a * x[0] ** -alpha + b * x[1] ** -beta) - np.log(y)

    reference = least_squares(residuals, np.ones(free.sum()), xtol=1e-15, ftol=1e-15, gtol=1e-15)
    found = fit("chinchilla", x, y, fixed=given, huber_delta=10.0)  # no residual is as large: least squares
    np.testing.assert_allclose(found.theta[free], start[free] * reference.x, rtol=2e-5)
    assert found.objective == pytest.approx(reference.cost, rel=1e-9)


def test_units_do_not_change_a_fit_with_a_given_coefficient():
    x, y, theta, _ = true_points("chinchilla", sd=0.005)
    one = fit("chinchilla", x, y, fixed={"B": theta[2]})
    other = fit("chinchilla", x * 1e-3, 7 * y, fixed={"B": 7 * theta[2] * 1e-3 ** one.parameters["beta"]})
    np.testing.assert_allclose(other.predict(x * 1e-3), 7 * one.predict(x), rtol=1e-3)


def test_the_gradient_follows_what_moves_with_the_free_ones():
    """In the units of the fit A moves with alpha, when A is given in natural units."""
    law = LAWS["chinchilla"]
    x, _, theta, _ = true_points("chinchilla")
    x_unit = law.units(x)
    able = freedom(law, {"A": theta[1]}, x_unit, 2.0)
    u, at = x / x_unit[:, None], able.pin(law.rescale(theta, 1 / x_unit, 0.5))
    assert not able.rigid
    rows = []
    for i in np.flatnonzero(able.free):
        step = np.zeros(5)
        step[i] = 1e-5 * at[i]
        change = law.value(u, able.pin(at + step)) - law.value(u, able.pin(at - step))
        rows.append(change / (2 * step[i]))
    np.testing.assert_allclose(able.gradient(u, at), rows, rtol=1e-5, atol=1e-9)
    assert freedom(law, {"E": 1.0, "beta": 0.3}, x_unit, 2.0).rigid


def test_nothing_given_changes_nothing():
    x, y, _, _ = true_points("power_floor", sd=0.01)
    y[5] *= 1.5
    one, other = fit("power_floor", x, y), fit("power_floor", x, y, fixed={})
    assert one.theta.tobytes() == other.theta.tobytes() and one.kept.tobytes() == other.kept.tobytes()
    assert (one.objective, one.reasons, one.fixed) == (other.objective, other.reasons, ())


def test_a_given_parameter_is_known_to_a_bootstrap():
    """Refits to resampled points: the floor has no spread, and the exponent that of the law with it known."""
    x = np.geomspace(1e2, 1e6, 60)
    rng = np.random.default_rng(11)
    y = (0.5 + 30 * x**-0.4) * np.exp(rng.normal(0, 0.01, 60))
    known, unknown = [], []
    for _ in range(60):
        drawn = rng.integers(0, 60, 60)
        for draws, fixed in ((known, {"E": 0.5}), (unknown, None)):
            draws.append(fit("power_floor", x[drawn], y[drawn], huber_delta=10.0, fixed=fixed).theta)
    known, unknown = np.array(known), np.array(unknown)
    by_theta = np.stack([x**-0.4, -np.log(x) * 30 * x**-0.4]) / (0.5 + 30 * x**-0.4)
    expected = 0.01 * np.sqrt(np.linalg.inv(by_theta @ by_theta.T)[1, 1])
    assert (known[:, 0] == 0.5).all()
    assert known[:, 2].std() == pytest.approx(expected, rel=0.4)
    assert unknown[:, 2].std() > 1.3 * known[:, 2].std()


def test_given_parameters_need_no_points_and_raise_no_doubt():
    x = np.geomspace(1e2, 1e6, 4)
    y = 0.5 + 30 * x**-0.4
    assert FitStatus.TOO_FEW_POINTS in fit("power_floor", x, y).reasons
    assert FitStatus.TOO_FEW_POINTS not in fit("power_floor", x, y, fixed={"E": 0.5}).reasons
    two = fit("power_floor", x[:2], y[:2], fixed={"E": 0.5})
    np.testing.assert_allclose(two.theta, [0.5, 30, 0.4], rtol=1e-6)
    steep = fit("power", x, 1e9 * x**-3.0, fixed={"alpha": 3.0})
    assert FitStatus.EXPONENT_AT_BOUND not in steep.reasons
    assert FitStatus.EXPONENT_AT_BOUND in fit("power", x, 1e9 * x**-3.5).reasons


X = np.geomspace(1e2, 1e6, 20)


@pytest.mark.parametrize(
    ("fixed", "told"),
    [
        ({"gamma": 1.0}, "name parameters of the law power_floor, which are E, A, alpha; got 'gamma'"),
        (
            {"alpha": 9.0},
            r"alpha .* at least \S+ and at most \S+, in natural units, got 9.0: leave it out",
        ),
        ({"alpha": np.nan}, "give alpha of the law power_floor a finite number"),
        ({"E": -0.1}, r"give E of the law power_floor a finite number of at least 0, .* got -0.1"),
        ({"E": "half"}, "give E of the law power_floor a finite number .* got 'half'"),
        ({"E": 0.5, "A": 1.0, "alpha": 0.3}, "leave a parameter of the law power_floor to fit, got all 3"),
    ],
)
def test_refuses_what_cannot_be_held(fixed, told):
    with pytest.raises(ValueError, match=told):
        fit("power_floor", X, 0.5 + 30 * X**-0.4, fixed=fixed)


def test_refuses_zero_for_what_is_searched_by_its_logarithm():
    x, y, _, _ = true_points("repeated_data")
    with pytest.raises(ValueError, match=r"give A of the law repeated_data a finite number above 0, in"):
        fit("repeated_data", x, y, fixed={"A": 0.0})


def test_refuses_fewer_points_than_are_left_to_fit():
    with pytest.raises(ValueError, match="power_floor has 2 parameters to fit, so 1 observations cannot fix"):
        fit("power_floor", X[:1], X[:1] ** -0.4, fixed={"E": 0.1})


@pytest.mark.parametrize("name", ["power_floor", "chinchilla", "kaplan", "exponential"])
def test_absurd_values_raise_no_warning(name):
    x, y, _, _ = true_points(name)
    for parameter in LAWS[name].parameters:
        for value in (max(parameter.lower, 1e-300), min(parameter.upper, 1e300)):
            found = fit(name, x[:, ::3], y[::3], fixed={parameter.name: value})
            assert found.parameters[parameter.name] == value
