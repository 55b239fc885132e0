"""The store under every fault that can be made here: nothing acknowledged is lost, nothing raises."""

import contextlib
import copy
import dataclasses
import errno
import itertools
import json
import math
import os
import pickle
import random
import resource
import shutil
import signal
import sys
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretrain import store as store_module
from foretrain.axes import Counts
from foretrain.observation import Observation, RunInfo
from foretrain.storage import attempts as attempts_module
from foretrain.storage import reader as reader_module
from foretrain.storage.records import (
    MAX_LINE,
    LineError,
    decode_line,
    encode_header,
    encode_line,
    encode_observation,
    folder_name,
    read_header,
    read_observation,
)
from foretrain.store import ObservationStore, StudyReader

ERRNOS = ("ENOSPC", "EIO", "EROFS", "EACCES", "ENOENT", "EDQUOT", "ESTALE")
HOSTILE = (
    "../x",
    "../../../../etc/passwd",
    "/etc/passwd",
    "a\0b",
    "x" * 4096,
    "CON",
    "con.txt",
    "\u202egnp.exe",
    "__proto__",
    "<script>alert(1)</script>",
    "",
    ".",
    "..",
    " ",
    "-rf",
    ".hidden",
    "Ä" * 300,
    "\ud800",
    "a\nb\r",
    "C:\\x",
    "a" * 40,
    "a" * 41,
)


def observation(step, value=1.0, run="run", metric="val_loss", **more):
    return Observation(run, metric, value, Counts(samples=10 * step, steps=step), **more)


def begun(root, run="run", **more):
    store = ObservationStore(root)
    store.begin(RunInfo(run=run, **more))
    return store


def steps(study_dir, run="run"):
    return [o.counts.steps for o in StudyReader(study_dir).read().runs[run].observations]


def written(root, count=6):
    """A record file of `count` observations: its folder, its path and its bytes."""
    store = begun(root)
    assert all(store.append(observation(step, value=1 / step)) for step in range(1, count + 1))
    store.close()
    (path,) = store.study_dir.rglob("*.jsonl")
    return store.study_dir, path, path.read_bytes()


# Lines


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
COUNTS = st.builds(
    Counts,
    samples=st.integers(0, 2**62),
    steps=st.integers(0, 2**62),
    epochs=st.floats(0, 1e6),
    tokens=st.none() | st.integers(0, 2**80),
    params=st.none() | st.integers(0, 2**50),
    flops=st.none() | st.floats(0, 1e30),
)


@settings(deadline=None)
@given(value=st.floats(), metric=st.text(), counts=COUNTS, lr=st.none() | NUMBERS, seq=st.integers(0, 2**40))
def test_a_line_gives_back_what_was_written(value, metric, counts, lr, seq):
    wrote = Observation("run", metric, value, counts, lr=lr, attempt=3)
    line = encode_observation(seq, wrote)
    assert line.endswith(b"\n") and line.count(b"\n") == 1 and line.isascii()
    got_seq, kind, data = decode_line(line[:-1])
    got = read_observation(data, RunInfo(run="run", attempt=3))
    assert (got_seq, kind) == (seq, "observation")
    assert got.counts == counts
    assert repr(got) == repr(wrote)  # Not ==: a NaN is not itself.
    json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_no_random_bytes_are_a_line(noise):
    with pytest.raises(LineError, match="damaged"):
        decode_line(noise)


def checked(body: bytes) -> bytes:
    """A line with a right check sum, whatever it says."""
    return b'%s,"crc":"%08x"}' % (body, zlib.crc32(body))


