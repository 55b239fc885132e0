"""Reasons to doubt what is said about one learning curve, each a test with a stated rate of false alarms."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile

import numpy as np
from scipy.special import stdtrit

from foretrain.laws.law import SATURATION, Array
from foretrain.laws.numerics import within_decade
from foretrain.regions import AT_GUESS, checked_interval, checked_level, checked_logs
from foretrain.status import FitStatus

FALSE_ALARMS = 0.01
"""Rate at which a curve that falls steadily, or is flat, is called non-monotone, and a power law is called
faster than one. It holds for noise whose neighbours correlate by up to 0.6, and doubles under heavy tails."""

MIN_POINTS = 8
"""Fewer distinct x than this are too few to tell the law."""

DECADE = float(np.log(10.0))

RECENCY = 0.5
"""For the question whether the error falls, a point counts `(x / x_max) ** RECENCY`."""

RELEVANT_RISE, RELEVANT_SHARE = 0.01, 0.05
"""A rise matters from 1% of the error, and from a twentieth of the range of its logarithm."""

RELEVANT_BEND = 0.25
"""A bend matters where it changes the slope along the last decade by this share."""

MAX_RHO = 0.8
"""Noise more autocorrelated than this is not told from a change of the error."""

MOST_WINDOWS = 500
"""Rises are sought between so many windows side by side at most, which bounds the cost."""

MIN_FOURTH = 12
"""With fewer points no fourth differences are taken."""

MIN_BEND_POINTS = 8
"""With fewer points in the last decade no bend is looked for."""

RHOS = np.linspace(0.0, MAX_RHO, 81)
RATIOS = {lag: (1 - RHOS**lag) * (3 - RHOS**lag) / ((1 - RHOS) * (3 - RHOS)) for lag in (2, 4)}


@dataclass(frozen=True)
class Noise:
    """The noise of ln y from one point to the next, as a first-order autoregression.

    Attributes:
        sd: Standard deviation of one point.
        rho: Correlation of neighbouring points, 0 to 0.8, with an allowance for its own error.
        freedom: Degrees of freedom that `sd` is worth.
    """

    sd: float
    rho: float
    freedom: float

    def of_mean(self, length: Array | float) -> Array:
        """Standard deviation of the mean of so many neighbouring points."""
        m, rho = np.asarray(length, dtype=float), self.rho
        if rho == 0:
            return np.asarray(self.sd / np.sqrt(m))
        sum_of_rho = 2 * rho / (1 - rho) * (1 - (1 - rho**m) / (m * (1 - rho)))
        return np.asarray(self.sd * np.sqrt((1 + sum_of_rho) / m))


def local_noise(log_x: Array, log_y: Array) -> Noise:
    """Noise from second differences, which a smooth curve hardly enters.

    Each point is compared with the line through its neighbours (Gasser, Sroka and Jennen-Steinmetz 1986,
    equation 3), and through its second neighbours: under a first-order autoregression the two mean squares
    stand as `(1 + rho) (3 - rho^2) / (3 - rho)`; likewise through its fourth neighbours. What is smooth looks
    like strongly correlated noise, so fourth differences, which a bend hardly enters, bound the standard
    deviation from above.

    Args:
        log_x: Natural logarithm of x, shape (n,), ascending.
        log_y: Natural logarithm of y, shape (n,).

    Returns:
        The noise; zero with fewer than three points.
    """
    n = log_y.size
    if n < 3:
        return Noise(0.0, 0.0, 1.0)
    near, freedom = _squares(log_x, log_y, 1), max(n / 2.5, 2.0)
    if near <= 0:
        return Noise(0.0, 0.0, freedom)
    told = [
        float(np.interp(_squares(log_x, log_y, lag) / near, RATIOS[lag], RHOS))
        for lag in (2, 4)
        if n >= 5 * lag or (lag == 2 and n > 4)
    ]
    rho = min(max(told, default=0.0) + 1.0 / np.sqrt(n), MAX_RHO)
    sd = np.sqrt(3 * near / ((1 - rho) * (3 - rho)))
    if n >= MIN_FOURTH:
        fourth = _mean_square(np.diff(log_y, 4))
        sd = min(sd, np.sqrt(fourth / (70 - 112 * rho + 56 * rho**2 - 16 * rho**3 + 2 * rho**4)))
    return Noise(float(sd), rho, freedom)


def _squares(log_x: Array, log_y: Array, lag: int) -> float:
    """Mean square of what points differ from the line through their neighbours; sd^2 for white noise."""
    left, right = log_x[lag:-lag] - log_x[: -2 * lag], log_x[2 * lag :] - log_x[lag:-lag]
    whole = left + right
    share = np.where(whole > 0, right / np.where(whole > 0, whole, 1.0), 0.5)
    difference = share * log_y[: -2 * lag] - log_y[lag:-lag] + (1 - share) * log_y[2 * lag :]
    return _mean_square(difference / np.sqrt(1 + share**2 + (1 - share) ** 2))


def _mean_square(difference: Array) -> float:
    """The mean square, outliers held at three robust standard deviations."""
    bulk = 3 * 1.4826 * float(np.median(np.abs(difference)))
    if bulk > 0:
        difference = np.clip(difference, -bulk, bulk)
    return float(np.mean(difference**2))


def doubts(
    x: Array,
    y: Array,
    *,
    y_se: Array | None = None,
    random_guess: float | None = None,
    floor_interval: tuple[float, float] | None = None,
    exponent: float | None = None,
    exponent_bounds: tuple[float, float] | None = None,
    n_scores: int | None = None,
) -> tuple[FitStatus, ...]:
    """What to doubt about one curve and what a fit said of it, the gravest first.

    What is not given is not judged. `docs/doubts.md` says how each doubt is told and what would help.

    Args:
        x: Where the metric was measured, shape (n,), in the axis's unit, ascending. Positive.
        y: The metric there, shape (n,), in its own unit. Positive.
        y_se: Standard error of each y, shape (n,), in the metric's unit. Not negative.
        random_guess: The error of random guessing, in the metric's unit.
        floor_interval: Interval of the irreducible error, in the metric's unit (an 80% interval, say).
        exponent: The fitted exponent.
        exponent_bounds: The range in which it was searched.
        n_scores: How many past forecasts of this curve were scored.

    Returns:
        The doubts, each once; empty if there is none.

    Raises:
        ValueError: If the curve is not positive, finite and in order of x, or another argument is not what it
            should be.
    """
    log_x, log_y = checked_logs(x, y)
    guess, (low, high) = checked_level("random_guess", random_guess), checked_interval(floor_interval)
    noise = _at_least(local_noise(log_x, log_y), y_se, log_y)
    distinct = int(np.count_nonzero(np.diff(np.asarray(x, dtype=float)))) + 1
    found = {
        FitStatus.TOO_FEW_POINTS: distinct < MIN_POINTS,
        FitStatus.NOT_DECREASING: not falls(log_x, log_y, noise),
        FitStatus.NON_MONOTONE: rises(log_y, noise),
        FitStatus.FASTER_THAN_POWER_LAW: low <= 0 and bends_down(log_x, log_y),
        FitStatus.AT_RANDOM_GUESS: guess is not None
        and float(np.median(log_y[-3:])) > np.log(AT_GUESS) + np.log(guess),
        FitStatus.SHORT_RANGE: within_decade(np.asarray(x, dtype=float)),
        FitStatus.FLOOR_NOT_IDENTIFIED: floor_interval is not None and high - low > 0.5 * float(np.min(y)),
        FitStatus.EXPONENT_AT_BOUND: _at_bound(exponent, exponent_bounds),
        FitStatus.UNCALIBRATED: n_scores == 0,
    }
    return tuple(status for status, holds in found.items() if holds)


def _at_least(noise: Noise, y_se: Array | None, log_y: Array) -> Noise:
    """The noise, no less than what the given standard errors say."""
    if y_se is None:
        return noise
    given = np.asarray(y_se, dtype=float)
    if given.shape != log_y.shape or not (np.isfinite(given) & (given >= 0)).all():
        raise ValueError(
            f"Expected `y_se` of shape {log_y.shape}, finite and not negative, got shape {given.shape}: "
            "leave it out if it is not known for every point."
        )
    told = given > 0
    relative = np.exp(np.minimum(np.log(given[told]) - log_y[told], 100.0))
    if not relative.size or float(np.median(relative)) <= noise.sd:
        return noise
    return Noise(float(np.median(relative)), noise.rho, 1e3)


def _at_bound(exponent: float | None, bounds: tuple[float, float] | None) -> bool:
    if exponent is None or bounds is None:
        return False
    low, high = bounds
    if not (np.isfinite(exponent) and 0 < low < high):
        raise ValueError(
            f"Expected a finite exponent and bounds 0 < low < high, got {exponent} and {bounds}: "
            "leave them out if there are none."
        )
    return not low * 1.02 <= exponent <= high * 0.98


def falls(log_x: Array, log_y: Array, noise: Noise) -> bool:
    """Whether the error falls along x: its weighted log slope lies a standard error or more below zero.

    A flat curve passes in about one case of six, and one that truly falls hardly ever fails.
    """
    weight = np.exp(np.maximum(RECENCY * (log_x - log_x[-1]), -SATURATION))
    share = weight / weight.sum()
    off = log_x - share @ log_x
    spread = float(share @ off**2)
    if spread <= 1e-24:
        return False
    slope = float((share * off) @ (log_y - share @ log_y)) / spread
    long_run = noise.sd * np.sqrt((1 + noise.rho) / (1 - noise.rho))
    error = float(long_run * np.sqrt(((share * off) ** 2).sum()) / spread)
    return slope * float(np.sqrt(spread)) < -1e-9 and slope <= -error


def rises(log_y: Array, noise: Noise) -> bool:
    """Whether the error somewhere rises by more than its noise allows, and by a relevant amount.

    The medians of windows of 3, 6, 12, ... neighbouring points are compared with all later ones of their
    length. Under a curve that never rises each difference is at most noise, whatever the curve; the flat one
    is the worst case. The critical value is Student's, divided among all pairs of windows and all lengths
    (Bonferroni), so that the rate of false alarms stays below `FALSE_ALARMS`.

    Args:
        log_y: Natural logarithm of y, shape (n,), in order of x.
        noise: Its noise.

    Returns:
        True if it does. Never with fewer than eight points.
    """
    n = log_y.size
    if n < MIN_POINTS:
        return False
    shortest = max(3, -(-n // MOST_WINDOWS))
    lengths = list(takewhile(lambda m: 3 * m <= n, (shortest * 2**k for k in range(20)))) or [3]
    middle = np.sort(log_y)
    relevant = max(RELEVANT_RISE, RELEVANT_SHARE * float(middle[-2] - middle[1]))
    for m in lengths:
        medians = _window_medians(log_y, m)
        step = max(m // 3, 1)
        apart = -(-m // step)
        lowest = np.minimum.accumulate(medians)[:-apart]
        rise = float(np.max(medians[apart:] - lowest))
        pairs = medians.size * (medians.size - 1) / 2
        critical = -float(stdtrit(noise.freedom, FALSE_ALARMS / (len(lengths) * pairs)))
        error = np.sqrt(2.0) * float(noise.of_mean(m)) * (1.0 + 0.2533 * (1.0 - noise.rho))
        if rise > max(relevant, critical * error):
            return True
    return False


def _window_medians(values: Array, length: int) -> Array:
    windows = np.lib.stride_tricks.sliding_window_view(values, length)[:: max(length // 3, 1)]
    return np.asarray(np.median(windows, axis=1))


def bends_down(log_x: Array, log_y: Array) -> bool:
    """Whether the error falls faster than any power law along the last decade of x.

    A parabola is fitted to ln y over ln x; a power law has no curvature, one with a floor has a positive one.
    The standard error of the curvature counts the autocorrelation of the noise, which `local_noise` tells and
    not the residuals: those of a true bend are no noise. Outliers are held at three standard deviations.

    Args:
        log_x: Natural logarithm of x, shape (n,), ascending.
        log_y: Natural logarithm of y, shape (n,).

    Returns:
        True if the curvature is negative at the 1% level and relevant. Never with fewer than eight points, or
        less than a factor of three, in the last decade.
    """
    inside = log_x >= log_x[-1] - DECADE
    u, v = log_x[inside] - log_x[-1], log_y[inside]
    n, span = v.size, float(-u[0])
    if n < MIN_BEND_POINTS or span < np.log(3.0) or np.count_nonzero(np.diff(u)) < MIN_BEND_POINTS - 1:
        return False
    design = np.stack([np.ones(n), u, u**2], axis=1)
    noise = local_noise(u, v)
    inverse = np.linalg.inv(design.T @ design)
    for _ in range(2):
        coefficients = inverse @ (design.T @ v)
        residual = v - design @ coefficients
        bulk = 3 * max(noise.sd, 1.4826 * float(np.median(np.abs(residual))))
        v = design @ coefficients + np.clip(residual, -bulk, bulk)
    start, end = coefficients[1] - 2 * coefficients[2] * span, coefficients[1]
    if not (end < 0 and end < start and start - end > RELEVANT_BEND * -end):
        return False
    error = noise.sd * float(np.sqrt(inverse[2, 2] * (1 + noise.rho) / (1 - noise.rho)))
    return bool(coefficients[2] < float(stdtrit(noise.freedom, FALSE_ALARMS)) * error)
