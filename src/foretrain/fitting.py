"""Fitting a law to observations: variable projection, then a robust polish; a status, not an exception."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from scipy.optimize import least_squares

from foretrain.laws import LAWS, Law
from foretrain.laws.law import Array
from foretrain.status import FitStatus

MAX_CONTRAST = 1e60
"""Errors further from their mean than this factor are taken as lying at it: no metric spans as much."""


@dataclass(frozen=True)
class Fit:
    """A law with its parameters.

    Attributes:
        law: Name of the law, a key of `LAWS`.
        theta: The parameters in natural units, coefficients first, shape (p,).
        objective: Sum of the weighted Huber losses of the log residuals at the optimum.
        scale: Robust standard deviation of the log residuals.
        status: The gravest of `reasons`, or OK.
        reasons: All that is in doubt.
        unit_theta: The parameters for x / x_unit and y / y_unit, which stay within floats.
        x_unit: Shape (n_axes,).
        y_unit: In the metric's unit.
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

    @property
    def parameters(self) -> dict[str, float]:
        """Value by name, in natural units."""
        names = (parameter.name for parameter in LAWS[self.law].parameters)
        return {name: float(value) for name, value in zip(names, self.theta, strict=True)}

    def predict(self, x: Array) -> Array:
        """The law's y, in the metric's unit, at x of shape (n_axes, n) or (n,) for one axis."""
        at = ratio(np.atleast_2d(np.asarray(x, dtype=float)), self.x_unit[:, None])
        return self.y_unit * LAWS[self.law].value(at, self.unit_theta)


@dataclass(frozen=True)
class Projected:
    """The best coefficients for each of many sets of nonlinear parameters.

    Attributes:
        coefficients: Shape (m, k), none negative.
        rss: Weighted sum of squared relative residuals, shape (m,).
    """

    coefficients: Array
    rss: Array = field(repr=False)


def project(features: Array, y: Array, weights: Array) -> Projected:
    """Solves for non-negative coefficients at every set of nonlinear parameters at once.

    Minimises `sum_i w_i (f_i / y_i - 1)^2`, which to first order is the squared log residual. With at most
    three coefficients every active set is tried in closed form, so the answer is exact.

    Args:
        features: Shape (m, k, n).
        y: Shape (n,). Positive.
        weights: Shape (n,). Not negative.

    Returns:
        The coefficients and the residual sum of squares of each of the m sets.
    """
    m, k, _ = features.shape
    root = np.sqrt(weights)
    scaled = features * (root / y)
    norm = np.linalg.norm(scaled, axis=2)
    norm[norm == 0] = 1.0
    scaled = scaled / norm[:, :, None]
    gram = np.einsum("mkn,mln->mkl", scaled, scaled)
    moment = np.einsum("mkn,n->mk", scaled, root)
    total = float(weights.sum())
    best = np.zeros((m, k))
    best_rss = np.full(m, total)
    for size in range(1, k + 1):
        for active in combinations(range(k), size):
            index = np.array(active)
            sub = gram[:, index[:, None], index] + 1e-13 * np.eye(size)
            solution = np.linalg.solve(sub, moment[:, index, None])[..., 0]
            rss = total - np.einsum("ms,ms->m", solution, moment[:, index])
            better = (solution >= 0).all(axis=1) & (rss < best_rss)
            best[better] = 0.0
            best[np.ix_(better, index)] = solution[better]
            best_rss[better] = rss[better]
    residual = np.einsum("mk,mkn->mn", best, scaled) - root
    return Projected(best / norm, np.einsum("mn,mn->m", residual, residual))


def safe_log(values: Array) -> Array:
    """The natural logarithm, with zero taken as the smallest number a float can hold well."""
    return np.asarray(np.log(np.maximum(values, 1e-300)))


def ratio(values: Array, unit: Array | float, *, largest: float = 1e300) -> Array:
    """`values / unit`, held between 1 / largest and largest, so that no later power leaves the floats."""
    limit = np.log(largest)
    return np.asarray(np.exp(np.clip(np.log(values) - np.log(unit), -limit, limit)))


def robust_scale(residuals: Array) -> float:
    """Standard deviation of the bulk of the residuals, from their median absolute value."""
    return float(1.4826 * np.median(np.abs(residuals))) if len(residuals) else 0.0


