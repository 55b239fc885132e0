"""What the Scaling tab says of a run, in words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from foretrain.axes import AXES
from foretrain.report import BestValue, Borrowing, Repeats, Report, ScheduleNote
from foretrain.reporting.findings import ANNEALED, AS_PLANNED, NOT_ANNEALED
from foretrain.reporting.sentences import borrowing_line
from foretrain.tensorboard.plain import number, positive, text


def amount(x: float) -> str:
    """A count in three digits: 512, 1.6k, 48.2M, 7B, 3.1e+18."""
    if x < 1e15:
        for scale, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
            if x >= scale * 0.9995:
                return f"{x / scale:.3g}{letter}"
    return f"{x:.3g}"


def headline(row: dict[str, Any], metric: str, label: str) -> str:
    """Where the run is heading in words: its planned end while that is ahead, and ten times the data.

    Args:
        row: The run's row.
        metric: Name of the metric.
        label: Unit of the axis in words.

    Returns:
        A sentence or two; empty where nothing is projected.
    """
    if not row["projections"]:
        return ""
    named = {item["name"]: item for item in row["projections"]}
    end, item = named.get("planned end"), named.get("10x", row["projections"][-1])
    ahead = end is not None and end["kind"] == AS_PLANNED and end["data"] > (row["data"] or 0.0) * (1 + 1e-6)
    told = [end, item] if end is not None and ahead else [item]
    told = told[:1] if told[0] is told[-1] else told
    return " ".join(_sentence(item, metric if index == 0 else "it", label) for index, item in enumerate(told))


def _sentence(item: dict[str, Any], metric: str, label: str) -> str:
    """One projection in words."""
    name, where = item["name"], f"{amount(item['data'])} {label}"
    scale = bool(re.fullmatch(r"\d+x", name))
    if item["kind"] == ANNEALED:
        what = f"{name} the data" if scale else name
        place = f"Trained to {what} ({where}) with its schedule stretched to end there"
    elif name == "planned end":
        place = f"At its planned end ({where})"
    else:
        place = f"At {name}{' the data' if scale else ''} ({where})"
    rest = ", with a rate that does not fall" if item["kind"] == NOT_ANNEALED else ""
    return f"{place}{rest}, {metric} is projected to be {figure(item['median'])}{between(item)}."


def figure(y: float) -> str:
    """An error in four digits, trailing zeros kept."""
    return f"{y:#.4g}".rstrip(".")


def between(item: dict[str, Any]) -> str:
    """The end of a sentence on a projection: its interval, where it has one."""
    if item["lower"] is None or item["upper"] is None:
        return ""
    return f"; 90\u00a0% between {figure(item['lower'])} and {figure(item['upper'])}"


def unit(axis: str) -> str:
    """An axis's label: its unit in words, or its name where this version does not know it."""
    return AXES[axis].unit if axis in AXES else axis


def notes(report: Report, points: Sequence[tuple[float, float]], label: str) -> list[str]:
    """Sentences on what the projections rest on: whether it is up to date, the schedule, repeats, the best.

    Args:
        report: The report.
        points: The run's points, ascending.
        label: Unit of the axis in words.
    """
    stale = f"Out of date, newer observations are not in it. {report.stale}" if report.stale else ""
    found = [stale, _schedule(report.schedule), _borrowing(report.borrowing)]
    found.append(_repeats(report.repeats, label))
    found.append(_best(report.best, points, label))
    return [text(sentence) for sentence in found if sentence]


def _schedule(note: ScheduleNote | None) -> str:
    state = None if note is None else text(note.state)
    if note is None or state not in ("followed", "constant", "unknown"):
        return ""
    if state == "unknown":
        return f"Learning rates to come: unknown ({text(note.why)}). The projections are not annealed."
    if state == "constant":
        return "The learning rate stays at its peak: the projections are not annealed."
    earlier = len(note.earlier) if isinstance(note.earlier, tuple) else 0
    told = f"{earlier} finished run{'s' if earlier > 1 else ''}" if earlier else "this run and published ones"
    return f"The projections follow the learning-rate schedule; what its decay gains is told by {told}."


def _borrowing(found: Borrowing | None) -> str:
    if found is None:
        return ""
    numbers = [found.own.median, found.family.median]
    for side in (found.own, found.family):
        if not isinstance(side.lower, dict) or not isinstance(side.upper, dict):
            return ""
        numbers += [ends["0.9"] for ends in (side.lower, side.upper) if "0.9" in ends]
    told = number(found.share) is not None and all(positive(value) is not None for value in numbers)
    return borrowing_line(found) if told else ""


def _repeats(found: Repeats | None, label: str) -> str:
    if found is None:
        return ""
    seen, unique, worth = (positive(value) for value in (found.seen, found.unique, found.effective))
    if seen is None or unique is None or worth is None:
        return ""
    told = f"{amount(seen)} {label} were {amount(unique)} distinct ones, seen {seen / unique:.3g} times each"
    return f"{told}. They count as {amount(worth)}."


def _best(found: BestValue | None, points: Sequence[tuple[float, float]], label: str) -> str:
    if found is None or not points:
        return ""
    value, data = positive(found.value), positive(found.data)
    if value is None or data is None:
        return ""
    if not found.risen:
        return f"The best value so far is {figure(value)}, at {amount(data)} {label}."
    return f"Past its best: {figure(value)} at {amount(data)} {label}, and the error has risen since."