DATA = '{"metric":"m","value":%s,"counts":{"samples":%s,"steps":%s}}'
HOSTILE_LINES = [
    b"",
    b"{",
    b'{"seq":0',
    b'{"seq":0,"kind":"observation"',
    b'{"seq":-1,"kind":"observation","data":{}',
    b'{"seq":true,"kind":"observation","data":{}',
    b'{"seq":0,"kind":[],"data":{}',
    b'{"seq":0,"kind":"observation","data":[]',
    b'{"seq":0,"kind":"observation","data":{}',
    b'{"seq":0,"kind":"observation","data":' + b"[" * 100_000,
    b'{"seq":0,"kind":"observation","data":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    b'{"seq":' + b"9" * 900_000 + b',"kind":"observation","data":{}',
    b'{"seq":0,"kind":"observation","data":{"\xff\xfe":1}',
    b'{"seq":0,"kind":"observation","data":{"metric":"m","value":1,"counts":{"samples":1,"steps":1}}}{"a":1',
    b"[[]]",
    b"null",
    *(
        b'{"seq":0,"kind":"observation","data":' + (DATA % numbers).encode()
        for numbers in (
            ("NaN", "1", "1"),
            ("-Infinity", "1", "1"),
            ("1e400", "1", "1"),
            ("1" + "0" * 350, "1", "1"),
            ('"one"', "1", "1"),
            ("true", "1", "1"),
            ("null", "1", "1"),
            ("1", "-1", "1"),
            ("1", "1", "1.5"),
            ("1", "1", "1e999"),
            ("1", "null", "1"),
            ("1", "[1]", "1"),
            ("1", '"1"', "1"),
            ("1", "1", "false"),
        )
    ),
]


@pytest.mark.parametrize("body", HOSTILE_LINES, ids=range(len(HOSTILE_LINES)))
def test_a_hostile_line_is_skipped_and_counted(tmp_path, body):
    study_dir, path, content = written(tmp_path)
    lines = content.split(b"\n")
    path.write_bytes(b"\n".join([*lines[:-3], checked(body), *lines[-3:]]))
    study = StudyReader(study_dir).read()
    assert study.damaged == 1
    assert len(study.runs["run"].observations) == 6


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=80) | st.sampled_from([b"\n", b"\0" * 100, b'{"seq":1']), max_size=8))
def test_fuzz_between_lines_costs_no_line(tmp_path_factory, fuzz):
    root = tmp_path_factory.mktemp("fuzz")
    study_dir, path, content = written(root, count=8)
    lines = content.split(b"\n")[:-1]
    mixed = [*lines[:3], *itertools.chain(*itertools.zip_longest(lines[3:], fuzz, fillvalue=b""))]
    path.write_bytes(b"\n".join(mixed) + b"\n")
    assert steps(study_dir) == list(range(1, 9))


def test_a_line_without_an_end_costs_no_memory(tmp_path):
    study_dir, path, content = written(tmp_path)
    with path.open("r+b") as file:
        file.truncate(len(content) + 64 * MAX_LINE)  # Zeros, which take no room on the disk.
    with path.open("ab") as file:
        file.write(b"\n" + content.split(b"\n")[-2].replace(b"x", b"x") + b"\n")
    tracemalloc.start()
    study = StudyReader(study_dir).read()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert study.reasons == {"too long": 1}
    assert len(study.runs["run"].observations) == 6
    assert peak < 8 * MAX_LINE


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=5,
    ).flatmap(
        lambda junk: st.dictionaries(
            st.sampled_from(
                ["schema", "run", "attempt", "study", "conventions", "planned", "continues", "started"]
            ),
            st.just(junk) | st.sampled_from([1, "a", {}]),
        )
    )
)
def test_a_header_is_read_or_refused(data):
    with contextlib.suppress(LineError):
        info = read_header(data)
        assert isinstance(info.run, str) and info.attempt >= 1
        json.dumps(info.to_json())


# The file


def test_what_is_appended_is_read_back(tmp_path):
    store = ObservationStore(tmp_path, study="sizes")
    planned = Counts(samples=1000, steps=100)
    info = store.begin(RunInfo(run="a/b", conventions={"params": "trainable"}, planned=planned, started=5.0))
    assert (info.attempt, info.study) == (1, "sizes") == (store.info.attempt, store.info.study)
    appended = [observation(s, run="a/b", value=v, lr=0.1) for s, v in ((1, 2.0), (2, math.inf), (3, -1.0))]
    assert [store.append(o) for o in appended] == [True] * 3
    assert store.unsaved == () and store.fault is None
    record = StudyReader(store.study_dir).read().runs["a/b"]
    assert (record.info, record.observations, record.state) == (info, tuple(appended), "running")
    store.finish("finished")
    assert StudyReader(store.study_dir).read().runs["a/b"].state == "finished"


def test_the_format_is_the_documented_one(tmp_path):
    _, path, content = written(tmp_path, count=1)
    assert path.name.startswith("0001-")
    header, empty, copy_, line, end = content.split(b"\n")
    assert (empty, end) == (b"", b"")
    for number, text in enumerate((header, copy_, line)):
        body, crc = text[: -len(',"crc":"01234567"}')], text[-10:-2]
        assert int(crc, 16) == zlib.crc32(body)
        record = json.loads(text)
        assert list(record) == ["seq", "kind", "data", "crc"] and record["seq"] == number
    assert json.loads(header)["data"]["schema"] == 1
    assert json.loads(line)["data"] == {
        "metric": "val_loss",
        "value": 1.0,
        "counts": {"samples": 10, "steps": 1, "epochs": 0.0},
    }


