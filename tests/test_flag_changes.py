"""Small changes: jumps and drifts told from surprises, and runs that leave the course of earlier ones."""

import numpy as np
import pytest
from scipy.signal import lfilter

import foretrain
from foretrain.flagging.along import Along
from foretrain.flagging.beside import Beside
from foretrain.flagging.family import MEMORY, Curve
from foretrain.flagging.origins import slot
from foretrain.flagging.signatures import Signatures
from foretrain.flagging.tracker import State, Tracker, first_noise
from foretrain.flags import FlagKind, Severity
from foretrain.runs.annealing import RatePath

STEP = np.arange(50, 10_001, 50)
CONSTANT = np.ones(10_000)
COSINE = 0.55 + 0.45 * np.cos(np.pi * np.arange(1, 10_001) / 10_000)


def run(seed, sd=0.004, lr=CONSTANT, rho=0.3):
    rng = np.random.default_rng(seed)
    noise = lfilter([np.sqrt(1 - rho**2)], [1, -rho], rng.normal(size=STEP.size + 60))[60:]
    done, left = np.cumsum(lr)[STEP - 1], 1 - lr[STEP - 1]
    return (1 + 20 * done**-0.4) * (1 - 0.06 * left) * np.exp(0.01 * rng.normal() + sd * noise)


def item(seed, lr=CONSTANT, **options):
    return {"step": STEP, "y": run(seed, lr=lr, **options), "lr": lr}


def test_changes_have_the_likelihood_ratio_of_generalised_least_squares():
    """Against the covariance of all validations since the origin at once, in place of a filter."""
    rng, m, rho, bend, sd = np.random.default_rng(1), 7, 0.6, 0.04, 0.01
    root = rng.normal(size=(5, 5)) * np.array([0.01, 0.05, 0.02, 0.02, 0.005])[:, None]
    mean, spread = np.array([0.3, -0.1, -0.05, -0.02, 0.002]), root @ root.T
    moved = np.column_stack([rng.uniform(0.02, 0.1, m), rng.uniform(0, 0.05, (m, 2))])
    place = np.cumsum(moved, axis=0)
    z = np.r_[0.0, place[:, 0]]
    of_state = np.column_stack([np.ones(m), place, rho ** np.arange(1, m + 1)])
    # Integrated Brownian motion: cov(s, t) = s^2 (3 t - s) / 6 for s <= t.
    s, t = np.minimum.outer(z[1:], z[1:]), np.maximum.outer(z[1:], z[1:])
    age = np.arange(1, m + 1)
    apart = np.abs(age[:, None] - age)
    noise = sd**2 * (rho**apart - rho ** (age[:, None] + age))
    covariance = of_state @ spread @ of_state.T + bend * s**2 * (3 * t - s) / 6 + noise
    log_y = of_state @ mean + 0.003 * age + 0.002 * rng.normal(size=m)
    off = log_y - of_state @ mean
    signatures = Signatures(1)
    signatures.add(
        State(mean[None], spread[None], np.array([rho]), np.array([bend]), np.array([sd**2])),
        np.zeros((1, 3)),
    )
    for k in range(m):
        score, raised = signatures.compare(log_y[k : k + 1], place[k : k + 1])
    for h, shape in enumerate((np.ones(m), age.astype(float))):
        weighed = np.linalg.solve(covariance, shape)
        assert score[0, slot(0), h] == pytest.approx(weighed @ off / np.sqrt(weighed @ shape), rel=1e-6)
        size = weighed @ off / (weighed @ shape)
        assert raised[0, slot(0), h] == pytest.approx(size * shape.mean(), rel=1e-6)
    signatures.clear(np.array([True]))
    assert not signatures.compare(log_y[:1], place[-1:])[0].any()


def test_one_validation_far_off_makes_no_change():
    """However far off it is, it counts as no more than four standard deviations."""
    state = State(np.zeros((1, 5)), np.zeros((1, 5, 5)), np.array([0.0]), np.array([0.0]), np.array([1e-4]))
    signatures = Signatures(1)
    signatures.add(state, np.zeros((1, 3)))
    for value in (0.0, 5.0, 0.0):
        score, _ = signatures.compare(np.array([value]), np.zeros((1, 3)))
    assert 0 < score.max() < 4.0


def test_what_is_too_small_for_the_run_alone_is_seen_beside_earlier_runs():
    """A drift of .12 % for each 1 % of the run, under noise of .4 %."""
    library = [item(100 + k) for k in range(8)]
    drift = np.exp(0.12 * np.maximum(STEP - 5000, 0) / 10_000)
    alone, beside = [], []
    for seed in range(3):
        found = foretrain.flag_run(STEP, run(seed) * drift, CONSTANT, library)
        assert [flag.kind for flag in found][:1] == [FlagKind.ABOVE_FAMILY]
        assert found[0].severity is Severity.WARNING
        assert "above the course of 8 earlier runs" in found[0].message
        told = found[0].evidence
        assert told["score"] > told["limit"] and told["since"] < found[0].step
        assert 0 < told["deviation"] < 0.12 * (found[0].step - 5000) / 10_000 + 0.005
        beside.append(found[0].step)
        own = foretrain.flag_run(STEP, run(seed) * drift, CONSTANT)
        alone.append(own[0].step if own else 10_000)
    assert 5000 < min(beside) and max(beside) <= 7000
    assert np.mean(alone) > np.mean(beside) + 1000


