"""What the tests of faults in a real Trainer share; as a script, a training that tests end from outside."""

import os
import subprocess
import sys
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

LONG = 60.0  # seconds to wait for what must come; never what a good run takes

_CHILD = """
import json, os, sys
sys.path[:] = {path!r}
from foretrain import child
from foretrain.report import NamedProjection, Report
child.NICENESS = 0
def report(self, request):
    with open({counter!r}, "ab") as file:
        file.write(b".")
    number, question = os.path.getsize({counter!r}), request["question"]
    if {first} < number <= {last}:
        {fault}
    projection = NamedProjection("2x", 5.0, 2e3, 0.5, {{"0.9": 0.4}}, {{"0.9": 0.6}})
    names = {{name: question[name] for name in ("run", "metric", "axis")}}
    told = Report(**names, step=number, status="ok", points=((1e3, 0.7),), projections=(projection,))
    return told.to_json(), 0.0
child._Answerer._report = report
child.main(memory_limit={memory}, parent={parent})
"""

FITTER_FAULTS = {
    "exception": "raise ZeroDivisionError('injected')",
    "hang": "import time; time.sleep(1000)",
    "endless loop": "while True: pass",
    "segmentation fault": "import ctypes; ctypes.string_at(0)",
    "memory": "eaten = []\n        while True: eaten.append(bytearray(2**24))",
}
"""What goes wrong in a fit, as a statement."""


def child_command(folder, fault, *, first, last=10**9, memory=2**28):
    """The program that fits, whose fits meet a fault; the others are answered at once with a small report.

    Args:
        folder: Where it counts the fits, over all its processes.
        fault: A key of `FITTER_FAULTS`.
        first: How many fits are good before the faults.
        last: Number of the last fit that meets one.
        memory: Bytes that the process may use.
    """
    counter = str(Path(folder, "fits"))
    values = {"path": [p for p in sys.path if p], "counter": counter, "first": first, "last": last}
    code = _CHILD.format(**values, fault=FITTER_FAULTS[fault], memory=memory, parent=os.getpid())
    return [sys.executable, "-I", "-S", "-c", code]


def patience(pl, monitor):
    """A callback that lets each fit come to its end, and its report be logged, before training goes on."""

    class Patience(pl.Callback):
        def on_validation_end(self, trainer, module):
            fitter = monitor._recording.session._fitter
            end = time.monotonic() + LONG
            while fitter.pending and time.monotonic() < end:
                fitter._advance()
                time.sleep(0.005)
            assert not fitter.pending
            monitor._adopt(monitor._recording, trainer)

    return Patience()


def children():
    """The processes that this one has started and that still run."""
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = status.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == os.getpid() and state != "Z":
            found.add(int(status.parent.name))
    return found


def count_starts(monkeypatch):
    """Every process that is started from now on, as a list that grows."""
    started = []

    class Recorded(subprocess.Popen):
        def __init__(self, *args, **kwargs):
            started.append(self)
            super().__init__(*args, **kwargs)

    monkeypatch.setattr(subprocess, "Popen", Recorded)
    return started


@contextmanager
def said():
    """The warnings of the monitor, as a list of sentences that is filled in the end."""
    sentences = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield sentences
    ours = ("ScalingLawMonitor", "Observations cannot", "background fit", "The disk did not", "observations")
    texts = [str(warning.message) for warning in caught]
    sentences += [text for text in texts if any(words in text for words in ours)]
