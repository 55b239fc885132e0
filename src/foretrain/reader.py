"""The records of a study, read without trusting them, and the attempts of each run put together."""

from __future__ import annotations

import math
import os
import stat
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from foretrain.observation import Observation, RunInfo, RunRecord, ScheduleUpdate
from foretrain.records import (
    MAX_LINE,
    LineError,
    attempt_number,
    decode_line,
    read_header,
    read_observation,
    read_schedule,
)
from foretrain.schedule_history import ScheduleHistory, merge_schedules

MAX_POINTS = 16_384
"""Most observations kept in memory of one metric of one attempt; past it the middle is thinned."""
_KEPT_ENDS = 1_024

_Points = dict[tuple[str, int], Observation]


@dataclass(frozen=True)
class Study:
    """What the record files of a study hold.

    Attributes:
        runs: The runs by name, in order of their names.
        damaged: How many lines were skipped.
        reasons: How many lines were skipped, by reason.
    """

    runs: dict[str, RunRecord] = field(default_factory=dict)
    damaged: int = 0
    reasons: dict[str, int] = field(default_factory=dict)


class StudyReader:
    """Reads a study's record files, each line once.

    Holds what it has read and how far it is in each file, so that reading again costs only the new lines.
    Never writes, and never raises for what it finds: a damaged line is skipped and counted, an unfinished
    one is looked at again the next time.

    Args:
        study_dir: The study's folder, `ObservationStore.study_dir`.
    """

    def __init__(self, study_dir: str | os.PathLike[str]) -> None:
        self._study_dir = Path(study_dir)
        self._files: dict[str, _File] = {}
        self._study: Study | None = None

    def read(
        self,
        unsaved: tuple[RunInfo, Iterable[Observation]] | None = None,
        *,
        schedule: ScheduleUpdate | None = None,
    ) -> Study:
        """The study as it is now.

        Args:
            unsaved: An attempt with observations that could not be written, to be taken as if they had been.
            schedule: What could not be written of that attempt's schedule.
        """
        changed = self._update()
        attempts = [file.attempt for _, file in sorted(self._files.items()) if file.attempt is not None]
        if unsaved is not None:
            return self._put_together(_with_unsaved(attempts, *unsaved, schedule))
        if changed or self._study is None:
            self._study = self._put_together(attempts)
        return self._study

    def _update(self) -> bool:
        found = dict(_record_files(self._study_dir))
        gone = self._files.keys() - found.keys()
        for name in gone:
            del self._files[name]
        changed = bool(gone)
        for name, status in found.items():
            changed |= self._files.setdefault(name, _File(name)).update(status)
        return changed

    def _put_together(self, attempts: list[_Attempt]) -> Study:
        reasons: Counter[str] = sum((file.skipped for file in self._files.values()), Counter())
        runs: dict[str, list[_Attempt]] = {}
        # Equal numbers happen where two processes started at once; the order of names then decides, so
        # that every reader decides alike.
        for attempt in sorted(attempts, key=lambda attempt: attempt.info.attempt):
            runs.setdefault(attempt.info.run, []).append(attempt)
        merged: dict[str, _Points] = {}
        schedules: dict[str, ScheduleHistory] = {}
        for run in _histories_first(runs):
            merged[run] = _merge(runs[run], merged)
            parts = ((attempt.info, attempt.state, attempt.schedule) for attempt in runs[run])
            schedules[run] = merge_schedules(parts, schedules)
        return Study(
            runs={run: _record(runs[run], merged[run], schedules[run]) for run in sorted(runs)},
            damaged=sum(reasons.values()),
            reasons=dict(sorted(reasons.items())),
        )


