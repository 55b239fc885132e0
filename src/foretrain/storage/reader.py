"""The records of a study, read without trusting them, and the attempts of each run put together."""

from __future__ import annotations

import operator
import os
import stat
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from foretrain.observation import Observation, RunInfo, RunRecord, ScheduleUpdate
from foretrain.storage.attempts import Attempt, put_together, with_unsaved
from foretrain.storage.held import HeldAttempt
from foretrain.storage.held_cache import HeldCache
from foretrain.storage.held_runs import held_runs
from foretrain.storage.mirror import Mirror
from foretrain.storage.record_file import Recording
from foretrain.storage.records import read_name
from foretrain.storage.urls import as_root, is_url

_AnyAttempt = Attempt | HeldAttempt


@dataclass(frozen=True)
class Study:
    """What the record files of a study hold.

    Attributes:
        runs: The runs by name, in order of their names.
        damaged: How many lines were skipped.
        reasons: How many lines were skipped, by reason.
        unfinished: How many files end in a line without an end: a process was stopped in the middle of a
            write, or is writing now.
        folder: The study's folder; None of a study that was put together.
    """

    runs: dict[str, RunRecord] = field(default_factory=dict)
    damaged: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    unfinished: int = 0
    folder: Path | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class _Group:
    """Runs that continue one another, as they were put together."""

    attempts: list[_AnyAttempt]
    version: list[int]
    runs: dict[str, RunRecord]

    def is_of(self, attempts: Sequence[_AnyAttempt], version: Sequence[int]) -> bool:
        """Whether the attempts are the same, and nothing was added to them."""
        same = len(attempts) == len(self.attempts) and all(map(operator.is_, attempts, self.attempts))
        return same and version == self.version


class StudyReader:
    """Reads a study's record files, and again only what is new.

    Holds how far it is in each file. A run of one attempt whose file is sound is held by its ends, see
    `held`: its observations are read when `RunRecord.observations` or its schedule is asked for. So thousands
    of runs take little time and memory; lines that are whole and tell nonsense are then not counted.
    Never writes, and never raises for what it finds: a damaged line is skipped and counted, an unfinished
    one is looked at again the next time.

    Of a URL it holds a copy in the system's temporary folder, removed when the reader is. Each object is
    fetched once, and `read` waits for the network; what cannot be reached raises nothing, see `fault`.

    Args:
        study_dir: The study's folder, `ObservationStore.study_dir`, or its URL.
        progress: Called while `read` lasts, for every megabyte or so.
        hold: Whether runs may be held; of a URL none are. Pass False for a folder that may vanish while its
            runs are used.

    Raises:
        ValueError: If it is a URL of a filesystem that is not installed.
    """

    def __init__(
        self,
        study_dir: str | os.PathLike[str],
        *,
        progress: Callable[[], None] | None = None,
        hold: bool = True,
    ) -> None:
        self._progress = progress
        self._mirror: Mirror | None = None
        if is_url(study_dir) and is_url(root := as_root(study_dir)):
            self._copy = tempfile.TemporaryDirectory(prefix="foretrain-read-", ignore_cleanup_errors=True)
            self._mirror = Mirror(root, Path(self._copy.name))
            study_dir = self._copy.name
            hold = False  # the copy's files are replaced by others
        elif is_url(study_dir):
            study_dir = as_root(study_dir)
        self._study_dir = Path(study_dir)
        self._cache = HeldCache(self._study_dir) if hold else None
        self._recordings: dict[tuple[str, str], Recording] = {}
        self._groups: dict[str, _Group] = {}
        self._study: Study | None = None

    @property
    def fault(self) -> str | None:
        """Why what was read from a URL may be incomplete, as a sentence; None where it is not."""
        return None if self._mirror is None else self._mirror.fault

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
        if self._mirror is not None:
            self._mirror.pull_patiently()
        changed = self._update()
        recordings = [recording for _, recording in sorted(self._recordings.items())]
        attempts: list[_AnyAttempt] = [r.attempt for r in recordings if r.attempt is not None]
        updates = {id(recording.attempt): recording.updates for recording in recordings}
        if unsaved is not None:
            attempts = _with_unsaved(attempts, unsaved, schedule)
        elif not changed and self._study is not None:
            return self._study
        reasons: Counter[str] = sum((recording.skipped for recording in recordings), Counter())
        study = Study(
            runs=self._put_together(attempts, updates),
            damaged=sum(reasons.values()),
            reasons=dict(sorted(reasons.items())),
            unfinished=sum(recording.unfinished for recording in recordings),
            folder=self._study_dir,
        )
        if unsaved is None:
            self._study = study
        return study

    def _put_together(
        self, attempts: Sequence[_AnyAttempt], updates: Mapping[int, int]
    ) -> dict[str, RunRecord]:
        """The runs by name; one that has not changed is the same record as before."""
        runs: dict[str, RunRecord] = {}
        groups: dict[str, _Group] = {}
        for together in _groups(attempts):
            # An unsaved attempt is a copy, so that it is no attempt of before.
            version = [updates.get(id(attempt), -1) for attempt in together]
            name = together[0].info.run
            before = self._groups.get(name)
            if before is None or not before.is_of(together, version):
                before = _Group(together, version, _runs_of(together))
            groups[name] = before
            runs.update(before.runs)
        self._groups = groups
        return dict(sorted(runs.items()))

    def _update(self) -> bool:
        found = record_files(self._study_dir)
        gone = self._recordings.keys() - found.keys()
        for key in gone:
            del self._recordings[key]
        changed = bool(gone)
        hold = None if self._cache is None else self._cache.hold
        for key, files in found.items():
            recording = self._recordings.get(key)
            if recording is None:
                recording = self._recordings[key] = Recording(self._progress, hold=hold)
            changed |= recording.update(files)
        if self._cache is not None:
            self._cache.save()
        return changed


