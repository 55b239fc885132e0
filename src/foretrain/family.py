"""The predictive distribution over model size and data: the joint law averaged over a family of runs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from foretrain.fitting import MAX_CONTRAST, project, ratio, safe_log
from foretrain.laws import LAWS
from foretrain.laws.law import SATURATION, Array
from foretrain.status import FitStatus
from foretrain.uncertainty import (
    DEGREES_OF_FREEDOM,
    SCALE_DISTANCE,
    SCALE_RESIDUAL,
    SCALE_SPREAD,
    SLOPE_PRIOR,
)

LAW = LAWS["chinchilla"]

RECENCY = 2.0
"""A point at D counts `(D / D_max) ** RECENCY`, as along one curve."""

NEARNESS = 2.0
"""A run of size N counts `(N / N_max) ** NEARNESS`: the sizes next to the one asked
about decide, the largest where larger ones are asked about."""

TEMPER = 2.0
"""A pair of exponents counts its residual sum of squares to the power -TEMPER, however many points there are:
the points of one run are not independent, so a family counts as four independent observations. Chosen, like
NEARNESS, on the published runs of Gadre 2024, Hoffmann 2022 (as read by Besiroglu 2024) and Porian 2024."""

RESOLUTION = 0.003
"""Log deviation of a run below which one form of the law of size is not preferred to another."""

BANDWIDTH = 0.15
"""Width, in ln D, over which the deviations that all runs share at the same D are averaged."""

FADE = 0.35
"""Distance in ln D beyond the last point over which a shared deviation is forgotten."""

MIN_SIZES = 3
"""Fewer sizes do not identify a law of model size."""

MAX_ANCHORS = 6
"""Around how many of the known sizes the law is averaged anew, where it is asked about sizes between them."""

LATE = 1.5
"""Those forecasts are scored on each size's points from its last D divided by this: late, where runs end."""

T_SCALE = float(np.sqrt((DEGREES_OF_FREEDOM - 2.0) / DEGREES_OF_FREEDOM))
"""Scale of Student's t whose standard deviation is 1. On the published runs named above the deviations are
standard deviations: past errors over them have a root mean square of .95, by group of runs."""

PRIOR_SCORES = 2.0
"""The forecasts of the family's own larger sizes are few: as many good ones are taken as seen before."""

MAX_BACKTESTS = 8
"""How many of the largest sizes are forecast from the smaller ones."""


