"""The predictive distribution of the error along one axis: laws averaged, and how wrong that was before."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import stdtrit

from foretrain.forecasting.averaging import COARSE, FINE, Average, average
from foretrain.forecasting.doubts import doubts, falls, local_noise
from foretrain.forecasting.past_forecasts import evenly, past_forecasts, usual_error, window_shares
from foretrain.laws.law import Array
from foretrain.status import FitStatus

CURVE_LAWS = ("power", "power_floor", "shifted_power_floor")
"""The laws that are averaged along one axis."""

RECENCY = 2.0
"""Where one law is fitted to be shown, a point at x counts `(x / x_max) ** RECENCY`."""

FAINT = 1.25
"""A fall that is so many times the noise from point to point is half believed, see `CurveModel.expected`."""

SCALES = {
    "residual": 0.40,
    "local": 0.40,
    "correlated": 0.10,
    "past": 1.60,
    "distance": 0.03,
    "spread": 0.35,
    "unknown": 0.10,
    "line": 1.00,
}
"""What each of `CurveModel.scale_parts` adds to the scale of the forecast, squares summed."""

NEAR = float(np.log(np.sqrt(2.0)))
"""Errors grow like the square root of the distance in ln x, here as far as those of past forecasts."""

DEGREES_OF_FREEDOM = 5.0
"""Of Student's t, from which the intervals are read."""

MIN_POINTS = 4
"""With fewer points there is no law, only the last value."""

ENOUGH_PAST = 3
"""So many past forecasts tell how wrong the next one may be; with fewer, other things say more."""

MOST_POINTS, CELLS = 128, 100
"""More points than the first are averaged in so many cells of equal width in ln x."""

SLOPE_PRIOR = 0.15
"""Log slope that a curve of unknown law may have: the width of a projection from the last value alone."""

# The scales are chosen for coverage and interval score together on published curves of several domains;
# docs/benchmarks.md says on which, and what they reach on domains that were left out of the choice. That of
# the line is not chosen: it is a standard error, and no published curve is both short and noisy.


