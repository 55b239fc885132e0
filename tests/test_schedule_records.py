"""A run's schedule in the record file: ahead of the observations, and put together over attempts."""

import errno
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretrain import store as store_module
from foretrain.axes import Counts
from foretrain.knots import MAX_KNOTS, KnotBuilder
from foretrain.observation import NOT_RECORDED, Observation, Plan, RunInfo, RunRecord, ScheduleUpdate
from foretrain.schedule import Schedule
from foretrain.storage.records import LineError, decode_line, encode_line, encode_schedule, read_schedule
from foretrain.store import ObservationStore, StudyReader


class Recorder:
    """What a training process does: takes rates, and tells at each validation what is new."""

    def __init__(self, root, *, run="run", continues=None, before=(), conventions=None):
        self.store = ObservationStore(root)
        self.info = self.store.begin(RunInfo(run, continues=continues, conventions=conventions or {}))
        self.builder, self.since, self.step = KnotBuilder(), 0, 0
        self.use(before)

    def use(self, rates):
        for rate in rates:
            self.step += 1
            self.builder.add(self.step, rate)
        return self

    def start_at(self, step):
        """Leaves out the steps before: as where a checkpoint knew nothing of them."""
        self.step = step
        return self

    def validate(self, plan=None):
        knots = self.builder.knots(self.since)
        self.since = knots[-2][0] if len(knots) > 1 else knots[-1][0]
        update = ScheduleUpdate(Schedule.from_knots(knots, self.builder.tolerance), plan)
        step = self.builder.step
        observation = Observation(self.info.run, "val_loss", 1.0 / step, Counts(samples=step, steps=step))
        return self.store.append(observation, update)

    def end(self, state):
        self.store.finish(state)
        self.store.close()


def read(root, run="run") -> RunRecord:
    return StudyReader(ObservationStore(root).study_dir).read().runs[run]


def plan(rates, first=1, unknown=None):
    return Plan(Schedule.from_rates(rates, first), unknown)


def test_used_and_planned_rates_are_one_schedule(tmp_path):
    rates = [min(step / 10, 1.0, (100 - step) / 50) for step in range(1, 101)]
    recorder = Recorder(tmp_path)
    for part in (rates[:20], rates[20:55]):
        assert recorder.use(part).validate(plan(rates))
    record = read(tmp_path)
    assert record.schedule.rates() == pytest.approx(rates)
    assert (record.schedule_used_until, record.schedule_unknown) == (55, None)
    recorder.use(rates[55:70]).validate()
    assert read(tmp_path).schedule_used_until == 70, "the plan need not be told again"
    assert read(tmp_path).schedule.rates() == pytest.approx(rates)


def test_what_was_used_goes_before_what_was_planned(tmp_path):
    Recorder(tmp_path).use([1.0] * 10).validate(plan([2.0] * 20))
    assert read(tmp_path).schedule.rates().tolist() == [1.0] * 10 + [2.0] * 10


@pytest.mark.parametrize("unknown", ["reactive", "too long"])
def test_why_the_rest_is_unknown_is_told(tmp_path, unknown):
    known = Schedule.from_rates([1.0] * 15) if unknown == "too long" else None
    Recorder(tmp_path).use([1.0] * 10).validate(Plan(known, unknown))
    record = read(tmp_path)
    assert record.schedule_unknown == unknown
    assert record.schedule.end == (15 if known else 10)
    assert record.schedule_used_until == 10


def test_the_newest_plan_counts(tmp_path):
    recorder = Recorder(tmp_path)
    recorder.use([1.0] * 2).validate(Plan(None, "changed"))
    assert read(tmp_path).schedule_unknown == "changed"
    recorder.use([1.0] * 2).validate(plan([0.5] * 3, first=4))
    record = read(tmp_path)
    assert record.schedule_unknown is None
    assert record.schedule.rates().tolist() == [1.0, 1.0, 1.0, 1.0, 0.5, 0.5]


def test_nothing_more_comes_of_a_finished_run(tmp_path):
    recorder = Recorder(tmp_path)
    recorder.use([1.0] * 5).validate(plan([1.0] * 50))
    recorder.end("finished")
    record = read(tmp_path)
    assert (record.schedule.end, record.schedule_used_until, record.schedule_unknown) == (5, 5, None)
    other = Recorder(tmp_path, run="other")
    other.use([1.0] * 5).validate(plan([1.0] * 50))
    other.end("failed")
    assert read(tmp_path, "other").schedule.end == 50, "it may be resumed"


