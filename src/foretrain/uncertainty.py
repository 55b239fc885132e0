"""The predictive distribution of the error along one axis: laws averaged, noise, and distance."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import stdtrit

from foretrain.fitting import MAX_CONTRAST, Projected, project, ratio, safe_log
from foretrain.laws import LAWS
from foretrain.laws.law import SATURATION, Array
from foretrain.status import FitStatus

CURVE_LAWS = ("power", "power_floor", "shifted_power_floor")
"""The laws that are averaged along one axis."""

RECENCY = 2.0
"""A point at x counts `(x / x_max) ** RECENCY`: the tail decides a projection, not the first steps."""

TEMPER = 1.5
"""A set of exponents counts its residual sum of squares to the power -TEMPER: far flatter than a likelihood
of independent Gaussian noise, because on real curves the form is wrong and not only the parameters noisy."""

SCALE_RESIDUAL, SCALE_LOCAL, SCALE_SPREAD, SCALE_DISTANCE = 1.10, 0.32, 0.68, 0.074
"""What the residuals, the point-to-point noise, the spread of the laws and the distance add to the standard
deviation. From a trial on the curves of Alabdulmohsin et al. 2022; `benchmarks/extrapolation.py` shows what
they reach there."""

DEGREES_OF_FREEDOM = 5.0
"""Of Student's t, from which the intervals are read."""

ORIGINS = (1.5, 2.0, 3.0, 4.0)
"""The curve's own past forecasts are made from its points up to x_max divided by each of these."""

MIN_POINTS = 4
"""With fewer points there is no law, only the last value."""

SLOPE_PRIOR = 0.25
"""Log slope that a curve of unknown law may have: the width of a projection from the last value alone."""


