"""M1 to M4, the estimators of Alabdulmohsin et al. 2022 (arXiv:2209.06640), by their published algorithm.

    M1: y = b x^c                       M3: y = b (1/x + g)^c
    M2: y - e = b x^c                   M4: (y - e) / (e0 - y)^a = b x^c

Residuals are those of logarithms. M2 and M4 alternate between least squares for (ln b, c, a) and steps in the
limits (e, e0): 100 rounds of 1,000 gradient steps of 1e-8, then rounds of 100 Newton steps damped by 0.1,
each limit by itself, until b moves by less than 1e-10 or after 10,000 rounds. As in the released code, the
design of M4's least squares keeps the first e0.

Three things are computed faster here, to the same end: the gradient steps as the flow that they follow,
integrated by Runge and Kutta's method; the Newton steps, once small, as the linear recursion that they
then are, summed in closed form; least squares with pseudo-inverses made once. On the 46 curves of the set
`alabdulmohsin2022` the errors of the released code come out to 4e-6 in RMSLE (M1 and M3: 1e-12, M2: 3e-7).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

MARGIN = 1e-3
STOP = 1e-10
ROUNDS = 10_000
GRADIENT_ROUNDS = 100
GRADIENT_TIME = 1e-5
"""1,000 steps of 1e-8."""
FLOW_STEPS = 20
NEWTON_STEPS, DAMPING = 100, 0.1
TINY = 1e-5
"""Curvatures and exponents below this are taken for zero, as in the released code."""
LINEAR = 1e-3
"""Newton steps below this share of the way to the nearest point are taken for linear."""

Limits = tuple[float, float]


def m1(x: np.ndarray, y: np.ndarray, at: np.ndarray) -> np.ndarray:
    """A straight line in logarithms."""
    slope, intercept = np.polyfit(np.log(x), np.log(y), 1)
    return np.exp(intercept + slope * np.log(at))


def m2(x: np.ndarray, y: np.ndarray, at: np.ndarray) -> np.ndarray:
    """A power law above a limit."""
    inverse = np.linalg.pinv(np.stack([np.ones_like(x), np.log(x)], axis=1))

    def solve(labels: np.ndarray) -> tuple[float, float, float]:
        log_b, c = inverse @ labels
        return float(log_b), float(c), 0.0

    (log_b, c, _), (e, _) = _alternate(x, y, solve, e0=float(y.max()) + 1.0, upper=np.inf)
    return e + np.exp(log_b + c * np.log(at))


def m3(x: np.ndarray, y: np.ndarray, at: np.ndarray) -> np.ndarray:
    """A power law that bends where 1/x falls to g; g is one of those that meet a point exactly."""
    log_y, gamma, before = np.log(y), 0.0, 1.0
    log_b, c = 0.0, 0.0
    for _ in range(ROUNDS):
        log_x = np.log(1 / x + gamma)
        c, log_b = np.polyfit(log_x, log_y, 1)
        if c <= 0:
            c = 0.0
            break
        with np.errstate(over="ignore"):
            found = np.exp((log_y - log_b) / c) - 1 / x
        tried = np.append(gamma, found[np.isfinite(found) & (found >= 0)])
        misfit = log_y - log_b - c * np.log(1 / x + tried[:, None])
        gamma = float(tried[np.argmin((misfit**2).sum(axis=1))])
        b = float(np.exp(log_b))
        if abs(b - before) < STOP:
            break
        before = b
    return np.exp(log_b + c * np.log(1 / at + gamma))


def m4(
    x: np.ndarray, y: np.ndarray, at: np.ndarray, *, start: float | None = None, bound: float | None = None
) -> np.ndarray:
    """A sigmoid in log x between two limits.

    Args:
        x: Where it is fitted, shape (n,).
        y: The error there, shape (n,), positive.
        at: Where to predict, shape (m,).
        start: The upper limit to begin with; without one, just above the largest error.
        bound: Largest upper limit allowed; without one, any.
    """
    e0 = float(y.max()) + MARGIN if start is None else start
    design = np.stack([np.ones_like(x), -np.log(x), np.log(e0 - y)], axis=1)
    solve_signed = _non_negative(design)

    def solve(labels: np.ndarray) -> tuple[float, float, float]:
        log_b, minus_c, a = solve_signed(labels)
        return float(log_b), -float(minus_c), float(a)

    upper = np.inf if bound is None else bound + MARGIN
    (log_b, c, a), (e, e0) = _alternate(x, y, solve, e0=e0, upper=upper)
    factor = np.exp(log_b + c * np.log(at))
    if abs(a) < TINY:
        return e + factor
    above = np.linspace(0, e0 - e, 10_000)
    with np.errstate(divide="ignore", over="ignore"):
        right = np.searchsorted(above / (e0 - e - above) ** a, factor).clip(1, above.size - 1)
    around = above[np.stack([right - 1, right])]
    miss = np.abs(around - factor * (e0 - e - around) ** a)
    return e + np.where(miss[0] <= miss[1], around[0], around[1])


def _non_negative(design: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Least squares with coefficients of at least zero: the best of all subsets of columns that allow it."""
    columns = design.shape[1]
    subsets = [list(s) for k in range(columns, 0, -1) for s in itertools.combinations(range(columns), k)]
    inverses = np.zeros((len(subsets), columns, len(design)))
    for inverse, subset in zip(inverses, subsets, strict=True):
        inverse[subset] = np.linalg.pinv(design[:, subset])

    def solve(labels: np.ndarray) -> np.ndarray:
        whole = inverses[0] @ labels
        if (whole >= 0).all():
            return whole
        found = np.append(inverses @ labels, np.zeros((1, columns)), axis=0)
        found = found[(found >= 0).all(axis=1)]
        return found[np.argmin(((found @ design.T - labels) ** 2).sum(axis=1))]

    return solve


