"""A report reduced to one row of the Scaling tab: whatever the report holds, the row is plain and bounded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from foretrain.report import Band, CurveRegions, NamedProjection, Report
from foretrain.reporting.findings import KINDS, Entering
from foretrain.tensorboard.beside import Beside, beside, counted, drawable, moved
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
from foretrain.tensorboard.words import amount, headline, notes, unit

REGIONS = {"small_data": "small data", "power_law": "power law", "irreducible": "irreducible"}


@dataclass(frozen=True)
class Entry:
    """A run's report, reduced to what the page and the law across the runs need of it.

    Attributes:
        run: Name of the run, as TensorBoard lists it.
        study: Name of the study.
        axis: Name of the data axis.
        row: What the page shows of the run besides what it draws, as plain JSON values.
        points: The points used, (data seen, error), positive and finite.
        params: Trainable parameters; None where unknown.
        conventions: How things were counted.
        flagged: Whether the run carries a flag that leaves it out of laws across the runs.
        kept_as: Name of the run in the records of its study.
        past: The runs that it goes on from by their names there, each with the data seen up to which its
            points are this run's too.
        finished: Whether the run came to its end.
        entering: Which of its points may enter the law across the runs; None in older reports.
        report: The report itself, which may hold anything.
        counted: The axes that its points have a place on, besides its own.
    """

    run: str
    study: str
    axis: str
    row: dict[str, Any]
    points: tuple[tuple[float, float], ...]
    params: float | None
    conventions: dict[str, str]
    flagged: bool
    kept_as: str = ""
    past: dict[str, float] = field(default_factory=dict)
    finished: bool = False
    entering: Entering | None = None
    report: Report | None = field(default=None, repr=False)
    counted: tuple[str, ...] = ()

    @property
    def pruned(self) -> bool:
        """Whether masks have removed parameters."""
        found = None if self.report is None else self.report.history
        density = None if found is None else positive(found.density)
        return density is not None and density < 1

    @cached_property
    def _along(self) -> dict[str, Entry]:
        return {}

    @cached_property
    def _shown(self) -> dict[int, dict[str, Any]]:
        return {}

    @cached_property
    def beside(self) -> Beside | None:
        """What stands beside the points; None where the report does not tell it. Of most runs nobody asks."""
        return None if self.report is None else beside(self.report)

    @cached_property
    def curve(self) -> dict[str, Any] | None:
        """The run's law with the interval that the page draws; None where there is none to draw."""
        return None if self.report is None else band(self.report.curve)

    def shown(self, limit: int = MAX_POINTS) -> dict[str, Any]:
        """The row with the points and the law as the page draws them.

        Args:
            limit: How many points, and points of the law, are drawn at most.
        """
        if limit not in self._shown:
            if self.report is None or limit >= MAX_POINTS:
                curve = self.curve
            else:
                curve = band(self.report.curve, limit)
            self._shown.clear()  # another limit: the number of runs has changed
            self._shown[limit] = {
                **self.row,
                "points": [[short(x), short(y)] for x, y in thin(self.points, limit)],
                "curve": curve,
            }
        return self._shown[limit]

    def along(self, axis: str) -> Entry:
        """The same run with all that lies along its data axis moved to another one, as far as it was counted.

        Points, law and projections move; what enters a law across the runs does not.
        """
        if axis == self.axis:
            return self
        if axis not in self._along and self.report is not None:
            self._along[axis] = entry(self.run, moved(self.report, axis))
        return self._along.get(axis, self)


def entry(run: str, report: Report) -> Entry:
    """Reduces a report that may hold anything to an entry that holds only what it says it holds."""
    points = tuple((x, y) for x, y, _ in drawable(report))
    params = positive(report.params)
    flags = [
        {
            "kind": text(flag.kind.value),
            "severity": text(flag.severity.value),
            "message": text(flag.message),
            "step": short(number(flag.step)),
        }
        for flag in report.flags[:MAX_ITEMS]
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
        "leaves_out": any(flag.leaves_out for flag in report.flags),
        "doubts": _doubts(report),
        "notes": notes(report, points, unit(text(report.axis))),
        "track": track(report),
        "regions": regions(report.regions, points, unit(text(report.axis))),
        "excluded": [[text(reason), short(number(n))] for reason, n in items(report.excluded)],
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
    row["headline"] = headline(row, text(report.metric), unit(text(report.axis)))
    return Entry(
        run=run,
        study=text(report.study),
        axis=text(report.axis),
        row=row,
        points=points,
        params=params,
        conventions={text(name): text(value) for name, value in items(report.conventions)},
        flagged=any(flag.leaves_out for flag in report.flags),
        kept_as=text(report.run),
        past={text(name): positive(x) or 0.0 for name, x in items(report.past)},
        finished=report.state == "finished",
        entering=report.entering,
        report=report,
        counted=counted(report),
    )


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
        "kind": item.kind if item.kind in KINDS else "",
        "doubts": [text(doubt) for doubt in item.doubts[:MAX_ITEMS]],
    }


def band(band: Band | None, limit: int = MAX_CURVE) -> dict[str, Any] | None:
    """The band's rows that can be drawn on log axes; null where an end of the interval cannot."""
    if band is None:
        return None
    blank = (None,) * len(band.x)
    lower, upper = band.lower.get(LEVEL, blank), band.upper.get(LEVEL, blank)
    drawn = thin(list(zip(band.x, band.median, lower, upper, strict=False)), limit)
    rows: list[tuple[Any, ...]] = [tuple(short(positive(value)) for value in row) for row in drawn]
    rows = sorted((row for row in rows if row[0] is not None and row[1] is not None), key=lambda row: row[0])
    if len(rows) < 2:
        return None
    return dict(zip(("x", "median", "lower", "upper"), map(list, zip(*rows, strict=True)), strict=True))


def track(report: Report) -> list[int]:
    """How many past forecasts of a finished run could be scored, and how many were inside their interval."""
    told = []
    for past in report.track[:MAX_ITEMS]:
        ends = dict(items(past.lower)).get(LEVEL), past.came, dict(items(past.upper)).get(LEVEL)
        low, came, high = (number(value) for value in ends)
        if low is not None and came is not None and high is not None:
            told.append(low <= came <= high)
    return [len(told), sum(told)]