def test_finish_and_close_may_come_twice_and_in_any_order(tmp_path):
    store = begun(tmp_path)
    store.append(observation(1))
    store.finish("failed")
    store.finish("failed")
    store.close()
    store.close()
    store.sync()
    (path,) = store.study_dir.rglob("*.jsonl")
    assert path.read_bytes().count(b'"kind":"end"') == 1
    assert StudyReader(store.study_dir).read().runs["run"].state == "failed"
    assert store.append(observation(2)), "a closed store opens its file again"
    assert StudyReader(store.study_dir).read().runs["run"].state == "running"
    store.finish("finished")
    assert StudyReader(store.study_dir).read().runs["run"].state == "finished"
    assert steps(store.study_dir) == [1, 2]


def test_a_store_that_never_began_keeps_quiet(tmp_path):
    store = ObservationStore(tmp_path)
    assert not store.append(observation(1))
    store.sync(), store.finish("failed"), store.close()
    assert store.fault is None and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", HOSTILE, ids=[ascii(name[:12]) for name in HOSTILE])
def test_no_name_is_a_path(tmp_path, name):
    root = tmp_path / "a" / "b" / "root"
    store = ObservationStore(root, study=name)
    store.begin(RunInfo(run=name, conventions={name: name}))
    assert store.append(observation(1, run=name, metric=name)), store.fault
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    (path,) = files
    assert path.parent.parent.parent == root
    assert len(path.parent.name) <= 49 and path.parent.name.isascii()
    (record,) = StudyReader(store.study_dir).read().runs.values()
    assert (record.info.run, record.observations[0].metric) == (name, name)


def test_folder_names_are_readable_and_differ():
    assert folder_name("resnet/v1").startswith("resnet-v1-")
    names = {folder_name(name) for name in (*HOSTILE, "Run", "run", "a b", "a/b", "a-b")}
    assert len(names) == len(HOSTILE) + 5


def test_scalars_of_arrays_are_numbers(tmp_path):
    store = begun(tmp_path)
    counts = Counts(samples=np.int64(3), steps=np.int32(1), flops=np.float32(2.0))
    assert store.append(Observation("run", "m", np.float32(0.5), counts, lr=np.float64(0.1)))
    (got,) = StudyReader(store.study_dir).read().runs["run"].observations
    assert (got.value, got.counts.flops, got.lr, type(got.counts.samples)) == (0.5, 2.0, 0.1, int)


@pytest.mark.parametrize(
    "bad",
    [
        Observation("run", "m", 1.0, Counts(samples=math.inf, steps=1)),
        Observation("run", "m", 1.0, Counts(samples=1, steps=1.5)),
        Observation("run", "m", "high", Counts(samples=1, steps=1)),
        Observation("run", "m" * MAX_LINE, 1.0, Counts(samples=1, steps=1)),
    ],
)
def test_what_no_reader_would_take_is_refused_and_does_not_block_the_rest(tmp_path, bad):
    store = begun(tmp_path)
    assert not store.append(bad)
    assert not store.append(bad)
    assert "2 observations could not be recorded" in store.fault
    assert store.append(observation(1)) and store.unsaved == ()
    assert steps(store.study_dir) == [1]


def test_a_bad_header_costs_only_what_is_wrong_with_it(tmp_path):
    store = ObservationStore(tmp_path)
    store.begin(RunInfo(run="run", conventions={"params": 3}, continues={"step": "x"}, started=math.nan))
    assert store.append(observation(1))
    assert StudyReader(store.study_dir).read().runs["run"].info.conventions == {"params": "3"}
    assert encode_header(0, RunInfo(run="r", started=math.nan)).count(b"null") >= 1


# Damage


def test_a_file_cut_anywhere_gives_its_whole_lines(tmp_path):
    study_dir, path, content = written(tmp_path, count=12)
    ends = [i + 1 for i, byte in enumerate(content) if byte == ord("\n")][3:]
    for size in range(len(content), -1, -1):
        os.truncate(path, size)
        study = StudyReader(study_dir).read()
        whole = sum(end <= size for end in ends)
        got = study.runs["run"].observations if "run" in study.runs else ()
        assert [o.counts.steps for o in got] == list(range(1, whole + 1)), size
        assert study.damaged == 0


def test_a_flipped_bit_costs_at_most_two_lines_and_changes_no_value(tmp_path):
    study_dir, path, content = written(tmp_path, count=min(20, 1 + 2))
    whole = dict(zip(steps(study_dir), StudyReader(study_dir).read().runs["run"].observations, strict=True))
    for at in range(len(content)):
        for bit in range(8):
            path.write_bytes(content[:at] + bytes([content[at] ^ (1 << bit)]) + content[at + 1 :])
            record = StudyReader(study_dir).read().runs["run"]
            assert len(record.observations) >= len(whole) - 2, (at, bit)
            assert all(whole[o.counts.steps] == o for o in record.observations), (at, bit)


