"""What stands beside a run's points, checked: whatever a report holds, this is plain and bounded."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from foretrain.axes import AXES
from foretrain.report import Band, Report
from foretrain.tensorboard.plain import (
    LEVEL,
    MAX_CURVE,
    MAX_ITEMS,
    MAX_POINTS,
    items,
    number,
    positive,
    short,
    text,
    thin,
)

MAX_LEFT_OUT = 48
MAX_KNOTS = 256
SATURATES = ("unique_samples",)
"""Axes that do not go on growing with the training: what is beyond the last point is not known on them."""


@dataclass(frozen=True)
class Beside:
    """What a run had used at each of its points, and its learning rates.

    Attributes:
        columns: What it had used at each point, by axis; each as many as points, None where not counted.
        rates: Learning rate at each point, None where unknown; as many as points.
        schedule: The learning rate along the optimizer steps, as (step, rate), ascending.
        planned: What the run will have used when it ends as planned, by axis.
        density: Fraction of the parameters that pruning left; None where nothing was pruned.
        left_out: Measurements that no law is fitted to, as the page shows them.
    """

    columns: dict[str, tuple[float | None, ...]] = field(default_factory=dict)
    rates: tuple[float | None, ...] = ()
    schedule: tuple[tuple[int, float], ...] = ()
    planned: dict[str, float] = field(default_factory=dict)
    density: float | None = None
    left_out: tuple[dict[str, Any], ...] = ()


def drawable(report: Report) -> list[tuple[float, float, int]]:
    """The points of a report that log axes can show, ascending, each with its place among all."""
    pairs = ((positive(x), positive(y), i) for i, (x, y) in enumerate(report.points))
    return sorted((x, y, i) for x, y, i in pairs if x is not None and y is not None)


def counted(report: Report) -> tuple[str, ...]:
    """The axes that a report's points have a place on, besides its own."""
    return () if report.history is None else tuple(n for n, _ in items(report.history.counts) if n in AXES)


def beside(report: Report) -> Beside | None:
    """What stands beside the points of a report that may hold anything; None where it holds nothing."""
    found = report.history
    if found is None:
        return None
    places = [i for *_, i in drawable(report)]
    columns = {text(report.axis): tuple(positive(report.points[i][0]) for i in places)}
    for name, _ in items(found.counts):
        column = _column(report, name, places) if name in AXES else None
        if column is not None:
            columns[name] = column
    rates: tuple[float | None, ...] = ()
    if isinstance(found.rates, tuple) and len(found.rates) == len(report.points):
        rates = tuple(_count(found.rates[i]) for i in places)
    knots = [(step, _count(rate)) for step, rate in found.schedule[:MAX_KNOTS] if step > 0]
    rising = all(a < b for (a, _), (b, _) in itertools.pairwise(knots))
    left_out = [
        {
            "step": short(number(item.step)),
            "data": short(positive(item.data)),
            "value": short(positive(item.value)),
            "reason": text(item.reason),
        }
        for item in found.left_out[:MAX_LEFT_OUT]
    ]
    return Beside(
        columns=columns,
        rates=rates,
        schedule=tuple((step, rate) for step, rate in knots if rate is not None) if rising else (),
        planned={name: v for name, v in ((n, positive(v)) for n, v in items(found.planned)) if v is not None},
        density=positive(found.density),
        left_out=tuple(left_out),
    )


def _column(report: Report, name: str, places: Sequence[int]) -> tuple[float | None, ...] | None:
    """What a run had used of one thing at these of its points; None where it was not counted."""
    values = None if report.history is None else dict(items(report.history.counts)).get(name)
    if not isinstance(values, tuple) or len(values) != len(report.points):
        return None
    return tuple(_count(values[i]) for i in places)


def _count(value: Any) -> float | None:
    found = number(value)
    return found if found is not None and found >= 0 else None


def place_on(
    x: float, from_: Sequence[float | None], to: Sequence[float | None], goes_on: bool
) -> float | None:
    """The amount on another axis, straight between points on log axes and in proportion beyond them.

    Args:
        x: The amount on the axis of `from_`.
        from_: What was used at the points, ascending.
        to: The same on the other axis; as many.
        goes_on: Whether what lies beyond the last point is in proportion; else it is unknown.

    Returns:
        The amount, or None where it is unknown.
    """
    return _place([(a, b) for a, b in zip(from_, to, strict=True) if a and b], x, goes_on)


def _place(known: Sequence[tuple[float, float]], x: float, goes_on: bool) -> float | None:
    if not known:
        return None
    (x0, y0), (x1, y1) = known[0], known[-1]
    if x >= x1:
        return y1 * x / x1 if goes_on or x <= x1 * (1 + 1e-9) else None
    if x <= x0:
        return y0 * x / x0
    right = bisect.bisect_right(known, (x, math.inf))
    (xa, ya), (xb, yb) = known[right - 1], known[right]
    share = math.log(x / xa) / math.log(xb / xa) if xb > xa else 0.0
    return math.exp((1 - share) * math.log(ya) + share * math.log(yb))


