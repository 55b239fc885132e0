"""Flags: judgements that a person should see, each with its evidence."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any


class FlagKind(str, Enum):
    """What a run is flagged for."""

    ABOVE_FAMILY = "above_family"
    """Its error lies above what other runs of its recipe predict."""
    NOT_FINITE = "nan"
    """Its metric was NaN or infinite."""
    SPIKE = "spike"
    """One validation lies far above those before it."""
    DIVERGENCE = "divergence"
    """The error has jumped up and stays there, or has grown by half."""
    OVERFITTING = "overfitting"
    """The error has turned up."""
    PLATEAU = "plateau"
    """The error stays above its forecast, and has not risen."""
    UNEXPECTEDLY_GOOD = "unexpectedly_good"
    """The error lies below its forecast."""


class Severity(str, Enum):
    """How soon a person should look."""

    NOTICE = "notice"
    """The run goes on as before; what it says may not be what it seems."""
    WARNING = "warning"
    """The run is worse than it should be."""
    CRITICAL = "critical"
    """The run will most likely come to nothing."""


@dataclass(frozen=True)
class Flag:
    """One judgement.

    Attributes:
        kind: What the run is flagged for.
        step: Optimizer step of the observation at which the flag was raised.
        message: One sentence with the numbers, for a person.
        evidence: The numbers behind it.
        severity: How soon a person should look.
    """

    kind: FlagKind
    step: int
    message: str
    evidence: dict[str, float] = field(default_factory=dict)
    severity: Severity = Severity.WARNING

    @property
    def leaves_out(self) -> bool:
        """Whether a run that carries it enters no law of several runs.

        That is so for a warning or worse about the whole of its error. What a notice says may not be what it
        seems, and a spike or a value that is not finite is about single validations.
        """
        momentary = self.kind in (FlagKind.SPIKE, FlagKind.NOT_FINITE)
        return self.severity is not Severity.NOTICE and not momentary

    def to_json(self) -> dict[str, Any]:
        """The flag as plain JSON values."""
        return {
            "kind": self.kind.value,
            "step": self.step,
            "message": self.message,
            "evidence": dict(self.evidence),
            "severity": self.severity.value,
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Flag:
        """The inverse of `to_json`; unknown names are ignored."""
        known = {f.name for f in fields(cls)}
        values = {name: value for name, value in record.items() if name in known}
        severity = Severity(values.get("severity", Severity.WARNING.value))
        return cls(**{**values, "kind": FlagKind(values["kind"]), "severity": severity})