def test_random_damage_never_raises_and_changes_no_value(tmp_path):
    study_dir, path, content = written(tmp_path, count=20)
    whole = set(map(repr, StudyReader(study_dir).read().runs["run"].observations))
    chance = random.Random(0)
    for _ in range(500):
        at, size = chance.randrange(len(content)), chance.randrange(1, 600)
        patch = chance.choice([b"\0" * size, chance.randbytes(size), b"", b"\n" * size])
        path.write_bytes(content[:at] + patch + content[at + chance.choice([0, size]) :])
        study = StudyReader(study_dir).read()
        got = study.runs["run"].observations if "run" in study.runs else ()
        assert set(map(repr, got)) <= whole


def test_a_file_without_its_first_headers_is_read_by_a_later_one(tmp_path):
    study_dir, path, content = written(tmp_path, count=20)
    lines = content.split(b"\n")
    headers = [number for number, line in enumerate(lines) if b'"kind":"run"' in line]
    assert headers == [0, 2, 17] and lines[17] == lines[0]  # before line 16, an empty line among them
    lines[0] = lines[2] = lines[3] = b"damaged"
    reader = StudyReader(study_dir)
    path.write_bytes(b"\n".join(lines[:17]) + b"\n")
    lost = reader.read()
    assert lost.runs == {} and lost.reasons == {"damaged": 3, "no header before it": 13}
    path.write_bytes(b"\n".join(lines))
    for study in (reader.read(), StudyReader(study_dir).read()):
        assert [o.counts.steps for o in study.runs["run"].observations] == list(range(2, 21))
        assert study.reasons == {"damaged": 3} and study.unfinished == 0


def test_an_unfinished_line_is_counted_until_it_is_finished(tmp_path):
    study_dir, path, content = written(tmp_path, count=3)
    reader = StudyReader(study_dir)
    path.write_bytes(content[:-20])
    assert reader.read().unfinished == 1
    with path.open("ab") as file:
        file.write(content[-20:])
    study = reader.read()
    assert (study.unfinished, study.damaged, len(study.runs["run"].observations)) == (0, 0, 3)
    with path.open("ab") as file:
        file.write(b"x" * 2 * MAX_LINE)
    assert reader.read().unfinished == 1


