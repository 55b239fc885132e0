"""What a report is made of: bands, projections, laws, and what is known of a run. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

AS_PLANNED, ANNEALED, NOT_ANNEALED = "as planned", "annealed", "not annealed"
SCHEDULE_UNKNOWN = "schedule unknown"

KINDS = (AS_PLANNED, ANNEALED, NOT_ANNEALED, SCHEDULE_UNKNOWN)
"""What a projection assumes of the learning rate: this run's own schedule; the same schedule stretched to end
there; a rate that does not fall; nothing, where the rates to come are unknown."""


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
        kind: What it assumes of the learning rate, one of `KINDS`; "" in older reports and where models of
            other sizes are spoken of.
        reasons: The doubts that have a code, as codes of `foretrain.status.FitStatus`.
    """

    name: str
    params: float | None
    data: float
    median: float
    lower: dict[str, float] = field(default_factory=dict)
    upper: dict[str, float] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()
    kind: str = ""
    reasons: tuple[str, ...] = ()


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
class Entering:
    """The points of a run that stand for the error of a run that ended there; see `reporting.entering`.

    Attributes:
        spans: Data seen at the first and the last point of each kind, "decayed" or "constant"; a kind that is
            not there has none. Of a decayed rate the last point is the end, and those before it are as good.
        rates_unknown: Whether the learning rates are unknown, so that the end is taken for a decayed one.
        reason: Why there is no end with a decayed rate; empty where there is one.
    """

    spans: dict[str, tuple[float, float]] = field(default_factory=dict)
    rates_unknown: bool = False
    reason: str = ""


@dataclass(frozen=True)
class ScheduleNote:
    """What the projections of a run know of its learning rates.

    Attributes:
        state: "followed" where they follow the schedule, "constant" where the rate stays at its peak, or
            "unknown".
        why: In a word or two, why it is unknown; None elsewhere.
        end: The last planned optimizer step; None where unknown.
        earlier: Names of the finished runs that told what annealing gains.
    """

    state: str
    why: str | None = None
    end: int | None = None
    earlier: tuple[str, ...] = ()


@dataclass(frozen=True)
class Borrowing:
    """What a run's projection rests on where the study's other runs share a law of size and data.

    Attributes:
        share: What that law counts in it, 0 to 1; the rest is the run's own.
        runs: Names of the runs that told the law.
        own: The projection by the run's own points, and earlier runs' schedules.
        family: The projection by the law of the other runs alone.
        apart: By how many scales of both the two lie apart.
    """

    share: float
    runs: tuple[str, ...]
    own: NamedProjection
    family: NamedProjection
    apart: float = 0.0


@dataclass(frozen=True)
class BestValue:
    """The lowest value that was measured.

    Attributes:
        value: The value, in the metric's unit.
        data: Data seen there, in the report's axis.
        step: Optimizer step there.
        bias: By how much it is expected to lie below the curve's minimum by the choice alone, in the metric's
            unit.
        risen: Whether the curve has risen from its lowest part by more than its noise.
    """

    value: float
    data: float
    step: int
    bias: float = 0.0
    risen: bool = False


@dataclass(frozen=True)
class Repeats:
    """How often the data were seen.

    Attributes:
        seen: Data seen, with repeats, in the report's axis.
        unique: Distinct data among them, in the same unit.
        effective: How much new data they are worth (Muennighoff et al. 2023, equation 5), in the same unit.
    """

    seen: float
    unique: float
    effective: float


@dataclass(frozen=True)
class LeftOutPoint:
    """A measurement that no law is fitted to.

    Attributes:
        step: Optimizer step at which it was made.
        data: Data seen there, in the report's axis; None where that was not counted.
        value: What was measured, in the metric's unit; NaN where it was not finite.
        reason: Why it is left out.
    """

    step: int
    data: float | None
    value: float
    reason: str


@dataclass(frozen=True)
class History:
    """What stands beside the points of a report: what the run had used at each, and its learning rates.

    Attributes:
        counts: What the run had used at each point, by field of `foretrain.axes.Counts`; each as many as
            there are points, None where it was not counted. The report's own axis is in the points.
        rates: Learning rate of the last update before each point, None where unknown; as many as points.
        schedule: The learning rate along the optimizer steps, as (step, rate) at its bends; straight between
            two of them. As used so far, then as planned; empty where unknown.
        planned: What the run will have used when it ends as planned, by field of `Counts`.
        density: Fraction of the parameters that pruning left; None where nothing was pruned.
        left_out: The measurements that no law is fitted to, evenly thinned, in order of step.
    """

    counts: dict[str, tuple[float | None, ...]] = field(default_factory=dict)
    rates: tuple[float | None, ...] = ()
    schedule: tuple[tuple[int, float], ...] = ()
    planned: dict[str, float] = field(default_factory=dict)
    density: float | None = None
    left_out: tuple[LeftOutPoint, ...] = ()


@dataclass(frozen=True)
class PastForecast:
    """What was projected for the newest point of a run when only a part had been trained, and what came.

    Attributes:
        share: Share of the optimizer steps that had been taken, 0 to 1; of the data, where the rate does not
            fall.
        median: The projected error there, in the metric's unit.
        lower: Lower end of the interval by nominal level ("0.9").
        upper: Upper end of the interval by nominal level.
        came: The error measured there.
    """

    share: float
    median: float
    lower: dict[str, float]
    upper: dict[str, float]
    came: float

    def inside(self, level: str = "0.9") -> bool:
        """Whether what came lies inside the interval of a nominal level; False where it has none."""
        if level not in self.lower or level not in self.upper:
            return False
        return self.lower[level] <= self.came <= self.upper[level]
