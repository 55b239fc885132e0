"""From a study's records to a planner: which points enter, and why the others do not."""

from dataclasses import replace

import numpy as np
import pytest

from foretrain.axes import Counts
from foretrain.decisions import from_study, study_points
from foretrain.families.repeated import effective_data
from foretrain.observation import Observation, RunInfo, RunRecord
from foretrain.run_flags import FlagBook
from foretrain.schedule import Schedule
from foretrain.status import FitStatus

SIZES = (1e5, 3e5, 1e6, 3e6)
BATCH = 100
BEST = 0.46 / (0.4 + 0.46)  # exponent of the best size


def law(n, d):
    return 1.0 + 60 * n**-0.4 + 90 * d**-0.46


def run(name, n=1e5, steps=1000, *, decay=True, state="finished", last=None, planned=True, **changes):
    """A run whose error is the law's at the end of a linear decay, and above it before."""
    share = np.arange(1, steps + 1) / steps
    rates = 1e-3 * (np.maximum(1.0 - share, 0.01) if decay else np.ones(steps))
    last = last or steps
    at = np.unique(np.linspace(last / 20, last, 20).astype(int))
    rng = np.random.default_rng(int(n) + steps)

    def counts(step):
        flops = changes.get("per", 6.0) * n * BATCH * step
        unique = changes.get("unique")
        return Counts(
            samples=BATCH * step,
            steps=step,
            params=int(n) or None,
            flops=flops or None,
            unique_samples=None if unique is None else min(unique, BATCH * step),
        )

    observations = tuple(
        Observation(
            name,
            "val_loss",
            float(law(max(n, 1), BATCH * s) * (1 + 0.2 * rates[s - 1] / 1e-3) * np.exp(rng.normal(0, 5e-4))),
            counts(s),
            lr=float(rates[s - 1]),
        )
        for s in map(int, at)
    )
    info = RunInfo(name, planned=counts(steps) if planned else None, conventions=changes.get("rules", {}))
    schedule = Schedule.from_rates(rates) if changes.get("known", True) else None
    return RunRecord(info, observations, state, schedule, past=changes.get("past", {}))


def study(*runs):
    return {record.info.run: record for record in runs}


@pytest.fixture
def ends():
    return study(*(run(f"n{n:.0e}-{k}", n, k) for n in SIZES for k in (500, 2000, 8000)))


def reasons(points):
    return {one.run: one.reason for one in points.left_out}


def test_of_decayed_runs_the_ends_enter(ends):
    planner, points = from_study(ends, "val_loss")
    assert sorted(points.runs) == sorted(ends) and points.left_out == ()
    for name, n, d, y in zip(points.runs, points.n, points.d, points.y, strict=True):
        last = ends[name].observations[-1]
        assert (n, d, y) == (last.counts.params, last.counts.samples, last.value)
    assert points.largest == (3e6, 8e5) and points.per == pytest.approx(6.0)
    assert points.notes == ("Of each run its end counts, with the learning rate decayed.",)
    best = planner.optimum(1e14)
    truth = (0.4 * 60 / (0.46 * 90)) ** (1 / 0.86) * (1e14 / 6) ** BEST
    assert best.size.told and best.size.lower[0.9] < truth < best.size.upper[0.9]


def test_points_on_the_way_of_a_decaying_rate_never_enter(ends):
    ends |= study(
        run("under-way", 1e6, 4000, state="running", last=3000),
        run("killed", 1e6, 4000, state="failed", last=2000),
        run("stopped", 1e6, 4000, last=2000),
    )
    points = study_points(ends, "val_loss")
    assert reasons(points) == {
        "under-way": "it is running, and points on the way of a decaying learning rate are no final errors",
        "killed": "it is failed, and points on the way of a decaying learning rate are no final errors",
        "stopped": "its last validation is at step 2,000 of 4,000: before its learning rate has come down "
        "that is no final error",
    }
    assert len(points.n) == 12


def test_of_constant_runs_all_points_enter_that_are_late_enough():
    runs = study(*(run(f"n{n:.0e}", n, decay=False, state="running", last=800) for n in SIZES))
    points = study_points(runs, "val_loss")
    assert len(points.n) == 4 * 20 and points.left_out == ()  # from the last one's data / 20 on
    assert points.notes[0].startswith("The points are those at a constant learning rate")
    unknown = study(*(run(f"n{n:.0e}", n, decay=False, known=False) for n in SIZES))
    assert len(study_points(unknown, "val_loss").n) == 4 * 20


def test_decayed_and_constant_runs_are_not_mixed(ends):
    points = study_points(ends | study(run("level", 1e6, decay=False)), "val_loss")
    assert reasons(points) == {
        "level": "its learning rate has not decayed, those of the runs that enter have"
    }
    level = study(*(run(f"n{n:.0e}", n, decay=False) for n in SIZES), run("falls", 1e6, 1000))
    points = study_points(level, "val_loss")
    assert reasons(points) == {
        "falls": "its learning rate has decayed, those of the runs that enter are constant"
    }


def test_what_cannot_stand_in_the_law_is_left_out_with_its_reason(ends):
    resumed = replace(run("half", 1e6, 4000, state="failed", last=2000))
    ends |= study(
        resumed,
        run("rest", 1e6, 4000, past={"half": 2000}),
        run("sizeless", 0, 500),
        run("other-rule", 1e6, 500, rules={"samples": "per process"}),
        RunRecord(RunInfo("empty")),
    )
    risen = run("risen", 3e5, 2000)
    values = [o.value + 0.3 * max(i - 10, 0) for i, o in enumerate(risen.observations)]
    ends["risen"] = replace(
        risen,
        observations=tuple(replace(o, value=v) for o, v in zip(risen.observations, values, strict=True)),
    )
    found = reasons(study_points(ends, "val_loss"))
    assert found == {
        "half": "it was resumed as rest",
        "sizeless": "its model size is unknown",
        "other-rule": "it was counted by other conventions than most: samples is per process, "
        "not not recorded",
        "empty": "it has no positive val_loss along samples",
        "risen": "it is past its best: no law of improvement holds",
    }