def _alternate(
    x: np.ndarray,
    y: np.ndarray,
    solve: Callable[[np.ndarray], tuple[float, float, float]],
    *,
    e0: float,
    upper: float,
) -> tuple[tuple[float, float, float], Limits]:
    """(ln b, c, a) and (e, e0)."""
    log_x, below, above = np.log(x), float(y.min()) - MARGIN, float(y.max()) + MARGIN

    def project(limits: Limits) -> Limits:
        return min(max(limits[0], 0.0), below), min(max(limits[1], above), upper)

    limits, before, law = (below, e0), 1.0, (0.0, -0.5, 0.0)
    for k in range(ROUNDS):
        law = solve(np.log(y - limits[0]))
        log_f = law[0] + law[1] * log_x
        if k < GRADIENT_ROUNDS:
            limits = _flow(limits, y, law[2], log_f, project)
        else:
            limits = _newton(limits, y, law[2], log_f, project)
        b = float(np.exp(law[0]))
        if abs(b - before) < STOP and k > GRADIENT_ROUNDS + 1:
            break
        before = b
    return law, limits


def _flow(
    limits: Limits, y: np.ndarray, a: float, log_f: np.ndarray, project: Callable[[Limits], Limits]
) -> Limits:
    """Where gradient descent in small steps gets to."""
    step = GRADIENT_TIME / FLOW_STEPS

    def velocity(limits: Limits) -> Limits:
        e, e0 = project(limits)
        excess, room = y - e, e0 - y
        residual = np.log(excess) - a * np.log(room) - log_f
        return float((residual / excess).mean()), a * float((residual / room).mean())

    for _ in range(FLOW_STEPS):
        k1 = velocity(limits)
        k2 = velocity((limits[0] + step / 2 * k1[0], limits[1] + step / 2 * k1[1]))
        k3 = velocity((limits[0] + step / 2 * k2[0], limits[1] + step / 2 * k2[1]))
        k4 = velocity((limits[0] + step * k3[0], limits[1] + step * k3[1]))
        moved = [step / 6 * (k1[i] + 2 * k2[i] + 2 * k3[i] + k4[i]) for i in range(2)]
        limits = project((limits[0] + moved[0], limits[1] + moved[1]))
    return limits


def _newton(
    limits: Limits, y: np.ndarray, a: float, log_f: np.ndarray, project: Callable[[Limits], Limits]
) -> Limits:
    """Where 100 damped Newton steps get to."""
    left = NEWTON_STEPS
    while left:
        excess, room = y - limits[0], limits[1] - y
        residual = np.log(excess) - a * np.log(room) - log_f
        gradient = np.array([-(residual / excess).mean(), -a * (residual / room).mean()])
        own = np.array([((1 - residual) / excess**2).mean(), a * ((a + residual) / room**2).mean()])
        moves = np.abs(own) > TINY
        step = np.where(moves, -gradient / np.where(moves, own, 1.0), 0.0)
        ahead = project((limits[0] + DAMPING * step[0], limits[1] + DAMPING * step[1]))
        if ahead == limits:
            return limits
        held = np.array([ahead[i] == limits[i] for i in range(2)])
        step[held] = 0.0
        if abs(step[0]) < LINEAR * excess.min() and abs(step[1]) < LINEAR * room.min():
            cross = a * (1 / (excess * room)).mean()
            slopes = np.where(moves & ~held, -1 / np.where(moves, own, 1.0), 0.0)[:, None]
            slopes = slopes * np.array([[own[0], cross], [cross, own[1]]])
            e, e0 = np.array(limits) + _summed(np.eye(2) + DAMPING * slopes, left) @ (DAMPING * step)
            if project((e, e0)) == (e, e0):
                return float(e), float(e0)
        limits = ahead
        left -= 1
    return limits


def _summed(matrix: np.ndarray, terms: int) -> np.ndarray:
    """I + M + M^2 + ..., so many terms, by doubling."""
    total, power, summed = np.zeros((2, 2)), matrix, np.eye(2)
    while terms:
        if terms & 1:
            total = summed + power @ total
        summed = summed + power @ summed
        power = power @ power
        terms >>= 1
    return total
