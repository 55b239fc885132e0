"""Resampled fits against scipy's least squares and L-BFGS-B from many starts, one resample at a time."""

import csv
import warnings

import numpy as np
import pytest
from scipy.optimize import least_squares, minimize, nnls

from foretrain.laws import LAWS
from foretrain.resampling import KINDS, resample_curve, resample_joint
from foretrain.resampling.curve import Moments, carry, solve

X = np.geomspace(1e3, 1e6, 30)
Y = (0.5 + 30 * X**-0.4) * np.exp(np.random.default_rng(0).normal(0, 0.01, 30))


@pytest.fixture(autouse=True)
def no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def relative_rss(theta, x, y, w):
    return float((w * ((theta[0] + theta[1] * x ** -theta[2]) / y - 1) ** 2).sum())


def reference_fit(x, y, w, starts=7):
    """The best of scipy's bounded least squares from several exponents, E and A found by NNLS."""
    x_unit, y_unit = x.min(), np.exp(np.mean(np.log(y)))
    u, v, root = x / x_unit, y / y_unit, np.sqrt(w)

    def residuals(theta):
        return root * ((theta[0] + theta[1] * u ** -theta[2]) / v - 1)

    def jacobian(theta):
        power = u ** -theta[2]
        return (root / v)[:, None] * np.stack([np.ones_like(u), power, -theta[1] * np.log(u) * power], axis=1)

    best = None
    for alpha in np.geomspace(0.02, 2.5, starts):
        features = (root / v)[:, None] * np.stack([np.ones_like(u), u**-alpha], axis=1)
        e, a = nnls(features, root)[0]
        found = least_squares(
            residuals,
            [max(e, 1e-6), max(a, 1e-6), alpha],
            jac=jacobian,
            bounds=([0, 0, 0.01], [np.inf, np.inf, 3]),
            x_scale="jac",
            ftol=1e-15,
            xtol=1e-15,
            gtol=1e-15,
            max_nfev=500,
        )
        if best is None or found.cost < best.cost:
            best = found
    e, a, alpha = best.x
    return np.array([y_unit * e, y_unit * a * x_unit**alpha, alpha])


def curve(case, n):
    rng = np.random.default_rng(7)
    x, truth, noise = {
        "usual": (np.geomspace(1e3, 1e6, n), lambda x: 0.5 + 30 * x**-0.4, 0.01),
        "one decade, 2 % noise": (np.geomspace(1e3, 1e4, n), lambda x: 0.5 + 30 * x**-0.4, 0.02),
        "no floor": (np.geomspace(1e3, 1e6, n), lambda x: 30 * x**-0.3, 0.02),
        "alpha at its lower bound": (np.geomspace(1e3, 1e5, n), lambda x: 0.5 - 0.002 * np.log(x), 0.0005),
        "alpha at its upper bound": (np.geomspace(10, 1e3, n), lambda x: 0.5 + 300 * x**-3.3, 0.01),
        "twelve decades": (np.geomspace(1, 1e12, n), lambda x: 0.5 + 3 * x**-0.1, 0.001),
    }[case]
    return x, truth(x) * np.exp(rng.normal(0, noise, n))


def resampled(result, x, y, kind, seed, some):
    """The first resamples as data, rebuilt as the documentation of `resample_curve` tells."""
    n = x.size
    index = np.random.default_rng(seed).integers(0, n, (some, n))
    if kind == "pairs":
        return [(x[i], y[i]) for i in index]
    fitted = result.theta[0] + result.theta[1] * x ** -result.theta[2]
    residual = np.log(y / fitted)
    residual = (residual - residual.mean()) * np.sqrt(n / (n - 3))
    return [(x, fitted * np.exp(residual[i])) for i in index]


CASES = [
    *(("usual", n, kind) for n in (20, 100, 1000) for kind in ("residual", "pairs")),
    *(("one decade, 2 % noise", n, "residual") for n in (20, 100, 1000)),
    ("one decade, 2 % noise", 20, "pairs"),
    *(("no floor", n, "residual") for n in (20, 100, 1000)),
    *(("alpha at its lower bound", n, "pairs") for n in (20, 100)),
    *(("alpha at its upper bound", n, "residual") for n in (20, 100)),
    *(("twelve decades", n, "pairs") for n in (20, 100)),
]


