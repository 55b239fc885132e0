"""The fitter with children that misbehave in every way: training never waits, never ends, always knows."""

import copy
import gc
import itertools
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from foretrain.fitter import _BOOTSTRAP, BackgroundFitter
from foretrain.flags import Flag, FlagKind
from foretrain.process import ChildError, ChildProcess
from foretrain.report import Report
from processes import count_starts

PRELUDE = f"""
import json, os, signal, sys, time
REPORT = {Report(run="r", metric="m", axis="samples", step=0).to_json()!r}
def answer(request, **more):
    report = json.loads(REPORT)
    report["step"] = request["step"]
    print(json.dumps({{"id": request["id"], "report": json.dumps(report), **more}}), flush=True)
def marked(path):  # Whether this is not the first child.
    if os.path.exists(path):
        return True
    open(path, "w").close()
requests = map(json.loads, sys.stdin)
"""
GOOD = "for r in requests: answer(r)"
LONG = 30.0  # Seconds to wait for what must come; never what a good run takes.


def command(program):
    # Without site: starts in a few milliseconds.
    return [sys.executable, "-I", "-S", "-c", PRELUDE + program]


@pytest.fixture
def fitter():
    """Makes fitters with a child's program, and closes them."""
    made = []

    def make(program, **options):
        made.append(BackgroundFitter(command=command(program), **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def pid_of(fitter):
    return fitter._child._process.pid


def gone(pid):
    """Waits until there is no such process (a zombie of someone else's counts as gone)."""
    end = time.monotonic() + LONG
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False


def polled(fitter):
    """What training does: polls until a report comes."""
    end = time.monotonic() + LONG
    while time.monotonic() < end:
        if (report := fitter.poll()) is not None:
            return report
        time.sleep(0.01)
    return None


def test_a_report_comes_once(fitter):
    fitter = fitter(GOOD)
    assert fitter.poll() is None and not fitter.pending and fitter._child is None
    fitter.submit({"step": 3})
    assert fitter.pending
    assert polled(fitter).step == 3
    assert fitter.poll() is None
    assert (fitter.pending, fitter.stale, fitter.fault) == (False, False, None)


def test_waiting_gives_the_answer_to_the_newest_request(fitter):
    fitter = fitter(GOOD)
    for step in range(20):
        fitter.submit({"step": step})
    assert fitter.wait(LONG).step == 19
    assert fitter.wait(LONG) is None, "nothing is pending, so it does not wait"


def test_only_the_newest_request_waits(fitter, tmp_path):
    log, go = tmp_path / "log", tmp_path / "go"
    fitter = fitter(
        f"for r in requests:\n"
        f"  print(r['step'], file=open({str(log)!r}, 'a'), flush=True)\n"
        f"  while not os.path.exists({str(go)!r}): time.sleep(.01)\n"
        f"  answer(r)"
    )
    for step in range(50):
        fitter.submit({"step": step})
    assert fitter.wait(0.05) is None and fitter.pending
    go.touch()
    assert fitter.wait(LONG).step == 49
    assert log.read_text().split() == ["0", "49"]


def test_a_large_request_and_a_large_report_arrive_in_pieces(fitter):
    fitter = fitter("for r in requests: answer(r, padding='x' * 600_000)")
    fitter.submit({"step": 1, "padding": "y" * 5_000_000})
    assert fitter.wait(LONG).step == 1
    fitter.submit({"step": 2})
    assert polled(fitter).step == 2


def test_an_error_is_told_and_over_with_the_next_report(fitter):
    fitter = fitter(
        "for r in requests:\n"
        "  if r['step'] % 2: print(json.dumps({'id': r['id'], 'error': 'ValueError: no'}), flush=True)\n"
        "  else: answer(r)"
    )
    fitter.submit({"step": 0})
    assert fitter.wait(LONG).step == 0
    pid = pid_of(fitter)
    for _ in range(5):
        fitter.submit({"step": 1})
        assert fitter.wait(LONG) is None
        assert fitter.stale and not fitter.pending
        assert "ValueError: no" in fitter.fault and "the last report stays" in fitter.fault
    fitter.submit({"step": 2})
    assert fitter.wait(LONG).step == 2
    assert not fitter.stale and fitter.fault is None and pid_of(fitter) == pid


def test_a_child_killed_in_a_fit_is_replaced_and_asked_again(fitter, tmp_path):
    fitter = fitter(
        f"for r in requests:\n  if not marked({str(tmp_path / 'mark')!r}): signal.pause()\n  answer(r)"
    )
    fitter.submit({"step": 7})
    while not (tmp_path / "mark").exists():
        time.sleep(0.01)
    os.kill(pid_of(fitter), signal.SIGKILL)
    assert polled(fitter).step == 7
    assert not fitter.stale and fitter.fault is None


def test_a_child_that_dies_with_nothing_to_do_is_replaced_silently(fitter):
    fitter = fitter("answer(next(requests))", max_restarts=0)
    for step in range(5):
        fitter.submit({"step": step})
        assert fitter.wait(LONG).step == step
        end = time.monotonic() + LONG
        while fitter._child is not None and time.monotonic() < end:
            assert fitter.poll() is None and fitter.fault is None
        assert fitter._child is None


def test_a_child_that_hangs_is_killed_and_replaced(fitter, tmp_path):
    fitter = fitter(
        f"for r in requests:\n"
        f"  if not marked({str(tmp_path / 'mark')!r}):\n"
        f"    signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(1000)\n"
        f"  answer(r)",
        time_limit=1.5,
    )
    fitter.submit({"step": 7})
    pid = pid_of(fitter)
    assert fitter.wait(LONG).step == 7
    assert gone(pid)


def test_a_fit_that_waits_for_a_processor_is_not_late(fitter, monkeypatch):
    fitter = fitter("for r in requests: time.sleep(1); answer(r)", time_limit=0.2)
    starved = itertools.count(0.0, 10.0)
    monkeypatch.setattr(ChildProcess, "waited_for_processor", lambda self: next(starved))
    fitter.submit({"step": 7})
    assert fitter.wait(LONG).step == 7


HANG = "time.sleep(1000)"
ONE = "r = next(requests); "


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (f"print('Hello', flush=True); {HANG}", "no answer: Expecting value"),
        (f"{ONE} print(json.dumps([r['id']]), flush=True); {HANG}", "no answer"),
        (f"{ONE} print(json.dumps({{'id': r['id']}}), flush=True); {HANG}", "no answer: neither"),
        (f"{ONE} print(json.dumps({{'id': r['id'], 'report': '{{}}'}}), flush=True)", "Expected a report"),
        (f"{ONE} print('[' * 100_000, flush=True); {HANG}", "no answer"),
        (f"{ONE} os.write(1, b'\\xff\\n'); {HANG}", "no answer"),
        (f"{ONE}\nwhile True: os.write(1, b'x' * 65536)", "more than an answer"),
        (f"{ONE} sys.exit(3)", "exit code 3"),
        (f"{ONE} sys.exit('the disk is made of cheese')", "exit code 1: the disk is made of cheese"),
        (f"{ONE} 1 / 0", "ZeroDivisionError: division by zero"),
        (f"{ONE} os.abort()", "SIGABRT"),
        (f"{ONE} os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        (f"{ONE} os.close(1); {HANG}", "closed its output"),
        ("sys.exit(1)", "exit code 1"),
    ],
)
def test_nonsense_and_death_are_survived_and_then_given_up(fitter, program, reason):
    fitter = fitter(program, max_restarts=1)
    fitter.submit({"step": 7})
    assert fitter.wait(LONG) is None
    assert fitter.stale and not fitter.pending
    assert reason in fitter.fault and "given up after 2 failures in a row" in fitter.fault
    fitter.submit({"step": 8})
    assert fitter._child is None and not fitter.pending and fitter.stale
    assert fitter.wait(LONG) is fitter.poll() is None


def test_good_reports_between_failures_reset_their_count(fitter):
    fitter = fitter("answer(next(requests)); next(requests); sys.exit(1)", max_restarts=1)
    for step in range(6):
        # The first child answers one and dies at the next, which its replacement answers.
        fitter.submit({"step": step})
        assert fitter.wait(LONG).step == step
    assert fitter.fault is None


@pytest.mark.parametrize("bad", [["/nowhere/python"], ["/dev/null"], ["a\0b"], [""]])
def test_a_command_that_cannot_be_started(bad):
    fitter = BackgroundFitter(command=bad, max_restarts=2)
    fitter.submit({"step": 1})
    assert fitter.wait(LONG) is None
    assert "given up after 3 failures" in fitter.fault
    fitter.close()


def test_an_interpreter_without_a_path(monkeypatch):
    monkeypatch.setattr(sys, "executable", "")
    fitter = BackgroundFitter()
    fitter.submit({})
    assert fitter.wait(LONG) is None and "sys.executable" in fitter.fault


@pytest.mark.parametrize("bad", [{"x": float("nan")}, {"x": object()}, {"x": "y" * 17_000_000}])
def test_a_request_that_cannot_be_sent(fitter, bad):
    fitter = fitter(GOOD)
    fitter.submit(bad)
    assert "cannot be sent" in fitter.fault and fitter.stale and not fitter.pending
    fitter.submit({"step": 1})
    assert fitter.wait(LONG).step == 1 and fitter.fault is None


def test_a_process_that_wants_to_die_of_broken_pipes_survives():
    """Some scripts set SIGPIPE to its default: then writing to a dead child's pipe would end training."""
    code = (
        "import signal; signal.signal(signal.SIGPIPE, signal.SIG_DFL)\n"
        "from foretrain.fitter import BackgroundFitter\n"
        "f = BackgroundFitter(command=['sleep', '0'], max_restarts=20)\n"
        "for _ in range(50): f.submit({'padding': 'x' * 300_000}); f.wait(0.01)\n"
        "print('trained to the end')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=LONG)
    assert (done.stdout, done.returncode) == ("trained to the end\n", 0), done.stderr


def test_a_fault_in_the_fitter_itself_does_not_reach_training(fitter, monkeypatch):
    fitter = fitter(GOOD, max_restarts=1)
    monkeypatch.setattr(ChildProcess, "exchange", lambda self: {}["a bug"])
    fitter.submit({"step": 1})
    assert fitter.wait(LONG) is None and "KeyError" in fitter.fault


def test_close_ends_the_child_and_may_come_twice(fitter):
    fitter = fitter(GOOD)
    fitter.close()
    fitter.submit({"step": 1})
    fitter.wait(LONG)
    pid = pid_of(fitter)
    fitter.close()
    fitter.close()
    assert gone(pid) and not fitter.pending and fitter.poll() is None
    fitter.submit({"step": 2})
    assert fitter.wait(LONG).step == 2, "it may be used again"


def test_close_does_not_wait_for_a_fit(fitter):
    fitter = fitter("next(requests); signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(1000)")
    fitter.submit({"step": 1})
    pid = pid_of(fitter)
    fitter.close()
    assert gone(pid) and not fitter.pending


def test_no_descriptors_or_zombies_are_left(monkeypatch):
    started = count_starts(monkeypatch)
    gc.collect()
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir()))
    for program in ("sys.exit(1)", GOOD, HANG):
        fitter = BackgroundFitter(command=command(program), max_restarts=1, time_limit=0.3)
        fitter.submit({"step": 1})
        fitter.wait(LONG)
        fitter.close()
    assert len(list(descriptors.iterdir())) == before
    assert len(started) >= 5 and all(process.returncode is not None for process in started)


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda f: pickle.loads(pickle.dumps(f))])
def test_a_copy_is_unstarted_and_has_the_settings(fitter, clone):
    fitter = fitter(GOOD, time_limit=7.0)
    fitter.submit({"step": 1})
    other = clone(fitter)
    assert other._child is None and not other.pending and other._time_limit == 7.0
    other.submit({"step": 2})
    assert other.wait(LONG).step == 2 and fitter.wait(LONG).step == 1
    other.close()


