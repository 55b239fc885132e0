"""The inner step of variable projection: the best non-negative coefficients for many sets of exponents."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from foretrain.laws.numerics import Array


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
    root = np.sqrt(weights)
    scaled = features * (root / y)
    peak = np.abs(scaled).max(axis=2)  # first, so that no square leaves the floats
    peak[peak == 0] = 1.0
    scaled = scaled / peak[:, :, None]
    norm = np.linalg.norm(scaled, axis=2)
    norm[norm == 0] = 1.0
    scaled = scaled / norm[:, :, None]
    gram = np.einsum("mkn,mln->mkl", scaled, scaled)
    moment = np.einsum("mkn,n->mk", scaled, root)
    total = float(weights.sum())
    best = best_nonnegative(gram, moment, total)
    residual = np.einsum("mk,mkn->mn", best, scaled) - root
    return Projected(best / norm / peak, np.einsum("mn,mn->m", residual, residual))


def best_nonnegative(gram: Array, moment: Array, total: float) -> Array:
    """The non-negative coefficients c of least `total - 2 c.moment + c.gram.c`, of many problems at once.

    Every active set is tried in closed form, so with few coefficients the answer is exact.

    Args:
        gram: Products of the features, each of norm 1, shape (m, k, k).
        moment: Products of the features with what they are fitted to, shape (m, k).
        total: Square of what they are fitted to: what no coefficients at all leave.

    Returns:
        Shape (m, k).
    """
    m, k = moment.shape
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
    return best
