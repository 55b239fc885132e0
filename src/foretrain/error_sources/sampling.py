"""The luck of a finite test set: standard errors, exponents from two points, and changes of an error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri

from foretrain.hestness.law import Estimate
from foretrain.inputs import positive, same_length


@dataclass(frozen=True)
class TwoPointExponent:
    """The slope of the line through two errors, in logarithms, with the luck of the test set.

    Attributes:
        exponent: `ln(error_1 / error_2) / ln(data_2 / data_1)`: positive where the error falls.
        std: Its standard error, of the test set alone: the luck of the training is not in it.
    """

    exponent: float
    std: float

    def interval(self, level: float = 0.9) -> tuple[float, float]:
        """Its central interval, by the normal distribution."""
        half = float(ndtri((1 + level) / 2)) * self.std
        return self.exponent - half, self.exponent + half

    def p_same(self, other: TwoPointExponent) -> float:
        """Probability of a difference as large as this by the test sets' luck, if the exponents are the same.

        The two are taken as independent; tested on the same examples, errors have some of their luck in
        common, and a paired test would tell more.
        """
        return float(2 * ndtr(-abs(self.exponent - other.exponent) / np.hypot(self.std, other.std)))


def error_std(error: float, items: int) -> float:
    """Standard error of a share of errors among so many test examples, `sqrt(e (1 - e) / items)`.

    Raises:
        ValueError: If the error is not between 0 and 1, or there are no examples.
    """
    if not 0 < error < 1 or not items >= 1:
        raise ValueError(
            f"Expected an error between 0 and 1, as a share of at least one example, got {error} of {items}: "
            "divide per cent by 100."
        )
    return float(np.sqrt(error * (1 - error) / items))


def two_point_exponent(data: ArrayLike, errors: ArrayLike, items: int) -> TwoPointExponent:
    """The exponent of a power law through two points, as is often read off two trainings.

    Args:
        data: Training examples of both, shape (2,), ascending.
        errors: Share of test examples missed by each, shape (2,), between 0 and 1.
        items: Test examples.

    Returns:
        The exponent and its standard error.

    Raises:
        ValueError: If there are not two points, the data do not grow, or an error is no share.

    Example:
        >>> base = two_point_exponent([7291, 50000], [0.0409, 0.0274], 2007)
        >>> modern = two_point_exponent([7291, 50000], [0.0159, 0.0125], 2007)
        >>> f"{base.exponent:.3f} +- {base.std:.3f}, {modern.exponent:.3f} +- {modern.std:.3f}"
        '0.208 +- 0.089, 0.125 +- 0.138'
        >>> f"{base.p_same(modern):.2f}"
        '0.61'
    """
    m, e = positive("data", data), positive("errors", errors)
    same_length(data=m, errors=e)
    if m.size != 2 or not m[0] < m[1]:
        raise ValueError(f"Expected two points with more data in the second, got data {m.tolist()}.")
    distance = float(np.log(m[1] / m[0]))
    relative = np.hypot(error_std(float(e[0]), items) / e[0], error_std(float(e[1]), items) / e[1])
    return TwoPointExponent(float(np.log(e[0] / e[1])) / distance, float(relative) / distance)


def error_change(before: Sequence[float], after: Sequence[float], items: int, level: float = 0.9) -> Estimate:
    """By how much a change lowered the error, relatively: `1 - after / before`, with the luck in it.

    Args:
        before: Share of test examples missed, by each seed of the first recipe.
        after: The same of the second.
        items: Test examples, the same for all.
        level: Of the interval.

    Returns:
        The relative reduction of the mean, negative where the error rose. The interval holds the luck of the
        test set, as if each recipe had its own, and of the seeds where there are two or more; it is normal in
        ln error.

    Raises:
        ValueError: If an error is not a share between 0 and 1.
    """
    log_ratio, variance = 0.0, 0.0
    for sign, seeds in ((-1.0, before), (1.0, after)):
        values = positive("errors", list(seeds))
        mean = float(values.mean())
        log_ratio += sign * np.log(mean)
        variance += (error_std(mean, items) / mean) ** 2
        if values.size > 1:
            variance += float(values.var(ddof=1)) / values.size / mean**2
    half = float(ndtri((1 + level) / 2)) * np.sqrt(variance)
    ends = 1 - np.exp(log_ratio + np.array([0.0, half, -half]))
    return Estimate(*(float(end) for end in ends))
