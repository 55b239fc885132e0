"""Fitting a law to observations: variable projection, then a robust polish; a status, not an exception."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import least_squares

from foretrain.freezing import Freedom, freedom
from foretrain.laws import LAWS, Law
from foretrain.laws.law import SIZE
from foretrain.laws.linear import Projected, project
from foretrain.laws.numerics import Array, ratio, safe_log, within_decade
from foretrain.status import FitStatus

__all__ = ["MAX_CONTRAST", "Fit", "Projected", "fit", "project", "ratio", "robust_scale", "safe_log"]

MAX_CONTRAST = 1e60
"""Errors further from their mean than this factor are taken as lying at it: no metric spans as much."""

MAX_SLOPE = 1e100
"""Derivatives of residuals are held within this, so that their squares stay floats."""

HUBER = 1.345
"""Robust standard deviations from which a point counts linearly: 95% efficient without outliers."""

DOUBT, REJECT = 3.0, 6.0
"""Robust standard deviations from which a point counts less, and from which it does not count: the descending
part of Hampel's function (Hampel et al. 1986, Robust Statistics, section 2.6)."""

MAX_REJECTED = 0.2
"""Share of the weight up to which points are outliers: where more would go, the law is wrong, not they."""

REDESCENTS = 30
"""At most so many passes of new weights; most fits need none, and the slowest known one needs 12."""

POINTS_PER_PARAMETER = 4
"""With fewer points a parameter, residuals do not tell an outlier from a point that holds the law alone."""

LARGEST_SHARE = 3.0
"""A standard error below the median one divided by this is taken as that: no point counts over nine."""


@dataclass(frozen=True)
class Fit:
    """A law with its parameters.

    Attributes:
        law: Name of the law, a key of `LAWS` unless the law is the caller's own.
        theta: The parameters in natural units, coefficients first, shape (p,).
        objective: Sum of the weighted Huber losses of the log residuals at the optimum.
        scale: Robust standard deviation of the log residuals.
        status: The gravest of `reasons`, or OK.
        reasons: All that is in doubt.
        unit_theta: The parameters for x / x_unit and y / y_unit, which stay within floats.
        x_unit: Shape (n_axes,).
        y_unit: In the metric's unit.
        kept: What share of each point's weight the robust loss left, shape (n,): 0 for an outlier.
        fixed: Names of the parameters that were given and not fitted.
        form: The law itself; None for that of its name in `LAWS`.
    """

    law: str
    theta: Array
    objective: float
    scale: float
    status: FitStatus
    reasons: tuple[FitStatus, ...]
    unit_theta: Array
    x_unit: Array
    y_unit: float
    kept: Array = field(default_factory=lambda: np.ones(0), repr=False)
    fixed: tuple[str, ...] = ()
    form: Law | None = field(default=None, repr=False, compare=False)

    @property
    def parameters(self) -> dict[str, float]:
        """Value by name, in natural units."""
        names = (parameter.name for parameter in (self.form or LAWS[self.law]).parameters)
        return {name: float(value) for name, value in zip(names, self.theta, strict=True)}

    @np.errstate(under="ignore")
    def predict(self, x: Array) -> Array:
        """The law's y, in the metric's unit, at x of shape (n_axes, n) or (n,) for one axis."""
        at = ratio(np.atleast_2d(np.asarray(x, dtype=float)), self.x_unit[:, None])
        return self.y_unit * (self.form or LAWS[self.law]).value(at, self.unit_theta)


def robust_scale(residuals: Array) -> float:
    """Standard deviation of the bulk of the residuals, from their median absolute value."""
    return float(1.4826 * np.median(np.abs(residuals))) if len(residuals) else 0.0


