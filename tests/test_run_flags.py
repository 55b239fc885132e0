"""The flags of recorded runs: as a run goes on, replayed later, after a resume, and beside earlier runs."""

import math
from dataclasses import replace

import numpy as np
import pytest

import foretrain
from foretrain.analysis import Question, analyze
from foretrain.flagging.earlier import earlier_runs
from foretrain.flagging.replay import Replay
from foretrain.flags import Flag, FlagKind, Severity
from foretrain.observation import Plan, RunInfo, ScheduleUpdate
from foretrain.run_flags import MOST_POINTS, FlagBook, validations
from foretrain.schedule import Schedule
from foretrain.store import ObservationStore, StudyReader
from test_run_analysis import TOTAL, cosine, record

HOUR = 3600.0


def made(run, *, start=0.0, bad=1.0, since=1, **how):
    """A run that took an hour, whose error is `bad` times as large from a step on."""
    own = record(run, every=20, **how)
    told = [
        replace(
            o,
            time=start + HOUR * o.counts.steps / TOTAL,
            value=o.value * (bad if o.counts.steps >= since else 1.0),
        )
        for o in own.observations
    ]
    return replace(own, observations=tuple(told))


def cut(run, count):
    """The same run after so many validations: under way, its rates used until there and planned beyond."""
    told = run.observations[:count]
    state = "finished" if count == len(run.observations) else "running"
    return replace(run, observations=told, state=state, schedule_used_until=told[-1].counts.steps)


def library_of(runs):
    return [
        {
            "step": [o.counts.steps for o in run.observations],
            "y": [o.value for o in run.observations],
            "lr": run.schedule.rates(),
        }
        for run in runs
    ]


def newest_first(runs):
    return list(runs.values())[::-1]


def asked(run, library=(), **how):
    steps, values = zip(*validations(run, "val_loss"), strict=True)
    return foretrain.flag_run(steps, values, run.schedule.rates(), library_of(library), **how)


def same(one, other):
    """Up to the order in which numbers were added."""
    alike = [(f.kind, f.step, f.severity) for f in one] == [(f.kind, f.step, f.severity) for f in other]
    return alike and all(f.evidence == pytest.approx(g.evidence) for f, g in zip(one, other, strict=True))


@pytest.fixture
def earlier():
    return {f"run{k}": made(f"run{k}", start=2 * HOUR * k, seed=k) for k in range(5)}


CASES = {
    "rises": {"bad": 1.2, "since": 1200},
    "above its family": {"bad": 1.12},
    "not a number": {"bad": math.nan, "since": 1500},
}


@pytest.mark.parametrize("case", CASES)
def test_told_as_it_goes_on_replayed_later_and_asked_directly_the_flags_are_the_same(earlier, case):
    whole = made("new", start=20 * HOUR, seed=9, **CASES[case])
    book, live = FlagBook(), []
    for count in range(1, len(whole.observations) + 1):
        told = book.flags({**earlier, "new": cut(whole, count)}, "new", "val_loss")
        live += [flag for flag in told if flag not in live]
        assert list(told) == live, "a flag that was told stays"
    again = FlagBook().flags({**earlier, "new": whole}, "new", "val_loss")
    assert live and same(live, again) and same(again, asked(whole, newest_first(earlier)))
    assert analyze({**earlier, "new": whole}, Question("new")).flags == again


def test_each_validation_is_replayed_once_however_many_there_were(earlier, monkeypatch):
    """So that its cost does not grow with them; `benchmarks/flags.py` measures what it is."""
    replayed = []
    update = Replay.update
    monkeypatch.setattr(
        Replay, "update", lambda self, *told: (replayed.append(told[0]), update(self, *told))[1]
    )
    whole, book = made("new", start=20 * HOUR, seed=9), FlagBook()
    book.flags({**earlier, "new": cut(whole, 1)}, "new", "val_loss")  # reads the earlier runs, once
    replayed.clear()
    for count in range(2, len(whole.observations) + 1):
        book.flags({**earlier, "new": cut(whole, count)}, "new", "val_loss")
    assert replayed == [o.counts.steps for o in whole.observations[1:]]


def of_size(run, params, pace):
    """The same run of another size, whose error falls at another pace."""
    told = [
        replace(o, value=o.value**pace, counts=replace(o.counts, params=params)) for o in run.observations
    ]
    return replace(run, observations=tuple(told))