def test_a_run_without_its_schedule_says_so(tmp_path):
    store = ObservationStore(tmp_path)
    store.begin(RunInfo("run"))
    store.append(Observation("run", "val_loss", 1.0, Counts(samples=1, steps=1)))
    record = read(tmp_path)
    assert (record.schedule, record.schedule_used_until, record.schedule_unknown) == (None, 0, NOT_RECORDED)
    assert RunRecord(RunInfo("run")).schedule_unknown == NOT_RECORDED


# The file


def test_the_schedule_stands_ahead_of_the_observation(tmp_path):
    recorder = Recorder(tmp_path)
    recorder.use([1.0] * 5).validate(plan([1.0] * 9))
    recorder.use([1.0] * 2).validate()
    (path,) = recorder.store.study_dir.rglob("*.jsonl")
    lines = [decode_line(line) for line in path.read_bytes().split(b"\n") if line]
    assert [kind for _, kind, _ in lines] == [
        "run",
        "run",
        "schedule",
        "observation",
        "schedule",
        "observation",
    ]
    assert lines[2][2] == {
        "used": {"knots": [[1, 1.0], [5, 1.0]], "tolerance": 1e-4},
        "plan": {"schedule": {"knots": [[1, 1.0], [9, 1.0]], "tolerance": 1e-4}, "unknown": None},
    }
    assert lines[4][2] == {"used": {"knots": [[1, 1.0], [7, 1.0]], "tolerance": 1e-4}}


def test_a_file_cut_anywhere_leaves_no_observation_without_its_rates(tmp_path):
    rates = [0.5 * (1 + np.cos(step / 10)) for step in range(40)]
    recorder = Recorder(tmp_path)
    for start in range(0, 40, 8):
        recorder.use(rates[start : start + 8]).validate(plan(rates))
    (path,) = recorder.store.study_dir.rglob("*.jsonl")
    data = path.read_bytes()
    whole = 0
    for end in range(len(data)):
        path.write_bytes(data[:end])
        runs = StudyReader(recorder.store.study_dir).read().runs
        if not runs or not runs["run"].observations:
            continue
        record = runs["run"]
        step = record.observations[-1].counts.steps
        assert record.schedule_used_until >= step
        assert record.schedule.rates() == pytest.approx(rates, abs=2.1e-4)
        whole += 1
    assert whole > len(data) / 2


def test_a_damaged_line_costs_its_stretch_only(tmp_path):
    rates = [1.0] * 10 + [0.5] * 10 + [0.25] * 10
    recorder = Recorder(tmp_path)
    for start in (0, 10, 20):
        recorder.use(rates[start : start + 10]).validate(plan(rates) if not start else None)
    (path,) = recorder.store.study_dir.rglob("*.jsonl")
    lines = path.read_bytes().split(b"\n")
    (second,) = [
        i
        for i, line in enumerate(lines)
        if b'"schedule","data"' in line and b"[20,0.5]" in line and b"[30" not in line
    ]
    lines[second] = lines[second].replace(b"0.5", b"0.6")
    path.write_bytes(b"\n".join(lines))
    study = StudyReader(recorder.store.study_dir).read()
    assert study.reasons == {"damaged": 1}
    told = study.runs["run"].schedule.rates()
    assert told[:10] == pytest.approx(rates[:10]) and told[20:] == pytest.approx(rates[20:])
    assert told.size == 30


@pytest.mark.parametrize(
    "data",
    [
        {"used": 3},
        {"used": {"knots": []}},
        {"used": {"knots": [[3, 1.0], [2, 1.0]]}},
        {"used": {"knots": [[1, -1.0]]}},
        {"used": {"knots": [[1, "x"]]}},
        {"used": {"knots": [[1, 1.0]], "tolerance": None}},
        {"plan": []},
        {"plan": {"unknown": 3}},
        {"plan": {"schedule": {"knots": None}}},
    ],
)
def test_nonsense_is_skipped_and_counted(tmp_path, data):
    with pytest.raises(LineError, match="not a record"):
        read_schedule(data)
    recorder = Recorder(tmp_path)
    recorder.use([1.0]).validate()
    (path,) = recorder.store.study_dir.rglob("*.jsonl")
    with path.open("ab") as file:
        file.write(encode_line(9, "schedule", data))
    study = StudyReader(recorder.store.study_dir).read()
    assert study.reasons == {"not a record": 1}
    assert study.runs["run"].schedule.rates().tolist() == [1.0]


def test_unknown_kinds_and_names_are_ignored(tmp_path):
    recorder = Recorder(tmp_path)
    recorder.use([1.0]).validate()
    (path,) = recorder.store.study_dir.rglob("*.jsonl")
    used = {"knots": [[1, 2.0]], "tolerance": 0.0, "later": 1}
    with path.open("ab") as file:
        file.write(encode_line(9, "a later kind", {"used": used}) + encode_line(10, "schedule", {"later": 2}))
        file.write(encode_line(11, "schedule", {"used": used, "later": {}}))
    study = StudyReader(recorder.store.study_dir).read()
    assert study.damaged == 0
    assert study.runs["run"].schedule.rates().tolist() == [2.0]


