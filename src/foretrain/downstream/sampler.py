"""Draws from a density of a few parameters within bounds, where they cannot be drawn in closed form."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from foretrain.laws.law import Array

STARTS = 4096
"""Places, spread evenly, of which the best are where the walkers begin."""

LOST = 15.0
"""Halfway through the steps that do not count, walkers whose log density is so far below the best of all are
put where others are: they are at a lesser peak that they would hardly leave."""

STRETCH = 2.0
"""Goodman and Weare's a: a step is at most this factor long."""


def sample(
    log_density: Callable[[Array], Array],
    lower: Array,
    upper: Array,
    *,
    walkers: int,
    steps: int,
    burn_in: int,
    every: int,
    seed: int,
) -> Array:
    """Draws by an ensemble of walkers that stretch towards one another, whatever the parameters' scales.

    Args:
        log_density: Of rows of parameters, shape (m, p), up to a constant, shape (m,); it is taken as minus
            infinity outside the bounds.
        lower: Least value of each parameter, shape (p,).
        upper: Greatest, likewise.
        walkers: How many; even.
        steps: How many steps each takes.
        burn_in: How many first ones do not count.
        every: Of the others every so many-th counts.
        seed: Of the draws.

    Returns:
        Shape (q, p), with q = walkers times the steps that count.

    References:
        Goodman and Weare 2010, Communications in Applied Mathematics and Computational Science 5(1), 65-80.
    """
    rng = np.random.default_rng(seed)
    dimensions = lower.size

    def density(theta: Array) -> Array:
        inside = ((theta >= lower) & (theta <= upper)).all(axis=1)
        value = np.full(len(theta), -np.inf)
        if inside.any():
            value[inside] = log_density(theta[inside])
        return value

    tried = rng.uniform(lower, upper, (STARTS, dimensions))
    at = density(tried)
    chosen = np.argsort(-at, kind="stable")[:walkers]
    place, value = tried[chosen], at[chosen]
    kept = []
    half = walkers // 2
    for step in range(steps):
        for own, others in ((slice(0, half), slice(half, None)), (slice(half, None), slice(0, half))):
            towards = place[others][rng.integers(half, size=half)]
            # The density of z is proportional to 1 / sqrt(z) between 1 / a and a.
            z = (1 + rng.uniform(size=half) * (STRETCH - 1)) ** 2 / STRETCH
            moved = towards + z[:, None] * (place[own] - towards)
            new = density(moved)
            log_odds = (dimensions - 1) * np.log(z) + new - value[own]
            taken = np.log(rng.uniform(size=half)) < log_odds
            place[own] = np.where(taken[:, None], moved, place[own])
            value[own] = np.where(taken, new, value[own])
        if step == burn_in // 2:
            lost = np.flatnonzero(value < value.max() - LOST)
            found = rng.choice(np.flatnonzero(value >= value.max() - LOST), lost.size)
            place[lost], value[lost] = place[found], value[found]
        if step >= burn_in and (step - burn_in) % every == 0:
            kept.append(place.copy())
    return np.concatenate(kept)
