"""Runs whose observations are read when they are asked for tell the same as those read at once."""

import dataclasses
import math
import pickle
import random
import zlib

import pytest

from foretrain.axes import Counts
from foretrain.observation import Observation, Plan, RunInfo, RunRecord, ScheduleUpdate
from foretrain.schedule import Schedule
from foretrain.storage import held as held_module
from foretrain.storage.attempts import put_together
from foretrain.storage.held import find_ends
from foretrain.storage.held_runs import HeldRecord
from foretrain.storage.reader import record_files
from foretrain.storage.record_file import Recording
from foretrain.store import ObservationStore, StudyReader

ALL_COUNTS = {
    **{"epochs": 1e-05, "tokens": 10**15, "unique_samples": 7, "params": 124_000_000},
    **{"params_total": 163_000_000, "params_non_embedding": 1, "density": 0.1, "flops": 6.02e23},
}


def observation(step, value=1.0, metric="val_loss", run="run", **more):
    return Observation(run, metric, value, Counts(samples=10 * step, steps=step, **ALL_COUNTS), **more)


def write(root, run="run", values=(3.0, 2.0, 1.5), state="finished", schedule=None, **info):
    store = ObservationStore(root)
    store.begin(RunInfo(run, conventions={"samples": "batch size"}, **info))
    for step, value in enumerate(values):
        store.append(observation(step, value, run=run), schedule)
    store.finish(state) if state else store.close()
    return store


def read_at_once(study_dir):
    """The runs by a recording that decodes every line."""
    attempts = []
    for _, found in sorted(record_files(study_dir).items()):
        recording = Recording()
        recording.update(found)
        attempts.append(recording.attempt)
    return put_together(attempts)


def file_of(study_dir):
    [path] = study_dir.glob("*/*.jsonl")
    return path


@pytest.mark.parametrize("state", ["finished", "failed", None])
def test_a_held_run_is_the_run(tmp_path, state):
    rates = Schedule.from_knots([(1, 1e-3), (50, 0.0)])
    told = ScheduleUpdate(rates, Plan(unknown="no end"))
    store = write(tmp_path, state=state, schedule=told, planned=Counts(samples=10, steps=1), started=1.5)
    write(tmp_path, "odd", values=[math.inf, -math.inf, 1e-300, 123456789.123456789, 0.0, 5e22, -1.0])
    for run, steps, metric in (("two", (1, 2, 3), "väl"), ("back", (3, 1), "a"), ("quoted", (1,), '"')):
        other = ObservationStore(tmp_path)
        other.begin(RunInfo(run))
        for step in steps:
            other.append(observation(step, 0.5, "1 - val_acc", run, logged=0.5, lrs=(1e-3, 0.0)))
            other.append(observation(step, 2.0, metric, run, lr=1e-3, time=1.7e9))
        other.close()
    runs, expected = StudyReader(store.study_dir).read().runs, read_at_once(store.study_dir)
    assert list(runs) == list(expected) == ["back", "odd", "quoted", "run", "two"]
    assert {name for name, run in runs.items() if isinstance(run, HeldRecord)} == {"odd", "run", "two"}
    for name, run in runs.items():
        assert run == expected[name] and expected[name] == run
        assert run.metrics == expected[name].metrics
        for metric in [*run.metrics, "other"]:
            assert run.newest(metric) == expected[name].newest(metric)
    assert runs["run"].schedule == rates and runs["run"].state == (state or "running")
    assert runs["run"] != dataclasses.replace(expected["run"], state="other")


def test_a_held_run_can_be_changed_and_sent(tmp_path):
    store = write(tmp_path)
    run = StudyReader(store.study_dir).read().runs["run"]
    assert dataclasses.replace(run, observations=()).observations == ()
    assert dataclasses.replace(run, observations=()).metrics == {}
    copied = pickle.loads(pickle.dumps(run))
    assert type(copied) is RunRecord and copied == run


def test_reading_a_study_decodes_one_observation_of_each_run(tmp_path, monkeypatch):
    for run in ("a", "b"):
        store = write(tmp_path, run, values=[1.0] * 40)
    decoded = []
    reading = held_module.read_observation
    monkeypatch.setattr(held_module, "read_observation", lambda *a: (decoded.append(a), reading(*a))[1])
    runs = StudyReader(store.study_dir).read().runs
    assert len(decoded) == 2 and runs["a"].newest("val_loss").counts.steps == 39
    assert runs["b"].metrics == {"val_loss": 40} and len(decoded) == 2
    assert len(runs["a"].observations) == 40 and len(decoded) == 42
    assert len(runs["a"].observations) == 40 and len(decoded) == 42, "kept for a while"