@pytest.mark.parametrize(("case", "n", "kind"), CASES)
def test_fit_and_resamples_agree_with_scipy(case, n, kind):
    """1e-6 of each parameter; of the mean error for an E below 1 % of it, where scipy stops, too."""
    x, y = curve(case, n)
    some = 12 if n < 1000 else 4
    result = resample_curve(x, y, kind=kind, seed=5, n_resamples=50)
    data = [(x, y), *resampled(result, x, y, kind, 5, some)]
    for theta, (xs, ys) in zip([result.theta, *result.draws], data, strict=False):
        reference = reference_fit(xs, ys, np.ones(n))
        tolerance = 1e-6 * np.maximum(np.abs(reference), [1e-2 * ys.mean(), 0, 0])
        assert (np.abs(theta - reference) <= tolerance).all(), (theta, reference)
        assert relative_rss(theta, xs, ys, 1) <= relative_rss(reference, xs, ys, 1) * (1 + 1e-11)


def test_the_cases_press_on_the_bounds_they_name():
    assert (resample_curve(*curve("no floor", 100)).draws[:, 0] == 0).mean() > 0.1
    assert (resample_curve(*curve("alpha at its lower bound", 100)).draws[:, 2] == 0.01).mean() > 0.1
    assert (resample_curve(*curve("alpha at its upper bound", 100)).draws[:, 2] == 3.0).mean() > 0.1


def test_weights_count():
    w = np.linspace(0.2, 3, X.size)
    result = resample_curve(X, Y, weights=w, kind="pairs", seed=1, n_resamples=20)
    np.testing.assert_allclose(result.theta, reference_fit(X, Y, w), rtol=1e-6)
    index = np.random.default_rng(1).integers(0, X.size, (20, X.size))
    for theta, i in zip(result.draws[:5], index, strict=False):
        np.testing.assert_allclose(theta, reference_fit(X[i], Y[i], w[i]), rtol=1e-6)
    np.testing.assert_allclose(
        result.draws, resample_curve(X, Y, weights=7 * w, kind="pairs", seed=1, n_resamples=20).draws
    )


def test_blocks_are_runs_of_neighbouring_residuals():
    result = resample_curve(X, Y, kind="block", block=4, seed=3, n_resamples=10)
    starts = np.random.default_rng(3).integers(0, 30 - 4 + 1, (10, 8))
    fitted = result.theta[0] + result.theta[1] * X ** -result.theta[2]
    residual = np.log(Y / fitted)
    residual = (residual - residual.mean()) * np.sqrt(30 / 27)
    for theta, start in zip(result.draws, starts, strict=True):
        index = np.concatenate([np.arange(k, k + 4) for k in start])[:30]
        reference = reference_fit(X, fitted * np.exp(residual[index]), np.ones(30))
        np.testing.assert_allclose(theta, reference, rtol=1e-6)


def test_blocks_keep_the_doubt_that_autocorrelated_noise_brings():
    """The known spread of the exponent over 300 curves, noise an AR(1) with correlation .8."""
    rng, x = np.random.default_rng(11), np.geomspace(1e3, 1e6, 200)
    noise = np.zeros((300, 200))
    for k in range(1, 200):
        noise[:, k] = 0.8 * noise[:, k - 1] + rng.normal(0, 0.01, 300)
    y = (0.5 + 30 * x**-0.4) * np.exp(noise)
    spread = np.std([resample_curve(x, one, n_resamples=1).theta[2] for one in y])
    told = {
        kind: np.median(
            [
                resample_curve(x, one, kind=kind, block=block, n_resamples=200).draws[:, 2].std()
                for one in y[:40]
            ]
        )
        for kind, block in (("residual", None), ("block", 20))
    }
    assert told["residual"] < 0.5 * spread
    assert told["block"] > 0.7 * spread


