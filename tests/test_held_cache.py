"""What was found in sound files is kept between readers; whatever becomes of it, a study reads the same."""

import json
import os
import threading
import time
import zlib
from pathlib import Path

import pytest

from foretrain.storage import held_cache
from foretrain.storage.held_cache import HeldCache
from foretrain.storage.held_runs import HeldRecord
from foretrain.storage.reader import StudyReader
from test_store_held import file_of, observation, read_at_once, write


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The cache's folder; files are kept in it at once, and of any number of runs."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(held_cache, "LEAST", 1)
    monkeypatch.setattr(held_cache, "SETTLED", -60.0)
    return tmp_path / "cache" / "foretrain"


@pytest.fixture
def looked_at(monkeypatch):
    """The files that were read to be held."""
    found = []
    finding = held_cache.find_ends
    monkeypatch.setattr(
        held_cache, "find_ends", lambda path, size: (found.append(path), finding(path, size))[1]
    )
    return found


@pytest.fixture
def study(tmp_path):
    for run in ("a", "b"):
        write(tmp_path / "logs", run, values=[3.0, float("nan"), 1.5], started=1.5)
    store = write(tmp_path / "logs", "going on", state=None)
    write(tmp_path / "logs", "a", values=[2.5, 1.0], continues={"run": "a", "step": 1})
    return store.study_dir


def read(study_dir):
    study = StudyReader(study_dir).read()
    return study.runs, study.damaged


def assert_true(study_dir):
    """Whether a reader tells what the files hold."""
    runs, _ = read(study_dir)
    expected = read_at_once(study_dir)
    assert str(runs) == str(expected)  # texts, as NaN is not itself
    for name, run in runs.items():
        assert run.metrics == expected[name].metrics
        assert str(run.newest("val_loss")) == str(expected[name].newest("val_loss"))


def cached(folder):
    [path] = folder.iterdir()
    return path


def test_a_study_that_was_read_before_is_not_read_again(study, cache, looked_at):
    before, _ = read(study)
    assert len(looked_at) == 4 and len(list(cache.iterdir())) == 1
    written = cached(cache).read_bytes()
    looked_at.clear()
    after, damaged = read(study)
    assert looked_at == [] and damaged == 0 and list(after) == ["a", "b", "going on"]
    assert isinstance(after["b"], HeldRecord) and str(after) == str(before)
    assert_true(study)
    assert cached(cache).read_bytes() == written, "nothing new is not written"


def test_what_was_added_is_read(study, cache, looked_at):
    reader = StudyReader(study)
    reader.read()
    looked_at.clear()
    store = write(study.parent, "new", state=None)
    assert list(reader.read().runs) == ["a", "b", "going on", "new"]
    assert len(looked_at) == 1, "the same reader"
    store.append(observation(9, run="new"))
    looked_at.clear()
    runs, _ = read(study)
    assert len(looked_at) == 1 and runs["new"].newest("val_loss").counts.steps == 9
    assert_true(study)


def test_what_was_changed_in_place_is_seen(tmp_path, cache):
    store = write(tmp_path / "logs", "run")
    read(store.study_dir)
    path = file_of(store.study_dir)
    status, content = path.stat(), bytearray(path.read_bytes())
    content[-40] ^= 1
    time.sleep(0.05)  # longer than a tick of any file system's clock that tests run on
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_mtime_ns == status.st_mtime_ns and path.stat().st_size == status.st_size
    assert read(store.study_dir)[1] == 1, "one line is damaged"


def test_a_file_in_the_place_of_another_is_seen(tmp_path, cache):
    store = write(tmp_path / "logs", "run")
    path = file_of(store.study_dir)
    read(store.study_dir)
    other = file_of(write(tmp_path / "others", "run", values=[4.0, 2.0, 1.5]).study_dir)
    assert other.stat().st_size == path.stat().st_size
    os.utime(other, ns=(0, path.stat().st_mtime_ns))
    other.rename(path)
    assert read(store.study_dir)[0]["run"].observations[0].value == 4.0


def test_whatever_becomes_of_it_a_study_reads_the_same(study, cache):
    expected = str(read(study))
    path = cached(cache)
    whole = path.read_bytes()
    for place in range(0, len(whole), 3):
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        assert str(read(study)) == expected, place
    for end in range(0, len(whole), 50):
        path.write_bytes(whole[:end])
        assert str(read(study)) == expected, end
    path.unlink()
    path.mkdir()
    assert str(read(study)) == expected


def forged(path, change):
    """The cache with other entries and a checksum that is right."""
    head, _, body = path.read_bytes().partition(b"\n")
    entries = change(json.loads(body))
    body = json.dumps(entries).encode()
    path.write_bytes(json.dumps({**json.loads(head), "crc": zlib.crc32(body)}).encode() + b"\n" + body)


