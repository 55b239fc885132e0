"""The family: exponents averaged at once, weights, forms that are judged, published suites."""

import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls

import foretrain
from foretrain.families import family, pairs
from foretrain.families import model as family_model
from foretrain.families.family import family_moments, model_family
from foretrain.laws.joint import EXPONENTS
from foretrain.status import FitStatus


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def columns(rows, *names):
    return [np.array([float(row[name]) for row in rows]) for name in names]


def law(n, d):
    return 1.7 + 400 * n**-0.34 + 400 * d**-0.28


def runs(sizes=4, points=10, noise=0.002, seed=0):
    n, d = (m.ravel() for m in np.meshgrid(np.geomspace(1e7, 3e8, sizes), np.geomspace(1e9, 3e10, points)))
    return n, d, law(n, d) * np.exp(np.random.default_rng(seed).normal(0, noise, n.size))


def average(n, d, y, w=None):
    w = np.ones_like(y) if w is None else w
    return pairs.average_pairs(np.stack([n / n.min(), d / d.min()]), y, w)


@pytest.mark.parametrize("seed", range(3))
def test_every_pair_is_solved_as_by_non_negative_least_squares(seed):
    rng = np.random.default_rng(seed)
    n, d, y = runs(noise=0.05, seed=seed)
    w = rng.uniform(0.1, 2.0, y.size)
    found = average(n, d, y, w / w.mean())
    for k in rng.choice(found.weights.size, 25, replace=False):
        alpha, beta = found.exponents[:, k]
        features = np.stack([np.ones_like(y), (n / n.min()) ** -alpha, (d / d.min()) ** -beta], axis=1)
        root = np.sqrt(w / w.mean())
        exact, left = nnls(features * (root / y)[:, None], root)
        np.testing.assert_allclose(features @ found.coefficients[k], features @ exact, rtol=1e-6)
        assert ((root * (features @ found.coefficients[k] / y - 1)) ** 2).sum() <= left**2 * (1 + 1e-6)


def test_moments_are_those_over_the_pairs():
    n, d, y = runs()
    found = average(n, d, y)
    x = np.array([[3.0, 50.0], [7.0, 90.0]])
    logs = np.log(
        found.coefficients[:, :1]
        + found.coefficients[:, 1:2] * x[0] ** -found.exponents[0][:, None]
        + found.coefficients[:, 2:] * x[1] ** -found.exponents[1][:, None]
    )
    mean, variance = found.log_moments(x)
    expected = np.average(logs, axis=0, weights=found.weights)
    np.testing.assert_allclose(mean, expected, rtol=1e-12)
    np.testing.assert_allclose(
        variance, np.average((logs - expected) ** 2, axis=0, weights=found.weights), rtol=1e-9
    )
    assert found.weights.sum() == pytest.approx(1.0)


def test_the_prior_is_a_density_of_the_mean_and_the_ratio():
    centre = pairs.log_prior(np.array(0.33), np.array(0.33))
    assert centre == 0.0
    wide = pairs.log_prior(np.array(0.33 * np.exp(0.5)), np.array(0.33 * np.exp(0.5)))
    apart = pairs.log_prior(np.array(0.33 * np.exp(0.15)), np.array(0.33 * np.exp(-0.15)))
    assert (wide, apart) == (pytest.approx(-0.5), pytest.approx(-0.5))


def test_the_prior_decides_only_what_the_points_do_not():
    """Exponents far from the usual are found where the points tell them."""
    n, d = (m.ravel() for m in np.meshgrid(np.geomspace(1e6, 1e9, 6), np.geomspace(1e8, 1e11, 8)))
    y = 0.2 + 30 * n**-0.3 + 3e7 * d**-0.8
    found = average(n, d, y)
    assert np.exp(found.weights @ np.log(found.exponents[1])) == pytest.approx(0.8, rel=0.1)
    one = average(n[:1], d[:1], y[:1])
    assert np.exp(one.weights @ np.log(one.exponents[1])) == pytest.approx(pairs.PRIOR_CENTRE, rel=0.15)


def only_the_likeliest(found):
    k = int(np.argmax(found.weights))
    rest = {
        name: getattr(found, name)[[k]] for name in ("coefficients", "gram", "norm", "by_run", "by_point")
    }
    return pairs.PairAverage(exponents=found.exponents[:, [k]], weights=np.ones(1), **rest)


