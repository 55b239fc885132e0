"""Scores of predictions on the log scale, ratios of them with intervals, and tables to print or paste."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.special import betaincinv, stdtrit

FLOOR = 1e-3
"""Lower ends below this share of the median are set to it: an interval of errors that reaches below zero has
no width in logarithms."""


NEGLIGIBLE = 1e-3
"""An error that no one would mind: without it, one lucky last value makes a ratio without bound."""
EVENLY = "domains alike"
"""Name of the row that `evenly` fills."""
MOST = 100
"""Upper ends of ratios are not told beyond this."""


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


def coverage_interval(inside: np.ndarray, groups: Sequence[str]) -> tuple[float, float, float]:
    """Mean coverage over curves, and the 95 % interval of the rate that so many groups of curves can tell.

    That of a binomial rate (Clopper and Pearson 1934), for as many trials as the variance between groups says
    that the curves are worth: at most one a curve. Where all curves agree, there is no such variance, and
    each group is one trial: three groups that hold altogether still allow a rate of .29.

    Args:
        inside: Share of each curve's held-out points that lies inside, shape (curves,).
        groups: Group of each curve. Curves of one group are not independent.

    Source: Korn and Graubard 1998, Survey Methodology 24, section 2.
    """
    member = np.unique(np.asarray(groups), return_inverse=True)[1]
    n, many = inside.size, int(member.max()) + 1
    rate = float(inside.mean())
    between = float((np.bincount(member, weights=inside - rate) ** 2).sum()) / n**2
    trials = float(many)
    if between > 1e-12 and many > 1:
        freedom = (stdtrit(n - 1, 0.975) / stdtrit(many - 1, 0.975)) ** 2
        trials = min(rate * (1 - rate) / (between * many / (many - 1)) * freedom, float(n))
    hits = rate * trials
    low = 0.0 if hits <= 0 else float(betaincinv(hits, trials - hits + 1, 0.025))
    high = 1.0 if hits >= trials else float(betaincinv(hits + 1, trials - hits, 0.975))
    return rate, low, high


def log_mean_interval(values: np.ndarray, groups: Sequence[str]) -> tuple[float, float, float]:
    """Geometric mean over curves, and its 95 % interval as `ratio_interval` has it."""
    member = np.unique(np.asarray(groups), return_inverse=True)[1]
    sums, sizes = np.bincount(member, weights=np.log(values)), np.bincount(member)
    return _jackknife(sums.sum() / sizes.sum(), sums.sum() - sums, sizes.sum() - sizes)


def ratio_interval(above: np.ndarray, below: np.ndarray, groups: Sequence[str]) -> tuple[float, float, float]:
    """Ratio of two means over curves, and its 95 % interval; nan where there is one group alone.

    The jackknife by groups of curves, of the logarithm, with quantiles of Student's t for one less than there
    are groups: two or three groups tell little, where a bootstrap of so few is far too narrow.

    Source: MacKinnon, Nielsen and Webb 2023, Journal of Applied Econometrics 38, the variance CV3.
    """
    member = np.unique(np.asarray(groups), return_inverse=True)[1]
    tops, bottoms = np.bincount(member, weights=above), np.bincount(member, weights=below)
    whole = float(np.log(tops.sum() / bottoms.sum()))
    without = [total - part for total, part in ((tops.sum(), tops), (bottoms.sum(), bottoms))]
    with np.errstate(divide="ignore", invalid="ignore"):
        return _jackknife(whole, np.log(without[0] / without[1]), np.ones(tops.size))


def _jackknife(whole: float, tops: np.ndarray, bottoms: np.ndarray) -> tuple[float, float, float]:
    """What a logarithm stands for, and its interval: without each group it is `tops / bottoms`."""
    many = tops.size
    if many < 2:
        return float(np.exp(whole)), np.nan, np.nan
    apart = tops / bottoms - whole
    half = stdtrit(many - 1, 0.975) * float(np.sqrt((many - 1) / many * (apart**2).sum()))
    with np.errstate(over="ignore"):
        return float(np.exp(whole)), float(np.exp(whole - half)), float(np.exp(whole + half))


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


def ends(low: float, high: float) -> str:
    """An interval of a ratio or rate."""
    if np.isnan(low):
        return "one group"
    return f"{share(low)} to {share(high) if high < MOST else f'over {MOST}'}"


def with_ends(value: float, low: float, high: float) -> str:
    """A ratio or rate and its interval."""
    return f"{share(value)} ({ends(low, high)})"


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