def test_every_damage_is_found_at_once(tmp_path):
    """Whatever byte is changed, the file is read line by line, as it would be without holding."""
    store = write(tmp_path, values=[1.0] * 4)
    path = file_of(store.study_dir)
    whole = path.read_bytes()
    assert find_ends(str(path), len(whole)) is not None
    chance = random.Random(0)
    for place in range(0, len(whole), 7):
        changed = bytearray(whole)
        changed[place] ^= 1 << chance.randrange(8)
        path.write_bytes(changed)
        assert find_ends(str(path), len(whole)) is None, place
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        if whole[:end].endswith(b"\n") and find_ends(str(path), end) is not None:
            assert StudyReader(store.study_dir).read().runs == read_at_once(store.study_dir)


@pytest.mark.parametrize(
    "data",
    [
        '{"metric":"val_loss","value":true,"counts":{"samples":1,"steps":1}}',
        '{"metric":"val_loss","value":1e999,"counts":{"samples":1,"steps":1}}',
        '{"metric":"val_loss","value":1.0,"counts":{"samples":1,"steps":1.5}}',
        '{"metric":"val_loss","value":1.0,"counts":{"samples":-1,"steps":1}}',
        '{"metric":"val_loss","value":1.0,"counts":{"samples":1,"steps":01}}',
        '{"metric":"val_loss","value":1.0,"counts":{"samples":1,"steps":1},"lr":"x"}',
        '{"metric":"val_loss","value":1.0,"counts":{"samples":1,"steps":1},"lrs":[1,]}',
        '{"metric":"\\q","value":1.0,"counts":{"samples":1,"steps":1}}',
        '{"metric":7,"value":1.0,"counts":{"samples":1,"steps":1}}',
    ],
)
def test_an_observation_that_is_none_is_counted_at_once(tmp_path, data):
    store = write(tmp_path)
    path = file_of(store.study_dir)
    body = f'{{"seq":9,"kind":"observation","data":{data}'.encode()
    lines = path.read_bytes().split(b"\n")
    lines.insert(4, b'%s,"crc":"%08x"}' % (body, zlib.crc32(body)))
    path.write_bytes(b"\n".join(lines))
    study = StudyReader(store.study_dir).read()
    assert study.reasons == {"not a record": 1} and len(study.runs["run"].observations) == 3


def test_a_file_that_is_gone_or_grows_does_no_harm(tmp_path):
    store = write(tmp_path, state=None)
    reader = StudyReader(store.study_dir)
    run = reader.read().runs["run"]
    path = file_of(store.study_dir)
    path.rename(tmp_path / "away")
    assert run.observations == () and run.newest("val_loss") is not None
    (tmp_path / "away").rename(path)
    assert len(run.observations) == 3, "what could not be read is not remembered"
    store.append(observation(3))
    assert len(run.observations) == 3, "a record does not change"
    assert len(reader.read().runs["run"].observations) == 4
    path.unlink()
    assert reader.read().runs == {}


def test_long_files_are_not_held(tmp_path, monkeypatch):
    store = write(tmp_path)
    monkeypatch.setattr(held_module, "MAX_HELD", file_of(store.study_dir).stat().st_size - 1)
    run = StudyReader(store.study_dir).read().runs["run"]
    assert type(run) is RunRecord and len(run.observations) == 3


def test_only_what_changed_is_put_together_again(tmp_path):
    write(tmp_path, "old", state=None)
    write(tmp_path, "old", values=[2.5, 1.0], continues={"run": "old", "step": 1})
    write(tmp_path, "branch", values=[2.0], continues={"run": "old", "step": 1})
    write(tmp_path, "alone")
    store = write(tmp_path, "own", state=None)
    reader = StudyReader(store.study_dir)
    before = reader.read().runs
    store.append(observation(7, run="own"))
    after = reader.read().runs
    assert [name for name in after if after[name] is not before[name]] == ["own"]
    store.append(observation(8, run="own"))
    again = reader.read().runs
    assert [name for name in again if again[name] is not after[name]] == ["own"]
    write(tmp_path, "old", values=[9.0], continues={"run": "old", "step": 0})
    later = reader.read().runs
    assert [name for name in later if later[name] is not again[name]] == ["branch", "old"]
    assert later == read_at_once(store.study_dir)
    unsaved = reader.read((store.info, [observation(9, run="own")])).runs
    assert [o.counts.steps for o in unsaved["own"].observations] == [0, 1, 2, 7, 8, 9]
    assert reader.read().runs == later


