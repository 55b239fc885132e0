"""What a session keeps of its own record, and writes again where the file is gone."""

import itertools
import shutil
from pathlib import Path

from foretrain.axes import Counts
from foretrain.lightning.own_record import MAX_OWN, OwnRecord
from foretrain.observation import Observation, RunInfo, ScheduleUpdate
from foretrain.schedule import Schedule
from foretrain.store import ObservationStore, StudyReader


def observation(step):
    return Observation("r", "m", 1.0 / step, Counts(samples=step, steps=step))


def begun(root):
    store = ObservationStore(root)
    store.begin(RunInfo(run="r"))
    return store


def read(store):
    return StudyReader(store.study_dir).read().runs["r"]


def test_nothing_is_written_while_the_file_is_there(tmp_path):
    own, store = OwnRecord(), begun(tmp_path)
    store.append(observation(1))
    own.keep(observation(1))
    (path,) = tmp_path.glob("*/*/*.jsonl")
    before = path.read_bytes()
    own.restore(store)
    assert path.read_bytes() == before


def test_everything_comes_back_with_its_schedule(tmp_path):
    own, store = OwnRecord(), begun(tmp_path / "logs")
    for step in range(1, 101):
        update = ScheduleUpdate(Schedule.from_knots([(step, 0.1 / step)]))
        store.append(observation(step), update)
        own.keep(observation(step))
        own.tell(update)
    before = read(store)
    shutil.rmtree(tmp_path / "logs")
    own.restore(store)
    assert read(store).observations == before.observations
    assert read(store).schedule == before.schedule
    own.restore(store)
    (path,) = tmp_path.glob("logs/*/*/*.jsonl")
    assert path.read_text().count('"observation"') == 100, "once"


def test_what_cannot_be_written_yet_is_not_given_twice(tmp_path):
    own, store = OwnRecord(), begun(tmp_path / "logs")
    for step in (1, 2, 3):
        kept = observation(step)
        store.append(kept)
        own.keep(kept)
    shutil.rmtree(tmp_path / "logs")
    Path(tmp_path, "logs").write_text("in the way")
    for _ in range(3):
        own.restore(store)
        assert [o.counts.steps for o in store.unsaved] == [1, 2, 3]
    Path(tmp_path, "logs").unlink()
    store.sync()
    assert store.unsaved == ()
    assert [o.counts.steps for o in read(store).observations] == [1, 2, 3]


def test_it_stays_small_and_keeps_both_ends(tmp_path):
    own, store = OwnRecord(), begun(tmp_path / "logs")
    store.append(observation(1))
    for step in range(1, 100_001):
        own.keep(observation(step))
    shutil.rmtree(tmp_path / "logs")
    own.restore(store)
    steps = [o.counts.steps for o in read(store).observations]
    assert len(steps) <= MAX_OWN
    assert steps[:30] == list(range(1, 31))
    assert steps[-1] == 100_000
    assert max(b / a for a, b in itertools.pairwise(steps[30:])) < 1.03**2