def test_a_run_that_becomes_too_good_beside_earlier_runs_is_a_notice():
    library = [item(100 + k, lr=COSINE) for k in range(8)]
    y = run(3, lr=COSINE) * np.where(STEP > 6000, 0.97, 1.0)
    (flag,) = foretrain.flag_run(STEP, y, COSINE, library)
    assert (flag.kind, flag.severity) == (FlagKind.UNEXPECTEDLY_GOOD, Severity.NOTICE)
    assert 6000 < flag.step <= 7000 and "below the course of 8 earlier runs" in flag.message
    assert flag.evidence["deviation"] == pytest.approx(-0.03, abs=0.01)


def curve(lr, y=None, last=STEP.size):
    values = run(0, lr=lr) if y is None else y
    return Curve(RatePath.of(lr), STEP[:last], np.log(values[:last]), 1.0)


def test_what_a_run_has_beside_others_is_its_level_taken_out():
    """Runs that differ by a factor leave nothing; one that ends half-way takes nothing along."""
    y = run(0)
    beside = Beside([curve(CONSTANT, 1.1 * y), curve(CONSTANT, 0.8 * y, last=100), curve(CONSTANT, y)])
    place = np.column_stack([np.log(STEP), np.zeros(STEP.size)])
    left = [
        beside.update(float(np.log(1.5 * v * (1.02 if k > 150 else 1))), place[k]) for k, v in enumerate(y)
    ]
    np.testing.assert_allclose(left[:151], 0.0, atol=1e-12)
    np.testing.assert_allclose(left[151:], np.log(1.02), atol=1e-12)
    assert beside.lately == STEP.size
    assert beside.update(0.0, np.array([99.0, 0.0])) == left[-1] and beside.lately == 0


def test_a_run_that_begins_to_count_later_is_taken_as_it_lies_then():
    y, place = run(0), np.column_stack([np.log(STEP), np.zeros(STEP.size)])
    late = Curve(RatePath.of(CONSTANT), STEP[100:], np.log(1.3 * y[100:]), 1.0)
    beside = Beside([curve(CONSTANT, y), curve(CONSTANT, y), late])
    ahead = Beside([curve(CONSTANT, y), late, late])
    for k, v in enumerate(y):
        left = beside.update(float(np.log(v)) + 0.02 * (k > 50), place[k])
        ahead.update(float(np.log(v)), place[k])
        assert left == pytest.approx(0.02 * (k > 50), abs=1e-12)
        assert ahead.lately == max(0, k - 99)
    assert [float(beside._level[k]) for k in (0, 2)] == pytest.approx([0.0, -np.log(1.3)], abs=1e-9)


def test_only_runs_of_the_same_schedule_are_compared_with():
    path = RatePath.of(COSINE)
    place = np.array([np.log(path.done(STEP[100:101])[0]), path.annealed(STEP[100:101], MEMORY)[0]])
    others = [curve(CONSTANT, np.full(STEP.size, 2.0)) for _ in range(4)]
    same = [curve(COSINE, np.exp(np.linspace(1, 0, STEP.size))) for _ in range(2)]

    def falls(library):
        beside = Beside(library)
        beside.update(0.0, np.array([np.log(path.done(STEP[1:2])[0]), 0.0]))
        return beside.update(0.0, place), beside.lately

    assert falls([*others, *same]) == (pytest.approx(99 / 199, abs=1e-6), 2)
    assert falls([*others, same[0]]) == (0.0, 0)


def test_noise_that_grows_is_told_by_the_last_validations():
    runs, n = 40, 120
    sd = np.where(np.arange(n) < 100, 0.002, 0.006)
    z = np.log(np.linspace(1, 50, n))
    log_y = 1 - 0.3 * z + sd * np.random.default_rng(0).normal(size=(runs, n))
    tracker = Tracker(
        log_y[:, 0], first_noise(np.tile(z[:8], (runs, 1)), log_y[:, :8]), np.zeros(runs, dtype=bool)
    )
    seen = []
    for k in range(n):
        moved = np.zeros((runs, 3))
        moved[:, 0] = z[k] - z[max(k - 1, 0)]
        tracker.update(log_y[:, k], moved)
        seen.append(np.median(np.sqrt(tracker.state().noise)))
    assert seen[99] == pytest.approx(0.002, rel=0.25)
    assert seen[-1] > 0.004  # by the last 40 alone it would be .0038 at most


def test_curves_are_read_as_by_interpolation():
    rng = np.random.default_rng(0)
    curves = [(np.sort(rng.uniform(0, 9, n)), rng.normal(size=(2, n))) for n in (2, 5, 40, 1)]
    along = Along(curves)
    for z in [-1.0, 10.0, *rng.uniform(0, 9, 30), *(z[-1] for z, _ in curves), curves[1][0][2]]:
        expected = [
            [np.interp(z, at, row) for at, values in curves for row in values[k : k + 1]] for k in (0, 1)
        ]
        np.testing.assert_allclose(along.at(z), expected, rtol=1e-12)
        assert along.reach(z).tolist() == [at[0] <= z <= at[-1] for at, _ in curves]