def test_a_held_attempt_that_is_unsaved_takes_what_was_not_written(tmp_path):
    store = write(tmp_path, state=None)
    reader = StudyReader(store.study_dir)
    assert isinstance(reader.read().runs["run"], HeldRecord)
    runs = reader.read((store.info, [observation(5, 9.0), observation(1, 8.0)])).runs
    assert [(o.counts.steps, o.value) for o in runs["run"].observations] == [
        *((0, 3.0), (1, 8.0), (2, 1.5), (5, 9.0))
    ]


def test_attempts_that_go_on_from_others_are_put_together(tmp_path):
    write(tmp_path, "first")
    store = write(tmp_path, "second", values=[9.0], continues={"run": "first", "step": 1})
    write(tmp_path, "third", continues={"run": "nowhere", "step": 5})
    write(tmp_path, "scratch", continues={"run": "first", "step": 0})
    runs = StudyReader(store.study_dir).read().runs
    assert isinstance(runs["second"], HeldRecord) and runs == read_at_once(store.study_dir)
    assert runs["second"].past == {"first": 1} and runs["third"].past == {"nowhere": 5}
    assert runs["scratch"].past == {}
    newest = runs["second"].newest("val_loss")
    assert (newest.run, newest.value, newest.counts.steps) == ("second", 2.0, 1), (
        "of the first, before its end"
    )


@pytest.mark.parametrize("seed", range(25))
def test_resumed_runs_tell_the_same_before_and_after_they_are_read(tmp_path, seed):
    """Runs of up to four attempts and two metrics, which go on from each other in any way."""
    chance = random.Random(seed)
    for attempt in range(chance.randint(2, 9)):
        store = ObservationStore(tmp_path)
        begin = chance.randint(0, 3)
        before = {"run": chance.choice("abc"), "step": chance.choice([0, begin, 3, 5])}
        conventions = {"params": chance.choice(["all", "all", "trainable"]), "metric": "val_loss"}
        info = RunInfo(chance.choice("abc"), conventions=conventions, started=float(attempt))
        store.begin(dataclasses.replace(info, continues=chance.choice([None, before])))
        for step in range(begin, begin + chance.randint(1, 6)):
            for metric in chance.choice([["val_loss"], ["val_loss", "val_loss"], ["a", "val_loss"]]):
                store.append(observation(step, attempt + chance.random(), metric, store.info.run))
        chance.choice([store.close, lambda store=store: store.finish("finished")])()
    runs, expected = StudyReader(store.study_dir).read().runs, read_at_once(store.study_dir)
    assert list(runs) == list(expected)
    for name, run in runs.items():
        assert isinstance(run, HeldRecord)
        known = dataclasses.asdict(run.info), run.state, run.past, run.counted_otherwise, run.metrics
        told = expected[name]
        assert known == (
            dataclasses.asdict(told.info),
            *(told.state, told.past, told.counted_otherwise, told.metrics),
        )
        newest = {metric: run.newest(metric) for metric in ("val_loss", "a", "none")}
        assert newest == {metric: told.newest(metric) for metric in newest}
        assert run == told


def test_resumed_runs_are_read_when_they_are_asked_for(tmp_path, monkeypatch):
    write(tmp_path, values=[3.0] * 40, state=None)
    store = write(tmp_path, values=[2.0] * 40, continues={"run": "run", "step": 20})
    decoded = []
    reading = held_module.read_observation
    monkeypatch.setattr(held_module, "read_observation", lambda *a: (decoded.append(a), reading(*a))[1])
    run = StudyReader(store.study_dir).read().runs["run"]
    assert run.metrics == {"val_loss": 40} and run.newest("val_loss").value == 2.0 and len(decoded) == 2
    assert len(run.observations) == 40 and len(decoded) == 82


def test_a_step_that_was_measured_twice_counts_once(tmp_path):
    store = ObservationStore(tmp_path)
    store.begin(RunInfo("run"))
    for step in (1, 2, 2):
        store.append(observation(step))
    store.close()
    run = StudyReader(store.study_dir).read().runs["run"]
    assert isinstance(run, HeldRecord) and run.metrics == {"val_loss": 2} and len(run.observations) == 2
