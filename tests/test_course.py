"""A run along its schedule: longer plans against every step's rate, data by step, and who tells of whom."""

import math
from dataclasses import replace

import numpy as np
import pytest

from foretrain.axes import Counts
from foretrain.observation import NOT_RECORDED, Observation, RunInfo, RunRecord
from foretrain.reporting.earlier import MOST_EARLIER, Shelf, earlier_runs
from foretrain.runs.annealing import MEMORIES, RatePath
from foretrain.runs.course import LongPath, follow, stretch, why_unknown
from foretrain.schedule import Schedule

WARM = 100


def shape(name, total, steps):
    """The rate of a step from 1 on, warm-up included; `steps` may be fractions, as in a longer plan."""
    s = np.asarray(steps, dtype=float)
    up = np.minimum(1.0, s / WARM)
    done = s / total
    return (
        up
        * {
            "cosine": 0.1 + 0.45 * (1 + np.cos(np.pi * done)),
            "constant, then linear": np.where(done < 0.8, 1.0, np.maximum(0.02, (1 - done) / 0.2)),
            "three levels": np.where(done <= 0.5, 1.0, np.where(done <= 0.75, 0.1, 0.01)),
            "linear": 1 - 0.95 * done,
        }[name]
    )


NAMES = ["cosine", "constant, then linear", "three levels", "linear"]


def exact(rates, memory):
    """Training done and annealing at the end, by the law's sum over every step (Luo et al. 2025, eq. 4)."""
    u = rates / rates.max()
    peak = int(np.argmax(u >= 0.999))
    held = np.concatenate([np.ones(peak), u[peak:]])
    drop = held[:-1] - held[1:]
    done = np.cumsum(u)
    since = done[-1] - done[:-1]
    x = memory * since * np.maximum(held[1:], 1e-6) ** -0.64
    return done[-1], float((drop * (1 - (1 + x) ** -0.6)).sum())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("total", "factor"), [(2000, 3), (2000, 100), (50_000, 10)])
def test_a_longer_plan_is_that_of_every_step(name, total, factor):
    """Some 20,000 stretches stand for up to 500,000 steps; jumps stay jumps."""
    end = total * factor
    steps = np.arange(1, end + 1)
    old = np.where(steps <= WARM, steps, WARM + (steps - WARM) * (total - WARM) / (end - WARM))
    whole = shape(name, total, old)
    schedule = Schedule.from_rates(3e-4 * shape(name, total, np.arange(1, total + 1)))
    path = LongPath.along(stretch(schedule, end))
    assert path.rates.size == min(end, 20_000)
    at = np.array([path.rates.size])
    for memory in MEMORIES:
        done, annealed = exact(whole, memory)
        # The knots of a schedule are exact to 1e-4 of the largest rate.
        assert path.done(at)[0] == pytest.approx(done, rel=1e-4)
        assert path.annealed(at, memory)[0] == pytest.approx(annealed, abs=5e-4)


@pytest.mark.parametrize("name", NAMES)
def test_a_short_plan_is_the_path_itself(name):
    rates = shape(name, 2000, np.arange(1, 2001))
    schedule = Schedule.from_rates(rates)
    path, whole = LongPath.along(schedule), RatePath.of(schedule.rates())
    steps = np.array([1, 7, 100, 999, 1500, 2000])
    assert path.done(steps) == pytest.approx(whole.done(steps), rel=1e-12)
    for memory in MEMORIES:
        assert path.annealed(steps, memory) == pytest.approx(whole.annealed(steps, memory), abs=1e-12)


def test_a_plan_counts_in_the_runs_units():
    schedule = Schedule.from_rates(shape("cosine", 2000, np.arange(1, 2001)))
    fine, coarse = LongPath.along(schedule), LongPath.along(schedule, unit=4)
    assert coarse.done(np.array([2000])) == pytest.approx(fine.done(np.array([2000])) / 4)


def test_stretching_keeps_jumps_and_the_warm_up():
    schedule = Schedule.from_rates([0.5, 1.0, 1.0, 1.0, 0.1, 0.1])
    longer = stretch(schedule, 14).rates()
    assert longer.size == 14
    assert longer[:2].tolist() == [0.5, 1.0]
    # The four steps after the warm-up become twelve: its last at the peak, the fourth, becomes the eighth.
    assert longer[2:8] == pytest.approx(1.0)
    assert longer[8:] == pytest.approx(0.1)
    with pytest.raises(ValueError, match="Expected a factor that leaves steps after the warm-up"):
        stretch(schedule, 1)


def record(
    run="r", *, state="running", total=1000, last=None, every=50, batch=8, params=100, rates=None, **changes
):
    """A run of so many steps, its loss 3 S^-0.3."""
    lr = shape("cosine", total, np.arange(1, total + 1)) if rates is None else rates
    observations = tuple(
        Observation(
            run,
            "val_loss",
            3.0 * float(lr[:s].sum()) ** -0.3,
            Counts(samples=batch * s, steps=s, params=params),
        )
        for s in range(every, (last or total) + 1, every)
    )
    info = {"planned": Counts(samples=batch * total, steps=total)} | changes.pop("info", {})
    schedule = Schedule.from_rates(lr)
    values = {
        "state": state,
        "schedule": schedule,
        "schedule_used_until": last or total,
        "schedule_unknown": None,
    }
    return RunRecord(RunInfo(run, **info), observations, **(values | changes))