@pytest.mark.parametrize(("between", "within"), [(1e-4, 0.0), (0.0, 1e-4), (1e-4, 2e-4)])
def test_what_the_coefficients_leave_open_is_the_variance_of_least_squares(between, within):
    """Reference: the covariance of weighted least squares, written out; points of a run share its luck."""
    n, d, y = runs(noise=0.0)
    w = (n / n.max()) ** 0.5 * (d / d.max())
    w /= w.mean()
    of_run = np.unique(n, return_inverse=True)[1]
    one = only_the_likeliest(
        pairs.average_pairs(np.stack([n / n.min(), d / d.min()]), y, w, of_run=of_run.astype(float))
    )
    alpha, beta = one.exponents[:, 0]

    def features(n, d):
        return np.stack([np.ones_like(n), n**-alpha, d**-beta], axis=1)

    relative = features(n / n.min(), d / d.min()) / y[:, None]
    # A run of ten points tells a level and a slope: as much as two independent points.
    noise = between**2 * (of_run[:, None] == of_run) + within**2 * 5 * np.eye(y.size)
    solve = np.linalg.inv(relative.T @ (w[:, None] * relative)) @ (w[:, None] * relative).T
    x = np.array([[100.0], [300.0]])
    at = features(*x)[0] / (features(*x)[0] @ one.coefficients[0])
    expected = at @ solve @ noise @ solve.T @ at
    assert one.coefficient_variance(x, between, within, 1e9)[0] == pytest.approx(expected, rel=1e-6)
    covariance = one.covariance(between, within, 1e9)[0] / one.norm[0][:, None] / one.norm[0]
    assert at @ covariance @ at == pytest.approx(expected, rel=1e-6)


def test_beforehand_no_term_is_larger_than_the_error():
    """One point tells nothing of three terms: each is left to vary by as much as the error itself."""
    one = only_the_likeliest(average(np.array([1e8]), np.array([1e9]), np.array([2.0])))
    covariance = one.covariance(1e-6, 0.0, 1.0)[0]
    values = np.linalg.eigvalsh(covariance)
    assert values[1:] == pytest.approx(1.0, rel=1e-3) and values[0] < 1e-3


@pytest.mark.parametrize(
    ("sizes", "low", "high"),
    [(60, 0.015, 0.026), (4, family_model.USUAL_NOISE, 2 * family_model.USUAL_NOISE)],
)
def test_the_noise_is_that_of_runs_and_of_points(sizes, low, high):
    """Many sizes: the .02 that was put in; four, near each of which the law passes: little but the usual."""
    rng = np.random.default_rng(0)
    n, d = (v.ravel() for v in np.meshgrid(np.geomspace(1e7, 1e9, sizes), np.geomspace(1e9, 3e10, 12)))
    of_run = np.unique(n, return_inverse=True)[1]
    y = law(n, d) * np.exp(0.02 * rng.normal(size=sizes)[of_run] + 0.003 * rng.normal(size=n.size))
    model = model_family(n, d, y)
    assert low <= model.between < high
    assert 0.0015 < model.within < 0.0036
    assert model.noise == pytest.approx(np.hypot(model.between, model.within))


@pytest.mark.parametrize(("sizes", "points", "least"), [(5, 1, 4.99), (4, 3, 10.0), (12, 4, 24.0)])
def test_as_many_points_count_as_the_law_needs(sizes, points, least):
    n, d, _ = runs(sizes, points)
    w, flat = family._weights(n, d, float(n.max()))
    assert w.sum() ** 2 / (w**2).sum() == pytest.approx(least, rel=2e-3)
    assert 0 <= flat < 1 and w.mean() == pytest.approx(1.0)


def test_many_points_of_a_curve_keep_their_weights():
    n, d = (m.ravel() for m in np.meshgrid([1e7, 2e7, 3e7], np.linspace(1e8, 1e10, 60)))
    w, flat = family._weights(n, d, 3e7)
    assert flat == 1.0
    np.testing.assert_allclose(w / w.max(), (n / 3e7) ** 2 * (d / 1e10) ** 2)


