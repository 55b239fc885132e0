"""Laws against the formulas as printed and against published constants and figures."""

import csv

import numpy as np
import pytest
from scipy.optimize import least_squares

from foretrain.fitting import fit
from foretrain.laws import LAWS

X = np.geomspace(1e2, 1e7, 30)
N, D = np.meshgrid(np.geomspace(1e6, 1e10, 5), np.geomspace(1e8, 1e12, 5))
N, D = N.ravel(), D.ravel()
U = D / np.tile([1.0, 1.5, 4.0, 10.0, 200.0], 5)
EXCESS = 600 * N**-0.36 + 3000 * D**-0.4 + 1.4 * N / U * (1 - np.exp(-(D / U - 1) / 20))


def value(name, x, theta):
    return LAWS[name].value(np.atleast_2d(np.asarray(x, dtype=float)), np.array(theta, dtype=float))


AS_PRINTED = {
    "power": (X, (5, 0.3), 5 * X**-0.3),
    "power_floor": (X, (0.5, 30, 0.4), 0.5 + 30 * X**-0.4),
    "shifted_power_floor": (X, (0.5, 30, 0.4, 800), 0.5 + 30 * (X + 800) ** -0.4),
    "m3": (X, (5, 0.3, 2e-5), 5 * (1 / X + 2e-5) ** 0.3),
    "broken_power_1": (
        X,
        (0.4, 8, 0.1, 0.4, 5e3, 0.5),
        0.4 + 8 * X**-0.1 * (1 + (X / 5e3) ** (1 / 0.5)) ** (-0.4 * 0.5),
    ),
    "broken_power_2": (
        X,
        (0.4, 8, 0.1, 0.4, 5e3, 0.5, -0.2, 9e4, 0.8),
        0.4
        + 8
        * X**-0.1
        * (1 + (X / 5e3) ** (1 / 0.5)) ** (-0.4 * 0.5)
        * (1 + (X / 9e4) ** (1 / 0.8)) ** (0.2 * 0.8),
    ),
    "exponential": (X, (0.3, 1.2, 1e-5), 0.3 + 1.2 * np.exp(-1e-5 * X)),
    "inverse_log": (X, (0.2, 3, 50), 0.2 + 3 / np.log(1 + X / 50)),
    "chinchilla": ((N, D), (1.7, 400, 410, 0.34, 0.28), 1.7 + 400 * N**-0.34 + 410 * D**-0.28),
    "gadre": (
        (N, D),
        (1.8, 50, 90, 0.13),
        1.8 + (50 * (D / N) ** 0.13 + 90 * (D / N) ** -0.13) * (6 * N * D) ** -0.13,
    ),
    "kaplan": (
        (N, D),
        (6.4e13, 1.8e13, 0.076, 0.103),
        ((6.4e13 / N) ** (0.076 / 0.103) + 1.8e13 / D) ** 0.103,
    ),
    "lovelace": (
        (N, D, U),
        (1.9, 400, 1500, 0.34, 0.36, 1e-3, 0.9, 0.8),
        1.9 + 400 / N**0.34 + 1500 / D**0.36 + 1e-3 * (D / U - 1) ** 0.9 * (N / U) ** 0.8,
    ),
    "memorization": (
        (N, D, U),
        (2.0, 10.8, 600, 3000, 0.36, 0.4, 1.4, 20),
        2.0 + (10.8 - 2.0) * EXCESS / (10.8 - 2.0 + EXCESS),
    ),
    "pruning": (
        X / 1e7,
        (0.06, 12, 0.8, 0.004),
        0.06 * np.abs((X / 1e7 - 0.004j * 12 ** (1 / 0.8)) / (X / 1e7 - 0.004j)) ** 0.8,  # as in the paper
    ),
    "model_growth": (X, (100, 0.68), 100 * X**0.68),
    "annealing": (
        (N / 1e10, D / 1e8),
        (2.6, 0.6, 0.13, 0.45),
        2.6 + 0.6 * (D / 1e8) ** -0.45 + 0.13 * N / 1e10,
    ),
}


@pytest.mark.parametrize("name", sorted(set(LAWS) - {"m4", "rosenfeld", "repeated_data"}))
def test_the_formula_as_printed(name):
    x, theta, expected = AS_PRINTED[name]
    np.testing.assert_allclose(value(name, x, theta), expected, rtol=1e-10)


def test_rosenfeld_as_printed_with_an_imaginary_unit():
    t = D**-0.6 + 0.5 * N**-0.4 + 1e-4
    expected = 0.9 * np.abs(t / (t - 5e-3j))
    np.testing.assert_allclose(
        value("rosenfeld", (N, D), (0.9, 0.5, 1e-4, 5e-3, 0.6, 0.4)), expected, rtol=1e-10
    )


