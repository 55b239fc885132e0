"""The store behind a URL: nothing acknowledged is lost, nothing doubled, and training never waits for it."""

import copy
import importlib
import importlib.util
import itertools
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
import bucket
from foretrain.axes import Counts
from foretrain.cli import main
from foretrain.observation import Observation, Plan, RunInfo, ScheduleUpdate
from foretrain.schedule import Schedule
from foretrain.storage import mirror as mirror_module
from foretrain.storage import uploader as uploader_module
from foretrain.storage.fragments import UNNUMBERED, RecordTail, covers
from foretrain.storage.mirror import Mirror
from foretrain.storage.objects import ObjectFolder
from foretrain.storage.reader import StudyReader
from foretrain.storage.records import FileName, decode_line, folder_name, read_name, write_name
from foretrain.storage.shipping import Shipment
from foretrain.storage.spool import SpoolFolder, left_behind, spool_root
from foretrain.storage.uploader import Pace
from foretrain.storage.url_store import UrlStore, open_store
from foretrain.storage.urls import as_root, without_secrets
from foretrain.store import ObservationStore

FAST = Pace(0.0, 0.02, 0.0, 0.02, 0.0, together=8, read=0.05, left=0.05, retry=0.01, longest_retry=0.05)
NOT_WAITED = 20.0
"""Seconds: a busy machine's patience, and far less than a store that hangs for ever would take."""
GIVES_UP = replace(FAST, longest_retry=1e9)  # so that threads do not outlive their tests


@pytest.fixture
def spool(tmp_path):
    return tmp_path / "spool"


@pytest.fixture
def cloud(tmp_path):
    """A store without append in which nothing fails yet."""
    made = bucket.install(tmp_path / "objects")
    yield made
    if made.hangs is not None:
        made.hangs.set()
    made.fails, made.hangs = 0.0, None


@pytest.fixture
def memory():
    """A root in memory of its own."""
    url = f"memory://{os.urandom(6).hex()}/logs"
    yield url
    for name in fsspec.filesystem("memory").find(url.partition("://")[2]):
        fsspec.filesystem("memory").rm_file(name)


def observation(step, value=None, run="run"):
    return Observation(run, "val_loss", 1 / step if value is None else value, Counts(10 * step, step))


def begun(url, spool, run="run", pace=FAST, **more):
    store = UrlStore(url, spool=spool, pace=pace)
    store.begin(RunInfo(run=run, **more))
    return store


def wait_until(true, seconds=30.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)


def gone(store):
    """Waits until the uploader has brought everything."""
    wait_until(lambda: not store._spool.path.exists())


def read_all(url, study="default"):
    return StudyReader(f"{url}/{folder_name(study)}").read()


def steps(study, run="run"):
    return [o.counts.steps for o in study.runs[run].observations]


def objects(cloud):
    """Names of what is there whole: what is still being written is no object yet."""
    names = (path.name.rpartition("%2F")[2] for path in cloud.folder.iterdir())
    return sorted(name for name in names if not name.endswith(".new"))


# Roots


@pytest.mark.parametrize(
    ("root", "advice"),
    [
        ("foo://x", r"got 'foo://x': pip install the package whose fsspec filesystem is foo://"),
        ("s3://bucket::memory://x", r"write protocol://folder, with one protocol"),
        ("://x", r"write protocol://folder"),
        ("http://host/logs", r"nothing can be written to http://|pip install"),
        ("file://logs", r"file:///its/full/path"),
        ("memory://a*b", r"leave out the characters"),
        (Path("memory://a"), r"a path has one slash where a URL has two: pass it as text"),
        (b"memory://a", r"pass it as text, not as bytes"),
    ],
)  # fmt: skip
def test_a_root_that_cannot_be_used_is_refused_with_what_to_do(root, advice):
    if isinstance(root, bytes):
        root = type("Odd", (), {"__fspath__": lambda self, raw=root: raw})()
    expected = "Expected a directory or a URL of an installed filesystem, got "
    with pytest.raises(ValueError, match=expected) as told:
        as_root(root)
    assert told.match(advice)


@pytest.mark.parametrize(("protocol", "package"), [("s3", "s3fs"), ("gs", "gcsfs"), ("abfs", "adlfs")])
def test_what_is_not_installed_is_named(monkeypatch, protocol, package):
    def missing(name):
        raise ImportError(f"Install {package}")

    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    with pytest.raises(ValueError, match=f"got '{protocol}://b/x': pip install {package} "):
        as_root(f"{protocol}://b/x")
    monkeypatch.setattr(fsspec, "get_filesystem_class", lambda name: object)
    with pytest.raises(ValueError, match=f"name the bucket, as in {protocol}://bucket/folder"):
        as_root(f"{protocol}://")
    assert as_root(f"{protocol}://b/x/") == f"{protocol}://b/x"


def test_without_fsspec_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(ValueError, match=r"pip install 'foretrain\[fsspec\]'"):
        as_root("memory://x")


