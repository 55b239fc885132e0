"""Report: everything one fit has to say, as plain versioned JSON. Standard library only."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, fields
from typing import Any

from foretrain.flags import Flag, FlagKind

REPORT_VERSION = 1
MAX_REPORT_BYTES = 256 * 1024


class ReportError(ValueError):
    """A report that cannot be read: damaged, or written by a later version."""


@dataclass(frozen=True)
class Band:
    """A projected error with its intervals along an axis.

    Attributes:
        x: Where, in the axis's unit; shape (n,).
        median: The projected error there, in the metric's unit; shape (n,).
        lower: Lower end of the interval by nominal level ("0.9"), each of shape (n,).
        upper: Upper end of the interval by nominal level, each of shape (n,).
    """

    x: tuple[float, ...] = ()
    median: tuple[float, ...] = ()
    lower: dict[str, tuple[float, ...]] = field(default_factory=dict)
    upper: dict[str, tuple[float, ...]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The band as plain JSON values."""
        return {
            "x": list(self.x),
            "median": list(self.median),
            "lower": {level: list(values) for level, values in self.lower.items()},
            "upper": {level: list(values) for level, values in self.upper.items()},
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Band:
        """The inverse of `to_json`."""
        return cls(
            x=tuple(record["x"]),
            median=tuple(record["median"]),
            lower={level: tuple(values) for level, values in record["lower"].items()},
            upper={level: tuple(values) for level, values in record["upper"].items()},
        )


@dataclass(frozen=True)
class NamedProjection:
    """The projected error at one named scale.

    Attributes:
        name: "2x", "10x", "100x", "planned end", or the user's target.
        params: Model size it speaks of, in trainable parameters; None where unknown.
        data: Data it speaks of, in the report's axis.
        median: Projected error there, in the metric's unit.
        lower: Lower end of the interval by nominal level ("0.9").
        upper: Upper end of the interval by nominal level.
        doubts: Reasons to doubt this one, as sentences.
    """

    name: str
    params: float | None
    data: float
    median: float
    lower: dict[str, float] = field(default_factory=dict)
    upper: dict[str, float] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True)
class LawFit:
    """One law that was tried.

    Attributes:
        law: Name of the law, a key of `foretrain.laws.LAWS`.
        parameters: Value by parameter name; an irreducible error and coefficients in the metric's unit.
        weight: Share of this law in the projection, 0 to 1.
        status: Code of the outcome ("ok", "floor_not_identified", ...).
        sentence: What that means and what would help.
    """

    law: str
    parameters: dict[str, float]
    weight: float = 1.0
    status: str = "ok"
    sentence: str = ""


@dataclass(frozen=True)
class CurveRegions:
    """Where a run's curve enters the regions of a learning curve (Hestness et al. 2017, arXiv:1712.00409).

    Attributes:
        now: The region of the newest point: "small_data", "power_law" or "irreducible".
        power_law_from: x at which the power-law region begins and small data end, in the report's axis; None
            if no point lies before it, or none beyond.
        irreducible_from: x at which the irreducible region begins, likewise.
    """

    now: str
    power_law_from: float | None = None
    irreducible_from: float | None = None


@dataclass(frozen=True)
class JointReport:
    """What the runs of several sizes say together.

    Attributes:
        status: Code of the outcome; "ok" or the reason why there is no more.
        sentence: What that means and what would help.
        runs: Names of the runs that entered.
        fit: The joint law, or None.
        by_size: Projected error along model size, at the data `at_data`; None where there is no law.
        at_data: The data that `by_size` speaks of, in the report's axis.
        projections: Projected errors of named larger models.
    """

    status: str
    sentence: str = ""
    runs: tuple[str, ...] = ()
    fit: LawFit | None = None
    by_size: Band | None = None
    at_data: float | None = None
    projections: tuple[NamedProjection, ...] = ()


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
        curve: Projected error along the data axis, from the last points to 1,000 times the last.
        projections: Projected errors at named scales.
        joint: What the study's runs of several sizes say together; None where it was not asked.
        doubts: Reasons to doubt the projections, as sentences.
        flags: Judgements that a person should see.
        regions: The regions of the run's curve; None where they cannot be told, and in older reports.
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

    def to_json(self) -> str:
        """The report as one line of strict JSON (no NaN: a number that is not finite becomes null)."""
        return json.dumps(_plain({"version": REPORT_VERSION, **_shallow(self)}), allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Report:
        """The inverse of `to_json`.

        Raises:
            ReportError: If the text is no report, is too large, or was written by a later version.
        """
        if len(text) > MAX_REPORT_BYTES:
            raise ReportError(f"Expected a report of at most {MAX_REPORT_BYTES} bytes, got {len(text)}.")
        try:
            record = json.loads(text)
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


def _plain(value: Any) -> Any:
    """The value with records as dictionaries, tuples as lists and numbers that are not finite as None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Flag | Band):
        return _plain(value.to_json())
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(item) for name, item in _shallow(value).items()}
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _known(cls: Any, record: dict[str, Any]) -> dict[str, Any]:
    names = {f.name for f in fields(cls)}
    return {name: value for name, value in record.items() if name in names}


def _projection(record: dict[str, Any]) -> NamedProjection:
    known = _known(NamedProjection, record)
    return NamedProjection(**{**known, "doubts": tuple(known.get("doubts", ()))})


def _joint(record: dict[str, Any]) -> JointReport:
    known = _known(JointReport, record)
    known["runs"] = tuple(known.get("runs", ()))
    known["projections"] = tuple(_projection(item) for item in known.get("projections", ()))
    if known.get("fit") is not None:
        known["fit"] = LawFit(**_known(LawFit, known["fit"]))
    if known.get("by_size") is not None:
        known["by_size"] = Band.from_json(known["by_size"])
    return JointReport(**known)


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
    if known.get("regions") is not None:
        known["regions"] = CurveRegions(**_known(CurveRegions, known["regions"]))
    return known