def moved(report: Report, axis: str) -> Report:
    """The report with all that lies along its axis moved to another one; of its points as many as are drawn.

    Args:
        report: The report.
        axis: The other axis, a key of `foretrain.axes.AXES`.

    Returns:
        The report; what has no place on the other axis is left out.
    """
    drawn = drawable(report)
    found = None if report.history is None else _column(report, axis, [i for *_, i in drawn])
    if found is None:
        return replace(report, axis=axis, points=(), curve=None, projections=(), regions=None, best=None)

    known = [(x, at) for (x, *_), at in zip(drawn, found, strict=True) if at]

    def place(x: Any) -> float | None:
        amount = positive(x)
        return None if amount is None else _place(known, amount, axis not in SATURATES)

    kept: dict[float, float] = {}
    for (_, y, _), at in thin(list(zip(drawn, found, strict=True)), MAX_POINTS):
        if at:
            kept[at] = y  # of several measurements at one place the newest, as where the runs are fitted
    projections = [(item, place(item.data)) for item in report.projections[:MAX_ITEMS]]
    regions = report.regions
    if regions is not None:
        starts, ends = place(regions.power_law_from), place(regions.irreducible_from)
        regions = replace(regions, power_law_from=starts, irreducible_from=ends)
    best = report.best
    if best is not None:
        best = None if (at := place(best.data)) is None else replace(best, data=at)
    planned = positive(dict(items(report.history.planned)).get(axis)) if report.history else None
    return replace(
        report,
        axis=axis,
        points=tuple(sorted(kept.items())),
        planned=planned or place(report.planned),
        curve=None if report.curve is None else _moved_band(report.curve, place),
        projections=tuple(replace(item, data=at) for item, at in projections if at is not None),
        regions=regions,
        best=best,
        repeats=None,
        history=None,
    )


def _moved_band(band: Band, place: Callable[[Any], float | None]) -> Band:
    """A band of as many places as are drawn, moved; those without a place on the other axis are left out."""
    drawn = thin(range(len(band.x)), MAX_CURVE)
    places = {i: at for i, at in ((i, place(band.x[i])) for i in drawn) if at is not None}

    def only(values: Any) -> tuple[Any, ...]:
        return tuple(values[i] for i in places if i < len(values)) if isinstance(values, tuple) else ()

    return Band(
        x=tuple(places.values()),
        median=only(band.median),
        lower={level: only(values) for level, values in band.lower.items() if level == LEVEL},
        upper={level: only(values) for level, values in band.upper.items() if level == LEVEL},
    )


def marks(found: Beside, axis: str) -> list[dict[str, Any]]:
    """Where the learning rate has warmed up, falls and has fallen, and where passes over the data begin.

    Args:
        found: What stands beside the points.
        axis: The axis that the places are told on.

    Returns:
        For each the kind, the place and a label; at most 24.
    """
    steps, own = found.columns.get("steps"), found.columns.get(axis)
    told: list[tuple[str, float | None, str]] = []
    if steps is not None and own is not None:
        told += [(kind, place_on(at, steps, own, True), label) for kind, at, label in _bends(found.schedule)]
    epochs = found.columns.get("epochs")
    if epochs is not None and own is not None:
        whole = [float(n) for n in range(1, 1 + int(min(max((e or 0.0) for e in epochs), 1e6)))]
        first = next((e for e in epochs if e), 0.0)
        for n in thin([n for n in whole if n >= first], 12):
            told.append(("epoch", place_on(n, epochs, own, False), f"epoch {n:.0f}"))
    return [{"kind": kind, "x": short(x), "label": label} for kind, x, label in told if x][:MAX_ITEMS]


def _bends(schedule: Sequence[tuple[int, float]]) -> list[tuple[str, float, str]]:
    """The steps at which a schedule is at its peak, begins to fall and has come down."""
    if len(schedule) < 2:
        return []
    peak = max(rate for _, rate in schedule)
    if not peak > 0:
        return []
    near = [i for i, (_, rate) in enumerate(schedule) if rate >= peak * 0.999]
    first, last = near[0], next((i for i in near if i + 1 not in near), near[-1])
    found = []
    if first > 0:
        found.append(("warm-up", float(schedule[first][0]), "warm-up ends"))
    if last < len(schedule) - 1 and schedule[-1][1] < 0.95 * peak:
        found.append(("decay", float(max(schedule[last][0], 1)), "rate falls"))
        found.append(("decay", float(schedule[-1][0]), "rate has fallen"))
    return found
