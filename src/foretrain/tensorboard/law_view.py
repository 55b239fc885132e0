"""What the Scaling tab shows of the law across the runs: pure functions from rows to the page's JSON."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from foretrain.report import JointReport
from foretrain.tensorboard.plain import MAX_ITEMS, items, number, positive, short, text
from foretrain.tensorboard.rows import Entry, band, projection
from foretrain.tensorboard.view import natural
from foretrain.tensorboard.words import amount, between, figure, unit

if TYPE_CHECKING:
    from foretrain.analysis import RunCurve

_PARTS = (1 / 4, 1 / 16, 1 / 64)  # of the data that sizes are compared at: where slices are drawn besides


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
        pruned=entry.pruned,
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
    entries: Sequence[Entry],
    joint: JointReport,
    *,
    metric: str,
    axis: str,
    exclude: Collection[str],
    at: float | None = None,
) -> dict[str, Any]:
    """What the page shows of the law across the runs.

    Args:
        entries: The runs, as `chosen` gives them.
        joint: What the runs of several sizes say together.
        metric: Name of the metric.
        axis: Name of the data axis.
        exclude: Names of the runs that were left out.
        at: The data that the sizes are compared at, where the law does not tell.

    Returns:
        Plain JSON values without NaN.
    """
    at_data = positive(joint.at_data) or at
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
        "slices": [] if at_data is None else _slices(entries, at_data, exclude),
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


def _slices(entries: Sequence[Entry], at_data: float, exclude: Collection[str]) -> list[dict[str, Any]]:
    """The errors as measured, by size, where the runs had seen a quarter of the data, and less."""
    slices = []
    for part in _PARTS:
        x, by_size = at_data * part, dict[float, float]()
        for item in entries:
            points = item.points
            if item.params is not None and item.run not in exclude and points and points[0][0] <= x:
                found = value_at(item, x)
                if found is not None and found[1]:  # of several runs of a size the best one
                    by_size[item.params] = min(found[0], by_size.get(item.params, math.inf))
        if len(by_size) > 1:
            rows = [[short(size), short(value)] for size, value in sorted(by_size.items())]
            slices.append({"data": short(x), "label": amount(x), "points": rows})
    return slices


def _reason(item: Entry, exclude: Collection[str], resumed: Mapping[str, str]) -> str:
    if item.run in resumed:
        return f"resumed as {resumed[item.run]}"
    if item.run in exclude:
        return "flagged" if item.flagged else "not among the runs shown"
    if item.params is None:
        return "its number of parameters is not known"
    if item.pruned:
        return "it was pruned: its size is no longer that of its layers"
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
