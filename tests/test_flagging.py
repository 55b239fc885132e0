"""`flag_run`: healthy runs stay quiet, faults are told by kind, and nothing is told from what came later."""

import pickle

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.stats import t as student

import foretrain
from foretrain.flagging.family import Curve
from foretrain.flagging.origins import HALF, STAYS, WHOLE, Origins
from foretrain.flagging.replay import Replay
from foretrain.flagging.tracker import State, Tracker, first_noise
from foretrain.flagging.watch import SPENT, limit
from foretrain.flagging.words import turns
from foretrain.flags import Flag, FlagKind, Severity
from foretrain.runs.annealing import RatePath

STEP = np.arange(100, 10_001, 100)
COSINE = 3e-4 * (0.55 + 0.45 * np.cos(np.pi * np.arange(1, 10_001) / 10_000))
DROPPED = 3e-4 * np.where(np.arange(1, 10_001) <= 6000, 1.0, 0.1)


def noise(seed, n, sd, rho=0.0, heavy=False):
    """A stationary first-order autoregression of standard deviation `sd`; heavy: Student's t4 shocks."""
    rng = np.random.default_rng(seed)
    shocks = rng.standard_t(4, n + 60) / np.sqrt(2) if heavy else rng.normal(size=n + 60)
    return sd * lfilter([np.sqrt(1 - rho**2)], [1, -rho], shocks)[60:]


def healthy(seed=0, lr=None, sd=0.003, rho=0.3, step=STEP, exponent=0.4, heavy=False):
    """A power law over a floor in the training done, less a gain in proportion to the rate given up."""
    rates = np.ones(step[-1]) if lr is None else lr / lr.max()
    done = np.cumsum(rates)[step - 1]
    expected = (1 + 20 * done**-exponent) * (1 - 0.06 * (1 - rates[step - 1]))
    return expected * np.exp(noise(seed, step.size, sd, rho, heavy))


def kinds(flags):
    return [flag.kind.value for flag in flags]


@pytest.mark.parametrize(
    ("sd", "rho", "lr", "heavy"),
    [
        (0.003, 0.0, COSINE, False),
        (0.003, 0.8, COSINE, False),
        (0.01, 0.5, DROPPED, False),
        (0.01, 0.5, None, True),
        (0.001, 0.3, None, False),
    ],
)
def test_healthy_runs_are_quiet(sd, rho, lr, heavy):
    flagged = sum(bool(foretrain.flag_run(STEP, healthy(s, lr, sd, rho, heavy=heavy), lr)) for s in range(60))
    assert flagged <= 3  # more than three of 60 have a chance of .3 % at 1 % each


def test_a_decay_that_is_planned_is_no_surprise_and_one_that_is_not_is():
    y = healthy(1, DROPPED, 0.002)
    assert kinds(foretrain.flag_run(STEP, y, DROPPED)) == []
    assert kinds(foretrain.flag_run(STEP, y)) == []  # unknown rates may fall
    found = foretrain.flag_run(STEP, y, np.full(10_000, 3e-4))
    assert kinds(found)[0] == "unexpectedly_good"
    assert 6000 < found[0].step <= 7000 and found[0].severity is Severity.NOTICE
    assert "below the forecast" in found[0].message and "fell without being planned" in found[0].message


def test_planned_drops_that_halve_the_error_are_no_surprise():
    """A rate that drops to a tenth twice halves some errors, and then lowers them by another share."""
    lr = np.repeat([1.0, 0.1, 0.01], [5000, 2500, 2500])
    drop = np.where(STEP <= 5000, 1.0, np.where(STEP <= 7500, 0.55, 0.48))
    for seed in range(5):
        y = (1 + 5 * STEP**-0.5) * drop * np.exp(noise(seed, STEP.size, 0.01, 0.3))
        assert foretrain.flag_run(STEP, y, lr) == ()
        assert "unexpectedly_good" in kinds(foretrain.flag_run(STEP, y, np.ones(10_000)))


def with_fault(shape, seed=2):
    y = healthy(seed, COSINE, 0.003)
    after = np.maximum(STEP - 6000, 0) / 10_000
    return y * np.exp({"jump": 0.08 * (after > 0), "ramp": 1.2 * after, "runs away": 15.0 * after}[shape])


@pytest.mark.parametrize(
    ("shape", "kind", "severity"),
    [
        ("jump", "divergence", Severity.CRITICAL),
        ("ramp", "overfitting", Severity.WARNING),
        ("runs away", "divergence", Severity.CRITICAL),
    ],
)
@pytest.mark.parametrize("seed", range(4))
def test_faults_are_found_within_a_tenth_of_the_run_and_told_by_kind(shape, kind, severity, seed):
    found = foretrain.flag_run(STEP, with_fault(shape, seed), COSINE)
    assert found and 6000 < found[0].step <= 7000
    told = [flag for flag in found if flag.kind.value == kind]
    assert told and (severity is not Severity.CRITICAL or shape == "jump" or told[0].severity is severity)


