"""Laws of one axis averaged over one curve: shapes on a grid, each counted by how well it describes the tail.

Every shape is `y = L (F + (1 - F) ((x + x0) / (x_max + x0))^-alpha)`: the power law (`F = 0`), the power law
with irreducible error, and both with a shift. It is written by its level L at the last point, the share F of
that level which is irreducible, the exponent, and the shift; so a prior can be put on what matters beyond the
points, and only the level is left to be solved for, in closed form on the log scale.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from foretrain.laws.law import SATURATION, Array

ALPHA_CENTRE, ALPHA_WIDTH = 0.7, 0.6
"""The prior of ln alpha is normal about ln 0.7, of this standard deviation."""

FLOOR_POWER = -0.7
"""The prior density of F goes as `(1 - F)^-0.7`: a floor near the last value is as likely as none."""

SHIFT_ODDS, SHIFT_POWER = 0.018, -0.4
"""A shift x0 has the prior odds `0.018 (x0 / x_max)^-0.4` against none."""

WINDOWS = (1.2, 4.0)
"""In each window a point at x counts `(x / x_max)` to this power: the long one and the short one."""

TEMPER, TEMPER_POWER, TEMPER_POINTS = 1.35, -0.25, 20.0
"""A shape counts its mean squared residual to the power -1.35, times (n_eff / 20)^-0.25: far flatter than a
likelihood of independent Gaussian noise, for on real curves the form is wrong, not only its parameters."""

RESOLUTION = 5e-4
"""Log residuals below this do not tell one shape from another."""

# The settings above are chosen on the published curves of Alabdulmohsin et al. 2022, LCDB 1.1 and Luo et al.
# 2025; docs/benchmarks.md says how, and what they reach on curves that were left out of the choice.


@dataclass(frozen=True)
class Shapes:
    """A grid of shapes: in blocks, each with every exponent, floor and shift of its own.

    Attributes:
        blocks: For each block its exponents, floors and shifts.
        alpha: Exponent of every shape, shape (m,).
        floor: Share of its level that is irreducible, shape (m,).
        shift: x0 / x_max, shape (m,).
        log_prior: Log prior density times the cell, up to a constant, shape (m,).
    """

    blocks: tuple[tuple[Array, Array, Array], ...]
    alpha: Array
    floor: Array
    shift: Array
    log_prior: Array

    def logs(self, log_u: Array) -> Array:
        """The log of every shape at ln (x / x_max) `log_u`, relative to its level at x_max; shape (m, n)."""
        found = []
        for alphas, floors, shifts in self.blocks:
            places = np.repeat(log_u[None], shifts.size, axis=0)
            for i, shift in enumerate(shifts):
                if shift > 0:
                    places[i] = np.logaddexp(log_u, np.log(shift)) - np.log1p(shift)
            # One exponential for each exponent and shift; the floors only mix it with 1.
            powers = np.exp(np.clip(-alphas[:, None, None] * places[None], -SATURATION, SATURATION))
            mixed = (1.0 - floors)[None, :, None, None] * powers[:, None]
            mixed += floors[None, :, None, None]
            found.append(np.log(mixed, out=mixed).reshape(-1, log_u.size))
        return found[0] if len(found) == 1 else np.concatenate(found)


def _grid(*sizes: tuple[int, int, Array]) -> Shapes:
    """A grid of blocks, each of so many exponents and floors, and of those shifts."""
    blocks, nodes = [], []
    for n_alpha, n_floor, shifts in sizes:
        alphas = np.geomspace(0.05, 2.5, n_alpha)
        floors = 1.0 - 10.0 ** (-2.0 * np.linspace(0.0, 1.0, n_floor) ** 1.3)
        blocks.append((alphas, floors, shifts))
        alpha, floor, shift = (a.ravel() for a in np.meshgrid(alphas, floors, shifts, indexing="ij"))
        cell = np.gradient(floors)[None, :, None] * float(np.log(alphas[1] / alphas[0]))
        prior = -0.5 * ((np.log(alpha) - np.log(ALPHA_CENTRE)) / ALPHA_WIDTH) ** 2
        prior += FLOOR_POWER * np.log(1.01 - floor)
        prior += np.log(np.broadcast_to(cell, (n_alpha, n_floor, shifts.size))).ravel()
        shifted = shift > 0
        prior[shifted] += np.log(SHIFT_ODDS) + SHIFT_POWER * np.log(shift[shifted])
        nodes.append((alpha, floor, shift, prior))
    return Shapes(tuple(blocks), *(np.concatenate(column) for column in zip(*nodes, strict=True)))


_NONE, _SHIFTS = np.zeros(1), 0.01 * np.array([1.0, np.sqrt(120.0), 120.0])
COARSE = _grid((14, 10, np.concatenate([_NONE, _SHIFTS])))
"""For past forecasts: 14 exponents from .05 to 2.5, 10 floors up to .99, no shift and three."""
FINE = _grid((40, 30, _NONE), (14, 10, _SHIFTS))
"""For the projection: the power laws without a shift more finely, as clean points tell them apart."""


@dataclass(frozen=True)
class Average:
    """The shapes, averaged over one curve.

    Attributes:
        shapes: Their grid.
        levels: For each window, the log level at the last point of every shape, shape (k, m).
        weights: For each window, the share of every shape; rows sum to 1; shape (k, m).
        windows: The share of each window, shape (k,), sum 1.
        residual: Weighted standard deviation of the log residuals about the average.
        fitted: The averaged curve's log error at the points it was made from, shape (n,).
    """

    shapes: Shapes
    levels: Array
    weights: Array
    windows: Array
    residual: float
    fitted: Array

    def by_window(self, logs: Array) -> Array:
        """Mean log error in each window at the places of `logs`, of `shapes.logs`; shape (k, n)."""
        return np.asarray((self.weights * self.levels).sum(axis=1)[:, None] + self.weights @ logs)

    def moments(self, log_u: Array) -> tuple[Array, Array]:
        """Mean and standard deviation, over shapes and windows, of the log error at ln (x / x_max)."""
        logs = self.shapes.logs(log_u)
        share = self.windows[:, None] * self.weights
        level = float((share * self.levels).sum())
        mean = share.sum(axis=0) @ logs
        apart = self.levels - level
        square = (share * apart**2).sum() + 2.0 * (share * apart).sum(axis=0) @ logs
        square = square + share.sum(axis=0) @ logs**2
        return level + mean, np.sqrt(np.maximum(square - mean**2, 0.0))


def average(log_u: Array, log_y: Array, precision: Array, windows: Array, shapes: Shapes) -> Average:
    """Averages shapes over one curve.

    Args:
        log_u: ln (x / x_max), shape (n,), ascending, the last 0.
        log_y: ln y, shape (n,).
        precision: What each point counts beside its place, shape (n,).
        windows: The share of each window, shape (k,), sum 1.
        shapes: The grid.

    Returns:
        The average. It is a projection only where the points say something about a law.
    """
    logs = shapes.logs(log_u)
    centre = float(log_y[-1])
    v = log_y - centre
    w = precision * np.exp(np.maximum(np.array(WINDOWS)[:, None] * log_u, -SATURATION))
    w = w / w.sum(axis=1, keepdims=True)
    levels = (w @ v)[:, None] - w @ logs.T
    squared = (w @ v**2)[:, None] - 2.0 * (w * v) @ logs.T + w @ (logs**2).T - levels**2
    n_eff = 1.0 / (w**2).sum(axis=1)
    temper = TEMPER * (n_eff / TEMPER_POINTS) ** TEMPER_POWER
    log_share = shapes.log_prior - temper[:, None] * np.log(np.maximum(squared, 0.0) + RESOLUTION**2)
    weights = np.exp(log_share - log_share.max(axis=1, keepdims=True))
    weights = weights / weights.sum(axis=1, keepdims=True)
    found = Average(shapes, centre + levels, weights, windows, 0.0, np.zeros_like(v))
    fitted = windows @ found.by_window(logs)
    w = precision * np.exp(np.maximum(2.0 * log_u, -SATURATION))
    w = w / w.sum()
    many = 1.0 / float(w @ w)
    residual = float(np.sqrt(w @ (log_y - fitted) ** 2 * many / max(many - 2.0, 1.0)))
    return replace(found, residual=residual, fitted=fitted)