@pytest.mark.parametrize(("params", "flagged"), [(1000, True), (4000, False)])
def test_runs_of_another_size_tell_no_change_of_pace(earlier, params, flagged):
    """Where the size is the same such a pace is a change; that of another size is its own."""
    whole = of_size(made("new", start=20 * HOUR, seed=9), params, 0.9)
    told = FlagBook().flags({**earlier, "new": whole}, "new", "val_loss")
    assert bool([flag for flag in told if "the course of 5 earlier runs" in flag.message]) == flagged


def test_rates_that_are_known_only_as_they_are_used_give_the_same_flags():
    """As of a scheduler that reacts: what is planned ends with what was used, and the warm-up is not over."""
    whole = made("new", seed=3, bad=1.1, since=1000)
    rates = cosine(TOTAL)
    book = FlagBook()
    for count in range(1, len(whole.observations)):
        part = cut(whole, count)
        used = Schedule.from_rates(rates[: part.observations[-1].counts.steps])
        part = replace(part, schedule=used, schedule_unknown="reactive")
        told = book.flags({"new": part}, "new", "val_loss")
    assert told and [(f.kind, f.step) for f in told] == [(f.kind, f.step) for f in asked(whole)]


def test_another_rate_of_false_alarms_is_that_of_flag_run(earlier):
    whole = made("new", start=20 * HOUR, seed=9, bad=1.2, since=1200)
    for rate in (1e-6, 0.3):
        told = FlagBook(rate).flags({**earlier, "new": whole}, "new", "val_loss")
        assert told == asked(whole, earlier.values(), false_alarm_rate=rate)


def keep(root, run, steps, values, *, start, state="finished", continues=None):
    store = ObservationStore(root)
    store.begin(RunInfo(run, continues=continues))
    rates = Schedule.from_rates(cosine(TOTAL))
    template = record(run).observations[0]
    for k, (step, value) in enumerate(zip(steps, values, strict=True)):
        counts = replace(template.counts, steps=int(step), samples=16 * int(step))
        one = replace(template, value=float(value), counts=counts, time=start + k)
        used = Schedule.from_rates(cosine(TOTAL)[: int(step)])
        assert store.append(one, ScheduleUpdate(used=used, plan=Plan(rates)))
    if state is not None:
        store.finish(state)
    store.close()


@pytest.mark.parametrize("name", ["run", "run-again"])
def test_what_an_abandoned_attempt_measured_raises_nothing_in_the_one_that_was_resumed(tmp_path, name):
    """Killed as it diverges, and resumed from before that: under its own name, and under another."""
    whole = made("run", seed=4)
    steps, values = (np.array(told) for told in zip(*validations(whole, "val_loss"), strict=True))
    bad = np.where(steps > 1300, 1.3, 1.0)
    keep(tmp_path, "run", steps[:80], (values * bad)[:80], start=0.0, state=None)
    killed = StudyReader(ObservationStore(tmp_path).study_dir).read().runs
    before = FlagBook().flags(killed, "run", "val_loss")
    assert {flag.kind for flag in before} >= {FlagKind.DIVERGENCE}
    assert [f.step for f in before] == [
        f.step
        for f in asked(
            replace(
                whole,
                observations=tuple(
                    replace(o, value=o.value * b) for o, b in zip(whole.observations, bad, strict=True)
                )[:80],
            )
        )
    ]
    keep(
        tmp_path,
        name,
        steps[60:70],
        values[60:70],
        start=500.0,
        state=None,
        continues={"run": "run", "step": 1200},
    )
    resumed = StudyReader(ObservationStore(tmp_path).study_dir).read().runs
    assert validations(resumed[name], "val_loss") == list(zip(steps[:70], values[:70], strict=True))
    assert FlagBook().flags(resumed, name, "val_loss") == ()
    assert FlagBook().flags(resumed, name, "val_loss") == asked(
        replace(whole, observations=whole.observations[:70])
    )


def test_what_a_book_had_replayed_of_an_abandoned_attempt_is_dropped(tmp_path):
    whole, bad = made("new", seed=4), made("new", seed=4, bad=1.3, since=1300)
    book = FlagBook()
    assert book.flags({"new": cut(bad, 80)}, "new", "val_loss")
    assert book.flags({"new": cut(whole, 70)}, "new", "val_loss") == ()
    assert book.flags({"new": cut(bad, 80)}, "new", "val_loss") == FlagBook().flags(
        {"new": cut(bad, 80)}, "new", "val_loss"
    )