def test_a_run_that_stops_learning_is_on_a_plateau():
    step = np.arange(50, 10_001, 50)
    y = healthy(3, sd=0.001, rho=0.0, step=step)
    y[100:] = y[99] * np.exp(noise(4, 100, 0.001))
    found = foretrain.flag_run(step, y, np.full(10_000, 1e-3))
    assert kinds(found) == ["plateau"]
    assert 5000 < found[0].step <= 6500 and "half of the fall that was forecast" in found[0].message


def test_one_validation_far_off_is_a_spike_and_only_that():
    y = healthy(5, sd=0.003)
    y[60] *= 1.2
    (flag,) = foretrain.flag_run(STEP, y)
    assert (flag.kind, flag.step) == (FlagKind.SPIKE, 6100)
    assert flag.evidence["validations"] == 1
    y[80] *= 1.2
    assert [(f.kind, f.step) for f in foretrain.flag_run(STEP, y)] == [
        (FlagKind.SPIKE, 6100),
        (FlagKind.SPIKE, 8100),
    ]


def test_what_is_not_finite_is_told_once_for_each_stretch():
    y = healthy(6)
    y[[2, 40, 41, 70]] = [np.nan, np.inf, np.nan, np.nan]
    found = foretrain.flag_run(STEP, y)
    assert [(flag.kind.value, flag.step) for flag in found] == [("nan", 300), ("nan", 4100), ("nan", 7100)]
    assert found[1].message.startswith("The metric was inf at step 4,100")
    assert all(flag.severity is Severity.CRITICAL for flag in found)


@pytest.mark.parametrize("shape", ["jump", "ramp", "runs away"])
def test_flags_of_a_prefix_are_the_prefix_of_the_flags(shape):
    y = with_fault(shape)
    y[[30, 75]] = [np.nan, 9.0]
    library = [{"step": STEP, "y": 0.7 * healthy(s, COSINE), "lr": COSINE} for s in range(7, 11)]
    whole = foretrain.flag_run(STEP, y, COSINE, library)
    assert len(whole) >= 3 and "above_family" in kinds(whole)
    for n in (0, 1, 7, 8, 12, 13, 31, 60, 61, 62, 63, 65, 70, 76, 90):
        found = foretrain.flag_run(STEP[:n], y[:n], COSINE, library)
        expected = [flag for flag in whole if n and flag.step <= STEP[n - 1]]
        for one, other in zip(found, expected, strict=True):
            assert (one.kind, one.step, one.message) == (other.kind, other.step, other.message)
            assert one.evidence == pytest.approx(other.evidence, rel=1e-9)  # sums of other lengths


def test_order_of_the_arguments_does_not_matter_and_a_higher_rate_tells_no_later():
    y = with_fault("ramp")
    shuffled = np.random.default_rng(0).permutation(STEP.size)
    strict = foretrain.flag_run(STEP, y, COSINE)
    assert foretrain.flag_run(STEP[shuffled], y[shuffled], COSINE) == strict
    eager = foretrain.flag_run(STEP, y, COSINE, false_alarm_rate=0.2)
    assert eager[0].step < strict[0].step
    assert eager[0].evidence["limit"] < strict[0].evidence["limit"]


def test_the_evidence_is_what_was_measured():
    y = with_fault("jump")
    flag = next(f for f in foretrain.flag_run(STEP, y, COSINE) if f.kind is FlagKind.DIVERGENCE)
    told, last = flag.evidence, int(np.flatnonzero(STEP == flag.step)[0])
    window = y[last + 1 - int(told["validations"]) : last + 1]
    assert told["value"] == pytest.approx(np.exp(np.log(window).mean()))
    assert told["since"] == STEP[last - int(told["validations"])]
    assert told["expected"] == pytest.approx(told["value"] * np.exp(-told["deviation"]))
    assert told["expected"] == pytest.approx(y[57:60].mean(), rel=0.01)
    assert told["deviation"] == pytest.approx(0.08, abs=0.02)
    assert told["score"] > told["limit"]
    assert f"{told['score']:.1f} standard deviations" in flag.message
    assert Flag.from_json(flag.to_json()) == flag


def test_flags_without_a_severity_are_read():
    record = {"kind": "nan", "step": 3, "message": "It was NaN.", "evidence": {}, "unknown": 1}
    assert Flag.from_json(record) == Flag(FlagKind.NOT_FINITE, 3, "It was NaN.", {}, Severity.WARNING)


