"""The Scaling tab's server side: two JSON routes and the page's two files, read-only."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensorboard.backend import http_util
from tensorboard.data import provider
from tensorboard.plugins import base_plugin
from werkzeug import wrappers

from foretrain.report import JointReport, ReportError
from foretrain.tensorboard.metadata import PLUGIN_NAME, TAB_NAME, metric_of, report_tag
from foretrain.tensorboard.rows import Entry, entry
from foretrain.tensorboard.summary import read_report
from foretrain.tensorboard.view import chosen, law_curves, law_view, natural, runs_view

if TYPE_CHECKING:
    from foretrain.analysis import RunCurve

log = logging.getLogger(__name__)

MAX_RUNS = 2000
_RUNS_A_READ = 128  # TensorBoard's data server answers in one message of at most 256 MiB
_LAWS_KEPT = 16
_FITS_AT_ONCE = 2  # a law of many runs takes seconds, and one of few should not wait for it
_STATIC = Path(__file__).parent / "static"
_FILES = {"/index.js": "text/javascript", "/style.css": "text/css"}

_Key = tuple[int, float]  # newest step and wall time of a series: what tells whether it has changed
_Read = Entry | str  # a run's entry, or the reason why it could not be read


@dataclass(frozen=True)
class _Look:
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


class ScalingPlugin(base_plugin.TBPlugin):  # type: ignore[misc]
    """Serves the Scaling tab from what TensorBoard has read; touches no other file and stores nothing.

    It keeps, in memory and under a lock, the runs already read and the laws already fitted. Only the methods
    of this class write them.
    """

    plugin_name = PLUGIN_NAME

    def __init__(self, context: base_plugin.TBContext) -> None:
        self._data = context.data_provider
        self._lock = threading.Lock()
        self._fitting = threading.Semaphore(_FITS_AT_ONCE)
        self._read: dict[tuple[str, str, str], tuple[_Key, _Read]] = {}
        self._laws: OrderedDict[Any, Future[JointReport]] = OrderedDict()

    def is_active(self) -> bool:
        """False: TensorBoard itself shows the tab as soon as an event carries our plugin's name."""
        return False

    def data_plugin_names(self) -> tuple[str]:
        """Whose data the tab reads: only ours."""
        return (PLUGIN_NAME,)

    def frontend_metadata(self) -> base_plugin.FrontendMetadata:
        """How TensorBoard shows the tab."""
        return base_plugin.FrontendMetadata(es_module_path="/index.js", tab_name=TAB_NAME)

    def get_plugin_apps(self) -> dict[str, Callable[..., Any]]:
        """The routes. Files come from an exact table, so there is no path to escape from."""
        apps: dict[str, Callable[..., Any]] = {
            "/runs": _json_route(self._runs_route),
            "/law": _json_route(self._law_route),
        }
        for name, content_type in _FILES.items():
            apps[name] = _file_route(_STATIC / name.lstrip("/"), content_type)
        return apps

    def runs_impl(
        self, ctx: Any, experiment: str, *, metric: str | None, study: str | None, axis: str | None
    ) -> dict[str, Any]:
        """What the page shows of the runs: see `view.runs_view`.

        Args:
            ctx: TensorBoard's request context.
            experiment: TensorBoard's experiment id.
            metric: Name of the metric; the one that most runs have if None or unknown.
            study: Name of the study; the largest one if None or unknown.
            axis: Name of the data axis; the most common one if None or unknown.
        """
        look = self._look(ctx, experiment, metric=metric, study=study, axis=axis)
        if look is None:
            return {"metric": None, "metrics": [], "runs": [], "version": "", "hidden": 0}
        view = runs_view(
            look.entries, metric=look.metric, selection=look.selection, unreadable=look.unreadable
        )
        return {**view, "metrics": look.metrics, "hidden": look.hidden, "version": look.version}

    def law_impl(
        self,
        ctx: Any,
        experiment: str,
        *,
        metric: str | None,
        study: str | None,
        axis: str | None,
        exclude: Iterable[int] = (),
        version: str = "",
    ) -> dict[str, Any]:
        """What the page shows of the law across the runs: see `view.law_view`.

        Args:
            ctx: TensorBoard's request context.
            experiment: TensorBoard's experiment id.
            metric: As for `runs_impl`.
            study: As for `runs_impl`.
            axis: As for `runs_impl`.
            exclude: Which runs to leave out, as positions in the answer of `runs_impl`.
            version: The version of that answer; if the runs have changed since, so may the positions, and
                the answer is only `{"outdated": true}`.
        """
        look = self._look(ctx, experiment, metric=metric, study=study, axis=axis)
        if look is None or look.version != version:
            return {"outdated": True}
        names = [item.run for item in look.entries]
        left_out = frozenset(names[i] for i in exclude if 0 <= i < len(names))
        axis = look.selection["axis"]
        key = (experiment, look.metric, look.selection["study"], axis, look.version, left_out)
        joint = self._law(key, law_curves(look.entries, left_out))
        return law_view(look.entries, joint, metric=look.metric, axis=axis, exclude=left_out)

    def _look(
        self, ctx: Any, experiment: str, *, metric: str | None, study: str | None, axis: str | None
    ) -> _Look | None:
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
        return _Look(
            metric=metric,
            metrics=sorted(metrics, key=natural),
            entries=entries,
            selection=selection,
            unreadable={name: item for name, item in read.items() if isinstance(item, str)},
            hidden=len(keys) - len(names),
            version=_version(metric, ((name, *keys[name]) for name in names)),
        )

    def _law(self, key: Any, curves: list[RunCurve]) -> JointReport:
        """The law across the runs, fitted once for one set of reports however many readers ask."""
        with self._lock:
            kept = self._laws.get(key)
            law = self._laws[key] = kept or Future()
            self._laws.move_to_end(key)
            while len(self._laws) > _LAWS_KEPT:
                self._laws.popitem(last=False)
        if kept is None:
            try:
                with self._fitting:
                    law.set_result(_fit(curves))
            except BaseException as error:  # whoever waits for it must not wait for ever
                law.set_exception(error)
                raise
        return law.result()

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

    def _runs_route(self, request: wrappers.Request) -> dict[str, Any]:
        return self.runs_impl(*_place(request), **_selection(request))

    def _law_route(self, request: wrappers.Request) -> dict[str, Any]:
        positions = request.args.get("exclude", "")[: 8 * MAX_RUNS].split(",")
        return self.law_impl(
            *_place(request),
            **_selection(request),
            exclude=[int(item) for item in positions if item.isdecimal() and len(item) < 8],
            version=request.args.get("version", ""),
        )