# Kills


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_nothing_acknowledged_is_lost_when_the_writer_is_killed(tmp_path):
    acknowledged = {}
    chance = random.Random(0)
    for kill in range(25):
        run = f"run{kill}"
        ours, theirs = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                store = begun(tmp_path, run=run)
                for step in itertools.count(1):
                    if store.append(observation(step, run=run)):
                        os.write(theirs, b"%d\n" % step)
            finally:
                os._exit(1)
        os.close(theirs)
        said = os.read(ours, 100)  # It has begun.
        for _ in range(chance.randrange(60)):
            said += os.read(ours, 2**16)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        while block := os.read(ours, 2**16):
            said += block
        os.close(ours)
        acknowledged[run] = [int(line) for line in said.split(b"\n")[:-1]]
    study = StudyReader(ObservationStore(tmp_path).study_dir).read()
    assert study.damaged == 0
    for run, told in acknowledged.items():
        assert told == list(range(1, len(told) + 1)) and told
        assert len(study.runs[run].observations) >= min(len(told), attempts_module.MAX_POINTS // 4)
        if len(told) < attempts_module.MAX_POINTS:
            assert set(told) <= {o.counts.steps for o in study.runs[run].observations}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_processes_that_write_at_once_keep_apart(tmp_path):
    count = 100
    pids = []
    for process in range(4):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                shared, own = begun(tmp_path, run="shared"), begun(tmp_path, run=f"own{process}")
                for step in range(1, count + 1):
                    assert shared.append(observation(step, run="shared", value=float(process)))
                    assert own.append(observation(step, run=f"own{process}"))
                code = 0
            finally:
                os._exit(code)
        pids.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 4
    study_dir = ObservationStore(tmp_path).study_dir
    study = StudyReader(study_dir).read()
    assert study.damaged == 0 and len(study.runs) == 5
    assert all(len(record.observations) == count for record in study.runs.values())
    files = list((study_dir / folder_name("shared")).iterdir())
    assert [path.read_bytes().count(b'"kind":"observation"') for path in files] == [count] * 4
    assert all(path.read_bytes().endswith(b"\n") for path in files)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_never_writes(tmp_path):
    store = begun(tmp_path)
    store.append(observation(1))
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = int(store.append(observation(2)))
            store.sync(), store.finish("failed"), store.close()
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    assert store.append(observation(3))
    record = StudyReader(store.study_dir).read().runs["run"]
    assert [o.counts.steps for o in record.observations] == [1, 3] and record.state == "running"


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_a_copy_begins_anew(tmp_path, clone):
    store = begun(tmp_path)
    store.append(observation(1))
    other = clone(store)
    assert other.study_dir == store.study_dir and other.info is None and other.unsaved == ()
    assert not other.append(observation(2))
    assert other.begin(RunInfo(run="run")).attempt == 2
    assert store.append(observation(3)) and steps(store.study_dir) == [1, 3]


# Failing disks


IO_CALLS = ("open", "write", "fsync", "fstat", "mkdir", "listdir", "scandir", "close")


class Faults:
    """Makes I/O calls fail: those whose number, counted from 1, `fails` takes."""

    def __init__(self, monkeypatch, number, fails):
        self.calls = 0
        for name in IO_CALLS:
            monkeypatch.setattr(os, name, self.wrap(getattr(os, name), number, fails))

    def wrap(self, call, number, fails):
        def faulty(*args, **kwargs):
            self.calls += 1
            if fails(self.calls):
                if call.__name__ == "close":
                    call(*args)
                if call.__name__ == "write" and number == errno.ENOSPC:
                    return call(args[0], args[1][: len(args[1]) // 3])  # What a full disk does first.
                raise OSError(number, os.strerror(number))
            return call(*args, **kwargs)

        return faulty


def session(store):
    """A run as the callback has it; what was acknowledged."""
    store.begin(RunInfo(run="run"))
    acknowledged = [step for step in range(1, 6) if store.append(observation(step))]
    store.sync()
    acknowledged += [step for step in range(6, 9) if store.append(observation(step))]
    store.finish("finished")
    store.close()
    return acknowledged


@pytest.mark.parametrize("name", ERRNOS)
def test_one_failing_call_loses_nothing(tmp_path, monkeypatch, name):
    for k in itertools.count(1):
        store = ObservationStore(tmp_path / str(k))
        with monkeypatch.context() as patch:
            faults = Faults(patch, getattr(errno, name), lambda call, k=k: call == k)
            session(store)
        assert store.unsaved == ()
        assert steps(store.study_dir) == list(range(1, 9)), k
        assert StudyReader(store.study_dir).read().runs["run"].state == "finished"
        if faults.calls < k:
            break
    assert k > 20


@pytest.mark.parametrize("name", ERRNOS)
def test_a_disk_that_fails_for_good_keeps_everything_in_memory(tmp_path, monkeypatch, name):
    for k in range(1, 30):
        store = ObservationStore(tmp_path / str(k))
        with monkeypatch.context() as patch:
            faults = Faults(patch, getattr(errno, name), lambda call, k=k: call >= k)
            acknowledged = session(store)
        if faults.calls < k:
            break
        kept = [o.counts.steps for o in store.unsaved]
        study = StudyReader(store.study_dir).read()
        on_disk = [o.counts.steps for o in study.runs["run"].observations] if study.runs else []
        assert set(acknowledged) <= set(on_disk)
        assert sorted({*kept, *on_disk}) == list(range(1, 9))
        if kept:
            assert f"{len(kept)} are kept in memory" in store.fault
        # The disk is well again.
        store.close()
        assert store.unsaved == () and steps(store.study_dir) == list(range(1, 9))


def test_random_faults_lose_nothing(tmp_path, monkeypatch):
    chance = random.Random(0)
    for trial in range(100):
        store = ObservationStore(tmp_path / str(trial))
        with monkeypatch.context() as patch:
            Faults(patch, errno.ENOSPC, lambda call: chance.random() < 0.3)
            acknowledged = session(store)
        assert set(acknowledged) <= set(steps(store.study_dir) if acknowledged else [])
        store.finish("finished")
        assert steps(store.study_dir) == list(range(1, 9))


def test_trouble_is_told_retried_ever_less_often_and_then_over(tmp_path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(store_module.time, "monotonic", lambda: now[0])
    blocker = tmp_path / "root"
    blocker.write_text("a file where the directory should be")
    store = ObservationStore(blocker)
    assert store.begin(RunInfo(run="run")).attempt == 1
    tries = []
    file = store._file
    monkeypatch.setattr(file, "_open", lambda info, open_=file._open: (tries.append(now[0]), open_(info))[1])
    for step in range(1, 201):
        assert not store.append(observation(step))
        now[0] += 1.0
    assert tries[:4] == [1001.0, 1003.0, 1007.0, 1015.0] and max(np.diff(tries)) <= 60
    assert len(store.unsaved) == 200
    assert "200 are kept in memory" in store.fault and str(store.study_dir) in store.fault
    blocker.unlink()
    now[0] += 60
    assert store.append(observation(201))
    assert store.fault is None and store.unsaved == ()
    assert steps(store.study_dir) == list(range(1, 202))


def test_a_directory_that_cannot_be_made(tmp_path):
    store = begun("/proc/nowhere" if Path("/proc").exists() else tmp_path / "a\0b")
    assert not store.append(observation(1))
    store.sync(), store.finish("failed"), store.close()
    assert "cannot be written" in store.fault and len(store.unsaved) == 1


def test_a_read_only_directory(tmp_path):
    tmp_path.chmod(0o500)
    ours = os.geteuid()
    if ours == 0:
        os.seteuid(65534)  # Nobody, because root may write anywhere.
    try:
        store = begun(tmp_path)
        assert not store.append(observation(1))
        assert "Permission denied" in store.fault
    finally:
        os.seteuid(ours)
        tmp_path.chmod(0o700)
    store.close()
    assert steps(store.study_dir) == [1]


def test_a_path_that_is_none(tmp_path):
    store = begun(str(tmp_path) + "/a\0b")
    assert not store.append(observation(1))
    assert "cannot be written" in store.fault


def test_a_real_limit_in_the_middle_of_a_line(tmp_path):
    store = begun(tmp_path)
    (path,) = store.study_dir.rglob("*.jsonl")
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 250, old[1]))
    try:
        answers = [store.append(observation(step)) for step in range(1, 5)]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert answers == [True, False, False, False]
    store.sync()
    study = StudyReader(store.study_dir).read()
    assert steps(store.study_dir) == [1, 2, 3, 4] and study.damaged == 1


def test_a_directory_that_is_deleted_is_made_again(tmp_path):
    store = begun(tmp_path)
    store.append(observation(1))
    shutil.rmtree(tmp_path)
    assert store.append(observation(2)) and store.append(observation(3))
    assert steps(store.study_dir) == [2, 3]


def test_what_waits_is_bounded_and_keeps_its_extent(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "MAX_UNSAVED", 100)
    store = begun("/proc/nowhere" if Path("/proc").exists() else tmp_path / "a\0b")
    for step in range(1, 1001):
        store.append(observation(step))
        assert len(store.unsaved) <= 100
    kept = [o.counts.steps for o in store.unsaved]
    assert kept[0] == 1 and kept[-1] >= 999 and kept == sorted(kept)
    assert f"{1000 - len(kept)} observations were dropped" in store.fault


def test_what_waits_goes_into_the_same_runs_next_attempt_only(tmp_path):
    blocker = tmp_path / "root"
    blocker.write_text("")
    store = begun(blocker)
    store.append(observation(1))
    store.begin(RunInfo(run="run"))
    assert store.unsaved == (observation(1),)
    store.begin(RunInfo(run="other"))
    assert store.unsaved == ()


def test_an_unconfirmed_sync_is_told(tmp_path, monkeypatch):
    store = begun(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(errno.EIO, "I/O error")))
        store.sync()
    assert "did not confirm" in store.fault
    store.sync()
    assert store.fault is None
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(errno.EINVAL, "no fsync")))
        store.sync()
    assert store.fault is None


