"""The three regions of a learning curve: best guess, power law, irreducible error."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from foretrain.laws.law import Array

SMALL_DATA, POWER_LAW, IRREDUCIBLE = 1, 2, 3

AT_GUESS = 0.9
"""An error above this share of the error of random guessing counts as best guess."""

NEAR_FLOOR = 1.5
"""An error below this many times the irreducible error counts as irreducible."""

FLAT = 0.25
"""A slope below this share of the steepest one counts as a plateau."""

SURELY_FLAT = 0.5
"""So does only one that is, two standard errors up, still below this share of the steepest."""

MIN_WINDOW = 6
"""A local slope rests on at least this many points."""

BANDWIDTH = 0.08
"""Standard deviation of the kernel of a local slope, as a share of the range of ln x; wider where points are
few."""

PLACES = 48
"""The local slopes are taken at so many places, evenly spaced in ln x."""

MAX_BINS = 128
"""Points nearer than this share of the range of ln x are averaged first, which bounds the cost."""

MIN_POINTS = 8
"""With fewer points every point is taken to lie in the power-law region, unless a level says otherwise."""


@dataclass(frozen=True)
class Regions:
    """Where a learning curve leaves the best guess and where it meets its irreducible error.

    Attributes:
        labels: The region of each point, shape (n,): 1 small data, 2 power law, 3 irreducible; never falling.
        starts: First index of regions 1, 2 and 3.
        ends: One past the last index of regions 1, 2 and 3; equal to the start where the region is empty.
        power_law_start: x at which the power-law region begins, in the axis's unit: half way in ln x between
            the points on either side; None if no point lies before it.
        irreducible_start: x at which the irreducible region begins, likewise; None if no point lies in it, or
            all do.
    """

    labels: np.ndarray[tuple[int], np.dtype[np.int64]] = field(repr=False)
    starts: tuple[int, int, int]
    ends: tuple[int, int, int]
    power_law_start: float | None
    irreducible_start: float | None


@dataclass(frozen=True)
class LocalSlopes:
    """A curve smoothed by lines through the points near each place.

    Attributes:
        log_x: Where, natural logarithm, shape (m,), ascending.
        level: ln y there, shape (m,).
        slope: d ln y / d ln x there, shape (m,).
        error: Its standard error, shape (m,).
    """

    log_x: Array
    level: Array
    slope: Array
    error: Array


def local_slopes(log_x: Array, log_y: Array) -> LocalSlopes:
    """Smooths ln y along ln x, robustly, and tells the slope with its standard error.

    At each of 48 places a line is fitted to the points near it by least squares (Cleveland 1979, locally
    weighted regression, here with a normal kernel and one robust round). Standard errors count the
    autocorrelation of neighbouring residuals.

    Args:
        log_x: Natural logarithm of x, shape (n,), ascending; not all the same.
        log_y: Natural logarithm of y, shape (n,).

    Returns:
        Level, slope and standard error along ln x.
    """
    log_x, log_y, count = _binned(log_x, log_y)
    places = np.linspace(log_x[0], log_x[-1], PLACES)
    distance = np.abs(places[:, None] - log_x)
    nth = min(MIN_WINDOW, log_x.size) - 1
    near = np.partition(distance, nth, axis=1)[:, nth]
    width = np.maximum(np.maximum(BANDWIDTH * (log_x[-1] - log_x[0]), 0.6 * near), 1e-12)
    weight = np.exp(-np.minimum(0.5 * (distance / width[:, None]) ** 2, 50.0)) * count
    level, slope, spread = _lines(places, log_x, log_y, weight)
    residual = (log_y - np.interp(log_x, places, level)) * np.sqrt(count)
    scale = 1.4826 * float(np.median(np.abs(residual)))
    if scale > 0:
        weight = weight / np.maximum(np.abs(residual) / (2.0 * scale), 1.0)
        level, slope, spread = _lines(places, log_x, log_y, weight)
        residual = (log_y - np.interp(log_x, places, level)) * np.sqrt(count)
        residual = np.clip(residual, -3.0 * scale, 3.0 * scale)
    square = float(residual @ residual)
    if square > 0:
        rho = min(max(float(residual[1:] @ residual[:-1]) / square + 2.0 / log_x.size, 0.0), 0.8)
        square *= (1.0 + rho) / (1.0 - rho)
    mass, variance = weight.sum(axis=1), (weight**2 / count).sum(axis=1)
    points = mass**2 / variance
    noise = square / log_x.size * points / np.maximum(points - 2.0, 0.5)
    error = np.sqrt(noise / points / np.maximum(spread, 1e-24))
    return LocalSlopes(places, level, slope, error)


def _binned(log_x: Array, log_y: Array) -> tuple[Array, Array, Array]:
    """Means of ln x and ln y in narrow bins of ln x, and how many points each holds."""
    if log_x.size <= MAX_BINS:
        return log_x, log_y, np.ones(log_x.size)
    edges = np.linspace(log_x[0], log_x[-1], MAX_BINS + 1)[1:-1]
    start = np.unique(np.searchsorted(log_x, edges, side="right"))
    start = np.concatenate([[0], start[(start > 0) & (start < log_x.size)]])
    count = np.diff(np.append(start, log_x.size)).astype(float)
    return np.add.reduceat(log_x, start) / count, np.add.reduceat(log_y, start) / count, count


def _lines(places: Array, log_x: Array, log_y: Array, weight: Array) -> tuple[Array, Array, Array]:
    """Level at each place, slope, and variance of ln x under its weights; each of shape (m,)."""
    share = weight / weight.sum(axis=1, keepdims=True)
    at, level = share @ log_x, share @ log_y
    off = log_x - at[:, None]
    spread = (share * off**2).sum(axis=1)
    product = (share * off) @ log_y
    slope = np.where(spread > 1e-20, product / np.maximum(spread, 1e-20), 0.0)
    return level + slope * (places - at), slope, spread


def label_regions(
    x: Array, y: Array, *, random_guess: float | None = None, floor: tuple[float, float] | None = None
) -> Regions:
    """Tells the regions of one learning curve: small data, power law, irreducible error.

    Small data: at the left end, where the smoothed error lies above 0.9 times the error of random guessing.
    Where that error is not known: where the local slope lies below a quarter of the steepest one of the
    curve, and surely below half of it. Irreducible: at the right end, where the smoothed error lies below 1.5
    times the middle of `floor`, and only if `floor` excludes zero. All else is the power-law region.

    Args:
        x: Where the metric was measured, shape (n,), in the axis's unit, ascending. Positive.
        y: The metric there, shape (n,), in its own unit. Positive.
        random_guess: The error of random guessing, in the metric's unit: one less the share of the commonest
            class, or the entropy of the labels.
        floor: Interval of the irreducible error, in the metric's unit (an 80% interval, say).

    Returns:
        The regions.

    Raises:
        ValueError: If x and y are not one-dimensional, equally long, positive, finite and in order of x, or a
            level is not positive.

    References:
        Hestness et al. 2017, arXiv:1712.00409, section 2 and figure 6 of Hestness et al. 2019 (the regions).
    """
    log_x, log_y = checked_logs(x, y)
    guess = checked_level("random_guess", random_guess)
    low, high = checked_interval(floor)
    by_slope = guess is None and log_x.size >= MIN_POINTS
    first, last = 0, log_x.size
    if log_x[-1] > log_x[0] and (by_slope or guess is not None or low > 0):
        smooth = local_slopes(log_x, log_y)
        ends: float = -np.inf
        if guess is not None:
            ends = _leading(smooth.log_x, smooth.level > np.log(AT_GUESS) + np.log(guess))
        elif by_slope:
            ends = _leading(smooth.log_x, _plateau(smooth))
        first = int(np.searchsorted(log_x, ends, side="right"))
        if low > 0:
            below = smooth.level < np.log(NEAR_FLOOR) + np.log(low / 2 + high / 2)
            starts = -_leading(-smooth.log_x[::-1], below[::-1])
            last = max(int(np.searchsorted(log_x, starts, side="left")), first)
    elif guess is not None and np.median(log_y) > np.log(AT_GUESS) + np.log(guess):
        first = log_x.size
    labels = np.full(log_x.size, POWER_LAW)
    labels[:first], labels[last:] = SMALL_DATA, IRREDUCIBLE

    def between(index: int) -> float | None:
        if index in (0, log_x.size):
            return None
        return float(np.exp(log_x[index - 1] / 2 + log_x[index] / 2))

    return Regions(labels, (0, first, last), (first, last, log_x.size), between(first), between(last))


def _plateau(smooth: LocalSlopes) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Where the curve is flat beside its steepest part; nowhere if no part surely falls."""
    steepest = float(np.max(-smooth.slope - 2.0 * smooth.error))
    fall = -smooth.slope
    flat = (fall < FLAT * steepest) & (fall + 2.0 * smooth.error < SURELY_FLAT * steepest)
    return np.asarray(flat & (steepest > 1e-9))