def test_spread_of_the_resamples_is_that_of_new_curves():
    x = np.geomspace(1e3, 1e6, 60)
    truth = 0.5 + 30 * x**-0.4
    new = np.random.default_rng(2).normal(0, 0.005, (400, 60))
    fitted = np.array([resample_curve(x, truth * np.exp(e), n_resamples=1).theta for e in new])
    for kind in ("residual", "pairs"):
        told = np.median(
            [
                resample_curve(x, truth * np.exp(e), kind=kind, n_resamples=300).draws.std(axis=0)
                for e in new[:40]
            ],
            axis=0,
        )
        np.testing.assert_allclose(told, fitted.std(axis=0), rtol=0.25)


def test_order_of_the_points_does_not_matter_to_the_fit():
    order = np.random.default_rng(4).permutation(X.size)
    np.testing.assert_allclose(
        resample_curve(X[order], Y[order]).draws, resample_curve(X, Y).draws, rtol=1e-9
    )


def test_units_do_not_matter():
    in_units, in_millions = resample_curve(X, Y), resample_curve(X / 1e6, 1e9 * Y)
    np.testing.assert_allclose(in_millions.draws[:, 2], in_units.draws[:, 2], rtol=1e-8)
    np.testing.assert_allclose(in_millions.draws[:, 0], 1e9 * in_units.draws[:, 0], rtol=1e-8)


def test_a_rising_or_constant_curve_has_no_power_law():
    for y in (np.linspace(1, 2, 30), np.full(30, 0.7)):
        result = resample_curve(X, y, kind="pairs", n_resamples=30)
        assert np.isfinite(result.draws).all()
        constant = (1 / y).sum() / (1 / y**2).sum()  # the least-squares constant of relative residuals
        assert result.theta[0] + result.theta[1] * X[0] ** -result.theta[2] == pytest.approx(constant)
        assert result.theta[1] == pytest.approx(0.0, abs=1e-12)


def test_exact_curve_gives_back_its_law():
    result = resample_curve(X, 0.5 + 30 * X**-0.4)
    np.testing.assert_allclose(result.draws, np.tile([0.5, 30, 0.4], (1000, 1)), rtol=1e-9)


@pytest.mark.parametrize("top", [0.5, 3.0, 14.0, 60.0])
def test_carried_sums_are_the_sums(top):
    t = np.concatenate([[0.0, top], np.random.default_rng(1).uniform(0, top, 500)])
    nodes, carried = carry(t)
    weights = np.random.default_rng(2).uniform(0.5, 2, t.size)
    assert nodes.size < t.size
    for a in np.geomspace(0.01, 6.0, 50):
        assert (weights @ carried) @ np.exp(-a * nodes) == pytest.approx(
            weights @ np.exp(-a * t), abs=1e-13 * weights.sum()
        )


