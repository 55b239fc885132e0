"""Scores of predictions on the log scale, ratios of them with intervals, and tables to print or paste."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from rich.console import Console
from rich.table import Table

FLOOR = 1e-3
"""Lower ends below this share of the median are set to it: an interval of errors that reaches below zero has
no width in logarithms."""


NEGLIGIBLE = 1e-3
"""An error that no one would mind: without it, one lucky last value makes a ratio without bound."""
EVENLY = "domains alike"
"""Name of the row that `evenly` fills."""


def rmsle(median: np.ndarray, truth: np.ndarray) -> float:
    """Root mean square of ln(predicted / measured), over points."""
    return float(np.sqrt(np.mean(np.log(median / truth) ** 2)))


def coverage(lower: np.ndarray, upper: np.ndarray, truth: np.ndarray) -> float:
    """Share of points inside, ends included."""
    return float(((lower <= truth) & (truth <= upper)).mean())


def log_ends(lower: np.ndarray, upper: np.ndarray, median: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ends of an interval in logarithms, floored at `FLOOR` times the median."""
    floor = FLOOR * median
    return np.log(np.maximum(lower, floor)), np.log(np.maximum(upper, floor))


def winkler(lower: np.ndarray, upper: np.ndarray, truth: np.ndarray, level: float) -> np.ndarray:
    """Interval score of central intervals, point by point; all in logarithms, less is better.

    The width, and for a point outside its distance from the nearer end times 2 / (1 - level).

    Source: Winkler 1972; Gneiting and Raftery 2007, equation 43.
    """
    miss = np.maximum(lower - truth, 0) + np.maximum(truth - upper, 0)
    return upper - lower + 2 / (1 - level) * miss


def ratio_interval(
    above: np.ndarray, below: np.ndarray, groups: Sequence[str], draws: int = 4000
) -> tuple[float, float, float]:
    """Ratio of two means over curves, and its 95 % interval.

    Bootstrap of whole groups: curves of one group are not independent.
    """
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    sums = np.stack([np.bincount(member, weights=v, minlength=names.size) for v in (above, below)])
    drawn = np.random.default_rng(0).integers(0, names.size, (draws, names.size))
    ratios = sums[0][drawn].sum(axis=1) / sums[1][drawn].sum(axis=1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(above.sum() / below.sum()), float(low), float(high)


def worst_ratio(above: np.ndarray, below: np.ndarray) -> float:
    """Largest ratio of two errors on one curve, errors below `NEGLIGIBLE` counted as that."""
    return float((np.maximum(above, NEGLIGIBLE) / np.maximum(below, NEGLIGIBLE)).max())


def evenly(ratios: Sequence[float]) -> float:
    """Geometric mean of ratios, one a domain, so that large domains count no more than small ones."""
    return float(np.exp(np.mean(np.log(ratios))))


def short(value: float) -> str:
    """Four decimals without the leading zero."""
    return f"{value:.4f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.3f}"


def share(value: float) -> str:
    """Two decimals, without a leading zero."""
    return f"{value:.2f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.2f}"


@dataclass
class Sheet:
    """A table that prints itself for a terminal or as Markdown."""

    title: str
    columns: Sequence[str]
    rows: list[list[str]] = field(default_factory=list)

    def add(self, *cells: str) -> None:
        """One row."""
        self.rows.append(list(cells))

    def show(self, *, markdown: bool) -> None:
        """Prints it."""
        if markdown:
            print(f"\n{self.title}:\n")
            for cells in (self.columns, ["---"] * len(self.columns), *self.rows):
                print("| " + " | ".join(cells) + " |")
            return
        table = Table(title=self.title)
        for i, column in enumerate(self.columns):
            table.add_column(column, justify="right" if i else "left")
        for cells in self.rows:
            table.add_row(*cells)
        Console().print(table)
