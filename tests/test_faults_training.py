"""Rows 5, 6, 7 and 12: what a disk and a clock can do to a real training, which goes on and loses nothing."""

import builtins
import errno
import fcntl
import importlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import foretrain
from fault_ledger import effort, record
from faults_run import child_command, patience, said
from foretrain.analysis import Question, analyze
from foretrain.fitter import BackgroundFitter
from foretrain.lightning import ScalingLawMonitor, session
from lightning_models import (
    FLAVOURS,
    loader,
    make_module,
    make_trainer,
    only_run,
    read_study,
    use_fake_fitter,
)
from processes import children

OURS = str(Path(foretrain.__file__).parent)
LIBRARY = str(Path(os.__file__).parent)
ERRNOS = ["ENOSPC", "EIO", "EROFS", "EACCES", "ENOENT", "EDQUOT", "ESTALE"]
STORE_CALLS = [
    (os, name) for name in ("open", "write", "close", "fstat", "fsync", "mkdir", "stat", "listdir", "urandom")
]
FITTER_CALLS = [
    (subprocess, "Popen"), (socket, "socketpair"), (tempfile, "TemporaryFile"), (fcntl, "fcntl"),
    (os, "set_blocking"), (os, "read"), (builtins, "open"),
]  # fmt: skip


def called_by_us():
    """Whether the first frame outside of the standard library and of this file is one of foretrain's."""
    frame = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename.startswith(LIBRARY):
        if "site-packages" in frame.f_code.co_filename:
            return False
        frame = frame.f_back
    return frame is not None and frame.f_code.co_filename.startswith(OURS)