def test_local_roots_are_paths(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert as_root("~/logs") == "/home/me/logs" and as_root(Path("a/b")) == "a/b"
    assert as_root("file:///data/logs") == as_root("local:///data/logs") == "/data/logs"
    assert isinstance(open_store(f"file://{tmp_path}"), ObservationStore)
    assert isinstance(open_store("memory://x"), UrlStore)
    with pytest.raises(ValueError, match=r"Expected a directory, got 'memory://x': use .*open_store"):
        ObservationStore("memory://x")


def test_passwords_are_not_told():
    assert without_secrets("ftp://me:secret@host/x") == "ftp://me:***@host/x"
    with pytest.raises(ValueError, match=r"me:\*\*\*@host") as told:
        as_root("foo://me:secret@host/x")
    assert "secret" not in str(told.value)


# Names


@given(st.integers(0, 10**9 - 1), st.integers(0, 10**12 - 1), st.integers(0, 10**12 - 1))
def test_a_name_gives_back_what_was_written(attempt, one, other):
    first, last = sorted((one, other))
    for name in (FileName(attempt, "0ab", first, last), FileName(attempt, "0ab")):
        assert read_name(write_name(name)) == name
    assert (read_name(f"0001-a.{last}-{first}.jsonl") is None) == (first < last)


RANGES = st.tuples(st.integers(0, 30), st.integers(0, 8))


@given(st.lists(RANGES, max_size=6), RANGES)
def test_what_covers_a_fragment(there, one):
    first, more = one
    held = {line for start, extra in there for line in range(start, start + extra + 1)}
    names = [FileName(1, "a", start, start + extra) for start, extra in there]
    wanted = FileName(1, "a", first, first + more)
    assert covers(names, wanted) == (set(range(first, first + more + 1)) <= held)
    assert not covers([name._replace(unique="b") for name in names], wanted)


# Fragments, as a reader finds them


LAST = 40


def lines_of(root):
    """A record file with a schedule and gaps in what is finite, and what a plain reading of it gives."""
    store = ObservationStore(root)
    store.begin(RunInfo("run", conventions={"params": "all"}, planned=Counts(1000, 100), started=5.0))
    for step in range(1, LAST + 1):
        knots = [(1, 0.0), (step + 1, 0.1 * (step + 1))]
        update = ScheduleUpdate(Schedule.from_knots(knots, 0.0), Plan(None, f"reason {step}"))
        assert store.append(observation(step, float("nan") if step % 7 == 0 else None), update)
    store.finish("finished")
    store.close()
    (path,) = store.study_dir.rglob("*.jsonl")
    return store.study_dir, path


@pytest.fixture(scope="module")
def whole_file(tmp_path_factory):
    """A record file, and what it holds, in words."""
    study_dir, path = lines_of(tmp_path_factory.mktemp("whole"))
    return path, repr(StudyReader(study_dir).read())


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_fragments_in_any_order_and_overlap_give_what_the_file_gives(tmp_path_factory, whole_file, data):
    root = tmp_path_factory.mktemp("cut")
    path, expected = whole_file
    sizes = data.draw(st.lists(st.integers(1, 4000), min_size=1, max_size=8))
    tail, fragments, turn = RecordTail(path), [], 0
    assert tail.read_info() is not None
    while (fragment := tail.cut(1, sizes[turn % len(sizes)])) is not None:
        fragments.append(fragment)
        turn += 1
    if data.draw(st.booleans()):
        fragments.append(tail.again(1, 0))  # all of them as one
    late = data.draw(st.permutations(fragments))
    folder = root / "cut" / "run"
    folder.mkdir(parents=True)
    reader = StudyReader(root / "cut")
    for fragment in late:
        (folder / fragment.name).write_bytes(fragment.content)
        if data.draw(st.booleans()):
            reader.read()
    got = reader.read()
    assert repr(got) == expected  # NaN is not itself
    assert got.damaged == 0 and steps(got) == list(range(1, LAST + 1))
    for fragment in fragments[: data.draw(st.integers(0, max(0, len(fragments) - 1)))]:
        if fragment is not fragments[-1] and len(fragments[-1].content) >= path.stat().st_size:
            (folder / fragment.name).unlink()  # removed once they were put together
    assert repr(reader.read()) == expected == repr(StudyReader(root / "cut").read())


def test_one_flipped_bit_of_a_fragment_costs_two_lines_at_most(tmp_path):
    _, path = lines_of(tmp_path / "file")
    tail = RecordTail(path)
    pieces = [tail.cut(1, 3000) for _ in range(3)]
    folder = tmp_path / "cut" / "run"
    folder.mkdir(parents=True)
    for piece in pieces:
        (folder / piece.name).write_bytes(piece.content)
    whole = StudyReader(tmp_path / "cut").read()
    chance = random.Random(1)
    for _ in range(300):
        content = bytearray(pieces[1].content)
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        (folder / pieces[1].name).write_bytes(content)
        study = StudyReader(tmp_path / "cut").read()
        assert 1 <= study.damaged <= 2 or study.runs == whole.runs
        assert set(steps(study)) <= set(steps(whole)) and len(steps(study)) >= len(steps(whole)) - 2
        for got in study.runs["run"].observations:
            assert repr(got) in {repr(o) for o in whole.runs["run"].observations}


def test_a_spool_file_that_is_removed_and_begun_anew_is_cut_from_its_start(tmp_path):
    store = ObservationStore(tmp_path, attempt=UNNUMBERED)
    store.begin(RunInfo("run"))
    store.append(observation(1))
    (path,) = store.study_dir.rglob("*.jsonl")
    tail = RecordTail(path)
    assert tail.read_info().run == "run"
    assert read_name(tail.cut(3, 10**6).name)[2:] == (2, 2)
    path.rename(path.with_suffix(".old"))  # keeps the inode in use
    path.with_suffix(".old").unlink()
    path.touch()
    assert [store.append(observation(step)) for step in (2, 3)] == [True, True]
    fragment = tail.cut(3, 10**6)
    assert tail.generation == 1
    assert [decode_line(line)[1] for line in fragment.content.split(b"\n") if line].count("observation") == 2


# The spool


def test_a_spool_folder_is_locked_while_its_process_lives(spool):
    root = spool_root("memory://x", spool)
    mine = SpoolFolder(root)
    mine.make()
    (mine.path / "file").write_text("x")
    assert list(left_behind(root)) == [] and mine.held and mine.take()
    assert mine.path.stat().st_mode & 0o077 == 0 and root.stat().st_mode & 0o077 == 0
    mine.leave()
    (other,) = left_behind(root)
    assert other.path == mine.path and not mine.take()
    other.remove()
    assert not mine.path.exists() and not mine.take()
    assert spool_root("memory://y", spool) != root


def test_a_forked_child_does_not_keep_the_lock(spool):
    root = spool_root("memory://x", spool)
    mine = SpoolFolder(root)
    mine.make()
    ready, go = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(ready[1], b"x")
        os.read(go[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    mine.leave()  # what the kernel does when the parent dies
    assert [folder.path for folder in left_behind(root)] == [mine.path]
    os.write(go[1], b"x")
    os.waitpid(pid, 0)


def test_a_spool_of_someone_else_is_not_used(spool, monkeypatch):
    spool.mkdir()
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    store = begun("memory://x", spool)
    assert "belongs to someone else" in store.fault
    store.close()


# The store


def test_a_url_gives_back_what_a_directory_does(memory, spool, tmp_path):
    info = RunInfo("a/b", conventions={"params": "all"}, planned=Counts(1000, 100), started=5.0)
    studies = []
    local = ObservationStore(tmp_path / "local", "sizes")
    for store in (local, UrlStore(memory, "sizes", spool=spool, pace=FAST)):
        assert store.begin(info).study == "sizes"
        update = ScheduleUpdate(Schedule.from_knots([(1, 0.1), (9, 0.2)], 0.0), Plan(None, "no end"))
        assert store.append(observation(1, run="a/b"), update)
        assert store.append(observation(2, float("inf"), run="a/b"))
        assert store.unsaved == () and store.unsaved_schedule is None and store.fault is None
        store.sync()
        store.tell(ScheduleUpdate(Schedule.from_knots([(9, 0.2), (12, 0.3)], 0.0)))
        assert steps(StudyReader(store.study_dir).read(), "a/b") == [1, 2]  # what the fits read
        store.finish("finished")
        store.close()
        studies.append(StudyReader(getattr(store, "study_url", store.study_dir)).read())
    assert studies[0] == studies[1]
    assert studies[1].runs["a/b"].info.attempt == 1


def test_objects_are_what_is_documented(cloud, spool):
    store = begun("bucket://b/logs", spool, started=3.0)
    seen = set()
    for step in range(1, 30):
        assert store.append(observation(step))
        time.sleep(0.01)
        seen.update(name for name in objects(cloud) if name.endswith(".jsonl"))
    assert len(seen) > 3
    store.finish("finished")
    store.close()
    gone(store)
    (name,) = objects(cloud)  # put together at the end
    assert cloud.changed == []
    (file,) = cloud.folder.iterdir()
    study, run, _ = file.name.replace("%2F", "/").removeprefix("b/logs/").split("/")
    assert (study, run) == (folder_name("default"), folder_name("run"))
    unique = read_name(name).unique
    assert name == f"0001-{unique}.000000002-000000031.jsonl"
    assert all(read_name(each).unique == unique for each in seen)
    header, empty, again, *lines, end = file.read_bytes().split(b"\n")
    assert empty == end == b""
    assert json.loads(header)["data"] == json.loads(again)["data"]
    assert json.loads(header)["data"]["attempt"] == 1
    told = [decode_line(line) for line in lines]
    assert [number for number, _, _ in told] == list(range(2, 32))
    assert [kind for _, kind, _ in told] == ["observation"] * 29 + ["end"]


def test_the_thread_that_trains_never_asks_the_store(cloud, spool):
    store = begun("bucket://b", spool)
    for step in range(1, 50):
        store.append(observation(step))
        store.sync()
    store.finish("finished")
    store.close()
    gone(store)
    assert cloud.threads == {"foretrain-uploader"} and len(cloud.calls) > 3


@pytest.mark.parametrize("seed", range(3))
def test_a_store_that_fails_three_calls_in_ten_loses_nothing(cloud, spool, seed):
    bucket.install(cloud.folder, fails=0.3, seed=seed)
    store = begun("bucket://b", spool)
    slowest = 0.0
    for step in range(1, 201):
        before = time.thread_time()
        assert store.append(observation(step))
        slowest = max(slowest, time.thread_time() - before)
        if step % 10 == 0:
            time.sleep(0.02)
    store.finish("finished")
    store.close()
    gone(store)
    failed = sum(1 for name, _ in cloud.calls if name == "put")
    assert failed > 5 and cloud.changed == [] and "MainThread" not in cloud.threads
    reader = StudyReader(f"bucket://b/{folder_name('default')}")
    wait_until(lambda: "run" in reader.read().runs and len(steps(reader.read())) == 200)
    assert steps(reader.read()) == list(range(1, 201)) and reader.read().damaged == 0
    assert reader.read().runs["run"].state == "finished"
    assert slowest < 0.1


def test_a_store_that_is_down_costs_nothing_and_is_made_up_for(cloud, spool):
    cloud.fails = 2.0  # every call, before it did anything
    store = begun("bucket://b", spool)
    assert all([store.append(observation(step)) for step in range(1, 101)])
    wait_until(lambda: store.fault is not None)
    assert "Observations cannot be uploaded to bucket://b (ConnectionError" in store.fault
    assert str(store._spool.path) in store.fault and "uploaded by the next one here" in store.fault
    begin = time.monotonic()
    store.finish("finished")
    store.close()
    assert time.monotonic() - begin < NOT_WAITED
    assert steps(StudyReader(store.study_dir).read()) == list(range(1, 101))
    cloud.fails = 0.0
    gone(store)  # the process lives on, and so does the thread
    assert steps(read_all("bucket://b")) == list(range(1, 101))
    assert store.fault is None


def test_a_store_that_hangs_holds_nothing_up(cloud, spool, monkeypatch):
    cloud.hangs = threading.Event()
    monkeypatch.setattr("foretrain.storage.url_store.WAIT", {"finished": 0.5})
    store = begun("bucket://b", spool)
    begin = time.monotonic()
    assert all([store.append(observation(step)) for step in range(1, 101)])
    store.sync()
    assert time.monotonic() - begin < NOT_WAITED
    begin = time.monotonic()
    store.finish("finished")
    store.close()
    assert 0.4 < time.monotonic() - begin < NOT_WAITED
    cloud.hangs.set()
    gone(store)
    assert steps(read_all("bucket://b")) == list(range(1, 101))


@pytest.mark.parametrize("first", [0.0, 1e9])
def test_a_root_that_is_not_installed_keeps_all_on_this_machine(spool, first):
    # Nothing is due for upload: reading comes first, of the study's folder, yet the root is what is wrong.
    store = begun("foo://x", spool, pace=replace(GIVES_UP, first=first))
    assert store.append(observation(1))
    wait_until(lambda: store.fault is not None)
    assert "Observations cannot be uploaded to foo://x (ValueError: " in store.fault
    assert "got 'foo://x': pip install" in store.fault
    store.close()
    assert steps(StudyReader(store.study_dir).read()) == [1]


def test_a_spool_that_cannot_be_made_keeps_all_in_memory(memory, tmp_path):
    (tmp_path / "spool").write_text("a file")
    store = begun(memory, tmp_path / "spool")
    assert not store.append(observation(1))
    assert [o.counts.steps for o in store.unsaved] == [1]
    assert "cannot be made or locked" in store.fault and "are kept in memory" in store.fault
    study = StudyReader(store.study_dir).read((store.info, store.unsaved))
    assert steps(study) == [1]
    store.finish("failed")
    store.close()


def test_a_copy_and_a_closed_store_write_nothing(memory, spool):
    store = begun(memory, spool)
    assert store.append(observation(1))
    for other in (copy.deepcopy(store), pickle.loads(pickle.dumps(store))):
        assert other.info is None and not other.append(observation(2))
        other.finish("failed"), other.close()
    store.finish("finished")
    store.close()
    store.close()
    assert not store.append(observation(3)) and store.info is not None
    gone(store)
    assert steps(read_all(memory)) == [1]
    store.begin(RunInfo("run", continues={"run": "run", "step": 1}))
    assert store.append(observation(2))
    store.finish("finished")
    store.close()
    gone(store)
    record = read_all(memory).runs["run"]
    assert (record.info.attempt, [o.counts.steps for o in record.observations]) == (2, [1, 2])


def test_a_forked_child_writes_nothing(memory, spool):
    store = begun(memory, spool)
    pid = os.fork()
    if pid == 0:
        quiet = not store.append(observation(9)) and store.close() is None
        os._exit(0 if quiet else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert store.append(observation(1))
    store.finish("finished")
    store.close()
    gone(store)
    assert steps(read_all(memory)) == [1]


class Plain(LocalFileSystem):
    """A filesystem with folders, which have to be made, and with files that appear before they are whole."""

    protocol = "plain"

    @classmethod
    def _strip_protocol(cls, path):
        return path.removeprefix("plain://").rstrip("/") or "/"


def test_a_filesystem_with_folders(tmp_path, spool):
    fsspec.register_implementation("plain", Plain, clobber=True)
    root = f"plain://{tmp_path}/there"
    store = begun(root, spool)
    assert all([store.append(observation(step)) for step in range(1, 9)])
    store.finish("finished")
    store.close()
    gone(store)
    assert steps(read_all(root)) == list(range(1, 9))
    (file,) = (tmp_path / "there").rglob("*.jsonl")
    content, reader = file.read_bytes(), StudyReader(store.study_url)
    for end in (0, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:end])  # as when a reader looks while it is written
        reader.read()
    assert len(steps(reader.read())) < 9
    file.write_bytes(content)
    assert steps(reader.read()) == list(range(1, 9)) and reader.read().damaged == 0
    assert StudyReader(tmp_path / "there" / folder_name("default")).read() == reader.read()


# Attempts


def test_a_resumed_run_goes_on_as_in_a_directory(memory, spool, tmp_path):
    studies = []
    for root in (tmp_path / "local", memory):
        for continues, state, told in ((0, "failed", range(1, 9)), (5, "finished", range(6, 12))):
            local = root is not memory
            store = ObservationStore(root) if local else UrlStore(root, spool=spool, pace=FAST)
            store.begin(RunInfo("run", continues={"run": "run", "step": continues}))
            for step in told:
                assert store.append(observation(step, value=step + continues))
            store.finish(state)
            store.close()
            if not local:
                gone(store)
        studies.append(StudyReader(store.study_dir if local else store.study_url).read())
    assert studies[0] == studies[1] and studies[1].runs["run"].info.attempt == 2
    assert steps(studies[1]) == list(range(1, 12))


def test_the_fits_see_other_runs_and_the_own_one_as_the_newest_attempt(cloud, spool):
    for continues, run in ((0, "run"), (0, "other")):
        store = begun("bucket://b", spool, run=run, continues={"run": run, "step": continues})
        for step in range(1, 9):
            store.append(observation(step, run=run))
        store.finish("failed")
        store.close()
        gone(store)
    store = begun("bucket://b", spool, continues={"run": "run", "step": 4})
    store.append(observation(5, value=55.0))
    reader = StudyReader(store.study_dir)
    wait_until(lambda: "other" in reader.read().runs)
    study = reader.read()
    assert steps(study, "other") == list(range(1, 9)) and steps(study) == list(range(1, 9))
    assert [o.value for o in study.runs["run"].observations][4] == 55.0
    assert study.runs["run"].info.attempt == store.info.attempt == UNNUMBERED
    wait_until(lambda: any(name.startswith("0002-") for name in objects(cloud)))
    time.sleep(0.3)  # own objects are not copied back
    assert not list(store.study_dir.rglob("0002-*"))
    store.close()


@pytest.mark.parametrize("later", [True, False])
def test_what_was_left_is_numbered_by_when_it_began(cloud, spool, later):
    """Only where the store could not be asked: here, a first attempt whose machine was cut off from it."""
    old = SpoolFolder(spool_root("bucket://b", spool))
    old.make()
    lines = ObservationStore(old.path, attempt=UNNUMBERED)
    lines.begin(RunInfo("run", started=10.0, continues={"run": "run", "step": 0}))
    for step in range(1, 9):
        lines.append(observation(step, value=1.0))
    lines.close()
    elsewhere = begun("bucket://b", spool.with_name("other machine"), started=20.0 if later else 5.0,
                      continues={"run": "run", "step": 0})  # fmt: skip
    for step in range(1, 4):
        elsewhere.append(observation(step, value=2.0))
    elsewhere.close()
    gone(elsewhere)
    old.leave()
    third = begun("bucket://b", spool, run="third")
    wait_until(lambda: not old.path.exists())
    third.close()
    values = [o.value for o in read_all("bucket://b").runs["run"].observations]
    assert values == ([2.0] * 3 if later else [1.0] * 8)


# Processes


def start(cloud, spool, run, first, last, mode="all", fails=0.0):
    command = [sys.executable, bucket.__file__, cloud.folder, spool, fails, run, first, last, mode]
    return subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True)


def test_killed_between_spool_and_upload_nothing_is_lost(cloud, spool):
    process = start(cloud, spool, "run", 1, 50, "hold")
    acknowledged = [int(next(process.stdout)) for _ in range(50)]
    process.kill()
    process.wait(10)
    assert acknowledged == list(range(1, 51)) and objects(cloud) == []
    store = begun("bucket://b", spool, run="next")
    wait_until(lambda: len(objects(cloud)) == 1)
    store.close()
    gone(store)
    study = read_all("bucket://b")
    assert steps(study) == acknowledged and study.runs["run"].state == "running"
    assert list(spool_root("bucket://b", spool).iterdir()) == []


def test_what_a_living_process_has_in_its_spool_is_left_alone(cloud, spool):
    process = start(cloud, spool, "run", 1, 5, "hold")
    try:
        assert [int(next(process.stdout)) for _ in range(5)] == [1, 2, 3, 4, 5]
        store = begun("bucket://b", spool, run="next")
        time.sleep(0.5)
        store.close()
        gone(store)
        assert len(list(spool_root("bucket://b", spool).iterdir())) == 1
    finally:
        process.kill()
        process.wait(10)


def test_killed_at_any_time_and_resumed_it_is_the_uninterrupted_run(cloud, spool):
    """Each life trains on from what the last one acknowledged, and every third call of the store fails."""
    chance, last, lives = random.Random(2), 0, 0
    while last < 600:
        process = start(cloud, spool, "run", last + 1, last + 10**6, "kill", fails=0.3)
        want = last + chance.randrange(20, 150)
        for line in process.stdout:
            last = int(line)
            if last >= want:
                break
        process.send_signal(signal.SIGKILL)
        last = max([last, *(int(line) for line in process.stdout if line.endswith("\n"))])
        process.wait(10)
        lives += 1
    store = begun("bucket://b", spool, run="next")
    wait_until(lambda: len(list(spool_root("bucket://b", spool).iterdir())) == 1)
    store.close()
    gone(store)
    study = read_all("bucket://b")
    assert lives >= 4 and study.damaged == 0
    # The last line may be in the spool without having been told.
    assert steps(study)[:last] == list(range(1, last + 1)) and len(steps(study)) <= last + 1
    values = [o.value for o in study.runs["run"].observations]
    assert values[:last] == [1 / step for step in range(1, last + 1)]
    # Each life is an attempt. Where the store failed for long, two may have one number: the clock decides.
    assert len({name.unique for name in map(read_name, objects(cloud))}) == lives
    assert 1 <= study.runs["run"].info.attempt <= lives
    assert len(objects(cloud)) <= lives + 1


def test_a_store_that_hangs_does_not_keep_a_process_from_its_end(cloud, spool):
    process = start(cloud, spool, "run", 1, 20, "hang")
    assert [int(next(process.stdout)) for _ in range(20)] == list(range(1, 21))
    begin = time.monotonic()
    assert process.wait(30) == 0
    assert time.monotonic() - begin < NOT_WAITED  # one second for the store, and the interpreter's own end
    store = begun("bucket://b", spool, run="next")
    wait_until(lambda: len(objects(cloud)) == 1)
    store.close()
    assert steps(read_all("bucket://b")) == list(range(1, 21))
    assert read_all("bucket://b").runs["run"].state == "failed"


def test_two_processes_write_one_study_at_once(cloud, spool):
    runs = ("a", "a", "b")  # twice the same: two attempts, and the newer one's values stand
    processes = [start(cloud, spool, run, 1, 200, fails=0.3) for run in runs]
    told = [len(process.stdout.read().split()) for process in processes]
    assert [process.wait(60) for process in processes] == [0, 0, 0] and told == [200] * 3
    last = begun("bucket://b", spool, run="last")
    wait_until(lambda: len(list(spool_root("bucket://b", spool).iterdir())) == 1)
    last.close()
    gone(last)
    study = read_all("bucket://b")
    assert steps(study, "a") == steps(study, "b") == list(range(1, 201))
    assert study.damaged == 0
    assert len({read_name(name).unique for name in objects(cloud)}) == 3


# Cost


def test_reading_again_fetches_only_what_is_new(cloud, spool):
    store = begun("bucket://b", spool, pace=Pace(0.0, 0.02, 0.0, 0.02, 0.0, read=1e9, left=1e9))
    reader = StudyReader(store.study_url)

    def fetched():
        cloud.calls.clear()
        study = reader.read()
        return [name for name, _ in cloud.calls].count("get"), study

    for step in range(1, 4):
        before = len(objects(cloud))
        store.append(observation(step))
        wait_until(lambda before=before: len(objects(cloud)) == before + 1)
        count, study = fetched()
        assert count == 1 and steps(study) == list(range(1, step + 1))
        assert fetched()[0] == 0
    store.finish("finished")
    store.close()
    gone(store)
    assert len(objects(cloud)) == 1  # all lines but the last are here already
    count, study = fetched()
    assert (count, steps(study), study.runs["run"].state) == (1, [1, 2, 3], "finished")
    assert fetched()[0] == 0
    again = StudyReader(store.study_url)
    cloud.calls.clear()
    assert again.read() == study
    assert [name for name, _ in cloud.calls].count("get") == 1


def cut_up(cloud, tmp_path, sizes):
    """A shipment of a local file, with as many objects in the store as there are sizes."""
    store = ObservationStore(tmp_path / "cut", attempt=UNNUMBERED)
    store.begin(RunInfo("run"))
    (path,) = store.study_dir.rglob("*.jsonl")
    shipment = Shipment(path, ObjectFolder("bucket://b"))
    step = 0
    for size in sizes:
        for _ in range(size):
            step += 1
            assert store.append(observation(step))
        assert shipment.ship()
    assert len(objects(cloud)) == len(sizes) and shipment.waiting == 0 and not shipment.ship()
    return shipment


def test_a_large_study_is_copied_a_few_objects_at_a_time(cloud, tmp_path):
    cut_up(cloud, tmp_path, (1,) * 10)
    mirror = Mirror(f"bucket://b/{folder_name('default')}", tmp_path / "copy")
    cloud.calls.clear()
    copied = []
    while more := mirror.pull(4):
        copied.append(len(list((tmp_path / "copy").rglob("*.jsonl"))))
    assert copied == [4, 8] and not more
    assert [name for name, _ in cloud.calls].count("list") == 2  # the study and its run, once
    assert StudyReader(tmp_path / "copy").read() == read_all("bucket://b")


def test_objects_that_vanish_after_they_were_listed_are_looked_for_again(cloud, tmp_path):
    shipment, get = cut_up(cloud, tmp_path, (3, 1, 5)), cloud.cat_file

    class Late(cloud):
        def cat_file(self, path, start=None, end=None, **kwargs):
            shipment.put_together()  # between a reader's listing and its fetching
            return get(self, path, start, end)

    fsspec.register_implementation("bucket", Late, clobber=True)
    assert steps(read_all("bucket://b")) == list(range(1, 10))


def test_what_is_put_together_is_not_fetched_again(cloud, tmp_path):
    shipment = cut_up(cloud, tmp_path, (3, 1, 5))
    reader = StudyReader(f"bucket://b/{folder_name('default')}")
    expected = reader.read()
    assert steps(expected) == list(range(1, 10)) and not shipment.tidy
    shipment.put_together()
    assert len(objects(cloud)) == 1 and shipment.tidy
    cloud.calls.clear()
    assert reader.read() == expected and "get" not in dict(cloud.calls)
    assert StudyReader(f"bucket://b/{folder_name('default')}").read() == expected
    assert [name for name, _ in cloud.calls].count("get") == 1


def test_nothing_is_removed_before_the_whole_reads_as_it_was_written(cloud, tmp_path, monkeypatch):
    shipment = cut_up(cloud, tmp_path, (3, 1, 5))
    before, put = objects(cloud), cloud.pipe_file
    with monkeypatch.context() as patch:
        patch.setattr(cloud, "pipe_file", lambda self, path, value: put(self, path, value[:-1]))
        with pytest.raises(OSError, match=r"000000002-000000010\.jsonl does not read as it was written"):
            shipment.put_together()
    assert set(before) < set(objects(cloud)) and not shipment.tidy
    shipment.put_together()
    assert len(objects(cloud)) == 1
    assert steps(read_all("bucket://b")) == list(range(1, 10))


def test_where_nothing_may_be_removed_all_stays_and_counts_once(cloud, tmp_path, monkeypatch):
    shipment = cut_up(cloud, tmp_path, (3, 1, 5))

    def refuse(self, path):
        raise PermissionError("no")

    monkeypatch.setattr(cloud, "rm_file", refuse)
    shipment.put_together()
    assert len(objects(cloud)) == 4 and shipment.tidy
    assert steps(read_all("bucket://b")) == list(range(1, 10))


def test_a_write_that_fails_once_is_made_again(cloud, spool, monkeypatch):
    tries, put = [], cloud.pipe_file

    def once(self, path, value):
        tries.append(path)
        if len(tries) == 1:
            raise OSError("not this time")
        put(self, path, value)

    monkeypatch.setattr(cloud, "pipe_file", once)
    store = begun("bucket://b", spool, pace=replace(FAST, first=1e9))
    assert store.append(observation(1))
    store.finish("finished")
    store.close()
    gone(store)
    assert len(tries) == 2 and tries[0] == tries[1]
    assert steps(read_all("bucket://b")) == [1]


def test_a_run_that_is_removed_is_forgotten_after_some_listings(cloud, spool):
    for run in ("a", "b"):
        store = begun("bucket://b", spool, run=run)
        store.append(observation(1, run=run))
        store.close()
        gone(store)
    reader = StudyReader(store.study_url)
    assert set(reader.read().runs) == {"a", "b"}
    (file,) = (path for path in cloud.folder.iterdir() if folder_name("b") in path.name)
    file.unlink()
    seen = [sorted(reader.read().runs) for _ in range(mirror_module.FORGOTTEN_AFTER)]
    assert seen == [["a", "b"]] * (len(seen) - 1) + [["a"]]


def test_growing_and_large_files_are_copied_too(cloud, tmp_path, monkeypatch):
    """Logs of a directory that were copied to a bucket as they are."""
    store = ObservationStore(tmp_path / "local")
    store.begin(RunInfo("run"))
    (path,) = store.study_dir.rglob("*.jsonl")
    there = cloud.folder / f"b%2Fs%2Fr%2F{path.name}"
    reader = StudyReader("bucket://b/s")
    monkeypatch.setattr(mirror_module, "LARGE", 1000)
    for step in range(1, 20):
        store.append(observation(step))
        there.write_bytes(path.read_bytes())
        (cloud.folder / "b%2Fs%2Fr%2F..%2F0001-aa.jsonl").write_bytes(path.read_bytes())
        (cloud.folder / "b%2Fs%2Fr%2Fevents.out").write_bytes(b"x")
        assert steps(reader.read()) == list(range(1, step + 1))
    monkeypatch.setattr(mirror_module, "MAX_BYTES", 2000)
    small = Mirror("bucket://b/s", tmp_path / "copy")
    small.pull()
    assert "1 files under bucket://b/s were left out" in small.fault
    assert not list((tmp_path / "copy").rglob("*.jsonl"))


def test_a_study_that_cannot_be_read_is_told(cloud, monkeypatch):
    monkeypatch.setattr(mirror_module, "_PATIENCE", (0.01, 0.01))
    cloud.fails = 2.0
    reader = StudyReader("bucket://b/s")
    assert reader.read().runs == {} and "bucket://b/s could not be read (ConnectionError" in reader.fault
    cloud.fails = 0.0
    assert reader.read().runs == {} and reader.fault is None


def test_a_study_of_many_folders_is_read_though_a_call_in_seven_fails(cloud, tmp_path, monkeypatch):
    monkeypatch.setattr(mirror_module, "_PATIENCE", (0.0, 0.0, 0.0))
    for number in range(80):
        store = ObservationStore(tmp_path / "local", "many")
        store.begin(RunInfo(run=f"run{number}"))
        assert store.append(observation(1, run=f"run{number}"))
        store.close()
        (path,) = (store.study_dir / folder_name(f"run{number}")).iterdir()
        fsspec.filesystem("bucket").pipe_file(f"b/s/{path.parent.name}/{path.name}", path.read_bytes())
    bucket.install(cloud.folder, fails=0.15, seed=3)
    reader = StudyReader("bucket://b/s")
    for _ in range(20):  # what a list lacked is in the next one
        if len(reader.read().runs) == 80:
            break
    assert len(reader.read().runs) == 80 and cloud.failed > 20


def test_a_hundred_thousand_observations_are_some_dozens_of_objects(memory, spool):
    count = 20_000
    store = begun(memory, spool, pace=Pace(first=0.0))
    assert all([store.append(observation(step)) for step in range(1, count + 1)])
    store.finish("finished")
    store.close()
    gone(store)
    filesystem = fsspec.filesystem("memory")
    names = filesystem.find(memory.partition("://")[2])
    sizes = [filesystem.info(name)["size"] for name in names]
    assert len(names) <= 2 + sum(sizes) // 2**21 and max(sizes) < 2**20 * 6.1
    assert len(steps(read_all(memory))) >= min(count, 8192)


def test_how_many_objects_there_are_in_ten_days(spool, monkeypatch):
    """An observation each second, by a clock that is moved by hand: less than one object in four minutes."""
    now = [1000.0]
    monkeypatch.setattr(uploader_module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(uploader_module.threading.Thread, "start", lambda self: None)
    uploader = uploader_module.Uploader("memory://x", "study", SpoolFolder(spool), Pace())
    uploader._news = True
    written = []
    while now[0] < 1000.0 + 10 * 86400:
        if now[0] >= uploader._upload_at():
            uploader._written = now[0]
            written.append(now[0] - 1000.0)
        now[0] += 1.0
    assert written[:3] == [5.0, 35.0, 65.0]
    assert len(written) < 10 * 86400 / 240
    assert max(b - a for a, b in itertools.pairwise(written)) <= 301
    uploader._sync = True
    assert uploader._upload_at() == uploader._written + 10.0  # a checkpoint asks for more


# The monitor


def fit(pl, monitor, root, workers=0, **options):
    from lightning_models import loader, make_module, make_trainer

    trainer = make_trainer(pl, root, monitor, **options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(make_module(pl), loader(num_workers=workers), loader())
    assert trainer.state.finished
    return [str(warning.message) for warning in caught if "bservations" in str(warning.message)]


@pytest.fixture
def own_temporary_folder(monkeypatch):
    # Not in `tmp_path`: workers of a DataLoader bind sockets here, whose paths may have 107 characters.
    with tempfile.TemporaryDirectory(prefix="own") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


def test_a_run_of_lightning_is_kept_behind_a_url(memory, tmp_path, own_temporary_folder):
    from foretrain.lightning import ScalingLawMonitor

    pl = importlib.import_module("lightning.pytorch")
    for run, workers in (("first", 2), ("second", 0)):
        monitor = ScalingLawMonitor(root=memory + "/", run=run, fit=run == "second", final_wait=300.0)
        assert fit(pl, monitor, tmp_path, workers, max_epochs=6) == []
    assert monitor.report is not None and monitor.report.run == "second"  # the fit read it on this machine
    study = read_all(memory)
    assert set(study.runs) == {"first", "second"} and study.damaged == 0
    for record in study.runs.values():
        assert [o.counts.samples for o in record.observations] == [20, 40, 60, 80, 100, 120]
        assert (record.state, record.info.attempt) == ("finished", 1)
        assert record.schedule_used_until == 30
    (left,) = own_temporary_folder.glob("foretrain-*/*")
    assert list(left.iterdir()) == []


def test_lightning_trains_on_while_the_store_is_down(cloud, tmp_path, own_temporary_folder):
    from foretrain.lightning import ScalingLawMonitor

    pl = importlib.import_module("lightning.pytorch")
    cloud.fails = 2.0
    (told,) = fit(pl, ScalingLawMonitor(root="bucket://b", run="r", fit=False), tmp_path, max_epochs=3)
    assert "Observations cannot be uploaded to bucket://b" in told
    cloud.fails = 0.0
    assert fit(pl, ScalingLawMonitor(root="bucket://b", run="s", fit=False), tmp_path, max_epochs=1) == []
    wait_until(lambda: "r" in read_all("bucket://b").runs)
    assert [o.counts.samples for o in read_all("bucket://b").runs["r"].observations] == [20, 40, 60]


def test_a_loggers_url_that_nothing_can_write_is_told_once(tmp_path, own_temporary_folder):
    from foretrain.lightning import ScalingLawMonitor

    pl = importlib.import_module("lightning.pytorch")

    class Logger(pl.loggers.Logger):
        name, version, experiment = "runs", 0, None
        save_dir, log_dir = "foo://bucket/logs", "foo://bucket/logs/version_0"

        def log_metrics(self, *args, **options):
            pass

        def log_hyperparams(self, *args, **options):
            pass

    (told,) = fit(pl, ScalingLawMonitor(fit=False), tmp_path, max_epochs=2, logger=Logger())
    assert "Observations cannot be uploaded to foo://bucket/logs/foretrain" in told
    assert "pip install the package whose fsspec filesystem is foo://" in told
    (file,) = own_temporary_folder.rglob(f"{UNNUMBERED}-*.jsonl")
    assert file.read_bytes().count(b'"kind":"observation"') == 2


def test_a_wrong_root_is_refused_when_the_monitor_is_made():
    from foretrain.lightning import ScalingLawMonitor

    with pytest.raises(ValueError, match=r"got 'foo://x': pip install"):
        ScalingLawMonitor(root="foo://x")


def test_the_command_reports_a_url(memory, spool, capsys):
    from test_analysis import SIZES, record

    for size in SIZES[:2]:
        run = record(f"size-{size:.0e}", size)
        store = UrlStore(f"{memory}/foretrain", spool=spool, pace=FAST)
        store.begin(run.info)
        assert all([store.append(o) for o in run.observations])
        store.finish("finished")
        store.close()
        gone(store)
    for url in (memory, f"{memory}/foretrain", store.study_url):
        assert main(["report", url, "--json"]) == 0
        told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [report["run"] for report in told] == [f"size-{size:.0e}" for size in SIZES[:2]]
    assert main(["report", "foo://x"]) == 1
    assert "got 'foo://x': pip install" in capsys.readouterr().err
    assert main(["report", f"{memory}/nothing"]) == 1
    assert f"No observations under {memory}/nothing" in capsys.readouterr().err


# A real object store's server


def test_a_run_is_kept_in_s3(s3, spool):
    for continues, told in ((0, range(1, 31)), (20, range(21, 41))):
        store = begun(s3, spool, continues={"run": "run", "step": continues})
        for step in told:
            assert store.append(observation(step))
            time.sleep(0.02)
        store.finish("finished")
        store.close()
        gone(store)
        assert store.fault is None
    reader = StudyReader(store.study_url)
    study = reader.read()
    assert steps(study) == list(range(1, 41)) and reader.fault is None
    assert study.runs["run"].info.attempt == 2
    assert len(fsspec.filesystem("s3", skip_instance_cache=True).find(s3)) == 2
    assert main(["report", s3, "--json"]) == 0


def test_a_bucket_that_is_missing_is_not_made(s3, spool):
    store = begun("s3://other/logs", spool, pace=GIVES_UP)
    assert store.append(observation(1))
    wait_until(lambda: store.fault is not None)
    assert "cannot be uploaded to s3://other/logs" in store.fault
    store.close()
    assert "other" not in fsspec.filesystem("s3", skip_instance_cache=True).ls("")
