"""The benchmarks' own arithmetic: how curves are cut, what the peers answer, how intervals are scored."""

import csv
import gzip
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import beta
from scipy.stats import t as student

BENCHMARKS = str(Path(__file__).parents[1] / "benchmarks")
sys.path.insert(0, BENCHMARKS)
try:
    import choose
    import curves
    import options
    import peers
    import scores
    import width_ways
    from peers import broken, hoffmann, m1_m4, packages
finally:
    sys.path.remove(BENCHMARKS)

X = np.geomspace(1e2, 1e4, 30)
AT = np.array([2e4, 1e5])

# Caballero et al. 2023 (arXiv:2210.14891), figure 4 left: loss of adding numbers of four digits.
ADDITION = np.array(
    [
        *((160, 2.13809046), (192, 2.11813418), (256, 2.08955508), (320, 2.06988398), (384, 2.05404987)),
        *((448, 2.03837089), (480, 2.02814281), (512, 2.00496872), (544, 1.95576149), (576, 1.86313841)),
        *((608, 1.70891537), (640, 1.50637664), (672, 1.29754721), (736, 0.96559684), (800, 0.75856477)),
        *((864, 0.64768338), (928, 0.55695445)),
    ]
).T


def write(path, header, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    opened = gzip.open(path, "wt") if path.suffix == ".gz" else path.open("w")
    with opened as file:
        csv.writer(file).writerows([header, *rows])


@pytest.fixture
def small_sets(tmp_path):
    """All four sets, in the form that they are published in, made up and small."""
    x = np.arange(1, 41)
    near = [("IC", "bird_5", "ViT", v, v**-0.3, int(v <= 20)) for v in x]
    repeated = [("IC", "bird_10", "ViT", v, v**-0.4, int(v <= 20)) for v in x for _ in range(2)]
    header = ("domain", "task", "model", "seen", "loss", "train")
    write(tmp_path / "alabdulmohsin2022" / "learning_curves.csv", header, [*near, *repeated])
    header = ("dataset", "learner", "n_train", "test", "test_se")
    falls = [(7, "falls", v, 0.5 * v**-0.5, 0.001) for v in x]
    flat = [(7, "flat", v, 0.5 - 1e-5 * v, 0.001) for v in x]
    late = [(7, "late", v, 0.5 if v <= 20 else 0.1, 0.001) for v in x]
    zero = [(7, "zero", v, 0.5 - v / 80, 0.001) for v in x]
    write(tmp_path / "lcdb11" / "curves.csv.gz", header, [*falls, *flat, *late, *zero])
    header = ("task", "x", "y", "context")
    rows = [("dd", v, 1 / v, int(v <= 20)) for v in x]
    write(tmp_path / "double_descent" / "curves.csv", header, rows)
    header = ("model_M", "schedule", "step", "loss")
    steps = range(10, 6010, 10)
    rows = [(25, s, v, 3 + v**-0.3) for s in ("constant_6000", "cosine_6000") for v in steps]
    write(tmp_path / "multipowerlaw" / "loss_curves.csv", header, rows)
    return tmp_path


def check_split(curve):
    assert curve.x_far.min() > curve.x.max()
    assert (np.diff(curve.x) > 0).all()
    assert curve.x.shape == curve.y.shape
    assert curve.x_far.shape == curve.y_far.shape
    assert curve.x.size >= curves.FEWEST
    assert curve.y.min() > 0
    assert curve.y_far.min() > 0


@pytest.mark.parametrize("horizon", [2, 4, 6])
def test_what_is_fitted_ends_before_what_is_scored(small_sets, horizon):
    loaded = curves.load(small_sets, horizon)
    domains = {curve.domain for curve in loaded}
    assert domains == {"IC", "LCDB", "constant rate"} | ({"double descent"} if horizon == 2 else set())
    for curve in loaded:
        check_split(curve)
        largest = {"constant rate": 6000}.get(curve.domain, 40)
        assert largest / (1.7 * horizon) < curve.x.max() <= largest / horizon


def test_longer_horizons_are_scored_on_the_same_points(small_sets):
    four, six = (curves.lcdb(small_sets, horizon)[0] for horizon in (4, 6))
    assert four.x_far.tolist() == six.x_far.tolist() == list(range(27, 41))
    assert four.x.tolist() == list(range(1, 11))
    assert four.y_se.tolist() == [0.001] * 10


def test_learners_are_chosen_by_the_fitted_points_alone(small_sets):
    assert [curve.name for curve in curves.lcdb(small_sets)] == ["7, falls"]


def test_the_authors_split_repeats_and_groups_are_kept(small_sets):
    ten, five = curves.alabdulmohsin(small_sets)
    assert five.x.tolist() == ten.x.tolist() == list(range(1, 21))
    assert ten.x_far.size == 2 * five.x_far.size == 40
    assert ten.group == five.group == "IC, bird, ViT"


def test_constant_rate_curves_are_thinned_alike(small_sets):
    (curve,) = curves.constant_rate(small_sets)
    assert curve.name == "25M, constant_6000"
    assert curve.x.size == 100
    assert set(np.diff(curve.x)) == set(np.diff(curve.x_far)) == {30}


def test_a_short_horizon_is_refused():
    with pytest.raises(ValueError, match=r"horizon of at least 1\.5, got 1\.2"):
        curves.cut(X, 1.2)


def test_an_empty_folder_is_refused_and_absent_sets_are_named(tmp_path, capsys):
    with pytest.raises(SystemExit, match="Expected at least one of alabdulmohsin2022, lcdb11"):
        curves.load(tmp_path)
    assert "no double_descent in" in capsys.readouterr().out


def test_thinning_takes_from_every_domain(small_sets):
    kept = options.thinned(curves.load(small_sets), 2)
    assert [curve.domain for curve in kept] == ["IC", "LCDB", "double descent", "constant rate"]


LAWS = {
    "M1": (m1_m4.m1, lambda x: 3 * x**-0.4),
    "M2": (m1_m4.m2, lambda x: 0.3 + 3 * x**-0.5),
    "M3": (m1_m4.m3, lambda x: 20 * (1 / x + 1 / X[20]) ** 0.6),
    "Huber": (hoffmann.huber, lambda x: 0.4 + 3 * x**-0.5),
    "BNSL, bounded": (broken.bounded, lambda x: 0.1 + x**-0.2 * (1 + (x / 2e3) ** 2) ** (-0.3 * 0.5)),
}


@pytest.mark.parametrize("name", LAWS)
def test_a_peer_continues_a_clean_curve_of_its_own_law(name):
    estimate, law = LAWS[name]
    assert estimate(X, law(X), AT) == pytest.approx(law(AT), rel=2e-3)


def test_m4_without_curvature_is_a_power_law_above_its_limit():
    # alpha = 0 is in the law, and b > 1 allowed: M4 must then do as M2 does.
    y = 0.3 + 3 * X**-0.5
    assert m1_m4.m4(X, y, AT, start=1.0, bound=1.0) == pytest.approx(m1_m4.m2(X, y, AT), rel=5e-3)


def released_steps(limits, y, a, log_f, project, *, newton):
    """The released loops, word for word: 1,000 gradient steps, or 100 damped Newton steps."""
    e, e0 = limits
    for _ in range(100 if newton else 1000):
        residual = np.log((y - e) / (e0 - y) ** a) - log_f
        grad_inf = -np.mean(residual / (y - e))
        grad_0 = -a * np.mean(residual / (e0 - y))
        if newton:
            h_inf = np.mean((1 - residual) / (y - e) ** 2)
            h_0 = a * np.mean((a + residual) / (e0 - y) ** 2)
            e -= 0.1 * grad_inf / h_inf if abs(h_inf) > 1e-5 else 0
            e0 -= 0.1 * grad_0 / h_0 if abs(h_0) > 1e-5 else 0
        else:
            e -= 1e-8 * grad_inf
            e0 -= 1e-8 * grad_0
        e, e0 = project((e, e0))
    return e, e0


@pytest.mark.parametrize("newton", [False, True])
@pytest.mark.parametrize("a", [0.0, 0.3])
@pytest.mark.parametrize("shift", [0.0, 1e-5, 0.02])
def test_m4_steps_end_where_the_released_loops_do(newton, a, shift):
    noise = 0.01 * np.random.default_rng(1).normal(size=X.size)
    y = (0.3 + 3 * X**-0.5) * np.exp(noise)
    log_f = np.log(y - 0.28) - a * np.log(1 - y) + noise + shift

    def project(limits):
        return min(max(limits[0], 0.0), y.min() - 1e-3), min(max(limits[1], y.max() + 1e-3), 1.001)

    run = m1_m4._newton if newton else m1_m4._flow
    start = (0.28, 1.0)
    released = released_steps(start, y, a, log_f, project, newton=newton)
    way = np.hypot(*np.subtract(released, start))
    assert way > 0
    assert np.hypot(*np.subtract(run(start, y, a, log_f, project), released)) < m1_m4.LINEAR * way


def test_the_broken_power_law_reaches_its_authors_figure():
    x, y = ADDITION
    for estimate in (broken.published, broken.bounded):
        error = scores.rmsle(estimate(x[:14], y[:14], x[14:]), y[14:])
        assert error == pytest.approx(0.010916, rel=0.05)  # the released script's


def test_the_released_estimators_are_reproduced(published_curves):
    with (published_curves / "alabdulmohsin2022" / "m1_m4_recomputed.csv").open() as file:
        told = {(r["domain"], f"{r['task']}, {r['model']}", r["estimator"]): r for r in csv.DictReader(file)}
    bounds = {"M1": 1e-9, "M2": 1e-5, "M3": 1e-9, "M4": 1e-5}
    for curve in curves.alabdulmohsin(published_curves)[::8]:
        for name, bound in bounds.items():
            released = float(told[curve.domain, curve.name, name]["rmsle"])
            assert scores.rmsle(peers.answer(name, curve).median, curve.y_far) == pytest.approx(
                released, abs=bound
            ), f"{name} on {curve.name}"


@pytest.mark.parametrize("horizon", [2, 4, 8])
def test_published_curves_are_cut_without_overlap(published_curves, horizon):
    loaded = curves.load(published_curves, horizon)
    for curve in loaded:
        check_split(curve)
    assert len({(curve.domain, curve.name) for curve in loaded}) == len(loaded)


def curve_of(y):
    return curves.Curve("LCDB", "g", "n", X, y, None, AT, np.array([0.1, 0.1]))


def test_a_peer_that_fails_is_replaced_by_the_last_value(monkeypatch):
    y = 3 * X**-0.4
    monkeypatch.setitem(peers.METHODS, "fails", lambda x, y, at: (np.array([np.nan, 0.2]), {}))
    said = peers.answer("fails", curve_of(y))
    assert said.failed
    assert said.median.tolist() == [y[-1], 0.2]


@pytest.mark.parametrize("name", ["foretrain", "curve_fit + bootstrap"])
def test_intervals_are_nested_around_the_median(name):
    y = (0.2 + 3 * X**-0.4) * np.exp(0.01 * np.random.default_rng(0).normal(size=X.size))
    said = peers.answer(name, curve_of(y))
    (low80, high80), (low90, high90) = said.intervals[0.8], said.intervals[0.9]
    assert not said.failed
    assert (low90 <= low80).all()
    assert (low80 < said.median).all()
    assert (said.median < high80).all()
    assert (high80 <= high90).all()


def test_a_package_that_is_absent_is_said_to_be(monkeypatch, capsys):
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    assert peers.installed(["foretrain", "simple-scaling-laws"]) == ["foretrain"]
    assert "simple-scaling-laws is not installed" in capsys.readouterr().out


def test_a_folder_of_packages_must_exist(tmp_path):
    with pytest.raises(SystemExit, match="--peers-path to be a folder"):
        packages.add_path(tmp_path / "none")


def test_the_interval_score_by_hand():
    # 90 %: width 2; outside by 0.5 below costs 2 / 0.1 * 0.5 = 10, above by 1 costs 20.
    truth = np.array([1.5, 0.5, 4.0, 1.0])
    score = scores.winkler(np.full(4, 1.0), np.full(4, 3.0), truth, 0.9)
    assert score == pytest.approx([2.0, 12.0, 22.0, 2.0])


def test_coverage_counts_ends():
    assert scores.coverage(np.zeros(4), np.ones(4), np.array([0.0, 1.0, 1.1, -0.1])) == 0.5


def test_rmsle_by_hand():
    assert scores.rmsle(np.array([np.e, 1.0]), np.array([1.0, 1.0])) == pytest.approx(np.sqrt(0.5))


def test_an_end_below_zero_is_floored():
    low, high = scores.log_ends(np.array([-1.0]), np.array([2.0]), np.array([1.0]))
    assert (low[0], high[0]) == (pytest.approx(np.log(1e-3)), pytest.approx(np.log(2)))


def test_ratios_are_of_means_and_leave_out_whole_groups():
    above, below = np.array([1.0, 3.0, 1.0, 3.0]), np.ones(4)
    assert scores.ratio_interval(above, below, ["a", "a", "b", "b"]) == (2.0, 2.0, 2.0)  # groups alike
    ratio, low, high = scores.ratio_interval(above, below, ["a", "b", "a", "b"])
    # Without one group the ratio is 3, without the other 1; of two groups the jackknife's factor is a half.
    half = student(1).ppf(0.975) * np.sqrt((np.log(3 / 2) ** 2 + np.log(1 / 2) ** 2) / 2)
    assert ratio == pytest.approx(2.0)
    assert np.log([low, high]) == pytest.approx([np.log(2) - half, np.log(2) + half])


def test_geometric_means_have_the_interval_of_student_where_groups_are_curves():
    logs = np.array([0.1, 0.4, -0.3, 0.9])
    mean, low, high = scores.log_mean_interval(np.exp(logs), ["a", "b", "c", "d"])
    expected = student(3, logs.mean(), logs.std(ddof=1) / 2).interval(0.95)
    assert np.log(mean) == pytest.approx(logs.mean())
    assert np.log([low, high]) == pytest.approx(expected)


def test_one_group_has_no_interval():
    ratio, low, high = scores.ratio_interval(np.ones(2), np.full(2, 4.0), ["a", "a"])
    assert (ratio, np.isnan(low), np.isnan(high)) == (0.25, True, True)
    assert scores.with_ends(ratio, low, high) == ".25 (one group)"
    assert scores.with_ends(0.5, 0.001, 1e6) == ".50 (.00 to over 100)"


def test_groups_that_all_hold_are_one_trial_each():
    rate, low, high = scores.coverage_interval(np.ones(5), ["a", "a", "b", "c", "c"])
    assert (rate, high) == (1.0, 1.0)
    assert low == pytest.approx(0.025 ** (1 / 3))  # at this rate three of three hold in one case of 40
    rate, low, high = scores.coverage_interval(np.zeros(3), ["a", "b", "c"])
    assert (rate, low) == (0.0, 0.0)
    assert high == pytest.approx(1 - 0.025 ** (1 / 3))


def test_coverage_of_independent_curves_is_a_binomial_rate():
    inside = np.repeat([1.0, 0.0], [45, 5])
    names = [str(i) for i in range(50)]
    # A variance of n / (n - 1) times the binomial's: 49 trials of 50.
    hits, trials = 0.9 * 49, 49
    _, low, high = scores.coverage_interval(inside, names)
    assert low == pytest.approx(beta(hits, trials - hits + 1).ppf(0.025))
    assert high == pytest.approx(beta(hits + 1, trials - hits).ppf(0.975))
    # The same curves in pairs that agree are worth half as many trials, less what the quantiles cost.
    pairs = [str(i // 2) for i in range(50)]
    _, low, high = scores.coverage_interval(np.repeat([1.0, 0.0], [44, 6]), pairs)
    trials = 24 * (student(49).ppf(0.975) / student(24).ppf(0.975)) ** 2
    hits = 0.88 * trials
    assert low == pytest.approx(beta(hits, trials - hits + 1).ppf(0.025))
    assert high == pytest.approx(beta(hits + 1, trials - hits).ppf(0.975))


def test_coverage_intervals_hold_the_rate():
    """400 samples of 20 groups of 3 curves that mostly agree, at a rate of .9."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        shared = rng.random(20) < 0.9
        alone = rng.random((20, 3)) < 0.9
        inside = np.where(rng.random((20, 3)) < 0.7, shared[:, None], alone).astype(float)
        _, low, high = scores.coverage_interval(inside.ravel(), list(np.repeat(np.arange(20), 3)))
        held += low <= 0.9 <= high
    assert held >= 0.93 * 400


def test_past_forecasts_by_hand_are_those_of_the_model():
    y = (0.2 + 3 * X**-0.4) * np.exp(0.01 * np.random.default_rng(0).normal(size=X.size))
    (one,) = choose.ask([(2.0, curve_of(y))])
    back = width_ways.look_back(one, (1.5, 2.0, 3.0, 4.5))
    assert [told.divisor for told in back] == [1.5, 2.0, 3.0, 4.5]
    counts = 1 / np.array([1.5, 2.0, 3.0, 4.5])
    assert np.average([told.missed for told in back], weights=counts) == pytest.approx(one.model.past)
    shipped = width_ways.relearned(one, "as shipped")
    np.testing.assert_allclose(shipped.parts, one.parts, rtol=1e-9)


@pytest.mark.parametrize("name", [name for name in width_ways.OTHERS if name != "as shipped"])
def test_other_ways_change_only_what_past_forecasts_say(name):
    y = (0.2 + 3 * X**-0.4) * np.exp(0.01 * np.random.default_rng(0).normal(size=X.size))
    (one,) = choose.ask([(2.0, curve_of(y))])
    other = width_ways.relearned(one, name).parts
    past = list(choose.uncertainty.SCALES).index("past")
    assert (np.delete(other, past, axis=0) == np.delete(one.parts, past, axis=0)).all()
    assert 0.2 < other[past].mean() / one.parts[past].mean() < 5
    assert not np.allclose(other[past], one.parts[past], rtol=0.01)


def test_domains_count_alike():
    assert scores.evenly([0.5, 2.0]) == pytest.approx(1.0)


def test_the_worst_ratio_ignores_errors_that_no_one_would_mind():
    above, below = np.array([0.2, 0.02, 1e-9]), np.array([0.1, 1e-12, 1e-4])
    assert scores.worst_ratio(above, below) == pytest.approx(20.0)
