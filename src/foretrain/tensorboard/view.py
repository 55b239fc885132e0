"""What the Scaling tab shows: pure functions from rows to the page's JSON."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from foretrain.axes import AXES
from foretrain.findings import record_line
from foretrain.report import JointReport
from foretrain.tensorboard.plain import MAX_ITEMS, MAX_POINTS, items, number, positive, short, text
from foretrain.tensorboard.rows import Entry, band, projection
from foretrain.tensorboard.words import amount, between, figure, unit

if TYPE_CHECKING:
    from foretrain.analysis import RunCurve

NO_LAW = ("too_few_points", "not_decreasing")
"""Statuses of a run whose projection is no law, and that is not shown first."""

_DRAWN = 12_000  # points of all runs together; beyond it every run is thinned further


def chosen(
    entries: Iterable[Entry], *, study: str | None = None, axis: str | None = None
) -> tuple[list[Entry], dict[str, Any]]:
    """Picks the runs of one study that are counted along one data axis.

    Args:
        entries: The runs that have a report on the metric.
        study: Name of the study; the largest one if None or unknown.
        axis: Name of the data axis; the most common one if None or unknown.

    Returns:
        The runs, smallest model first, and the selection with what else could be chosen.
    """
    entries = list(entries)
    studies = Counter(item.study for item in entries)
    study = study if study in studies else _most_common(studies)
    entries = [item for item in entries if item.study == study]
    axes = Counter(item.axis for item in entries)
    axis = axis if axis in axes else _most_common(axes)
    entries = [item for item in entries if item.axis == axis]
    entries.sort(key=lambda item: (item.params is None, item.params or 0.0, natural(item.run)))
    return entries, {"study": study, "studies": sorted(studies), "axis": axis, "axes": sorted(axes)}


def runs_view(
    entries: Sequence[Entry],
    *,
    metric: str,
    selection: dict[str, Any],
    unreadable: dict[str, str],
    along: str | None = None,
) -> dict[str, Any]:
    """What the page shows of the runs.

    Args:
        entries: The runs, as `chosen` gives them.
        metric: Name of the metric.
        selection: The selection, as `chosen` gives it.
        unreadable: The reason by run, for runs whose report could not be read.
        along: Name of the axis that the runs are drawn along; the selection's if None or not counted.

    Returns:
        Plain JSON values without NaN.
    """
    axis = selection["axis"] or ""
    counted = {name for item in entries for name in item.counted}
    choices = [name for name in AXES if name in counted or name == axis] or [axis]
    along = along if along in choices else axis
    if along != axis:
        entries = [item.along(along) for item in entries]
    limit = max(12, min(MAX_POINTS, _DRAWN // max(1, len(entries))))
    unflagged = [item for item in entries if not item.flagged] or list(entries)
    good = [item for item in unflagged if item.row["status"] not in NO_LAW] or unflagged
    default = max(good, key=lambda item: (item.params or 0.0, len(item.points)), default=None)
    return {
        "metric": metric,
        **selection,
        "data_label": unit(along),
        "axis_label": unit(axis),
        "axis_labels": [[name, unit(name)] for name in selection["axes"]],
        "along": along,
        "along_labels": [[name, unit(name)] for name in choices],
        "runs": [item.shown(limit) for item in entries],
        "default_run": None if default is None else default.run,
        "track": record_line(*map(sum, zip(*(_track(item) for item in entries), strict=True)))
        if entries
        else "",
        "unreadable": [[run, text(reason)] for run, reason in sorted(unreadable.items())],
    }


def _track(item: Entry) -> list[int]:
    """A finished run's past forecasts: how many, and how many were inside their interval."""
    track: list[int] = item.row["track"]
    return track if item.row["state"] == "finished" else [0, 0]


def law_curves(entries: Iterable[Entry], exclude: Collection[str]) -> list[RunCurve]:
    """The runs that enter the law across the runs: of known size, not left out, and not resumed as another.

    Args:
        entries: The runs, as `chosen` gives them.
        exclude: Names of the runs to leave out.
    """
    entries = list(entries)
    gone = {run for run, _ in _resumed(entries)}
    return [
        curve_of(item, entries)
        for item in entries
        if item.params is not None and item.points and item.run not in exclude and item.run not in gone
    ]


def curve_of(entry: Entry, entries: Sequence[Entry]) -> RunCurve:
    """A run as the analysis takes it, with the runs that it goes on from as TensorBoard names them."""
    # Here and not above: the analysis loads scipy, which TensorBoard's start should not wait for.
    from foretrain.analysis import RunCurve

    past = {_listed_as(name, entry): x for name, x in entry.past.items()}
    for other in entries:
        # A run that was logged twice: its first log directory ends where the second goes on.
        if other.kept_as == entry.kept_as and other.points and other.points[:1] == entry.points[:1]:
            ends, end = (natural(item.run) for item in (other, entry))
            if (other.points[-1][0], ends) < (entry.points[-1][0], end):
                past[other.run] = other.points[-1][0]
    return RunCurve(
        run=entry.run,
        params=entry.params or 0.0,
        points=entry.points,
        conventions=entry.conventions,
        past=past,
        finished=entry.finished,
        entering=entry.entering,
    )


