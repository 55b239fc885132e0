"""Fits against independent references: numpy, scipy's curve_fit, and published optima."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import curve_fit, nnls

from foretrain.cross_validation import cross_validate
from foretrain.fitting import fit, project, ratio, robust_scale
from foretrain.laws.single import PowerLaw
from foretrain.status import FitStatus


def test_pure_power_law_is_a_line_in_logs():
    x = np.geomspace(1e2, 1e6, 25)
    y = 7 * x**-0.21 * np.exp(np.random.default_rng(0).normal(0, 0.01, 25))
    slope, intercept = np.polyfit(np.log(x), np.log(y), 1)
    found = fit("power", x, y, huber_delta=10.0)  # no residual is as large: least squares
    np.testing.assert_allclose(found.theta, [np.exp(intercept), -slope], rtol=1e-6)


class Halved(PowerLaw):
    """A user's own law, under a name that foretrain has, too."""

    name = "power"
    linear = (replace(PowerLaw.linear[0], name="a"),)

    def basis(self, x, e):
        return 0.5 * super().basis(x, e)

    def slopes(self, x, e):
        return 0.5 * super().slopes(x, e)


@pytest.mark.parametrize("name", ["power", "mine"])
def test_a_law_of_the_callers_own_is_not_looked_up_by_its_name(name, monkeypatch):
    monkeypatch.setattr(Halved, "name", name)
    x = np.geomspace(10, 1e4, 30)
    found = fit(Halved(), x, 2.0 * x**-0.3)
    assert found.parameters == pytest.approx({"a": 4.0, "alpha": 0.3})
    np.testing.assert_allclose(found.predict([1e6]), 2.0 * 1e6**-0.3)
    assert abs(cross_validate(Halved(), x, 2.0 * x**-0.3).relative).max() < 1e-9


def test_power_law_with_floor_agrees_with_curve_fit():
    x = np.geomspace(1e2, 1e6, 60)
    y = (0.5 + 30 * x**-0.4) * np.exp(np.random.default_rng(1).normal(0, 0.005, 60))

    def log_law(x, e, a, alpha):
        return np.log(e + a * x**-alpha)

    reference, _ = curve_fit(log_law, x, np.log(y), p0=[0.4, 20, 0.3], xtol=1e-14, ftol=1e-14)
    found = fit("power_floor", x, y, huber_delta=10.0)
    np.testing.assert_allclose(found.theta, reference, rtol=1e-5)


def test_an_outlier_hardly_moves_the_law():
    x = np.geomspace(1e2, 1e6, 40)
    noise = np.random.default_rng(2).normal(0, 0.002, 40)
    y = (0.5 + 30 * x**-0.4) * np.exp(noise)
    y[-3] *= 2.0
    assert fit("power_floor", x, y).parameters["alpha"] == pytest.approx(0.4, abs=0.01)
    assert abs(fit("power_floor", x, y, huber_delta=10.0).parameters["alpha"] - 0.4) > 0.02


def chinchilla_points(folder):
    """The 245 runs of Besiroglu et al. 2024, arXiv:2404.10102, by loss; they leave out the last five."""
    with (folder / "epoch_chinchilla" / "chinchilla_runs.csv").open() as file:
        rows = sorted(csv.DictReader(file), key=lambda row: float(row["loss"]))
    n, d, loss = (np.array([float(row[name]) for row in rows]) for name in ("N", "D", "loss"))
    return np.stack([n, d]), loss


def test_published_optimum_of_the_chinchilla_law(published_curves):
    """The objective's exact minimum on their 240 points."""
    x, loss = chinchilla_points(published_curves)
    found = fit("chinchilla", x[:, :-5], loss[:-5], huber_delta=1e-3)
    assert found.objective == pytest.approx(0.0010182740, rel=1e-7)
    expected = {"E": 1.8172, "A": 477.83, "B": 2143.4, "alpha": 0.34731, "beta": 0.36717}
    for name, value in expected.items():
        assert found.parameters[name] == pytest.approx(value, rel=5e-5)
    assert found.status is FitStatus.OK