def test_a_forked_process_keeps_its_hands_off(fitter):
    fitter = fitter(GOOD)
    fitter.submit({"step": 1})
    fitter.wait(LONG)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            fitter.submit({"step": 2})
            code = 0 if fitter.wait(LONG) is None and fitter.poll() is None else 2
            fitter.close()
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    fitter.submit({"step": 3})
    assert fitter.wait(LONG).step == 3


def test_ctrl_c_and_the_terminal_are_training_s_own(fitter):
    fitter = fitter(GOOD)
    fitter.submit({"step": 1})
    assert os.getsid(pid_of(fitter)) == pid_of(fitter) != os.getsid(0)


def test_the_environment_takes_no_processor_and_no_gpu(fitter):
    fitter = fitter(
        "r = next(requests)\n"
        "names = ['OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS', 'NUMEXPR_NUM_THREADS']\n"
        "ok = [os.environ[n] for n in names] == ['1'] * 4 and os.environ['CUDA_VISIBLE_DEVICES'] == ''\n"
        "answer(r) if ok else sys.exit(1)"
    )
    fitter.submit({"step": 1})
    assert fitter.wait(LONG) is not None


@pytest.mark.parametrize(
    ("name", "value"),
    [("time_limit", 0), ("time_limit", float("nan")), ("memory_limit", 0), ("max_restarts", -1)],
)
def test_a_wrong_setting_is_refused(name, value):
    with pytest.raises(ValueError, match=f"Expected `{name}` to be at least"):
        BackgroundFitter(**{name: value})


