"""What the Scaling tab shows: pure functions from rows to the page's JSON."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from foretrain.axes import AXES
from foretrain.reporting.sentences import record_line
from foretrain.tensorboard.plain import MAX_POINTS, text
from foretrain.tensorboard.rows import Entry
from foretrain.tensorboard.words import unit

if TYPE_CHECKING:
    pass

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


def natural(name: str) -> tuple[Any, ...]:
    """A sort key that puts "width9" before "width10"."""
    return tuple(
        (int(part[:300]), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)
    )


def _most_common(counts: Counter[str]) -> str | None:
    return min(counts, key=lambda name: (-counts[name], name), default=None)