def sibling(seed, level=0.0):
    return healthy(seed, COSINE) * np.exp(0.01 * np.random.default_rng(seed).normal() + level)


def test_a_run_above_its_family_is_flagged_early_though_its_own_curve_is_smooth():
    library = [{"step": STEP, "y": sibling(s), "lr": COSINE} for s in range(20, 26)]
    (flag,) = foretrain.flag_run(STEP, sibling(31, 0.15), 5 * COSINE, library)
    assert flag.kind is FlagKind.ABOVE_FAMILY and flag.step <= 2500
    assert "that of 6 earlier runs after as much training" in flag.message
    assert "Its largest learning rate is 5 times theirs" in flag.message
    assert flag.evidence["deviation"] == pytest.approx(0.15, abs=0.04)
    assert not any(foretrain.flag_run(STEP, sibling(s), COSINE, library) for s in range(40, 60))


def test_a_run_of_another_size_is_judged_by_how_it_falls():
    library = [
        {"step": STEP, "y": sibling(s, 0.2 * size), "lr": COSINE} for size, s in enumerate(range(20, 26))
    ]
    assert foretrain.flag_run(STEP, sibling(33, -0.2), COSINE, library) == ()
    stuck = sibling(33, -0.2) * np.exp(np.linspace(0, 1.5, STEP.size))
    found = [f for f in foretrain.flag_run(STEP, stuck, COSINE, library) if f.kind is FlagKind.ABOVE_FAMILY]
    assert "less than that of 6 earlier runs while the training doubled" in found[0].message


def test_a_library_of_one_says_nothing_and_runs_that_end_earlier_are_left_out():
    one = [{"step": STEP, "y": sibling(20), "lr": COSINE}]
    assert foretrain.flag_run(STEP, sibling(31, 0.5), COSINE, one) == ()
    short = [{"step": STEP[:5], "y": sibling(s)[:5], "lr": COSINE} for s in range(4)]
    assert foretrain.flag_run(STEP[6:], sibling(31, 0.5)[6:], COSINE, short) == ()


def test_the_cost_does_not_grow_with_the_run():
    sizes = []
    replay = Replay(Curve(RatePath.of(np.ones(3000)), np.array([]), np.array([]), 1.0), [], 0.01)
    y = healthy(0, step=np.arange(1, 3001))
    for k in range(3000):
        replay.update(k + 1, float(y[k]), np.array([np.log(k + 1.0), 0, 0, 0]))
        if k in (500, 2999):
            sizes.append(len(pickle.dumps(replay)))
    assert sizes[1] == pytest.approx(sizes[0], abs=200)


@pytest.mark.parametrize("count", [13, 40, 1000])
def test_the_limit_is_students_at_what_is_spent_and_all_that_is_spent_is_less_than_the_rate(count):
    k = count + 5.0
    spent = SPENT * 0.02 / (k * np.log(k) ** 2)
    assert limit(count, 0.02) == pytest.approx(student.isf(spent, min(count, 80)))
    every = np.arange(13, 10_000_000) + 5.0
    assert (SPENT / (every * np.log(every) ** 2)).sum() < 1.0


def test_deviations_have_the_variance_of_the_model_simulated():
    """Of states, slopes and noise drawn as the model says, against what `Origins` says of windows."""
    rng, draws, m, dz, rho, bend, sd = np.random.default_rng(1), 40_000, 4, 0.05, 0.6, 0.2, 0.01
    root = rng.normal(size=(5, 5)) * np.array([0.01, 0.05, 0.02, 0.02, 0.005])[:, None]
    mean, spread = np.array([0.3, -0.1, -0.05, -0.02, 0.002]), root @ root.T
    state = mean + rng.multivariate_normal(np.zeros(5), spread, draws)
    fine = 50
    slope = np.cumsum(bend * np.sqrt(dz / fine) * rng.normal(size=(draws, m * fine)), axis=1)
    drift = np.cumsum(slope * dz / fine, axis=1)[:, fine - 1 :: fine]
    path = [np.array([j * dz, 0.02 * j, 0.01 * j]) for j in range(1, m + 1)]
    n, ys = state[:, 4], []
    for j in range(m):
        n = rho * n + sd * np.sqrt(1 - rho**2) * rng.normal(size=draws)
        ys.append(state[:, 0] + state[:, 1:4] @ path[j] + drift[:, j] + n)
    origins = Origins(1)
    origins.add(
        State(mean[None], spread[None], np.array([rho]), np.array([bend**2]), np.array([sd**2])),
        np.zeros((1, 3)),
        np.full(1, -9.0),
    )
    for j in range(m):
        expected = mean[0] + path[j] @ mean[1:4] + rho ** (j + 1) * mean[4]
        apart, score, alone = origins.compare(np.array([expected + 0.001]), path[j][None])
        at = int(np.argmax(origins.ages))
        assert apart[0, at, WHOLE] == pytest.approx(0.001)
        single = ys[j].std()
        assert 0.001 / alone[0, at, WHOLE] == pytest.approx(single, rel=0.02)
        assert 0.001 / score[0, at, WHOLE] == pytest.approx(np.mean(ys[: j + 1], axis=0).std(), rel=0.08)
    fall = np.mean([p @ mean[1:4] for p in path])
    assert apart[0, at, STAYS] == pytest.approx(0.001 + fall)
    assert apart[0, at, HALF] == pytest.approx(0.001 + fall / 2)