def test_a_child_knows_how_long_it_waited_for_a_processor():
    child = ChildProcess(["sleep", "1000"])
    assert child.waited_for_processor() >= 0
    os.kill(child._process.pid, signal.SIGKILL)
    child.pause(LONG)
    with pytest.raises(ChildError, match="signal 9"):
        child.exchange()
    child.stop()
    assert child.waited_for_processor() == 0


def test_the_child_rests_so_that_training_keeps_its_processors(fitter):
    each = fitter("for r in requests: answer(r, seconds=1000.0)", share=0.01)
    assert not each.due
    each.submit({"step": 1})
    assert each.due
    assert polled(each).step == 1
    assert each.due and each.poll_flags() == (), "its flags came with it"
    assert not each.due
    each.submit({"step": 2})
    time.sleep(0.3)
    assert each.poll() is None and each.pending, "a fit of 1,000 s is followed by a long rest"
    assert not each.due, "and until then there is nothing to look for"
    each.submit({"step": 3})
    assert each.wait(LONG).step == 3, "the newest, and at the end without a rest"


def test_without_rests_answers_follow_at_once(fitter):
    each = fitter("for r in requests: answer(r, seconds=1000.0)", share=1.0)
    for step in range(3):
        each.submit({"step": step})
        assert polled(each).step == step


