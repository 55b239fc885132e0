"""The store: observations kept on disk, one line each, in a file per process, whatever happens to it."""

from __future__ import annotations

import os
import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

from foretrain.observation import Observation, RunInfo, ScheduleUpdate
from foretrain.storage.attempt_file import AttemptFile, reason
from foretrain.storage.reader import Study, StudyReader
from foretrain.storage.records import encode_line, encode_observation, encode_schedule, folder_name
from foretrain.storage.urls import as_root, is_url

__all__ = ["ObservationStore", "Study", "StudyReader"]

MAX_UNSAVED = 10_000
"""Most observations kept in memory while they cannot be written; past it, every second one is dropped."""
FIRST_RETRY = 1.0
LONGEST_RETRY = 60.0


class ObservationStore:
    """Keeps the observations of one run at a time, in a local directory.

    The files are `<root>/<study>/<run>/<attempt>-<unique>.jsonl`, a new one for every process that trains
    the run. A line is acknowledged once one write of it has returned: from then on it outlives the process.

    It holds an open file, and the observations that could not be written. Only the process that called
    `begin` writes; in a forked child, and in a copy, every call does nothing until it calls `begin` itself.
    Trouble with the disk never raises: see `fault`. To be used by one thread.

    Args:
        root: Directory of the studies; made when it is needed. For a URL see `foretrain.storage.url_store`.
        study: Name of the study.
        attempt: Number of the next attempt, where something else numbers them.

    Raises:
        ValueError: If the root is a URL.

    Example:
        >>> import tempfile
        >>> from foretrain.axes import Counts
        >>> store = ObservationStore(tempfile.mkdtemp())
        >>> store.begin(RunInfo(run="resnet")).attempt
        1
        >>> store.append(Observation("resnet", "val_loss", 0.7, Counts(samples=640, steps=10)))
        True
        >>> store.finish("finished")
        >>> StudyReader(store.study_dir).read().runs["resnet"].state
        'finished'
    """

    def __init__(
        self, root: str | os.PathLike[str], study: str = "default", *, attempt: int | None = None
    ) -> None:
        if is_url(root) and is_url(root := as_root(root)):
            raise ValueError(
                f"Expected a directory, got {root!r}: use foretrain.storage.url_store.open_store for URLs."
            )
        self._study = study
        self._attempt = attempt
        # Absolute, because training scripts change their directory; the child process reads it, too.
        self.study_dir = _absolute(Path(root)) / folder_name(study)
        self._reset()

    def _reset(self) -> None:
        self._pid: int | None = None
        self._info: RunInfo | None = None
        self._file = AttemptFile(self.study_dir, self._attempt)
        self._end: str | None = None
        self._ended: str | None = None
        self._pending: deque[Observation] = deque()
        self._schedule: ScheduleUpdate | None = None  # what of it is not written, as one update
        self._dropped = 0
        self._refused = 0
        self._refusal = ""
        self._error = ""
        self._retry_at = 0.0
        self._delay = FIRST_RETRY

    def __getstate__(self) -> dict[str, Any]:
        """Only where it writes: a copy begins its own attempt, so that no two write one file."""
        return {"_study": self._study, "_attempt": self._attempt, "study_dir": self.study_dir}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    @property
    def info(self) -> RunInfo | None:
        """The run and attempt under way; None before `begin`.

        The attempt's number changes once if the directory could not be listed when the attempt began.
        """
        return self._info

    @property
    def unsaved(self) -> tuple[Observation, ...]:
        """The observations that are only in memory, oldest first."""
        return tuple(self._pending)

    @property
    def unsaved_schedule(self) -> ScheduleUpdate | None:
        """What of the schedule is only in memory."""
        return self._schedule

    @property
    def deleted(self) -> bool:
        """Whether the attempt's file was there and is gone, with all that was written to it."""
        return self._file.deleted

    @property
    def fault(self) -> str | None:
        """What is wrong, what it means and what to do, as sentences for a warning; None while all is well."""
        sentences = []
        if self._error:
            sentences.append(
                f"Observations cannot be written to {self.study_dir} ({self._error}): {len(self._pending)} "
                "are kept in memory and tried again, and are lost if the process ends before that: "
                "make room or give access there."
            )
        if self._file.unconfirmed:
            sentences.append(
                f"The disk did not confirm what was written to {self.study_dir} ({self._file.unconfirmed}): "
                "observations may be lost if the machine stops: check the disk."
            )
        if self._dropped:
            sentences.append(
                f"{self._dropped} observations were dropped, every second of those that waited to be "
                "written: the law is fitted to the rest."
            )
        if self._refused:
            sentences.append(
                f"{self._refused} observations could not be recorded (the last: {self._refusal}) and were "
                "left out: check what is measured and counted."
            )
        return " ".join(sentences) or None

    def begin(self, info: RunInfo) -> RunInfo:
        """Starts an attempt: a new file, with a header that describes the run.

        Args:
            info: The run. To be told apart from its earlier attempts' abandoned steps, a run that was
                resumed gives in `continues` the step of its checkpoint, also under its own name, and a run
                from scratch step 0.

        Returns:
            The same with the attempt's number and the store's study; also where nothing could be written.
        """
        self.close()
        unsaved = self._pending if self._info is not None and self._info.run == info.run else deque()
        self._reset()
        self._pid = os.getpid()
        self._info = begun = replace(info, study=self._study)
        self._pending = unsaved
        self._flush(force=True)
        return self._info or begun

    def append(self, observation: Observation, schedule: ScheduleUpdate | None = None) -> bool:
        """Records one observation.

        Args:
            observation: The observation.
            schedule: What is new of the run's schedule; is written first, so that no acknowledged observation
                lacks its learning rates.

        Returns:
            Whether it, and with it everything before it, has been written; if not, it is kept in memory
            and tried again at later calls, ever less often while they fail.
        """
        if not self._is_ours():
            return False
        self._pending.append(observation)
        self._end = self._ended = None
        refused = self._refused
        self._add(schedule)
        written = self._flush() and self._refused == refused
        if len(self._pending) > MAX_UNSAVED:
            # Every second one, so that the curve keeps its extent.
            kept = list(self._pending)[::2]
            self._dropped += len(self._pending) - len(kept)
            self._pending = deque(kept)
        return written

    def tell(self, schedule: ScheduleUpdate | None) -> None:
        """Records what is new of the run's schedule, where no observation comes with it."""
        if schedule is not None and self._is_ours():
            self._add(schedule)
            self._flush()

    def _add(self, schedule: ScheduleUpdate | None) -> None:
        if schedule is not None:
            self._schedule = schedule if self._schedule is None else self._schedule.followed(schedule)

    def sync(self) -> None:
        """Waits until the disk has what was written, so that it also outlives the machine.

        Takes milliseconds: meant for checkpoints and the end.
        """
        if self._is_ours() and self._flush(force=True):
            self._file.sync()

    def finish(self, state: str) -> None:
        """Records how the attempt ended, once, and syncs.

        Args:
            state: "finished"; anything else is recorded as "failed".
        """
        self._end = "finished" if state == "finished" else "failed"
        self.sync()

    def close(self) -> None:
        """Tries once more to write what is unsaved, and closes the file. `append` would open it again."""
        if self._is_ours():
            if self._pending or self._schedule is not None or self._end not in (None, self._ended):
                self._flush(force=True)
            self._file.close()

    def _is_ours(self) -> bool:
        return self._info is not None and self._pid == os.getpid()

    def _flush(self, *, force: bool = False) -> bool:
        """Writes what waits; whether nothing waits any more."""
        if self._info is None or (not force and self._error and time.monotonic() < self._retry_at):
            return False
        try:
            self._info = self._file.open(self._info)
            if self._schedule is not None:
                self._write_schedule(self._schedule)
            while self._pending:
                try:
                    line = encode_observation(self._file.next, self._pending[0])
                except (ValueError, TypeError, AttributeError) as error:
                    self._refused += 1
                    self._refusal = str(error)
                else:
                    self._file.write(line)
                self._pending.popleft()
            if self._end not in (None, self._ended):
                self._file.write(encode_line(self._file.next, "end", {"state": self._end}))
                self._ended = self._end
        except (OSError, ValueError) as error:
            self._file.close()
            self._error = reason(error)
            self._retry_at = time.monotonic() + self._delay
            self._delay = min(2 * self._delay, LONGEST_RETRY)
            return False
        self._error, self._delay = "", FIRST_RETRY
        return True

    def _write_schedule(self, schedule: ScheduleUpdate) -> None:
        try:
            line = encode_schedule(self._file.next, schedule)
        except (ValueError, TypeError, AttributeError) as error:
            self._refused += 1
            self._refusal = str(error)
        else:
            self._file.write(line)
        self._schedule = None


def _absolute(path: Path) -> Path:
    try:
        return path.absolute()
    except OSError:
        return path  # The working directory is gone: every write will fail, and say so.
