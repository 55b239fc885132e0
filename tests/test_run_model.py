"""The law of one run through its schedule, and the pooling of several."""

from __future__ import annotations

import numpy as np
import pytest

from foretrain.runs.annealing import MEMORIES, RatePath
from foretrain.runs.curve import CELLS, RunCurve
from foretrain.runs.fit import ALIKE, ALIKE_RUNS, ALONG_SIZE, NOISE, Fits, fit_laws, law, pool, weigh
from foretrain.runs.model import model_run
from test_annealing import cosine

THETA = np.array([np.log(3.2), 1.2, np.log(0.5), np.log(0.05)])


def curve(
    lr: np.ndarray, step: np.ndarray, theta=THETA, *, reference=5000.0, k=1, noise=0.0, seed=0, **known
):
    path = RatePath.of(lr)
    z = np.log(path.done(step) / reference)
    log_y = law(np.asarray(theta)[None], z, path.annealed(step, MEMORIES[k]))[0][0]
    log_y = log_y + noise * np.random.default_rng(seed).normal(size=step.size)
    return RunCurve.of(step, np.exp(log_y), lr, **known)


def fitted(made: RunCurve, mean: np.ndarray, precision: np.ndarray, k: int = 1) -> Fits:
    log_s = np.log(made.done)
    base = weigh(log_s[-1:] - log_s)
    rows = (log_s - np.log(5000.0), made.annealed[k], made.log_y, base, mean, precision)
    return fit_laws(*(row[None] for row in rows), np.array([NOISE**2]))


def told_exactly(theta: np.ndarray, told: np.ndarray) -> Fits:
    many = len(theta)
    push = np.einsum("mij,mj->mi", told, theta)
    return Fits(theta, told, push, np.linalg.inv(told + np.eye(4)), np.full(many, 1e-6), np.zeros(many))


def test_the_law_is_its_formula_and_its_slopes_are_its_differences():
    z, annealed = np.linspace(-2, 2, 9), np.linspace(0, 0.8, 9)
    level, logit, log_alpha, log_gain = THETA
    floor = 1 / (1 + np.exp(-logit))
    shape = floor + (1 - floor) * np.exp(z) ** -np.exp(log_alpha) - np.exp(log_gain) * annealed
    (value,), (slopes,) = law(THETA[None], z, annealed)
    assert value == pytest.approx(level + np.log(shape), rel=1e-12)
    for i in range(4):
        step = np.zeros(4)
        step[i] = 1e-6
        up, down = (law((THETA + sign * step)[None], z, annealed)[0][0] for sign in (1, -1))
        assert slopes[:, i] == pytest.approx((up - down) / 2e-6, abs=1e-8)


def test_a_fit_under_a_weak_prior_finds_the_law_that_made_the_curve():
    lr = cosine(20_000, 200)
    made = curve(lr, np.arange(400, 20_001, 200))
    fit = fitted(made, np.array([1.0, 0.5, -0.5, -3.2]), 1e-8 * np.eye(4))
    assert fit.theta[0] == pytest.approx(THETA, abs=2e-3)


def test_outliers_move_a_fit_less_than_a_least_squares_line_through_them():
    lr = np.full(20_000, 1e-3)
    steps = np.arange(400, 16_401, 400)
    clean = curve(lr, steps)
    log_y = clean.log_y.copy()
    log_y[[5, 20, 33]] += 0.2
    spoiled = RunCurve(clean.path, clean.steps, clean.done, clean.annealed, log_y)
    precision = np.diag([1e-4, 1.0, 3.0, 6.0])
    whole, robust = (fitted(c, THETA, precision).theta[0, 0] for c in (clean, spoiled))
    assert abs(robust - whole) < 0.004 < 0.2 * 3 / steps.size


def test_warm_up_is_left_out_and_many_points_are_averaged_in_cells():
    lr = cosine(10_000, 1000)
    steps = np.arange(10, 10_001, 10)
    made = curve(lr, steps)
    assert made.steps.min() >= 1000
    assert made.done.size <= CELLS + 1
    assert made.steps[-1] == 10_000
    few = RunCurve.of(np.array([300, 100]), np.array([4.0, 5.0]), lr)  # nothing else is there
    assert few.steps.tolist() == [100, 300] and few.log_y.tolist() == [np.log(5.0), np.log(4.0)]


