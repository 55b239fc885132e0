"""The records of a study, read without trusting them, and the attempts of each run put together."""

from __future__ import annotations

import os
import stat
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from foretrain.attempts import put_together, with_unsaved
from foretrain.mirror import Mirror
from foretrain.observation import Observation, RunInfo, RunRecord, ScheduleUpdate
from foretrain.record_file import Recording
from foretrain.records import read_name
from foretrain.urls import as_root, is_url


@dataclass(frozen=True)
class Study:
    """What the record files of a study hold.

    Attributes:
        runs: The runs by name, in order of their names.
        damaged: How many lines were skipped.
        reasons: How many lines were skipped, by reason.
        unfinished: How many files end in a line without an end: a process was stopped in the middle of a
            write, or is writing now.
    """

    runs: dict[str, RunRecord] = field(default_factory=dict)
    damaged: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    unfinished: int = 0


class StudyReader:
    """Reads a study's record files, each line once.

    Holds what it has read and how far it is in each file, so that reading again costs only the new lines.
    Never writes, and never raises for what it finds: a damaged line is skipped and counted, an unfinished
    one is looked at again the next time.

    Of a URL it holds a copy in the system's temporary folder, removed when the reader is. Each object is
    fetched once, and `read` waits for the network; what cannot be reached raises nothing, see `fault`.

    Args:
        study_dir: The study's folder, `ObservationStore.study_dir`, or its URL.
        progress: Called while `read` lasts, for every megabyte or so.

    Raises:
        ValueError: If it is a URL of a filesystem that is not installed.
    """

    def __init__(
        self, study_dir: str | os.PathLike[str], *, progress: Callable[[], None] | None = None
    ) -> None:
        self._progress = progress
        self._mirror: Mirror | None = None
        if is_url(study_dir) and is_url(root := as_root(study_dir)):
            self._copy = tempfile.TemporaryDirectory(prefix="foretrain-read-", ignore_cleanup_errors=True)
            self._mirror = Mirror(root, Path(self._copy.name))
            study_dir = self._copy.name
        elif is_url(study_dir):
            study_dir = as_root(study_dir)
        self._study_dir = Path(study_dir)
        self._recordings: dict[tuple[str, str], Recording] = {}
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
        attempts = [recording.attempt for recording in recordings if recording.attempt is not None]
        if unsaved is not None:
            attempts = with_unsaved(attempts, *unsaved, schedule)
        elif not changed and self._study is not None:
            return self._study
        reasons: Counter[str] = sum((recording.skipped for recording in recordings), Counter())
        study = Study(
            runs=put_together(attempts),
            damaged=sum(reasons.values()),
            reasons=dict(sorted(reasons.items())),
            unfinished=sum(recording.unfinished for recording in recordings),
        )
        if unsaved is None:
            self._study = study
        return study

    def _update(self) -> bool:
        found = record_files(self._study_dir)
        gone = self._recordings.keys() - found.keys()
        for key in gone:
            del self._recordings[key]
        changed = bool(gone)
        for key, files in found.items():
            changed |= self._recordings.setdefault(key, Recording(self._progress)).update(files)
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