@np.errstate(under="ignore")
def fit(
    law: Law | str,
    x: Array,
    y: Array,
    *,
    weights: Array | None = None,
    y_se: Array | None = None,
    huber_delta: float | None = None,
    fixed: Mapping[str, float] | None = None,
) -> Fit:
    """Fits a law to observations, on log residuals in prediction space, robustly.

    The law names its starts (a separable one projects its coefficients out on a grid of exponents); the best
    few are polished in all parameters together, and the best of them is kept. By default the loss is Huber's
    with a threshold of 1.345 robust standard deviations; then points beyond three of them lose weight and
    those beyond six all of it, until the weights stay (Hampel's function), so that points far off the law do
    not move it even where they lie at the end of an axis. That second part is left out where it would take
    more than a fifth of the weight, where there are fewer than four points a parameter, and where
    `huber_delta` is given.

    Args:
        law: The law, or its name.
        x: Where the metric was measured, shape (n_axes, n), or (n,) for one axis. Positive.
        y: The metric there, shape (n,), in its own unit. Positive.
        weights: What each point counts, shape (n,), not negative; all the same if None.
        y_se: Standard errors of y, shape (n,), in its unit. A point counts `(y / y_se)^2`, on top of
            `weights`; relative standard errors below a third of their median are taken as that, so that no
            point counts more than nine typical ones.
        huber_delta: Log residual from which a point counts linearly, and nothing else is done about outliers
            (Hoffmann et al. 2022 use 1e-3; a large one makes it least squares). By default see above.
        fixed: Values of parameters that are known and not to be fitted, by name, in natural units, such as
            `{"R_D": 15.4}`.

    Returns:
        The best fit found. Look at `status` before trusting it.

    Raises:
        ValueError: If there are fewer points than parameters to fit, shapes do not fit together, a value is
            not positive and finite, weights or standard errors are negative or say nothing, or `fixed` names
            an unknown parameter, gives a value out of its bounds or leaves none to fit.

    References:
        Golub and Pereyra 1973 (variable projection); Hoffmann et al. 2022, arXiv:2203.15556, section 3.3
        (Huber loss on log residuals, here summed, not averaged); Hampel et al. 1986, section 2.6.
    """
    law = LAWS[law] if isinstance(law, str) else law
    x, y = np.atleast_2d(np.asarray(x, dtype=float)), np.asarray(y, dtype=float)
    _check(law, x, y)
    w = _weights(y, weights, y_se)
    x_unit, y_unit = law.units(x), float(np.exp(np.mean(np.log(y))))
    u, v = ratio(x, x_unit[:, None]), ratio(y, y_unit, largest=MAX_CONTRAST)
    able = freedom(law, fixed, x_unit, y_unit)
    able.require(y.size)

    starts = able.starts(u, v, w)
    residual = safe_log(law.value(u, starts[:, 0])) - np.log(v)
    delta = huber_delta or max(HUBER * robust_scale(residual), 1e-12)
    solved = [_polish(able, u, v, w, start, delta) for start in starts.T]
    best, kept = min(solved, key=lambda s: s[1]), np.ones_like(y)
    if huber_delta is None and y.size >= POINTS_PER_PARAMETER * able.count:
        best, kept = _redescend(able, u, v, w, best, delta)
    theta, objective, residual = best
    reasons = _doubts(able, x, y, theta)
    with np.errstate(over="ignore", under="ignore"):  # a parameter in natural units may leave the floats
        natural = able.natural(theta)
    return Fit(
        law=law.name,
        theta=natural,
        objective=objective,
        scale=robust_scale(residual),
        status=reasons[0] if reasons else FitStatus.OK,
        reasons=reasons,
        unit_theta=theta,
        x_unit=x_unit,
        y_unit=y_unit,
        kept=kept,
        fixed=able.frozen,
        form=law,
    )


def _check(law: Law, x: Array, y: Array) -> None:
    """Raises ValueError unless x and y are observations that the law can be fitted to."""
    if x.ndim != 2 or y.ndim != 1 or x.shape != (law.n_axes, y.size):
        names = ", ".join(axis.name for axis in law.axes)
        raise ValueError(
            f"Expected x of shape ({law.n_axes}, n) for the law {law.name}, one row for each of {names}, "
            f"and y of shape (n,), got {x.shape} and {y.shape}."
        )
    bad = int((~(np.isfinite(x) & (x > 0)).all(axis=0) | ~(np.isfinite(y) & (y > 0))).sum())
    if bad:
        raise ValueError(
            f"Expected positive, finite x and y: leave out the other points first, {bad} of {y.size}."
        )


def _weights(y: Array, weights: Array | None, y_se: Array | None) -> Array:
    """What each point counts, mean 1."""
    w = np.ones_like(y)
    for name, given in (("weights", weights), ("y_se", y_se)):
        if given is None:
            continue
        values = np.asarray(given, dtype=float)
        if values.shape != y.shape or not np.isfinite(values).all() or (values < 0).any():
            raise ValueError(
                f"Expected `{name}` to hold {y.size} finite numbers that are not negative, one for each "
                f"point, got shape {values.shape}, smallest {values.min() if values.size else 'none'}."
            )
        if name == "y_se":
            relative = values / y
            typical = float(np.median(relative))
            if typical == 0:
                raise ValueError("Expected `y_se` to be positive for most points, got zeros: leave it out.")
            values = (typical / np.maximum(relative, typical / LARGEST_SHARE)) ** 2
        if not values.any():
            raise ValueError(f"Expected `{name}` to be positive for some points, got zeros: leave it out.")
        w = w * (values / values.max())
    if not w.any():
        raise ValueError("Expected `weights` to be positive where `y_se` lets a point count, got none.")
    return np.asarray(w / w.mean())


