"""A store behind a URL: observations are kept on this machine first, and a thread brings them there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol

from foretrain.observation import Observation, RunInfo, ScheduleUpdate
from foretrain.storage.fragments import UNNUMBERED
from foretrain.storage.mirror import describe
from foretrain.storage.records import folder_name
from foretrain.storage.spool import SpoolFolder, spool_root
from foretrain.storage.uploader import Pace, Uploader
from foretrain.storage.urls import as_root, is_url, join
from foretrain.store import ObservationStore

WAIT = {"finished": 5.0}
"""Seconds that `close` waits for the store, by how the attempt ended."""
WAIT_FAILED = 1.0


class Store(Protocol):
    """What `ObservationStore` and `UrlStore` have in common; the former says what each does."""

    @property
    def study_dir(self) -> Path:
        """Where the study can be read on this machine."""

    @property
    def info(self) -> RunInfo | None:
        """The run and attempt under way."""

    @property
    def unsaved(self) -> tuple[Observation, ...]:
        """The observations that are only in memory."""

    @property
    def unsaved_schedule(self) -> ScheduleUpdate | None:
        """What of the schedule is only in memory."""

    @property
    def deleted(self) -> bool:
        """Whether what was written is gone."""

    @property
    def fault(self) -> str | None:
        """What is wrong, as sentences."""

    def begin(self, info: RunInfo) -> RunInfo:
        """Starts an attempt."""

    def append(self, observation: Observation, schedule: ScheduleUpdate | None = None) -> bool:
        """Records one observation."""

    def tell(self, schedule: ScheduleUpdate | None) -> None:
        """Records what is new of the schedule."""

    def sync(self) -> None:
        """Makes durable what was written."""

    def finish(self, state: str) -> None:
        """Records how the attempt ended."""

    def close(self) -> None:
        """Lets go of everything."""


def open_store(root: str | os.PathLike[str], study: str = "default") -> Store:
    """The store of a study under a root: a directory, or a URL that fsspec knows.

    Raises:
        ValueError: If the root is a URL of a filesystem that is not installed, or that cannot be written.
    """
    text = as_root(root)
    return UrlStore(text, study) if is_url(text) else ObservationStore(text, study)


class UrlStore:
    """Keeps the observations of one run at a time in a store behind a URL, such as a bucket.

    A line is first appended to a file in the spool, a folder of this machine, and is acknowledged by that:
    from then on it outlives the process. A thread brings the lines to the store as fragments, objects that
    are never changed: `<root>/<study>/<run>/<attempt>-<unique>.<first line>-<last line>.jsonl`. Until they
    are there, they stay in the spool; if this process ends before, the next one on this machine with the same
    root brings them. The same thread copies the study's other runs, for the fits.

    No method but `close` waits for the network. To be used by one thread; only the process that called
    `begin` writes. Trouble never raises: see `fault`.

    Args:
        url: URL of the studies.
        study: Name of the study.
        spool: Folder of the spool; by default one in the system's temporary folder.
        pace: How often objects are written and read.

    Example:
        >>> from foretrain.axes import Counts
        >>> from foretrain.storage.reader import StudyReader
        >>> store = UrlStore("memory://example")
        >>> _ = store.begin(RunInfo(run="resnet"))
        >>> store.append(Observation("resnet", "val_loss", 0.7, Counts(samples=640, steps=10)))
        True
        >>> store.finish("finished")
        >>> store.close()
        >>> StudyReader(store.study_url).read().runs["resnet"].state
        'finished'
    """

    def __init__(
        self, url: str, study: str = "default", *, spool: Path | None = None, pace: Pace | None = None
    ) -> None:
        self._url = url
        self._study = study
        self._spool_root = spool_root(url, spool)
        self._pace = pace or Pace()
        self._reset()

    def _reset(self) -> None:
        self._pid: int | None = None
        self._spool = SpoolFolder(self._spool_root)
        self._lines = ObservationStore(self._spool.path, self._study, attempt=UNNUMBERED)
        self._uploader: Uploader | None = None
        self._error = ""
        self._state = "failed"

    def __getstate__(self) -> dict[str, Any]:
        """Only where it writes: a copy begins its own attempt."""
        return {name: self.__dict__[name] for name in ("_url", "_study", "_spool_root", "_pace")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    @property
    def study_url(self) -> str:
        """The study's folder in the store."""
        return join(self._url, folder_name(self._study))

    @property
    def study_dir(self) -> Path:
        """Where the study can be read on this machine while the attempt lasts: own lines, others copied."""
        return self._lines.study_dir

    @property
    def info(self) -> RunInfo | None:
        """The run under way; its attempt stands for the newest, as only the thread asks for the number."""
        return self._lines.info

    @property
    def unsaved(self) -> tuple[Observation, ...]:
        """The observations that are only in memory, oldest first: those that the spool could not take."""
        return self._lines.unsaved

    @property
    def unsaved_schedule(self) -> ScheduleUpdate | None:
        """What of the schedule is only in memory."""
        return self._lines.unsaved_schedule

    @property
    def deleted(self) -> bool:
        """Never: lines that have arrived leave the spool, and what is missing there may be in the store."""
        return False

    @property
    def fault(self) -> str | None:
        """What is wrong, what it means and what to do, as sentences for a warning; None while all is well."""
        parts = (self._lines.fault, self._error, self._uploader and self._uploader.fault)
        return " ".join(part for part in parts if part) or None

    def begin(self, info: RunInfo) -> RunInfo:
        """Starts an attempt, as `ObservationStore.begin`."""
        self.close()
        self._reset()
        self._pid = os.getpid()
        try:
            self._spool.make()
        except OSError as error:
            self._error = f"The spool {self._spool.path} cannot be made or locked ({describe(error)})."
        begun = self._lines.begin(info)
        try:
            self._uploader = Uploader(self._url, self.study_dir.name, self._spool, self._pace)
        except Exception as error:
            self._error = f"Observations stay in {self._spool.path}: no thread for them ({describe(error)})."
        return begun

    def append(self, observation: Observation, schedule: ScheduleUpdate | None = None) -> bool:
        """Records one observation, as `ObservationStore.append`; whether all up to it is in the spool."""
        if not self._is_open():
            return False
        written = self._lines.append(observation, schedule)
        self._news()
        return written

    def tell(self, schedule: ScheduleUpdate | None) -> None:
        """Records what is new of the run's schedule, where no observation comes with it."""
        if schedule is not None and self._is_open():
            self._lines.tell(schedule)
            self._news()

    def sync(self) -> None:
        """Waits until this machine's disk has what was written, and asks for an upload soon."""
        if self._is_open():
            self._lines.sync()
            self._news(sync=True)

    def finish(self, state: str) -> None:
        """Records how the attempt ended, once, and syncs."""
        if self._is_open():
            self._state = state
            self._lines.finish(state)
            self._news(sync=True)

    def close(self) -> None:
        """Waits a little for the store, and ends the attempt.

        At most five seconds after `finish("finished")` and one otherwise, and no longer than a failing try:
        the thread goes on as long as the process does, and what is left then is brought by the next one.
        """
        if self._is_open() and self._uploader is not None:
            self._lines.close()
            self._pid = None
            self._uploader.close(WAIT.get(self._state, WAIT_FAILED))

    def _news(self, *, sync: bool = False) -> None:
        if self._uploader is not None:
            self._uploader.tell(sync=sync)

    def _is_open(self) -> bool:
        return self._pid == os.getpid()
