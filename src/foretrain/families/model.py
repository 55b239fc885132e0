"""The joint law averaged over its exponents, as a model that can be asked at any size and data."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from foretrain.families.pairs import PairAverage
from foretrain.fitting import ratio
from foretrain.forecasting.uncertainty import DEGREES_OF_FREEDOM
from foretrain.laws.law import Array
from foretrain.status import FitStatus

USUAL_NOISE, PRIOR_POINTS = 0.005, 2.0
"""Log noise that is expected before any point is seen, and how many points that counts: finished runs that
differ in the seed alone differ by .0004 to .01 (Muennighoff et al. 2023) and .007 (Kaplan et al. 2020)."""

RESOLUTION = 0.003
"""Log deviation of a run below which one form of the law is not preferred to another."""

BANDWIDTH = 0.15
"""Width, in ln D, over which the deviations that all runs share at the same D are averaged."""

FADE = 0.35
"""Distance in ln D beyond the last point over which a shared deviation is forgotten."""

WHOLE, BLOCK = 20_000, 64
"""Averages of more products than this are taken in blocks of so many places, each from the points near it."""

MIN_SIZES = 3
"""Fewer sizes do not identify a law of model size; fewer past forecasts do not judge a form of it."""

SCALE_RESIDUAL, SCALE_SPREAD, SCALE_DISTANCE = 1.10, 0.68, 0.074
"""What the residuals, the spread of the exponents and the distance count as standard deviations. From a trial
on the curves of Alabdulmohsin et al. 2022; `benchmarks/joint.py` shows what they reach on families. Distance
counts for families of too few sizes or points to have tested the law on themselves."""

MAX_GROUPS = 256
"""Sizes up to which each is a run of its own; of more, those next to each other are taken together."""

T_SCALE = float(np.sqrt((DEGREES_OF_FREEDOM - 2.0) / DEGREES_OF_FREEDOM))
"""The scale of Student's t with a standard deviation of 1: what turns a standard deviation into the scale by
which `uncertainty.quantile_factor` is multiplied."""


@dataclass(frozen=True)
class FamilyModel:
    """The joint law averaged over its exponents, ready to be asked anywhere.

    Attributes:
        reasons: What is in doubt, the gravest first.
        unit: Smallest N and smallest D, shape (2,).
        y_unit: Geometric mean of y, in the metric's unit.
        top: Largest N and D, in `unit`, shape (2,).
        reach: From where distance counts: largest N, and largest D; of fewer than three sizes the largest D
            that all have reached, as it is untested that the others go on alike. In `unit`, shape (2,).
        law: The pairs of exponents with their E, A, B and shares, for x in `unit` and y in `y_unit`.
        shared: The points: ln D / unit, weight, log deviation from the law, and ln N / unit of the size, or
            of its group where there are many (`size_groups`); shape (4, n).
        toward: ln N / unit of the size asked about, around which sizes count.
        nearness: The power by which they do.
        independent: As how many independent points all of them count for E, A and B.
        between: Standard deviation of the log of a run as a whole about the law.
        within: Of one log measurement about its run.
        residual: Of one log measurement about the law, all points taken as independent.
        drift: Log slope along N and along D that distance adds to the uncertainty, shape (2,).
        line_odds: By how much the family's past forecasts favour a line in ln N over the joint law.
        inflation: By how much the family's past forecasts of its own larger sizes missed more than they
            said; at least 1.
        n_scores: How many larger sizes that was learned from; with none the intervals are uncalibrated.
    """

    reasons: tuple[FitStatus, ...]
    unit: Array
    y_unit: float
    top: Array
    reach: Array
    law: PairAverage
    shared: Array
    toward: float
    nearness: float
    independent: float
    between: float = 0.0
    within: float = 0.0
    residual: float = 0.0
    drift: Array = field(default_factory=lambda: np.zeros(2))
    line_odds: float = 1.0
    inflation: float = 1.0
    n_scores: int = 0

    @property
    def noise(self) -> float:
        """Standard deviation of one new log measurement about the law."""
        return float(np.hypot(self.between, self.within))

    def log_moments(self, n: Array, d: Array) -> tuple[Array, Array]:
        """Mean and scale of the log of one new measurement at sizes n and data d, shape (k,).

        The scale is what a quantile of Student's t (`uncertainty.quantile_factor`) is multiplied by.
        """
        return self._blend(*self._forms(n, d))

    def judged(self, n: Array, d: Array, y: Array) -> tuple[float, float]:
        """How this forecast fares on known errors y at sizes n and data d, each of shape (k,).

        Returns:
            The root mean square of its log errors over the standard deviations that it said; and the log odds
            of the line in ln N against the joint law, as far as several sizes were measured at such D.
        """
        x, law, line = self._forms(n, d)
        mean, scale = self._blend(x, law, line)
        log_y = np.log(y)
        missed = float(np.sqrt(np.mean(((log_y - mean) * T_SCALE / scale) ** 2)))
        off_law, off_line = (
            float(np.mean((log_y - np.log(self.y_unit) - form[0]) ** 2)) + USUAL_NOISE**2
            for form in (law, line)
        )
        told = float(np.mean(_enough(self.presence(np.log(x[1])))))
        return missed, told * float(np.log(off_law / off_line))

    def _forms(self, n: Array, d: Array) -> tuple[Array, tuple[Array, Array], tuple[Array, Array]]:
        """Places in `unit`; there, of the law log error and variance, of the line log error and share."""
        x = ratio(np.stack([n, d]), self.unit[:, None])
        return x, self._law_moments(x), self.straight(np.log(x))

    def _blend(self, x: Array, law: tuple[Array, Array], line: tuple[Array, Array]) -> tuple[Array, Array]:
        log_x = np.log(x)
        beyond = np.maximum(log_x - np.log(self.reach[:, None]), 0.0) + np.maximum(-log_x, 0.0)
        mean, spread = law
        apart, share = line[0] - mean, line[1]
        share = share * self.line_odds / (share * self.line_odds + 1 - share)
        variance = np.full(mean.shape, self.noise**2)
        variance += self.law.coefficient_variance(x, self.between, self.within, self.independent)
        # Both say how little is known of the law's form: their sum would count that twice.
        variance += np.maximum(SCALE_SPREAD**2 * spread, ((self.drift[:, None] * beyond) ** 2).sum(axis=0))
        variance += share * (1 - share) * apart**2
        return mean + share * apart + np.log(self.y_unit), self.inflation * T_SCALE * np.sqrt(variance)

    def straight(self, log_x: Array) -> tuple[Array, Array]:
        """The log error if size had no floor, and how much that form of the law counts.

        The joint law flattens along N towards `E + B D^-beta`. Few sizes cannot tell that from a power law
        of size alone, and short runs of large models fall faster than an additive law has it. So the runs
        that were measured at the same D, each moved there by the joint law, are also put on a straight line
        in ln N; the two forms count by how near each passes to the runs.

        Args:
            log_x: ln (N / unit) and ln (D / unit), shape (2, q).

        Returns:
            The straight line's log error / y_unit and its share, 0 to 1, each of shape (q,). The share is 0
            where no two sizes were measured.
        """
        at, weight, deviation, of_size = self.shared
        sizes = np.unique(of_size)
        log_d, back = np.unique(log_x[1], return_inverse=True)
        everywhere = np.stack([np.repeat(sizes, log_d.size), np.tile(log_d, sizes.size)])
        level, _ = self.law.log_moments(np.exp(everywhere))
        level = level.reshape(sizes.size, log_d.size)
        bend = np.zeros_like(level)
        for i, size in enumerate(sizes):
            own = of_size == size
            fade = np.exp(-np.maximum(log_d - at[own].max(), 0.0) / FADE)
            bend[i] = fade * _smooth(log_d, at[own], weight[own], deviation[own])
        level += bend
        presence = self.presence(log_d)
        apart = np.abs(sizes - self.toward)
        w = np.exp(-self.nearness * (apart - apart.min()))[:, None] * np.maximum(presence, 1e-9)
        w = w / w.sum(axis=0)
        centre, middle = (w * sizes[:, None]).sum(axis=0), (w * level).sum(axis=0)
        across = sizes[:, None] - centre
        slope = (w * across * (level - middle)).sum(axis=0) / np.maximum((w * across**2).sum(axis=0), 1e-12)
        off_line = (w * (level - middle - slope * across) ** 2).sum(axis=0) + RESOLUTION**2
        off_law = (w * (bend - (w * bend).sum(axis=0)) ** 2).sum(axis=0) + RESOLUTION**2
        share = _enough(presence) * off_law / (off_law + off_line)
        return (middle - slope * centre)[back] + slope[back] * log_x[0], share[back]

    def shared_deviation(self, log_d: Array) -> Array:
        """By how much the runs together lie off the law at each ln (D / unit), in log units.

        Runs that read the same data in the same order share their ups and downs; a law that is not exact
        leaves a deviation that all sizes share. Both show in a new run at the same D. What one size alone
        shows is its own.
        """
        at, weight, deviation, _ = self.shared
        log_d, back = np.unique(log_d, return_inverse=True)
        inside = np.clip(log_d, at.min(), at.max())
        told = _enough(self.presence(inside)) * _smooth(log_d, at, weight, deviation)
        return np.asarray(told[back])

    def presence(self, log_d: Array) -> Array:
        """How near each size was measured to each ln (D / unit), 0 to 1; shape (sizes, q)."""
        _, index = np.unique(self.shared[3], return_inverse=True)
        at = self.shared[0]
        order = np.lexsort((at, index))
        first = np.searchsorted(index[order], np.arange(index.max() + 1))[:, None]
        last = np.append(first[1:, 0], at.size)[:, None] - 1
        far = 1.0 + max(at.max(), log_d.max()) - min(at.min(), log_d.min())
        keys = at[order] + far * index[order]
        above = np.searchsorted(keys, log_d + far * np.arange(index.max() + 1)[:, None])
        gap = np.full(above.shape, np.inf)
        for neighbour in (above - 1, above):
            at_neighbour = at[order][np.clip(neighbour, first, last)]
            gap = np.minimum(gap, np.abs(log_d - at_neighbour))
        return np.asarray(np.exp(-0.5 * np.minimum(gap / BANDWIDTH, 30.0) ** 2))

    def _law_moments(self, x: Array) -> tuple[Array, Array]:
        """The joint law's log error with the shared deviation, and its variance over the exponents."""
        mean, spread = self.law.log_moments(x)
        log_d = np.log(x[1])
        beyond = np.maximum(log_d - np.log(self.top[1]), 0.0) + np.maximum(-log_d, 0.0)
        return mean + self.shared_deviation(log_d) * np.exp(-beyond / FADE), spread