@dataclass(frozen=True)
class FamilyModel:
    """The joint law averaged over its exponents, ready to be asked anywhere.

    Attributes:
        reasons: What is in doubt, the gravest first.
        unit: Smallest N and smallest D, shape (2,).
        y_unit: Geometric mean of y, in the metric's unit.
        top: Largest N and D, in `unit`, shape (2,).
        exponents: The pairs (alpha, beta), shape (2, m).
        coefficients: E, A and B of each pair, shape (m, 3).
        weights: The share of each pair, shape (m,), sum 1.
        shared: The points: ln D / unit, weight, log deviation from the law, ln N / unit; shape (4, n).
        toward: ln N / unit of the size asked about, around which sizes count.
        noise: Standard deviation of one new log measurement about the law.
        drift: Log slope along N and along D that distance adds to the uncertainty, shape (2,).
        inflation: By how much the family's past forecasts of its own larger sizes missed more than they
            said; at least 1.
        n_scores: How many larger sizes that was learned from; with none the intervals are uncalibrated.
    """

    reasons: tuple[FitStatus, ...]
    unit: Array
    y_unit: float
    top: Array
    exponents: Array
    coefficients: Array
    weights: Array
    shared: Array
    toward: float
    noise: float
    drift: Array
    inflation: float = 1.0
    n_scores: int = 0

    def log_moments(self, n: Array, d: Array) -> tuple[Array, Array]:
        """Mean and t scale of the log of one new measurement at sizes n and data d, shape (k,)."""
        x = ratio(np.stack([n, d]), self.unit[:, None])
        mean, spread = self._law_moments(x)
        log_x = np.log(x)
        beyond = np.maximum(log_x - np.log(self.top[:, None]), 0.0) + np.maximum(-log_x, 0.0)
        mean = mean + self.shared_deviation(log_x[1]) * np.exp(-beyond[1] / FADE)
        straight, share = self.straight(log_x)
        apart = straight - mean
        mean = mean + share * apart
        variance = self.noise**2 + SCALE_SPREAD**2 * spread + share * (1 - share) * apart**2
        variance += ((self.drift[:, None] * beyond) ** 2).sum(axis=0)
        return mean + np.log(self.y_unit), self.inflation * T_SCALE * np.sqrt(variance)

    def straight(self, log_x: Array) -> tuple[Array, Array]:
        """The log error if size had no floor, and how much that form of the law counts.

        The joint law flattens along N towards `E + B D^-beta`. Few sizes cannot tell that from a power law
        of size alone, and short runs of large models fall faster than an additive law has it. So the runs,
        each brought to the same D by the joint law, are also put on a straight line in ln N; the two forms
        count by how near each passes to the runs.

        Args:
            log_x: ln (N / unit) and ln (D / unit), shape (2, q).

        Returns:
            The straight line's log error / y_unit and its share, 0 to 1, each of shape (q,).
        """
        at, weight, deviation, of_size = self.shared
        sizes = np.unique(of_size)
        levels, bends = [], []
        for size in sizes:
            own = of_size == size
            kernel = _kernel(log_x[1], at[own], weight[own])
            fade = np.exp(-np.maximum(log_x[1] - at[own].max(), 0.0) / FADE)
            bends.append(fade * (kernel @ deviation[own]))
            here, _ = self._law_moments(np.exp(np.stack([np.full_like(log_x[1], size), log_x[1]])))
            levels.append(here + bends[-1])
        level, bend = np.array(levels), np.array(bends)
        apart = np.abs(sizes - self.toward)
        w = np.exp(-NEARNESS * (apart - apart.min()))[:, None]
        w = w / w.sum()
        centre, middle = float((w[:, 0] * sizes).sum()), (w * level).sum(axis=0)
        across = sizes[:, None] - centre
        slope = (w * across * (level - middle)).sum(axis=0) / max(float((w * across**2).sum()), 1e-12)
        off_line = (w * (level - middle - slope * across) ** 2).sum(axis=0) + RESOLUTION**2
        off_law = (w * (bend - (w * bend).sum(axis=0)) ** 2).sum(axis=0) + RESOLUTION**2
        return middle + slope * (log_x[0] - centre), off_law / (off_law + off_line)

    def shared_deviation(self, log_d: Array) -> Array:
        """By how much the runs together lie off the law at each ln (D / unit), in log units.

        Runs that read the same data in the same order share their ups and downs; a law that is not exact
        leaves a deviation that all sizes share. Both show in a new run at the same D.
        """
        at, weight, deviation, _ = self.shared
        return np.asarray(_kernel(log_d, at, weight) @ deviation)

    def _law_moments(self, x: Array) -> tuple[Array, Array]:
        logs = safe_log(np.einsum("mk,mkn->mn", self.coefficients, LAW.basis(x, self.exponents)))
        mean = self.weights @ logs
        return mean, np.maximum(self.weights @ logs**2 - mean**2, 0.0)


def _kernel(log_d: Array, at: Array, weight: Array) -> Array:
    """Weights, summing to 1, of points at ln D `at` for averages near each of `log_d`; shape (q, n)."""
    squared = ((np.clip(log_d, at.min(), at.max())[:, None] - at) / BANDWIDTH) ** 2
    kernel = np.exp(-0.5 * (squared - squared.min(axis=1, keepdims=True))) * weight
    return np.asarray(kernel / kernel.sum(axis=1, keepdims=True))


def family_moments(
    n: Array, d: Array, y: Array, at_n: Array, at_d: Array
) -> tuple[tuple[Array, Array], FamilyModel]:
    """Mean and standard deviation of the log of one new measurement, at any sizes and data.

    Beyond the largest size this is `model_family`. Between the known sizes the points next to the size asked
    about must decide instead, so the law is averaged anew around up to six of them and blended in ln N.

    Args:
        n: Model size of each point, shape (k,), in parameters. Positive.
        d: Data seen at each point, shape (k,). Positive.
        y: The metric there, shape (k,), in its own unit. Positive.
        at_n: Model sizes asked about, shape (q,).
        at_d: Data asked about, shape (q,).

    Returns:
        The moments, each of shape (q,), and the model around the largest size.
    """
    model = model_family(n, d, y)
    sizes = np.unique(n)

    def around(size: float) -> FamilyModel:
        return replace(_average_exponents(n, d, y, toward=size), inflation=model.inflation)

    if at_n.min() >= sizes[-1]:
        return model.log_moments(at_n, at_d), model
    if at_n.min() == at_n.max():
        return around(float(at_n[0])).log_moments(at_n, at_d), model
    anchors = sizes[np.unique(np.linspace(0, sizes.size - 1, min(sizes.size, MAX_ANCHORS)).astype(int))]
    moments = np.array([m.log_moments(at_n, at_d) for m in [*map(around, anchors[:-1]), model]])
    place = np.interp(np.log(at_n), np.log(anchors), np.arange(anchors.size))
    below = np.minimum(place.astype(int), max(anchors.size - 2, 0))
    above = np.minimum(below + 1, anchors.size - 1)
    share, column = place - below, np.arange(at_n.size)
    mean, deviation = (
        (1 - share) * moments[below, i, column] + share * moments[above, i, column] for i in (0, 1)
    )
    return (mean, deviation), model


