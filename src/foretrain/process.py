"""A child process that is talked to in lines, without ever waiting for it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from typing import IO

MAX_ANSWER = 2**20
"""Longest line taken from the child, in bytes."""
_PIPE_SIZE = 2**20

# One thread: the child must not take the processors that training uses. No GPU: not even a context on it.
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
}


class ChildError(Exception):
    """The child is of no more use; the text says why, in a sentence's middle."""


class ChildProcess:
    """A running child process, and the two channels to it. Nothing here waits, but `stop` and `pause`."""

    def __init__(self, command: Sequence[str]) -> None:
        """Starts the command.

        Raises:
            OSError: If it cannot be started.
            ValueError: If it cannot be a command.
        """
        # A socket, not a pipe: writing to a pipe whose reader has died raises SIGPIPE, which ends a
        # training process that has set SIGPIPE back to its default.
        ours, theirs = socket.socketpair()
        try:
            self._errors: IO[bytes] | None = tempfile.TemporaryFile()
        except OSError:
            self._errors = None
        try:
            self._process = subprocess.Popen(
                command,
                stdin=theirs.fileno(),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL if self._errors is None else self._errors.fileno(),
                start_new_session=True,  # Ctrl+C is for training.
                env={**os.environ, **_ENVIRONMENT},
                bufsize=0,
            )
        except BaseException:
            ours.close()
            self._close_errors()
            raise
        finally:
            theirs.close()
        assert self._process.stdout is not None
        self._answers = self._process.stdout
        self._requests = ours
        ours.setblocking(False)
        os.set_blocking(self._answers.fileno(), False)
        with contextlib.suppress(OSError, AttributeError):
            # A whole answer fits, so that the child never waits for the next poll.
            fcntl.fcntl(self._answers.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
        self._outgoing = b""
        self._incoming = b""

    def send(self, line: bytes) -> None:
        """Puts a line where `exchange` will send it from."""
        self._outgoing += line

    def exchange(self) -> tuple[list[bytes], bool]:
        """Sends and receives what can be without waiting: the whole lines received, and whether anything was.

        Raises:
            ChildError: If the child has ended, and has nothing more to say.
        """
        ended = self._process.poll() is not None
        while self._outgoing:
            try:
                sent = self._requests.send(self._outgoing, getattr(socket, "MSG_NOSIGNAL", 0))
            except BlockingIOError:
                break
            except OSError:
                break  # It has closed its end: what it had to say before that may still be read.
            self._outgoing = self._outgoing[sent:]
        received = False
        while len(self._incoming) <= MAX_ANSWER:
            try:
                block = os.read(self._answers.fileno(), 2**16)
            except BlockingIOError:
                break
            if not block:
                ended = True
                break
            self._incoming += block
            received = True
        *lines, self._incoming = self._incoming.split(b"\n")
        if len(self._incoming) > MAX_ANSWER:
            raise ChildError("it sent more than an answer")
        if ended and not lines:
            raise ChildError(self._last_words())
        return lines, received

    def pause(self, seconds: float) -> None:
        """Waits until there may be something to exchange."""
        poll = select.poll()  # Unlike select.select, takes file descriptors past 1,023.
        poll.register(self._answers.fileno(), select.POLLIN)
        if self._outgoing:
            poll.register(self._requests.fileno(), select.POLLOUT)
        poll.poll(max(0, round(seconds * 1000)))

    def waited_for_processor(self) -> float:
        """How many seconds it was ready to run but another process was running; 0 where that is unknown."""
        try:
            with open(f"/proc/{self._process.pid}/schedstat") as file:  # noqa: PTH123
                return int(file.read().split()[1]) / 1e9
        except (OSError, ValueError, IndexError):
            return 0.0

    def stop(self, grace: float = 0.0) -> None:
        """Ends it: it may leave by itself for `grace` seconds, then it is killed."""
        self._requests.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            if grace:
                self._process.wait(grace)
        with contextlib.suppress(OSError):
            self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        self._answers.close()
        self._close_errors()

    def _close_errors(self) -> None:
        if self._errors is not None:
            self._errors.close()

    def _last_words(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.1)
        code = self._process.returncode
        if code is None:
            return "it closed its output"
        if code < 0:
            return f"it was ended by {_signal_name(-code)}"
        tail = ""
        if self._errors is not None:
            with contextlib.suppress(OSError):
                self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - 2000))
                lines = self._errors.read().decode("utf-8", "replace").split("\n")
                tail = next((f": {line.strip()[:300]}" for line in reversed(lines) if line.strip()), "")
        return f"it ended with exit code {code}{tail}"


def _signal_name(number: int) -> str:
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"
