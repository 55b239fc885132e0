"""The predictive distribution over model size and data: the joint law averaged over a family of runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from foretrain.families.model import (
    MIN_SIZES,
    PRIOR_POINTS,
    SCALE_DISTANCE,
    SCALE_RESIDUAL,
    USUAL_NOISE,
    FamilyModel,
    size_groups,
)
from foretrain.families.pairs import TEMPER, PairAverage, average_pairs
from foretrain.fitting import MAX_CONTRAST, ratio
from foretrain.laws import LAWS
from foretrain.laws.law import SATURATION, Array
from foretrain.laws.numerics import effective_count, within_decade
from foretrain.status import FitStatus

RECENCY = 2.0
"""A point at D counts `(D / D_max) ** RECENCY`, as along one curve."""

NEARNESS = 2.0
"""A run of size N counts `(N / N_max) ** NEARNESS`: the sizes next to the one asked
about decide, the largest where larger ones are asked about."""

MIN_EFFECTIVE, MIN_EFFECTIVE_PER_SIZE = 10.0, 2.0
"""Both are flattened, by one power, until as many points count: twice the parameters of the law, and a level
and a slope of each size. Few finished runs then count alike, and a curve keeps its tail."""

FITTED = 4
"""What a family of few points spends on the law: E, A, B and, as the prior ties the exponents, one."""

MAX_ANCHORS = 6
"""Around how many of the known sizes the law is averaged anew, where it is asked about sizes between them."""

LATE = 1.5
"""Past forecasts are scored on each size's points from its last D divided by this: late, where runs end."""

MAX_TOLD_SIZES = 8
"""Sizes beyond which more do not make the exponents surer: no form of the law is exact, and the interval of
the best size for the compute of Chinchilla has to hold what Besiroglu et al. 2024 and others read of it."""

SLOPE_PRIOR = 0.25
"""Log slope that an error of unknown law may have along an axis that the points do not tell."""

UNTESTED = 1.3
"""The scale of a family of fewer than three sizes is multiplied by this: nothing tells whether the sizes
share a law of data. On pairs of sizes of Porian et al. 2024 errors were as much larger than said."""

PRIOR_SCORES = 2.0
"""Past forecasts that tell how sure a law is are few: as many good ones are taken as seen before."""

MAX_BACKTESTS = 8
"""How many of the largest sizes are forecast from the smaller ones."""


def missed_more(squared: Array) -> float:
    """By how much past forecasts missed more than they said; at least 1.

    Args:
        squared: What each missed, in standard deviations that it said, squared; shape (k,).
    """
    return max(1.0, float(np.sqrt((PRIOR_SCORES + squared.sum()) / (PRIOR_SCORES + squared.size))))


def family_moments(
    n: Array, d: Array, y: Array, at_n: Array, at_d: Array, model: FamilyModel | None = None
) -> tuple[tuple[Array, Array], FamilyModel]:
    """Mean and scale of the log of one new measurement, at any sizes and data.

    The scale is what a quantile of Student's t (`uncertainty.quantile_factor`) is multiplied by.
    Beyond the largest size this is `model_family`. Between the known sizes the points next to the size asked
    about must decide instead, so the law is averaged anew around up to six of them and blended in ln N.

    Args:
        n: Model size of each point, shape (k,), in parameters. Positive.
        d: Data seen at each point, shape (k,). Positive.
        y: The metric there, shape (k,), in its own unit. Positive.
        at_n: Model sizes asked about, shape (q,).
        at_d: Data asked about, shape (q,).
        model: What `model_family` makes of the points, if that is known already.

    Returns:
        The moments, each of shape (q,), and the model around the largest size.
    """
    model = model_family(n, d, y) if model is None else model
    sizes = np.unique(n)
    if at_n.min() >= sizes[-1]:
        return model.log_moments(at_n, at_d), model
    if at_n.min() == at_n.max():
        return _around(n, d, y, model, float(at_n[0])).log_moments(at_n, at_d), model
    anchors = sizes[np.unique(np.linspace(0, sizes.size - 1, min(sizes.size, MAX_ANCHORS)).astype(int))]
    near = [_around(n, d, y, model, float(size)) for size in anchors[:-1]]
    moments = np.array([m.log_moments(at_n, at_d) for m in [*near, model]])
    place = np.interp(np.log(at_n), np.log(anchors), np.arange(anchors.size))
    below = np.minimum(place.astype(int), max(anchors.size - 2, 0))
    above = np.minimum(below + 1, anchors.size - 1)
    share, column = place - below, np.arange(at_n.size)
    mean, scale = (
        (1 - share) * moments[below, i, column] + share * moments[above, i, column] for i in (0, 1)
    )
    return (mean, scale), model