@pytest.mark.parametrize(("rho", "sd"), [(0.0, 0.01), (0.75, 0.01), (0.3, 0.002)])
def test_the_tracker_learns_slope_and_noise(rho, sd):
    """Of many runs with one slope; noise and its correlation from what was simulated."""
    runs, n = 60, 150
    z = np.log(np.linspace(1, 100, n))
    log_y = 1.0 - 0.25 * z + np.stack([noise(s, n, sd, rho) for s in range(runs)])
    tracker = Tracker(
        log_y[:, 0], first_noise(np.tile(z[:8], (runs, 1)), log_y[:, :8]), np.zeros(runs, dtype=bool)
    )
    for k in range(n):
        moved = np.zeros((runs, 3))
        moved[:, 0] = z[k] - z[max(k - 1, 0)]
        tracker.update(log_y[:, k], moved)
    state = tracker.state()
    off = (state.mean[:, 1] + 0.25) / np.sqrt(state.covariance[:, 1, 1])
    assert abs(np.mean(off)) < 0.4 and 0.3 < np.std(off) < 1.2
    assert np.median(np.sqrt(state.noise)) == pytest.approx(sd, rel=0.15)
    assert np.median(state.rho) == pytest.approx(rho, abs=0.25)


def test_a_line_turns_and_a_jump_does_not():
    assert turns(np.array([0.01, 0.02, 0.03, 0.04]))
    assert not turns(np.array([0.03, 0.031, 0.029, 0.03]))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"false_alarm_rate": 0}, "between 0 and 1, such as 0.01, got 0"),
        ({"false_alarm_rate": "often"}, "between 0 and 1, such as 0.01, got 'often'"),
        ({"y": [1.0, 0.0, 1.0]}, "`y` to hold positive numbers, NaN or infinity, got 0.0: leave"),
        ({"y": [1.0, 1.0]}, r"same length, got `step` of shape \(3,\), `y` of shape \(2,\)"),
        ({"y": ["a", 1, 1]}, "`y` to be an array of numbers"),
        ({"step": [1, 2.5, 3]}, "whole numbers of steps from 1 on, got 2.5"),
        ({"step": [1, 2, 30], "lr": np.ones(10)}, "from 1 to 10, the last that `lr` has a rate for, got 30"),
        ({"step": [0, 1, 2]}, "`step` to hold positive, finite numbers, got 0.0"),
        ({"lr": [[1.0]]}, r"`lr` to hold the rate of every step from 1 to the planned end, shape \(T,\)"),
        ({"lr": [0.0, 0.0, 0.0]}, "none negative and one positive"),
        ({"library": [{"step": [1]}]}, r"`library\[0\]` to be a mapping with step, y, got one without y"),
        ({"lr": np.ones(3), "library": [{"step": [1], "y": [1.0]}]}, "one without lr"),
        ({"library": [{"step": [1], "y": [-1.0]}]}, r"`library\[0\].y` to hold positive numbers"),
    ],
)
def test_refuses_what_is_no_run(change, told):
    with pytest.raises(ValueError, match=told):
        foretrain.flag_run(**{"step": [1, 2, 3], "y": [3.0, 2.0, 1.0], **change})


@pytest.mark.parametrize("n", [0, 1, 3, 8, 30])
def test_odd_runs_are_judged_without_a_warning(n):
    with np.errstate(all="raise", under="ignore"):
        assert foretrain.flag_run(np.arange(1, n + 1), np.full(n, 0.5)) == ()
        assert foretrain.flag_run(np.full(n, 7), np.full(n, 1e-300)) == ()
        foretrain.flag_run(np.arange(1, n + 1), np.geomspace(1e300, 1e-300, max(n, 1))[:n])
        foretrain.flag_run(np.arange(1, n + 1), np.full(n, np.nan))


def test_a_model_that_begins_to_learn_late_raises_nothing():
    """Errors equal to the last digit, as at chance, tell nothing of the noise of those that come."""
    for seed in range(10):
        y = np.concatenate([np.full(30, 0.9), 0.9 * np.exp(noise(seed, 30, 0.01))])
        assert foretrain.flag_run(STEP[:60], y) == ()
