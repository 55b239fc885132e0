"""The law of a run through its schedule, fitted to many curves at once, and what several runs have in common.

The law is `L(s) = l (F + (1 - F) (S / S0)^-alpha - b M)` for the training done S and the annealing M of
`foretrain.runs.annealing`: the multi-power law (Luo et al. 2025, equation 4) with the exponents of its memory
held, written by its level l at S0, the share F of that level which is irreducible, the exponent, and the gain
b. The four are estimated on the log scale: theta is ln l, logit F, ln alpha and ln b.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foretrain.laws.law import SATURATION, Array

ALIKE = np.array([0.01, 0.1, 0.05, 0.05])
ALIKE_RUNS = 2.0
"""By how much runs of one study differ, in the same four, is taken beforehand as this, as if so many runs had
told it: the level as much as seeds differ (Kaplan et al. 2020: .02 nats)."""

ALONG_SIZE = np.array([0.3, 0.25, 0.1, 0.15])
"""By how much the same four change with ln N, at the same data: standard deviations beforehand. At 20 tokens
for each parameter the law of Besiroglu et al. 2024 has -.11 (10 million parameters) to -.05 (a billion) for
the level, -.17 to -.06 for logit F and 0 for the exponent; of the gain, Luo et al. 2025 have .15 from 25 to
100 million."""

UNLIKE = 3.0
"""Runs are taken as no further from what others tell than so many standard deviations of the usual prior."""

RECENCY = 1.2
"""A point at S counts (S / S_last) to this power; of an earlier run, (S / S_ask) to minus it beyond S_ask."""

EFFECTIVE = 10.0
"""As how many independent points a curve counts at most: the law is not exact, so residuals go together."""

NOISE, NOISE_POINTS = 1.5e-3, 4.0
"""Log residual that is expected before any point is seen, and how many points that counts."""

OUTLIER = 3.5
"""Points further from the law than so many robust standard deviations count less."""


ITERATIONS, TRIES = 14, 8
"""Steps of a fit at most, and how often one is shortened."""


@dataclass(frozen=True)
class Fits:
    """The law fitted to several curves.

    Attributes:
        theta: ln l, logit F, ln alpha and ln b of each; shape (m, 4).
        told: Second derivatives of half the objective by the points alone, shape (m, 4, 4).
        push: `told` times where the points alone would have theta, shape (m, 4).
        spread: Covariance of theta, the prior included, shape (m, 4, 4).
        variance: Of one log measurement about the law, shape (m,).
        evidence: How badly the law describes the curve: half the log variance for each effective point,
            shape (m,).
    """

    theta: Array
    told: Array
    push: Array
    spread: Array
    variance: Array
    evidence: Array

    def __getitem__(self, which: slice | NDArray[np.intp]) -> Fits:
        """Some of them."""
        columns = (self.theta, self.told, self.push, self.spread, self.variance, self.evidence)
        return Fits(*(column[which] for column in columns))

    def moments(self, z: Array, annealed: Array) -> tuple[Array, Array]:
        """Mean and variance of one new log measurement at ln (S / S0) under each law, shape (m, n)."""
        mean, slopes = law(self.theta, z, annealed)
        left = np.einsum("mni,mij,mnj->mn", slopes, self.spread, slopes)
        # Of runs whose levels are apart by many powers of ten, rounding may leave less than nothing.
        return mean, np.maximum(left, 0.0) + self.variance[:, None]


def law(theta: Array, z: Array, annealed: Array) -> tuple[Array, Array]:
    """Log error at ln (S / S0) and its slopes by the four parameters.

    Args:
        theta: Parameters of each curve, shape (m, 4).
        z: ln (S / S0), shape (m, n) or one that broadcasts to it.
        annealed: M there, likewise.

    Returns:
        Shapes (m, n) and (m, n, 4).
    """
    level, logit, log_alpha, log_gain = np.moveaxis(theta, -1, 0)[..., None]
    z, annealed = np.broadcast_arrays(z, annealed)
    floor = 1.0 / (1.0 + np.exp(-np.clip(logit, -SATURATION, SATURATION)))
    alpha, gain = (np.exp(np.clip(log, -SATURATION, 5.0)) for log in (log_alpha, log_gain))
    power = np.exp(np.clip(-alpha * z, -SATURATION, SATURATION))
    shape = np.maximum(floor + (1.0 - floor) * power - gain * annealed, 1e-3)
    slopes = np.stack(
        [
            np.ones_like(shape),
            floor * (1.0 - floor) * (1.0 - power) / shape,
            -(1.0 - floor) * power * z * alpha / shape,
            -gain * annealed / shape,
        ],
        axis=-1,
    )
    return level + np.log(shape), slopes


def weigh(distance: Array, recency: Array | float = RECENCY) -> Array:
    """What points count at a distance in ln S, shape (..., n), never more than `EFFECTIVE` in all.

    Args:
        distance: From the place that matters, not negative; infinite for a point that is not there.
        recency: By what power of S a point counts less.

    Returns:
        Weights whose sum is the number of independent points that they stand for.
    """
    near = distance.min(axis=-1, keepdims=True)
    base = np.exp(-np.minimum(recency * (distance - near), SATURATION)) * np.isfinite(distance)
    total = base.sum(axis=-1, keepdims=True)
    return np.asarray(base * np.minimum(total / (base**2).sum(axis=-1, keepdims=True), EFFECTIVE / total))


def fit_laws(
    z: Array, annealed: Array, log_y: Array, base: Array, mean: Array, precision: Array, expected: Array
) -> Fits:
    """The law of each of m curves under a prior N(mean, precision^-1) of its own: damped Gauss-Newton.

    Outliers count less, and the variance is estimated on the way.

    Args:
        z: ln (S / S0) of each point, shape (m, n).
        annealed: M there, likewise.
        log_y: Log of the metric, likewise.
        base: What each point counts, from `weigh`, likewise.
        mean: Shape (m, 4).
        precision: Shape (m, 4, 4).
        expected: Variance of the log residuals as expected, as if `NOISE_POINTS` points had told it; (m,).

    Returns:
        The fits.
    """
    present, count = base > 0, base.sum(axis=-1)
    weights, theta, noise = base, mean.copy(), 25.0 * expected
    damping = np.full(count.shape, 1e-3)

    def objective(at: Array) -> tuple[Array, Array, Array]:
        told, slopes = law(at, z, annealed)
        off = np.where(present, log_y - told, 0.0)
        apart = at - mean
        squared = (weights * off**2).sum(axis=-1) / noise
        return squared + np.einsum("mi,mij,mj->m", apart, precision, apart), off, slopes

    for iteration in range(ITERATIONS):
        value, off, slopes = objective(theta)
        if iteration > 2:
            typical = np.maximum(1.4826 * _median(np.abs(off), present), np.sqrt(expected))
            far = OUTLIER * typical[:, None] / np.maximum(np.abs(off), 1e-12)
            weights = base * np.minimum(1.0, far)
            noise = (NOISE_POINTS * expected + (weights * off**2).sum(axis=-1)) / (NOISE_POINTS + count)
            value, off, slopes = objective(theta)
        weighted = slopes * (weights / noise[:, None])[..., None]
        curvature = np.einsum("mni,mnj->mij", weighted, slopes) + precision
        downhill = np.einsum("mni,mn->mi", weighted, off)
        downhill -= np.einsum("mij,mj->mi", precision, theta - mean)
        moved, open_ = np.zeros_like(count), np.ones(count.shape, dtype=bool)
        for _ in range(TRIES):
            stiff = curvature * (1.0 + damping[:, None, None] * np.eye(4))
            step = np.clip(np.linalg.solve(stiff, downhill[..., None])[..., 0], -1.0, 1.0)
            better = open_ & (objective(theta + step)[0] <= value)
            theta = np.where(better[:, None], theta + step, theta)
            moved = np.where(better, np.abs(step).max(axis=-1), moved)
            damping = np.where(
                better, np.maximum(damping / 5.0, 1e-9), np.where(open_, 6.0 * damping, damping)
            )
            open_ &= ~better
            if not open_.any():
                break
        if iteration > 4 and (moved < 1e-7).all():
            break
    _, slopes = law(theta, z, annealed)
    told = np.einsum("mni,mnj->mij", slopes * (weights / noise[:, None])[..., None], slopes)
    push = np.einsum("mij,mj->mi", told, theta)
    push += np.einsum("mij,mj->mi", precision, theta - mean)  # at the best theta the two pulls are equal
    spread = np.linalg.inv(told + precision)
    return Fits(theta, told, push, spread, noise, 0.5 * count * np.log(noise))


def _median(values: Array, present: NDArray[np.bool_]) -> Array:
    """The median of the points that are there, of each row."""
    ordered = np.sort(np.where(present, values, np.inf), axis=-1)
    middle = (present.sum(axis=-1, keepdims=True) - 1) / 2
    low = np.take_along_axis(ordered, np.floor(middle).astype(int), axis=-1)
    high = np.take_along_axis(ordered, np.ceil(middle).astype(int), axis=-1)
    return np.asarray(0.5 * (low + high)[:, 0])


def pool(
    fits: Fits, counted: NDArray[np.bool_], larger: Array, usual: Array, narrow: Array
) -> tuple[Array, Array]:
    """Mean and covariance, for one more run, of the parameters that runs of this study have.

    Random effects: what the points of each run alone say of its parameters, a normal density, is combined by
    expectation and maximisation (Dempster, Laird & Rubin 1977) under weak priors.

    Args:
        fits: Of r runs.
        counted: Which of the runs count, for each of g answers, shape (g, r).
        larger: Ln of their size over that of the run asked about, of each answer, shape (g, r).
        usual: Mean of the weak prior of their mean, shape (4,).
        narrow: Its precision, shape (4, 4).

    Returns:
        Means, shape (g, 4), and covariances, shape (g, 4, 4).
    """
    counts = counted.astype(float)
    many = counts.sum(axis=1)[:, None]
    between = np.diag(ALIKE**2)
    design = np.stack([np.ones_like(larger), larger], axis=-1)
    products = np.einsum("gr,gra,grb->gab", counts, design, design)
    beforehand = np.zeros((8, 8))
    beforehand[:4, :4], beforehand[4:, 4:] = narrow, np.diag(1.0 / ALONG_SIZE**2)
    pull = np.concatenate([narrow @ usual, np.zeros(4)])
    most = UNLIKE / np.sqrt(np.diag(narrow))
    trend = np.zeros((counts.shape[0], 2, 4))
    trend[:, 0] = counts @ fits.theta / many
    spread = np.repeat(between[None], counts.shape[0], axis=0)
    for _ in range(20):
        inverse = np.linalg.inv(spread)
        each = np.linalg.inv(fits.told[None] + inverse[:, None])
        expected = design @ trend
        own = np.einsum("grij,grj->gri", each, fits.push[None] + expected @ inverse)
        information = np.einsum("gab,gij->gaibj", products, inverse).reshape(-1, 8, 8) + beforehand
        total = np.einsum("gr,gra,gri->gai", counts, design, own)
        right = (total @ inverse).reshape(-1, 8) + pull
        trend = np.linalg.solve(information, right[..., None]).reshape(-1, 2, 4)
        apart = np.clip(own - design @ trend, -most, most)
        scatter = np.einsum("gr,gri,grj->gij", counts, apart, apart) + np.einsum("gr,grij->gij", counts, each)
        spread = (ALIKE_RUNS * between + scatter) / (ALIKE_RUNS + many)[..., None]
        spread = 0.5 * (spread + np.swapaxes(spread, -1, -2))
    return trend[:, 0], spread + np.linalg.inv(information)[:, :4, :4]