Solution = tuple[Array, float, Array]
"""Parameters, objective and log residuals."""


def _polish(
    able: Freedom, u: Array, v: Array, w: Array, start: Array, delta: float, *, evaluations: int = 200
) -> Solution:
    """Minimises the summed Huber loss over the free parameters, some of them by their logarithm."""
    law, free = able.law, able.free
    is_log = np.array([parameter.log for parameter in law.parameters])[free]
    log_v, root = np.log(v), np.sqrt(w)

    def inner(theta: Array) -> Array:
        return np.where(is_log, np.log(np.clip(theta, 1e-300, 1e300)), theta)

    def outer(phi: Array) -> Array:
        theta = np.array(start, dtype=float)
        theta[free] = np.where(is_log, np.exp(np.where(is_log, phi, 0.0)), phi)
        return able.pin(theta)

    def residuals(phi: Array) -> Array:
        return root * (safe_log(law.value(u, outer(phi))) - log_v)

    def jacobian(phi: Array) -> Array:
        theta = outer(phi)
        by_parameter: Array = root * able.gradient(u, theta) / np.maximum(law.value(u, theta), 1e-300)
        steep = np.nan_to_num((by_parameter * np.where(is_log, theta[free], 1.0)[:, None]).T)
        return np.asarray(np.clip(steep, -MAX_SLOPE, MAX_SLOPE))

    with np.errstate(all="ignore"):
        lower, upper = (inner(limit[free]) for limit in law.limits(u))
        inside = np.clip(inner(start[free]), lower + 1e-9, np.where(np.isfinite(upper), upper - 1e-9, upper))
        found = least_squares(
            residuals,
            inside,
            jac=jacobian,
            bounds=(lower, upper),
            loss="huber",
            f_scale=delta,
            x_scale="jac",
            ftol=1e-14,
            xtol=1e-14,
            gtol=1e-14,
            max_nfev=evaluations,
        )
        theta = outer(found.x)
        return theta, float(found.cost), safe_log(law.value(u, theta)) - log_v


def _redescend(
    able: Freedom, u: Array, v: Array, w: Array, best: Solution, delta: float
) -> tuple[Solution, Array]:
    """Takes weight from points far off the law, and solves anew, until the weights stay.

    The scale is the median of all but the p smallest residuals: p of them could be zero by the freedom of the
    fit alone.
    """
    robust, kept = best, np.ones_like(w)
    for _ in range(REDESCENTS):
        size = np.abs(robust[2])
        scale = robust_scale(np.sort(size[w > 0])[able.count :])
        before, kept = kept, np.clip((REJECT - size / max(scale, 1e-12)) / (REJECT - DOUBT), 0.0, 1.0)
        if (w * (1.0 - kept)).sum() > MAX_REJECTED * w.sum():
            return best, np.ones_like(w)
        if np.abs(kept - before).max() < 1e-3:
            break
        robust = _polish(able, u, v, w * kept, robust[0], delta, evaluations=50)
    return robust, kept


def _doubts(able: Freedom, x: Array, y: Array, theta: Array) -> tuple[FitStatus, ...]:
    """What is in doubt about a fit, the gravest first."""
    law, reasons = able.law, []
    if y.size < able.count + 2:
        reasons.append(FitStatus.TOO_FEW_POINTS)
    if law.n_axes > 1 and law.axes[0] is SIZE and np.unique(x[0]).size < 3:
        reasons.append(FitStatus.TOO_FEW_SIZES)
    along = x[min(law.n_axes, 2) - 1]  # of two axes or more the second is data
    if within_decade(along):
        reasons.append(FitStatus.SHORT_RANGE)
    for parameter, value, free in zip(law.parameters, theta, able.free, strict=True):
        low = value < parameter.lower + 0.02 * abs(parameter.lower)
        if free and np.isfinite(parameter.upper) and (low or value > parameter.upper * 0.98):
            reasons.append(FitStatus.EXPONENT_AT_BOUND)
            break
    return tuple(reasons)