def _leading(log_x: Array, holds: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> float:
    """Half way to the first place where it does not hold; -inf if at the first, inf if nowhere."""
    fails = np.flatnonzero(~holds)
    if not fails.size:
        return float("inf")
    return -float("inf") if fails[0] == 0 else float(log_x[fails[0] - 1 : fails[0] + 1].mean())


def checked_logs(x: Array, y: Array) -> tuple[Array, Array]:
    """The natural logarithms of a curve.

    Args:
        x: Shape (n,), ascending. Positive.
        y: Shape (n,). Positive.

    Returns:
        ln x and ln y.

    Raises:
        ValueError: If they are not one-dimensional, equally long, positive, finite and in order of x.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if x.ndim != 1 or x.shape != y.shape or not x.size:
        raise ValueError(
            f"Expected x and y of one shape (n,) with at least one point, got {x.shape} and {y.shape}."
        )
    for name, values in (("x", x), ("y", y)):
        bad = ~(np.isfinite(values) & (values > 0))
        if bad.any():
            raise ValueError(
                f"Expected positive, finite {name}, got {float(values[bad][0])}: leave those points out."
            )
    if (x[1:] < x[:-1]).any():
        raise ValueError("Expected x in ascending order, got a fall: sort x, and y with it, first.")
    return np.log(x), np.log(y)


def checked_level(name: str, value: float | None) -> float | None:
    """A level of the metric that must be positive and finite, or None."""
    if value is None:
        return None
    if not (np.isfinite(value) and value > 0):
        raise ValueError(
            f"Expected `{name}` to be positive and finite, got {value}: leave it out if unknown."
        )
    return float(value)


def checked_interval(interval: tuple[float, float] | None) -> tuple[float, float]:
    """An interval of the irreducible error; (0, inf) if None."""
    if interval is None:
        return 0.0, float("inf")
    low, high = (float(end) for end in interval)
    if not (0 <= low <= high):
        raise ValueError(
            f"Expected the interval of the irreducible error as (low, high) with 0 <= low <= high, "
            f"got ({low}, {high}): leave it out if unknown."
        )
    return low, high
