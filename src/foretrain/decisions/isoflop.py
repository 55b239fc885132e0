"""Compute-optimal sizes read off the runs themselves: equal compute, and the envelope of all runs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from foretrain.decisions.allocation import FLOPS_PER_WEIGHT, JointLaw
from foretrain.frontier import MIN_MODELS, Growth, Optimum, find_optimum, fit_growth
from foretrain.inputs import positive, same_length
from foretrain.laws.law import Array

CLOSE = 0.01
"""A point counts as measured at a budget that differs by no more, in ln C: runs end at whole steps."""

NORMAL_90 = 1.645
"""Standard deviations to either side that hold 90 % of a normal distribution."""

FEWEST_BUDGETS = 3
"""Optima below which their growth says nothing against the law."""


@dataclass(frozen=True)
class Isoflop:
    """The sizes of least error at several budgets, and how they grow.

    Attributes:
        budgets: In FLOPs, shape (k,): those at which enough sizes were measured.
        sizes: Sizes at each budget, in parameters.
        losses: The error of each there, interpolated along its own run, in the metric's unit.
        optima: The best size at each.
        growth: `N = k C^a` through the optima inside; None where fewer than two are.
    """

    budgets: Array
    sizes: tuple[Array, ...]
    losses: tuple[Array, ...]
    optima: tuple[Optimum, ...]
    growth: Growth | None


def isoflop_optima(
    n: ArrayLike,
    d: ArrayLike,
    y: ArrayLike,
    budgets: ArrayLike,
    *,
    per: float = FLOPS_PER_WEIGHT,
    log_noise: float = 0.005,
    replicates: int = 200,
    seed: int = 0,
) -> Isoflop:
    """The best sizes at equal compute, from learning curves of several sizes.

    Each size's error at a budget is interpolated, linearly in logarithms, between its own points; nothing is
    extrapolated. Points before the learning rate has decayed are not final errors: give finished runs, or
    runs at a constant rate.

    Args:
        n: Model size of each point, shape (m,), in parameters. Positive.
        d: Data seen at each, shape (m,). Positive.
        y: The metric there, shape (m,), in its own unit. Positive.
        budgets: In FLOPs, shape (k,). Positive.
        per: FLOPs for each parameter and unit of data.
        log_noise: Standard deviation of ln y between repetitions of one run, for the optimum's own.
        replicates: How many times noise is added.
        seed: Of the noise.

    Returns:
        Budgets at which at least four sizes were measured, with their optima.

    Raises:
        ValueError: If an array holds a number that is not positive and finite, or the first three differ in
            length.

    References:
        Hoffmann et al. 2022, arXiv:2203.15556, section 3.2; Porian et al. 2024, arXiv:2406.19146.
    """
    n, d, y = positive("n", n), positive("d", d), positive("y", y)
    same_length(n=n, d=d, y=y)
    kept: list[tuple[float, Array, Array, Optimum]] = []
    for budget in np.unique(positive("budgets", budgets)):
        sizes, losses = _at_budget(n, d, y, float(budget) / per)
        if sizes.size >= MIN_MODELS:
            best = find_optimum(sizes, losses, log_noise=log_noise, replicates=replicates, seed=seed)
            kept.append((float(budget), sizes, losses, best))
    inside = [(budget, best) for budget, _, _, best in kept if best.inside and np.isfinite(best.n)]
    growth = None
    if len(inside) > 1:
        spread = [best.log_n_std for _, best in inside]
        known = spread if np.isfinite(spread).all() and min(spread) > 0 else None
        growth = fit_growth([budget for budget, _ in inside], [best.n for _, best in inside], known)
    return Isoflop(
        budgets=np.array([budget for budget, *_ in kept]),
        sizes=tuple(sizes for _, sizes, _, _ in kept),
        losses=tuple(losses for _, _, losses, _ in kept),
        optima=tuple(best for *_, best in kept),
        growth=growth,
    )


def disagreement(law: JointLaw, found: Isoflop) -> str:
    """A sentence where equal compute and the joint law do not agree on how the best size grows; else empty.

    Args:
        law: Draws of the law that the advice rests on, `Planner.trade_off`.
        found: From the same runs.
    """
    growth = found.growth
    inside = sum(best.inside for best in found.optima)
    if growth is None or inside < FEWEST_BUDGETS or not np.isfinite(growth.exponent_std):
        return ""
    alpha, beta = np.asarray(law.alpha, float), np.asarray(law.beta, float)
    low, high = np.quantile(beta / (alpha + beta), [0.05, 0.95])
    least, most = (growth.exponent + side * NORMAL_90 * growth.exponent_std for side in (-1, 1))
    if least <= high and low <= most:
        return ""
    return (
        f"The best sizes of equal compute grow like compute to the power of {growth.exponent:.2f} "
        f"({least:.2f} to {most:.2f}), by the joint law it is {low:.2f} to {high:.2f}: "
        "the law does not hold for these runs. Trust the sizes of equal compute, within the budgets that "
        "were run."
    )


def envelope(
    n: ArrayLike, d: ArrayLike, y: ArrayLike, *, per: float = FLOPS_PER_WEIGHT
) -> tuple[Array, Array, Array]:
    """The points that no other has reached with less compute.

    Returns:
        Compute in FLOPs, ascending, size in parameters and error of each, all of shape (k,).

    Raises:
        ValueError: As `isoflop_optima`.

    References:
        Hoffmann et al. 2022, arXiv:2203.15556, section 3.1.
    """
    n, d, y = positive("n", n), positive("d", d), positive("y", y)
    same_length(n=n, d=d, y=y)
    compute = per * n * d
    order = np.lexsort((y, compute))
    best = np.minimum.accumulate(y[order])
    first = np.append(True, best[1:] < best[:-1])
    kept = order[first]
    return compute[kept], n[kept], y[kept]


def _at_budget(n: Array, d: Array, y: Array, product: float) -> tuple[Array, Array]:
    """Sizes measured on both sides of `product / N` of data, or at it, and their errors there."""
    sizes, losses = [], []
    for size in np.unique(n):
        own = n == size
        data, values = np.log(d[own]), np.log(y[own])
        order = np.argsort(data, kind="stable")
        data, values, at = data[order], values[order], float(np.log(product / size))
        if data[0] - CLOSE <= at <= data[-1] + CLOSE:
            sizes.append(float(size))
            losses.append(float(np.exp(np.interp(at, data, values))))
    return np.array(sizes), np.array(losses)
