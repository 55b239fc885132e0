"""One measured point, and the run it belongs to with the conventions it was counted by."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from foretrain.axes import Counts
from foretrain.knots import splice
from foretrain.schedule import Schedule

NOT_RECORDED = "not recorded"
"""Why a schedule is unknown where the records do not tell it."""


@dataclass(frozen=True)
class RunInfo:
    """A run, as its record file's first line tells it.

    Attributes:
        run: Name of the run, unique in its study; where a TensorBoard log directory holds the run, its
            name there.
        study: Name of the study, the set of runs that are compared.
        attempt: 1 for the first process that trained this run, 2 for the one that resumed it, and so on.
        conventions: How things were counted, by name ("params", "samples", "tokens", "flops", "metric",
            "schedule"): runs that differ in what enters a fit are never fitted together. Only "schedule", the
            learning-rate schedulers by class, and "imported", the log a run comes from, are descriptions.
        planned: What the run will have used when it ends as planned; None where the plan has no end.
        continues: The run and step that this one was resumed from, if it was, under another name:
            `{"run": name, "step": optimizer steps}`.
        started: Seconds since 1970 when the attempt began; for display only, never for order.
    """

    run: str
    study: str = "default"
    attempt: int = 1
    conventions: dict[str, str] = field(default_factory=dict)
    planned: Counts | None = None
    continues: dict[str, Any] | None = None
    started: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON values."""
        record = asdict(self)
        record["planned"] = None if self.planned is None else self.planned.to_json()
        return record

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> RunInfo:
        """The inverse of `to_json`; unknown names, written by a later version, are ignored."""
        known = {f.name for f in fields(cls)}
        values = {name: value for name, value in record.items() if name in known}
        if values.get("planned") is not None:
            values["planned"] = Counts.from_json(values["planned"])
        return cls(**values)


