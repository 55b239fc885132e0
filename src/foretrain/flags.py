"""Flags: judgements that a person should see, each with its evidence."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any


class FlagKind(str, Enum):
    """What a run is flagged for."""

    ABOVE_FAMILY = "above_family"
    """Its error lies above what the study's other runs predict for its size and data."""
    NOT_FINITE = "not_finite"
    """Its metric was NaN or infinite."""


@dataclass(frozen=True)
class Flag:
    """One judgement.

    Attributes:
        kind: What the run is flagged for.
        step: Optimizer step of the observation at which the flag was raised.
        message: One sentence with the numbers, for a person.
        evidence: The numbers behind it.
    """

    kind: FlagKind
    step: int
    message: str
    evidence: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The flag as plain JSON values."""
        return {
            "kind": self.kind.value,
            "step": self.step,
            "message": self.message,
            "evidence": dict(self.evidence),
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Flag:
        """The inverse of `to_json`; unknown names are ignored."""
        known = {f.name for f in fields(cls)}
        values = {name: value for name, value in record.items() if name in known}
        return cls(**{**values, "kind": FlagKind(values["kind"])})
