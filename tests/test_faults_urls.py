"""Stores behind URLs at the numbers asked: calls fail, processes are killed, and nothing is lost."""

import os
import random
import signal
import subprocess
import sys
import time

import fsspec
import pytest

import bucket
from fault_ledger import effort, record
from foretrain.axes import Counts
from foretrain.observation import Observation, RunInfo
from foretrain.storage.records import folder_name
from foretrain.storage.uploader import Pace
from foretrain.storage.url_store import UrlStore
from foretrain.store import StudyReader

FAST = Pace(0.0, 0.02, 0.0, 0.02, 0.0, together=8, read=0.05, left=0.05, retry=0.005, longest_retry=0.02)
LINES = 60
"""Of each run: enough that small objects are put together while it lasts."""


def value_at(run, step):
    return 2.0 + (sum(map(ord, run)) % 97) / (step + 0.5)


def write_run(url, spool, run):
    """One run, from its beginning to its end; how many lines were not acknowledged, and what is wrong."""
    store = UrlStore(url, spool=spool, pace=FAST)
    store.begin(RunInfo(run=run))
    refused = 0
    for step in range(1, LINES + 1):
        refused += not store.append(Observation(run, "val_loss", value_at(run, step), Counts(8 * step, step)))
        if step % 15 == 0:
            store.sync()
            time.sleep(0.03)
    store.finish("finished")
    store.close()
    end = time.monotonic() + 60.0
    while store._spool.path.exists() and time.monotonic() < end:
        time.sleep(0.005)
    return refused + store._spool.path.exists()


def count_lost(url, runs):
    """Records of finished runs that are not read back as they were written; the reader may try some times."""
    reader = StudyReader(f"{url}/{folder_name('default')}")
    for _ in range(20):
        study, lost = reader.read(), 0
        for run in runs:
            held = study.runs[run].observations if run in study.runs else ()
            values = {o.counts.steps: o.value for o in held}
            lost += sum(values.get(step) != value_at(run, step) for step in range(1, LINES + 1))
            lost += len(values) > LINES or (run in study.runs and study.runs[run].state != "finished")
        if not lost:
            break
    return lost + study.damaged


def test_memory_gives_back_every_run(tmp_path):
    count, url = effort(3, 50), f"memory://{os.urandom(6).hex()}/logs"
    runs = [f"run{number}" for number in range(count)]
    stopped = sum(write_run(url, tmp_path / "spool", run) > 0 for run in runs)
    lost = count_lost(url, runs)
    fsspec.filesystem("memory").rm(url.partition("://")[2], recursive=True)
    record(17, f"runs of {LINES} records in memory://", count, 50, lost=lost, stopped=stopped)
    assert (lost, stopped) == (0, 0)


def test_a_store_without_append_that_fails_three_calls_in_ten_loses_nothing(tmp_path):
    count = effort(3, 100)
    cloud = bucket.install(tmp_path / "objects", fails=0.3, seed=17)
    runs = [f"run{number}" for number in range(count)]
    stopped = sum(write_run("bucket://b", tmp_path / "spool", run) > 0 for run in runs)
    calls, failed = len(cloud.calls), cloud.failed
    lost = count_lost("bucket://b", runs)
    cloud.fails = 0.0
    fault = f"of {calls:,} calls of a store without append, those that failed"
    record(17, fault, failed, 1_000, lost=lost, stopped=stopped)
    assert (lost, stopped) == (0, 0) and cloud.changed == []
    # Threads decide how many calls there are: five standard deviations of that many, each failing by .3.
    assert abs(failed - 0.3 * calls) < 5.0 * (0.21 * calls) ** 0.5


def test_killed_between_spool_and_store_nothing_is_lost(tmp_path):
    """One run of many lives, each from what the last one acknowledged, in a store that fails, too."""
    kills, chance, last = effort(3, 40), random.Random(5), 0
    cloud, spool = bucket.install(tmp_path / "objects"), tmp_path / "spool"
    for _ in range(kills):
        arguments = (cloud.folder, spool, 0.3, "run", last + 1, last + 10**6, "kill")
        command = [sys.executable, bucket.__file__, *map(str, arguments)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        want = last + chance.randrange(1, 120)
        for line in process.stdout:
            last = int(line)
            if last >= want:
                break
        process.send_signal(signal.SIGKILL)
        last = max([last, *(int(line) for line in process.stdout if line.endswith("\n"))])
        process.wait(10)
    (root,) = spool.iterdir()
    for _ in range(20):  # The next process brings what they left.
        assert write_run("bucket://b", spool, "next") == 0
        if not any(root.iterdir()):
            break
    study = StudyReader(f"bucket://b/{folder_name('default')}").read()
    values = {o.counts.steps: o.value for o in study.runs["run"].observations}
    lost = sum(values.get(step) != 1 / step for step in range(1, last + 1)) + study.damaged
    record(17, f"kill -9 between spool and store, {last:,} lines acknowledged", kills, 40, lost=lost)
    assert lost == 0 and len(values) <= last + 1


@pytest.fixture
def failing_s3(s3, monkeypatch):
    """The same server, three in ten of whose calls fail before or after they worked."""
    import s3fs

    chance, told = random.Random(9), {"calls": 0, "failed": 0}
    call = s3fs.S3FileSystem._call_s3

    async def failing(self, *args, **kwargs):
        luck = chance.random()
        told["calls"] += 1
        told["failed"] += luck < 0.3
        if luck < 0.15:
            raise ConnectionError("no answer")
        answer = await call(self, *args, **kwargs)
        if luck < 0.3:
            raise TimeoutError("no answer in time")
        return answer

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", failing)
    return s3, told


def test_an_s3_server_that_fails_three_calls_in_ten_loses_nothing(failing_s3, tmp_path):
    (url, told), count = failing_s3, effort(1, 20)
    runs = [f"run{number}" for number in range(count)]
    stopped = sum(write_run(url, tmp_path / "spool", run) > 0 for run in runs)
    calls, failed = told["calls"], told["failed"]
    lost = count_lost(url, runs)
    record(
        17, f"of {calls:,} calls of an S3 server, those that failed", failed, 100, lost=lost, stopped=stopped
    )
    assert (lost, stopped) == (0, 0) and failed / calls > 0.1