def model_toward(n: Array, d: Array, y: Array, size: float) -> FamilyModel:
    """The model by which `family_moments` answers where one size alone is asked about.

    Args:
        n: Model size of each point, shape (k,), in parameters. Positive.
        d: Data seen at each point, shape (k,). Positive.
        y: The metric there, shape (k,), in its own unit. Positive.
        size: The size, in parameters.
    """
    model = model_family(n, d, y)
    return model if size >= n.max() else _around(n, d, y, model, size)


def _around(n: Array, d: Array, y: Array, model: FamilyModel, size: float) -> FamilyModel:
    """The law averaged anew around a size, with what the family's past forecasts say."""
    return replace(
        _average_exponents(n, d, y, toward=size), inflation=model.inflation, line_odds=model.line_odds
    )


def model_family(n: Array, d: Array, y: Array) -> FamilyModel:
    """Averages the joint law over its exponents and calibrates it on the family's own larger sizes.

    Every pair of exponents is solved for E, A and B (variable projection) and counts by how well it describes
    the points, those of large models late in training above all, and by what exponents usually are. Then the
    largest sizes, from the fourth on, are forecast from the smaller ones alone. Where those forecasts missed
    by more than they said, the scale is multiplied; from the fourth of them on, they also say which form of
    the law of size did better.

    Args:
        n: Model size of each point, shape (k,), in parameters. Positive.
        d: Data seen at each point, shape (k,). Positive.
        y: The metric there, shape (k,), in its own unit. Positive.

    Returns:
        The averaged law. Look at `reasons` before trusting it.
    """
    of_group = size_groups(n)
    sizes = np.unique(of_group)
    scores: list[float] = []
    log_odds: list[float] = []
    line_odds = 1.0
    for size in sizes[MIN_SIZES:][-MAX_BACKTESTS:]:
        smaller, held_out = of_group < size, of_group == size
        held_out &= d >= d[held_out].max() / LATE
        past = replace(_average_exponents(n[smaller], d[smaller], y[smaller]), line_odds=line_odds)
        missed, odds = past.judged(n[held_out], d[held_out], y[held_out])
        scores.append(missed)
        log_odds.append(odds)
        told = np.clip(np.mean(log_odds) * max(len(log_odds) - MIN_SIZES, 0), -SATURATION, SATURATION)
        line_odds = float(np.exp(told))
    inflation = UNTESTED if sizes.size < MIN_SIZES else missed_more(np.square(scores))
    model = _average_exponents(n, d, y)
    return replace(model, inflation=inflation, line_odds=line_odds, n_scores=len(scores))


def model_trade_off(n: Array, d: Array, y: Array, cautious: FamilyModel) -> FamilyModel:
    """The joint law averaged over its exponents for what it says of size against data.

    A forecast of one place trusts the points next to it; what a bigger model gains over more data rests on
    both exponents, which all points tell together. So every point counts alike here, and each size, of up to
    eight, as two independent observations. On the studies of `benchmarks/decisions.py` the size so chosen for
    a budget wastes about half of what one chosen by `model_family` does.

    Args:
        n: Model size of each point, shape (k,), in parameters. Positive.
        d: Data seen at each point, shape (k,). Positive.
        y: The metric there, shape (k,), in its own unit. Positive.
        cautious: What `model_family` makes of them.

    Returns:
        The averaged law, with the inflation that the family's own larger sizes ask for.
    """
    temper = max(TEMPER, 0.5 * MIN_EFFECTIVE_PER_SIZE * min(np.unique(n).size, MAX_TOLD_SIZES))
    model = _average_exponents(n, d, y, flat=True, temper=temper)
    return replace(
        model, inflation=cautious.inflation, line_odds=cautious.line_odds, n_scores=cautious.n_scores
    )


def _weights(n: Array, d: Array, toward: float) -> tuple[Array, float]:
    """What each point counts, mean 1, and the power, up to 1, by which the differences were flattened."""
    log_w = RECENCY * np.log(d) - NEARNESS * np.abs(np.log(n) - np.log(toward))
    log_w = np.maximum(log_w - log_w.max(), -SATURATION)
    least = min(max(MIN_EFFECTIVE, MIN_EFFECTIVE_PER_SIZE * np.unique(n).size), 0.999 * n.size)

    def effective(flat: float) -> float:
        return effective_count(np.exp(flat * log_w))

    low, high = 0.0, 1.0
    if effective(high) >= least:
        low = high
    while high - low > 1e-9:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if effective(middle) >= least else (low, middle)
    w = np.exp(low * log_w)
    return w / w.mean(), low


