"""The Chinchilla law under a Huber loss of log residuals, on many resamples at once.

For each resample the objective is `sum_i c_i huber_delta(ln f_i - ln y_i)` with the law
`f = E + A N^-alpha + B D^-beta` (Hoffmann et al. 2022, equation 3). Where delta is far below the noise, as
their 1e-3 is, this is nearly a sum of absolute values: gradient methods crawl, and iterative reweighting
(Huber 1964) converges only linearly. Newton's method ends in a few steps, once it knows which points lie
within delta. So each step solves with `H + mu M`, where H is the Hessian, complete, and M the matrix of
reweighting, which majorises the loss; mu falls with each good step and grows with each bad one, for each
resample on its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foretrain.laws.joint import ChinchillaLaw
from foretrain.laws.law import Array

LOWER = np.array([parameter.lower for parameter in ChinchillaLaw().parameters])
UPPER = np.minimum([parameter.upper for parameter in ChinchillaLaw().parameters], 1e70)
"""A coefficient has no bound but this, in units of the mean error: products of four stay within floats."""

TOLERANCE = 1e-9
"""A step that promises less than this share of the objective is the last; what is left is of its square."""

MAX_STEPS = 200
"""Resamples take ten or twenty."""

MAX_DAMPING = 1e12
"""A resample that is damped more than this gets no further within rounding."""

SMALLEST = 1e-30
"""A law below this share of the mean error is held there: its log and its squared inverse are floats."""

STEEPEST = 50.0
"""A power is held between exp(-50) and exp(50) of its value at the mean of its axis."""

ROWS = 32768
"""Points times resamples worked on at a time: they stay in the processor's cache."""

_BELOW = np.tril_indices(5, -1)


@dataclass(frozen=True)
class Points:
    """What R resamples are fitted to.

    Attributes:
        t: ln N, centred, shape (n,).
        s: ln D, centred, shape (n,).
        log_y: ln y, shape (n,) or (R, n).
        counts: What each point counts, shape (R, n).
        delta: The log residual from which a point counts linearly.
    """

    t: Array
    s: Array
    log_y: Array
    counts: Array
    delta: float

    def rows(self, index: NDArray[np.intp] | slice) -> Points:
        """Those of some resamples."""
        log_y = self.log_y if self.log_y.ndim == 1 else self.log_y[index]
        return Points(self.t, self.s, log_y, self.counts[index], self.delta)


@dataclass
class _State:
    """The objective around the parameters of each resample.

    Attributes:
        theta: E, A, B, alpha and beta, shape (R, 5).
        objective: Shape (R,).
        gradient: Shape (R, 5).
        hessian: Shape (R, 5, 5).
        majorant: The matrix of iterative reweighting, shape (R, 5, 5).
    """

    theta: Array
    objective: Array
    gradient: Array
    hessian: Array
    majorant: Array

    def rows(self, index: NDArray[np.bool_]) -> _State:
        """Those of some resamples."""
        return _State(*(value[index] for value in vars(self).values()))

    def take(self, other: _State, where: NDArray[np.bool_]) -> None:
        """Takes over another state of some resamples."""
        for mine, new in zip(vars(self).values(), vars(other).values(), strict=True):
            mine[where] = new[where]