def test_the_better_of_two_valleys_is_found():
    """One point at the left far above: a steep law through it, and a shallow one through all."""
    x = np.geomspace(1, 1e4, 25)
    y = 1.0 + 0.3 * x**-0.15
    for bump in (1.02, 1.04, 1.06, 1.1, 1.3):
        bumped = y * np.where(x == 1, bump, 1)
        theta = resample_curve(x, bumped, n_resamples=1).theta
        reference = reference_fit(x, bumped, np.ones(25), starts=15)
        np.testing.assert_allclose(theta, reference, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides(kind):
    first, second = (resample_curve(X, Y, kind=kind, seed=9) for _ in range(2))
    np.testing.assert_array_equal(first.draws, second.draws)
    assert (first.draws != resample_curve(X, Y, kind=kind, seed=10).draws).any()


def test_global_random_state_is_left_alone():
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    resample_curve(X, Y)
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002


def test_quantiles_are_those_of_the_law_over_the_draws():
    result = resample_curve(X, Y, n_resamples=200)
    at = np.array([1e4, 1e7, 1e9])
    e, a, alpha = result.draws.T
    y = e[:, None] + a[:, None] * at ** -alpha[:, None]
    np.testing.assert_allclose(
        result.quantiles(at, [0.05, 0.5]), np.quantile(y, [0.05, 0.5], axis=0), rtol=1e-9
    )
    low, high = result.intervals(0.9)["alpha"]
    assert (low, high) == pytest.approx(tuple(np.quantile(alpha, [0.05, 0.95])))


def huber_reference(t, s, log_y, counts, delta=1e-3):
    """The objective's minimum by L-BFGS-B from a part of Hoffmann's starts, natural logs of E, A and B."""

    def objective(q):
        e, by_size, by_data = np.exp(q[0]), np.exp(q[1] - q[3] * t), np.exp(q[2] - q[4] * s)
        f = e + by_size + by_data
        r = np.log(f) - log_y
        psi = np.clip(r, -delta, delta)
        pull = counts * psi / f
        value = (counts * np.abs(psi) * (np.abs(r) - np.abs(psi) / 2)).sum()
        slope = [pull.sum() * e, pull @ by_size, pull @ by_data, -(pull * t) @ by_size, -(pull * s) @ by_data]
        return 1e3 * value, 1e3 * np.array(slope)

    found = [
        minimize(objective, [e, -1, -1, alpha, beta], jac=True, method="L-BFGS-B", options=OPTIONS)
        for e in (-0.5, 0.5)
        for alpha in (0.25, 0.5)
        for beta in (0.25, 0.5)
    ]
    return min(one.fun for one in found) / 1e3


OPTIONS = {"maxiter": 3000, "maxfun": 5000, "ftol": 1e-15, "gtol": 1e-12, "maxcor": 30}


def huber_objective(theta, n, d, y, counts, delta=1e-3):
    e, a, b, alpha, beta = theta
    r = np.abs(np.log(e + a * n**-alpha + b * d**-beta) - np.log(y))
    return float((counts * np.where(r <= delta, r**2 / 2, delta * (r - delta / 2))).sum())


@pytest.fixture(scope="module")
def runs():
    rng = np.random.default_rng(8)
    n, d = (
        np.exp(rng.uniform(np.log(5e7), np.log(1e10), 80)),
        np.exp(rng.uniform(np.log(1e9), np.log(5e11), 80)),
    )
    y = (1.8 + 480 * n**-0.35 + 2100 * d**-0.37) * np.exp(0.004 * rng.standard_t(3, 80))
    return n, d, y


@pytest.fixture(scope="module")
def chinchilla_runs(published_curves):
    with (published_curves / "epoch_chinchilla" / "chinchilla_runs.csv").open() as file:
        rows = sorted(csv.DictReader(file), key=lambda row: float(row["loss"]))[:-5]
    return tuple(np.array([float(row[name]) for row in rows]) for name in ("N", "D", "loss"))


def excesses(result, n, d, y, seed, some):
    """By how much the objective of the fit and of some resamples exceeds the reference's, relatively."""
    index = np.random.default_rng(seed).integers(0, y.size, (len(result.draws), y.size))
    counts = [np.ones(y.size), *(np.bincount(i, minlength=y.size) for i in index[:some])]
    t, s = np.log(n) - np.log(n).mean(), np.log(d) - np.log(d).mean()
    return np.array(
        [
            huber_objective(theta, n, d, y, c) / huber_reference(t, s, np.log(y), c) - 1
            for theta, c in zip([result.theta, *result.draws], counts, strict=False)
        ]
    )


def test_joint_resamples_reach_the_minimum(runs):
    result = resample_joint(*runs, seed=6, n_resamples=100)
    assert (excesses(result, *runs, seed=6, some=10) < 1e-7).all()


def test_joint_optimum_of_the_published_runs(chinchilla_runs):
    """Besiroglu et al. 2024, arXiv:2404.10102: the objective's exact minimum and their 95 % intervals."""
    result = resample_joint(*chinchilla_runs)
    assert huber_objective(result.theta, *chinchilla_runs, 1) == pytest.approx(0.0010182740, rel=1e-7)
    np.testing.assert_allclose(result.theta, [1.81722, 477.83, 2143.42, 0.34731, 0.36717], rtol=2e-5)
    published = {
        "E": (1.769, 1.871),
        "alpha": (0.317, 0.373),
        "beta": (0.331, 0.415),
        "A": (285, 744),
        "B": (1042, 5810),
    }
    intervals = result.intervals(0.95)
    for name, (low, high) in published.items():
        width = high - low
        assert intervals[name] == (pytest.approx(low, abs=0.1 * width), pytest.approx(high, abs=0.1 * width))
    assert (excesses(result, *chinchilla_runs, seed=0, some=4) < 1e-7).all()


def test_joint_resamples_do_not_depend_on_where_they_begin(chinchilla_runs):
    from foretrain.resampling.joint import Points, minimise

    n, d, y = chinchilla_runs
    counts = np.random.default_rng(0).multinomial(240, np.full(240, 1 / 240), 60).astype(float)
    points = Points(np.log(n) - np.log(n).mean(), np.log(d) - np.log(d).mean(), np.log(y), counts, 1e-3)
    near, far = (
        np.tile(start, (60, 1)) for start in ([1.8, 0.38, 0.38, 0.35, 0.37], [1.0, 1.0, 1.0, 0.7, 0.2])
    )
    np.testing.assert_allclose(minimise(points, near)[1], minimise(points, far)[1], rtol=1e-6)


def test_joint_bounds_hold_without_a_floor_or_without_size():
    rng = np.random.default_rng(1)
    n, d = np.exp(rng.uniform(16, 22, 60)), np.exp(rng.uniform(20, 26, 60))
    for truth in (480 * n**-0.35 + 2100 * d**-0.37, 1.5 + 2100 * d**-0.37):
        result = resample_joint(n, d, truth * np.exp(rng.normal(0, 0.01, 60)), n_resamples=100)
        lower = [p.lower for p in LAWS["chinchilla"].parameters]
        upper = [p.upper for p in LAWS["chinchilla"].parameters]
        assert np.isfinite(result.draws).all()
        assert ((result.draws >= lower) & (result.draws <= upper)).all()


def test_joint_seed_and_prediction(runs):
    first, second = (resample_joint(*runs, n_resamples=40, seed=2) for _ in range(2))
    np.testing.assert_array_equal(first.draws, second.draws)
    assert (first.draws != resample_joint(*runs, n_resamples=40, seed=3).draws).any()
    e, a, b, alpha, beta = first.draws.T
    y = e + a * 7e10**-alpha + b * 1.4e12**-beta
    told = first.quantiles([[7e10], [1.4e12]], [0.1, 0.9])
    np.testing.assert_allclose(told[:, 0], np.quantile(y, [0.1, 0.9]), rtol=1e-9)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x": -X}, r"Expected `x` to hold positive, finite numbers, got -1000.0 \(30 of 30 are not\)"),
        ({"y": np.where(X > 1e5, np.nan, Y)}, r"Expected `y` to hold positive, finite numbers, got nan"),
        ({"y": ["a"] * 30}, "Expected `y` to be an array of numbers"),
        ({"y": []}, "Expected `y` to hold positive, finite numbers, got none"),
        ({"y": Y[:-1]}, r"same length, got `x` of shape \(30,\), `y` of shape \(29,\)"),
        (
            {"weights": np.zeros(30)},
            r"Expected `weights` to hold positive, finite numbers, got 0.0 \(30 of 30",
        ),
        ({"weights": np.ones(3)}, r"same length, .*`weights` of shape \(3,\)"),
        ({"x": X[:4], "y": Y[:4]}, "Expected at least 5 points at 3 different x .* got 4 at 4: measure more"),
        ({"x": np.repeat([1.0, 2.0], 15)}, "Expected at least 5 points at 3 different x .* got 30 at 2"),
        ({"kind": "wild"}, "Expected `kind` to be one of residual, pairs, block, got 'wild'"),
        ({"n_resamples": 0}, "Expected `n_resamples` to be a whole number, at least 1, got 0"),
        ({"n_resamples": 2.5}, "Expected `n_resamples` to be a whole number, at least 1, got 2.5"),
        ({"seed": -1}, "Expected `seed` to be a whole number, at least 0, got -1"),
        ({"block": 3}, 'Expected `block` only with kind="block", got block=3'),
        (
            {"kind": "block", "block": 31},
            "Expected `block` to be a whole number from 1 to 30, the points, got 31",
        ),
    ],
)
def test_bad_input_is_told(changed, message):
    arguments = {"x": X, "y": Y, **changed}
    with pytest.raises(ValueError, match=message):
        resample_curve(arguments.pop("x"), arguments.pop("y"), **arguments)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"n": np.full(80, 1e8)},
            "Expected at least 7 runs of 3 different sizes .* got 80 of 1 and 80: train more",
        ),
        ({"d": -np.ones(80)}, "Expected `d` to hold positive, finite numbers, got -1.0"),
        ({"huber_delta": 0.0}, "Expected `huber_delta` to be a positive log residual, such as 1e-3, got 0.0"),
        ({"kind": "block"}, "Expected `kind` to be one of pairs, got 'block'"),
    ],
)
def test_bad_joint_input_is_told(runs, changed, message):
    arguments = {**dict(zip("ndy", runs, strict=True)), **changed}
    with pytest.raises(ValueError, match=message):
        resample_joint(**arguments)