def _average_exponents(
    n: Array, d: Array, y: Array, *, toward: float | None = None, flat: bool = False, temper: float = TEMPER
) -> FamilyModel:
    """The averaged law, the runs counted by how near their size is to `toward`, the largest if None.

    With `flat` all points count alike.
    """
    unit, y_unit = np.array([n.min(), d.min()]), float(np.exp(np.mean(np.log(y))))
    x, v = ratio(np.stack([n, d]), unit[:, None]), ratio(y, y_unit, largest=MAX_CONTRAST)
    w, power = (np.ones(n.size), 0.0) if flat else _weights(n, d, toward or float(n.max()))
    of_group = size_groups(x[0])
    law = average_pairs(x, v, w, temper, of_run=of_group)
    mean, _ = law.log_moments(x)
    sizes, top = np.unique(of_group), x.max(axis=1)
    runs, reach = sizes.size, top.copy()
    if runs < MIN_SIZES:
        reach[1] = min(x[1, of_group == size].max() for size in sizes)
    model = FamilyModel(
        reasons=_doubts(n, d, y, w),
        unit=unit,
        y_unit=y_unit,
        top=top,
        reach=reach,
        law=law,
        shared=np.stack([np.log(x[1]), w + 1e-12, np.log(v) - mean, np.log(of_group)]),
        toward=float(np.log(toward or n.max()) - np.log(unit[0])),
        nearness=NEARNESS * power,
        independent=min(n.size, MIN_EFFECTIVE_PER_SIZE * runs),
    )
    own = np.log(v) - mean - model.shared_deviation(np.log(x[1]))
    between, within = _noise(own, w, of_group)
    seen = n.size * float((w * own**2).sum() / w.sum())
    variance = (PRIOR_POINTS * USUAL_NOISE**2 + seen) / (PRIOR_POINTS + max(n.size - FITTED, 0))
    unknown = np.array([runs < MIN_SIZES, ratio(d.max(), d.min()) < 1.5])
    # Of more sizes the larger ones were forecast, which says how far to trust the spread of the exponents.
    tested = runs > MIN_SIZES and FitStatus.TOO_FEW_POINTS not in model.reasons
    return replace(
        model,
        between=between,
        within=within,
        residual=SCALE_RESIDUAL * float(np.sqrt(variance)),
        drift=np.where(unknown, SLOPE_PRIOR, 0.0 if tested else SCALE_DISTANCE * _slopes(law, top)),
    )


def _noise(own: Array, w: Array, of_group: Array) -> tuple[float, float]:
    """Standard deviations, of a run as a whole and of a point about its run, from the points' log deviations.

    Only runs tell how far a run as a whole lies off, and few that count tell nothing, as the law passes near
    each of them: there the usual noise of finished runs counts.
    """
    _, index = np.unique(of_group, return_inverse=True)
    weight = np.bincount(index, w)
    total, known = float(weight.sum()), np.maximum(weight, 1e-300)
    level = np.bincount(index, w * own) / known
    count = total**2 / float(weight @ weight)
    seen = count * float(weight @ level**2) / total
    between = (PRIOR_POINTS * USUAL_NOISE**2 + seen) / (PRIOR_POINTS + max(count - FITTED, 0.0))
    left = total - float((np.bincount(index, w**2) / known).sum())
    within = float(w @ (own - level[index]) ** 2) / left if left > 1e-9 * total else 0.0
    return float(np.sqrt(between)), float(np.sqrt(within))


def _slopes(law: PairAverage, top: Array) -> Array:
    """Log slope of the law along N and along D: the larger of the last doubling's and the whole range's."""
    steps = np.stack([np.full(2, 2.0), np.maximum(top, 1.0 + 1e-6)])
    slopes = []
    for step in steps:
        corner = top[:, None] / np.stack([np.ones(2), [step[0], 1.0], [1.0, step[1]]], axis=1)
        level, _ = law.log_moments(corner)
        slopes.append(np.abs(level[1:] - level[0]) / np.log(step))
    return np.asarray(np.max(slopes, axis=0))


def _doubts(n: Array, d: Array, y: Array, w: Array) -> tuple[FitStatus, ...]:
    reasons = []
    sizes = np.unique(n)
    if sizes.size < MIN_SIZES:
        reasons.append(FitStatus.TOO_FEW_SIZES)
    if y.size < len(LAWS["chinchilla"].parameters) + 2:
        reasons.append(FitStatus.TOO_FEW_POINTS)
    root = np.sqrt(w)
    design = np.stack([np.ones_like(y), np.log(n) - np.log(n.max()), np.log(d) - np.log(d.max())], axis=1)
    slopes = np.linalg.lstsq(design * root[:, None], np.log(y) * root, rcond=None)[0][1:]
    varies = np.array([sizes.size > 1, d.max() > d.min()])
    if (slopes[varies] >= 0).any():
        reasons.append(FitStatus.NOT_DECREASING)
    if within_decade(d):
        reasons.append(FitStatus.SHORT_RANGE)
    return tuple(reasons)
