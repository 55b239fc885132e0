"""The Scaling tab's server side: a few JSON routes and the page's files, read-only."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensorboard.plugins import base_plugin
from werkzeug import wrappers

from foretrain.report import JointReport
from foretrain.tensorboard.answers import answers_view, targets
from foretrain.tensorboard.frontier import Frontier, frontier_view, study_frontier
from foretrain.tensorboard.law_view import law_curves, law_view
from foretrain.tensorboard.metadata import PLUGIN_NAME, TAB_NAME
from foretrain.tensorboard.once import Once
from foretrain.tensorboard.reading import MAX_RUNS, Look, Runs
from foretrain.tensorboard.run_view import run_view
from foretrain.tensorboard.view import runs_view
from foretrain.tensorboard.web import as_json, file_route, json_route

if TYPE_CHECKING:
    from foretrain.analysis import RunCurve

log = logging.getLogger(__name__)

_ANSWERS_KEPT = 24
_LISTS_KEPT = 4  # of the runs, as JSON: megabytes each with a thousand runs
_FITS_AT_ONCE = 2  # a law of many runs takes seconds, and one of few should not wait for it
_STATIC = Path(__file__).parent / "static"
_TYPES = {".css": "text/css", ".js": "text/javascript"}
_FILES = sorted(path for path in _STATIC.iterdir() if path.suffix in _TYPES)


def _version() -> str:
    """What changes whenever one of the page's files does, so that a browser may keep them."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in _FILES)).hexdigest()[:12]


FOLDER = f"/{_version()}"
"""Folder of the page's files, in the addresses of the plugin."""


