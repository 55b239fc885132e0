"""The child process's program: reads questions, fits, answers. Started by `foretrain.fitter`.

A question is one line of JSON on standard input::

    {"id": 7, "study_dir": "...", "run": "...", "question": {...}, "time_limit": 60.0,
     "unsaved": {"info": {...}, "observations": [{...}, ...], "schedule": {...}}}

where "unsaved", or the "schedule" in it, may be missing. The answer is one line on standard output:
`{"id": 7, "report": "...", "seconds": 0.2}`, with a report's own JSON as text and the processor time it took,
or `{"id": 7, "error": "..."}`; there may be spaces ahead of it. Of the questions that wait, only the newest
is answered. With `"glance": true` the answer has the run's `"flags"` alone, in place of the report.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from foretrain.observation import Observation, RunInfo, RunRecord, ScheduleUpdate
from foretrain.report import MAX_REPORT_BYTES, plain
from foretrain.store import StudyReader

MAX_REQUEST = 16 * 2**20
_MAX_ERRORS_FILE = 16 * 2**20
_LOOK_AFTER_PARENT = 2.0
_TELL_EVERY = 2.0
NICENESS = 15
"""Weighs 36 where training weighs 1,024. At 19, which weighs 15, a fit of one second took more than a minute
beside busy processes on two cores, and the first one, with the imports, several."""


def main(*, memory_limit: int | None = None, parent: int | None = None) -> None:
    """Answers questions until there is no one left to ask them.

    Args:
        memory_limit: Bytes of address space that this process may use; None for no limit.
        parent: The process that asks; None for whoever is the parent now, which may already be another.
    """
    # Answers get a descriptor of their own: what any library prints must not be taken for one.
    answers = os.dup(1)
    os.dup2(2, 1)
    _step_back(memory_limit)
    watch = _Watch(os.getppid() if parent is None else parent)
    questions = _Questions()
    answerer = _Answerer(_Progress(answers, watch))
    while (line := questions.newest()) is not None:
        answer = answerer.answer(line, watch)
        _write_all(answers, json.dumps(answer, allow_nan=False).encode("ascii") + b"\n")


class _Watch:
    """Ends this process when its parent is gone, or when a fit takes far too long and no one else ends it.

    The end of standard input is not enough: a data loader's worker that the parent forked holds the other
    end, too, and during a fit no one reads.
    """

    def __init__(self, parent: int) -> None:
        self._parent = parent
        self._seconds: float | None = None
        self._deadline: float | None = None
        signal.signal(signal.SIGALRM, self._look)
        signal.setitimer(signal.ITIMER_REAL, _LOOK_AFTER_PARENT, _LOOK_AFTER_PARENT)

    def allow(self, seconds: float | None) -> None:
        """Sets how much processor time may be used from now on; None for any."""
        self._seconds = seconds
        self.begin_again()

    def begin_again(self) -> None:
        """Counts from now on, and not from when `allow` was called."""
        self._deadline = None if self._seconds is None else time.process_time() + self._seconds

    def _look(self, number: int, frame: FrameType | None) -> None:
        if os.getppid() != self._parent:
            os._exit(0)
        if self._deadline is not None and time.process_time() > self._deadline:
            os._exit(os.EX_SOFTWARE)


class _Progress:
    """Says now and then that records are being read, by a space in front of the answer.

    A time limit is for a fit that hangs. Records of many millions of lines take longer to read, once; the
    fitter counts from the last byte that it was sent.
    """

    def __init__(self, answers: int, watch: _Watch) -> None:
        self._answers = answers
        self._watch = watch
        self._told = time.monotonic()

    def __call__(self) -> None:
        now = time.monotonic()
        if now - self._told >= _TELL_EVERY:
            self._told = now
            self._watch.begin_again()
            _write_all(self._answers, b" ")


class _Questions:
    """Standard input, of which only the newest line is wanted."""

    def __init__(self) -> None:
        self._buffer = b""

    def newest(self) -> bytes | None:
        """Waits for a line, and gives the newest there is; None at the end of the input."""
        line = None
        while True:
            if line is not None and not select.select([0], [], [], 0)[0]:
                return line
            block = os.read(0, 2**20)
            if not block:
                return None
            *lines, self._buffer = (self._buffer + block).split(b"\n")
            if len(self._buffer) > MAX_REQUEST:
                return None
            line = lines[-1] if lines else line


class _Answerer:
    """Answers one question at a time; remembers what it has read of each study, and its finished runs."""

    def __init__(self, progress: Callable[[], None]) -> None:
        self._progress = progress
        self._readers: dict[str, StudyReader] = {}
        self._shelves: dict[str, Any] = {}

    def answer(self, line: bytes, watch: _Watch) -> dict[str, Any]:
        """The answer to a question; one that tells the error, where there is one."""
        number = None
        try:
            request = json.loads(line)
            number = request["id"]
            if request.get("kind") == "modules":
                return {"id": number, "modules": sorted(sys.modules)}
            # The fitter ends a slow fit; this is for a fitter that is not looking.
            watch.allow(2 * float(request.get("time_limit", 60.0)))
            if request.get("glance"):
                flags, seconds = self._flags(request)
                return {"id": number, "flags": flags, "seconds": seconds}
            report, seconds = self._report(request)
            return {"id": number, "report": report, "seconds": seconds}
        except Exception as error:
            return {"id": number, "error": _describe(error)}
        finally:
            watch.allow(None)

    def _report(self, request: dict[str, Any]) -> tuple[str, float]:
        # Here, so that an analysis that cannot be imported is an error that someone reads.
        from foretrain.analysis import Question, analyze

        begun = time.process_time()
        runs, shelf = self._study(request)
        text: str = analyze(runs, Question.from_json(request["question"]), shelf).to_json()
        if len(text) > MAX_REPORT_BYTES:
            raise ValueError(f"Expected a report of at most {MAX_REPORT_BYTES} bytes, got {len(text)}.")
        return text, time.process_time() - begun

    def _flags(self, request: dict[str, Any]) -> tuple[list[dict[str, Any]], float]:
        from foretrain.analysis import Question

        begun = time.process_time()
        runs, shelf = self._study(request)
        question = Question.from_json(request["question"])
        flags = shelf.flags.flags(runs, question.run, question.metric)
        return [plain(flag) for flag in flags], time.process_time() - begun

    def _study(self, request: dict[str, Any]) -> tuple[dict[str, RunRecord], Any]:
        from foretrain.analysis import Shelf

        folder = str(request["study_dir"])
        if folder not in self._readers:
            self._readers[folder] = StudyReader(Path(folder), progress=self._progress)
        unsaved = request.get("unsaved")
        study = self._readers[folder].read(_unsaved(unsaved), schedule=_unsaved_schedule(unsaved))
        return study.runs, self._shelves.setdefault(folder, Shelf())


def _unsaved(record: dict[str, Any] | None) -> tuple[RunInfo, list[Observation]] | None:
    if record is None:
        return None
    info = RunInfo.from_json(record["info"])
    items = record["observations"]
    return info, [Observation.from_json(item, run=info.run, attempt=info.attempt) for item in items]


def _unsaved_schedule(record: dict[str, Any] | None) -> ScheduleUpdate | None:
    told = (record or {}).get("schedule")
    return None if told is None else ScheduleUpdate.from_json(told)


def _step_back(memory_limit: int | None) -> None:
    """Makes this process the one that waits, and bounds what it may take."""
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    # Desktop Linux shares processors between sessions first and looks at niceness only within one. This
    # process has a session of its own, so that with `nice` alone it takes as much as all of training
    # (measured: one half of a core); the session's own niceness is set here. The scheduling policy
    # SCHED_IDLE does not help either, for the same reason.
    if os.getsid(0) == os.getpid():  # Else the session is someone else's, and not ours to slow down.
        with contextlib.suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(NICENESS))
    limits = {resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: _MAX_ERRORS_FILE}
    if memory_limit is not None:
        limits[resource.RLIMIT_AS] = memory_limit
    for which, limit in limits.items():
        hard = resource.getrlimit(which)[1]
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(which, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _describe(error: BaseException) -> str:
    trace = "".join(traceback.format_tb(error.__traceback__)[-3:])
    return f"{type(error).__name__}: {error}\n{trace}"[:4000]


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
