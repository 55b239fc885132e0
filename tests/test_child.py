"""The child's program: what it answers, what it never loads, and that it never outlives its parent."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import foretrain
from foretrain.axes import Counts
from foretrain.fitter import BackgroundFitter
from foretrain.observation import Observation, Plan, RunInfo, ScheduleUpdate
from foretrain.report import Report
from foretrain.schedule import Schedule
from foretrain.store import ObservationStore

LONG = 60.0
SOURCE = str(Path(foretrain.__file__).parent.parent)
ANALYSIS = """
import sys, time, types
sys.path.insert(0, {source!r})
fake = types.ModuleType("foretrain.analysis")
class Question:
    @classmethod
    def from_json(cls, record):
        return record
class Shelf:
    pass
def analyze(runs, question, shelf):
    from foretrain.report import Report
    print("a library that prints")
    do = question.get("do", "")
    if do == "raise":
        raise ZeroDivisionError("of course")
    if do == "hog":
        hog = [bytes(2**24) for _ in range(1000)]
    if do == "spin":
        while True: pass
    if do == "long":
        return Report(run="x" * 300_000, metric="m", axis="samples", step=0)
    run = runs[question["run"]]
    if do == "schedule":
        known = run.schedule and run.schedule.knots
        told = " ".join(map(str, (known, run.schedule_unknown, type(shelf).__name__)))
        return Report(run=told, metric="m", axis="samples", step=id(shelf))
    points = tuple((float(o.counts.samples), o.value) for o in run.observations)
    return Report(run=run.info.run, metric="m", axis="samples", step=len(points), points=points)