@dataclass
class _Attempt:
    """What one file holds: the observations of one process.

    Attributes:
        info: The run and the attempt.
        points: Observations by metric and step; the middle thinned past `MAX_POINTS`.
        first: Step of the earliest observation, None before there is one.
        last: Step of the latest one.
        state: "running", "finished" or "failed".
        schedule: What it tells of its learning rates.
    """

    info: RunInfo
    points: dict[str, dict[int, Observation]] = field(default_factory=dict)
    first: float = math.inf
    last: float = -math.inf
    state: str = "running"
    schedule: ScheduleHistory = field(default_factory=ScheduleHistory)

    def add(self, observation: Observation) -> None:
        step = int(observation.counts.steps)
        points = self.points.setdefault(observation.metric, {})
        points[step] = observation
        self.first, self.last = min(self.first, step), max(self.last, step)
        self.state = "running"
        if len(points) > MAX_POINTS:
            # Half of the middle goes: what remains is densest at both ends, where a law is decided, and
            # does not depend on how often the file was looked at.
            for step in sorted(points)[_KEPT_ENDS:-_KEPT_ENDS:2]:
                del points[step]

    def flat(self) -> _Points:
        return {(metric, step): o for metric, points in self.points.items() for step, o in points.items()}

    def copy(self) -> _Attempt:
        points = {metric: dict(points) for metric, points in self.points.items()}
        return replace(self, points=points, schedule=self.schedule.copy())


class _File:
    """One record file as far as it was read."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen: tuple[int, ...] = ()
        self._forget()

    def _forget(self) -> None:
        self.attempt: _Attempt | None = None
        self.skipped: Counter[str] = Counter()
        self._offset = 0
        self._in_long_line = False
        self._later = False

    def update(self, status: os.stat_result) -> bool:
        """Reads what is new; whether anything was."""
        seen = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        if seen == self._seen:
            return False
        if self._seen[:2] != seen[:2] or status.st_size < self._offset:
            self._forget()
        self._seen = seen
        try:
            # Without O_NONBLOCK, opening a named pipe would wait for a writer.
            fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            self._seen = ()
            return True
        try:
            self._read(fd, status.st_size)
        except OSError:
            self._seen = ()
        finally:
            os.close(fd)
        return True

    def _read(self, fd: int, size: int) -> None:
        while self._offset < size:
            block = os.pread(fd, min(MAX_LINE + 1, size - self._offset), self._offset)
            end = block.rfind(b"\n") + 1
            if end:
                self._offset += end
                for line in block[: end - 1].split(b"\n"):
                    self._take(line)
            elif len(block) > MAX_LINE:
                self._offset += len(block)
                self._in_long_line = True
            else:
                return

    def _take(self, line: bytes) -> None:
        if self._in_long_line:
            self._in_long_line = False
            self.skipped["too long"] += 1
            return
        if not line:
            return  # Written on purpose, see the store: after a line that may be torn, and between headers.
        try:
            _, kind, data = decode_line(line)
            self._understand(kind, data)
        except LineError as error:
            self._later |= str(error) == "written by a later foretrain"
            self.skipped[str(error)] += 1

    def _understand(self, kind: str, data: dict[str, object]) -> None:
        if self._later:
            raise LineError("written by a later foretrain")
        if kind == "run":
            info = read_header(data)
            if self.attempt is None:
                self.attempt = _Attempt(info)
        elif kind in ("observation", "schedule", "end") and self.attempt is None:
            raise LineError("no header before it")
        elif kind == "observation" and self.attempt is not None:
            self.attempt.add(read_observation(data, self.attempt.info))
        elif kind == "schedule" and self.attempt is not None:
            self.attempt.schedule.add(read_schedule(data))
        elif kind == "end" and self.attempt is not None:
            self.attempt.state = "finished" if data.get("state") == "finished" else "failed"


def _record_files(study_dir: Path) -> Iterable[tuple[str, os.stat_result]]:
    """The paths of a study's record files, and what the file system says of each."""
    for folder in _entries(study_dir):
        for entry in _entries(folder):
            if attempt_number(entry.name) is None:
                continue
            try:
                status = entry.stat()
            except OSError:
                continue
            if stat.S_ISREG(status.st_mode):
                yield entry.path, status


