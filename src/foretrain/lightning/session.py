"""One fit of a Trainer, from its first observation on: a store, a fitter, and what was already said."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from foretrain.fitter import BackgroundFitter
from foretrain.flags import Flag
from foretrain.lightning.facts import Place
from foretrain.lightning.host import warn
from foretrain.lightning.logging import (
    STALE,
    anneals,
    flag_counts,
    introduce,
    logging_step,
    scalar_names,
    scalars,
    show,
    tell,
    write_flag,
)
from foretrain.lightning.own_record import OwnRecord
from foretrain.lightning.scheme import Names
from foretrain.lightning.settings import Settings
from foretrain.lightning.standard import lay_out, sum_up, tabulate
from foretrain.observation import Observation, RunInfo, ScheduleUpdate
from foretrain.report import Report
from foretrain.storage.url_store import Store, UrlStore, open_store

SHOW_SECONDS = 5.0  # at most one report in so many seconds goes into the event file,
SHOW_SHARE = 0.01  # and in so much of the time since the first: some hundreds in a run, of tens of kilobytes
DRAW_SECONDS = 60.0  # a picture is drawn of fits that took this long: a machine's first may take seconds
MAX_STALE = 300  # characters of what went wrong, in a report that fits failed to replace


class Session:
    """Keeps observations, asks for fits, and hands out reports. Lives on rank zero while one fit lasts.

    Only `ScalingLawMonitor` writes to it. It holds a file and a child process, so it is never copied and
    never pickled. In a process forked from its own, such as a data loader's worker, it does nothing: there an
    event file's writer has lost its thread, and would wait for it forever.

    Args:
        settings: What the user asked for.
        place: Where observations are kept.
        info: The run.
        axis: Name of the data axis.
        names: Under which names reports are logged.

    Attributes:
        axis: Name of the data axis, fixed for the session.
    """

    def __init__(
        self, settings: Settings, place: Place, info: RunInfo, axis: str, names: Names | None = None
    ) -> None:
        self._settings = settings
        self._names = names or Names()
        self.axis = axis
        self._fitter: BackgroundFitter | None = None
        self._named = False
        self._step = 0
        self._newest: Report | None = None
        self._written: Report | None = None
        self._began = time.monotonic()
        self._shown = -math.inf
        self._info = info
        self._told = False
        self._pid = os.getpid()
        self._own = OwnRecord()
        self._store = _store_at(place.root, settings.study)
        self._store.begin(info)

    @property
    def info(self) -> RunInfo:
        """The run, with the number of this attempt."""
        return self._store.info or self._info

    @property
    def due(self) -> bool:
        """Whether a report may have come."""
        return self._fitter is not None and self._fitter.due

    def keep(self, observation: Observation, schedule: ScheduleUpdate | None = None) -> None:
        """Puts an observation and what is new of the schedule on disk."""
        self._own.restore(self._store)
        self._store.append(observation, schedule)
        self._own.keep(observation)
        self._own.tell(schedule)

    def tell(self, schedule: ScheduleUpdate | None) -> None:
        """Puts what is new of the schedule where the observations are."""
        self._own.restore(self._store)
        self._store.tell(schedule)
        self._own.tell(schedule)

    def ask(self) -> None:
        """Asks for a fit of all that is kept; returns at once."""
        if not self._settings.fit or self._is_foreign():
            return
        if self._fitter is None:
            self._fitter = BackgroundFitter()
        request: dict[str, Any] = {
            "study_dir": str(self._store.study_dir),
            "run": self.info.run,
            "question": self._settings.question(self.info.run, self.axis),
        }
        unsaved, schedule = self._store.unsaved, self._store.unsaved_schedule
        if unsaved:
            request["unsaved"] = {
                "info": self.info.to_json(),
                "observations": [observation.to_json() for observation in unsaved],
                **({} if schedule is None else {"schedule": schedule.to_json()}),
            }
        self._fitter.submit(request, glance=True)

    def fetch(self, wait: float = 0.0, give_up: Callable[[], bool] | None = None) -> Report | None:
        """The newest report that was not handed out yet, or None; waits for one under way if told to.

        Once fits fail, the last report is handed out once more, marked stale.

        Args:
            wait: Most seconds to wait.
            give_up: Ends the wait once it says true; see `BackgroundFitter.wait`.
        """
        fitter, last = self._fitter, self._newest
        if fitter is None or self._is_foreign():
            return None
        report: Report | None = fitter.poll()
        if wait > 0 and fitter.pending:
            report = fitter.wait(wait, give_up=give_up) or report
        if report is None and fitter.stale and last is not None and not last.stale:
            report = replace(last, stale=(fitter.fault or "The background fit failed.")[:MAX_STALE])
        return report

    def adopt(self, trainer: Any, report: Report) -> Iterator[str]:
        """Logs a report through every logger, at the step of now: never at the step it was asked for.

        Of a stale one only that it is: its values were logged when it came.

        Yields:
            Sentences about loggers that failed.
        """
        values = scalars(report, self._settings.targets, self._settings.target_params)
        if report.stale:
            x = f"scaling/{report.axis}"
            values = {STALE: 1.0, **({x: values[x]} if x in values else {})} if self._named else {}
        if values and not self._named:
            # The first call names every scalar: a CSV file is written anew for each name that comes late.
            self._named = True
            planned = report.planned is not None
            names = scalar_names(
                report.axis,
                self._settings.targets,
                self._settings.target_params,
                planned=planned,
                annealed=anneals(report),
            )
            values = dict.fromkeys(names, math.nan) | values
            introduce(trainer.loggers, self._names.prefix, report.axis)
            logged = dict(zip(values, self._names.of(values), strict=True))
            yield from lay_out(trainer.loggers, report.metric, logged, values)
        self._step = max(self._step, logging_step(trainer))
        yield from tell(trainer.loggers, self._names.of(values), self._step)
        self._newest = report
        yield from self.show(trainer)

    def fetch_flags(self) -> tuple[Flag, ...] | None:
        """The run's flags, where they were told since the last call."""
        return None if self._fitter is None or self._is_foreign() else self._fitter.poll_flags()

    def tell_flag(self, trainer: Any, flag: Flag, flags: tuple[Flag, ...]) -> Iterator[str]:
        """Logs a flag that is new: as text, and among the scalars, once these have been named.

        Args:
            trainer: The Trainer.
            flag: The flag.
            flags: All flags of the run.

        Yields:
            Sentences about loggers that failed.
        """
        self._step = max(self._step, logging_step(trainer))
        yield from write_flag(trainer.loggers, flag, self._step, f"{self._names.prefix}flags")
        if self._newest is not None and self._newest.flags != flags:
            self._newest = replace(self._newest, flags=flags)  # the tab need not wait for the next fit
            counts = self._names.of(flag_counts(flags)) if self._named else {}
            yield from tell(trainer.loggers, counts, self._step)

    def show(self, trainer: Any) -> Iterator[str]:
        """Writes the newest report where TensorBoard finds it, unless it is there; not every one at once.

        Yields:
            Sentences about loggers that failed.
        """
        if self._newest is None or self._newest is self._written or self._is_foreign():
            return
        now = time.monotonic()
        if now - self._shown >= max(SHOW_SECONDS, SHOW_SHARE * (now - self._began)):
            self._shown, self._written = now, self._newest
            self._step = max(self._step, logging_step(trainer))
            yield from show(trainer.loggers, self._newest, self._step, self._names.report)
            yield from tabulate(trainer.loggers, self._newest, self._step, self._names.prefix)

    def show_last(self, trainer: Any, state: str) -> Iterator[str]:
        """Writes the newest report once more, with how the run ended, which no fit could know.

        Yields:
            Sentences about loggers that failed.
        """
        if self._newest is not None and not self._is_foreign():
            self._step = max(self._step, logging_step(trainer))
            last = replace(self._newest, state=state)
            prefix, draw = self._names.prefix, time.monotonic() - self._began >= DRAW_SECONDS
            yield from show(trainer.loggers, last, self._step, self._names.report)
            yield from tabulate(trainer.loggers, last, self._step, prefix)
            yield from sum_up(trainer.loggers, last, self._step, prefix, draw=draw)

    def faults(self) -> dict[str, str]:
        """What does not work and why, by the part that failed."""
        parts = {"store": self._store, "fitter": self._fitter}
        found = {name: str(part.fault) for name, part in parts.items() if part is not None and part.fault}
        self._told = self._told or "store" in found
        return found

    def sync(self) -> None:
        """Makes the observations survive a power cut, as far as the disk allows."""
        self._store.sync()

    def close(self, state: str) -> None:
        """Ends the record with "finished" or "failed", and lets go of everything."""
        if self._is_foreign():
            return
        try:
            if self._fitter is not None:
                self._fitter.close()
            self._own.restore(self._store)
        finally:
            self._store.finish(state)
            self._store.close()
            if self._store.fault and not self._told:
                warn(self._store.fault)  # what came to light only now

    def _is_foreign(self) -> bool:
        return self._pid != os.getpid()


def _store_at(root: str, study: str) -> Store:
    """The store under a root; where it cannot be used, one that keeps all on this machine and says why.

    A root that the user names is checked when the monitor is made; this may be a logger's.
    """
    try:
        return open_store(root, study)
    except ValueError:
        return UrlStore(root, study)
