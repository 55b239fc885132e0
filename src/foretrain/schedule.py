"""The learning rate of every optimizer step, as data: kept as knots with straight lines between them."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from foretrain.knots import MAX_KNOTS, KnotBuilder, Knots, cut, thin

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

MAX_STEP = 2**53
"""Latest step: the last that a float holds exactly."""


@dataclass(frozen=True)
class Schedule:
    """The learning rate of every optimizer step from `first` to `end`.

    Between two knots the rate lies on a straight line; a jump is two knots at neighbouring steps.

    Attributes:
        steps: Steps of the knots, rising; the first optimizer step of a run is step 1.
        values: Learning rates at the knots.
        tolerance: Largest error of any rate, as a learning rate.

    Raises:
        ValueError: If there are no knots, their steps do not rise, or a rate is negative or not finite.

    Example:
        >>> schedule = Schedule.from_rates([0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 0.1])
        >>> schedule.steps, schedule.values
        ((1, 4, 6, 7), (0.25, 1.0, 1.0, 0.1))
        >>> schedule.warmup_end, schedule.is_constant_after_warmup
        (4, False)
    """

    steps: tuple[int, ...]
    values: tuple[float, ...]
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        """Refuses what is no schedule, in words."""
        if not self.steps or len(self.steps) != len(self.values):
            raise ValueError(
                f"Expected a rate for each of at least one step, got {len(self.values)} rates and "
                f"{len(self.steps)} steps: give one rate for each knot."
            )
        rising = all(a < b for a, b in zip(self.steps, self.steps[1:], strict=False))
        if not (rising and self.steps[0] >= 1 and self.steps[-1] <= MAX_STEP):
            raise ValueError(f"Expected steps that rise from 1 on, got {_some(self.steps)}: sort the knots.")
        if not all(0.0 <= value < math.inf for value in self.values):
            raise ValueError(
                f"Expected learning rates that are finite and not negative, got {_some(self.values)}: "
                "leave out the steps whose rate is unknown."
            )
        if not 0.0 <= self.tolerance < math.inf:
            raise ValueError(
                f"Expected a tolerance that is finite and not negative, got {self.tolerance}: "
                "pass 0 where the knots are exact."
            )

    @classmethod
    def from_rates(cls, rates: ArrayLike, first_step: int = 1) -> Schedule:
        """The schedule of given learning rates, one for each step.

        Args:
            rates: Learning rates, shape (n,), of the steps `first_step`, `first_step` + 1, ...
            first_step: The step of the first of them.

        Raises:
            ValueError: If there are none, or one is negative or not finite.
        """
        builder = KnotBuilder()
        for step, rate in enumerate(_as_list(rates), first_step):
            builder.add(step, rate)
        return cls.from_knots(builder.knots(), builder.tolerance)

    @classmethod
    def from_knots(cls, knots: Iterable[tuple[int, float]], tolerance: float = 0.0) -> Schedule:
        """The schedule of given knots, made fewer if there are more than `MAX_KNOTS`.

        Raises:
            ValueError: If they are no knots of a schedule.
        """
        knots = list(knots)
        if len(knots) > MAX_KNOTS:
            knots, tolerance = thin(knots, tolerance, MAX_KNOTS)
        return cls(tuple(step for step, _ in knots), tuple(value for _, value in knots), tolerance)

    @property
    def knots(self) -> Knots:
        """The knots as pairs of step and rate."""
        return list(zip(self.steps, self.values, strict=True))

    @property
    def first(self) -> int:
        """The first step."""
        return self.steps[0]

    @property
    def end(self) -> int:
        """The last step."""
        return self.steps[-1]

    @property
    def peak(self) -> float:
        """The largest rate."""
        return max(self.values)

    @property
    def warmup_end(self) -> int:
        """The first step at the peak rate: where there is no warm-up, the first step."""
        return self.steps[self._peak_knot()]

    @property
    def is_constant_after_warmup(self) -> bool:
        """Whether the rate stays at its peak once it has come there."""
        return min(self.values[self._peak_knot() :]) >= self.peak - 2.0 * self.tolerance

    def _peak_knot(self) -> int:
        near = self.peak - 2.0 * self.tolerance
        return next(index for index, value in enumerate(self.values) if value >= near)

    def rates(self, until: int | None = None) -> NDArray[np.float64]:
        """The rate of every step.

        Args:
            until: The last step wanted; by default the schedule's last.

        Returns:
            Learning rates, shape (n,), of the steps `first` to `until`: where the schedule begins with step
            1, the rate of step i stands at index i - 1.

        Raises:
            ValueError: If `until` lies outside the schedule.
        """
        import numpy as np

        until = self.end if until is None else until
        if not self.first <= until <= self.end:
            raise ValueError(
                f"Expected `until` to be a step from {self.first} to {self.end}, got {until}: "
                "the schedule does not tell the rates of others."
            )
        return self.at(np.arange(self.first, until + 1))

    def at(self, steps: ArrayLike) -> NDArray[np.float64]:
        """The rates at given steps.

        Args:
            steps: Optimizer steps, any shape, from `first` to `end`; between two whole steps the rate lies on
                the line between theirs.

        Returns:
            Learning rates, of the same shape.

        Raises:
            ValueError: If a step lies outside the schedule.
        """
        import numpy as np

        wanted = np.asarray(steps, dtype=float)
        if wanted.size and not (wanted.min() >= self.first and wanted.max() <= self.end):
            raise ValueError(
                f"Expected steps from {self.first} to {self.end}, got {wanted.min():g} to {wanted.max():g}: "
                "the schedule does not tell the rates of others."
            )
        return np.asarray(np.interp(wanted, self.steps, self.values))

    def append(self, rates: ArrayLike) -> Schedule:
        """The schedule with further steps.

        Args:
            rates: Learning rates, shape (n,), of the steps after `end`.

        Raises:
            ValueError: If one is negative or not finite.
        """
        further = _as_list(rates)
        return self.joined(Schedule.from_rates(further, self.end + 1)) if further else self

    def joined(self, later: Schedule) -> Schedule:
        """This schedule, and beyond its end another one, as far as that one goes."""
        if later.end <= self.end:
            return self
        knots = self.knots + cut(later.knots, first=self.end + 1)
        return Schedule.from_knots(knots, max(self.tolerance, later.tolerance))

    def stretched(self, factor: float) -> Schedule:
        """The same shape over another number of steps, as one would train with more data.

        The warm-up keeps its length in steps, and what follows is stretched so that the whole has `factor`
        times the steps. A warm-up lasts until the weights have left where they began and the optimizer's
        averages have filled; that takes as many steps however long the run is, and recipes keep it so.
        A jump becomes a line of about `factor` steps.

        Args:
            factor: Steps of the new schedule, in units of those of this one.

        Raises:
            ValueError: If the new steps would not suffice for the warm-up and one more.
        """
        import numpy as np

        start, end = self.warmup_end, round(self.end * factor) if 0.0 < factor < math.inf else 0
        if end < start or (end == start and self.end > start):
            raise ValueError(
                f"Expected a factor that leaves steps after the warm-up of {start} steps, got {factor} times "
                f"{self.end} steps: pass a larger one."
            )
        knots = cut(self.knots, last=start)
        if end > start:
            scale = (self.end - start) / (end - start)
            # Every bend lies between two of these neighbouring steps, so that each step's rate is exact.
            bends = start + (np.asarray(self.steps) - start) / scale if scale else np.empty(0)
            new = np.unique(np.concatenate([np.floor(bends), np.ceil(bends), [end]]))
            new = new[(new > start) & (new <= end)]
            rates = self.at(np.minimum(start + (new - start) * scale, self.end))
            knots += zip(map(int, new), map(float, rates), strict=True)
        return Schedule.from_knots(knots, self.tolerance)

    def to_json(self) -> dict[str, Any]:
        """The schedule as plain JSON values."""
        return {"knots": [[step, value] for step, value in self.knots], "tolerance": self.tolerance}

    @classmethod
    def from_json(cls, record: Any) -> Schedule:
        """The inverse of `to_json`; unknown names are ignored.

        Raises:
            ValueError: If the record holds no schedule.
        """
        knots = record.get("knots") if isinstance(record, dict) else None
        if not isinstance(knots, list) or not all(map(_is_knot, knots)):
            raise ValueError(
                "Expected knots, pairs of a whole step and a rate, got a record without: skip it."
            )
        tolerance = record.get("tolerance", 0.0)
        if not _is_number(tolerance):
            raise ValueError(f"Expected a number as tolerance, got {tolerance!r}: skip the record.")
        return cls.from_knots([(step, float(value)) for step, value in knots], float(tolerance))


def _as_list(rates: ArrayLike) -> list[float]:
    import numpy as np

    values = np.asarray(rates, dtype=float)
    if values.ndim != 1:
        raise ValueError(
            f"Expected learning rates of shape (n,), got shape {values.shape}: give one per step."
        )
    return [float(value) for value in values]


def _is_knot(knot: Any) -> bool:
    return isinstance(knot, list) and len(knot) == 2 and type(knot[0]) is int and _is_number(knot[1])


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def _some(values: tuple[Any, ...]) -> str:
    return ", ".join(map(str, values[:5])) + (", ..." if len(values) > 5 else "")
