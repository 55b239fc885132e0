"""How often a run sees its data, and what repeats are worth to it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from foretrain.axes import AXES, Counts
from foretrain.families.repeated import effective_data
from foretrain.forecasting.uncertainty import model_curve
from foretrain.laws.law import Array
from foretrain.observation import RunRecord
from foretrain.reporting.findings import Repeats

REPEATED = 1.01
"""Data count as repeated once as many times the distinct data were seen."""

HELD_OUT = 1.5
"""What repeats are worth is tried on the points beyond the last x divided by this."""

FEWEST_BEFORE, FEWEST_AFTER = 8, 2
"""Points before and after that place without which it is not tried."""

SURELY = 3.0
"""Repeats count fully where that makes the error of the trial smaller by this factor. With four epochs either
may be better by two, by chance; with tens of epochs, where it matters, the wrong one is worse by ten."""

NEGLIGIBLE = 5e-4
"""Log errors below this count as this: an average of laws misses an exact one by as much."""


@dataclass(frozen=True)
class DataBudget:
    """How much distinct data a run has.

    Attributes:
        unique: Distinct data in all, in the axis's unit; infinite where none are known to repeat.
        counts_fully: Whether a repeat is taken to be worth as much as new data.
    """

    unique: float = np.inf
    counts_fully: bool = False

    def effective(self, seen: Array) -> Array:
        """How much new data the data seen are worth, shape (n,), in the axis's unit; see `effective_data`."""
        seen = np.asarray(seen, dtype=float)
        if self.counts_fully or not np.isfinite(self.unique):
            return seen
        return effective_data(seen, np.full_like(seen, self.unique))

    def repeats(self, seen: float) -> bool:
        """Whether so much data holds repeats."""
        return seen >= REPEATED * self.unique

    def note(self, seen: float) -> Repeats | None:
        """What is said of so much data; None where nothing repeats."""
        if not self.repeats(seen):
            return None
        return Repeats(seen, self.unique, float(self.effective(np.array([seen]))[0]))

    def learned(self, x: Array, y: Array) -> DataBudget:
        """The same, with repeats worth what they were worth to this curve.

        The published rate is that of text. Where data are augmented, repeats count for more: so the last part
        of the curve is forecast from the part before it, along the effective data and along the data seen.
        Where the latter is much better, it is kept; else the published rate stands.

        Args:
            x: Data seen, shape (n,), ascending, in the axis's unit.
            y: The metric there, shape (n,).
        """
        before = x <= x[-1] / HELD_OUT
        few = before.sum() < FEWEST_BEFORE or (~before).sum() < FEWEST_AFTER
        if few or not self.repeats(float(x[before][-1])):
            return self
        errors, fully = [], replace(self, counts_fully=True)
        for budget in (self, fully):
            worth = budget.effective(x)
            mean, _ = model_curve(worth[before], y[before]).log_moments(worth[~before])
            errors.append(float(np.sqrt(np.mean((np.log(y[~before]) - mean) ** 2))))
        return fully if SURELY * max(errors[1], NEGLIGIBLE) < errors[0] else self


def data_budget(record: RunRecord, axis: str, counts: Counts) -> DataBudget:
    """What a run's plan, or else what it has counted, tells of its distinct data.

    Where distinct samples are not counted, they are the samples of one epoch.

    Args:
        record: The run.
        axis: The data axis, a key of `AXES`.
        counts: What the run has used so far.
    """
    if axis == "unique_samples":
        return DataBudget()
    for known in (record.info.planned, counts):
        x = None if known is None else AXES[axis].read(known)
        if known is None or not x or known.samples <= 0:
            continue
        unique = known.unique_samples or known.samples / max(known.epochs, 1.0)
        if known.samples >= REPEATED * unique:
            return DataBudget(x * (unique / known.samples))
    return DataBudget()