def test_pooled_runs_give_the_mean_and_spread_that_drew_them():
    rng = np.random.default_rng(3)
    spread = np.array([0.05, 0.4, 0.2, 0.3])
    drawn = THETA + rng.normal(size=(400, 4)) * spread
    told = np.diag([1e6, 1e5, 1e5, 1e5])  # each run tells its own law almost exactly
    fits = told_exactly(drawn, np.repeat(told[None], 400, axis=0))
    everyone = np.ones((1, 400), dtype=bool)
    (mean,), (covariance,) = pool(fits, everyone, np.zeros((1, 400)), THETA, 0.1 * np.eye(4))
    assert mean == pytest.approx(drawn.mean(axis=0), abs=0.01)
    assert np.sqrt(np.diag(covariance)) == pytest.approx(drawn.std(axis=0), rel=0.05)


def test_a_run_that_tells_nothing_of_its_gain_adds_nothing_to_what_is_known_of_it():
    blind = np.diag([1e6, 1e4, 1e4, 0.0])
    known = np.diag([1e6, 1e4, 1e4, 1e4])
    other = THETA + np.array([0.0, 0.0, 0.0, 1.0])
    fits = told_exactly(np.array([other] * 3 + [THETA] * 3), np.array([blind] * 3 + [known] * 3))
    counted = np.array([[True] * 6, [True] * 3 + [False] * 3])
    weak = np.diag([0.1, 0.1, 0.1, 6.0])
    mean, _ = pool(fits, counted, np.zeros((2, 6)), THETA, weak)
    assert mean[0, 3] == pytest.approx(THETA[3], abs=0.02)
    alone, _ = pool(fits[np.arange(3)], counted[:1, :3], np.zeros((1, 3)), THETA, weak)
    assert mean[1] == pytest.approx(alone[0], abs=1e-9)  # what does not count changes nothing


def test_what_changes_with_size_is_followed_to_the_size_asked_about():
    rng = np.random.default_rng(5)
    larger = -rng.uniform(1.0, 4.0, 60)
    slope = np.array([-0.1, 0.2, 0.05, 0.15])
    drawn = THETA + larger[:, None] * slope + rng.normal(size=(60, 4)) * ALIKE
    fits = told_exactly(drawn, np.repeat(1e8 * np.eye(4)[None], 60, axis=0))
    (mean,), (covariance,) = pool(fits, np.ones((1, 60), dtype=bool), larger[None], THETA, 1e-6 * np.eye(4))
    for k in range(4):
        expected, at_zero = np.polyfit(larger, drawn[:, k], 1, cov=True)
        assert mean[k] == pytest.approx(expected[1], abs=0.2 * np.sqrt(at_zero[1, 1]))
        one_more = np.hypot(
            np.std(drawn[:, k] - np.polyval(expected, larger), ddof=2), np.sqrt(at_zero[1, 1])
        )
        assert np.sqrt(covariance[k, k]) == pytest.approx(one_more, rel=0.1)


@pytest.mark.parametrize("larger", [0.0, -np.log(4.0), np.log(30.0)])
def test_one_run_of_another_size_tells_less_the_further_its_size(larger):
    fits = told_exactly(THETA[None], 1e10 * np.eye(4)[None])
    mean, (covariance,) = pool(fits, np.array([[True]]), np.array([[larger]]), THETA, 1e-9 * np.eye(4))
    alike = ALIKE_RUNS / (ALIKE_RUNS + 1) * ALIKE**2  # the run itself shows no differences
    assert mean[0] == pytest.approx(THETA, abs=1e-4)
    assert np.diag(covariance) == pytest.approx(2 * alike + (larger * ALONG_SIZE) ** 2, rel=1e-3)


