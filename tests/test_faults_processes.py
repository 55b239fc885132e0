"""Rows 10 and 13: SIGTERM at any time, and data loaded by forked and spawned workers, in a real Trainer."""

import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from fault_ledger import effort, record
from faults_run import Trainings
from lightning_models import FLAVOURS, only_run, read_study

MOST_SECONDS = 2.0  # from the signal to the end of the process

WHERE = ["training", "validating", "saving", "at the end"]
REPEATS = effort(1, 5)


@pytest.fixture(scope="module", params=FLAVOURS if effort(0, 1) else FLAVOURS[:1])
def served(request):
    server = Trainings(request.param)
    yield server
    server.close()


@pytest.fixture
def trainings(served):
    yield served
    served.end_newest()


def terminate(training, chance, where):
    """Sends SIGTERM a little after the training said where it is; when it was sent."""
    assert training.wait_for("kept 3"), training.lines()[-3:]
    if where == "at the end":
        assert training.wait_for(where)
        time.sleep(chance.uniform(0.0, 0.5))
    else:
        time.sleep(chance.uniform(0.0, 0.3))
        before = training.lines().count(where)
        while training.lines().count(where) == before:
            time.sleep(0.001)
    os.kill(training.pid, signal.SIGTERM)
    return time.monotonic()


@pytest.mark.parametrize("fitter", ["hang", "real"])
@pytest.mark.parametrize("where", WHERE)
def test_a_sigterm_ends_the_training_soon_and_loses_nothing(tmp_path, trainings, where, fitter):
    if fitter == "real" and where == "at the end":
        pytest.skip("the final wait is over by itself where a fit succeeds")
    chance = random.Random(f"{where} {fitter}")
    lost = stopped = 0
    longest = 0.0
    for repeat in range(REPEATS):
        root = tmp_path / str(repeat)
        epochs = 1 if where == "at the end" else 10**6
        training = trainings.start("train_until_told", root, fitter=fitter, epochs=epochs)
        sent = terminate(training, chance, where)
        code, ended = training.end()
        longest = max(longest, ended - sent)
        said = training.lines()
        # A training that had come to its end has finished; one in the middle ends as Lightning means it to.
        last, state = (
            ("returned 5", "finished") if where == "at the end" else ("raised SIGTERMException", "failed")
        )
        kept = {int(line.split()[1]) for line in said if line.startswith("kept ")}
        run = only_run(root)
        lost += (
            len(kept - {o.counts.steps for o in run.observations}) + read_study(root / "foretrain").damaged
        )
        stopped += (code, said[-1], run.state) != (0, last, state)
        assert (code, said[-1], run.state) == (0, last, state), Path(root, "errors").read_text()[-2000:]
        assert training.left() == []
    print(f"{where}, fitter {fitter}: at most {longest:.2f} s from the signal to the end")
    stopped += longest >= MOST_SECONDS
    record(10, f"SIGTERM, {where}, {fitter} fit", REPEATS, REPEATS, lost=lost, stopped=stopped)
    assert lost == 0
    assert longest < MOST_SECONDS


# A spawned worker imports everything anew, which takes ten times what the training does.
WORKERS = [(0, None, False), (2, "fork", False), (4, "fork", True), (1, "spawn", True)]
if effort(0, 1):
    WORKERS += [(2, "fork", True), (4, "fork", False)]
    WORKERS += [(2, "spawn", True), (4, "spawn", True), (2, "spawn", False)]


@pytest.mark.parametrize(("workers", "start", "persistent"), WORKERS)
def test_workers_neither_write_nor_hang_nor_stay(tmp_path, trainings, workers, start, persistent):
    root = tmp_path / "run"
    options = {"workers": workers, "start": start, "persistent": persistent}
    training = trainings.start("train_with_workers", root, **options)
    code, _ = training.end(300.0)
    said, errors = training.lines(), Path(root, "errors").read_text()
    run = only_run(root)
    steps = [o.counts.steps for o in run.observations]
    lost, stopped = len({5, 10, 15} - set(steps)), int((code, said[-1]) != (0, "returned 15"))
    record(
        13, f"{workers} workers, {start or 'none'}{', kept' * persistent}", 1, 1, lost=lost, stopped=stopped
    )
    assert (code, said[-1]) == (0, "returned 15"), errors[-3000:]
    assert "ScalingLawMonitor failed" not in errors
    assert (steps, run.state) == ([5, 10, 15], "finished")
    assert len(list(root.glob("worker *"))) == workers * (1 if persistent else 3), (
        "all took the monitor along"
    )
    assert len(list(root.glob("foretrain/*/*/*.jsonl"))) == 1, "one process writes"
    assert len(list(root.glob("lightning_logs/*/events.*"))) == 1
    assert training.left() == []


@pytest.mark.parametrize("start", ["fork", "spawn"] if effort(0, 1) else ["fork"])
def test_nothing_stays_of_a_training_with_workers_that_was_killed(tmp_path, trainings, start):
    root = tmp_path / "run"
    options = {"workers": 2, "start": start, "persistent": True, "epochs": 10**6}
    training = trainings.start("train_with_workers", root, **options)
    assert training.wait_for("kept 15")
    trackers = int(start == "spawn")  # Python's own, of what spawned processes share
    assert len(training.left(0.0)) == 4 + trackers, "itself, its workers, its fitter"
    os.kill(training.pid, signal.SIGKILL)
    assert training.end()[0] == -signal.SIGKILL
    left = training.left(30.0)
    lost = len({5, 10, 15} - {o.counts.steps for o in only_run(root).observations})
    record(13, f"training killed, 2 workers, {start}", 1, 1, lost=lost, stopped=len(left))
    assert (left, lost) == ([], 0)