# Reading


@settings(max_examples=50, deadline=None)
@given(cuts=st.lists(st.integers(0, 4000), max_size=12))
def test_reading_as_it_grows_equals_reading_at_once(tmp_path_factory, cuts):
    study_dir, path, content = written(tmp_path_factory.mktemp("grow"), count=10)
    content = content.replace(b'"value":0.25', b'"value":0.26')  # One damaged line.
    reader = StudyReader(study_dir)
    for cut in [*sorted(cuts), len(content)]:
        path.write_bytes(b"") if cut == 0 else None
        with path.open("r+b") as file:
            file.write(content[:cut])
            file.truncate(cut)
        grown = reader.read()
    assert grown == StudyReader(study_dir).read()
    assert grown.reasons == {"damaged": 1}


def test_an_update_reads_only_what_is_new(tmp_path, monkeypatch):
    store = begun(tmp_path)
    for step in range(1, 51):
        store.append(observation(step))
    reader = StudyReader(store.study_dir)
    first = reader.read()
    assert reader.read() is first
    store.append(observation(51))
    assert len(reader.read().runs["run"].observations) == 51  # from now on it is known to grow
    sizes = []
    monkeypatch.setattr(os, "pread", lambda *a, pread=os.pread: (sizes.append(a[1]), pread(*a))[1])
    store.append(observation(52))
    assert len(reader.read().runs["run"].observations) == 52
    assert sum(sizes) < 300