def test_outliers_at_the_end_of_an_axis_do_not_move_the_default(published_curves):
    """With the five points back in, B grows six times under Huber's loss alone; else it hardly moves."""
    x, loss = chinchilla_points(published_curves)
    huber = [fit("chinchilla", x[:, :k], loss[:k], huber_delta=1e-3).parameters["B"] for k in (240, 245)]
    assert huber[1] / huber[0] > 5
    clean, whole = (fit("chinchilla", x[:, :k], loss[:k]) for k in (240, 245))
    assert whole.parameters["B"] == pytest.approx(clean.parameters["B"], rel=0.15)
    for name, (low, high) in {"E": (1.769, 1.871), "alpha": (0.317, 0.373), "beta": (0.331, 0.415)}.items():
        assert low < clean.parameters[name] < high  # their bootstrap intervals at 95%
        assert low < whole.parameters[name] < high


def test_many_misfits_or_few_points_are_not_taken_for_outliers():
    """The law stays where Huber's loss alone, with the threshold that the default starts from, has it."""
    x = np.geomspace(1e2, 1e6, 40)
    two = 5 * x**-0.3 * np.exp(np.random.default_rng(12).normal(0, 0.01, 40))
    two[::4] *= np.linspace(1.2, 3.0, 10)  # a quarter of the points on another line
    few = 5 * x[:7] ** -0.3
    few[-1] *= 1.5
    for y in (two, few):
        at = x[: y.size]
        grid = np.geomspace(0.01, 3.0, 64)
        lines = [y_of(at, y, alpha) for alpha in grid]
        best = min(lines, key=lambda line: ((line / y - 1) ** 2).sum())
        delta = 1.345 * robust_scale(np.log(best / y))
        np.testing.assert_allclose(
            fit("power", at, y).theta, fit("power", at, y, huber_delta=delta).theta, rtol=1e-6
        )
    enough = 5 * x**-0.3
    enough[-1] *= 1.5
    found = fit("power", x, enough)
    assert found.parameters["alpha"] == pytest.approx(0.3, rel=1e-9)
    np.testing.assert_array_equal(found.kept, [1.0] * 39 + [0.0])


def y_of(x, y, alpha):
    """The power law of this exponent that leaves the smallest relative residuals."""
    feature = x**-alpha / y
    return feature.sum() / (feature**2).sum() * x**-alpha


def test_projected_coefficients_agree_with_scipy_nnls():
    rng = np.random.default_rng(3)
    features, y, w = rng.normal(size=(200, 3, 12)) ** 2, rng.uniform(1, 2, 12), rng.uniform(0.1, 1, 12)
    features[:, 2] -= 1.0  # so that some coefficients would be negative
    found = project(features, y, w)
    root = np.sqrt(w) / y
    for i in range(200):
        coefficients, norm = nnls((features[i] * root).T, np.sqrt(w))
        np.testing.assert_allclose(found.coefficients[i], coefficients, atol=1e-7)
        assert found.rss[i] == pytest.approx(norm**2, rel=1e-7)


def test_huge_ranges_stay_finite():
    x, y = np.geomspace(1e-300, 1e300, 20), np.geomspace(1e200, 1e-200, 20)
    found = fit("power_floor", x, y)
    assert np.isfinite(found.unit_theta).all()
    assert np.isfinite(ratio(np.array([1e300]), 1e-300)).all()


def test_flat_points_on_huge_ranges_can_be_fitted():
    x = np.array([6.61086243e31, 2.28418170e88, 5.15639532e-77])
    y = np.array([0.9999999999990913, 0.9999999999980081, 1.0000000000009717])
    np.testing.assert_allclose(fit("exponential", x, y).predict(x), y, rtol=1e-9)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_refuses_what_has_no_logarithm(bad):
    with pytest.raises(ValueError, match="positive, finite x and y: leave out"):
        fit("power", np.array([1.0, 2.0, 3.0]), np.array([3.0, bad, 1.0]))