FLAG = Flag(FlagKind.SPIKE, 3, "It is a spike.", {"score": 9.0})
GLANCING = """
def glanced(r, **more):
    print(json.dumps({"id": r["id"], **{"seconds": 0.0}, **more}), flush=True)
for r in requests:
    if r.get("glance"):
        {glance}
    else:
        answer(r, seconds=1000.0)
"""
TOLD = f"glanced(r, flags=[{FLAG.to_json()!r}])"


def flags_of(fitter, seconds=LONG):
    """Waits for flags; None where none came."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert fitter.poll() is None, "it rests"
        if (flags := fitter.poll_flags()) is not None:
            return flags
        time.sleep(0.01)
    return None


def rests(fitter, glance, **options):
    """A fitter whose child rests after its first fit, and answers to glances as told."""
    each = fitter(GLANCING.replace("{glance}", glance), share=0.01, **options)
    each.submit({"step": 1})
    assert polled(each).step == 1 and each.poll_flags() == ()  # those of the report
    return each


def test_flags_are_told_while_the_child_rests(fitter):
    each = rests(fitter, TOLD)
    for step in (2, 3):
        each.submit({"step": step}, glance=True)
        end = time.monotonic() + LONG
        while not each.due and time.monotonic() < end:  # it rests from the glance before
            time.sleep(0.005)
        assert each.due and flags_of(each) == (FLAG,)
        assert each.pending and not each.due and each.poll_flags() is None, "once for each request"
    assert each.wait(LONG).step == 3 and each.poll_flags() == ()


def test_flags_that_are_not_asked_for_are_not_looked_for(fitter):
    each = rests(fitter, TOLD)
    each.submit({"step": 2})
    assert not each.due and flags_of(each, 0.2) is None


def test_a_glance_that_fails_is_no_failure(fitter):
    each = rests(fitter, "glanced(r, error='no memory')")
    each.submit({"step": 2}, glance=True)
    assert flags_of(each, 0.3) is None and each.fault is None and not each.stale
    assert each.wait(LONG).step == 2


def test_glances_rest_by_the_same_share(fitter):
    each = rests(fitter, TOLD.replace("flags=", "seconds=1000.0, flags="))
    each.submit({"step": 2}, glance=True)
    assert flags_of(each) == (FLAG,)
    each.submit({"step": 3}, glance=True)
    assert not each.due and flags_of(each, 0.2) is None


def test_a_child_that_dies_at_a_glance_is_replaced_and_asked_again(fitter, tmp_path):
    each = rests(fitter, f"marked({str(tmp_path / 'died')!r}) or os._exit(3); {TOLD}")
    each.submit({"step": 2}, glance=True)
    assert each.wait(LONG).step == 2


@pytest.mark.parametrize("seconds", ["-1.0", "float('nan')", "float('inf')"])
def test_a_time_that_cannot_be_is_nonsense(fitter, seconds):
    each = fitter(f"for r in requests: answer(r, seconds={seconds})", max_restarts=0)
    each.submit({"step": 1})
    assert each.wait(LONG) is None
    assert "no answer" in each.fault


@pytest.mark.parametrize("added", ["other", "nothing"])
def test_the_child_runs_the_parents_copy_of_foretrain(tmp_path, added):
    """What a `.pth` file adds to the search path, as an editable install does, is behind the parent's."""
    for name in ("other", "parent"):
        (tmp_path / name / "foretrain").mkdir(parents=True)
        (tmp_path / name / "foretrain" / "__init__.py").touch()
        (tmp_path / name / "foretrain" / "child.py").write_text(f"def main(**_): print({name!r})")
    (tmp_path / "parent" / "random.py").write_text("raise ImportError('not the library')")
    start = f"import sys; sys.path.append({str(tmp_path / added)!r})\n"
    told = {"path": [str(tmp_path / "parent"), *sys.path], "memory_limit": None, "parent": 0}
    code = start + _BOOTSTRAP + "import random"
    command = [sys.executable, "-I", "-c", code, json.dumps(told)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("parent\n", "")