def test_files_may_vanish_shrink_and_be_no_files(tmp_path):
    study_dir, path, content = written(tmp_path)
    folder = path.parent
    os.mkfifo(folder / "0002-ab.jsonl")
    (folder / "0003-ab.jsonl").mkdir()
    (folder / "0004-ab.jsonl").symlink_to("/dev/zero")
    (folder / "0005-ab.jsonl").symlink_to("nowhere")
    (folder / "notes.txt").write_text("not ours")
    (study_dir / "stray").write_text("not ours")
    reader = StudyReader(study_dir)
    assert len(reader.read().runs["run"].observations) == 6
    os.truncate(path, len(content) // 2)
    assert len(reader.read().runs["run"].observations) < 6
    path.unlink()
    assert reader.read().runs == {}
    assert StudyReader(tmp_path / "nowhere").read() == StudyReader("a\0b").read() == reader_module.Study()


def test_a_later_format_is_skipped_with_its_reason_and_additions_are_ignored(tmp_path):
    study_dir, path, _ = written(tmp_path, count=2)
    header = {"schema": 1, **RunInfo(run="new").to_json(), "color": "red"}
    data = {**observation(1).to_json(), "weather": {"rain": True}}
    data["counts"]["photons"] = 7
    content = encode_line(0, "run", header)
    content += encode_line(1, "mood", {"joy": 1}) + encode_line(2, "observation", data)
    (path.parent / "0002-aa.jsonl").write_bytes(content)
    later = encode_line(0, "run", {**header, "schema": 2, "run": "later"})
    (path.parent / "0003-aa.jsonl").write_bytes(later + encode_line(1, "observation", data))
    (path.parent / "0004-aa.jsonl").write_bytes(encode_line(1, "observation", data))
    study = StudyReader(study_dir).read()
    assert list(study.runs) == ["new", "run"]
    assert len(study.runs["new"].observations) == 1
    assert study.reasons == {"no header before it": 1, "written by a later foretrain": 2}
    assert study.damaged == 3


def test_unsaved_observations_are_read_as_if_they_had_been_written(tmp_path):
    store = begun(tmp_path)
    store.append(observation(1))
    reader = StudyReader(store.study_dir)
    extra = [observation(2), observation(1, value=9.0)]
    study = reader.read((store.info, extra))
    assert [(o.counts.steps, o.value) for o in study.runs["run"].observations] == [(1, 9.0), (2, 1.0)]
    other = reader.read((RunInfo(run="other"), [observation(5, run="other")]))
    assert list(other.runs) == ["other", "run"] and other.runs["other"].info.attempt == 1
    assert [o.value for o in reader.read().runs["run"].observations] == [1.0]


# Attempts


def attempts(root, *plans, run="run"):
    """Writes attempts: (resumed at step or None, steps measured, state or None); an attempt's number is
    its observations' value."""
    for resumed, measured, state in plans:
        continues = None if resumed is None else {"run": run, "step": resumed}
        store = begun(root, run=run, continues=continues)
        for step in measured:
            assert store.append(observation(step, run=run, value=float(store.info.attempt)))
        store.finish(state) if state else store.close()
    return StudyReader(ObservationStore(root).study_dir)


def seen(reader, run="run"):
    return [(o.counts.steps, int(o.value)) for o in reader.read().runs[run].observations]


def test_the_newest_attempt_wins_and_the_future_stays_until_passed(tmp_path):
    reader = attempts(tmp_path, (None, [10, 20, 30, 40], None), (None, [20], None))
    assert seen(reader) == [(10, 1), (20, 2), (30, 1), (40, 1)]
    assert reader.read().runs["run"].info.attempt == 2
    assert [o.attempt for o in reader.read().runs["run"].observations] == [1, 2, 1, 1]
    reader = attempts(tmp_path, (20, [35], None))
    assert seen(reader) == [(10, 1), (20, 2), (35, 3), (40, 1)], "30 was passed, 40 was not"
    reader = attempts(tmp_path, (35, [36], "finished"))
    assert seen(reader) == [(10, 1), (20, 2), (35, 3), (36, 4)], "no more will come"
    assert reader.read().runs["run"].state == "finished"


def test_an_attempt_from_scratch_hides_the_others_at_once(tmp_path):
    assert seen(attempts(tmp_path, (None, [0, 10, 20], None), (0, [], None))) == []
    assert seen(attempts(tmp_path, (0, [5], None))) == [(5, 3)]


def test_an_attempt_that_measured_nothing_hides_nothing(tmp_path):
    reader = attempts(tmp_path, (None, [10, 20], None), (None, [], None), (10, [], "failed"))
    assert seen(reader) == [(10, 1), (20, 1)]
    assert reader.read().runs["run"].state == "failed"


def test_metrics_are_kept_apart(tmp_path):
    store = begun(tmp_path)
    for step, metric in ((1, "b"), (1, "a"), (2, "a")):
        store.append(observation(step, metric=metric))
    got = StudyReader(store.study_dir).read().runs["run"].observations
    assert [(o.counts.steps, o.metric) for o in got] == [(1, "a"), (1, "b"), (2, "a")]


@settings(max_examples=60, deadline=None)
@given(data=st.data(), tells=st.booleans())
def test_a_run_killed_and_resumed_equals_one_that_was_not(tmp_path_factory, data, tells):
    """The fitted set is the history of the weights that exist, however often the run was resumed."""
    root = tmp_path_factory.mktemp("resume")
    history, at, most = [], 0, 0
    for number in range(1, data.draw(st.integers(1, 20)) + 1):
        resumed = 10 * data.draw(st.integers(0, at // 10))
        # Told the step, the reader also sorts out a resumed run that measures at other steps.
        every = data.draw(st.sampled_from([3, 5, 10])) if tells else 10
        at = resumed + data.draw(st.integers(0, 100))
        measured = [step for step in range(resumed + 1, at + 1) if step % every == 0]
        attempts(root, (resumed if tells else None, measured, None))
        history = [point for point in history if point[0] <= resumed]
        history += [(step, number) for step in measured]
        most = max(most, *measured, 0) if measured else most
    resumed = 10 * data.draw(st.integers(0, at // 10))
    measured = list(range(resumed + 10, max(most, resumed) + 30, 10))
    reader = attempts(root, (resumed if tells else None, measured, None))
    history = [p for p in history if p[0] <= resumed] + [(step, number + 1) for step in measured]
    assert seen(reader) == history


def test_order_is_by_attempt_and_not_by_clock(tmp_path):
    for started, value in ((2e9, 1.0), (1e9, 2.0)):
        store = begun(tmp_path, started=started)
        store.append(observation(1, value=value, time=started))
    assert seen(StudyReader(store.study_dir)) == [(1, 2)]


def test_a_run_continues_another(tmp_path):
    attempts(tmp_path, (None, [10, 20, 30], None), run="a")
    store = begun(tmp_path, run="b", continues={"run": "a", "step": 20})
    store.append(observation(25, run="b", value=2.0))
    store = begun(tmp_path, run="c", continues={"run": "b", "step": 25})
    store.append(observation(40, run="c", value=3.0))
    attempts(tmp_path, (25, [28], None), run="b")
    reader = StudyReader(store.study_dir)
    assert seen(reader, "a") == [(10, 1), (20, 1), (30, 1)]
    assert seen(reader, "b") == [(10, 1), (20, 1), (25, 2), (28, 2)]
    assert seen(reader, "c") == [(10, 1), (20, 1), (25, 2), (40, 3)]
    assert {o.run for o in reader.read().runs["c"].observations} == {"c"}


def test_runs_that_continue_each_other_or_nothing_are_read_all_the_same(tmp_path):
    chain = [(f"r{i}", f"r{i + 1}") for i in range(1500)]
    links = [("a", "b"), ("b", "c"), ("c", "a"), ("self", "self"), ("lost", "nowhere"), *chain]
    study_dir = ObservationStore(tmp_path).study_dir
    for run, other in links:
        folder = study_dir / folder_name(run)
        folder.mkdir(parents=True)
        info = RunInfo(run=run, continues={"run": other, "step": 5})
        line = encode_observation(1, observation(6, run=run))
        (folder / "0001-aa.jsonl").write_bytes(encode_header(0, info) + line)
    study = StudyReader(study_dir).read()
    assert len(study.runs) == len(links)
    assert all(record.observations[-1].counts.steps == 6 for record in study.runs.values())


def test_records_stay_frozen(tmp_path):
    store = begun(tmp_path)
    store.append(observation(1))
    study = StudyReader(store.study_dir).read()
    with pytest.raises(dataclasses.FrozenInstanceError):
        study.damaged = 3


def test_the_store_loads_no_numbers_library():
    code = "import sys, foretrain.store; sys.exit(any(m in sys.modules for m in ('numpy', 'scipy', 'torch')))"
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", code]) == 0


def test_two_monitors_of_one_run_lose_nothing(tmp_path):
    """Two metrics watched in one training are two attempts of one run, and both stay whole."""
    stores = []
    for metric in ("val_loss", "val_acc"):
        store = ObservationStore(tmp_path)
        scratch = {"run": "run", "step": 0}
        store.begin(RunInfo(run="run", conventions={"metric": metric}, continues=scratch))
        stores.append((metric, store))
    for step in (10, 20):
        for metric, store in stores:
            store.append(Observation("run", metric, 1.0, Counts(samples=step, steps=step)))
    record = StudyReader(store.study_dir).read().runs["run"]
    kept = {(o.metric, o.counts.steps) for o in record.observations}
    assert kept == {(metric, step) for metric in ("val_loss", "val_acc") for step in (10, 20)}
