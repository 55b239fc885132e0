"""Least squares of `E + A x^-alpha` on many resamples of one curve at once.

For each resample the objective is `sum_i w_i (f(x_i) / y_i - 1)^2`, that of `fitting.project`. It needs the
points only through the sums `sum_i w_i y_i^-k exp(-alpha t_i)`, k = 1 and 2, with `t = ln(x / x_min)`. These
sums are the same when `exp(-alpha t)` is interpolated in t from Chebyshev nodes, to rounding: many
points become a few dozen, by one product of matrices. Then E and A are projected out in closed form on a grid
of exponents (variable projection, Golub and Pereyra 1973), and Newton's method, kept in a bracket, ends at
the minimum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foretrain.laws.law import Array
from foretrain.laws.single import ALPHA

Rows = NDArray[np.intp]

GRID = np.linspace(np.log(ALPHA.lower), np.log(ALPHA.upper), 32)
"""ln alpha where the profiled objective is first looked at."""

TOLERANCE = 1e-7
"""A step of Newton's method in ln alpha below which it has converged: what is left is of its square."""

MAX_CARRIED = 100.0
"""With a larger contrast of y the interpolation would cost more than four digits."""

LEAST_CARRIED, LEAST = 1e-13, 1e-200
"""A mean of `exp(-2 alpha t)` below this is rounding, of the interpolation or of floats."""

MAX_STEPS = 40
"""Bisection alone reaches rounding in as many."""


@dataclass(frozen=True)
class Moments:
    """What the objective needs of R resamples, over the sum of all their w / y^2.

    Attributes:
        nodes: ln(x / x_min) of k points that stand for all, shape (k,).
        linear: Sums of w / y carried to the nodes, shape (R, k).
        square: Sums of w / y^2 carried to the nodes, shape (R, k); each row sums to 1.
        mean: Sums of w / y, shape (R,).
        least: What is rounding in a mean of `exp(-2 alpha t)`.
    """

    nodes: Array
    linear: Array
    square: Array
    mean: Array
    least: float

    @classmethod
    def of(cls, nodes: Array, linear: Array, square: Array, *, carried: bool) -> Moments:
        """From sums that are not divided yet; `carried` if the nodes are not the points themselves."""
        total = square.sum(axis=1, keepdims=True)
        linear = linear / total
        least = LEAST_CARRIED if carried else LEAST
        return cls(nodes, linear, square / total, linear.sum(axis=1), least)

    def rows(self, index: Rows) -> Moments:
        """Those of some resamples."""
        return Moments(self.nodes, self.linear[index], self.square[index], self.mean[index], self.least)


def carry(t: Array, contrast: float = 1.0) -> tuple[Array, Array]:
    """Nodes that stand for the points t in every sum of `exp(-a t)`, a from 0 to twice the largest alpha.

    Interpolation of degree k in Chebyshev points of `exp(-a t)` errs by no more than the coefficients it
    leaves out, `4 exp(-c) I_j(c)` for j >= k with `c = a max(t) / 2` (Trefethen 2013, theorem 4.2), which
    fall like `exp(-j^2 / 2c)`: at this k they are at most of the size of rounding.

    Args:
        t: Shape (n,). From 0.
        contrast: Largest over smallest y: the small y weigh by its square more, and so do errors there.

    Returns:
        The nodes, shape (k,), and the weight of each point at each, shape (n, k). The points themselves if
        they are not more than the nodes that they would need, or the contrast is above `MAX_CARRIED`.
    """
    top = float(t.max())
    k = int(np.ceil(np.sqrt(66.0 * ALPHA.upper * top))) + 7
    if t.size <= k or top == 0.0 or contrast > MAX_CARRIED:
        return t, np.eye(t.size)
    angles = (np.arange(k) + 0.5) * (np.pi / k)
    order = np.arange(k)
    at_points = np.cos(np.arccos(np.clip(2.0 * t / top - 1.0, -1.0, 1.0))[:, None] * order)
    to_nodes = np.cos(order[:, None] * angles) * (2.0 / k)
    to_nodes[0] *= 0.5
    return 0.5 * top * (1.0 + np.cos(angles)), at_points @ to_nodes


def solve(moments: Moments) -> Array:
    """The least-squares parameters of every resample.

    Where no falling law beats a constant, A is 0 and alpha, which then says nothing, is its lower bound.

    Args:
        moments: Of R resamples.

    Returns:
        E, A and alpha, shape (R, 3), for x / x_min.
    """
    gain = _on_grid(moments)
    best = np.argmax(gain, axis=0)
    theta, reached = _descend(moments, gain, best)
    again, second = _second_peaks(gain, best)
    if again.size:
        other, reached_other = _descend(moments.rows(again), gain[:, again], second)
        better = reached_other > reached[again]
        theta[again[better]] = other[better]
    return theta


def _on_grid(moments: Moments) -> Array:
    """By how much the law beats the best constant at every exponent of the grid, shape (g, R)."""
    features = np.exp(-np.exp(GRID)[:, None] * moments.nodes)
    s1, s2 = features @ moments.square.T, (features * features) @ moments.square.T
    np.maximum(s2, moments.least, out=s2)
    t0, t1 = moments.mean, features @ moments.linear.T
    variance = s2 - s1 * s1
    np.maximum(variance, 1e-15 * s2, out=variance)
    covariance = t1 - s1 * t0
    np.maximum(covariance, 0.0, out=covariance)
    gain: Array = covariance * covariance
    gain /= variance
    bare = np.multiply(covariance, s1, out=s1) > t0 * variance
    alone = np.multiply(t1, t1, out=t1)
    alone /= s2
    alone -= t0 * t0
    np.copyto(gain, alone, where=bare)
    return gain