def test_a_run_off_the_curve_is_left_out():
    """No flag tells it, as it was trained before the others."""
    runs = study(run("bad", 1e6, decay=False), *(run(f"n{n:.0e}", n, decay=False) for n in SIZES))
    for start, (name, own) in enumerate(runs.items()):
        told = (
            replace(o, time=1e6 * start + o.counts.steps, value=o.value * (1.2 if name == "bad" else 1.0))
            for o in own.observations
        )
        runs[name] = replace(own, observations=tuple(told))
    assert reasons(study_points(runs, "val_loss")) == {"bad": "it lies off the curve of the others"}


def dense(n, change=lambda step, value: value):
    """A run as above with a validation every 20 steps."""
    record, rng = run(f"{n:g}", n, 2000), np.random.default_rng(int(n))
    at = np.arange(20, 2001, 20)
    told = np.interp(at, *zip(*((o.counts.steps, o.value) for o in record.observations), strict=True))
    last = record.observations[-1]
    observations = (
        replace(
            last, value=float(change(s, y)), counts=replace(last.counts, steps=int(s), samples=BATCH * int(s))
        )
        for s, y in zip(at, told * np.exp(rng.normal(0, 2e-3, told.size)), strict=True)
    )
    return replace(record, observations=tuple(observations))


@pytest.mark.parametrize("kind", ["above_family", "spike"])
def test_a_flagged_run_is_left_out_but_for_a_spike(kind):
    stuck = dense(1e6).observations[49].value
    changes = {
        "above_family": lambda step, value: value if step <= 1000 else stuck - 1e-7 * step,
        "spike": lambda step, value: value * (1.5 if step == 1000 else 1.0),
    }
    runs = study(*(dense(n) for n in SIZES if n != 1e6), dense(1e6, changes[kind]))
    flags = FlagBook().flags(runs, "1e+06", "val_loss")
    assert [flag.kind.value for flag in flags] == [kind]
    found = study_points(runs, "val_loss")
    assert ("1e+06" in found.runs) == (kind == "spike")
    told = {item.run: item.reason for item in found.left_out}
    assert told == (
        {} if kind == "spike" else {"1e+06": f"it is flagged: above_family at step {flags[0].step:,}"}
    )


def test_repeated_data_count_as_what_they_are_worth():
    runs = study(*(run(f"n{n:.0e}-{k}", n, k, unique=100_000) for n in SIZES for k in (500, 2000, 8000)))
    points = study_points(runs, "val_loss")
    worth = effective_data(points.seen, np.full_like(points.seen, 1e5))
    assert points.d == pytest.approx(worth) and (points.d < points.seen).sum() == 8
    assert points.notes[1].startswith("The data of 8 of 12 runs repeat")


def test_compute_is_counted_as_it_was_recorded():
    runs = study(*(run(f"n{n:.0e}-{k}", n, k, per=8.0) for n in SIZES for k in (500, 2000)))
    assert study_points(runs, "val_loss").per == pytest.approx(8.0)
    none = study(*(run(f"n{n:.0e}", n, per=0.0) for n in SIZES))
    assert study_points(none, "val_loss").per == 6.0


def test_ends_of_unknown_rates_are_taken_with_a_note(ends):
    ends = {name: replace(record, schedule=None) for name, record in ends.items()}
    points = study_points(ends, "val_loss")
    assert len(points.n) == 12
    assert points.notes[1].startswith("The learning rates of 12 of 12 runs are not known")


def test_of_very_many_points_some_enter_evenly():
    runs = study(*(run(f"r{i}", 1e5 * 1.01**i, 500) for i in range(700)))
    points = study_points(runs, "val_loss")
    assert len(points.n) == 600 and "Of 700 points 600 enter" in points.notes[1]
    assert points.notes[2] == (
        "Of more than 24 runs none is checked for flags, nor for lying off the curve of the others."
    )
    assert points.n.min() == 1e5 and points.n.max() == pytest.approx(1e5 * 1.01**699, rel=1e-6)


def test_two_sizes_are_refused_and_a_third_is_advised(ends):
    two = {name: record for name, record in ends.items() if record.observations[0].counts.params < 5e5}
    planner, _ = from_study(two, "val_loss")
    assert planner.reasons[0] is FitStatus.TOO_FEW_SIZES
    asked = (planner.next_run(), planner.next_run(goal=(1e5, 1e7)), planner.optimum(1e14).size.next_run)
    for advice in asked:
        assert advice.n not in (1e5, 3e5)
    assert not planner.optimum(1e14).size.told


def test_what_makes_no_sense_is_refused(ends):
    with pytest.raises(ValueError, match=r"Expected one of density, .* as the axis, got 'words'"):
        from_study(ends, "val_loss", "words")
    with pytest.raises(ValueError, match=r"got none of 1: finish a run\. r: it is running, and points on"):
        from_study(study(run("r", state="running", last=500)), "val_loss")
    with pytest.raises(ValueError, match="whose val_acc along samples can enter a joint law, got none of 12"):
        from_study(ends, "val_acc")