def test_a_schedule_without_a_header_is_skipped(tmp_path):
    study_dir = ObservationStore(tmp_path).study_dir
    (study_dir / "run").mkdir(parents=True)
    line = encode_schedule(0, ScheduleUpdate(Schedule.from_rates([1.0])))
    (study_dir / "run" / "0001-aa.jsonl").write_bytes(line)
    study = StudyReader(study_dir).read()
    assert study.reasons == {"no header before it": 1} and not study.runs


def test_a_schedule_that_never_settles_stays_bounded(tmp_path):
    rng = np.random.default_rng(0)
    recorder = Recorder(tmp_path)
    for _ in range(40):
        recorder.use(rng.random(500).tolist()).validate()
    record = read(tmp_path)
    assert record.schedule.end == 20_000
    assert len(record.schedule.steps) <= MAX_KNOTS


@settings(max_examples=100, deadline=None)
@given(
    rates=st.none() | st.lists(st.floats(0, 1e3), min_size=1, max_size=30),
    planned=st.none() | st.lists(st.floats(0, 1e3), min_size=1, max_size=30),
    unknown=st.none() | st.text(max_size=9),
)
def test_lines_give_back_what_was_written(rates, planned, unknown):
    told = (
        None
        if planned is None and unknown is None
        else Plan(planned and Schedule.from_rates(planned), unknown)
    )
    update = ScheduleUpdate(rates and Schedule.from_rates(rates), told)
    _, kind, data = decode_line(encode_schedule(3, update).rstrip(b"\n"))
    assert kind == "schedule"
    assert read_schedule(data) == update
    assert json.loads(json.dumps(update.to_json())) == update.to_json()


# A disk that fails


