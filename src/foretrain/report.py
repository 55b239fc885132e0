"""Report: everything one fit has to say, as plain versioned JSON. Standard library only."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import Any

from foretrain.flags import Flag, FlagKind
from foretrain.reporting.findings import (
    Band,
    BestValue,
    Borrowing,
    CurveRegions,
    Entering,
    History,
    JointReport,
    LawFit,
    LeftOutPoint,
    NamedProjection,
    PastForecast,
    Repeats,
    ScheduleNote,
)

__all__ = [
    "Band",
    "BestValue",
    "Borrowing",
    "CurveRegions",
    "Entering",
    "History",
    "JointReport",
    "LawFit",
    "LeftOutPoint",
    "NamedProjection",
    "PastForecast",
    "Repeats",
    "Report",
    "ReportError",
    "ScheduleNote",
]

REPORT_VERSION = 1
MAX_REPORT_BYTES = 256 * 1024


class ReportError(ValueError):
    """A report that cannot be read: damaged, or written by a later version."""


@dataclass(frozen=True)
class Report:
    """Everything one fit has to say about one run.

    Attributes:
        run: Name of the run.
        study: Name of the study.
        metric: Name of the metric.
        axis: Name of the data axis, a key of `foretrain.axes.AXES`.
        step: Optimizer step of the newest observation.
        state: "running", "finished" or "failed".
        params: Trainable parameters; None where unknown.
        planned: Data seen when the run ends as planned, in the axis; None where unknown.
        conventions: How things were counted.
        points: The points used, (x, value), thinned to at most 256 along log x; first and last kept.
        excluded: How many points were left out, by reason.
        status: Code of the run's own fit ("ok", "too_few_points", ...).
        sentence: What that means and what would help.
        fits: The laws tried on the run's own points.
        curve: Projected error along the data axis, from the last points on: to the planned end where the
            learning-rate schedule is followed, else to 1,000 times the last.
        projections: Projected errors at named scales, each of one kind.
        joint: What the study's runs of several sizes say together; None where it was not asked.
        doubts: Reasons to doubt the projections, as sentences.
        flags: Judgements that a person should see.
        regions: The regions of the run's curve; None where they cannot be told, and in older reports.
        reasons: All that is in doubt about the run's own projection, as codes of
            `foretrain.status.FitStatus`, the gravest first.
        schedule: What the projections know of the learning rates; None in older reports.
        best: The lowest value so far; None where there is none.
        repeats: How often the data were seen; None where that is not counted or nothing was repeated.
        track: What had been projected along the way for the run's newest point, its end where it has come to
            that, from the same run's first points and the study's other finished runs.
        stale: Why newer observations are not in this report although a fit was asked for; empty where no fit
            has failed since. Set where the report is kept, as the fit that would say so failed.
        past: The runs that this one goes on from, each with the data seen up to which its points are this
            run's too.
        borrowing: What the run's projection rests on where other runs share a law of size and data; None
            where they tell nothing of it.
        entering: Which of the points may enter a law of several runs; None without points and in older
            reports.
        history: What stands beside the points; None in older reports.
    """

    run: str
    metric: str
    axis: str
    step: int
    study: str = "default"
    state: str = "running"
    params: float | None = None
    planned: float | None = None
    conventions: dict[str, str] = field(default_factory=dict)
    points: tuple[tuple[float, float], ...] = ()
    excluded: dict[str, int] = field(default_factory=dict)
    status: str = "too_few_points"
    sentence: str = ""
    fits: tuple[LawFit, ...] = ()
    curve: Band | None = None
    projections: tuple[NamedProjection, ...] = ()
    joint: JointReport | None = None
    doubts: tuple[str, ...] = ()
    flags: tuple[Flag, ...] = ()
    regions: CurveRegions | None = None
    reasons: tuple[str, ...] = ()
    schedule: ScheduleNote | None = None
    best: BestValue | None = None
    repeats: Repeats | None = None
    track: tuple[PastForecast, ...] = ()
    stale: str = ""
    past: dict[str, float] = field(default_factory=dict)
    borrowing: Borrowing | None = None
    entering: Entering | None = None
    history: History | None = None

    def to_json(self) -> str:
        """The report as one line of strict JSON (no NaN: a number that is not finite becomes null)."""
        return json.dumps(plain({"version": REPORT_VERSION, **_shallow(self)}), allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes, *, loads: Callable[[str | bytes], Any] = json.loads) -> Report:
        """The inverse of `to_json`.

        Args:
            text: The JSON.
            loads: Takes JSON apart; raises ValueError or RecursionError where it is none.

        Raises:
            ReportError: If the text is no report, is too large, or was written by a later version.
        """
        if len(text) > MAX_REPORT_BYTES:
            raise ReportError(f"Expected a report of at most {MAX_REPORT_BYTES} bytes, got {len(text)}.")
        try:
            record = loads(text)
            version = record.pop("version")
            if version > REPORT_VERSION:
                raise ReportError(
                    f"This report has version {version}, this foretrain reads up to {REPORT_VERSION}: "
                    "update foretrain where the report is read."
                )
            return cls(**_report_fields(record))
        except ReportError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ReportError(f"Expected a report, got something else ({error}).") from error


def _shallow(record: Any) -> dict[str, Any]:
    return {f.name: getattr(record, f.name) for f in fields(record)}


def plain(value: Any) -> Any:
    """The value with records as dictionaries, tuples as lists and numbers that are not finite as None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Flag | Band):
        return plain(value.to_json())
    if hasattr(value, "__dataclass_fields__"):
        return {name: plain(item) for name, item in _shallow(value).items()}
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