def _listed_as(name: str, entry: Entry) -> str:
    """The name that TensorBoard lists a run by, whose log directory may be above or below the records' root.

    Args:
        name: The run's name in the records of its study.
        entry: Another run of the study.
    """
    if entry.run.endswith(entry.kept_as):
        return entry.run.removesuffix(entry.kept_as) + name
    return name.removeprefix(entry.kept_as.removesuffix(entry.run))


def _resumed(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    """The runs that another one stands for, and which."""
    if not any(item.past for item in entries) and len({item.kept_as for item in entries}) == len(entries):
        return []
    from foretrain.analysis import resumed_as

    return list(resumed_as([curve_of(item, entries) for item in entries]).items())


def law_view(
    entries: Sequence[Entry], joint: JointReport, *, metric: str, axis: str, exclude: Collection[str]
) -> dict[str, Any]:
    """What the page shows of the law across the runs.

    Args:
        entries: The runs, as `chosen` gives them.
        joint: What the runs of several sizes say together.
        metric: Name of the metric.
        axis: Name of the data axis.
        exclude: Names of the runs that were left out.

    Returns:
        Plain JSON values without NaN.
    """
    at_data = positive(joint.at_data)
    if at_data is None:  # no law: show the errors where every run that may be compared has been
        lasts = [item.points[-1][0] for item in entries if item.points and item.run not in exclude]
        at_data = min(lasts, default=None)
    used, resumed = set(joint.runs), dict(_resumed(entries))
    projections = [item for item in map(projection, joint.projections[:MAX_ITEMS]) if item is not None]
    view: dict[str, Any] = {
        "status": text(joint.status),
        "sentence": text(joint.sentence),
        "at_data": short(at_data),
        "at_label": None if at_data is None else f"{amount(at_data)} {unit(axis)}",
        "by_size": band(joint.by_size),
        "projections": sorted(
            (item for item in projections if item["params"] is not None), key=lambda item: item["params"]
        ),
        "doubts": [
            doubt
            for doubt in dict.fromkeys(doubt for item in projections for doubt in item["doubts"])
            if doubt != text(joint.sentence)
        ],
        "finals": [] if at_data is None else _finals(entries, at_data, used),
        "left_out": [
            [item.run, _reason(item, exclude, resumed)]
            for item in entries
            if item.run in exclude or item.run in resumed or (used and item.run not in used)
        ],
        "law": None if joint.fit is None else text(joint.fit.law),
        "parameters": []
        if joint.fit is None
        else [[text(name), short(number(v))] for name, v in items(joint.fit.parameters)],
    }
    view["headline"] = _law_headline(view, metric)
    return view


def natural(name: str) -> tuple[Any, ...]:
    """A sort key that puts "width9" before "width10"."""
    return tuple(
        (int(part[:300]), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)
    )


def value_at(entry: Entry, x: float) -> tuple[float, bool] | None:
    """A run's error at an amount of data: between its points, else on its curve.

    Returns:
        The error and whether it was measured, or None where neither reaches it.
    """
    points = entry.points
    if points and points[0][0] <= x <= points[-1][0] * (1 + 1e-6):
        return _interpolate(points, x), True
    curve = entry.curve
    if curve is not None and curve["x"][0] <= x <= curve["x"][-1]:
        return _interpolate(tuple(zip(curve["x"], curve["median"], strict=True)), x), False
    return None


def _interpolate(points: Sequence[tuple[float, float]], x: float) -> float:
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x0 <= x <= x1 and x0 < x1:
            share = (math.log(x) - math.log(x0)) / (math.log(x1) - math.log(x0))
            return math.exp((1 - share) * math.log(y0) + share * math.log(y1))
    return points[-1][1]


def _finals(entries: Sequence[Entry], at_data: float, used: Collection[str]) -> list[dict[str, Any]]:
    finals = []
    for item in entries:
        found = None if item.params is None else value_at(item, at_data)
        if found is not None:
            finals.append(
                {
                    "name": item.run,
                    "params": short(item.params),
                    "value": short(found[0]),
                    "measured": found[1],
                    "used": item.run in used,
                }
            )
    return finals


def _reason(item: Entry, exclude: Collection[str], resumed: Mapping[str, str]) -> str:
    if item.run in resumed:
        return f"resumed as {resumed[item.run]}"
    if item.run in exclude:
        return "flagged" if item.flagged else "not among the runs shown"
    if item.params is None:
        return "its number of parameters is not known"
    if item.entering is not None and item.entering.reason and not item.entering.spans:
        return item.entering.reason
    return "not comparable (counted by other conventions, or too few points)"


def _law_headline(view: dict[str, Any], metric: str) -> str:
    """The largest model's projection in words."""
    if not view["projections"]:
        return ""
    item = view["projections"][-1]
    return (
        f"A model of {amount(item['params'])} parameters is projected to reach {metric} "
        f"{figure(item['median'])}{between(item)}."
    )


def _most_common(counts: Counter[str]) -> str | None:
    return min(counts, key=lambda name: (-counts[name], name), default=None)