class Faults:
    """Makes our I/O calls fail, of all threads' none but ours: those whose number, from 1, `fails` takes."""

    def __init__(self, patch, calls, number, fails):
        self.calls = self.injected = 0
        self._number, self._fails = number, fails
        for module, name in calls:
            patch.setattr(module, name, self._wrap(name, getattr(module, name)))

    def _wrap(self, name, call):
        def faulty(*args, **kwargs):
            if not called_by_us():
                return call(*args, **kwargs)
            self.calls += 1
            if not self._fails(self.calls):
                return call(*args, **kwargs)
            self.injected += 1
            if name == "close":
                call(*args)  # the descriptor is gone either way
            if name == "write" and self._number == errno.ENOSPC:
                return call(args[0], args[1][: len(args[1]) // 3])  # what a full disk does first
            raise OSError(self._number, os.strerror(self._number))

        return faulty


def train(pl, root, monitor, *others, epochs=2):
    """A training with checkpoints, and what the monitor warned of."""
    save = pl.callbacks.ModelCheckpoint(root, every_n_train_steps=5, save_top_k=0, save_last=True)
    trainer = make_trainer(pl, root, [monitor, save, *others], max_epochs=epochs, enable_checkpointing=True)
    with said() as sentences:
        trainer.fit(make_module(pl), loader(), loader())
    return trainer, sentences


def outcome(root, trainer, epochs=2):
    """How many observations are missing in the end, and whether the training was stopped."""
    runs = read_study(Path(root, "foretrain")).runs.values()
    found = {o.counts.steps for run in runs for o in run.observations}
    return len(set(range(5, 5 * epochs + 1, 5)) - found), trainer.global_step != 5 * epochs


@pytest.mark.parametrize("name", ERRNOS)
def test_every_call_of_the_store_fails_once(tmp_path, monkeypatch, name):
    use_fake_fitter(monkeypatch)
    pl = importlib.import_module(FLAVOURS[ERRNOS.index(name) % 2])
    injected = lost = stopped = 0
    most, k = 0, 1 + ERRNOS.index(name) % effort(10, 1)
    total = k
    while k <= total:
        root = tmp_path / str(k)
        with monkeypatch.context() as patch:
            faults = Faults(patch, STORE_CALLS, getattr(errno, name), lambda call, k=k: call == k)
            trainer, sentences = train(pl, root, ScalingLawMonitor())
        total = faults.calls
        injected += faults.injected
        missing, halted = outcome(root, trainer)
        lost, stopped = lost + missing, stopped + halted
        most = max(most, len(sentences))
        assert only_run(root).state == "finished", (name, k)
        k += effort(10, 1)
    record(5, f"{name}, each call of the store once", injected, effort(1, 20), lost=lost, stopped=stopped)
    assert (lost, stopped) == (0, 0)
    assert most <= 1
    assert total > 20


@pytest.mark.parametrize("name", ERRNOS if effort(0, 1) else ["ENOSPC", "ESTALE"])
def test_what_waited_for_the_disk_is_written_when_it_is_well_again(tmp_path, monkeypatch, name):
    use_fake_fitter(monkeypatch)
    pl = importlib.import_module(FLAVOURS[ERRNOS.index(name) % 2])
    injected = lost = stopped = 0

    class Repair(pl.Callback):
        def on_train_epoch_start(self, trainer, module):
            if trainer.current_epoch == 2:
                broken.clear()

    for k in range(1, 40, effort(19, 1)):
        root, broken = tmp_path / str(k), [True]
        with monkeypatch.context() as patch:
            number = getattr(errno, name)
            faults = Faults(patch, STORE_CALLS, number, lambda call, k=k, b=broken: bool(b) and call >= k)
            trainer, sentences = train(pl, root, ScalingLawMonitor(), Repair(), epochs=3)
        injected += faults.injected
        missing, halted = outcome(root, trainer, epochs=3)
        lost, stopped = lost + missing, stopped + halted
        assert len(sentences) <= 1
        assert k > 1 or "kept in memory" in sentences[0]
    record(5, f"{name}, all calls for a while", injected, effort(1, 20), lost=lost, stopped=stopped)
    assert (lost, stopped) == (0, 0)


@pytest.mark.parametrize("name", ERRNOS if effort(0, 1) else ["EIO"])
def test_every_call_that_starts_or_reads_the_child_fails_once(tmp_path, monkeypatch, name):
    pl = importlib.import_module(FLAVOURS[ERRNOS.index(name) % 2])
    before = children()
    injected = lost = stopped = 0
    for k in range(1, 12, effort(4, 1)):
        root = tmp_path / str(k)
        root.mkdir()
        command = child_command(root, "exception", first=10**9)
        limits = {"command": command, "share": 1.0}
        monkeypatch.setattr(session, "BackgroundFitter", lambda limits=limits: BackgroundFitter(**limits))
        monitor = ScalingLawMonitor(final_wait=20)
        with monkeypatch.context() as patch:
            faults = Faults(patch, FITTER_CALLS, getattr(errno, name), lambda call, k=k: call == k)
            trainer, sentences = train(pl, root, monitor, patience(pl, monitor))
        injected += faults.injected
        missing, halted = outcome(root, trainer)
        lost, stopped = lost + missing, stopped + halted
        assert len(sentences) <= 1
        assert monitor.report is not None, "a second try has succeeded"
        assert monitor.report.stale == ""
        assert children() == before
    record(5, f"{name}, calls of the fitter", injected, effort(1, 10), lost=lost, stopped=stopped)
    assert (lost, stopped) == (0, 0)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 128 KiB, and a function that makes it read-only."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True) if shutil.which("mount") else None
    if done is None or done.returncode:
        pytest.skip(
            f"mounting a small disk is not permitted here: {done.stderr.strip() if done else 'no mount'}"
        )
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_full_and_then_has_room(tmp_path, monkeypatch, small_disk):
    pl = importlib.import_module(FLAVOURS[0])
    fake = use_fake_fitter(monkeypatch)

    class Fill(pl.Callback):
        def on_train_epoch_start(self, trainer, module):
            if trainer.current_epoch == 1:
                with (
                    pytest.raises(OSError, match="No space left"),
                    (small_disk / "filler").open("wb") as file,
                ):
                    while True:
                        file.write(b"x" * 512)
                        file.flush()
            if trainer.current_epoch == 100:
                (small_disk / "filler").unlink()

    monitor = ScalingLawMonitor(root=small_disk / "foretrain")
    trainer, sentences = train(pl, tmp_path, monitor, Fill(), epochs=150)
    missing, halted = outcome(small_disk, trainer, 150)
    waiting = [len(request.get("unsaved", {}).get("observations", ())) for request in fake.made[0].requests]
    record(5, "a full disk of 128 KiB", max(waiting), 1, lost=missing, stopped=halted)
    assert (missing, halted) == (0, False)
    assert len(sentences) == 1
    assert any(words in sentences[0] for words in ("No space left on device", "only a part was written"))
    assert max(waiting) >= 2
    assert waiting[-1] == 0


def test_a_disk_that_stays_full(tmp_path, monkeypatch, small_disk):
    pl = importlib.import_module(FLAVOURS[1])
    fake = use_fake_fitter(monkeypatch)
    (small_disk / "filler").write_bytes(bytes(100 * 1024))
    monitor = ScalingLawMonitor(root=small_disk / "foretrain")
    trainer, sentences = train(pl, tmp_path, monitor, epochs=100)
    on_disk = {o.counts.steps for o in only_run(small_disk).observations}
    in_memory = fake.made[0].requests[-1]["unsaved"]["observations"]
    record(5, "a disk of 128 KiB that stays full", len(in_memory), 1, stopped=trainer.global_step != 500)
    assert trainer.global_step == 500
    assert len(sentences) == 1
    assert on_disk | {o["counts"]["steps"] for o in in_memory} == set(range(5, 501, 5)), "and all are fitted"
    assert in_memory


@pytest.mark.parametrize("kind", ["read-only", "missing", "a file in the way"])
def test_where_nothing_can_be_written_there_is_one_warning(tmp_path, monkeypatch, request, kind):
    pl = importlib.import_module(FLAVOURS[0])
    fake = use_fake_fitter(monkeypatch)
    root, reason = Path("/proc/foretrain"), "No such file or directory"
    if kind == "a file in the way":
        root, reason = tmp_path / "file", "(Not a directory|File exists)"
        root.write_text("")
    elif kind == "read-only" and os.geteuid() == 0:
        root, reason = request.getfixturevalue("small_disk"), "Read-only file system"
        subprocess.run(["mount", "-o", "remount,ro", str(root)], check=True)
    elif kind == "read-only":
        root, reason = tmp_path / "closed", "Permission denied"
        root.mkdir(mode=0o500)
    with pytest.warns(UserWarning, match=f"cannot be written.*{reason}"):
        monitor = ScalingLawMonitor(root=root)
        trainer = make_trainer(pl, tmp_path, monitor, max_epochs=4)
        trainer.fit(make_module(pl), loader(), loader())
    monitor = ScalingLawMonitor(root=root)
    trainer, sentences = train(pl, tmp_path, monitor, epochs=4)
    kept = fake.made[-1].requests[-1]["unsaved"]["observations"]
    stopped = trainer.global_step != 20
    record(6, kind, 2, 1, lost=4 - len(kept), stopped=stopped)
    assert (len(kept), stopped, len(sentences)) == (4, False, 1)
    assert monitor.report is not None, "projections are made from memory"


def test_the_log_directory_is_deleted_in_the_run(tmp_path, monkeypatch):
    pl = importlib.import_module(FLAVOURS[1])
    use_fake_fitter(monkeypatch)
    deleted = []

    class Delete(pl.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if trainer.global_step in (12, 18, 19):
                shutil.rmtree(tmp_path / "logs", ignore_errors=trainer.global_step == 19)
                deleted.append(trainer.global_step)

    monitor = ScalingLawMonitor(root=tmp_path / "logs" / "foretrain")
    trainer, sentences = train(pl, tmp_path, monitor, Delete(), epochs=6)
    run = only_run(tmp_path / "logs")
    steps = [o.counts.steps for o in run.observations]
    record(7, "deleted in an epoch", len(deleted), 1, stopped=trainer.global_step != 30)
    assert deleted == [12, 18, 19]
    assert trainer.global_step == 30
    assert sentences == []
    assert steps == [5, 10, 15, 20, 25, 30], "what was deleted is written again"
    assert run.state == "finished"


def recorded(pl, root, monkeypatch, clock, zone=None):
    """The reports on a training that was resumed once, under a clock that tells `clock(seconds)`."""
    began = time.time()
    values = [0.1 + 2.0 * (20 * (i + 1)) ** -0.5 for i in range(16)]
    real = time.time
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: clock(real() - began) + began)
        for first, last in ((0, 8), (8, 16)):
            if zone is not None:
                patch.setenv("TZ", zone[first > 0])
                time.tzset()
            save = pl.callbacks.ModelCheckpoint(root, save_last=True, save_top_k=0, every_n_epochs=1)
            callbacks = [ScalingLawMonitor(fit=False, run="r"), save]
            options = {"max_epochs": last, "enable_checkpointing": True}
            trainer = make_trainer(pl, root, callbacks, **options)
            module = make_module(pl, values=values[first:])
            trainer.fit(module, loader(), loader(), ckpt_path=root / "last.ckpt" if first else None)
    time.tzset()
    runs = read_study(Path(root, "foretrain")).runs
    return runs["r"], analyze(runs, Question(run="r", metric="val_loss", axis="samples")).to_json()


DAY = 86_400.0
CLOCKS = {
    "a day forward": lambda t: t + (DAY if t > 0.3 else 0.0),
    "a day back": lambda t: t - (DAY if t > 0.3 else 0.0),
    "an hour back and forth": lambda t: t + 3600.0 * (int(t * 20) % 2),
    "standing still": lambda t: 0.0,
    "running backwards": lambda t: -t,
}


@pytest.mark.parametrize("jump", [*CLOCKS, "summer time"])
def test_the_clock_jumps(tmp_path, monkeypatch, jump):
    pl = importlib.import_module(FLAVOURS[0])
    run, expected = recorded(pl, tmp_path / "steady", monkeypatch, lambda t: t)
    assert [o.counts.steps for o in run.observations] == list(range(5, 81, 5))
    clock, zone = CLOCKS.get(jump, lambda t: t), ("CET-1", "CEST-2") if jump == "summer time" else None
    jumped, report = recorded(pl, tmp_path / "jumping", monkeypatch, clock, zone)
    steps = {o.counts.steps for o in jumped.observations}
    record(12, jump, 1, 1, lost=16 - len(steps))
    assert report == expected
    assert jumped.info.attempt == 2