def record_files(study_dir: Path) -> dict[tuple[str, str], dict[str, os.stat_result]]:
    """A study's record files by folder and process: their paths, and what the file system says of each."""
    found: dict[tuple[str, str], dict[str, os.stat_result]] = {}
    for folder in _entries(study_dir):
        for entry in _entries(folder):
            name = read_name(entry.name)
            if name is None:
                continue
            try:
                status = entry.stat()
            except OSError:
                continue
            if stat.S_ISREG(status.st_mode):
                # A file that grows is all of its process; fragments belong together.
                whose = entry.name if name.first is None else name.unique
                found.setdefault((folder.path, whose), {})[entry.path] = status
    return found


def _entries(folder: str | os.PathLike[str]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (OSError, ValueError):
        return []


def _runs_of(together: Sequence[_AnyAttempt]) -> dict[str, RunRecord]:
    held = [attempt for attempt in together if isinstance(attempt, HeldAttempt)]
    return held_runs(held) if len(held) == len(together) else put_together(map(_read, together))


def _groups(attempts: Sequence[_AnyAttempt]) -> list[list[_AnyAttempt]]:
    """The attempts, in the order given, by runs that do not go on from one another."""
    root: dict[str, str] = {}

    def find(name: str) -> str:
        while root.setdefault(name, name) != name:
            root[name] = name = root[root[name]]
        return name

    for attempt in attempts:
        if attempt.info.continues is not None:
            root[find(attempt.info.run)] = find(str(attempt.info.continues["run"]))
    groups: dict[str, list[_AnyAttempt]] = {}
    for attempt in attempts:
        groups.setdefault(find(attempt.info.run), []).append(attempt)
    return list(groups.values())


def _with_unsaved(
    attempts: Sequence[_AnyAttempt],
    unsaved: tuple[RunInfo, Iterable[Observation]],
    schedule: ScheduleUpdate | None,
) -> list[_AnyAttempt]:
    """The attempts, with what one of them could not write."""
    info, observations = unsaved
    whose = (info.run, info.attempt)
    place = next((i for i, a in enumerate(attempts) if (a.info.run, a.info.attempt) == whose), len(attempts))
    own = [_read(attempt) for attempt in attempts[place : place + 1]]
    return [*attempts[:place], *with_unsaved(own, info, observations, schedule), *attempts[place + 1 :]]


def _read(attempt: _AnyAttempt) -> Attempt:
    return attempt.read() if isinstance(attempt, HeldAttempt) else attempt