def test_a_run_of_one_other_size_does_not_bend_a_young_runs_law():
    """A law of size, data and schedule; the earlier run is a quarter as large, which the young run may not
    be drawn to: its points are then not met, and what is not met is no noise."""
    lr, steps = cosine(20_000, 200), np.arange(400, 20_001, 200)
    path = RatePath.of(lr)

    def trained(n, upto, seed, **known):
        done, at = path.done(steps), steps <= upto
        y = (1.2 + 0.5 * (n / 1e7) ** -0.35 + 6 * done**-0.3) * (1 - 0.06 * path.annealed(steps, MEMORIES[1]))
        y = y * np.exp(2e-3 * np.random.default_rng(seed).normal(size=steps.size))
        return RunCurve.of(steps[at], y[at], lr, **known), float(np.log(y[-1]))

    end = np.array([20_000])
    (young, came), _ = trained(4e8, 2000, 0, params=4e8), None
    earlier, _ = trained(1e8, 20_000, 1, params=1e8)
    model = model_run(young, [earlier])
    (mean,), (deviation,) = model.log_moments(end)
    assert abs(mean - came) < 2 * deviation and deviation < 0.05
    assert float(np.sqrt(model.fits.variance.max())) < 2 * 2e-3
    blind, _ = trained(1e8, 20_000, 1)  # of unknown size
    assert model_run(young, [blind]).log_moments(end)[1][0] < deviation


def test_runs_of_another_batch_are_compared_at_the_same_data():
    """The same curve along the data, in half the steps of twice the batch."""
    lr, steps = np.full(20_000, 1e-3), np.arange(500, 20_001, 500)
    run = curve(lr, steps[:10], noise=1e-3, batch=64.0)
    same = curve(lr, steps, noise=1e-3, seed=1, batch=64.0)
    twice = RunCurve.of(steps // 2, np.exp(same.log_y), lr[:10_000], batch=128.0)
    assert twice.log_data(run) == pytest.approx(same.log_data(run), abs=1e-12)
    end = np.array([20_000])
    one, two = (np.ravel(model_run(run, [lent]).log_moments(end)) for lent in (same, twice))
    assert two == pytest.approx(one, abs=1e-9)
    unknown = RunCurve.of(steps // 2, np.exp(same.log_y), lr[:10_000])
    assert abs(model_run(run, [unknown]).log_moments(end)[0][0] - one[0]) > 1e-4


def test_alike_runs_make_a_young_run_sure_and_unlike_ones_do_not():
    lr, steps = cosine(20_000, 200), np.arange(400, 20_001, 200)
    young = steps[steps <= 5000]
    run = curve(lr, young, noise=1e-3, seed=9)
    alike = [curve(lr, steps, THETA + 0.3 * ALIKE, noise=1e-3, seed=s) for s in range(4)]
    moves = 0.3 * np.random.default_rng(4).normal(size=(4, 4)) * [0.5, 2.0, 1.0, 1.0]
    apart = [curve(lr, steps, THETA + move) for move in moves]
    end = np.array([20_000])
    truth = law(THETA[None], np.log(run.path.done(end) / 5000.0), run.path.annealed(end, MEMORIES[1]))[0][0]
    (near, sure), (far, unsure), (alone, alone_sd) = (
        model_run(run, library).log_moments(end) for library in (alike, apart, ())
    )
    assert abs(near - truth) < 0.006 and sure < 0.01
    assert unsure > 2 * sure and alone_sd > 2 * sure
    assert abs(far - truth) < 2.5 * unsure and abs(alone - truth) < 2.5 * alone_sd


def test_past_forecasts_that_missed_widen_the_band():
    lr, steps = np.full(20_000, 1e-3), np.arange(400, 10_001, 200)
    steady = curve(lr, steps, noise=1e-3)
    dropped = RunCurve(
        steady.path,
        steady.steps,
        steady.done,
        steady.annealed,
        steady.log_y - 0.15 / (1 + np.exp(-(steady.done - 6000) / 300)),
    )
    calm, shaken = model_run(steady), model_run(dropped)
    assert shaken.misfit > 1.5 * calm.misfit
    assert calm.n_scores == shaken.n_scores == 3


def test_the_same_run_under_a_stretched_schedule_ends_lower():
    run = curve(cosine(10_000, 200), np.arange(400, 6001, 200), noise=1e-3)
    model = model_run(run)
    planned, _ = model.log_moments(np.array([10_000]))
    stretched, _ = model.log_moments(np.array([40_000]), RatePath.of(cosine(40_000, 200)))
    assert stretched[0] < planned[0] - 0.02


def test_what_is_borrowed_falls_as_the_rate_does():
    lr = cosine(20_000, 200)
    steps = np.arange(400, 20_001, 200)
    borrowed = [model_run(curve(lr, steps[steps <= s], noise=1e-3)).borrowed for s in (3000, 10_000, 20_000)]
    assert borrowed[0] > 0.9 and borrowed[0] > borrowed[1] > borrowed[2]