def test_earlier_runs_are_those_that_ended_before_this_one_began(earlier):
    own = made("new", start=4.5 * HOUR)  # after run0, run1; run2 was under way
    runs = {**earlier, "new": own, "run1": replace(earlier["run1"], state="failed")}
    assert [r.info.run for r in earlier_runs(runs, own, "val_loss")] == ["run0"]
    runs |= {"run1": earlier["run1"]}
    assert [r.info.run for r in earlier_runs(runs, own, "val_loss")] == ["run1", "run0"], "the newest first"
    branch = replace(own, past={"run1": 400})
    assert [r.info.run for r in earlier_runs(runs, branch, "val_loss")] == ["run0"]
    odd = replace(earlier["run0"], info=replace(earlier["run0"].info, conventions={"samples": "otherwise"}))
    assert [r.info.run for r in earlier_runs({**runs, "run0": odd}, own, "val_loss")] == ["run1"]
    larger = [replace(o, counts=replace(o.counts, samples=2 * o.counts.samples)) for o in own.observations]
    own = replace(own, observations=tuple(larger))
    assert list(earlier_runs(runs, own, "val_loss")) == [], "another batch size is another recipe"


def test_runs_without_times_count_as_earlier(earlier):
    def timeless(run):
        return replace(run, observations=tuple(replace(o, time=None) for o in run.observations))

    own = made("new", start=4.5 * HOUR)
    runs = {name: timeless(run) for name, run in earlier.items()}
    assert {r.info.run for r in earlier_runs(runs, own, "val_loss")} == set(earlier)
    assert {r.info.run for r in earlier_runs(earlier, timeless(own), "val_loss")} == set(earlier)


def test_an_earlier_run_that_its_own_past_flags_is_no_measure(earlier):
    whole = made("new", start=20 * HOUR, seed=9, bad=1.12)
    wild = {**earlier, "run4": made("run4", start=8 * HOUR, seed=4, bad=1.6, since=1000)}
    assert any(flag.leaves_out for flag in FlagBook().flags(wild, "run4", "val_loss"))
    del earlier["run4"]
    expected = asked(whole, newest_first(earlier))
    assert expected and FlagBook().flags({**wild, "new": whole}, "new", "val_loss") == expected


def test_of_a_long_earlier_run_so_many_validations_are_taken():
    dense = [made(f"run{k}", start=2 * HOUR * k, seed=k) for k in range(4)]
    assert len(dense[0].observations) < MOST_POINTS
    dense = {r.info.run: record(r.info.run, every=5, seed=k) for k, r in enumerate(dense)}
    own = made("new", seed=9, bad=1.12)
    taken = np.unique(np.linspace(0, TOTAL // 5 - 1, MOST_POINTS).astype(int))
    thin = [replace(r, observations=tuple(r.observations[i] for i in taken)) for r in dense.values()]
    assert FlagBook().flags({**dense, "new": own}, "new", "val_loss") == asked(own, thin[::-1]) != ()


def flag(kind, severity=Severity.WARNING):
    return Flag(kind, 1, "", {}, severity)


def test_what_leaves_a_run_out_of_laws():
    lasting = (FlagKind.DIVERGENCE, FlagKind.OVERFITTING, FlagKind.PLATEAU, FlagKind.ABOVE_FAMILY)
    assert {kind for kind in FlagKind if flag(kind).leaves_out} == {*lasting, FlagKind.UNEXPECTEDLY_GOOD}
    assert not any(flag(kind, Severity.NOTICE).leaves_out for kind in FlagKind)
    assert not any(flag(k, Severity.CRITICAL).leaves_out for k in (FlagKind.SPIKE, FlagKind.NOT_FINITE))


@pytest.mark.parametrize(("bad", "enters"), [(1.2, False), (0.85, True)])
def test_a_flagged_run_enters_no_law_and_one_with_a_notice_does(bad, enters):
    runs = {}
    for size in (1000, 4000, 16000, 64000):
        own = made(f"n{size}", seed=size, level=1.0 + 8.0 * size**-0.3)
        counts = [replace(o, counts=replace(o.counts, params=size)) for o in own.observations]
        runs[own.info.run] = replace(own, observations=tuple(counts))
    last = runs["n16000"]
    changed = [replace(o, value=o.value * (bad if o.counts.steps > 1200 else 1.0)) for o in last.observations]
    odd = {**runs, "n16000": replace(last, observations=tuple(changed))}
    for name in ("n16000", "n4000"):
        report = analyze(odd, Question(name))
        assert ("n16000" in report.joint.runs) == enters and len(report.joint.runs) == 3 + enters
    kinds = {f.severity for f in analyze(odd, Question("n16000")).flags}
    assert kinds and (kinds == {Severity.NOTICE}) == enters