def _entries(folder: str | os.PathLike[str]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (OSError, ValueError):
        return []


def _with_unsaved(
    attempts: list[_Attempt],
    info: RunInfo,
    observations: Iterable[Observation],
    schedule: ScheduleUpdate | None,
) -> list[_Attempt]:
    for index, attempt in enumerate(attempts):
        if (attempt.info.run, attempt.info.attempt) == (info.run, info.attempt):
            own = attempt.copy()
            attempts = [*attempts[:index], own, *attempts[index + 1 :]]
            break
    else:
        own = _Attempt(info)
        attempts = [*attempts, own]
    if schedule is not None:
        own.schedule.add(schedule)
    for observation in observations:
        own.add(observation)
    return attempts


def _merge(attempts: list[_Attempt], merged: Mapping[str, _Points]) -> _Points:
    """One run's observations, from those of its attempts.

    An attempt trains on from a checkpoint: what an older attempt measured up to there is its past too; what
    the older one measured beyond belongs to weights that were thrown away. The latter stays visible only
    until the newer attempt has passed it, because until then it is the best that is known of what comes.
    So once an attempt has passed its forerunners, what is left is one line of training, and equals what an
    uninterrupted run would have measured: also where the two measured at different steps, which taking the
    newer one of equal steps alone would not give.

    Where the attempt does not say at which step it began, its first observation stands for that.

    Two monitors of one training are two attempts of one run that hold different metrics, so each metric is
    put together from the attempts that were about it.
    """
    others = {str((attempt.info.continues or {}).get("run")) for attempt in attempts}
    metrics = {metric for attempt in attempts for metric, _ in attempt.flat()}
    metrics |= {metric for other in others for metric, _ in merged.get(other, {})}
    points: _Points = {}
    for metric in sorted(metrics):
        points |= _merge_metric(metric, [a for a in attempts if _is_about(a, metric)], merged)
    return points


def _is_about(attempt: _Attempt, metric: str) -> bool:
    named = attempt.info.conventions.get("metric", metric) == metric
    return named or any(held == metric for held, _ in attempt.flat())


def _merge_metric(metric: str, attempts: list[_Attempt], merged: Mapping[str, _Points]) -> _Points:
    """One metric's observations, by the rule of `_merge`."""
    points: _Points = {}
    for attempt in attempts:
        continues = attempt.info.continues
        passed = math.inf if attempt.state == "finished" else attempt.last
        if continues is None:
            start, past = attempt.first - 1, points
        elif continues["step"] <= 0:
            start, past, passed = 0, {}, math.inf  # From scratch: no other weights are this attempt's past.
        else:
            start = continues["step"]
            past = points if continues["run"] == attempt.info.run else merged.get(continues["run"], {})
        points = {
            **{key: _of(o, attempt) for key, o in past.items() if key[1] <= start},
            **{key: o for key, o in points.items() if key[1] > start and key[1] >= passed},
            **attempt.flat(),
        }
    return {key: o for key, o in points.items() if key[0] == metric}


def _of(observation: Observation, attempt: _Attempt) -> Observation:
    if observation.run == attempt.info.run:
        return observation
    return replace(observation, run=attempt.info.run)


def _record(attempts: list[_Attempt], points: _Points, schedule: ScheduleHistory) -> RunRecord:
    ordered = sorted(points.items(), key=lambda item: (item[0][1], item[0][0]))
    newest = attempts[-1]
    observations = tuple(observation for _, observation in ordered)
    return RunRecord(newest.info, observations, newest.state, *schedule.describe(newest.state))


def _histories_first(runs: Mapping[str, list[_Attempt]]) -> list[str]:
    """The runs, each after those that it continues; a circle is cut where it comes back to itself."""
    order: dict[str, None] = {}
    seen: set[str] = set()
    for root in sorted(runs):
        path = [] if root in seen else [root]
        while path:
            run = path[-1]
            seen.add(run)
            for attempt in runs[run]:
                other = str((attempt.info.continues or {}).get("run"))
                if other in runs and other not in seen:
                    path.append(other)
                    break
            else:
                order[run] = None
                path.pop()
    return list(order)