@dataclass(frozen=True)
class CurveModel:
    """The laws averaged over one curve, ready to be asked anywhere.

    Attributes:
        reasons: What is in doubt, the gravest first.
        log_top: ln of the largest x.
        average: The shapes and their shares; None where no law can be told.
        level: Log error at the largest x, as projected.
        doubling: By how much the average says that the log error falls while x doubles.
        noise: Scales of one new log measurement about the curve: the weighted residuals, the noise from point
            to point, and the residuals as far as neighbouring ones go together.
        past: How far off past forecasts were, per ln x: see `usual_error`.
        slope: Mean absolute log slope of the last part, d ln y / d ln x.
        n_scores: How many past forecasts that was learned from; with none the intervals are uncalibrated.
        line: What a straight line through the points in ln x is worth: their number, their mean ln x less
            `log_top`, and the sum of squares about it.
    """

    reasons: tuple[FitStatus, ...]
    log_top: float
    average: Average | None
    level: float
    doubling: float
    noise: tuple[float, float, float]
    past: float
    slope: float
    n_scores: int
    line: tuple[float, float, float] = (1.0, 0.0, 1.0)

    @property
    def floor_interval(self) -> tuple[float, float] | None:
        """80% interval of the irreducible error, in the metric's unit; None where no law can be told."""
        if self.average is None:
            return None
        found = self.average
        floors = (found.shapes.floor * _held(found.levels)).ravel()
        shares = (found.windows[:, None] * found.weights).ravel()
        order = np.argsort(floors, kind="stable")
        below = np.cumsum(shares[order]) - shares[order] / 2  # a shape stands for those around it, too
        low, high = np.interp([0.1, 0.9], below, floors[order])
        return float(low), float(high)

    def share(self, law: str) -> float:
        """The weight of one law in the average, 0 to 1."""
        if self.average is None:
            return 0.0
        shares = self.average.windows @ self.average.weights
        shapes = self.average.shapes
        shifted, floored = shapes.shift > 0, shapes.floor > 0
        chosen = {
            "power": ~shifted & ~floored,
            "power_floor": ~shifted & floored,
            "shifted_power_floor": shifted,
        }[law]
        return float(shares[chosen].sum())

    def log_moments(self, at: Array) -> tuple[Array, Array]:
        """Mean and Student's t scale of the log of one new measurement at each of `at`, shape (n,)."""
        mean, parts = self.scale_parts(at)
        return mean, np.sqrt(np.square(list(SCALES.values())) @ parts**2 + 1e-18)

    def expected(self, change: Array) -> Array:
        """How far the log error is expected to change where the average says that it changes by `change`.

        Less by the share of its square that noise alone would have, as James and Stein shrink a mean. What
        stands against the noise is the fall over a doubling of x, or that over the distance asked about where
        it is larger: far away no law is in doubt for being faint nearby.

        Args:
            change: Log error as averaged, less `level`, shape (n,).

        Source:
            The rule is that of James and Stein 1961 in its simplest form, f^2 / (f^2 + s^2).
        """
        seen = np.maximum(np.abs(change), self.doubling) ** 2
        return np.asarray(change * seen / (seen + (FAINT * self.noise[1]) ** 2 + 1e-300))

    def scale_parts(self, at: Array) -> tuple[Array, Array]:
        """Mean log error at each of `at`, shape (n,), and what makes up its scale, shape (8, n).

        The parts, in the order of `SCALES`: the three of `noise`; the errors of past forecasts and the fall
        still to come, which grow like the square root of the distance; and, as far as past forecasts are
        missing, the spread of the shapes, the distance itself, and what the noise from point to point makes
        uncertain of a straight line through so many points: few noisy points may lie on a wrong curve.
        """
        z = np.log(np.asarray(at, dtype=float)) - self.log_top
        beyond = np.maximum(z, 0.0)
        flat = np.ones_like(z)
        mean, spread = np.full_like(z, self.level), np.zeros_like(z)
        if self.average is not None:
            mean, spread = self.average.moments(z)
            mean = self.level + np.where(z > 0, self.expected(mean - self.level), mean - self.level)
        unknown = np.sqrt(max(0.0, 1.0 - self.n_scores / ENOUGH_PAST))
        count, centre, squares = self.line
        parts = [
            *(part * flat for part in self.noise),
            self.past * np.sqrt(NEAR * beyond + 0.02),
            self.slope * np.sqrt(NEAR * beyond),
            unknown * spread,
            unknown * self.slope * beyond,
            unknown * self.noise[1] * np.sqrt(1.0 / count + (z - centre) ** 2 / squares),
        ]
        return mean, np.array(parts)


def quantile_factor(level: float) -> float:
    """Half the width of a central interval of nominal `level`, in t scales."""
    return float(stdtrit(DEGREES_OF_FREEDOM, 0.5 + level / 2))


def model_curve(x: Array, y: Array, *, y_se: Array | None = None) -> CurveModel:
    """Averages the laws over one curve and calibrates the result on the curve's own past.

    The same average is made from the first parts of the curve. How well those forecasts met the later points
    decides what each window of the points counts, whether the curve flattens more than the laws say, and how
    wide the intervals are.

    Args:
        x: Where the metric was measured, shape (n,), ascending. Positive.
        y: The metric there, shape (n,), in its own unit. Positive.
        y_se: Standard error of each y, shape (n,), in the metric's unit. Positive.

    Returns:
        The averaged laws. Look at `reasons` before trusting them.
    """
    log_x, log_y = np.log(x), np.log(y)
    precision = np.ones_like(log_y) if y_se is None else _precision(log_x, log_y, np.asarray(y_se))
    log_x, log_y, precision = _in_cells(log_x, log_y, precision)
    noise = local_noise(log_x, log_y)
    if np.unique(log_x).size < MIN_POINTS or not falls(log_x, log_y, noise):
        return _last_value(log_x, log_y)
    past = past_forecasts(log_x, log_y, precision)
    windows = window_shares(past)
    u = log_x - log_x[-1]
    averaged = average(u, log_y, precision, windows, FINE)
    level, next_level = averaged.moments(np.array([0.0, np.log(2.0)]))[0]
    fall = max(float(level - next_level), 1e-12)
    quarter = min(int(np.searchsorted(u, -np.log(4.0))), len(u) - 2)
    slope = abs(float(averaged.fitted[-1] - averaged.fitted[quarter])) / max(float(-u[quarter]), 1e-9)
    model = CurveModel(
        reasons=(),
        log_top=float(log_x[-1]),
        average=averaged,
        level=float(level),
        doubling=fall,
        noise=_noise(log_y, averaged, noise.sd),
        past=usual_error(past, windows),
        slope=slope,
        n_scores=len(past),
        line=(float(u.size), float(u.mean()), float(((u - u.mean()) ** 2).sum())),
    )
    return replace(model, reasons=_reasons(log_x, log_y, model, averaged))


