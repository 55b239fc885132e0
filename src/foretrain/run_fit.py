"""The law of one run through its schedule, fitted to a curve, and what several runs' laws have in common.

The law is `L(s) = l (F + (1 - F) (S / S0)^-alpha - b M)` for the training done S and the annealing M of
`foretrain.annealing`: the multi-power law (Luo et al. 2025, equation 4) with the exponents of its memory
held, written by its level l at S0, the share F of that level which is irreducible, the exponent, and the gain
b. The four are estimated on the log scale: theta is ln l, logit F, ln alpha and ln b.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from foretrain.laws.law import SATURATION, Array
from foretrain.run_curve import RunCurve

USUAL_MEAN = np.array([0.0, 0.4, np.log(0.55), np.log(0.057)])
USUAL_SPREAD = np.array([3.0, 1.5, 0.6, 0.4])
"""What is known of ln l (against the last value), logit F, ln alpha and ln b before any run is seen: normal
densities. The level and F are left open; alpha and b are those of public runs, see docs/laws.md."""

ALIKE = np.array([0.01, 0.1, 0.05, 0.05])
ALIKE_RUNS = 2.0
"""By how much runs of one study differ, in the same four, is taken beforehand as this, as if so many runs had
told it: the level as much as seeds differ (Kaplan et al. 2020: .02 nats)."""

RECENCY = 1.2
"""A point at S counts (S / S_last) to this power; of an earlier run, (S / S_ask) to minus it beyond S_ask."""

EFFECTIVE = 10.0
"""As how many independent points a curve counts at most: the law is not exact, so residuals go together."""

NOISE, NOISE_POINTS = 1.5e-3, 4.0
"""Log residual that is expected before any point is seen, and how many points that counts."""

OUTLIER = 3.5
"""Points further from the law than so many robust standard deviations count less."""


@dataclass(frozen=True)
class Fit:
    """The law fitted to one curve.

    Attributes:
        theta: ln l, logit F, ln alpha and ln b; shape (4,).
        information: Second derivatives of half the objective, prior included, shape (4, 4).
        told: The same of the points alone, shape (4, 4).
        push: `told` times where the points alone would have theta, shape (4,).
        variance: Of the log residuals.
        evidence: How badly the law describes the curve: half the log variance for each effective point.
    """

    theta: Array
    information: Array
    told: Array
    push: Array
    variance: float
    evidence: float


def law(theta: Array, z: Array, annealed: Array) -> tuple[Array, Array]:
    """Log error at ln (S / S0) and its slopes by the four parameters, shapes (n,) and (n, 4)."""
    level, logit, log_alpha, log_gain = theta
    floor = 1.0 / (1.0 + np.exp(-np.clip(logit, -SATURATION, SATURATION)))
    alpha, gain = np.exp(np.clip([log_alpha, log_gain], -SATURATION, 5.0))
    power = np.exp(np.clip(-alpha * z, -SATURATION, SATURATION))
    shape = floor + (1.0 - floor) * power - gain * annealed
    shape = np.maximum(shape, 1e-3)
    slopes = np.stack(
        [
            np.ones_like(z),
            floor * (1.0 - floor) * (1.0 - power) / shape,
            -(1.0 - floor) * power * z * alpha / shape,
            -gain * annealed / shape,
        ],
        axis=1,
    )
    return level + np.log(shape), slopes


def fit_law(
    curve: RunCurve,
    k: int,
    reference: float,
    mean: Array,
    precision: Array,
    *,
    ask: float | None = None,
    variance: float | None = None,
    recency: float = RECENCY,
) -> Fit:
    """The law of one curve under the prior N(mean, precision^-1): Gauss-Newton with damping.

    Points count by how late they are, or by how near to `ask`; outliers count less.
    """
    log_s = np.log(curve.done)
    z, annealed, log_y = log_s - np.log(reference), curve.annealed[k], curve.log_y
    far = log_s - log_s[-1] if ask is None else -np.abs(log_s - np.log(ask))
    base = np.exp(recency * (far - far.max()))
    base = base * min(base.sum() / float((base**2).sum()), EFFECTIVE / base.sum())
    expected = NOISE**2 if variance is None else max(variance, NOISE**2)
    weights, count = base, float(base.sum())
    theta, damping, noise = mean.copy(), 1e-3, 25.0 * expected

    def objective(at: Array) -> tuple[float, Array, Array]:
        level, slopes = law(at, z, annealed)
        off = log_y - level
        return float((weights * off**2).sum() / noise + (at - mean) @ precision @ (at - mean)), off, slopes

    for iteration in range(14):
        value, off, slopes = objective(theta)
        if iteration > 2:
            typical = max(1.4826 * float(np.median(np.abs(off))), np.sqrt(expected))
            weights = base * np.minimum(1.0, OUTLIER * typical / np.maximum(np.abs(off), 1e-12))
            noise = (NOISE_POINTS * expected + float((weights * off**2).sum())) / (NOISE_POINTS + count)
            value, off, slopes = objective(theta)
        curvature = (slopes * weights[:, None]).T @ slopes / noise + precision
        downhill = (slopes * weights[:, None]).T @ off / noise - precision @ (theta - mean)
        moved = 0.0
        for _ in range(8):
            step = np.linalg.solve(curvature + damping * np.diag(np.diag(curvature)), downhill)
            step = np.clip(step, -1.0, 1.0)
            if objective(theta + step)[0] <= value:
                theta, damping, moved = theta + step, max(damping / 5.0, 1e-9), float(np.abs(step).max())
                break
            damping *= 6.0
        if iteration > 4 and moved < 1e-7:
            break
    _, slopes = law(theta, z, annealed)
    told = (slopes * weights[:, None]).T @ slopes / noise
    push = told @ theta + precision @ (theta - mean)  # at the best theta the two pulls are equal
    return Fit(theta, told + precision, told, push, noise, 0.5 * count * float(np.log(noise)))


def pool(fits: Sequence[Fit], usual: Array, narrow: Array) -> tuple[Array, Array]:
    """Mean and covariance, for one more run, of the parameters that runs of this study have.

    Random effects: what the points of each run alone say of its parameters, a normal density, is combined by
    expectation and maximisation (Dempster, Laird & Rubin 1977) under weak priors.
    """
    told, push = np.stack([fit.told for fit in fits]), np.stack([fit.push for fit in fits])
    between = np.diag(ALIKE**2)
    mean, spread = np.mean([fit.theta for fit in fits], axis=0), between
    for _ in range(20):
        inverse = np.linalg.inv(spread)
        each = np.linalg.inv(told + inverse)
        own = np.einsum("rij,rj->ri", each, push + inverse @ mean)
        mean = np.linalg.solve(len(fits) * inverse + narrow, inverse @ own.sum(axis=0) + narrow @ usual)
        apart = own - mean
        spread = (ALIKE_RUNS * between + apart.T @ apart + each.sum(axis=0)) / (ALIKE_RUNS + len(fits))
    return mean, spread * (1.0 + 1.0 / len(fits))
