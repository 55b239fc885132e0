"""What the Scaling tab shows of one run: a pure function from its entry to plain JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from foretrain.tensorboard.beside import marks, place_on
from foretrain.tensorboard.plain import LEVEL, MAX_ITEMS, items, number, positive, short, text, thin
from foretrain.tensorboard.rows import Entry
from foretrain.tensorboard.words import unit

MAX_RUN_POINTS = 256
MAX_FORECASTS = 120
MAX_EVIDENCE = 12
END = "projected_end"

Series = Mapping[str, Sequence[tuple[int, float]]]
"""Scalars by what follows their common start ("projected_end_lower"), each as (step, value)."""


def run_view(item: Entry, scalars: Series, metric: str) -> dict[str, Any]:
    """What the page shows of one run.

    Args:
        item: The run.
        scalars: What the monitor logged of it while it was trained; empty where it did not.
        metric: Name of the metric.

    Returns:
        Plain JSON values without NaN.
    """
    row, found = item.row, item.beside
    report = item.report
    return {
        "name": item.run,
        "metric": metric,
        "data_label": unit(item.axis),
        "points": [[short(x), short(y)] for x, y in thin(item.points, MAX_RUN_POINTS)],
        "left_out": [] if found is None else list(found.left_out),
        "residuals": residuals(item),
        "marks": [] if found is None else marks(found, item.axis),
        "forecasts": forecasts(item, scalars),
        "track": _track(item),
        "ended": item.finished,
        "came": row["last"] if item.finished else None,
        "now": [row["data"], row["last"]],
        "flags": [] if report is None else _flags(item),
        "history": found is not None,
    }


def residuals(item: Entry) -> list[list[float | None]]:
    """How far each point lies from the run's law: x and ln(error / law), where the law is drawn."""
    curve = item.curve
    if curve is None:
        return []
    found = []
    for x, y in thin(item.points, MAX_RUN_POINTS):
        if not curve["x"][0] * (1 - 1e-6) <= x <= curve["x"][-1] * (1 + 1e-6):
            continue
        law = place_on(x, curve["x"], curve["median"], True)
        if law:
            found.append([short(x), short(math.log(y / law))])
    return found


def forecasts(item: Entry, scalars: Series) -> list[dict[str, Any]]:
    """The projections of the run's planned end that were told while it was trained, in order of data seen.

    Args:
        item: The run.
        scalars: As for `run_view`.
    """
    names = {"median": END, "lower": f"{END}_lower", "upper": f"{END}_upper", "data": item.axis}
    series = {name: dict(scalars.get(tag, ())) for name, tag in names.items()}
    told = []
    for step, median in sorted(series["median"].items()):
        row = {name: positive(values.get(step)) for name, values in series.items()}
        if row["data"] is not None and positive(median):
            told.append({name: short(value) for name, value in row.items()} | {"step": step})
    return thin(told, MAX_FORECASTS)


def _track(item: Entry) -> list[dict[str, Any]]:
    """What had been projected for the run's newest point after shares of its steps, and what came."""
    report, last = item.report, item.points[-1][0] if item.points else None
    if report is None or last is None:
        return []
    found = item.beside
    steps, own = (None, None) if found is None else (found.columns.get("steps"), found.columns.get(item.axis))
    told = []
    for past in report.track[:MAX_ITEMS]:
        share, came = number(past.share), positive(past.came)
        median = positive(past.median)
        if share is None or not 0 < share <= 1 or median is None or came is None:
            continue
        data: float | None = share * last
        if steps and own and steps[-1]:
            data = place_on(share * steps[-1], steps, own, False)
        low, high = (positive(dict(items(ends)).get(LEVEL)) for ends in (past.lower, past.upper))
        told.append(
            {
                "share": short(share),
                "data": short(data),
                "median": short(median),
                "lower": short(low),
                "upper": short(high),
                "came": short(came),
                "inside": None if low is None or high is None else low <= came <= high,
            }
        )
    return told


def _flags(item: Entry) -> list[dict[str, Any]]:
    """The run's flags with their evidence, and where they were raised."""
    report, found = item.report, item.beside
    assert report is not None
    columns = {} if found is None else found.columns
    steps, own = columns.get("steps"), columns.get(item.axis)
    told = []
    for flag in report.flags[:MAX_ITEMS]:
        step = positive(flag.step)
        at = place_on(step, steps, own, False) if step and steps and own else None
        told.append(
            {
                "kind": text(flag.kind.value),
                "severity": text(flag.severity.value),
                "message": text(flag.message),
                "step": short(step),
                "data": short(at),
                "evidence": [
                    [text(name), short(number(value))] for name, value in items(flag.evidence)[:MAX_EVIDENCE]
                ],
            }
        )
    return told


def series_of(tags: Iterable[str], metric: str) -> str | None:
    """The common start of the scalars that a monitor logged on a metric; None where there are none.

    Args:
        tags: Names of the run's scalars.
        metric: Name of the metric.
    """
    starts = [tag.removesuffix(END) for tag in tags if tag.startswith("scaling/") and tag.endswith(f"/{END}")]
    if "scaling/" in starts:
        return "scaling/"
    named = [start for start in starts if start == f"scaling/{metric}/"]
    return named[0] if named else starts[0] if len(starts) == 1 else None