@cache
def _names(cls: Any) -> frozenset[str]:
    return frozenset(f.name for f in fields(cls))


def _known(cls: Any, record: dict[str, Any]) -> dict[str, Any]:
    names = _names(cls)
    return {name: value for name, value in record.items() if name in names}


def _projection(record: dict[str, Any]) -> NamedProjection:
    known = _known(NamedProjection, record)
    texts = {name: tuple(known.get(name, ())) for name in ("doubts", "reasons")}
    return NamedProjection(**{**known, **texts})


def _joint(record: dict[str, Any]) -> JointReport:
    known = _known(JointReport, record)
    known["runs"] = tuple(known.get("runs", ()))
    known["projections"] = tuple(_projection(item) for item in known.get("projections", ()))
    if known.get("fit") is not None:
        known["fit"] = LawFit(**_known(LawFit, known["fit"]))
    if known.get("by_size") is not None:
        known["by_size"] = Band.from_json(known["by_size"])
    return JointReport(**known)


def _borrowing(record: dict[str, Any]) -> Borrowing:
    known = _known(Borrowing, record)
    sides = {name: _projection(known[name]) for name in ("own", "family")}
    return Borrowing(**{**known, **sides, "runs": tuple(known["runs"])})


def _entering(record: dict[str, Any]) -> Entering:
    known = _known(Entering, record)
    spans = {str(kind): (float(first), float(last)) for kind, (first, last) in known["spans"].items()}
    return Entering(**{**known, "spans": spans})


def _history(record: dict[str, Any]) -> History:
    known = _known(History, record)
    known["counts"] = {name: tuple(values) for name, values in known.get("counts", {}).items()}
    known["rates"] = tuple(known.get("rates", ()))
    known["schedule"] = tuple((int(step), float(rate)) for step, rate in known.get("schedule", ()))
    known["left_out"] = tuple(_left_out(item) for item in known.get("left_out", ()))
    return History(**known)


def _left_out(record: dict[str, Any]) -> LeftOutPoint:
    known = _known(LeftOutPoint, record)
    return LeftOutPoint(**{**known, "value": math.nan if known["value"] is None else known["value"]})


def _report_fields(record: dict[str, Any]) -> dict[str, Any]:
    known = _known(Report, record)
    known["points"] = tuple((float(x), float(y)) for x, y in known.get("points", ()))
    known["fits"] = tuple(LawFit(**_known(LawFit, item)) for item in known.get("fits", ()))
    known["projections"] = tuple(_projection(item) for item in known.get("projections", ()))
    known["doubts"] = tuple(known.get("doubts", ()))
    kinds = {kind.value for kind in FlagKind}  # one that a later version added is passed over
    known["flags"] = tuple(Flag.from_json(item) for item in known.get("flags", ()) if item["kind"] in kinds)
    if known.get("curve") is not None:
        known["curve"] = Band.from_json(known["curve"])
    if known.get("joint") is not None:
        known["joint"] = _joint(known["joint"])
    if known.get("borrowing") is not None:
        known["borrowing"] = _borrowing(known["borrowing"])
    if known.get("entering") is not None:
        known["entering"] = _entering(known["entering"])
    if known.get("history") is not None:
        known["history"] = _history(known["history"])
    known["reasons"] = tuple(known.get("reasons", ()))
    known["track"] = tuple(PastForecast(**_known(PastForecast, item)) for item in known.get("track", ()))
    records: dict[str, Any] = {"regions": CurveRegions, "best": BestValue, "repeats": Repeats}
    for name, cls in {**records, "schedule": ScheduleNote}.items():
        if known.get(name) is not None:
            known[name] = cls(**_known(cls, known[name]))
    if known.get("schedule") is not None:
        known["schedule"] = replace(known["schedule"], earlier=tuple(known["schedule"].earlier))
    return known