def fit(
    law: Law | str, x: Array, y: Array, *, weights: Array | None = None, huber_delta: float | None = None
) -> Fit:
    """Fits a law to observations, on log residuals in prediction space, robustly.

    The coefficients are projected out on a grid of exponents, the best three grid points are polished
    together with their coefficients, and the best of them is kept.

    Args:
        law: The law, or its name.
        x: Where the metric was measured, shape (n_axes, n), or (n,) for one axis. Positive.
        y: The metric there, shape (n,), in its own unit. Positive.
        weights: What each point counts, shape (n,); all the same if None.
        huber_delta: Log residual from which a point counts linearly; 1.345 robust standard deviations if
            None (Huber 1964; Hoffmann et al. 2022 use 1e-3).

    Returns:
        The best fit found. Look at `status` before trusting it.

    Raises:
        ValueError: If there are fewer points than parameters, or a value is not positive and finite.

    References:
        Golub and Pereyra 1973 (variable projection); Hoffmann et al. 2022, arXiv:2203.15556, section 3.3
        (Huber loss on log residuals, here summed, not averaged).
    """
    law = LAWS[law] if isinstance(law, str) else law
    x = np.atleast_2d(np.asarray(x, dtype=float))
    y = np.asarray(y, dtype=float)
    if not (np.isfinite(x).all() and np.isfinite(y).all() and (x > 0).all() and (y > 0).all()):
        raise ValueError("Expected positive, finite x and y: leave out the other points first.")
    if y.size < len(law.parameters):
        raise ValueError(
            f"The law {law.name} has {len(law.parameters)} parameters, so {y.size} observations cannot fix "
            f"it: wait for at least {len(law.parameters) + 1}."
        )
    x_unit, y_unit = x.min(axis=1), float(np.exp(np.mean(np.log(y))))
    u, v = ratio(x, x_unit[:, None]), ratio(y, y_unit, largest=MAX_CONTRAST)
    w = np.ones_like(v) if weights is None else np.asarray(weights, dtype=float) / np.mean(weights)

    e = law.grid(u)
    features = law.basis(u, e)
    solved = project(features, v, w)
    first = int(np.argmin(solved.rss))
    residual = safe_log(solved.coefficients[first] @ features[first]) - np.log(v)
    delta = huber_delta or max(1.345 * robust_scale(residual), 1e-12)

    best = None
    for start in np.argsort(solved.rss, kind="stable")[:3]:
        polished = _polish(law, u, v, w, np.concatenate([solved.coefficients[start], e[:, start]]), delta)
        if best is None or polished[1] < best[1]:
            best = polished
    assert best is not None  # there are always three grid points
    theta, objective, residual = best
    reasons = _doubts(law, x, y, theta, u)
    with np.errstate(over="ignore"):  # a coefficient in natural units may leave the floats
        natural = law.rescale(theta, x_unit, y_unit)
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
    )


def _polish(law: Law, u: Array, v: Array, w: Array, start: Array, delta: float) -> tuple[Array, float, Array]:
    """Minimises the summed Huber loss over all parameters; returns them, the loss and the residuals."""
    lower = np.array([parameter.lower for parameter in law.parameters])
    upper = np.array([parameter.upper for parameter in law.parameters])
    log_v, root = np.log(v), np.sqrt(w)

    def residuals(theta: Array) -> Array:
        return root * (safe_log(law.value(u, theta)) - log_v)

    def jacobian(theta: Array) -> Array:
        by_parameter: Array = root * law.gradient(u, theta) / np.maximum(law.value(u, theta), 1e-300)
        return np.asarray(by_parameter.T)

    inside = np.clip(start, lower + 1e-9, np.where(np.isfinite(upper), upper - 1e-9, upper))
    with np.errstate(all="ignore"):
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
            max_nfev=200,
        )
    return found.x, float(found.cost), found.fun / np.where(root > 0, root, 1.0)


def _doubts(law: Law, x: Array, y: Array, theta: Array, u: Array) -> tuple[FitStatus, ...]:
    """What is in doubt about a fit, the gravest first."""
    reasons = []
    p = len(law.parameters)
    if y.size < p + 2:
        reasons.append(FitStatus.TOO_FEW_POINTS)
    if law.n_axes > 1 and np.unique(x[0]).size < 3:
        reasons.append(FitStatus.TOO_FEW_SIZES)
    if ratio(x[-1].max(), x[-1].min()) < 3.0:
        reasons.append(FitStatus.SHORT_RANGE)
    for parameter, value in zip(law.parameters, theta, strict=True):
        if parameter.unit == "none" and (value < parameter.lower * 1.02 or value > parameter.upper * 0.98):
            reasons.append(FitStatus.EXPONENT_AT_BOUND)
            break
    return tuple(reasons)