def test_what_cannot_be_written_is_kept_as_one_update(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError(errno.ENOSPC, "no space")

    rates = [1.0] * 10 + [0.5] * 10
    recorder = Recorder(tmp_path)
    recorder.use(rates[:5]).validate(plan(rates))
    with monkeypatch.context() as patch:
        patch.setattr(store_module.os, "write", fail)
        assert not recorder.use(rates[5:10]).validate()
        assert not recorder.use(rates[10:]).validate(plan(rates, unknown="too long"))
        unsaved = recorder.store.unsaved_schedule
        assert unsaved.used.end == 20 and unsaved.plan.unknown == "too long"
        assert read(tmp_path).schedule_used_until == 5
        reader = StudyReader(recorder.store.study_dir)
        study = reader.read((recorder.info, recorder.store.unsaved), schedule=unsaved)
        assert study.runs["run"].schedule.rates() == pytest.approx(rates)
        assert reader.read().runs["run"].schedule_used_until == 5, "it is not remembered"
    recorder.store.sync()
    assert recorder.store.unsaved_schedule is None
    record = read(tmp_path)
    assert record.schedule.rates() == pytest.approx(rates)
    assert (record.schedule_used_until, record.schedule_unknown) == (20, "too long")
    assert [o.counts.steps for o in record.observations] == [5, 10, 20]


def test_thinned_observations_keep_their_schedule(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(store_module, "MAX_UNSAVED", 4)
    monkeypatch.setattr(store_module.os, "open", fail)
    rates = [1.0 / step for step in range(1, 31)]
    recorder = Recorder(tmp_path)
    for rate in rates:
        recorder.use([rate]).validate()
    assert len(recorder.store.unsaved) <= 4
    assert recorder.store.unsaved_schedule.used.rates() == pytest.approx(rates, abs=1.1e-4)


def test_a_refused_schedule_does_not_block_the_rest(tmp_path, monkeypatch):
    recorder = Recorder(tmp_path)
    observation = Observation("run", "val_loss", 1.0, Counts(samples=1, steps=1))
    assert not recorder.store.append(observation, ScheduleUpdate(plan=Plan(None, 3)))
    assert "could not be recorded" in recorder.store.fault
    assert len(read(tmp_path).observations) == 1
    recorder.use([1.0]).validate()
    assert read(tmp_path).schedule.end == 1


def test_a_new_attempt_tells_its_own(tmp_path, monkeypatch):
    recorder = Recorder(tmp_path)
    monkeypatch.setattr(store_module.os, "write", lambda *args: 0)
    recorder.use([1.0]).validate()
    assert recorder.store.unsaved_schedule is not None
    recorder.store.begin(RunInfo("run"))
    assert recorder.store.unsaved_schedule is None


# Attempts


def test_a_resumed_run_keeps_one_unbroken_schedule(tmp_path):
    rates = [0.99**step for step in range(60)]
    first = Recorder(tmp_path)
    first.use(rates[:20]).validate(plan(rates))
    first.use(rates[20:40]).validate()
    # Resumed at 25, from a checkpoint that holds the rates used till then.
    again = Recorder(tmp_path, continues={"run": "run", "step": 25}, before=rates[:25])
    again.use(rates[25:30]).validate(plan(rates[25:], first=26))
    record = read(tmp_path)
    assert record.schedule.rates() == pytest.approx(rates, abs=3e-4)
    assert record.schedule_used_until == 40, "as far as the first attempt came"
    again.use([0.1] * 15).validate()
    record = read(tmp_path)
    assert record.schedule_used_until == 45
    assert record.schedule.rates(45)[30:] == pytest.approx([0.1] * 15)


def test_an_attempt_that_knows_only_its_own_part_follows_the_others(tmp_path):
    Recorder(tmp_path).use([1.0] * 20).validate(plan([1.0] * 50))
    again = Recorder(tmp_path, continues={"run": "run", "step": 10}).start_at(10)
    again.use([0.5] * 5).validate(plan([0.5] * 40, first=11))
    record = read(tmp_path)
    assert record.schedule.rates().tolist() == [1.0] * 10 + [0.5] * 5 + [1.0] * 5 + [0.5] * 30
    again.use([0.5] * 10).validate()
    assert read(tmp_path).schedule.rates().tolist() == [1.0] * 10 + [0.5] * 40


def test_an_attempt_from_scratch_hides_the_others(tmp_path):
    Recorder(tmp_path).use([1.0] * 20).validate(plan([1.0] * 50))
    again = Recorder(tmp_path, continues={"run": "run", "step": 0})
    assert read(tmp_path).schedule is None
    again.use([0.5] * 2).validate(plan([0.5] * 3))
    assert read(tmp_path).schedule.rates().tolist() == [0.5] * 3


def test_an_attempt_that_tells_nothing_hides_nothing(tmp_path):
    Recorder(tmp_path).use([1.0] * 20).validate(plan([1.0] * 50))
    Recorder(tmp_path)
    Recorder(tmp_path, continues={"run": "run", "step": 10})
    record = read(tmp_path)
    assert (record.schedule.end, record.schedule_used_until) == (50, 20)


def test_a_run_continues_another(tmp_path):
    Recorder(tmp_path, run="a").use([1.0] * 20).validate(plan([1.0] * 50))
    other = Recorder(tmp_path, run="b", continues={"run": "a", "step": 10}).start_at(10)
    other.use([0.5] * 5).validate(plan([0.5] * 40, first=11))
    assert read(tmp_path, "b").schedule.rates().tolist() == [1.0] * 10 + [0.5] * 40
    assert read(tmp_path, "a").schedule_used_until == 20


def test_a_run_known_only_from_its_middle_has_no_schedule(tmp_path):
    Recorder(tmp_path, continues={"run": "run", "step": 10}).start_at(10).use([1.0] * 5).validate()
    record = read(tmp_path)
    assert (record.schedule, record.schedule_unknown) == (None, NOT_RECORDED)


def test_two_monitors_of_one_training(tmp_path):
    recorders = [Recorder(tmp_path, continues={"run": "run", "step": 0}) for _ in range(2)]
    for recorder in recorders:
        recorder.use([1.0] * 5).validate(plan([1.0] * 9))
    assert read(tmp_path).schedule.rates().tolist() == [1.0] * 9


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_however_often_it_was_resumed_the_rates_are_those_of_the_weights(tmp_path_factory, data):
    """Against a plain account: a list of the rates that led to the weights that are there."""
    root = tmp_path_factory.mktemp("resume")
    used, at = [], 0
    for number in range(1, data.draw(st.integers(1, 8)) + 1):
        resumed = data.draw(st.integers(0, at))
        knows = data.draw(st.booleans())
        recorder = Recorder(root, continues={"run": "run", "step": resumed})
        if knows:
            recorder.use(used[:resumed])
        elif resumed:
            recorder.start_at(resumed)
        used = used[:resumed] if resumed else []
        for _ in range(data.draw(st.integers(1, 3))):
            more = [float(number)] * data.draw(st.integers(1, 20))
            recorder.use(more).validate()
            used = used + more
        at = len(used)
    recorder.end("finished")
    assert read(root).schedule.rates() == pytest.approx(used, abs=1e-3 * number)


def test_the_analysis_reads_records_without_numbers_libraries():
    code = "import sys, foretrain.store, foretrain.schedule; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