@pytest.mark.parametrize("alpha", [1e-3, 0.3, 1.0, 2.5, 10.0])
def test_m4_is_the_root_of_its_formula(alpha):
    e, h, beta, c = 0.1, 0.8, 20.0, 0.5
    y = value("m4", X, (e, h, beta, c, alpha))
    assert ((y > e) & (y <= e + h)).all()
    inside = y < e + h - 1e-9  # nearer to random guessing the difference has too few digits
    assert inside.sum() > 15
    left = (y[inside] - e) / (e + h - y[inside]) ** alpha
    np.testing.assert_allclose(left, beta * X[inside] ** -c, rtol=1e-5)


def test_m4_without_an_upper_level_is_a_power_law_with_floor():
    np.testing.assert_allclose(
        value("m4", X, (0.1, 1e9, 20, 0.5, 1e-3)) - 0.1, 20 * X**-0.5 * 1e9**1e-3, rtol=1e-6
    )


ADDITION_X = np.array([160, 192, 256, 320, 384, 448, 480, 512, 544, 576, 608, 640, 672, 736, 800, 864, 928.0])
ADDITION_Y = np.array(
    [
        *(2.13809046, 2.11813418, 2.08955508, 2.06988398, 2.05404987, 2.03837089, 2.02814281, 2.00496872),
        *(1.95576149, 1.86313841, 1.70891537, 1.50637664, 1.29754721, 0.96559684),
        *(0.75856477, 0.64768338, 0.55695445),
    ]
)
"""Four-digit addition, figure 4 (left) of Caballero et al. 2023: 14 points to fit, three to predict."""


def addition_rmsle(predict):
    residual = np.log(predict(ADDITION_X)) - np.log(ADDITION_Y)
    return np.sqrt(np.mean(residual[:14] ** 2)), np.sqrt(np.mean(residual[14:] ** 2))


def test_broken_power_law_on_addition():
    """The authors' own fit leaves 5.985e-4 and predicts within .010916 (they minimise in ln(y + 1))."""
    printed = (0.41389, 2.27727, 0.05508, 5.66291, 612.58, 0.05919)
    train, test = addition_rmsle(lambda x: value("broken_power_1", x, printed))
    assert (train, test) == (pytest.approx(5.985e-4, rel=1e-3), pytest.approx(0.010916, rel=1e-3))
    for delta in (None, 10.0):
        found = fit("broken_power_1", ADDITION_X[:14], ADDITION_Y[:14], huber_delta=delta)
        train, test = addition_rmsle(found.predict)
        assert train <= 5.985e-4 * 1.001
        assert test == pytest.approx(0.010916, rel=0.03)
        np.testing.assert_allclose(found.theta, printed, rtol=0.01)


def test_power_law_with_floor_on_addition():
    """It misses: .159 and .729 were reached with an irreducible error below zero; .168 and .805 with none."""
    found = fit("power_floor", ADDITION_X[:14], ADDITION_Y[:14], huber_delta=10.0)
    assert found.parameters["E"] < 1e-6
    slope, level = np.polyfit(np.log(ADDITION_X[:14]), np.log(ADDITION_Y[:14]), 1)
    reference = addition_rmsle(lambda x: np.exp(level + slope * np.log(x)))
    assert addition_rmsle(found.predict) == pytest.approx(reference, rel=1e-5)
    assert reference == pytest.approx((0.1681, 0.8054), rel=1e-3)

    def free(theta):  # E + A x^-alpha as alpha -> 0 and E -> -infinity: a line in ln x
        return np.log(theta[0] - theta[1] * np.log(ADDITION_X)) - np.log(ADDITION_Y)

    line = least_squares(lambda theta: free(theta)[:14], [6.0, 0.7]).x
    assert addition_rmsle(lambda x: line[0] - line[1] * np.log(x)) == pytest.approx((0.159, 0.729), rel=3e-3)


@pytest.mark.parametrize(
    ("constants", "error"),
    [
        ((0.9, 5.87e-2, 7.14e-14, 19.77, 0.66, 0.53), 0.048),  # CIFAR-10
        ((0.999, 0.76, 3.63, 18.50, 0.75, 0.61), 0.279),  # ImageNet
        ((0.99, 0.15, 0.71, 6.93, 0.70, 0.51), 0.257),  # CIFAR-100
    ],
)
def test_rosenfeld_constants_at_full_model_and_data(constants, error):
    """Rosenfeld et al. 2020, with N and D as shares of the full ones."""
    assert value("rosenfeld", [[1.0], [1.0]], constants)[0] == pytest.approx(error, abs=1e-3)
    assert value("rosenfeld", [[1e-12], [1e-12]], constants)[0] == pytest.approx(constants[0], rel=1e-3)