fake.Question, fake.Shelf, fake.analyze = Question, Shelf, analyze
sys.modules["foretrain.analysis"] = fake
from foretrain.child import main
main(memory_limit={memory_limit}, parent=int(sys.argv[1]))
"""


def command(memory_limit=None):
    program = ANALYSIS.format(source=SOURCE, memory_limit=memory_limit)
    return [sys.executable, "-I", "-c", program, str(os.getpid())]


@pytest.fixture
def store(tmp_path):
    store = ObservationStore(tmp_path / "records")
    store.begin(RunInfo(run="a"))
    for step in range(1, 4):
        store.append(observation(step))
    return store


@pytest.fixture
def fitter():
    fitter = BackgroundFitter(command=command(2**30), max_restarts=0)
    yield fitter
    fitter.close()


@pytest.fixture
def child():
    """A child that is talked to by hand."""
    process = subprocess.Popen(
        command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def observation(step):
    return Observation("a", "m", 1 / step, Counts(samples=10 * step, steps=step))


def request(store, **question):
    return {"study_dir": str(store.study_dir), "run": "a", "question": {"run": "a", **question}}


def test_a_question_is_answered_from_the_records_as_they_grow(store, fitter):
    for step in range(4, 7):
        fitter.submit(request(store))
        report = fitter.wait(LONG)
        assert report is not None, fitter.fault
        assert [x for x, _ in report.points] == [10.0 * s for s in range(1, step)]
        store.append(observation(step))


def test_unsaved_observations_count(store, fitter):
    unsaved = {"info": store.info.to_json(), "observations": [observation(9).to_json()]}
    fitter.submit({**request(store), "unsaved": unsaved})
    assert [x for x, _ in fitter.wait(LONG).points] == [10.0, 20.0, 30.0, 90.0]
    fitter.submit(request(store))
    assert fitter.wait(LONG).step == 3


def test_a_schedule_that_could_not_be_written_counts_too(store, fitter):
    used, plan = Schedule((1, 3), (0.5, 1.0)), Plan(Schedule((4, 9), (1.0, 0.1)))
    unsaved = {
        "info": store.info.to_json(),
        "observations": [observation(3).to_json()],
        "schedule": ScheduleUpdate(used, plan).to_json(),
    }
    fitter.submit({**request(store, do="schedule"), "unsaved": unsaved})
    first = fitter.wait(LONG)
    assert first.run == "[(1, 0.5), (3, 1.0), (4, 1.0), (9, 0.1)] None Shelf"
    fitter.submit(request(store, do="schedule"))
    second = fitter.wait(LONG)
    assert second.run == "None not recorded Shelf" and second.step == first.step, "one shelf serves a study"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"question": {"do": "raise"}}, "ZeroDivisionError: of course"),
        ({"question": {"do": "hog"}}, "MemoryError"),
        ({"question": {"do": "long"}}, "at most 262144 bytes"),
        ({"question": {"run": "unknown"}}, "KeyError: 'unknown'"),
        ({"question": None}, "AttributeError"),
        ({"unsaved": {"info": {}}}, "TypeError"),
        ({"study_dir": "a\0b"}, "KeyError: 'a'"),
    ],
)
def test_an_error_is_an_answer_and_the_child_goes_on(store, fitter, change, reason):
    fitter.submit({**request(store), **change})
    assert fitter.wait(LONG) is None
    assert reason in fitter.fault, fitter.fault
    fitter.submit(request(store))
    assert fitter.wait(LONG).step == 3, "with max_restarts=0 this is the same child"


def test_of_waiting_questions_the_newest_is_answered(store, child):
    lines = [json.dumps({"id": number, **request(store)}) for number in range(20)]
    child.stdin.write("\n".join(lines).encode() + b"\nnot JSON at all\n")
    child.stdin.write(json.dumps({"id": 99, **request(store)}).encode() + b"\n")
    child.stdin.flush()
    answer = json.loads(child.stdout.readline())
    assert answer["id"] == 99 and Report.from_json(answer["report"]).step == 3


def test_what_cannot_be_understood_is_an_error(child):
    for line in (b"not JSON", b"[]", b"{}", b"[" * 100_000, b"\xff"):
        child.stdin.write(line + b"\n")
        child.stdin.flush()
        answer = json.loads(child.stdout.readline())
        assert answer["id"] is None and "Error" in answer["error"]


def test_the_child_is_low_and_loads_no_framework(store, child):
    child.stdin.write(json.dumps({"id": 1, "kind": "modules"}).encode() + b"\n")
    child.stdin.flush()
    modules = json.loads(child.stdout.readline())["modules"]
    assert "foretrain.child" in modules
    assert not {"torch", "lightning", "pytorch_lightning", "tensorboard", "numpy"} & set(modules)
    assert os.getpriority(os.PRIO_PROCESS, child.pid) == min(19, os.getpriority(os.PRIO_PROCESS, 0) + 15)


def test_the_child_leaves_at_the_end_of_its_input(child):
    child.stdin.close()
    assert child.wait(LONG) == 0


@pytest.mark.parametrize("do", ["", "spin"])
def test_the_child_leaves_when_its_parent_is_killed(store, tmp_path, do):
    """Also in the middle of a fit, and while a forked worker still holds the other end of its input."""
    parent = textwrap.dedent(f"""
        import os, signal, time
        from foretrain.fitter import BackgroundFitter
        command = {command()[:-1]!r}
        fitter = BackgroundFitter(command=[*command, str(os.getpid())])
        fitter.submit({request(store, do=do)!r})
        if {do!r} != "spin":
            assert fitter.wait({LONG}) is not None, fitter.fault
        worker = os.fork()
        if worker == 0:
            signal.pause()
        print(fitter._child._process.pid, worker, flush=True)
        signal.pause()
    """)
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE)
    child, worker = map(int, process.stdout.readline().split())
    process.kill()
    process.wait()
    process.stdout.close()
    try:
        end = time.monotonic() + LONG
        while Path(f"/proc/{child}").exists() and _state(child) != "Z" and time.monotonic() < end:
            time.sleep(0.05)
        assert _state(child) in ("", "Z")
        assert _state(worker) not in ("", "Z"), "the worker was there all the time"
    finally:
        os.kill(worker, signal.SIGKILL)


def _state(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return ""


def test_a_fit_that_no_one_looks_at_ends(store):
    fitter = BackgroundFitter(command=command(), time_limit=0.01)
    fitter.submit(request(store, do="spin"))
    process = fitter._child._process
    assert process.wait(LONG) == os.EX_SOFTWARE
    fitter.close()


SLOW_DISK = """
import os, time
from foretrain import child
child._TELL_EVERY = {every}
pread = os.pread
os.pread = lambda *arguments: (time.sleep(0.5), pread(*arguments))[1]
"""


@pytest.mark.parametrize(("every", "fault"), [(0.1, None), (1e9, "it took longer than 1 seconds")])
def test_the_time_limit_is_not_for_reading_that_gets_on(store, every, fault):
    (path,) = store.study_dir.rglob("*.jsonl")
    with path.open("ab") as file:
        file.write(b"\n".join(b"x" * 2**19 for _ in range(9)) + b"\n")
    (*start, program, parent) = command()
    program = program.replace("main(memory_limit", SLOW_DISK.format(every=every) + "main(memory_limit")
    fitter = BackgroundFitter(command=[*start, program, parent], time_limit=1.0, max_restarts=0)
    begun = time.monotonic()
    fitter.submit(request(store))
    report = fitter.wait(LONG)
    fitter.close()
    if fault is None:
        assert report is not None and report.step == 3 and fitter.fault is None
        assert time.monotonic() - begun > 2.0
    else:
        assert report is None and fault in fitter.fault


def test_the_default_command_imports_foretrain_whatever_lies_around(store, tmp_path, monkeypatch):
    """Names of the standard library in the working directory and on the path, and a changed directory."""
    for name in ("random", "json", "signal", "select", "resource"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('not this one')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), *sys.path])
    fitter = BackgroundFitter(max_restarts=0)
    fitter.submit({"kind": "modules"})
    assert fitter.wait(LONG) is None
    assert "no answer: neither a report nor an error" in fitter.fault, "it answered with its modules"
    fitter.close()


def test_the_real_analysis_is_asked_and_loads_no_framework(tmp_path):
    store = ObservationStore(tmp_path)
    store.begin(RunInfo(run="a"))
    for step in range(1, 21):
        value = 0.5 + 3.0 * (100 * step) ** -0.4
        store.append(Observation("a", "val_loss", value, Counts(samples=100 * step, steps=step)))
    # At its usual niceness the imports alone may take minutes where all processors are busy.
    program = f"import sys; sys.path[:] = {sys.path!r}\n"
    program += "from foretrain import child; child.NICENESS = 0; child.main()"
    fitter = BackgroundFitter(command=[sys.executable, "-I", "-c", program])
    fitter.submit({"study_dir": str(store.study_dir), "run": "a", "question": {"run": "a"}})
    report = fitter.wait(LONG)
    assert report is not None, fitter.fault
    assert (report.run, report.step, len(report.points)) == ("a", 20, 20)
    assert report.curve is not None
    store.append(Observation("a", "val_loss", float("nan"), Counts(samples=2100, steps=21)))
    fitter.submit({"study_dir": str(store.study_dir), "run": "a", "question": {"run": "a"}}, glance=True)
    end, flags = time.monotonic() + LONG, None
    while flags in (None, ()) and time.monotonic() < end:
        assert fitter.poll() is None, "it rests from the fit"
        flags = fitter.poll_flags()
        time.sleep(0.01)
    assert [(flag.kind.value, flag.step) for flag in flags] == [("nan", 21)]
    mapped = Path(f"/proc/{fitter._child._process.pid}/maps").read_text()
    assert "scipy" in mapped and "torch" not in mapped
    fitter.close()
