"""What is asked about a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from foretrain.axes import AXES
from foretrain.projection import LEVELS


@dataclass(frozen=True)
class Question:
    """What is asked about a run.

    Attributes:
        run: Name of the run.
        metric: Name of the metric.
        axis: The data axis, a key of `AXES`.
        targets: Amounts of data to project to, in the axis's unit.
        target_params: Model sizes to project to, in parameters.
        levels: Nominal levels of the intervals.

    Raises:
        ValueError: If the axis is unknown.
    """

    run: str
    metric: str = "val_loss"
    axis: str = "samples"
    targets: tuple[float, ...] = ()
    target_params: tuple[float, ...] = ()
    levels: tuple[float, ...] = LEVELS

    def __post_init__(self) -> None:
        """Refuses an axis that no counts hold."""
        if self.axis not in AXES:
            raise ValueError(f"Expected `axis` to be one of {', '.join(AXES)}, got {self.axis!r}.")

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Question:
        """A question from plain JSON values; unknown names are ignored."""
        known = {f.name for f in fields(cls)}
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in record.items()
            if name in known
        }
        return cls(**values)