def _precision(log_x: Array, log_y: Array, y_se: Array) -> Array:
    """What points of known standard error count: no point more than the misfit of the laws allows."""
    with np.errstate(divide="ignore"):
        variance = np.exp(2.0 * np.clip(np.log(y_se) - log_y, -30.0, 30.0))
    first = 1.0 / (variance + float(np.median(variance)))
    misfit = average(log_x - log_x[-1], log_y, first / first.mean(), evenly(), COARSE).residual
    precision = 1.0 / (variance + 4.0 * misfit**2 + 1e-12)
    return np.asarray(precision / precision.mean())


def _noise(log_y: Array, averaged: Average, local: float) -> tuple[float, float, float]:
    """Scales of one new log measurement about the curve, as `CurveModel.noise` has them."""
    residual = (log_y - averaged.fitted)[-40:]
    squares = float((residual**2).sum())
    lagged = float((residual[1:] * residual[:-1]).sum()) / squares if squares > 0 else 0.0
    rho = float(np.clip(lagged + 1.0 / residual.size, 0.0, 0.95))
    return averaged.residual, local, averaged.residual * float(np.sqrt((1 + rho) / (1 - rho)))


def _in_cells(log_x: Array, log_y: Array, precision: Array) -> tuple[Array, Array, Array]:
    """Many points averaged in cells of ln x; then the work does not grow with their number."""
    if log_x.size <= MOST_POINTS:
        return log_x, log_y, precision
    cell = np.floor((log_x - log_x[-1]) / max((log_x[-1] - log_x[0]) / CELLS, 1e-12))
    starts = np.concatenate([[0], np.flatnonzero(np.diff(cell)) + 1])
    weight = np.add.reduceat(precision, starts)
    return (
        np.asarray(np.add.reduceat(precision * log_x, starts) / weight),
        np.asarray(np.add.reduceat(precision * log_y, starts) / weight),
        np.asarray(weight),
    )


def _last_value(log_x: Array, log_y: Array) -> CurveModel:
    """The projection where no law can be told: the level of the last points, and a wide band."""
    reasons = doubts(_held(log_x), _held(log_y))
    level = float(np.mean(log_y[-2:])) if FitStatus.NOT_DECREASING in reasons else float(log_y[-1])
    rise, run = float(log_y[-1] - log_y[0]), float(log_x[-1] - log_x[0])
    return CurveModel(
        reasons=reasons,
        log_top=float(log_x[-1]),
        average=None,
        level=level,
        doubling=0.0,
        noise=(max(float(np.std(log_y[-3:])), 0.02) / SCALES["residual"], 0.0, 0.0),
        past=0.0,
        slope=(max(SLOPE_PRIOR, abs(rise / run)) if run > 1e-6 else SLOPE_PRIOR) / SCALES["unknown"],
        n_scores=0,
    )


def _reasons(log_x: Array, log_y: Array, model: CurveModel, averaged: Average) -> tuple[FitStatus, ...]:
    shares, alpha = averaged.windows @ averaged.weights, averaged.shapes.alpha
    return doubts(
        _held(log_x),
        _held(log_y),
        floor_interval=model.floor_interval,
        exponent=float(np.exp(shares @ np.log(alpha))),
        exponent_bounds=(float(alpha.min()), float(alpha.max())),
        n_scores=model.n_scores,
    )


def _held(logs: Array) -> Array:
    """The numbers of these logs, held within floats."""
    return np.asarray(np.exp(np.clip(logs, -700.0, 700.0)))