def test_bad_questions_are_told(runs):
    result = resample_curve(X, Y, n_resamples=2)
    with pytest.raises(ValueError, match=r"Expected `levels` to hold numbers between 0 and 1, such as 0\.9"):
        result.quantiles([1e5], [0.5, 1.0])
    with pytest.raises(ValueError, match="Expected `level` to hold numbers between 0 and 1"):
        result.intervals(1.5)
    with pytest.raises(ValueError, match=r"Expected `x` to hold positive, finite numbers, got 0\.0"):
        result.quantiles([0.0], [0.5])
    with pytest.raises(
        ValueError, match=r"Expected `x` of shape \(2, n\) for the law chinchilla, got shape \(1,\)"
    ):
        resample_joint(*runs, n_resamples=2).quantiles([1e9], [0.5])


def test_an_error_that_falls_by_orders_of_magnitude_is_fitted_as_exactly():
    x = np.geomspace(1, 1e6, 150)
    y = x**-1.2 * np.exp(np.random.default_rng(5).normal(0, 0.02, 150))
    result = resample_curve(x, y, kind="pairs", n_resamples=10)
    index = np.random.default_rng(0).integers(0, 150, (10, 150))
    for theta, i in zip(result.draws[:4], index, strict=False):
        reference = reference_fit(x[i], y[i], np.ones(150))
        np.testing.assert_allclose(theta[1:], reference[1:], rtol=1e-6)
        assert relative_rss(theta, x[i], y[i], 1) <= relative_rss(reference, x[i], y[i], 1) * (1 + 1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_absurd_scales_stay_finite(kind):
    rng = np.random.default_rng(3)
    for scale in (1e-6, 1.0, 30.0, 300.0):
        x = np.exp(np.clip(rng.uniform(0, scale, 12) + rng.choice([0, -300, 300]), -690, 690))
        for y in (np.exp(rng.uniform(-600, 600, 12)), np.full(12, 1e-300), x / x.max() + 1e-9):
            result = resample_curve(x, y, kind=kind, n_resamples=30)
            assert np.isfinite(result.draws).all()
            assert np.isfinite(result.quantiles([x.max()], [0.1, 0.9])).all()


def test_absurd_scales_of_the_joint_law_stay_finite():
    rng = np.random.default_rng(4)
    for scale in (1e-6, 1.0, 300.0):
        n, d = np.exp(rng.uniform(0, scale, (2, 12)) + 200)
        for y in (np.exp(rng.uniform(-600, 600, 12)), np.full(12, 1e-300)):
            assert np.isfinite(resample_joint(n, d, y, n_resamples=5).draws).all()


def test_degenerate_resamples_stay_finite():
    """Of five points many resamples hold one or two only."""
    result = resample_curve(X[:5], Y[:5], kind="pairs", n_resamples=2000)
    assert np.isfinite(result.draws).all()
    assert (result.draws[:, :2] >= 0).all()


def test_moments_of_one_point_give_a_constant():
    theta = solve(Moments.of(np.array([0.0]), np.array([[2.0]]), np.array([[4.0]]), carried=False))
    assert theta[0, :2] == pytest.approx([0.5, 0.0])