class ScalingPlugin(base_plugin.TBPlugin):  # type: ignore[misc]
    """Serves the Scaling tab from what TensorBoard has read; touches no other file and stores nothing.

    It keeps, in memory and under a lock, the runs already read and the laws already fitted, and nothing else.
    """

    plugin_name = PLUGIN_NAME

    def __init__(self, context: base_plugin.TBContext) -> None:
        self._runs = Runs(context.data_provider)
        self._answers = Once(_ANSWERS_KEPT, _FITS_AT_ONCE)
        self._told = Once(_LISTS_KEPT, 1)

    def is_active(self) -> bool:
        """False: TensorBoard itself shows the tab as soon as an event carries our plugin's name."""
        return False

    def data_plugin_names(self) -> tuple[str]:
        """Whose data the tab reads: only ours."""
        return (PLUGIN_NAME,)

    def frontend_metadata(self) -> base_plugin.FrontendMetadata:
        """How TensorBoard shows the tab."""
        return base_plugin.FrontendMetadata(es_module_path=f"{FOLDER}/index.js", tab_name=TAB_NAME)

    def get_plugin_apps(self) -> dict[str, Callable[..., Any]]:
        """The routes. Files come from an exact table, so there is no path to escape from."""
        apps: dict[str, Callable[..., Any]] = {
            "/runs": json_route(self._runs_route),
            "/law": json_route(self._law_route),
            "/frontier": json_route(self._frontier_route),
            "/answer": json_route(self._answer_route),
            "/run": json_route(self._run_route),
        }
        for path in _FILES:
            apps[f"{FOLDER}/{path.name}"] = file_route(path, _TYPES[path.suffix])
        return apps

    def runs_impl(
        self,
        ctx: Any,
        experiment: str,
        *,
        metric: str | None,
        study: str | None,
        axis: str | None,
        along: str | None = None,
    ) -> dict[str, Any]:
        """What the page shows of the runs: see `view.runs_view`.

        Args:
            ctx: TensorBoard's request context.
            experiment: TensorBoard's experiment id.
            metric: Name of the metric; the one that most runs have if None or unknown.
            study: Name of the study; the largest one if None or unknown.
            axis: Name of the data axis; the most common one if None or unknown.
            along: Name of the axis that the runs are drawn along; `axis` if None or not counted.
        """
        look = self._runs.look(ctx, experiment, metric=metric, study=study, axis=axis)
        return _no_runs() if look is None else _runs(look, along)

    def law_impl(
        self,
        ctx: Any,
        experiment: str,
        *,
        at: float | None = None,
        exclude: Iterable[int] = (),
        version: str = "",
        **selection: Any,
    ) -> dict[str, Any]:
        """What the page shows of the law across the runs: see `view.law_view`.

        Args:
            ctx: TensorBoard's request context.
            experiment: TensorBoard's experiment id.
            at: The data that the sizes are compared at, in the axis's unit; what all have reached if None.
            exclude: Which runs to leave out, as positions in the answer of `runs_impl`.
            version: The version of that answer; if the runs have changed since, so may the positions, and
                the answer is only `{"outdated": true}`.
            selection: `metric`, `study` and `axis` as for `runs_impl`.
        """
        look = self._runs.look(ctx, experiment, **selection)
        if look is None or look.version != version:
            return {"outdated": True}
        left_out = look.without(exclude)
        joint = self._answers.get(
            ("law", experiment, *look.key, left_out, at), lambda: _fit(law_curves(look.entries, left_out), at)
        )
        return law_view(
            look.entries, joint, metric=look.metric, axis=look.selection["axis"], exclude=left_out, at=at
        )

    def frontier_impl(
        self, ctx: Any, experiment: str, *, exclude: Iterable[int] = (), version: str = "", **selection: Any
    ) -> dict[str, Any]:
        """What the page shows of size against compute: see `frontier.frontier_view`; as `law_impl`."""
        look = self._runs.look(ctx, experiment, **selection)
        if look is None or look.version != version:
            return {"outdated": True}
        found, key = self._frontier(experiment, look, exclude)
        shown: dict[str, Any] = self._answers.get(
            ("view", *key), lambda: frontier_view(found, metric=look.metric)
        )
        return shown

    def answer_impl(
        self,
        ctx: Any,
        experiment: str,
        asked: dict[str, float],
        *,
        exclude: Iterable[int] = (),
        version: str = "",
        **selection: Any,
    ) -> dict[str, Any]:
        """What the runs answer to typed targets: see `frontier.answers_view`; as `law_impl`."""
        look = self._runs.look(ctx, experiment, **selection)
        if look is None or look.version != version:
            return {"outdated": True}
        found, _ = self._frontier(experiment, look, exclude)
        return answers_view(found, asked, metric=look.metric)

    def run_impl(self, ctx: Any, experiment: str, run: str, **selection: Any) -> dict[str, Any]:
        """What the page shows of one run: see `run_view.run_view`; `{"gone": true}` where it is not there.

        Args:
            ctx: TensorBoard's request context.
            experiment: TensorBoard's experiment id.
            run: Name of the run, as TensorBoard lists it.
            selection: `metric`, `study` and `axis` as for `runs_impl`.
        """
        look = self._runs.look(ctx, experiment, **selection)
        item = None if look is None else next((one for one in look.entries if one.run == run), None)
        if look is None or item is None:
            return {"gone": True}
        return run_view(item, self._runs.scalars(ctx, experiment, item, look.metric), look.metric)

    def _frontier(
        self, experiment: str, look: Look, exclude: Iterable[int]
    ) -> tuple[Frontier, tuple[Any, ...]]:
        left_out = look.without(exclude)
        key = ("frontier", experiment, *look.key, left_out)

        def find() -> Frontier:
            axis = look.selection["axis"]
            try:
                return study_frontier(look.entries, metric=look.metric, axis=axis, exclude=left_out)
            except Exception:  # the runs can still be shown
                log.exception("foretrain: the compute-optimal frontier could not be found")
                return Frontier(axis, why="The frontier could not be found: TensorBoard's log says why.")

        return self._answers.get(key, find), key

    def _runs_route(self, request: wrappers.Request) -> str:
        ctx, experiment = _place(request)
        look = self._runs.look(ctx, experiment, **_selection(request))
        if look is None:
            return as_json(_no_runs())
        along = request.args.get("along", "")[:40]
        key = ("runs", experiment, *look.key, len(look.entries), len(look.unreadable), along)
        told: str = self._told.get(key, lambda: as_json(_runs(look, along)))
        return told

    def _law_route(self, request: wrappers.Request) -> dict[str, Any]:
        return self.law_impl(
            *_place(request), at=targets(request.args.items()).get("data"), **_listing(request)
        )

    def _frontier_route(self, request: wrappers.Request) -> dict[str, Any]:
        return self.frontier_impl(*_place(request), **_listing(request))

    def _answer_route(self, request: wrappers.Request) -> dict[str, Any]:
        asked = targets(request.args.items())
        return self.answer_impl(*_place(request), asked, **_listing(request))

    def _run_route(self, request: wrappers.Request) -> dict[str, Any]:
        return self.run_impl(*_place(request), request.args.get("run", ""), **_selection(request))


def _no_runs() -> dict[str, Any]:
    return {"metric": None, "metrics": [], "runs": [], "version": "", "hidden": 0}


def _runs(look: Look, along: str | None) -> dict[str, Any]:
    view = runs_view(
        look.entries,
        metric=look.metric,
        selection=look.selection,
        unreadable=look.unreadable,
        along=along,
    )
    return {**view, "metrics": look.metrics, "hidden": look.hidden, "version": look.version}


def _fit(curves: list[RunCurve], at: float | None) -> JointReport:
    from foretrain.analysis import joint_report  # loads scipy: not while TensorBoard starts

    try:
        return joint_report(curves, at_data=at)
    except Exception:  # the runs can still be shown
        log.exception("foretrain: the law across the runs could not be fitted")
        return JointReport("failed", "The law could not be fitted: TensorBoard's log says why.")


def _place(request: wrappers.Request) -> tuple[Any, str]:
    from tensorboard import plugin_util

    return plugin_util.context(request.environ), plugin_util.experiment_id(request.environ)


def _selection(request: wrappers.Request) -> dict[str, Any]:
    return {name: request.args.get(name) for name in ("metric", "study", "axis")}


def _listing(request: wrappers.Request) -> dict[str, Any]:
    positions = request.args.get("exclude", "")[: 8 * MAX_RUNS].split(",")
    return _selection(request) | {
        "exclude": [int(item) for item in positions if item.isdecimal() and len(item) < 8],
        "version": request.args.get("version", ""),
    }
