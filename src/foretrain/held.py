"""Attempts that are held by their ends: their observations are read again where they are asked for.

A study may have thousands of runs, of which an analysis looks at some hundreds.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from zlib import crc32

from foretrain.attempts import Attempt, put_together
from foretrain.axes import Counts
from foretrain.observation import Observation, RunInfo, RunRecord
from foretrain.records import LineError, decode_line, read_header, read_observation, read_schedule

MAX_HELD = 2**20
"""Longest file that is held, in bytes: reading a longer one again would take too long."""

KEPT = 64
"""Runs whose observations stay in memory once they were asked for: those asked for last."""

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


class HeldAttempt:
    """What one process wrote of a run, in a file that was found sound.

    Args:
        path: The file, which only ever grows.
        size: Length of what was found sound, in bytes.
        info: The run and the attempt.
        state: "running", "finished" or "failed".
        metrics: How many lines there are of each metric.
        newest: The last observation.
    """

    def __init__(
        self, path: str, size: int, info: RunInfo, state: str, metrics: Mapping[str, int], newest: Observation
    ) -> None:
        self._path, self._size = path, size
        self.info, self.state, self.metrics, self.newest = info, state, metrics, newest
        self.record: RunRecord = HeldRecord.of(self)

    @property
    def goes_on(self) -> bool:
        """Whether it began with what another attempt had trained."""
        return self.info.continues is not None and self.info.continues["step"] > 0

    def read(self) -> Attempt:
        """The attempt with all that is in its file; each line is checked again.

        Raises nothing: what can no longer be read is missing.
        """
        attempt = Attempt(self.info)
        for line in _content(self._path, self._size).split(b"\n"):
            if line:
                try:
                    _, kind, data = decode_line(line)
                    understand(kind, data, attempt)
                except LineError:
                    continue
        return attempt


class HeldRecord(RunRecord):
    """A run whose one attempt is held."""

    @classmethod
    def of(cls, held: HeldAttempt) -> HeldRecord:
        """The run of an attempt that is alone, and goes on from no other."""
        record = object.__new__(cls)
        vars(record).update(info=held.info, state=held.state, past={}, _held=held)
        return record

    @property
    def metrics(self) -> Mapping[str, int]:
        """How many observations there are of each metric."""
        held = vars(self).get("_held")
        return held.metrics if isinstance(held, HeldAttempt) else super().metrics

    def newest(self, metric: str) -> Observation | None:
        """The last observation of a metric."""
        held = vars(self).get("_held")
        if isinstance(held, HeldAttempt) and held.newest.metric == metric:
            return held.newest
        return super().newest(metric) if metric in self.metrics else None

    def __eq__(self, other: object) -> bool:
        """Whether another record tells the same, held or not."""
        return isinstance(other, RunRecord) and _fields(self) == _fields(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """As of a record that is not held, of which it tells the same."""
        return repr(RunRecord(*_fields(self)))

    def __reduce__(self) -> tuple[Any, ...]:
        """As a record that is not held: the file may be on another machine."""
        return RunRecord, _fields(self)


class _Asked:
    """A field of a record that is read when it is asked for; one that was set stays as it was set."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, record: Any, owner: type | None = None) -> Any:
        return self if record is None else getattr(_whole(record._held), self._name)


for _name in ("observations", "schedule", "schedule_used_until", "schedule_unknown", "counted_otherwise"):
    _field = _Asked()
    _field.__set_name__(HeldRecord, _name)
    setattr(HeldRecord, _name, _field)


def _whole(held: HeldAttempt) -> RunRecord:
    record = _read(held)
    if not record.observations:
        _read.cache_clear()  # It could not be read just now.
    return record


@lru_cache(KEPT)
def _read(held: HeldAttempt) -> RunRecord:
    return put_together([held.read()])[held.info.run]


def _fields(record: RunRecord) -> tuple[Any, ...]:
    return tuple(getattr(record, name) for name in RunRecord.__dataclass_fields__)


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


def hold(path: str, size: int) -> HeldAttempt | None:
    """A file as a held attempt, or None where it must be read line by line.

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
    if [b"%08x" % crc for crc in map(crc32, bodies)] != list(sums):
        return None
    told = [int(step) for step in steps if step]
    if not headers[0] or len({*headers} - {b""}) != 1 or told != sorted(told):
        return None
    try:
        info = read_header(decode_line(lines[0])[2])
        state, newest = _end(lines, info)
        metrics = {str(json.loads(name)): count for name, count in Counter(filter(None, names)).items()}
    except (LineError, ValueError):
        return None
    return None if newest is None else HeldAttempt(path, size, info, state, metrics, newest)


def _end(lines: list[bytes], info: RunInfo) -> tuple[str, Observation | None]:
    """The state in which lines leave an attempt, and the last observation."""
    last = Attempt(info)
    later: list[tuple[str, dict[str, Any]]] = []
    for line in reversed(lines):
        if not line:
            continue
        _, kind, data = decode_line(line)
        later.append((kind, data))
        if kind == "observation":
            break
    for kind, data in reversed(later):
        understand(kind, data, last)
    newest = next((o for points in last.points.values() for o in points.values()), None)
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
