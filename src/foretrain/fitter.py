"""The fitter: laws are fitted in one low-priority process beside training, and the newest question wins."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from foretrain.flags import Flag
from foretrain.process import ChildError, ChildProcess
from foretrain.report import Report, ReportError

MAX_REQUEST = 16 * 2**20

_GLANCE = b'{"glance": true, '

# -I keeps the user's directory and environment out of the interpreter's start, and the standard library
# stays ahead of the parent's search path: a `random.py` beside the training script must not be imported.
# Nothing else does: what `.pth` files add may be another copy of foretrain than the parent's.
_BOOTSTRAP = """
import json, os, sys
told = json.loads(sys.argv[1])
library = os.path.dirname(os.__file__)
own = [p for p in sys.path if p.startswith(library) and not p.endswith("-packages")]
sys.path[:] = own + [p for p in told["path"] if p not in own]
from foretrain.child import main
main(memory_limit=told["memory_limit"], parent=told["parent"])
"""


class BackgroundFitter:
    """Asks a child process for reports, without ever making training wait.

    It holds one child process, started at the first request; only the process that started it may use it,
    in a forked one every call does nothing. At most one request is with the child; of those that come
    meanwhile only the newest waits. A child that dies, hangs or answers nonsense is replaced; after
    `max_restarts` replacements without a good report between them, the fitter gives up and says so. No
    method raises. To be used by one thread.

    So that training keeps its processors, the child rests after each fit until the fit has taken no more than
    `share` of the time since it began; `wait` does not rest. Between fits it may be asked for the run's flags
    alone, which takes about a millisecond, and rests after that by the same share.

    Args:
        command: The child's command, which speaks as `foretrain.child` does; None for that one.
        time_limit: Seconds a fit may take, not counting those in which it waited for a processor.
        memory_limit: Bytes of address space that the child may use.
        max_restarts: How many children in a row may fail beyond the first.
        share: Share of one processor that fitting may take, averaged over the rests; 1 for no rests.

    Raises:
        ValueError: If a limit is not positive, or `max_restarts` is negative.
    """

    def __init__(
        self,
        *,
        command: Sequence[str] | None = None,
        time_limit: float = 60.0,
        memory_limit: int = 2 * 2**30,
        max_restarts: int = 3,
        share: float = 0.005,
    ) -> None:
        for name, value, least in (
            ("time_limit", time_limit, 1e-9),
            ("memory_limit", memory_limit, 1),
            ("max_restarts", max_restarts, 0),
            ("share", share, 1e-9),
        ):
            if not value >= least:
                raise ValueError(f"Expected `{name}` to be at least {least:g}, got {value}.")
        self._command = None if command is None else list(command)
        self._time_limit = time_limit
        self._memory_limit = memory_limit
        self._max_restarts = max_restarts
        self._share = share
        self._reset()

    def _reset(self) -> None:
        self._child: ChildProcess | None = None
        self._pid: int | None = None
        self._newest = 0
        self._waiting: tuple[int, bytes] | None = None
        self._asked: tuple[int, bytes] | None = None
        self._asked_at = (0.0, 0.0)
        self._rests_until = self._glances_from = -math.inf
        self._glance = self._glanced = 0  # the newest request that flags are wanted of, and were asked of
        self._flags: tuple[Flag, ...] | None = None
        self._failures = 0
        self._arrived: Report | None = None
        self._fault: str | None = None
        self._stale = False

    def __getstate__(self) -> dict[str, Any]:
        """Only the settings: a copy starts its own child."""
        names = ("_command", "_time_limit", "_memory_limit", "_max_restarts", "_share")
        return {name: self.__dict__[name] for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    @property
    def pending(self) -> bool:
        """Whether a report is still to come for the newest request."""
        return self._asked is not None or self._waiting is not None

    @property
    def due(self) -> bool:
        """Whether `poll` or `poll_flags` may find anything, or a request may be sent to the child by now."""
        if self._asked is not None or self._arrived is not None or self._flags is not None:
            return True  # also what came while a request was sent
        return self._waiting is not None and (
            time.monotonic() >= self._rests_until or self._may_glance(self._waiting[0])
        )

    @property
    def stale(self) -> bool:
        """Whether the last report is older than the newest request because fits fail."""
        return self._stale

    @property
    def fault(self) -> str | None:
        """Why the last fit failed and what that means, for a warning; None while fits succeed."""
        return self._fault

    def submit(self, request: dict[str, Any], *, glance: bool = False) -> None:
        """Asks for a report; returns at once. A request that still waits is replaced.

        Args:
            request: What `foretrain.child` takes, without the "id"; plain JSON values.
            glance: Whether flags are wanted also while the child rests from its last fit.
        """
        if self._is_foreign():
            return
        self._newest += 1
        if self._failures > self._max_restarts:
            self._stale = True  # It has given up; `fault` tells why.
            return
        try:
            line = json.dumps(
                {**request, "id": self._newest, "time_limit": self._time_limit}, allow_nan=False
            )
            if len(line) > MAX_REQUEST:
                raise ValueError(f"{len(line)} bytes are more than {MAX_REQUEST}")
        except (TypeError, ValueError, RecursionError) as error:
            self._fail(f"the request cannot be sent: {error}")
            return
        self._waiting = (self._newest, line.encode("ascii") + b"\n")
        self._glance = self._newest if glance else 0
        self._advance()

    def poll_flags(self) -> tuple[Flag, ...] | None:
        """The run's flags, where any answer since the last call told them; returns at once."""
        flags, self._flags = self._flags, None
        return flags

    def poll(self) -> Report | None:
        """A report that has come since the last call, the newest if there were more; returns at once."""
        if self._is_foreign():
            return None
        self._advance()
        report, self._arrived = self._arrived, None
        return report

    def wait(self, timeout: float, *, give_up: Callable[[], bool] | None = None) -> Report | None:
        """Waits for the answer to the newest request, at most `timeout` seconds.

        Args:
            timeout: The most seconds to wait.
            give_up: Asked some times a second; once it says true, the wait is over. None: never.

        Returns:
            The newest report that has come since the last `poll` or `wait`, None if none has.
        """
        end = time.monotonic() + timeout
        while not self._is_foreign():
            self._rests_until = -math.inf
            self._advance()
            left = end - time.monotonic()
            if not self.pending or left <= 0 or (give_up is not None and give_up()):
                break
            if self._child is not None:
                self._child.pause(min(left, 0.2))
        return self.poll()

    def close(self) -> None:
        """Ends the child within about a second. A later request would start another."""
        if self._is_foreign():
            return
        if self._child is not None:
            # A child that is not fitting leaves as soon as it is told.
            self._child.stop(grace=0.0 if self._asked else 0.2)
        fault, stale = self._fault, self._stale
        self._reset()
        self._fault, self._stale = fault, stale

    def _is_foreign(self) -> bool:
        return self._child is not None and self._pid != os.getpid()

    def _advance(self) -> None:
        """Takes what the child has said, and gives it the waiting request if it is free."""
        try:
            if self._child is not None:
                self._listen(self._child)
            if self._asked is None and self._waiting is not None:
                number, line = self._waiting
                if time.monotonic() >= self._rests_until:
                    self._ask(number, line)
                    self._waiting = None
                elif self._may_glance(number):
                    self._glanced = number
                    self._ask(number, _GLANCE + line[1:])
        except ChildError as error:
            self._replace_child(str(error))
        except Exception as error:
            # Whatever it is, training is not to end by it.
            self._replace_child(f"{type(error).__name__}: {error}")

    def _may_glance(self, number: int) -> bool:
        return self._glance == number > self._glanced and time.monotonic() >= self._glances_from

    def _ask(self, number: int, line: bytes) -> None:
        if self._child is None:
            self._child, self._pid = ChildProcess(self._command or self._default_command()), os.getpid()
        self._asked = number, line
        self._asked_at = time.monotonic(), self._child.waited_for_processor()
        self._child.send(line)
        self._listen(self._child)

    def _listen(self, child: ChildProcess) -> None:
        lines, received = child.exchange()
        for line in lines:
            self._understand(line)
        if self._asked is None:
            return
        now, (asked, waited) = time.monotonic(), self._asked_at
        if received:
            self._asked_at = now, child.waited_for_processor()
        elif (
            now - asked > self._time_limit
            # Looked up only now: this costs more than all the rest of a poll.
            and now - asked - (child.waited_for_processor() - waited) > self._time_limit
        ):
            raise ChildError(f"it took longer than {self._time_limit:g} seconds")

    def _understand(self, line: bytes) -> None:
        try:
            answer = json.loads(line)
            number, text, error = answer["id"], answer.get("report"), answer.get("error")
            if self._asked is None or number != self._asked[0]:
                return
            told = answer.get("flags")
            glance = self._asked[1].startswith(_GLANCE)
            if not isinstance(text, str) and not isinstance(error, str) and not isinstance(told, list):
                raise TypeError("neither a report nor an error")
            report = Report.from_json(text) if isinstance(text, str) else None
            flags = None if not isinstance(told, list) else tuple(Flag.from_json(item) for item in told)
            seconds = float(answer.get("seconds", 0.0))
            if not 0.0 <= seconds < math.inf:
                raise ValueError(f"a fit took {seconds} seconds")
        except (ReportError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as problem:
            raise ChildError(f"it sent something that is no answer: {str(problem)[:200]}") from problem
        self._asked = None
        rests_until = time.monotonic() + seconds * (1.0 / self._share - 1.0)
        if glance:
            # A glance that fails is no failure: the fit of the same request will tell.
            self._glances_from, self._flags = rests_until, self._flags if flags is None else flags
            return
        self._rests_until = rests_until
        if report is None:
            self._fail(str(error)[:1000])
        else:
            self._arrived, self._flags = report, report.flags
            self._failures, self._fault, self._stale = 0, None, False

    def _replace_child(self, reason: str) -> None:
        """Ends the child; the request that it had is asked again, unless a newer one waits."""
        child, self._child = self._child, None
        if child is not None:
            child.stop()
        if not self.pending:
            return  # It died with nothing to do: the next request starts another.
        self._waiting, self._asked = self._waiting or self._asked, None
        self._failures += 1
        if self._failures > self._max_restarts:
            self._waiting = None
        self._fail(reason)

    def _fail(self, reason: str) -> None:
        self._stale = True
        outcome = "the last report stays"
        if self._failures > self._max_restarts:
            outcome = f"it was given up after {self._failures} failures in a row, and the last report stays"
        self._fault = (
            f"The background fit failed ({reason}): {outcome}; training and the record of observations are "
            "not affected."
        )

    def _default_command(self) -> list[str]:
        if not sys.executable:
            raise ChildError("this interpreter does not know its own path, sys.executable")
        # Without the empty entry, the user's directory; the rest absolute, whatever directory is next.
        path = [os.path.abspath(entry) for entry in sys.path if isinstance(entry, str) and entry]  # noqa: PTH100
        told = json.dumps({"path": path, "memory_limit": self._memory_limit, "parent": os.getpid()})
        return [sys.executable, "-I", "-c", _BOOTSTRAP, told]
