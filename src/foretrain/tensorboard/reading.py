"""The runs as TensorBoard has read them: every report is taken once, and again when its run has moved on."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tensorboard.data import provider

from foretrain.report import ReportError
from foretrain.tensorboard.metadata import PLUGIN_NAME, metric_of, report_tag
from foretrain.tensorboard.rows import Entry, entry
from foretrain.tensorboard.run_view import Series, series_of
from foretrain.tensorboard.summary import read_report
from foretrain.tensorboard.view import chosen, natural

log = logging.getLogger(__name__)

MAX_RUNS = 2000
_RUNS_A_READ = 128  # TensorBoard's data server answers in one message of at most 256 MiB
_SCALARS_READ = 1000  # of a series of scalars, TensorBoard keeps as many

_Key = tuple[int, float]  # newest step and wall time of a series: what tells whether it has changed
_Read = Entry | str  # a run's entry, or the reason why it could not be read


@dataclass(frozen=True)
class Look:
    """What one request looks at: the runs of one metric, study and data axis, and what else there is.

    `version` changes whenever a run of the metric does; `hidden` runs were beyond the limit.
    """

    metric: str
    metrics: list[str]
    entries: list[Entry]
    selection: dict[str, Any]
    unreadable: dict[str, str]
    hidden: int
    version: str

    @property
    def key(self) -> tuple[Any, ...]:
        """What changes whenever the answer to a question about these runs may."""
        return self.metric, self.selection["study"], self.selection["axis"], self.version

    def without(self, exclude: Iterable[int]) -> frozenset[str]:
        """Names of the runs at these positions; others are ignored."""
        names = [item.run for item in self.entries]
        return frozenset(names[i] for i in exclude if 0 <= i < len(names))


class Runs:
    """Reads reports through TensorBoard's data provider alone, and holds those already read, under a lock.

    Args:
        data: The data provider.
    """

    def __init__(self, data: Any) -> None:
        self._data = data
        self._lock = threading.Lock()
        self._read: dict[tuple[str, str, str], tuple[_Key, _Read]] = {}

    def look(
        self, ctx: Any, experiment: str, *, metric: str | None, study: str | None, axis: str | None
    ) -> Look | None:
        """The runs of one metric, study and data axis; None where no run has a report.

        Args:
            ctx: TensorBoard's request context.
            experiment: TensorBoard's experiment id.
            metric: Name of the metric; the one that most runs have if None or unknown.
            study: Name of the study; the largest one if None or unknown.
            axis: Name of the data axis; the most common one if None or unknown.
        """
        series = self._series(ctx, experiment)
        metrics = {name for found in series.values() for name in found}
        if metric not in metrics:
            counts = {name: sum(name in found for found in series.values()) for name in metrics}
            metric = min(counts, key=lambda name: (-counts[name], name), default=None)
        if metric is None:
            return None
        keys = {run: found[metric] for run, found in series.items() if metric in found}
        names = sorted(keys, key=natural)[:MAX_RUNS]
        read = self._entries(ctx, experiment, metric, {name: keys[name] for name in names})
        readable = [item for item in read.values() if isinstance(item, Entry)]
        entries, selection = chosen(readable, study=study, axis=axis)
        return Look(
            metric=metric,
            metrics=sorted(metrics, key=natural),
            entries=entries,
            selection=selection,
            unreadable={name: item for name, item in read.items() if isinstance(item, str)},
            hidden=len(keys) - len(names),
            version=_version(metric, ((name, *keys[name]) for name in names)),
        )

    def scalars(self, ctx: Any, experiment: str, item: Entry, metric: str) -> Series:
        """What a monitor logged of a run's end while it was trained; empty where that cannot be read."""
        only = {"experiment_id": experiment, "plugin_name": "scalars"}
        try:
            listed = self._data.list_scalars(
                ctx, **only, run_tag_filter=provider.RunTagFilter(runs=[item.run])
            )
            start = series_of(listed.get(item.run, {}), metric)
            if start is None:
                return {}
            names = ("projected_end", "projected_end_lower", "projected_end_upper", item.axis)
            read = self._data.read_scalars(
                ctx,
                **only,
                downsample=_SCALARS_READ,
                run_tag_filter=provider.RunTagFilter(runs=[item.run], tags=[start + name for name in names]),
            ).get(item.run, {})
        except Exception:  # the rest of the run can still be shown
            log.exception("foretrain: the past projections of a run could not be read")
            return {}
        return {
            tag.removeprefix(start): [(datum.step, float(datum.value)) for datum in data]
            for tag, data in read.items()
        }

    def _series(self, ctx: Any, experiment: str) -> dict[str, dict[str, _Key]]:
        """Newest step and wall time, by run and metric."""
        listed = self._data.list_tensors(ctx, experiment_id=experiment, plugin_name=PLUGIN_NAME)
        series: dict[str, dict[str, _Key]] = {}
        for run, tags in listed.items():
            for tag, found in tags.items():
                metric = metric_of(tag)
                if metric is not None:
                    series.setdefault(run, {})[metric] = (found.max_step, found.max_wall_time)
        return series

    def _entries(self, ctx: Any, experiment: str, metric: str, keys: dict[str, _Key]) -> dict[str, _Read]:
        """The newest report of each run; only those that have changed are read again."""
        with self._lock:
            stale = []
            for run, key in keys.items():
                held = self._read.get((experiment, metric, run))
                if held is None or held[0] != key:
                    stale.append(run)
            for start in range(0, len(stale), _RUNS_A_READ):
                runs = stale[start : start + _RUNS_A_READ]
                tag = report_tag(metric)
                found = self._data.read_tensors(
                    ctx,
                    experiment_id=experiment,
                    plugin_name=PLUGIN_NAME,
                    downsample=1,  # the newest
                    run_tag_filter=provider.RunTagFilter(runs=runs, tags=[tag]),
                )
                for run in runs:
                    data = found.get(run, {}).get(tag)
                    if data:
                        self._read[experiment, metric, run] = (keys[run], _entry(run, data[-1]))
            gone = [k for k in self._read if k[:2] == (experiment, metric) and k[2] not in keys]
            for k in gone:
                del self._read[k]
            held_now = {run: self._read.get((experiment, metric, run)) for run in keys}
            return {run: held[1] for run, held in held_now.items() if held is not None}


def _entry(run: str, datum: Any) -> _Read:
    try:
        return entry(run, read_report(datum))
    except ReportError as error:
        return str(error)
    except Exception as error:  # one run's payload must not hide the others
        log.warning("foretrain: the report of run %r could not be read (%r).", run, error)
        return "Expected a report, got something else."


def _version(metric: str, keys: Iterable[tuple[Any, ...]]) -> str:
    return hashlib.sha256(repr([metric, *keys]).encode("utf-8", "replace")).hexdigest()[:16]
