"""A report reduced to one row of the Scaling tab: whatever the report holds, the row is plain and bounded."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from foretrain.axes import AXES
from foretrain.report import Band, CurveRegions, NamedProjection, Report

LEVEL = "0.9"  # the interval that the page draws and names
MAX_POINTS = 60  # points of a run on the page: more cannot be told apart on a log axis
MAX_CURVE = 64  # grid of a curve on the page, including what the band needs to look smooth
MAX_TEXT = 400
MAX_ITEMS = 24  # doubts, flags, projections, parameters of one run
REGIONS = {"small_data": "small data", "power_law": "power law", "irreducible": "irreducible"}


@dataclass(frozen=True)
class Entry:
    """A run's report, reduced to what the page and the law across the runs need of it.

    Attributes:
        run: Name of the run, as TensorBoard lists it.
        study: Name of the study.
        axis: Name of the data axis.
        row: What the page shows of the run, as plain JSON values.
        points: The points used, (data seen, error), positive and finite.
        params: Trainable parameters; None where unknown.
        conventions: How things were counted.
        flagged: Whether the run carries a flag.
    """

    run: str
    study: str
    axis: str
    row: dict[str, Any]
    points: tuple[tuple[float, float], ...]
    params: float | None
    conventions: dict[str, str]
    flagged: bool


def entry(run: str, report: Report) -> Entry:
    """Reduces a report that may hold anything to an entry that holds only what it says it holds."""
    pairs = ((positive(x), positive(y)) for x, y in report.points)
    points = tuple(sorted((x, y) for x, y in pairs if x is not None and y is not None))
    params = positive(report.params)
    flags = [
        {"kind": text(flag.kind.value), "message": text(flag.message)} for flag in report.flags[:MAX_ITEMS]
    ]
    projections = [item for item in map(projection, report.projections[:MAX_ITEMS]) if item is not None]
    row: dict[str, Any] = {
        "name": run,
        "state": text(report.state),
        "params": short(params),
        "data": short(points[-1][0]) if points else None,
        "last": short(points[-1][1]) if points else None,
        "planned": short(positive(report.planned)),
        "status": text(report.status),
        "sentence": text(report.sentence),
        "flags": flags,
        "doubts": _doubts(report),
        "regions": regions(report.regions, points, unit(text(report.axis))),
        "excluded": [[text(reason), short(number(n))] for reason, n in items(report.excluded)],
        "points": [[short(x), short(y)] for x, y in thin(points, MAX_POINTS)],
        "curve": band(report.curve),
        "projections": sorted(projections, key=lambda item: item["data"]),
        "laws": [
            {
                "law": text(fit.law),
                "weight": short(number(fit.weight)),
                "status": text(fit.status),
                "parameters": [[text(name), short(number(v))] for name, v in items(fit.parameters)],
            }
            for fit in report.fits[:MAX_ITEMS]
        ],
    }
    row["headline"] = _headline(row, text(report.metric), unit(text(report.axis)))
    return Entry(
        run=run,
        study=text(report.study),
        axis=text(report.axis),
        row=row,
        points=points,
        params=params,
        conventions={text(name): text(value) for name, value in items(report.conventions)},
        flagged=bool(flags),
    )


def amount(x: float) -> str:
    """A count in three digits: 512, 1.6k, 48.2M, 7B, 3.1e+18."""
    if x < 1e15:
        for scale, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
            if x >= scale * 0.9995:
                return f"{x / scale:.3g}{letter}"
    return f"{x:.3g}"


def _headline(row: dict[str, Any], metric: str, label: str) -> str:
    """The projection at ten times the data in words, or the furthest one where there is none."""
    if not row["projections"]:
        return ""
    named = {item["name"]: item for item in row["projections"]}
    item = named.get("10x", row["projections"][-1])
    name, where = item["name"], f"{amount(item['data'])} {label}"
    if name == "planned end":
        place = f"At its planned end ({where})"
    elif re.fullmatch(r"\d+x", name):
        place = f"At {name} the data ({where})"
    else:
        place = f"At {name} ({where})"
    return f"{place}, {metric} is projected to be {figure(item['median'])}{between(item)}."


def figure(y: float) -> str:
    """An error in four digits, trailing zeros kept."""
    return f"{y:#.4g}".rstrip(".")


def between(item: dict[str, Any]) -> str:
    """The end of a sentence on a projection: its interval, where it has one."""
    if item["lower"] is None or item["upper"] is None:
        return ""
    return f"; 90\u00a0% between {figure(item['lower'])} and {figure(item['upper'])}"


def _doubts(report: Report) -> list[str]:
    """The run's doubts, then those of single projections with their names before them; none said twice.

    The sentence on the run's own fit stands above the list wherever the fit is in doubt.
    """
    told = {text(doubt): "" for doubt in report.doubts}
    for item in report.projections[:MAX_ITEMS]:
        for doubt in map(text, item.doubts):
            names = told.setdefault(doubt, f"{text(item.name)}: ")
            if names and text(item.name) not in names.removesuffix(": ").split(", "):
                told[doubt] = f"{names.removesuffix(': ')}, {text(item.name)}: "
    if report.status != "ok":
        told.pop(text(report.sentence), None)
    return [text(names + doubt) for doubt, names in told.items()][:MAX_ITEMS]


def regions(
    found: CurveRegions | None, points: Sequence[tuple[float, float]], label: str
) -> dict[str, Any] | None:
    """The regions of a run's curve in words, and as the page draws them; None where they are not told.

    Args:
        found: The regions.
        points: The run's points, in order of x.
        label: Unit of the axis in words.

    Returns:
        The region of the newest point, the sentence on it, `marks` with x and label of each begin, and
        `spans` with both ends of what lies before and after the power law.
    """
    if found is None or not points:
        return None
    now, first, last = text(found.now), points[0][0], points[-1][0]
    starts, ends = (
        x if x is not None and first <= x <= last else None
        for x in (positive(found.power_law_from), positive(found.irreducible_from))
    )
    law = starts is not None and (ends is None or starts < ends)
    marks = [
        {"kind": kind, "x": short(x), "label": f"{REGIONS[kind]} from {amount(x)}"}
        for kind, x in (("power_law", starts if law else None), ("irreducible", ends))
        if x is not None
    ]
    spans = [(first, starts), (ends, last)]
    begins = ends if now == "irreducible" else starts
    place = "from the first point on" if begins is None else f"from {amount(begins)} {label} on"
    sentence = {
        "small_data": "No better than a best guess so far: the power law has not begun.",
        "power_law": f"In the power-law region {place}.",
        "irreducible": f"In the irreducible region {place}: more data cannot remove most of the error.",
    }.get(now, "")
    return {
        "now": REGIONS.get(now, now.replace("_", " ")),
        "sentence": sentence,
        "marks": marks,
        "spans": [[short(a), short(b)] for a, b in spans if a is not None and b is not None],
    }


def projection(item: NamedProjection) -> dict[str, Any] | None:
    """A projection with the interval that the page draws; None where log axes cannot show it."""
    data, median = positive(item.data), positive(item.median)
    if data is None or median is None:
        return None
    return {
        "name": text(item.name),
        "params": short(positive(item.params)),
        "data": short(data),
        "median": short(median),
        "lower": short(positive(dict(items(item.lower)).get(LEVEL))),
        "upper": short(positive(dict(items(item.upper)).get(LEVEL))),
        "doubts": [text(doubt) for doubt in item.doubts[:MAX_ITEMS]],
    }


def band(band: Band | None) -> dict[str, Any] | None:
    """The band's rows that can be drawn on log axes; null where an end of the interval cannot."""
    if band is None:
        return None
    blank = (None,) * len(band.x)
    lower, upper = band.lower.get(LEVEL, blank), band.upper.get(LEVEL, blank)
    rows: list[tuple[Any, ...]] = [
        tuple(short(positive(value)) for value in row)
        for row in zip(band.x, band.median, lower, upper, strict=False)
    ]
    rows = sorted((row for row in rows if row[0] is not None and row[1] is not None), key=lambda row: row[0])
    if len(rows) < 2:
        return None
    rows = thin(rows, MAX_CURVE)
    return dict(zip(("x", "median", "lower", "upper"), map(list, zip(*rows, strict=True)), strict=True))


