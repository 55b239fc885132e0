"""Resampling: how far the fitted law moves when the points are drawn anew; all resamples fitted at once.

A resample tells the doubt about the parameters, given that the law holds. It knows nothing of a wrong law, so
its quantiles are too narrow for a projection far beyond the points: `forecast` is for that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from foretrain.fitting import project, ratio, safe_log
from foretrain.laws import LAWS
from foretrain.laws.law import Array
from foretrain.resampling.checks import (
    block_length,
    check_delta,
    check_enough,
    check_enough_runs,
    check_levels,
    check_options,
    check_positive,
    check_same_length,
)
from foretrain.resampling.curve import Moments, carry, solve
from foretrain.resampling.joint import STEEPEST, Points, minimise

KINDS = ("residual", "pairs", "block")

JOINT_KINDS = ("pairs",)

JOINT_GRID = np.geomspace(0.03, 2.0, 12)
"""Exponents of size and of data at which the fit of the joint law may begin."""

JOINT_STARTS = 6
"""From how many pairs of them it does."""

MAX_CONTRAST = 1e30
"""Errors further from their mean than this factor are taken as lying at it: no metric spans as much."""

LARGEST = 1e300
"""Where coefficients and predictions are held, so that what is made of them stays within floats."""

CHUNK = 65536
"""Draws made at a time: they stay in the processor's cache."""


@dataclass(frozen=True)
class Resamples:
    """A fitted law and its fits to resamples of the points.

    Attributes:
        law: Name of the law, a key of `LAWS`.
        theta: Parameters fitted to the points themselves, in natural units, coefficients first, shape (p,).
        draws: Parameters fitted to each resample, likewise, shape (n_resamples, p).
    """

    law: str
    theta: Array
    draws: Array

    def intervals(self, level: float) -> dict[str, tuple[float, float]]:
        """The central interval of each parameter, by name: quantiles of the draws (Efron 1979).

        Args:
            level: Nominal level, between 0 and 1.

        Returns:
            Lower and upper end by the parameter's name.

        Raises:
            ValueError: If the level is not between 0 and 1.
        """
        ends = _quantiles(self.draws, check_levels("level", [(1 - level) / 2, (1 + level) / 2]))
        names = (parameter.name for parameter in LAWS[self.law].parameters)
        return {name: (float(low), float(high)) for name, low, high in zip(names, *ends, strict=True)}

    def quantiles(self, x: ArrayLike, levels: Sequence[float]) -> Array:
        """Quantiles of the law's y over the draws.

        They speak of the law, not of a new measurement: the metric's noise is not in them.

        Args:
            x: Where, shape (n,), in the axis's unit; for a law of two axes shape (2, n). Positive.
            levels: Which quantiles, between 0 and 1, such as (0.05, 0.5, 0.95).

        Returns:
            Shape (len(levels), n), in the metric's unit.

        Raises:
            ValueError: If x is not positive and finite or has another shape, or a level is not between 0
                and 1.
        """
        law = LAWS[self.law]
        at = check_positive("x", x)
        if at.ndim != 1 + (law.n_axes > 1) or (at.ndim > 1 and at.shape[0] != law.n_axes):
            expected = f"({law.n_axes}, n)" if law.n_axes > 1 else "(n,)"
            raise ValueError(
                f"Expected `x` of shape {expected} for the law {law.name}, got shape {at.shape}."
            )
        k = len(law.linear)
        with np.errstate(over="ignore", under="ignore"):
            features = law.basis(np.atleast_2d(at), self.draws[:, k:].T)
            y = np.minimum(np.einsum("mk,mkn->mn", self.draws[:, :k], features), LARGEST)
        return _quantiles(y, check_levels("levels", levels))