def model_family(n: Array, d: Array, y: Array) -> FamilyModel:
    """Averages the joint law over its exponents and calibrates it on the family's own larger sizes.

    Every pair of exponents is solved for E, A and B (variable projection) and counts by how well it describes
    the points, those of large models late in training above all. Then the largest sizes, from the fourth
    on, are forecast from the smaller ones alone; where those forecasts missed by more than they said, the
    standard deviation is scaled up.

    Args:
        n: Model size of each point, shape (k,), in parameters. Positive.
        d: Data seen at each point, shape (k,). Positive.
        y: The metric there, shape (k,), in its own unit. Positive.

    Returns:
        The averaged law. Look at `reasons` before trusting it.
    """
    model = _average_exponents(n, d, y)
    sizes = np.unique(n)
    scores = []
    for size in sizes[MIN_SIZES:][-MAX_BACKTESTS:]:
        smaller, held_out = n < size, n == size
        held_out &= d >= d[held_out].max() / LATE
        mean, deviation = _average_exponents(n[smaller], d[smaller], y[smaller]).log_moments(
            n[held_out], d[held_out]
        )
        scores.append(float(np.sqrt(np.mean(((np.log(y[held_out]) - mean) * T_SCALE / deviation) ** 2))))
    squared = PRIOR_SCORES + float(np.square(scores).sum())
    inflation = max(1.0, float(np.sqrt(squared / (PRIOR_SCORES + len(scores)))))
    return replace(model, inflation=inflation, n_scores=len(scores))


def _average_exponents(n: Array, d: Array, y: Array, *, toward: float | None = None) -> FamilyModel:
    """The averaged law, the runs counted by how near their size is to `toward`, the largest if None."""
    unit, y_unit = np.array([n.min(), d.min()]), float(np.exp(np.mean(np.log(y))))
    x, v = ratio(np.stack([n, d]), unit[:, None]), ratio(y, y_unit, largest=MAX_CONTRAST)
    log_w = RECENCY * np.log(d) - NEARNESS * np.abs(np.log(n) - np.log(toward or n.max()))
    w = np.exp(np.maximum(log_w - log_w.max(), -SATURATION))
    w = w / w.mean()
    exponents = LAW.grid(x)
    solved = project(LAW.basis(x, exponents), v, w)
    log_share = -TEMPER * np.log(solved.rss + 1e-12 * w.sum())
    share = np.exp(log_share - log_share.max())
    model = FamilyModel(
        reasons=_doubts(n, d, y, w),
        unit=unit,
        y_unit=y_unit,
        top=x.max(axis=1),
        exponents=exponents,
        coefficients=solved.coefficients,
        weights=share / share.sum(),
        shared=np.zeros((4, 1)),
        toward=float(np.log(toward or n.max()) - np.log(unit[0])),
        noise=0.0,
        drift=np.zeros(2),
    )
    mean, _ = model._law_moments(x)
    model = replace(model, shared=np.stack([np.log(x[1]), w + 1e-12, np.log(v) - mean, np.log(x[0])]))
    own = np.log(v) - mean - model.shared_deviation(np.log(x[1]))
    corner = model.top[:, None] * np.array([[1.0, 0.5, 1.0], [1.0, 1.0, 0.5]])
    at_corner, _ = model._law_moments(corner)
    drift = SCALE_DISTANCE * np.abs(at_corner[1:] - at_corner[0]) / np.log(2.0)
    runs = np.unique(n).size
    unknown = np.array([runs < MIN_SIZES, ratio(d.max(), d.min()) < 1.5])
    return replace(
        model,
        noise=max(SCALE_RESIDUAL * float(np.sqrt((w * own**2).sum() / w.sum())), 1e-9),
        drift=np.where(unknown, SLOPE_PRIOR, drift),
    )


def _doubts(n: Array, d: Array, y: Array, w: Array) -> tuple[FitStatus, ...]:
    reasons = []
    sizes = np.unique(n)
    if sizes.size < MIN_SIZES:
        reasons.append(FitStatus.TOO_FEW_SIZES)
    if y.size < len(LAW.parameters) + 2:
        reasons.append(FitStatus.TOO_FEW_POINTS)
    root = np.sqrt(w)
    design = np.stack([np.ones_like(y), np.log(n) - np.log(n.max()), np.log(d) - np.log(d.max())], axis=1)
    slopes = np.linalg.lstsq(design * root[:, None], np.log(y) * root, rcond=None)[0][1:]
    varies = np.array([sizes.size > 1, d.max() > d.min()])
    if (slopes[varies] >= 0).any():
        reasons.append(FitStatus.NOT_DECREASING)
    if ratio(d.max(), d.min()) < 3.0:
        reasons.append(FitStatus.SHORT_RANGE)
    return tuple(reasons)
