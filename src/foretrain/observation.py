"""One measured point, and the run it belongs to with the conventions it was counted by."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from foretrain.axes import Counts


@dataclass(frozen=True)
class RunInfo:
    """A run, as its record file's first line tells it.

    Attributes:
        run: Name of the run, unique in its study; where a TensorBoard log directory holds the run, its
            name there.
        study: Name of the study, the set of runs that are compared.
        attempt: 1 for the first process that trained this run, 2 for the one that resumed it, and so on.
        conventions: How things were counted, by name ("params", "samples", "tokens", "flops", "metric",
            "schedule"): runs that differ in what enters a fit are never fitted together.
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
        metric: Name of the metric, as logged ("val_loss").
        value: The metric as measured, in its own unit; may be NaN or infinite, and is then kept but
            never fitted.
        counts: What the run had used.
        lr: Learning rate of the last update, the largest over the parameter groups; None where unknown.
        attempt: Which process of the run measured it.
        time: Seconds since 1970; for display only, never for order.
    """

    run: str
    metric: str
    value: float
    counts: Counts
    lr: float | None = None
    attempt: int = 1
    time: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON values; a value that JSON cannot hold becomes its name ("nan")."""
        value = self.value if math.isfinite(self.value) else str(self.value)
        record: dict[str, Any] = {"metric": self.metric, "value": value, "counts": self.counts.to_json()}
        for name in ("lr", "time"):
            number = getattr(self, name)
            if number is not None and math.isfinite(number):
                record[name] = number
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
        )


@dataclass(frozen=True)
class RunRecord:
    """Everything known of one run: what the store gives back, and what an analysis takes.

    Attributes:
        info: The run, as its newest attempt described it.
        observations: One per metric and optimizer step, in order of step; where attempts overlap, the
            newest attempt's.
        state: "running", "finished" or "failed", as far as the records say.
    """

    info: RunInfo
    observations: tuple[Observation, ...] = ()
    state: str = "running"