def size_groups(n: Array) -> Array:
    """For each model size the size of its group, shape (k,): its own, where there are no more than 256.

    Else sizes are put together in equal steps of ln N; a group has the geometric mean of its sizes.
    """
    sizes = np.log(np.unique(n))
    if sizes.size <= MAX_GROUPS:
        return n
    step = (sizes[-1] - sizes[0]) / MAX_GROUPS
    cell = np.minimum(((np.log(n) - sizes[0]) / step).astype(int), MAX_GROUPS - 1)
    count = np.bincount(cell, minlength=MAX_GROUPS)
    mean = np.bincount(cell, np.log(n), MAX_GROUPS) / np.maximum(count, 1)
    return np.asarray(np.exp(mean)[cell])


def _enough(presence: Array) -> Array:
    """Of the sizes present, shape (sizes, q): 0 where there is one, 1 where there are three; shape (q,)."""
    return np.asarray(np.clip((presence.sum(axis=0) - 1.0) / (MIN_SIZES - 1.0), 0.0, 1.0))


def _smooth(log_d: Array, at: Array, weight: Array, values: Array) -> Array:
    """The average, near each of `log_d` (ascending), of values at ln D `at`; shape (q,)."""
    log_d = np.clip(log_d, at.min(), at.max())
    if log_d.size * at.size <= WHOLE:
        return _kernel_average(log_d, at, weight, values)
    order = np.argsort(at, kind="stable")
    at, weight, values = at[order], weight[order], values[order]
    above = np.clip(np.searchsorted(at, log_d), 1, at.size - 1)
    gap = np.minimum(np.abs(log_d - at[above]), np.abs(log_d - at[above - 1]))
    reach = np.sqrt(gap**2 + 50.0 * BANDWIDTH**2)  # what lies further counts exp(-25) of the nearest
    result = np.empty(log_d.size)
    for start in range(0, log_d.size, BLOCK):
        here = slice(start, start + BLOCK)
        low = np.searchsorted(at, (log_d[here] - reach[here]).min(), side="left")
        high = np.searchsorted(at, (log_d[here] + reach[here]).max(), side="right")
        result[here] = _kernel_average(log_d[here], at[low:high], weight[low:high], values[low:high])
    return result


def _kernel_average(log_d: Array, at: Array, weight: Array, values: Array) -> Array:
    kernel = (log_d[:, None] - at) / BANDWIDTH
    kernel *= kernel
    kernel -= kernel.min(axis=1, keepdims=True)
    kernel *= -0.5
    np.exp(kernel, out=kernel)
    return np.asarray(kernel @ (weight * values) / (kernel @ weight))