@dataclass(frozen=True)
class Observation:
    """A validation metric, and what the run had used when it was measured.

    Attributes:
        run: Name of the run.
        metric: Name of the metric, as logged ("val_loss"); of the error where the metric is one that grows
            ("1 - val_acc").
        value: The metric as measured, in its own unit, or the error made of it; may be NaN or infinite, and
            is then kept but never fitted.
        counts: What the run had used.
        lr: Learning rate of the last update, the largest over the parameter groups; None where unknown.
        lrs: Learning rates of the last update, one for each parameter group, in the optimizer's order; None
            where unknown, and in records of earlier versions.
        attempt: Which process of the run measured it.
        time: Seconds since 1970; for display only, never for order.
        logged: The metric as logged, where `value` is an error made of it; None where `value` is the metric.
    """

    run: str
    metric: str
    value: float
    counts: Counts
    lr: float | None = None
    attempt: int = 1
    time: float | None = None
    logged: float | None = None
    lrs: tuple[float, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON values; a value that JSON cannot hold becomes its name ("nan")."""
        record: dict[str, Any] = {
            "metric": self.metric,
            "value": _plain(self.value),
            "counts": self.counts.to_json(),
        }
        if self.logged is not None:
            record["logged"] = _plain(self.logged)
        for name in ("lr", "time"):
            number = getattr(self, name)
            if number is not None and math.isfinite(number):
                record[name] = number
        if self.lrs is not None and all(map(math.isfinite, self.lrs)):
            record["lrs"] = list(self.lrs)
        return record

    @classmethod
    def from_json(cls, record: dict[str, Any], *, run: str, attempt: int = 1) -> Observation:
        """The inverse of `to_json`; the run and the attempt come from the file's first line."""
        return cls(
            run=run,
            metric=str(record["metric"]),
            value=float(record["value"]),
            counts=Counts.from_json(record["counts"]),
            lr=record.get("lr"),
            attempt=attempt,
            time=record.get("time"),
            logged=None if record.get("logged") is None else float(record["logged"]),
            lrs=None if (rates := record.get("lrs")) is None else tuple(rates),
        )


def _plain(value: float) -> float | str:
    """A number, or its name where JSON cannot hold it."""
    return value if math.isfinite(value) else str(value)


@dataclass(frozen=True)
class Plan:
    """The learning rates to come, as far as they can be known ahead of time.

    Attributes:
        schedule: From the step at which the plan was made to the planned end, or as far as it is known; None
            where nothing is.
        unknown: In a word or two, why the rest up to the planned end is unknown ("reactive", "manual",
            "no end", ...); None where it is known.
    """

    schedule: Schedule | None = None
    unknown: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON values."""
        schedule = {} if self.schedule is None else {"schedule": self.schedule.to_json()}
        return {**schedule, "unknown": self.unknown}

    @classmethod
    def from_json(cls, record: Any) -> Plan:
        """The inverse of `to_json`.

        Raises:
            ValueError: If the record holds no plan.
        """
        if not isinstance(record, dict) or not isinstance(record.get("unknown"), str | None):
            raise ValueError(f"Expected a plan with a text or nothing as `unknown`, got {record!r}: skip it.")
        schedule = record.get("schedule")
        return cls(None if schedule is None else Schedule.from_json(schedule), record.get("unknown"))


@dataclass(frozen=True)
class ScheduleUpdate:
    """What a run tells of its learning rates at a validation: what is new since the last.

    Attributes:
        used: The rates used, up to the last update; replaces what was told earlier from its own first step
            on. None where there was no update yet.
        plan: The rates to come; None where the plan is the one told before.
    """

    used: Schedule | None = None
    plan: Plan | None = None

    def followed(self, later: ScheduleUpdate) -> ScheduleUpdate:
        """This update and a later one as one."""
        used = later.used or self.used
        if self.used is not None and later.used is not None:
            knots = splice(self.used.knots, later.used.knots)
            used = Schedule.from_knots(knots, max(self.used.tolerance, later.used.tolerance))
        return ScheduleUpdate(used, later.plan or self.plan)

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON values."""
        parts = {"used": self.used, "plan": self.plan}
        return {name: part.to_json() for name, part in parts.items() if part is not None}

    @classmethod
    def from_json(cls, record: Any) -> ScheduleUpdate:
        """The inverse of `to_json`; unknown names are ignored.

        Raises:
            ValueError: If the record holds no update.
        """
        if not isinstance(record, dict):
            raise ValueError(f"Expected an update of a schedule, got {record!r}: skip it.")
        used, plan = record.get("used"), record.get("plan")
        return cls(
            None if used is None else Schedule.from_json(used), None if plan is None else Plan.from_json(plan)
        )


@dataclass(frozen=True)
class RunRecord:
    """Everything known of one run: what the store gives back, and what an analysis takes.

    Attributes:
        info: The run, as its newest attempt described it.
        observations: One per metric and optimizer step, in order of step; where attempts overlap, the
            newest attempt's.
        state: "running", "finished" or "failed", as far as the records say.
        schedule: The learning rate of every optimizer step from 1 on: as used so far, then as planned; None
            where the rates used were not recorded from the first step on. Of a finished run the rates used.
        schedule_used_until: The last step whose rate is the one used; 0 where there is none.
        schedule_unknown: In a word or two, why the rates up to the planned end are unknown; None where they
            are known.
        past: The other runs that this one goes on from, each with the optimizer steps that it has of it.
        counted_otherwise: Metric and step of the observations that were made before the run was resumed with
            other conventions than they were counted by: kept, and not fitted together with the later ones.
    """

    info: RunInfo
    observations: tuple[Observation, ...] = ()
    state: str = "running"
    schedule: Schedule | None = None
    schedule_used_until: int = 0
    schedule_unknown: str | None = NOT_RECORDED
    past: dict[str, int] = field(default_factory=dict)
    counted_otherwise: frozenset[tuple[str, int]] = frozenset()

    @property
    def metrics(self) -> Mapping[str, int]:
        """How many observations there are of each metric."""
        return Counter(observation.metric for observation in self.observations)

    def newest(self, metric: str) -> Observation | None:
        """The last observation of a metric, None where there is none."""
        return next((o for o in reversed(self.observations) if o.metric == metric), None)