def _fit(curves: list[RunCurve]) -> JointReport:
    from foretrain.analysis import joint_report  # loads scipy: not while TensorBoard starts

    try:
        return joint_report(curves)
    except Exception:  # the runs can still be shown
        log.exception("foretrain: the law across the runs could not be fitted")
        return JointReport("failed", "The law could not be fitted: TensorBoard's log says why.")


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


def _place(request: wrappers.Request) -> tuple[Any, str]:
    from tensorboard import plugin_util

    return plugin_util.context(request.environ), plugin_util.experiment_id(request.environ)


def _selection(request: wrappers.Request) -> dict[str, Any]:
    return {name: request.args.get(name) for name in ("metric", "study", "axis")}


def _respond(request: wrappers.Request, body: str | bytes, content_type: str, code: int = 200) -> Any:
    headers = [("Allow", "GET, HEAD")] if code == 405 else None
    return http_util.Respond(request, body, content_type, code=code, headers=headers)


def _json_route(answer: Callable[[wrappers.Request], dict[str, Any]]) -> Callable[..., Any]:
    """A read-only route that answers JSON without NaN, or one plain sentence and never a stack trace."""

    @wrappers.Request.application
    def route(request: wrappers.Request) -> Any:
        if request.method not in ("GET", "HEAD"):
            return _respond(request, "This address only answers GET.", "text/plain", 405)
        try:
            body = json.dumps(answer(request), allow_nan=False)
        except Exception:
            log.exception("foretrain: %s could not be answered", request.path)
            return _respond(
                request, "foretrain could not answer: TensorBoard's log says why.", "text/plain", 500
            )
        return _respond(request, body, "application/json")

    return route


def _file_route(path: Path, content_type: str) -> Callable[..., Any]:
    @wrappers.Request.application
    def route(request: wrappers.Request) -> Any:
        if request.method not in ("GET", "HEAD"):
            return _respond(request, "This address only answers GET.", "text/plain", 405)
        return _respond(request, path.read_bytes(), content_type)

    return route
