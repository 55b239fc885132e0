"""What one process wrote of a run, read without trusting it: a file that grows, or fragments of one."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from foretrain.observation import RunInfo
from foretrain.storage.attempts import Attempt
from foretrain.storage.held import HeldAttempt, understand
from foretrain.storage.records import MAX_LINE, FileName, LineError, decode_line, read_header, read_name

Hold = Callable[[str, os.stat_result], HeldAttempt | None]
"""Gives a whole file as a held attempt, or None where it must be read line by line."""

_Line = bytes | None  # None: one that is longer than any line of ours


class Recording:
    """The files of one process, as far as they were read: each line once, in the order of their numbers.

    One file that grows is read as it grows. Of fragments, the later ones are read as they come; where an
    earlier one comes late, or they were replaced by one that holds them all, everything is read again. A
    line that stands in several counts once.

    Args:
        progress: Called once in a while when there is much to read.
        hold: Takes a sound file whose observations are read when they are asked for, see `held`; none is
            taken so if None.

    Attributes:
        attempt: What they hold; None before there is a header.
        skipped: Lines that were skipped, by reason.
        updates: How often something new was read.
    """

    def __init__(self, progress: Callable[[], None] | None = None, *, hold: Hold | None = None) -> None:
        self._progress = progress
        self._hold = hold
        self.updates = 0
        self._tails: dict[str, _Tail] = {}
        self._forget()

    def _forget(self) -> None:
        self.attempt: Attempt | HeldAttempt | None = None
        self.skipped: Counter[str] = Counter()
        self._later = False
        self._headless = 0
        self._last = -1

    def read(self) -> Attempt | None:
        """What they hold, with its observations; None before there is a header."""
        return self.attempt.read() if isinstance(self.attempt, HeldAttempt) else self.attempt

    @property
    def unfinished(self) -> int:
        """How many of the files end in a line without an end."""
        return sum(tail.is_unfinished for tail in self._tails.values())

    def update(self, found: Mapping[str, os.stat_result]) -> bool:
        """Reads what is new in the files found, by path; whether anything was."""
        gone = self._tails.keys() - found.keys()
        for path in gone:
            del self._tails[path]
        tails = [self._tails.setdefault(path, _Tail(path, self._progress)) for path in found]
        tails.sort(key=lambda tail: tail.order)
        changed = [tail for tail in tails if tail.is_changed(found[tail.path])]
        if not changed and not gone:
            return False
        self.updates += 1
        if len(tails) == 1 and self._holds(tails[0], found[tails[0].path]):
            return True
        self._hold = None
        if isinstance(self.attempt, HeldAttempt):
            self._read_again(tails, found)
        elif len(tails) == 1 and not gone and not tails[0].is_replaced(found[tails[0].path]):
            self._read_on(tails, found)
        elif not gone and all(not tail.began and tail.order[0] > self._last for tail in changed):
            self._read_on(changed, found)
        else:
            self._read_again(tails, found)
        if self._headless and self.attempt is not None:
            # The first headers were damaged, but there is another one further on.
            self._read_again(tails, found, self.attempt.info)
        return True

    def _holds(self, tail: _Tail, status: os.stat_result) -> bool:
        """Holds a file that is new and sound; whether that was possible. One that grows later is read."""
        if self._hold is None or tail.began:
            return False
        if self._progress is not None:
            self._progress()
        attempt = self._hold(tail.path, status)
        if attempt is not None:
            tail.skip(status)
            self.attempt = attempt
        return attempt is not None

    def _read_on(self, tails: list[_Tail], found: Mapping[str, os.stat_result]) -> None:
        """Reads what is new in files that follow one another."""
        for tail in tails:
            for line in tail.read(found[tail.path]):
                self._take(line)

    def _read_again(
        self, tails: list[_Tail], found: Mapping[str, os.stat_result], info: RunInfo | None = None
    ) -> None:
        """Reads all files as one; in memory is only what overlaps."""
        self._forget()
        self.attempt = None if info is None else Attempt(info)
        for tail in tails:
            tail.forget()
        if len(tails) == 1:
            self._read_on(tails, found)
            return
        waiting: dict[int, bytes] = {}
        for tail in tails:
            self._release(waiting, tail.order[0])
            for line in tail.read(found[tail.path]):
                number = None if line is None else _number(line)
                if line is None or number is None:
                    self._take(line)  # a header, or damaged
                else:
                    waiting.setdefault(number, line)
        self._release(waiting, None)

    def _release(self, waiting: dict[int, bytes], before: int | None) -> None:
        for number in sorted(number for number in waiting if before is None or number < before):
            self._take(waiting.pop(number))

    def _take(self, line: _Line) -> None:
        if line is None:
            self.skipped["too long"] += 1
            return
        if not line:
            return  # Written on purpose, see the store: after a line that may be torn, and between headers.
        try:
            number, kind, data = decode_line(line)
            self._understand(kind, data)
            if kind != "run":
                self._last = max(self._last, number)
        except LineError as error:
            self._later |= str(error) == "written by a later foretrain"
            self.skipped[str(error)] += 1

    def _understand(self, kind: str, data: dict[str, Any]) -> None:
        if self._later:
            raise LineError("written by a later foretrain")
        if kind == "run":
            info = read_header(data)
            if self.attempt is None:
                self.attempt = Attempt(info)
        elif kind in ("observation", "schedule", "end") and self.attempt is None:
            self._headless += 1
            raise LineError("no header before it")
        elif isinstance(self.attempt, Attempt):
            understand(kind, data, self.attempt)


def _number(line: bytes) -> int | None:
    """The number of a line that is to be put in order; None of a header, and of what is no line."""
    try:
        number, kind, _ = decode_line(line)
    except LineError:
        return None
    return None if kind == "run" else number


class _Tail:
    """One file as far as it was read.

    Attributes:
        path: Where it is.
        name: What its name tells.
        order: Its place among the files of its process: a file that grows comes first.
        began: Whether any of it was read.
    """

    def __init__(self, path: str, progress: Callable[[], None] | None) -> None:
        self.path = path
        self._progress = progress
        self.name = read_name(os.path.basename(path)) or FileName(0, "")  # noqa: PTH119 (called often)
        self.order = (self.name.first or 0, -(self.name.last or 0), path)
        self.forget()

    def forget(self) -> None:
        """Begins at the start again."""
        self._seen: tuple[int, ...] = ()
        self._offset = 0
        self._in_long_line = False
        self.began = False

    def is_changed(self, status: os.stat_result) -> bool:
        """Whether it is not as it was when it was read."""
        return self._seen != _identity(status)

    @property
    def is_unfinished(self) -> bool:
        """Whether what follows the last line's end is a part of a line."""
        return self._in_long_line or (bool(self._seen) and self._seen[2] > self._offset)

    def is_replaced(self, status: os.stat_result) -> bool:
        """Whether it is another file than the one that was read, or was cut."""
        other = self._seen[:2] != _identity(status)[:2]  # also where it could not be read the last time
        return self.began and (other or status.st_size < self._offset)

    def skip(self, status: os.stat_result) -> None:
        """Begins behind what there is."""
        self._seen, self.began, self._offset = _identity(status), True, status.st_size

    def read(self, status: os.stat_result) -> Iterator[_Line]:
        """The lines that are new, as far as they are whole; what cannot be read is tried again later."""
        self._seen, self.began = _identity(status), True
        try:
            # Without O_NONBLOCK, opening a named pipe would wait for a writer.
            fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            self._seen = ()
            return
        try:
            yield from self._lines(fd, status.st_size)
        except OSError:
            self._seen = ()
        finally:
            os.close(fd)

    def _lines(self, fd: int, size: int) -> Iterator[_Line]:
        while self._offset < size:
            if self._progress is not None:
                self._progress()
            block = os.pread(fd, min(MAX_LINE + 1, size - self._offset), self._offset)
            end = block.rfind(b"\n") + 1
            if end:
                self._offset += end
                for line in block[: end - 1].split(b"\n"):
                    yield None if self._in_long_line else line
                    self._in_long_line = False
            elif len(block) > MAX_LINE:
                self._offset += len(block)
                self._in_long_line = True
            else:
                return


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