def resample_curve(
    x: ArrayLike,
    y: ArrayLike,
    *,
    n_resamples: int = 1000,
    weights: ArrayLike | None = None,
    kind: str = "residual",
    block: int | None = None,
    seed: int = 0,
) -> Resamples:
    """Fits `E + A x^-alpha` by least squares to a learning curve and to resamples of it.

    Minimises `sum_i w_i (f(x_i) / y_i - 1)^2`, the relative residuals of `fitting.project`, over E >= 0,
    A >= 0 and alpha within its bounds: for the points and for every resample. This is not the robust
    objective of `fitting.fit`: one outlier counts fully. Where no falling law beats a constant, A is 0 and
    alpha is its lower bound.

    Args:
        x: Where the metric was measured, shape (n,), in the axis's unit. Positive, in any order.
        y: The metric there, shape (n,), in its own unit. Positive.
        n_resamples: How many resamples.
        weights: What each point counts, shape (n,), positive; all the same if None.
        kind: "residual": the fitted law times the exponential of log residuals drawn with replacement,
            centred and widened by `sqrt(n / (n - 3))` for the three parameters fitted. "pairs": points drawn
            with replacement, each with its weight; right also where the noise changes along the curve.
            "block": as "residual", in blocks of neighbouring points along x, which keeps the noise's
            autocorrelation.
        block: Length of a block, in points; `n^(1/3)`, rounded, if None. Only for "block".
        seed: Of the random draws; the same seed gives the same draws.

    Returns:
        Parameters in the order E, A, alpha, of the fit and of every resample.

    Raises:
        ValueError: If x, y or weights is not positive and finite or their lengths differ, there are fewer
            than five points or three different x, or an option is unknown or out of range.

    References:
        Efron 1979 (pairs, residuals); Davison and Hinkley 1997, section 6.2 (widened residuals); Kuensch
        1989 and Liu and Singh 1992 (moving blocks); Hall, Horowitz and Jing 1995 (their length).

    Example:
        >>> import numpy as np
        >>> x = np.geomspace(1e3, 1e6, 30)
        >>> noise = np.random.default_rng(0).normal(0, 0.01, 30)
        >>> result = resample_curve(x, (0.5 + 30 * x**-0.4) * np.exp(noise))
        >>> low, high = result.intervals(0.9)["alpha"]
        >>> bool(low < 0.4 < high)
        True
    """
    x, y = check_positive("x", x), check_positive("y", y)
    w = np.ones_like(y) if weights is None else check_positive("weights", weights)
    check_same_length(x=x, y=y, weights=w)
    check_enough(x)
    check_options(kind, KINDS, n_resamples, seed)
    n = y.size
    length = block_length(block, kind, n)
    order = np.argsort(x, kind="stable")
    x, y, w = x[order], y[order], w[order] / w.mean()
    x_unit, y_unit = x[0], float(np.exp(np.mean(np.log(y))))
    t, v = np.log(ratio(x, x_unit)), ratio(y, y_unit, largest=MAX_CONTRAST)

    nodes, carried = carry(t, float(v.max() / v.min()))
    linear, square = (w / v)[:, None] * carried, (w / v**2)[:, None] * carried
    at_nodes = nodes.size < n
    theta = solve(Moments.of(nodes, linear.sum(axis=0)[None], square.sum(axis=0)[None], carried=at_nodes))
    rng = np.random.default_rng(seed)
    first, second = np.empty((2, n_resamples, nodes.size))
    if kind != "pairs":
        fitted = np.maximum(theta[0, 0] + theta[0, 1] * np.exp(-theta[0, 2] * t), 1.0 / MAX_CONTRAST)
        residual = np.log(v / fitted)
        shrink = np.exp(np.clip((residual.mean() - residual) * np.sqrt(n / (n - 3)), -150.0, 150.0))
        linear, square = (w / fitted)[:, None] * carried, (w / fitted**2)[:, None] * carried
    for begin in range(0, n_resamples, max(1, CHUNK // n)):
        rows = slice(begin, begin + max(1, CHUNK // n))
        some = min(n_resamples, rows.stop) - begin
        if kind == "pairs":
            factor = powered = _counts(rng, some, n)
        else:
            factor = shrink[_drawn(rng, some, n, length)]
            powered = factor * factor
        np.matmul(factor, linear, out=first[rows])
        np.matmul(powered, square, out=second[rows])
    draws = solve(Moments.of(nodes, first, second, carried=at_nodes))
    return Resamples("power_floor", _natural(theta, x_unit, y_unit)[0], _natural(draws, x_unit, y_unit))


def resample_joint(
    n: ArrayLike,
    d: ArrayLike,
    y: ArrayLike,
    *,
    n_resamples: int = 1000,
    huber_delta: float = 1e-3,
    seed: int = 0,
    kind: str = "pairs",
) -> Resamples:
    """Fits `E + A N^-alpha + B D^-beta` to finished runs and to resamples of them.

    Minimises the sum of the Huber losses of the log residuals (Hoffmann et al. 2022, equation 3), not their
    mean. The fit to all runs begins at several pairs of exponents, the fit to each resample at that fit.

    Args:
        n: Model size of each run, shape (m,), in parameters. Positive.
        d: Data of each run, shape (m,), in training examples or tokens. Positive.
        y: The metric at its end, shape (m,), in its own unit. Positive.
        n_resamples: How many resamples.
        huber_delta: Log residual from which a run counts linearly.
        seed: Of the random draws; the same seed gives the same draws.
        kind: "pairs", runs drawn with replacement, is the only one: the residuals of a fit that nearly
            minimises their absolute values pile up at zero, so redrawing them would understate the doubt.

    Returns:
        Parameters in the order E, A, B, alpha, beta, of the fit and of every resample.

    Raises:
        ValueError: If n, d or y is not positive and finite or their lengths differ, there are fewer than
            seven runs, three different sizes or three different amounts of data, or an option is unknown or
            out of range.

    References:
        Hoffmann et al. 2022, arXiv:2203.15556, equation 3; Besiroglu et al. 2024, arXiv:2404.10102 (the
        resamples).
    """
    n, d, y = check_positive("n", n), check_positive("d", d), check_positive("y", y)
    check_same_length(n=n, d=d, y=y)
    check_enough_runs(n, d)
    check_options(kind, JOINT_KINDS, n_resamples, seed)
    check_delta(huber_delta)
    log_n, log_d, log_y = np.log(n), np.log(d), np.log(y)
    centre, y_unit = (float(log_n.mean()), float(log_d.mean())), float(np.exp(log_y.mean()))
    t, s, v = log_n - centre[0], log_d - centre[1], np.log(ratio(y, y_unit, largest=MAX_CONTRAST))
    every = Points(t, s, v, np.ones((1, y.size)), float(huber_delta))
    theta = _joint_optimum(every)
    counts = _counts(np.random.default_rng(seed), n_resamples, y.size)
    drawn = Points(t, s, v, counts, every.delta)
    draws, _ = minimise(drawn, np.tile(theta, (n_resamples, 1)))
    return Resamples(
        "chinchilla", _natural_joint(theta[None], centre, y_unit)[0], _natural_joint(draws, centre, y_unit)
    )


def _joint_optimum(points: Points) -> Array:
    """The best of the minima reached from the best of a grid of exponents, by least squares; shape (5,)."""
    alpha, beta = (grid.ravel() for grid in np.meshgrid(JOINT_GRID, JOINT_GRID))
    size = np.exp(np.clip(-alpha[:, None] * points.t, -STEEPEST, STEEPEST))
    data = np.exp(np.clip(-beta[:, None] * points.s, -STEEPEST, STEEPEST))
    features = np.stack([np.ones_like(size), size, data], axis=1)
    solved = project(features, np.exp(points.log_y), points.counts[0])
    first = np.argsort(solved.rss, kind="stable")[:JOINT_STARTS]
    start = np.concatenate([solved.coefficients[first], alpha[first, None], beta[first, None]], axis=1)
    counts = np.repeat(points.counts, len(first), axis=0)
    found, objective = minimise(Points(points.t, points.s, points.log_y, counts, points.delta), start)
    return np.asarray(found[np.argmin(objective)])


def _natural_joint(theta: Array, centre: tuple[float, float], y_unit: float) -> Array:
    """E, A, B, alpha and beta of many fits, shape (R, 5), from centred axes to natural units."""
    e, a, b, alpha, beta = theta.T
    at_size, at_data = _scaled(a, y_unit, alpha * centre[0]), _scaled(b, y_unit, beta * centre[1])
    return np.stack([_scaled(e, y_unit), at_size, at_data, alpha, beta], axis=1)


def _natural(theta: Array, x_unit: float, y_unit: float) -> Array:
    """E, A and alpha of many fits, shape (R, 3), from x / x_unit and y / y_unit to natural units."""
    e, a, alpha = theta.T
    return np.stack([_scaled(e, y_unit), _scaled(a, y_unit, alpha * np.log(x_unit)), alpha], axis=1)


def _scaled(coefficient: Array, unit: float, log_factor: Array | float = 0.0) -> Array:
    """`coefficient * unit * exp(log_factor)`, held below `LARGEST`."""
    log = safe_log(coefficient) + np.log(unit) + log_factor
    return np.where(coefficient > 0, np.exp(np.clip(log, -700.0, np.log(LARGEST))), 0.0)


def _counts(rng: np.random.Generator, n_resamples: int, n: int) -> Array:
    """How often each resample holds each point, shape (R, n)."""
    drawn = rng.integers(0, n, (n_resamples, n))
    drawn += np.arange(n_resamples)[:, None] * n
    counts = np.bincount(drawn.ravel(), minlength=n_resamples * n)
    return np.asarray(counts.reshape(n_resamples, n), dtype=float)


def _drawn(rng: np.random.Generator, n_resamples: int, n: int, length: int) -> NDArray[np.int64]:
    """Which residual each point of each resample gets, shape (R, n): whole blocks, the last one cut."""
    if length == 1:
        return rng.integers(0, n, (n_resamples, n))
    starts = rng.integers(0, n - length + 1, (n_resamples, -(-n // length)))
    return (starts[:, :, None] + np.arange(length)).reshape(n_resamples, -1)[:, :n]


def _quantiles(draws: Array, levels: Array) -> Array:
    return np.asarray(np.quantile(draws, levels, axis=0))
