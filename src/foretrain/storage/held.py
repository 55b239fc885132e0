"""Attempts that are held by their ends: their observations are read again where they are asked for.

A study may have thousands of runs, of which an analysis looks at some hundreds.
"""

from __future__ import annotations

import json
import os
import re
from array import array
from typing import Any, NamedTuple
from zlib import crc32

from foretrain.axes import Counts
from foretrain.observation import RunInfo
from foretrain.storage.attempts import Attempt
from foretrain.storage.records import LineError, decode_line, read_header, read_observation, read_schedule

MAX_HELD = 2**20
"""Longest file that is held, in bytes: reading a longer one again would take too long."""

_WHOLE = "(?:0|[1-9][0-9]{0,24})"
_COUNT = _WHOLE + r"(?:\.[0-9]{1,25})?(?:e(?:-[0-9]{1,3}|\+?[0-9]{1,2}))?"
_NUMBER = "-?" + _COUNT
_VALUE = f'(?:{_NUMBER}|"nan"|"inf"|"-inf")'
_OTHER_COUNTS = "|".join(sorted(Counts.__dataclass_fields__.keys() - {"samples", "steps"}))
_OBSERVATION = (
    rf'"observation","data":{{"metric":("[ !#-~]*"),"value":{_VALUE},'
    rf'"counts":{{"samples":{_WHOLE},"steps":({_WHOLE})(?:,"(?:{_OTHER_COUNTS})":{_COUNT})*}}'
    rf'(?:,"logged":{_VALUE})?(?:,"lr":{_NUMBER})?(?:,"time":{_NUMBER})?'
    rf'(?:,"lrs":\[(?:{_NUMBER}(?:,{_NUMBER})*)?\])?}}'
)
_OTHERS = r'"schedule","data":{.*}|"run",(.*)|"end","data":{"state":"[a-z]*"}'
# Just what the store writes: an observation that matches need not be decoded to be known as one.
_LINES = re.compile(
    rf'^({{"seq":[0-9]{{1,12}},"kind":(?:{_OBSERVATION}|{_OTHERS})),"crc":"([0-9a-f]{{8}})"}}$'.encode(),
    re.MULTILINE,
)
SOUND: bytes = _LINES.pattern
"""What a line of a sound file is like, as a regular expression."""

_SCHEDULE, _KIND = b'"kind":"schedule"', len('{"seq":012345678901,"kind":"schedule"')


class Ends(NamedTuple):
    """What is kept of a file that was found sound.

    Attributes:
        header: Its first line.
        newest: The line of the last observation.
        state: "running", "finished" or "failed".
        steps: Optimizer steps of the observations by metric, each once, ascending.
    """

    header: bytes
    newest: bytes
    state: str
    steps: dict[str, list[int]]


class HeldAttempt:
    """What one process wrote of a run, in a file that was found sound.

    Args:
        path: The file, which only ever grows.
        size: Length of what was found sound, in bytes.
        ends: What was found in it.

    Attributes:
        info: The run and the attempt.
        state: "running", "finished" or "failed".
        steps: Optimizer steps of the observations by metric, each once, ascending.
        newest: The last observation.

    Raises:
        LineError: If one of the lines is none.
    """

    def __init__(self, path: str, size: int, ends: Ends) -> None:
        self._path, self._size = path, size
        self.info = read_header(decode_line(ends.header)[2])
        self.newest = read_observation(decode_line(ends.newest)[2], self.info)
        self.state = ends.state
        self.steps = {metric: array("q", steps) for metric, steps in ends.steps.items()}

    def read(self) -> Attempt:
        """The attempt with all that is in its file; each line is checked again.

        Raises nothing: what can no longer be read is missing.
        """
        return self.decode(self.content())

    def content(self) -> bytes:
        """What was found sound, as it is now; nothing where it cannot be read."""
        return _content(self._path, self._size)

    def decode(self, content: bytes, *, schedule: bool | None = None) -> Attempt:
        """The attempt with what is in its file.

        Args:
            content: From `content`.
            schedule: Whether only the lines of the schedule are looked at, or only the others; all if None.
        """
        attempt = Attempt(self.info)
        for line in content.split(b"\n"):
            # Before it is decoded, as that takes a hundred times as long.
            if line and (schedule is None or (_SCHEDULE in line[:_KIND]) == schedule):
                try:
                    _, kind, data = decode_line(line)
                    understand(kind, data, attempt)
                except LineError:
                    continue
        if schedule:
            attempt.state = self.state  # which the other lines tell
        return attempt


def understand(kind: str, data: dict[str, Any], attempt: Attempt) -> None:
    """Adds to an attempt what a line tells; kinds of later versions tell nothing.

    Raises:
        LineError: If it tells something impossible.
    """
    if kind == "observation":
        attempt.add(read_observation(data, attempt.info))
    elif kind == "schedule":
        attempt.schedule.add(read_schedule(data))
    elif kind == "end":
        attempt.state = "finished" if data.get("state") == "finished" else "failed"


def hold(path: str, size: int, ends: Ends | None) -> HeldAttempt | None:
    """A file as a held attempt, or None where it must be read line by line.

    Args:
        path: The file.
        size: How much of it was looked at, in bytes.
        ends: From `find_ends`.
    """
    try:
        return None if ends is None else HeldAttempt(path, size, ends)
    except (LineError, OverflowError, TypeError):
        return None


def find_ends(path: str, size: int) -> Ends | None:
    """What is kept of a file, or None where it must be read line by line.

    That is where it is long, or anything in it is not as this version writes it: a line is damaged or
    unfinished, headers differ, steps fall, or there is no observation.

    Args:
        path: The file.
        size: How much of it is looked at, in bytes.
    """
    content = _content(path, size) if size <= MAX_HELD else b""
    if len(content) != size or not content.endswith(b"\n"):
        return None
    lines = content[:-1].split(b"\n")
    found = _LINES.findall(content)
    if len(found) != sum(map(bool, lines)):
        return None
    bodies, names, steps, headers, sums = zip(*found, strict=True)
    # The same test as when a line is decoded; decoding takes ten times as long.
    if b"%08x" * len(bodies) % tuple(map(crc32, bodies)) != b"".join(sums):
        return None
    told = [int(step) for step in steps if step]
    if not told or not headers[0] or len({*headers} - {b""}) != 1 or told != sorted(told):
        return None
    try:
        state, newest = _end(lines)
        by_metric: dict[bytes, list[int]] = {}
        for name, step in zip(filter(None, names), told, strict=True):
            by_metric.setdefault(name, []).append(step)
        # A step that a metric was measured at twice counts once.
        each = {str(json.loads(name)): list(dict.fromkeys(own)) for name, own in by_metric.items()}
    except (LineError, ValueError):
        return None
    return Ends(lines[0], newest, state, each)


def _end(lines: list[bytes]) -> tuple[str, bytes]:
    """The state in which lines leave an attempt, and the line of the last observation."""
    last = Attempt(RunInfo(run=""))
    later: list[tuple[str, dict[str, Any]]] = []
    for newest in filter(None, reversed(lines)):
        _, kind, data = decode_line(newest)
        if kind == "observation":
            break
        later.append((kind, data))
    for kind, data in reversed(later):
        understand(kind, data, last)
    return last.state, newest


def _content(path: str, size: int) -> bytes:
    try:
        # Without O_NONBLOCK, opening a named pipe would wait for a writer.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return os.pread(fd, size, 0)
        finally:
            os.close(fd)
    except OSError:
        return b""