def minimise(points: Points, start: Array) -> tuple[Array, Array]:
    """The nearest minimum of every resample's objective, within the bounds of the parameters.

    Args:
        points: Of R resamples.
        start: E, A, B, alpha and beta for the centred axes, shape (R, 5).

    Returns:
        The parameters at the minimum, shape (R, 5), and the objective there, shape (R,).
    """
    theta, objective = np.empty_like(start), np.empty(len(start))
    some = max(1, ROWS // points.t.size)
    for begin in range(0, len(start), some):
        rows = slice(begin, begin + some)
        theta[rows], objective[rows] = _minimise(points.rows(rows), start[rows])
    return theta, objective


def _minimise(points: Points, start: Array) -> tuple[Array, Array]:
    theta, objective = np.empty_like(start), np.empty(len(start))
    rows = np.arange(len(start))
    state = _evaluate(points, np.clip(start, LOWER, UPPER))
    damping = np.full(len(start), 0.3)
    for left in range(MAX_STEPS, 0, -1):
        step, promised = _step(state, damping)
        tried = _evaluate(points, np.clip(state.theta + step, LOWER, UPPER))
        gained = state.objective - tried.objective
        accept = (gained >= -1e-15 * state.objective) & (promised >= 0)
        done = (promised >= 0) & (promised <= TOLERANCE * state.objective) & (damping < 0.05)
        good = accept & (gained > 0.3 * promised)
        damping = np.where(good, 0.2 * damping, np.where(accept, damping, np.maximum(4.0 * damping, 1e-3)))
        state.take(tried, accept)
        done |= (damping > MAX_DAMPING) | (left == 1)
        if done.any():
            theta[rows[done]] = state.theta[done]
            objective[rows[done]] = state.objective[done]
            keep = ~done
            if not keep.any():
                break
            rows, damping = rows[keep], damping[keep]
            state, points = state.rows(keep), points.rows(np.flatnonzero(keep))
    return theta, objective


def _step(state: _State, damping: Array) -> tuple[Array, Array]:
    """The damped Newton step, and the decrease it promises; a parameter pressed against its bound stays."""
    matrix = state.hessian + damping[:, None, None] * state.majorant
    x, g = state.theta, state.gradient
    diagonal = np.einsum("rkk->rk", matrix)  # a view
    free = ~(((x <= LOWER) & (g > 0)) | ((x >= UPPER) & (g < 0)))
    free &= np.einsum("rkk->rk", state.majorant) > 0  # with A = 0, alpha does nothing
    matrix *= free[:, :, None] & free[:, None, :]
    diagonal *= 1.0 + 1e-12
    diagonal += ~free
    g = g * free
    step = np.asarray(-np.linalg.solve(matrix, g[:, :, None])[..., 0], dtype=float)
    return step, np.asarray(-0.5 * np.einsum("rk,rk->r", g, step))


def _evaluate(points: Points, theta: Array) -> _State:
    """The objective and its derivatives.

    With residual r, psi the derivative of the loss and f_k those of the law, the gradient is
    `sum c psi f_k / f` and the Hessian `sum c ((psi' - psi) f_k f_l / f^2 + psi f_kl / f)`; reweighting has
    `psi / r` in place of `psi' - psi` and no second term.
    """
    e, a, b, alpha, beta = theta.T
    by_size = np.exp(np.clip(-alpha[:, None] * points.t, -STEEPEST, STEEPEST))
    by_data = np.exp(np.clip(-beta[:, None] * points.s, -STEEPEST, STEEPEST))
    law = a[:, None] * by_size + b[:, None] * by_data
    law += e[:, None]
    np.maximum(law, SMALLEST, out=law)
    residual = np.log(law)
    residual -= points.log_y
    size = np.abs(residual)
    psi = np.clip(residual, -points.delta, points.delta)
    bounded = np.minimum(size, points.delta)
    objective = np.einsum("rn,rn,rn->r", points.counts, bounded, size - 0.5 * bounded)

    inverse = 1.0 / law
    pull = points.counts * psi * inverse
    size_moments = (pull * by_size) @ _powers(points.t)
    data_moments = (pull * by_data) @ _powers(points.s)
    gradient = np.stack(
        [
            pull.sum(axis=1),
            size_moments[:, 0],
            data_moments[:, 0],
            -a * size_moments[:, 1],
            -b * data_moments[:, 1],
        ],
        axis=1,
    )
    share = points.counts * inverse * inverse
    hessian = _gram(share * ((size <= points.delta) - psi), by_size, by_data, a, b, points)
    for linear, exponent, coefficient, moments in ((1, 3, a, size_moments), (2, 4, b, data_moments)):
        hessian[:, linear, exponent] -= moments[:, 1]
        hessian[:, exponent, linear] -= moments[:, 1]
        hessian[:, exponent, exponent] += coefficient * moments[:, 2]
    majorant = _gram(share * (points.delta / np.maximum(size, points.delta)), by_size, by_data, a, b, points)
    return _State(theta, objective, gradient, hessian, majorant)


def _gram(weight: Array, by_size: Array, by_data: Array, a: Array, b: Array, points: Points) -> Array:
    """`sum_i weight_i f_k f_l` over the points, shape (R, 5, 5), f_k the law's derivative by parameter k."""
    t, s = points.t, points.s
    weight_size, weight_data = weight * by_size, weight * by_data
    one_size, one_data = weight_size @ _powers(t), weight_data @ _powers(s)
    size_size = (weight_size * by_size) @ _powers(t)
    data_data = (weight_data * by_data) @ _powers(s)
    size_data = (weight_size * by_data) @ np.stack([np.ones_like(t), t, s, t * s], axis=1)
    gram = np.empty((len(weight), 5, 5))
    gram[:, 0, 0] = weight.sum(axis=1)
    gram[:, 0, 1], gram[:, 0, 3] = one_size[:, 0], -a * one_size[:, 1]
    gram[:, 0, 2], gram[:, 0, 4] = one_data[:, 0], -b * one_data[:, 1]
    gram[:, 1, 1], gram[:, 1, 3], gram[:, 3, 3] = size_size.T * np.stack([np.ones_like(a), -a, a * a])
    gram[:, 2, 2], gram[:, 2, 4], gram[:, 4, 4] = data_data.T * np.stack([np.ones_like(b), -b, b * b])
    gram[:, 1, 2], gram[:, 2, 3] = size_data[:, 0], -a * size_data[:, 1]
    gram[:, 1, 4], gram[:, 3, 4] = -b * size_data[:, 2], a * b * size_data[:, 3]
    gram[:, _BELOW[0], _BELOW[1]] = gram[:, _BELOW[1], _BELOW[0]]
    return gram


def _powers(t: Array) -> Array:
    """1, t and t^2, shape (n, 3)."""
    return np.stack([np.ones_like(t), t, t * t], axis=1)
