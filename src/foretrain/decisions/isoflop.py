"""Compute-optimal sizes read off the runs themselves: equal compute, and the envelope of all runs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from foretrain.decisions.allocation import FLOPS_PER_WEIGHT
from foretrain.frontier import MIN_MODELS, NARROWEST, Growth, Optimum, find_optimum, fit_growth, minima
from foretrain.inputs import positive, same_length
from foretrain.laws.law import Array

CLOSE = 0.01
"""A point counts as measured at a budget that differs by no more, in ln C: runs end at whole steps."""

FEWEST_BUDGETS = 3
"""Optima below which their growth says nothing against the law."""

BUDGETS, MOST_CURVES = 24, 6
"""Budgets tried for curves of equal compute, and how many of those that enough sizes reach are kept."""

APART = 0.1
"""Budgets as near to one that was given on purpose, in ln C, are passed over."""

NO_EQUAL_COMPUTE = (
    f"No amount of compute was reached by {MIN_MODELS} sizes: train {MIN_MODELS} sizes, each on data that "
    "take about as much compute."
)


@dataclass(frozen=True)
class Isoflop:
    """The sizes of least error at several budgets, and how they grow.

    Attributes:
        budgets: In FLOPs, shape (k,): those at which enough sizes were measured.
        sizes: Sizes at each budget, in parameters.
        losses: The error of each there, interpolated along its own run, in the metric's unit.
        optima: The best size at each.
        growth: `N = k C^a` through the optima inside; None where fewer than two are.
        draws: a and ln k with the noise of repeated runs, shape (2, r); r is 0 where there is no growth, or
            no replicates were asked for.
    """

    budgets: Array
    sizes: tuple[Array, ...]
    losses: tuple[Array, ...]
    optima: tuple[Optimum, ...]
    growth: Growth | None
    draws: Array


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
    budgets, known = np.unique(positive("budgets", budgets)), np.unique(n)
    for budget, values in zip(budgets, _at_budgets(n, d, y, budgets / per), strict=True):
        reached = np.isfinite(values)
        if reached.sum() >= MIN_MODELS:
            sizes, losses = known[reached], np.exp(values[reached])
            best = find_optimum(sizes, losses, log_noise=log_noise, replicates=replicates, seed=seed)
            kept.append((float(budget), sizes, losses, best))
    found = Isoflop(
        budgets=np.array([budget for budget, *_ in kept]),
        sizes=tuple(sizes for _, sizes, _, _ in kept),
        losses=tuple(losses for _, _, losses, _ in kept),
        optima=tuple(best for *_, best in kept),
        growth=None,
        draws=np.empty((2, 0)),
    )
    inside = [(budget, best) for budget, _, _, best in kept if best.inside and np.isfinite(best.n)]
    if len(inside) < 2:
        return found
    spread = [best.log_n_std for _, best in inside]
    known_spread = spread if np.isfinite(spread).all() and min(spread) > 0 else None
    growth = fit_growth([budget for budget, _ in inside], [best.n for _, best in inside], known_spread)
    draws = _draws(found, known, log_noise, replicates, seed)
    return replace(found, growth=growth, draws=draws)


def _draws(found: Isoflop, known: Array, log_noise: float, replicates: int, seed: int) -> Array:
    """The growth's a and ln k when all runs are repeated, shape (2, r).

    Repeated, a run is better or worse along all of its curve, so one deviation of each size moves its error
    at all budgets alike; what the grid of sizes hides is each budget's own.
    """
    rng = np.random.default_rng(seed)
    offsets = rng.normal(0.0, log_noise, (replicates, known.size))
    places, weights = np.full((2, len(found.optima), replicates), np.nan)
    for i, (sizes, losses, best) in enumerate(zip(found.sizes, found.losses, found.optima, strict=True)):
        if best.inside and best.log_n_std > 0:
            x = np.log(sizes)
            places[i], _ = minima(x, np.log(losses) + offsets[:, np.searchsorted(known, sizes)])
            least = NARROWEST * float(np.ptp(x)) / (x.size - 1)
            by_grid = np.sqrt(max(least**2 - float(np.nanvar(places[i])), 0.0))
            places[i] += rng.normal(0.0, by_grid, replicates)
            weights[i] = best.log_n_std**-2.0
    inside = np.isfinite(places)
    kept = inside.sum(axis=0) > 1
    w, y = np.where(inside, weights, 0.0)[:, kept], np.where(inside, places, 0.0)[:, kept]
    x, total = np.log(found.budgets)[:, None], w.sum(axis=0)
    centre, middle = (w * x).sum(axis=0) / total, (w * y).sum(axis=0) / total
    exponent = (w * (x - centre) * (y - middle)).sum(axis=0) / (w * (x - centre) ** 2).sum(axis=0)
    return np.stack([exponent, middle - exponent * centre])


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


def equal_compute(n: Array, d: Array, y: Array, per: float) -> Isoflop:
    """Curves of equal compute at budgets that at least four sizes have reached: of many, six.

    The budgets are those that the runs were given on purpose; where fewer than three were, others as well,
    evenly in ln C.

    Args:
        n: Model size of each point, shape (m,), in parameters. Positive.
        d: Data seen at each, shape (m,). Positive.
        y: The metric there, shape (m,), in its own unit. Positive.
        per: FLOPs for each parameter and unit of data.
    """
    compute = per * n * d
    planned, spread = _planned(compute, n), np.geomspace(compute.min(), compute.max(), BUDGETS)
    # The same points twice would make the growth of the best size look surer.
    apart = np.abs(np.log(spread[:, None] / planned)).min(axis=1, initial=np.inf) > APART
    budgets = planned if planned.size >= FEWEST_BUDGETS else np.concatenate([planned, spread[apart]])
    budgets = np.unique(budgets)
    reached = budgets[np.isfinite(_at_budgets(n, d, y, budgets / per)).sum(axis=1) >= MIN_MODELS]
    if reached.size > MOST_CURVES:
        reached = reached[np.linspace(0, reached.size - 1, MOST_CURVES).round().astype(int)]
    return isoflop_optima(n, d, y, reached if reached.size else budgets, per=per)


def _planned(compute: Array, n: Array) -> Array:
    """Budgets that enough sizes were given on purpose, shape (k,): equal but for whole steps."""
    order = np.argsort(compute)
    parts = np.split(order, np.flatnonzero(np.diff(np.log(compute[order])) > CLOSE) + 1)
    return np.array([np.median(compute[part]) for part in parts if np.unique(n[part]).size >= MIN_MODELS])


def _at_budgets(n: Array, d: Array, y: Array, products: Array) -> Array:
    """The ln y of each size (ascending) at `products / N` of data, shape (budgets, sizes).

    NaN where a size was not measured on both sides, or there.
    """
    order = np.lexsort((d, n))
    sizes, first = np.unique(n[order], return_index=True)
    values = np.full((products.size, sizes.size), np.nan)
    parts = zip(*(np.split(np.log(v[order]), first[1:]) for v in (d, y)), strict=True)
    for column, (size, (data, level)) in enumerate(zip(sizes, parts, strict=True)):
        at = np.log(products / size)
        inside = (data[0] - CLOSE <= at) & (at <= data[-1] + CLOSE)
        values[inside, column] = np.interp(at[inside], data, level)
    return values