def test_smoothing_in_blocks_is_the_plain_average(monkeypatch):
    rng = np.random.default_rng(0)
    at, weight, values = rng.uniform(0, 12, 900), rng.uniform(0, 1, 900), rng.normal(size=900)
    at = np.where((at > 4) & (at < 7), 2.0, at)  # a gap of 20 bandwidths
    log_d = np.sort(rng.uniform(-1, 13, 300))
    blocks = family_model._smooth(log_d, at, weight, values)
    monkeypatch.setattr(family_model, "WHOLE", 10**9)
    np.testing.assert_allclose(blocks, family_model._smooth(log_d, at, weight, values), atol=1e-9)


def test_presence_is_the_distance_to_each_sizes_nearest_point():
    n, d, y = runs()
    model = model_family(n, d, y)
    log_d = np.linspace(-1, 5, 40)
    at, of_size = model.shared[0], model.shared[3]
    for row, size in zip(model.presence(log_d), np.unique(of_size), strict=True):
        gap = np.abs(log_d[:, None] - at[of_size == size]).min(axis=1)
        np.testing.assert_allclose(row, np.exp(-0.5 * (gap / family_model.BANDWIDTH) ** 2), atol=1e-12)


def test_runs_that_were_never_measured_at_the_same_data_make_no_line():
    n = np.geomspace(1e7, 1e9, 5)
    model = model_family(n, 20 * n, law(n, 20 * n))
    _, share = model.straight(np.array([[5.0, 9.0], [2.0, 8.0]]))
    assert (share < 1e-6).all()


def test_past_forecasts_judge_the_form():
    """Twelve sizes of a law with a floor: the line in ln N loses; of a pure power law, it does not."""
    n, d, y = runs(sizes=12, noise=0.001)
    bare = 30 * n**-0.08 * d**-0.05
    assert model_family(n, d, y).line_odds < 0.1
    assert model_family(n, d, bare).line_odds > 0.5
    few = model_family(*runs(sizes=5))
    assert few.n_scores == 2 and few.line_odds == 1.0


def test_the_scale_is_that_of_students_t():
    n, d, y = runs()
    (mean, scale), _ = family_moments(n, d, y, np.array([1e9]), np.array([3e10]))
    told = foretrain.forecast_joint(n, d, y, 1e9, 3e10, levels=(0.9,))
    assert np.log(told.upper[0.9]) == pytest.approx(float(mean[0] + 2.015048 * scale[0]), rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.floats(1e-300, 1e300)] * 3), min_size=1, max_size=9))
def test_any_positive_points_give_finite_moments(points):
    n, d, y = np.array(points).T
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        (mean, scale), _ = family_moments(n, d, y, n[:1] * 1.5 if n[0] < 1e299 else n[:1], d[:1])
    assert np.isfinite(mean).all() and np.isfinite(scale).all() and (scale > 0).all()


def gadre_split(folder, loss):
    rows = rows_of(folder / "gadre2024" / "runs.csv")
    sizes = sorted({float(row["N"]) for row in rows})
    asked = {(sizes[k], 1.0) for k in range(4)} | {(sizes[0], 16.0)}
    far = {(sizes[4], 32.0), (sizes[5], 1.0)}

    def those(keys):
        return [row for row in rows if (float(row["N"]), float(row["chinchilla_multiplier"])) in keys]

    return [columns(those(keys), "N", "D_tokens", loss) for keys in (asked, far)]


def test_another_run_of_a_known_size_lies_in_its_interval_as_often_as_is_said():
    """Twelve points of one run are not twelve runs: 60 studies, and another run of the largest size."""
    inside = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        n, d = (v.ravel() for v in np.meshgrid(np.geomspace(1e7, 3e8, 5), np.geomspace(1e9, 3e10, 12)))
        lucky = 0.005 * rng.normal(size=6)
        y = law(n, d) * np.exp(lucky[np.unique(n, return_inverse=True)[1]])
        again = law(n.max(), d.max()) * np.exp(lucky[5])
        told = foretrain.forecast_joint(n, d, y, n.max(), d.max())
        inside.append(told.lower[0.9] < again < told.upper[0.9])
    assert 0.8 < np.mean(inside) < 0.98