def _second_peaks(gain: Array, best: Rows) -> tuple[Rows, Rows]:
    """Resamples with another local optimum on the grid that might be the better one, and where it is."""
    peak = np.ones(gain.shape, dtype=bool)
    np.greater_equal(gain[1:], gain[:-1], out=peak[1:])
    peak[:-1] &= gain[:-1] > gain[1:]
    rows = np.flatnonzero(np.count_nonzero(peak, axis=0) > 1)
    others = np.where(peak[:, rows], gain[:, rows], -np.inf)
    others[best[rows], np.arange(rows.size)] = -np.inf
    return rows, np.argmax(others, axis=0)


def _descend(moments: Moments, gain: Array, start: Rows) -> tuple[Array, Array]:
    """Newton's method on ln alpha from the nodes `start` of the grid; E, A, alpha and the gain."""
    s, low, high = _brackets(gain, start)
    rows, active = np.arange(s.size), moments
    for _ in range(MAX_STEPS):
        here = s[rows]
        _, slope, curvature = _at(active, here)
        low, high = np.where(slope < 0, here, low), np.where(slope > 0, here, high)
        convex = curvature > 0
        newton = here - slope / np.where(convex, curvature, 1.0)
        # beyond a bound of alpha the bound itself is meant, beyond the bracket its middle
        inside = convex & ((newton > low) | (low == GRID[0])) & ((newton < high) | (high == GRID[-1]))
        new = np.where(slope == 0, here, np.where(inside, np.clip(newton, low, high), 0.5 * (low + high)))
        s[rows] = new
        moving = np.abs(new - here) > TOLERANCE
        if not moving.any():
            break
        if 2 * np.count_nonzero(moving) < rows.size:
            rows, low, high = rows[moving], low[moving], high[moving]
            active = moments.rows(rows)
    (e, a, reached), _, _ = _at(moments, s)
    alpha = np.where(s <= GRID[0], ALPHA.lower, np.where(s >= GRID[-1], ALPHA.upper, np.exp(s)))
    return np.stack([e, a, alpha], axis=1), reached


def _brackets(gain: Array, start: Rows) -> tuple[Array, Array, Array]:
    """Where to begin, from a parabola through three nodes, and the nodes around it; all in ln alpha."""
    columns, last = np.arange(start.size), GRID.size - 1
    left, right = np.maximum(start - 1, 0), np.minimum(start + 1, last)
    before, after = gain[left, columns], gain[right, columns]
    bend = before - 2.0 * gain[start, columns] + after
    inside = (start > 0) & (start < last) & (bend < 0)
    shift = np.where(inside, 0.5 * (before - after) / np.where(inside, bend, 1.0), 0.0)
    return GRID[start] + np.clip(shift, -0.5, 0.5) * (GRID[1] - GRID[0]), GRID[left], GRID[right]


def _project(s1: Array, s2: Array, t0: Array, t1: Array) -> tuple[Array, Array, Array]:
    """The best E >= 0 and A >= 0 for `min E^2 + 2 E A s1 + A^2 s2 - 2 E t0 - 2 A t1`.

    Returns:
        E, A and by how much they are better than the best constant.
    """
    variance, covariance = s2 - s1 * s1, t1 - s1 * t0
    falls = (covariance > 0) & (variance > 1e-15 * s2)
    a = np.where(falls, covariance, 0.0) / np.where(falls, variance, 1.0)
    e = t0 - a * s1
    bare = e < 0
    alone = t1 / s2
    gain = np.where(bare, alone * t1 - t0 * t0, a * covariance)
    return np.where(bare, 0.0, e), np.where(bare, alone, a), gain


def _at(moments: Moments, s: Array) -> tuple[tuple[Array, Array, Array], Array, Array]:
    """The profile at ln alpha = s, and the first and second derivative of half the objective by s.

    The derivatives are total: E and A follow alpha, each as long as it is not held at 0.
    """
    alpha, nodes = np.exp(s), moments.nodes
    powers = np.stack([np.ones_like(nodes), nodes, nodes * nodes], axis=1)
    feature = np.exp(-alpha[:, None] * nodes)
    by_y = moments.linear * feature
    once = moments.square * feature
    t1, t1_1, t1_2 = (by_y @ powers).T
    s1, s1_1, s1_2 = (once @ powers).T
    s2, s2_1, s2_2 = (np.multiply(once, feature, out=once) @ powers).T
    s2 = np.maximum(s2, moments.least)
    e, a, gain = _project(s1, s2, moments.mean, t1)
    slope = -a * (e * s1_1 + a * s2_1 - t1_1)
    direct = a * (e * s1_2 + 2.0 * a * s2_2 - t1_2)
    with_e, with_a = -a * s1_1, -(e * s1_1 + 2.0 * a * s2_1 - t1_1)
    variance = s2 - s1 * s1
    both = with_e**2 + (with_a - s1 * with_e) ** 2 / np.where(variance > 0, variance, np.inf)
    follow = np.where(e > 0, both, with_a**2 / s2)
    return (e, a, gain), alpha * slope, alpha * alpha * (direct - follow) + alpha * slope