def test_kaplan_loss_of_a_billion_parameters():
    """Kaplan et al. 2020: `(Nc / N)^.076`; Nc is 8.8e13 in equation 1.1, 6.4e13 in the joint law."""
    alone = value("kaplan", [[1e9], [1e300]], (8.8e13, 5.4e13, 0.076, 0.095))[0]
    assert alone == pytest.approx(2.376, abs=5e-4)
    assert value("power", [1e9], (8.8e13**0.076, 0.076))[0] == pytest.approx(2.376, abs=5e-4)
    joint = value("kaplan", [[1e9], [1e300]], (6.4e13, 1.8e13, 0.076, 0.103))[0]
    assert joint == pytest.approx(6.4e4**0.076)
    data_alone = value("kaplan", [[1e300], [1e10]], (6.4e13, 5.4e13, 0.076, 0.095))[0]
    assert data_alone == pytest.approx(5.4e3**0.095)


MUENNIGHOFF = (1.87, 521.0, 1488.0, 0.3526596, 0.3526596, 15.387756, 5.309743)


@pytest.mark.parametrize(("epochs", "worth"), [(1, 1.0), (4, 3.73), (40, 15.2), (1e9, 16.387756)])
def test_repeated_data_is_worth_what_was_published(epochs, worth):
    """Muennighoff et al. 2023: four epochs count .93 of as much new data; no number of them over 16.4."""
    unique, size = 1e9, 1e6  # below the optimal size, so that no parameter is in excess
    e, a, b, alpha, beta, *_ = MUENNIGHOFF
    loss = value("repeated_data", [[size], [unique * epochs], [unique]], MUENNIGHOFF)[0]
    by_data = (loss - e - a * size**-alpha) / b
    assert by_data ** (-1 / beta) / unique == pytest.approx(worth, rel=3e-3)
    assert epochs != 4 or by_data ** (-1 / beta) / (4 * unique) == pytest.approx(0.93, abs=5e-3)


def test_excess_parameters_are_worth_ever_less():
    """The same paper: N' = U_N (1 + R_N (1 - exp(-(N / U_N - 1) / R_N)))."""
    e, a, b, alpha, beta, _, r_n = MUENNIGHOFF
    unique = 1e9
    g = (alpha * a / (beta * b)) ** (1 / (alpha + beta))
    optimum = (unique * g) ** (beta / alpha) * g
    for times in (0.5, 1.0, 3.0, 50.0):
        excess = max(times - 1, 0)
        effective = min(times, 1) * optimum * (1 + r_n * (1 - np.exp(-excess / r_n)))
        expected = e + a * effective**-alpha + b * unique**-beta
        found = value("repeated_data", [[times * optimum], [unique], [unique]], MUENNIGHOFF)[0]
        assert found == pytest.approx(expected, rel=1e-12)


def test_new_data_and_small_models_follow_chinchilla():
    x = np.stack([np.full(5, 1e6), D[::5], D[::5]])
    np.testing.assert_allclose(
        value("repeated_data", x, MUENNIGHOFF), value("chinchilla", x[:2], MUENNIGHOFF[:5]), rtol=1e-12
    )


def test_pruning_limits():
    """Rosenfeld et al. 2021: the unpruned error at d = 1, the upper one as d goes to 0, gamma between."""
    theta = (0.06, 12.0, 0.8, 1e-6)
    assert value("pruning", [1.0], theta)[0] == pytest.approx(0.06, rel=1e-6)
    assert value("pruning", [1e-30], theta)[0] == pytest.approx(12 * 0.06, rel=1e-6)
    wide = (0.06, 1e8, 0.8, 1e-12)
    first, second = value("pruning", [1e-7, 2e-7], wide)
    assert np.log(first / second) / np.log(2) == pytest.approx(0.8, rel=1e-3)


@pytest.mark.parametrize(
    ("alpha", "beta_g", "current", "target", "scale"),
    [(13.0, 0.066, 768e6, 2.48, 104), (3.06, 0.128, 130e6, 0.12, 750), (15.0, 0.309, 1.3e6, 0.05, 80)],
)
def test_data_needed_for_a_target(alpha, beta_g, current, target, scale):
    """Hestness, Ardalani and Diamos 2019, table 1: words, translation, images."""
    law, theta = LAWS["power"], np.array([alpha, beta_g])
    needed = law.inverse(np.array([target]), theta)[0]
    assert needed == pytest.approx((alpha / target) ** (1 / beta_g), rel=1e-9)
    assert needed / current == pytest.approx(scale, rel=0.005)


@pytest.mark.parametrize(
    ("data", "beta_p", "scale"),
    [(100, 0.68, 22.9), (971, 0.89, 456), (750, 0.68, 90.2), (33, 0.54, 6.61), (81, 0.57, 12.2)],
)
def test_model_growth_of_the_same_table(data, beta_p, scale):
    now, then = value("model_growth", [1e6, data * 1e6], (1.0, beta_p))
    assert then / now == pytest.approx(scale, rel=5e-3)


