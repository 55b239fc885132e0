"""Decisions against closed forms worked out by other means, and what they say when the points cannot tell."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

import foretrain
from foretrain.decisions import (
    JointLaw,
    Planner,
    compute_multiplier,
    envelope,
    isoflop_optima,
)
from foretrain.decisions.allocation import R_N
from foretrain.families import family
from foretrain.families.repeated import R_D
from foretrain.laws import LAWS
from foretrain.status import FitStatus

LAW = JointLaw(e=1.8172, a=477.83, alpha=0.34731, b=2143.4, beta=0.36717)  # Besiroglu et al. 2024
DRAWS = JointLaw(
    e=np.array([1.6, 1.8, 0.0]),
    a=np.array([300.0, 480.0, 90.0]),
    alpha=np.array([0.3, 0.35, 0.25]),
    b=np.array([900.0, 2100.0, 400.0]),
    beta=np.array([0.28, 0.37, 0.45]),
)


def grid(law, sizes=(1e7, 3e7, 1e8, 3e8, 1e9), data=(1e9, 3e9, 1e10, 3e10), noise=0.002, seed=0):
    n, d = (v.ravel() for v in np.meshgrid(sizes, data))
    return n, d, law.loss(n, d) * np.exp(noise * np.random.default_rng(seed).normal(size=n.size))


@pytest.mark.parametrize("compute", [1e18, 5.76e23])
@pytest.mark.parametrize("index", [0, 1, 2])
def test_the_best_size_is_that_of_a_search_over_all_sizes(compute, index):
    e, a, alpha, b, beta = (
        np.asarray(v)[index] for v in (DRAWS.e, DRAWS.a, DRAWS.alpha, DRAWS.b, DRAWS.beta)
    )
    room = compute / 6

    # The derivative of the error in ln N is zero there: found without its closed form.
    def slope_squared(log_n):
        by_size = alpha * a * np.exp(-alpha * log_n)
        by_data = beta * b * np.exp(-beta * (np.log(room) - log_n))
        return np.log(by_size / by_data) ** 2

    found = minimize_scalar(slope_squared, bounds=(5, 45), method="bounded", options={"xatol": 1e-12})
    n, d = DRAWS.optimum(compute)
    assert n[index] == pytest.approx(np.exp(found.x), rel=1e-6)
    assert n[index] * d[index] * 6 == pytest.approx(compute, rel=1e-12)
    level = e + a * n[index] ** -alpha + b * d[index] ** -beta
    assert DRAWS.best_loss(compute)[index] == pytest.approx(level, rel=1e-12)
    assert DRAWS.compute_for(DRAWS.best_loss(compute))[index] == pytest.approx(compute, rel=1e-9)


def test_inverses_meet_the_law_again_and_are_infinite_below_the_floor():
    n, d = 1e9, 2e10
    loss = LAW.loss(n, d)
    assert LAW.data_for(loss, n) == pytest.approx(d, rel=1e-9)
    assert LAW.size_for(loss, d) == pytest.approx(n, rel=1e-9)
    assert np.isinf(LAW.data_for(1.8, n))
    assert np.isinf(LAW.size_for(LAW.e + LAW.b * d**-LAW.beta, d))
    assert np.isinf(LAW.compute_for(1.8172))


def test_with_another_growth_every_budget_reaches_the_same_error_at_another_size():
    room = np.array([[1e18], [1e24]])
    other = DRAWS.with_growth(0.8, np.log(0.02))
    np.testing.assert_allclose(other.best_loss(room), DRAWS.best_loss(room), rtol=1e-9)
    n, d = other.optimum(room, per=1.0)
    np.testing.assert_allclose(n, 0.02 * np.broadcast_to(room, n.shape) ** 0.8, rtol=1e-6)
    np.testing.assert_allclose(other.loss(n, d), DRAWS.best_loss(room, per=1.0), rtol=1e-9)
    assert (other.loss(1.1 * n, d / 1.1) > other.loss(n, d)).all()
    same = DRAWS.with_growth(*DRAWS.growth())
    for name in ("a", "alpha", "b", "beta"):
        np.testing.assert_allclose(getattr(same, name), getattr(DRAWS, name), rtol=1e-9)


def test_gains_are_the_derivatives_of_the_log_error():
    n, d, h = 4e8, 9e9, 1e-5
    by_size, by_data = LAW.gains(n, d)
    differences = [
        -np.log(LAW.loss(n * np.exp(h), d) / LAW.loss(n * np.exp(-h), d)) / (2 * h),
        -np.log(LAW.loss(n, d * np.exp(h)) / LAW.loss(n, d * np.exp(-h))) / (2 * h),
    ]
    assert [by_size, by_data] == pytest.approx(differences, rel=1e-6)
    best_n, best_d = LAW.optimum(1e21)
    at_best = LAW.gains(best_n, best_d)
    assert at_best[0] == pytest.approx(at_best[1], rel=1e-9)


def test_with_enough_distinct_data_repeats_change_nothing():
    free, _ = DRAWS.optimum(1e21)
    assert DRAWS.optimum_of_repeats(1e21, 1e15)[0] == pytest.approx(free, rel=1e-6)


def test_where_data_repeat_the_best_size_is_the_lowest_point_of_the_law_of_repeated_data():
    n, d = DRAWS.optimum_of_repeats(1e21, 1e9)
    assert n * d * 6 == pytest.approx(np.full(3, 1e21), rel=1e-9)
    for i in range(3):
        theta = np.array([v[i] for v in (DRAWS.e, DRAWS.a, DRAWS.b, DRAWS.alpha, DRAWS.beta)] + [R_D, R_N])
        around = n[i] * np.exp(np.linspace(-4, 4, 20001))
        places = np.stack([around, 1e21 / 6 / around, np.full_like(around, 1e9)])
        assert n[i] == pytest.approx(around[np.argmin(LAWS["repeated_data"].value(places, theta))], rel=1e-3)


def test_where_data_are_short_a_smaller_model_for_more_epochs_is_best():
    """The finding of Muennighoff et al. 2023, section 5, at their constants and 25e9 distinct tokens."""
    law = JointLaw(e=1.87, a=521.0, alpha=0.353, b=1488.0, beta=0.353)
    free_n, free_d = law.optimum(9.3e21)
    n, d = law.optimum_of_repeats(9.3e21, 25e9)
    assert 0.5 * free_n < n < 0.9 * free_n
    assert d / 25e9 > 1.1 * free_d / 25e9 > 4


def test_the_planner_finds_the_law_of_noisy_runs():
    planner = Planner(*grid(LAW))
    best = planner.optimum(1e22)
    n, d = LAW.optimum(1e22)
    assert best.size.lower[0.9] < n < best.size.upper[0.9]
    assert best.size.told
    assert best.size.median * best.data.median * 6 == pytest.approx(1e22, rel=1e-9)
    assert best.loss.lower[0.9] < LAW.loss(n, d) < best.loss.upper[0.9]
    target = float(LAW.loss(1e9, 6e10))
    needed = planner.data_needed(target, 1e9)
    assert needed.lower[0.9] < 6e10 < needed.upper[0.9]
    needed = planner.size_needed(float(LAW.loss(3e9, 3e10)), 3e10)
    assert needed.lower[0.9] < 3e9 < needed.upper[0.9]
    needed = planner.compute_needed(float(LAW.best_loss(1e21)))
    assert needed.lower[0.9] < 1e21 < needed.upper[0.9]


def test_the_error_of_a_planned_run_is_the_joint_forecast_of_the_same_fit(monkeypatch):
    points = grid(LAW)
    planner = Planner(*points)
    at = np.array([5e7, 1e9, 8e9]), np.array([2e10, 4e10, 1e11])
    expected = foretrain.forecast_joint(*points, *at)
    monkeypatch.setattr(family, "model_family", None)  # the family is not fitted anew
    told = planner.final_loss(*at)
    np.testing.assert_array_equal(told.median, expected.median)
    np.testing.assert_array_equal(told.upper[0.9], expected.upper[0.9])
    with pytest.raises(ValueError, match="Expected `at_params` and `at_data` to broadcast"):
        planner.final_loss([1e7, 1e8], [1e9, 1e10, 1e11])


def test_more_data_or_a_bigger_model_is_told_where_it_is_plain():
    planner = Planner(*grid(LAW))
    assert planner.more_data_or_bigger_model(1e9, 1e9).verdict == "more data"
    assert planner.more_data_or_bigger_model(1e7, 1e11).verdict == "a bigger model"
    close = planner.more_data_or_bigger_model(*map(float, LAW.optimum(1e20)))
    assert close.verdict == "cannot tell"
    assert close.next_run is not None
    assert "but the points cannot tell. Run " in close.sentence
    assert close.next_run.compute <= 6 * 1e9 * 3e10 * (1 + 1e-9)


def test_two_sizes_tell_no_law_of_size_and_the_advice_is_a_third():
    n, d, y = grid(LAW, sizes=(1e8, 1e9))
    planner = Planner(n, d, y)
    assert FitStatus.TOO_FEW_SIZES in planner.reasons
    best = planner.optimum(1e22)
    assert not best.size.told
    assert best.size.next_run is not None and best.size.next_run.n not in (1e8, 1e9)
    assert planner.more_data_or_bigger_model(1e9, 1e9).verdict == "cannot tell"


def test_a_target_below_the_floor_has_no_amount_of_data():
    needed = Planner(*grid(LAW)).data_needed(1.0, 1e9)
    assert np.isinf(needed.median) and not needed.told
    assert needed.to_json()["median"] is None


def test_a_better_recipe_is_told_by_the_compute_it_saves():
    ours = JointLaw(LAW.e, 0.8 * LAW.a, LAW.alpha, 0.8 * LAW.b, LAW.beta)
    choice = compute_multiplier(Planner(*grid(ours)), Planner(*grid(LAW, seed=1)), 1e21, ("new", "old"))
    truth = float(LAW.compute_for(ours.best_loss(1e21))) / 1e21
    assert choice.verdict == "new"
    assert choice.answer.lower[0.9] < truth < choice.answer.upper[0.9]
    assert choice.sentence.startswith("new or old at 1e+21 FLOPs: new (")
    same = compute_multiplier(Planner(*grid(LAW, seed=2)), Planner(*grid(LAW, seed=1)), 1e21)
    assert same.verdict == "cannot tell"


def test_what_is_not_known_of_one_recipe_has_no_part_in_what_is_not_known_of_the_other():
    """Planners of one seed draw alike: of recipes whose points agree, each draw would say that they tie."""
    points = grid(LAW)
    drawn_alike = compute_multiplier(Planner(*points), Planner(*points), 1e21).answer
    drawn_apart = compute_multiplier(Planner(*points, seed=3), Planner(*points, seed=4), 1e21).answer
    alike, apart = (np.log(told.upper[0.9] / told.lower[0.9]) for told in (drawn_alike, drawn_apart))
    assert alike == pytest.approx(apart, rel=0.1) and apart > 0.1


def test_the_next_run_narrows_the_forecast_more_than_another_would():
    n, d, y = grid(LAW, sizes=(1e7, 3e7, 1e8))
    planner = Planner(n, d, y)
    goal = (1e9, 1e11)
    advice = planner.next_run(compute=1e20, goal=goal)
    assert advice.compute <= 1e20 * (1 + 1e-9)
    assert 0 < advice.narrower < 1

    def width(size, data):
        wide = Planner(np.append(n, size), np.append(d, data), np.append(y, LAW.loss(size, data)))
        answer = np.quantile(np.log(wide.law.loss(*goal)), [0.05, 0.95])
        return answer[1] - answer[0]

    assert width(advice.n, advice.d) < width(1e7, 1e9)


def test_equal_compute_finds_the_best_sizes_without_a_law():
    sizes, data = np.geomspace(1e7, 3e10, 16), np.geomspace(1e8, 1e13, 60)
    n, d = (v.ravel() for v in np.meshgrid(sizes, data))
    found = isoflop_optima(n, d, LAW.loss(n, d), [1e19, 1e20, 1e21], log_noise=0.001)
    truth = LAW.optimum(found.budgets)[0]
    assert [best.n for best in found.optima] == pytest.approx(list(truth), rel=0.05)
    assert found.growth.exponent == pytest.approx(0.36717 / (0.34731 + 0.36717), abs=0.02)
    compute, size, loss = envelope(n, d, LAW.loss(n, d))
    assert (np.diff(compute) >= 0).all() and (np.diff(loss) < 0).all()
    middle = np.argmin(np.abs(np.log(compute / 1e20)))
    assert size[middle] == pytest.approx(float(LAW.optimum(1e20)[0]), rel=1.0)


def test_a_budget_that_few_sizes_reach_is_left_out():
    n, d, y = grid(LAW, sizes=(1e7, 1e8, 1e9), noise=0)
    found = isoflop_optima(n, d, y, [1e18])
    assert found.budgets.size == 0 and found.growth is None


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda p: p.optimum(-1.0), "Expected `compute` to"),
        (lambda p: p.data_needed(float("nan"), 1e9), "Expected `target` to"),
        (lambda p: p.optimum(1e20, unique=0.0), "Expected `unique` to"),
        (lambda p: Planner([1e7, 1e8], [1e9], [3.0, 2.0]), "the same length"),
    ],
)
def test_what_cannot_be_meant_is_refused(ask, message):
    planner = Planner(*grid(LAW))
    with pytest.raises(ValueError, match=message):
        ask(planner)


def test_the_same_seed_gives_the_same_answers():
    first, second = (Planner(*grid(LAW), seed=3).optimum(1e22).size for _ in range(2))
    assert first == second
