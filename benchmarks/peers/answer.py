"""What a method answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEVELS = (0.8, 0.9)
"""Nominal levels of the central intervals."""

Intervals = dict[float, tuple[np.ndarray, np.ndarray]]
Answer = tuple[np.ndarray, Intervals]
"""Median, shape (m,), and lower and upper end of the central intervals by nominal level, (m,) each."""


@dataclass(frozen=True)
class Timed:
    """A method's answer on one curve.

    Attributes:
        median: Predicted error, shape (m,), positive.
        intervals: Lower and upper ends by nominal level; empty for a method that has none.
        seconds: Processor time.
        failed: Whether the last value stands in for at least one point.
    """

    median: np.ndarray
    intervals: Intervals
    seconds: float
    failed: bool