def test_model_growth_in_parameters():
    """The same table: 9.4e-4 million parameters times samples^.68 make 23.7e9 for 76.8e9 words."""
    assert value("model_growth", [76.8e9], (9.4e-4 * 1e6, 0.68))[0] == pytest.approx(23.7e9, rel=0.005)


def test_inverse_undoes_every_monotone_law():
    theta = np.array([0.1, 0.8, 188.0, 0.7, 0.6])
    np.testing.assert_allclose(LAWS["m4"].inverse(value("m4", X[8:], theta), theta), X[8:], rtol=1e-6)
    np.testing.assert_allclose(LAWS["m4"].inverse(np.array([0.05, 0.95]), theta), [np.inf, 0.0])
    growth = np.array([100.0, 0.68])
    np.testing.assert_allclose(LAWS["model_growth"].inverse(100 * X**0.68, growth), X, rtol=1e-9)
    joint = np.array([1.7, 400.0, 410.0, 0.34, 0.28])
    y = value("chinchilla", (N, D), joint)
    found = LAWS["chinchilla"].inverse(y, joint, axis=1, x=np.stack([N, np.ones_like(D)]))
    np.testing.assert_allclose(found, D, rtol=1e-6)
    with pytest.raises(ValueError, match=r"`x` with the law chinchilla, which has 2 axes: give the others"):
        LAWS["chinchilla"].inverse(y, joint)
    with pytest.raises(ValueError, match=r"monotone along x, got broken_power_1, which may rise and fall"):
        LAWS["broken_power_1"].inverse(np.ones(1), np.array(AS_PRINTED["broken_power_1"][1]))


def test_gadre_extrapolates_from_five_small_runs(published_curves):
    """Gadre et al. 2024: RedPajama, C4 loss, least squares: 7B within .73%, 1.4B within .71%."""
    with (published_curves / "gadre2024" / "runs.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["train_set"] == "rpj"]

    def column(name):
        return np.array([float(row[name]) for row in rows])

    x, loss = np.stack([column("N"), column("D_tokens")]), column("loss_c4_val")
    ratio = column("chinchilla_multiplier")
    small = ((x[0] < 5e8) & (ratio == 1)) | ((x[0] < 2e7) & (ratio == 16))
    large = np.array([row["name"] in ("rpj-open_lm_7b-1.0", "rpj-open_lm_1b-32.0") for row in rows])
    assert (small.sum(), large.sum()) == (5, 2)

    def predict(theta):
        return LAWS["gadre"].value(x / [[1e8], [1e9]], theta)

    solved = least_squares(lambda theta: (predict(theta) - loss)[small], [1.8, 1.0, 1.0, 0.14], xtol=1e-14)
    error = (predict(solved.x) / loss - 1)[large]
    assert sorted(error) == pytest.approx([0.0071, 0.0073], abs=6e-5)
    # on log residuals, weighted back to levels, our fit says the same to the first order
    found = fit("gadre", x[:, small], loss[small], weights=loss[small] ** 2, huber_delta=10.0)
    np.testing.assert_allclose(found.predict(x[:, large]) / loss[large] - 1, error, atol=2e-4)


def test_m4_forecasts_published_curves(published_curves):
    """Image curves of Alabdulmohsin et al. 2022: on held-out points as good as the authors' estimator."""
    folder = published_curves / "alabdulmohsin2022"
    with (folder / "m1_m4_recomputed.csv").open() as file:
        theirs = {
            (row["task"], row["model"]): float(row["rmsle"])
            for row in csv.DictReader(file)
            if row["estimator"] == "M4" and row["domain"] == "IC"
        }
    with (folder / "learning_curves.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["domain"] == "IC"]
    errors, floors = {}, []
    for curve in sorted(theirs):
        own = [row for row in rows if (row["task"], row["model"]) == curve]
        seen, loss, train = (
            np.array([float(row[name]) for row in own]) for name in ("seen", "loss", "train")
        )
        found = fit("m4", seen[train == 1], loss[train == 1])
        residual = np.log(found.predict(seen[train == 0])) - np.log(loss[train == 0])
        errors[curve] = np.sqrt(np.mean(residual**2))
        floors.append(found.parameters["E"] / loss[train == 1].min())
        assert np.isfinite(found.theta).all()
    assert np.mean(list(theirs.values())) == pytest.approx(0.0308, abs=5e-5)
    assert np.mean(list(errors.values())) < 1.05 * np.mean(list(theirs.values()))
    assert np.median(list(errors.values())) < 1.05 * np.median(list(theirs.values()))
    assert max(floors) < 1