def test_doubts():
    x = np.array([100.0, 120.0, 150.0, 180.0, 200.0, 220.0])
    assert FitStatus.SHORT_RANGE in fit("power", x, 5 * x**-0.3).reasons
    assert FitStatus.EXPONENT_AT_BOUND in fit("power", x, 1e9 * x**-3.5).reasons
    n, d = np.array([1e6, 2e6] * 6), np.repeat(np.geomspace(1e8, 1e10, 6), 2)
    assert (
        FitStatus.TOO_FEW_SIZES in fit("chinchilla", np.stack([n, d]), 2 + 1e4 / d**0.5 + 5 / n**0.1).reasons
    )


def test_a_status_is_its_code_and_carries_its_sentence():
    assert FitStatus("too_few_sizes") is FitStatus.TOO_FEW_SIZES
    assert FitStatus.OK == "ok"
    assert "third size" in FitStatus.TOO_FEW_SIZES.sentence


def test_robust_scale_is_the_standard_deviation_of_clean_noise():
    noise = np.random.default_rng(4).normal(0, 0.3, 100_000)
    assert robust_scale(noise) == pytest.approx(0.3, rel=0.02)
    assert robust_scale(np.array([])) == 0.0


def test_standard_errors_weigh_points_by_their_inverse_squares():
    x = np.geomspace(1e2, 1e6, 40)
    rng = np.random.default_rng(10)
    relative = rng.uniform(0.01, 0.025, 40)
    y = (0.5 + 30 * x**-0.4) * np.exp(relative * rng.normal(size=40))

    def log_law(x, e, a, alpha):
        return np.log(e + a * x**-alpha)

    reference, _ = curve_fit(log_law, x, np.log(y), p0=[0.4, 20, 0.3], sigma=relative, xtol=1e-14, ftol=1e-14)
    found = fit("power_floor", x, y, y_se=relative * y, huber_delta=10.0)
    np.testing.assert_allclose(found.theta, reference, rtol=1e-4)
    assert abs(fit("power_floor", x, y, huber_delta=10.0).theta / reference - 1).max() > 1e-3
    both = fit("power_floor", x, y, y_se=0.01 * y, weights=relative**-2.0, huber_delta=10.0)
    np.testing.assert_allclose(both.theta, reference, rtol=1e-4)


def test_no_standard_error_lets_a_point_count_more_than_nine_typical_ones():
    x = np.geomspace(1e2, 1e6, 30)
    y = 5 * x**-0.3 * np.exp(np.random.default_rng(11).normal(0, 0.02, 30))
    weights = np.ones(30)
    weights[7] = 9.0
    reference = fit("power", x, y, weights=weights, huber_delta=10.0).theta
    for tiny in (0.0, 1e-12, 0.006):
        y_se = 0.02 * y
        y_se[7] = tiny * y[7]
        np.testing.assert_allclose(
            fit("power", x, y, y_se=y_se, huber_delta=10.0).theta, reference, rtol=1e-9
        )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"weights": [1, 2, 3]}, r"`weights` to hold 5 finite numbers that are not negative.*shape \(3,\)"),
        ({"weights": [1, 1, 1, 1, -2]}, r"`weights` to hold 5 finite numbers.*smallest -2.0"),
        ({"weights": [0] * 5}, "`weights` to be positive for some points, got zeros: leave it out"),
        ({"y_se": [1, 1, 1, 1, np.nan]}, "`y_se` to hold 5 finite numbers that are not negative"),
        ({"y_se": [0, 0, 0, 0, 1]}, "`y_se` to be positive for most points, got zeros: leave it out"),
    ],
)
def test_refuses_weights_that_say_nothing(given, message):
    x = np.geomspace(1.0, 100.0, 5)
    with pytest.raises(ValueError, match=message):
        fit("power", x, 3 * x**-0.2, **given)


def test_refuses_lengths_that_differ():
    with pytest.raises(ValueError, match=r"y of shape \(n,\), got \(1, 4\) and \(3,\)"):
        fit("power", np.ones(4), np.ones(3))


def test_only_a_law_of_model_size_asks_for_a_third_size():
    s = np.geomspace(10, 1e4, 30)
    told = fit("annealing", np.stack([np.ones(30), s]), 2 + 5 * s**-0.5)  # at a constant rate
    assert FitStatus.TOO_FEW_SIZES not in told.reasons