@pytest.mark.parametrize(("sizes", "points", "counts"), [(3, 12, True), (4, 1, True), (4, 12, False)])
def test_distance_counts_until_a_family_has_tested_the_law_on_itself(sizes, points, counts):
    """None of three sizes has three smaller ones to forecast it; points as few as parameters test nothing."""
    n, d = (v.ravel() for v in np.meshgrid(np.geomspace(1e7, 3e8, sizes), np.geomspace(1e9, 3e10, points)))
    d = d * (n / 1e7) ** 0.5
    y = law(n, d) * np.exp(0.004 * np.random.default_rng(3).normal(size=n.size))
    model = model_family(n, d, y)
    assert (model.drift > 0).tolist() == [counts, counts]


def test_gadre_from_five_small_runs(published_curves):
    """The runs that Gadre et al. 2024 fit, and those that they predict, within .71 % and .73 %."""
    (n, d, y), (at_n, at_d, at_y) = gadre_split(published_curves, "loss_c4_val")
    assert (len(y), len(at_y)) == (5, 2)
    told = foretrain.forecast_joint(n, d, y, at_n, at_d)
    np.testing.assert_allclose(told.median, at_y, rtol=0.01)
    assert (told.lower[0.9] <= at_y).all() and (at_y <= told.upper[0.9]).all()
    assert FitStatus.TOO_FEW_POINTS in told.reasons
    assert (np.log(told.upper[0.9] / told.lower[0.9]) < 0.2).all()


def test_larger_chinchilla_runs(published_curves):
    """Hoffmann et al. 2022, read by Besiroglu et al. 2024: fitted below each size, asked above it."""
    rows = [
        row
        for row in rows_of(published_curves / "epoch_chinchilla" / "chinchilla_runs.csv")
        if row["excluded_outlier"] == "0"
    ]
    n, d, y = columns(rows, "N", "D", "loss")
    assert y.size == 240
    for cut in (5e8, 1e9, 2e9):
        small = n < cut
        told = foretrain.forecast_joint(n[small], d[small], y[small], n[~small], d[~small])
        off = np.log(told.median / y[~small])
        assert np.sqrt(np.mean(off**2)) < 0.015
        inside = (told.lower[0.9] <= y[~small]) & (y[~small] <= told.upper[0.9])
        assert inside.mean() >= 0.85


def test_two_sizes_of_the_olmo_ladder(published_curves):
    """Bhagia et al. 2024: all losses of 370M at its longest, from its shorter finals and those of 190M."""
    last = {row["run"]: row for row in rows_of(published_curves / "olmo_ladder" / "val_loss_curves.csv")}
    losses = [name for name in last["370M-10xC"] if name.startswith("loss_")]
    known = [f"{size}-{k}xC" for size in ("190M", "370M") for k in ("0.5", "1", "2", "5")] + ["190M-10xC"]
    assert len(losses) == 11
    for loss in losses:
        n, d, y = columns([last[run] for run in known], "N", "tokens", loss)
        (at_n,), (at_d,), (at_y,) = columns([last["370M-10xC"]], "N", "tokens", loss)
        told = foretrain.forecast_joint(n, d, y, at_n, at_d)
        assert told.status is FitStatus.TOO_FEW_SIZES
        assert told.lower[0.9] <= at_y <= told.upper[0.9]
        assert float(told.median) == pytest.approx(at_y, rel=0.02)


def test_the_grid_is_that_of_the_law():
    assert EXPONENTS.size == 28 and set(np.unique(average(*runs()).exponents)) <= set(EXPONENTS)


def test_many_sizes_are_taken_together_without_moving_the_law():
    rng = np.random.default_rng(0)
    n = np.repeat(1e7 * 2 ** rng.uniform(0, 8, 400), 3)
    d = np.tile([1e9, 4e9, 1.6e10], 400)
    y = 1.8 + 480 * n**-0.35 + 2100 * d**-0.37
    grouped = family_model.size_groups(n)
    assert np.unique(grouped).size <= 256 < np.unique(n).size
    assert np.abs(np.log(grouped / n)).max() < np.log(n.max() / n.min()) / 256
    few = n[:300]
    assert (family_model.size_groups(few) == few).all()
    at = foretrain.forecast_joint(n, d, y, 1e10, 1e11)
    assert float(at.median) == pytest.approx(1.8 + 480 * 1e10**-0.35 + 2100 * 1e11**-0.37, rel=0.01)