@dataclass(frozen=True)
class CurveModel:
    """The laws averaged over one curve, ready to be asked anywhere.

    Attributes:
        reasons: What is in doubt, the gravest first.
        x_unit: Smallest x, in the axis's unit.
        x_max: Largest x / x_unit.
        y_unit: Geometric mean of y, in the metric's unit.
        laws: The laws, by name.
        nonlinear: For each law, its sets of nonlinear parameters, shape (e, m).
        coefficients: For each law, the coefficients of each set, shape (m, k).
        weights: For each law, the share of each set; all shares together sum to 1.
        noise: Standard deviation of one new log measurement about the curve.
        drift: Mean absolute log slope, d ln y / d ln x, that distance adds to the uncertainty.
        inflation: By how much the curve's own past forecasts missed more than they said; at least 1.
        n_scores: How many past forecasts that was learned from; with none the intervals are uncalibrated.
    """

    reasons: tuple[FitStatus, ...]
    x_unit: float
    x_max: float
    y_unit: float
    laws: tuple[str, ...]
    nonlinear: tuple[Array, ...]
    coefficients: tuple[Array, ...]
    weights: tuple[Array, ...]
    noise: float
    drift: float
    inflation: float = 1.0
    n_scores: int = 0

    def share(self, law: str) -> float:
        """The weight of one law in the average, 0 to 1."""
        return float(sum(w.sum() for name, w in zip(self.laws, self.weights, strict=True) if name == law))

    def log_moments(self, at: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of the log of one new measurement at each of `at`, shape (n,)."""
        u = ratio(np.asarray(at, dtype=float)[None], self.x_unit)
        mean, square = np.zeros(u.size), np.zeros(u.size)
        for name, e, c, w in zip(self.laws, self.nonlinear, self.coefficients, self.weights, strict=True):
            logs = safe_log(np.einsum("mk,mkn->mn", c, LAWS[name].basis(u, e)))
            mean += w @ logs
            square += w @ logs**2
        spread = np.maximum(square - mean**2, 0.0)
        distance = np.maximum(np.log(u[0]) - np.log(self.x_max), 0.0)
        variance = self.noise**2 + SCALE_SPREAD**2 * spread + (self.drift * distance) ** 2
        return mean + np.log(self.y_unit), self.inflation * np.sqrt(variance)


def quantile_factor(level: float) -> float:
    """Half the width of a central interval of nominal `level`, in standard deviations."""
    return float(stdtrit(DEGREES_OF_FREEDOM, 0.5 + level / 2))


def model_curve(x: Array, y: Array) -> CurveModel:
    """Averages the laws over one curve and calibrates the result on the curve's own past.

    Each law is solved for its coefficients at a grid of exponents (variable projection); each grid point
    counts by how well it describes the points, recent ones above all. The spread of the grid, the residuals,
    and a term that grows with distance make the standard deviation. The same is then done from the first
    parts of the curve: where those forecasts missed the later points by more than they said, the standard
    deviation is scaled up.

    Args:
        x: Where the metric was measured, shape (n,), ascending. Positive.
        y: The metric there, shape (n,), in its own unit. Positive.

    Returns:
        The averaged laws. Look at `reasons` before trusting them.
    """
    model = _average_laws(x, y)
    scores = []
    for divisor in ORIGINS:
        cut = int((x <= x[-1] / divisor).sum())
        if cut < 2 * MIN_POINTS or len(x) - cut < 3:
            continue
        mean, deviation = _average_laws(x[:cut], y[:cut]).log_moments(x[cut:])
        scores.append(float(np.sqrt(np.mean(((np.log(y[cut:]) - mean) / deviation) ** 2))))
    if not scores:
        return model
    return replace(model, inflation=max(1.0, float(np.mean(scores))), n_scores=len(scores))


def _average_laws(x: Array, y: Array) -> CurveModel:
    x_unit, y_unit = float(x[0]), float(np.exp(np.mean(np.log(y))))
    u, v = ratio(x, x_unit), ratio(y, y_unit, largest=MAX_CONTRAST)
    w = np.exp(np.maximum(RECENCY * (np.log(u) - np.log(u[-1])), -SATURATION))
    w = w / w.mean()
    if len(x) < MIN_POINTS or np.unique(x).size < MIN_POINTS:
        return _last_value(x, y, (FitStatus.TOO_FEW_POINTS,))
    if not _falls(u, v, w):
        return _last_value(x, y, (FitStatus.NOT_DECREASING,))

    grids = [LAWS[name].grid(u[None]) for name in CURVE_LAWS]
    bases = [LAWS[name].basis(u[None], e) for name, e in zip(CURVE_LAWS, grids, strict=True)]
    solved = [project(basis, v, w) for basis in bases]
    log_shares = [-TEMPER * np.log(s.rss + 1e-12 * w.sum()) - np.log(len(s.rss)) for s in solved]
    top = max(s.max() for s in log_shares)
    total = sum(np.exp(s - top).sum() for s in log_shares)
    shares = [np.exp(s - top) / total for s in log_shares]
    fitted = sum(
        share @ safe_log(np.einsum("mk,mkn->mn", s.coefficients, basis))
        for share, s, basis in zip(shares, solved, bases, strict=True)
    )

    n_eff = float(w.sum() ** 2 / (w**2).sum())
    residual = np.log(v) - fitted
    s_residual = np.sqrt((w * residual**2).sum() / w.sum() * n_eff / max(n_eff - 2.0, 1.0))
    s_local = np.sqrt(np.mean(np.diff(np.log(v[-12:]), 2) ** 2) / 6.0)
    quarter = min(int(np.searchsorted(u, u[-1] / 4)), len(u) - 2)
    span = max(float(np.log(u[-1]) - np.log(u[quarter])), 1e-9)
    return CurveModel(
        reasons=_doubts(x, v, shares, solved),
        x_unit=x_unit,
        x_max=float(u[-1]),
        y_unit=y_unit,
        laws=CURVE_LAWS,
        nonlinear=tuple(grids),
        coefficients=tuple(s.coefficients for s in solved),
        weights=tuple(shares),
        noise=float(np.hypot(SCALE_RESIDUAL * s_residual, SCALE_LOCAL * s_local)),
        drift=SCALE_DISTANCE * float(abs(fitted[-1] - fitted[quarter])) / span,
    )


def _falls(u: Array, v: Array, w: Array) -> bool:
    """Whether the metric falls along x: the weighted log-log slope is below zero."""
    lu, lv = np.log(u), np.log(v)
    lu, lv = lu - np.average(lu, weights=w), lv - np.average(lv, weights=w)
    return bool((w * lu * lv).sum() < -1e-9 * (w * lu**2).sum())


def _last_value(x: Array, y: Array, reasons: tuple[FitStatus, ...]) -> CurveModel:
    """The projection where no law can be told: the level of the last points, and a wide band."""
    log_y = np.log(y[-3:])
    level = float(np.mean(log_y[-2:])) if FitStatus.NOT_DECREASING in reasons else float(log_y[-1])
    noise = max(float(np.std(log_y)), 0.02)
    rise, run = np.log(y[-1]) - np.log(y[0]), np.log(x[-1]) - np.log(x[0])
    slope = max(SLOPE_PRIOR, abs(float(rise / run))) if run > 1e-6 else SLOPE_PRIOR
    return CurveModel(
        reasons=reasons,
        x_unit=float(x[0]),
        x_max=float(ratio(x[-1:], x[0])[0]),
        y_unit=float(np.exp(level)),
        laws=("power_floor",),
        nonlinear=(np.ones((1, 1)),),
        coefficients=(np.array([[1.0, 0.0]]),),
        weights=(np.ones(1),),
        noise=noise,
        drift=slope,
    )


def _doubts(x: Array, v: Array, shares: list[Array], solved: list[Projected]) -> tuple[FitStatus, ...]:
    reasons = []
    if len(x) < 2 * MIN_POINTS:
        reasons.append(FitStatus.TOO_FEW_POINTS)
    if ratio(x[-1:], x[0])[0] < 3.0:
        reasons.append(FitStatus.SHORT_RANGE)
    floors = np.concatenate([s.coefficients[:, 0] for s in solved[1:]]) / v.min()
    share = np.concatenate(shares[1:])
    order = np.argsort(floors)
    cumulative = np.cumsum(share[order]) / share.sum()
    low, high = np.interp([0.1, 0.9], cumulative, floors[order])
    if high - low > 0.5:
        reasons.append(FitStatus.FLOOR_NOT_IDENTIFIED)
    return tuple(reasons)
