"""The compute burden of a falling error: by how much compute grows over models as the error halves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from foretrain.hestness.law import Estimate
from foretrain.inputs import positive, same_length
from foretrain.laws.law import Array

MIN_MODELS = 4
"""With fewer nothing is left to tell how well the line fits."""

DRAWS = 4000

CROSS_SECTION = (
    "This is a cross-section: the models differ in more than compute, so it says what went along with "
    "progress, and not what more compute would do for one recipe."
)
"""What has to be said with every compute burden."""


@dataclass(frozen=True, eq=False)
class ComputeBurden:
    """`error = coefficient * compute^-1/k` over many models.

    Attributes:
        exponent: k: compute grows as `error^-k`, with an interval; infinite where the error may not fall.
        halving: `2^k`: how many times the compute half the error takes, likewise.
        r_squared: Share of the variance of the log error that the line explains.
        models: How many models it rests on.
        draws: Log10 error at the mean log10 compute, and the slope, shape (n, 2).
        centre: That mean.
        level: Of the intervals.
    """

    exponent: Estimate
    halving: Estimate
    r_squared: float
    models: int
    draws: Array
    centre: float
    level: float

    @property
    def sentence(self) -> str:
        """The burden in words, with the warning that it needs."""
        if not np.isfinite(self.exponent.median):
            return f"The error does not fall with compute over {self.models} models. {CROSS_SECTION}"
        ends = self.halving
        return (
            f"Half the error takes {ends.median:.3g} times the compute ({self.level:.0%} interval "
            f"{ends.lower:.3g} to {ends.upper:.3g}; exponent {self.exponent.median:.1f}, R2 "
            f"{self.r_squared:.2f}, {self.models} models). {CROSS_SECTION}"
        )

    def compute_for(self, error: float) -> Estimate:
        """The compute at which the line reaches an error; infinite where it may never.

        Raises:
            ValueError: If the error is not positive and finite.
        """
        target = float(np.log10(positive("error", error)).ravel()[0])
        level, slope = self.draws.T
        logs = np.where(slope < 0, (target - level) / np.where(slope < 0, slope, -1.0), np.inf)
        with np.errstate(over="ignore", under="ignore"):
            return Estimate.of(np.power(10.0, np.minimum(self.centre + logs, 400.0)), self.level)


def compute_burden(
    compute: ArrayLike, error: ArrayLike, *, level: float = 0.9, seed: int = 0
) -> ComputeBurden:
    """Regresses the log error of published models on the log of their compute.

    Args:
        compute: Training (or network) operations of each model, shape (n,). Positive.
        error: Error of each, shape (n,). Positive.
        level: Of the intervals.
        seed: Of the draws that `compute_for` uses.

    Returns:
        The burden. Its `sentence` says what it must not be taken for.

    Raises:
        ValueError: If a number is not positive and finite, the lengths differ, there are fewer than four
            models or only one amount of compute, or the level is not between 0 and 1.

    References:
        Thompson et al. 2020, arXiv:2007.05558: over ImageNet models compute grew as error^-12.1 (10.6 to
        14.1), so that half the error took 4,400 times the operations.

    Example:
        >>> burden = compute_burden([1e9, 1e10, 1e11, 1e12, 1e13], [0.31, 0.25, 0.205, 0.171, 0.141])
        >>> f"{burden.exponent.median:.1f} {burden.halving.median:.0f}"
        '11.8 3505'
    """
    c, e = positive("compute", compute), positive("error", error)
    same_length(compute=c, error=e)
    if c.size < MIN_MODELS or np.unique(c).size < 2:
        raise ValueError(
            f"Expected at least {MIN_MODELS} models with different compute, got {c.size} with "
            f"{np.unique(c).size} amounts of it: gather more."
        )
    if not 0 < level < 1:
        raise ValueError(f"Expected `level` between 0 and 1, got {level!r}.")
    x, y = np.log10(c), np.log10(e)
    centre = float(x.mean())
    t = x - centre
    spread = float(t @ t)
    slope = float(t @ y) / spread
    residual = y - y.mean() - slope * t
    freedom = c.size - 2
    deviation = float(np.sqrt(residual @ residual / freedom))
    half = float(stdtrit(freedom, (1 + level) / 2)) * deviation / np.sqrt(spread)
    variance = float(((y - y.mean()) ** 2).sum())
    rng = np.random.default_rng(seed)
    scale = deviation * np.sqrt(freedom / rng.chisquare(freedom, DRAWS))
    drawn = np.stack(
        [
            y.mean() + scale / np.sqrt(c.size) * rng.standard_normal(DRAWS),
            slope + scale / np.sqrt(spread) * rng.standard_normal(DRAWS),
        ],
        axis=1,
    )
    ends = [-1 / float(at) if at < 0 else float("inf") for at in (slope, slope - half, slope + half)]
    with np.errstate(over="ignore"):
        halving = [float(factor) for factor in np.exp2(ends)]
    r_squared = 1 - float(residual @ residual) / variance if variance else 0.0
    return ComputeBurden(Estimate(*ends), Estimate(*halving), r_squared, c.size, drawn, centre, level)