def thin(values: Sequence[Any], limit: int) -> list[Any]:
    """At most `limit` of the values, evenly, first and last kept: reports are evenly spaced in log x."""
    if len(values) <= limit:
        return list(values)
    return [values[round(i * (len(values) - 1) / (limit - 1))] for i in range(limit)]


def items(record: Any) -> list[tuple[Any, Any]]:
    """The pairs of a mapping, boundedly many; none of anything else."""
    return list(record.items())[:MAX_ITEMS] if isinstance(record, dict) else []


def unit(axis: str) -> str:
    """An axis's label: its unit in words, or its name where this version does not know it."""
    return AXES[axis].unit if axis in AXES else axis


def text(value: Any) -> str:
    """The value as a text of bounded length."""
    whole = str(value)
    return whole if len(whole) <= MAX_TEXT else whole[: MAX_TEXT - 1] + "…"


def number(value: Any) -> float | None:
    """The value if it is a finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # an integer beyond any float
        return None


def positive(value: Any) -> float | None:
    """The value if log axes can show it, else None."""
    finite = number(value)
    return finite if finite is not None and finite > 0 else None


def short(value: float | None) -> float | None:
    """Six digits: beyond what a screen shows, a third of the bytes."""
    return None if value is None else float(f"{value:.6g}")