def test_data_and_steps_follow_the_counts_and_then_the_plan():
    course = follow(record(last=500), "val_loss", "samples")
    assert course.last == 500 and not course.is_over
    assert course.end_data == 8000.0
    assert course.data_at(np.array([250, 750, 1000, 1100])).tolist() == [2000.0, 6000.0, 8000.0, 8800.0]
    assert [course.steps_at(data) for data in (2000.0, 6000.0, 8800.0)] == [250.0, 750.0, 1100.0]
    assert follow(record(last=1000), "val_loss", "samples").is_over


def test_data_for_each_step_are_those_seen_lately():
    run = record(last=500, info={"planned": None})
    observations = tuple(
        Observation(
            "r", "val_loss", o.value, Counts(samples=s * 8 if s <= 250 else 2000 + 16 * (s - 250), steps=s)
        )
        for o, s in ((o, o.counts.steps) for o in run.observations)
    )
    course = follow(
        RunRecord(run.info, observations, "running", run.schedule, 500, None), "val_loss", "samples"
    )
    assert course.data_per_step == 16.0
    assert course.end_data == 2000 + 16 * 750


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"schedule": None, "schedule_unknown": NOT_RECORDED}, "not recorded"),
        ({"schedule_unknown": "reactive"}, "reactive"),
        ({"schedule": Schedule((1, 400), (1.0, 0.5))}, "recorded in part"),
        ({"schedule": Schedule((2, 1000), (1.0, 0.5))}, "recorded in part"),
        ({"schedule": Schedule((1, 1000), (0.0, 0.0))}, "recorded in part"),
        ({}, None),
    ],
)
def test_what_is_not_known_to_the_planned_end_is_not_followed(changes, why):
    run = record(last=500, **changes)
    assert why_unknown(run) == why
    assert (follow(run, "val_loss", "samples") is None) == (why is not None)
    assert follow(run, "val_loss", "tokens") is None


def test_an_axis_that_stands_still_is_not_followed():
    run = record(last=500)
    still = tuple(
        Observation("r", "val_loss", o.value, Counts(samples=4000, steps=o.counts.steps))
        for o in run.observations
    )
    assert (
        follow(RunRecord(run.info, still, "running", run.schedule, 500, None), "val_loss", "samples") is None
    )


def test_a_run_of_millions_of_steps_is_held_in_fewer():
    total = 1_200_000
    schedule = Schedule.from_knots([(1, 1e-3), (1000, 1.0), (total, 0.1)])
    values = tuple(
        Observation("r", "val_loss", 3 - i / 50, Counts(samples=8 * s, steps=s))
        for i, s in enumerate(range(10_000, 600_001, 10_000))
    )
    run = RunRecord(RunInfo("r"), values, "running", schedule, 600_000, None)
    course = follow(run, "val_loss", "samples")
    assert course.unit == 3
    assert course.points.path.rates.size == 400_000
    # The rates' sum up to the last point, over the unit.
    assert course.points.done[-1] * 3 == pytest.approx(schedule.rates(600_000).sum(), rel=1e-4)
    assert course.in_units(np.array([total]))[0] == 400_000


# Earlier runs


def find(own, others, **changes):
    course = follow(own, "val_loss", "samples")
    return [c.run for c in earlier_runs(course, own, others, "val_loss", "samples", Shelf(), **changes)]


def test_earlier_runs_are_finished_of_the_nearest_size_and_the_newest():
    own = record("own", last=500)
    others = [
        record("large", state="finished", params=1000),
        record("old", state="finished", info={"started": 1.0}),
        record("new", state="finished", info={"started": 2.0}),
        record("unknown age", state="finished"),
        record("double", state="finished", params=200),
        record("own", state="finished"),
        record("running"),
        record("failed", state="failed"),
        record("no schedule", state="finished", schedule=None, schedule_unknown="not recorded"),
        record("few", state="finished", every=300),
        record("other batch", state="finished", batch=63),
        record("quite another batch", state="finished", batch=65),
    ]
    assert find(own, others) == ["new", "old", "other batch", "unknown age", "double", "large"]
    many = [record(f"r{i:02}", state="finished", info={"started": float(i)}) for i in range(30)]
    assert find(own, many) == [f"r{i:02}" for i in range(29, 29 - MOST_EARLIER, -1)]


def test_a_runs_own_past_and_what_continues_it_do_not_tell_of_it():
    own = replace(record("own", last=500), past={"parent": 100, "grandparent": 50})
    past = [record(name, state="finished") for name in ("parent", "grandparent")]
    child = replace(record("child", state="finished"), past={"own": 300})
    branch = replace(record("branch", state="finished"), past={"parent": 80, "grandparent": 50})
    assert find(own, [*past, child, branch]) == ["branch"]


def test_a_run_that_was_not_finite_tells_nothing():
    broken = record("broken", state="finished")
    nan = Observation("broken", "val_loss", math.nan, Counts(samples=1, steps=1))
    other = Observation("broken", "val_acc", math.nan, Counts(samples=1, steps=1))
    for odd, found in ((nan, []), (other, ["broken"])):
        run = RunRecord(broken.info, (odd, *broken.observations), "finished", broken.schedule, 1000, None)
        assert find(record("own", last=500), [run]) == found


def test_a_shelf_keeps_courses_until_the_run_changes():
    shelf, run = Shelf(), record(state="finished")
    first = shelf.follow(run, "val_loss", "samples", 1)
    again = RunRecord(
        run.info, tuple(run.observations), "finished", Schedule(*vars(run.schedule).values()), 1000, None
    )
    assert shelf.follow(again, "val_loss", "samples", 1) is first
    longer = RunRecord(run.info, run.observations[:-1], "finished", run.schedule, 1000, None)
    assert shelf.follow(longer, "val_loss", "samples", 1) is not first
    assert shelf.follow(run, "val_loss", "steps", 1) is not first