@pytest.mark.parametrize(
    "change",
    [
        lambda entries: list(entries),
        lambda entries: dict.fromkeys(entries, 7),
        lambda entries: {key: [] for key in entries},
        lambda entries: {key: entry[:3] for key, entry in entries.items()},
        lambda entries: {key: [e[0], "{}", *e[2:]] for key, e in entries.items()},
        lambda entries: {key: [e[0], e[1], e[1], *e[3:]] for key, e in entries.items()},
        lambda entries: {key: [e[0], e[1].replace("run", "fun"), *e[2:]] for key, e in entries.items()},
        lambda entries: {key: [*e[:3], "paused", e[4]] for key, e in entries.items()},
        lambda entries: {key: [*e[:4], {"val_loss": ["0", 2]}] for key, e in entries.items()},
        lambda entries: {key: [*e[:4], {"val_loss": []}] for key, e in entries.items()},
        lambda entries: {key: [*e[:4], {"val_loss": [0, 2**70]}] for key, e in entries.items()},
        lambda entries: {key: [*e[:4], {}] for key, e in entries.items()},
        lambda entries: {key: [*e[:4], 7] for key, e in entries.items()},
    ],
)
def test_entries_that_are_none_are_read_again(study, cache, looked_at, change):
    expected = str(read(study))
    forged(cached(cache), change)
    looked_at.clear()
    assert str(read(study)) == expected and len(looked_at) == 4


def test_of_another_version_or_study_nothing_is_taken(study, cache, looked_at, monkeypatch):
    expected = str(read(study))
    path = cached(cache)
    moved = study.parent / "moved"
    study.rename(moved)
    looked_at.clear()
    assert str(read(moved)) == expected and len(looked_at) == 4, "one of its own"
    [other] = set(cache.iterdir()) - {path}
    other.write_bytes(path.read_bytes())
    looked_at.clear()
    read(moved)
    assert len(looked_at) == 4, "it is of another study"
    monkeypatch.setattr(held_cache, "_VERSION", "another")
    looked_at.clear()
    assert str(read(moved)) == expected and len(looked_at) == 4


def test_where_it_cannot_be_there_is_none(study, tmp_path, cache, monkeypatch):
    expected = str(read_at_once(study))
    blocked = tmp_path / "a file"
    blocked.write_text("")
    for home in (blocked, "/dev/null", "/proc/nowhere", "\0"):
        if home == "\0":
            monkeypatch.setattr(held_cache.Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("none")))
            monkeypatch.delenv("XDG_CACHE_HOME")
        else:
            monkeypatch.setenv("XDG_CACHE_HOME", str(home))
        assert str(read(study)[0]) == expected
    assert not cache.exists()


def test_a_disk_that_fails_leaves_no_parts(study, cache, monkeypatch):
    def fail(*_):
        raise OSError("full")

    monkeypatch.setattr(held_cache.Path, "replace", fail)
    assert str(read(study)[0]) == str(read_at_once(study))
    assert list(cache.iterdir()) == []


def test_files_that_changed_just_now_and_studies_of_few_runs_are_not_kept(study, cache, monkeypatch):
    monkeypatch.setattr(held_cache, "SETTLED", 60.0)
    read(study)
    assert not cache.exists()
    monkeypatch.setattr(held_cache, "SETTLED", -60.0)
    StudyReader(study, hold=False).read()
    monkeypatch.setattr(held_cache, "LEAST", 5)
    read(study)
    assert not cache.exists()
    monkeypatch.setattr(held_cache, "LEAST", 4)
    read(study)
    assert len(json.loads(cached(cache).read_bytes().partition(b"\n")[2])) == 4


def test_readers_at_once_do_no_harm(study, cache):
    expected, wrong = str(read(study)), []

    def again():
        for _ in range(20):
            for path in cache.glob("*.json"):
                path.unlink(missing_ok=True)
            if str(read(study)) != expected:
                wrong.append(1)

    threads = [threading.Thread(target=again) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [] and not list(cache.glob("*.part"))


def test_caches_that_nothing_uses_are_removed(study, cache):
    cache.mkdir(parents=True)
    for name, age in (("old.json", 100), ("new.json", 10), ("old.part", 100), ("old.txt", 100)):
        (cache / name).write_text("")
        os.utime(cache / name, (time.time() - age * 86_400,) * 2)
    read(study)
    assert {path.name for path in cache.iterdir()} >= {"new.json", "old.txt"}
    assert len(list(cache.iterdir())) == 3


def test_it_lies_where_no_other_user_can_write(study, cache):
    read(study)
    assert cache.stat().st_mode & 0o777 == 0o700 and cached(cache).stat().st_mode & 0o777 == 0o600
    assert HeldCache(study)._place == cached(cache) and isinstance(cached(cache), Path)
