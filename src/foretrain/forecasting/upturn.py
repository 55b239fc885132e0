"""Whether a validation curve is past its minimum, where that lies, and how good its best value truly is."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_ndtr, stdtrit

from foretrain.forecasting.doubts import FALSE_ALARMS, MIN_POINTS, Noise, local_noise
from foretrain.laws.law import Array
from foretrain.regions import checked_logs

RELEVANT = 1e-3
"""A rise matters from a thousandth of the error: it is noiseless arithmetic that is less."""

SHORTEST = 3
"""So many evaluations at least are taken together."""

MOST_WINDOWS = 33
"""No fewer than this part of all of them, though: medians of three have tails where the noise has."""

NEAR = 5
"""The minimum's place is told from this part of the evaluations, those next to the lowest."""

FEWEST_NEAR = 9
"""But from so many at least."""

LARGEST_LOG = 700.0
"""Larger logarithms leave the floats."""

OF_MEDIAN = 0.2533
"""How much larger, relatively, the standard error of a median is than that of a mean, at white noise."""


@dataclass(frozen=True)
class Upturn:
    """Where a validation curve has its minimum, and whether it is past it.

    Attributes:
        past: Whether the end lies above the lowest part by more than the noise allows.
        x_best: Where the minimum lies, in the axis's unit.
        y_best: The smoothed curve there, in the metric's unit: what the model of that time is worth.
        y_lowest: The lowest single evaluation.
        bias: By how much the lowest single evaluation is expected to lie below the curve's minimum, by the
            choice alone, in the metric's unit; `y_lowest + bias` is the other estimate of the minimum.
        candidates: How many independent evaluations compete for the lowest: those where the curve is within
            one standard deviation of its minimum.
    """

    past: bool
    x_best: float
    y_best: float
    y_lowest: float
    bias: float
    candidates: float


def upturn(x: ArrayLike, y: ArrayLike) -> Upturn:
    """Tells whether a validation curve is past its minimum, and what it was.

    The medians of the last 3, 6, 12, ... evaluations are compared with all earlier ones of their number. The
    noise is that of neighbouring evaluations, with their autocorrelation (`doubts.local_noise`). The critical
    value is Student's at 1%, divided among the numbers and among windows side by side (Bonferroni). On curves
    that fall or have come to rest, with normal noise whose neighbours correlate by up to 0.6, less than 1%
    are called past their minimum (at most .5% of simulated ones, 1% under heavy tails).

    The minimum is the vertex of a parabola in ln x through the evaluations next to the lowest part. The
    lowest single evaluation lies lower still, by the choice: with k independent evaluations of the same curve
    by 1.03, 1.54, 1.87 and 2.25 standard deviations of the noise for k = 4, 10, 20 and 50. `bias` is the
    expectation for the parabola's own heights; where neighbours correlate by rho, k evaluations count as
    `k (1 - rho^2)`, which simulated extremes obey for rho up to 0.6. What is chosen by a validation set
    should be reported from another one.

    Args:
        x: Where the metric was measured, shape (n,), in the axis's unit, ascending. Positive.
        y: The metric there, shape (n,), in its own unit, smaller is better; not smoothed. Positive.

    Returns:
        The minimum, and whether the curve is past it; with fewer than eight evaluations it never is.

    Raises:
        ValueError: If the curve is not positive, finite and in order of x.
    """
    log_x, log_y = checked_logs(np.asarray(x, dtype=float), np.asarray(y, dtype=float))
    noise, lowest = local_noise(log_x, log_y), int(np.argmin(log_y))
    least = float(np.exp(log_y[lowest]))
    if log_y.size < MIN_POINTS:
        return Upturn(False, float(np.exp(log_x[lowest])), least, least, 0.0, 1.0)
    place, level, heights = _minimum(log_x, log_y)
    independent = 1.0 - noise.rho**2
    by_choice = noise.sd * _below(heights, noise.sd, independent)
    return Upturn(
        past=_is_past(log_y, noise),
        x_best=float(np.exp(place)),
        y_best=float(np.exp(level)),
        y_lowest=least,
        bias=max(float(np.exp(min(log_y[lowest] + by_choice, LARGEST_LOG))) - least, 0.0),
        candidates=max(float((heights <= noise.sd).sum()) * independent, 1.0),
    )


def _below(heights: Array, sd: float, independent: float) -> float:
    """How far below 0 the least of normal numbers about these heights is expected, in their sd, or 0."""
    if sd <= 0:
        return 0.0
    offsets = np.minimum(heights / sd, 50.0)
    least = np.linspace(-8.0, 8.0, 801)
    survival = np.exp(independent * log_ndtr(offsets[:, None] - least).sum(axis=0))
    below = np.where(least < 0, 1.0 - survival, -survival)
    return max(float(below.sum() * (least[1] - least[0])), 0.0)


def _is_past(log_y: Array, noise: Noise) -> bool:
    """Whether the end lies above some earlier part by more than the noise allows."""
    n = log_y.size
    shortest = max(SHORTEST, -(-n // MOST_WINDOWS))
    lengths = list(takewhile(lambda m: 3 * m <= n, (shortest * 2**k for k in range(20)))) or [SHORTEST]
    for m in lengths:
        windows = np.lib.stride_tricks.sliding_window_view(log_y[: n - m], m)[:: max(m // 3, 1)]
        earlier = np.median(windows, axis=1)
        rise = float(np.median(log_y[n - m :]) - earlier.min())
        critical = -float(stdtrit(noise.freedom, FALSE_ALARMS / (len(lengths) * n / m)))
        error = np.sqrt(2.0) * float(noise.of_mean(m)) * (1.0 + OF_MEDIAN * (1.0 - noise.rho))
        if rise > max(RELEVANT, critical * error):
            return True
    return False


def _minimum(log_x: Array, log_y: Array) -> tuple[float, float, Array]:
    """Place and level of the minimum, and the curve's heights above it at the evaluations near it."""
    n = log_y.size
    short = max(SHORTEST, n // 20)
    means = np.convolve(log_y, np.full(short, 1.0 / short), mode="valid")
    middle = int(np.argmin(means)) + short // 2
    near = min(max(FEWEST_NEAR, n // NEAR), n)
    first = min(max(middle - near // 2, 0), n - near)
    u, v = log_x[first : first + near] - log_x[middle], log_y[first : first + near]
    span = float(np.abs(u).max())
    if span <= 0:
        return float(log_x[middle]), float(v.mean()), np.zeros(near)
    t = u / span
    (c, b, a), _ = np.polynomial.polynomial.polyfit(t, v, 2, full=True)
    with np.errstate(over="ignore"):
        inside = float(np.clip(-b / (2 * a), t[0], t[-1])) if a > 0 else t[0]
    places = np.array([t[0], t[-1], inside])
    levels = c + places * (b + a * places)
    best = int(np.argmin(levels))
    heights = np.maximum(c + t * (b + a * t) - levels[best], 0.0)
    return float(log_x[middle] + span * places[best]), float(levels[best]), heights
