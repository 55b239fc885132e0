"""A run against earlier runs of other sizes: how far it lies above what their joint law says of its size."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from foretrain.families.family import missed_more, model_toward
from foretrain.families.model import MIN_SIZES, T_SCALE
from foretrain.flagging.family import (
    GAIN,
    GAIN_SD,
    RELEVANT,
    SMOOTH,
    Curve,
    off_trend,
    same_size,
    smoothed,
)
from foretrain.forecasting.uncertainty import DEGREES_OF_FREEDOM
from foretrain.laws.law import Array
from foretrain.status import FitStatus

LEAST_SIZES = MIN_SIZES
"""Other sizes, at least: a law of size has a floor, a factor and an exponent."""

MOST_SIZES, MOST_RUNS = 8, 4
"""Sizes that tell of one, the nearest, and runs of each, the first ones."""

FROM_BEST = 0.05
"""A run that lies above the best of its size by more, in ln y, tells nothing of good runs: a study that tries
learning rates has such runs, and where their curves are smooth no flag of their own past tells them."""

ALIKE_BATCH = 2.0
"""Factor by which the data of a step may be off a power law of size."""

POINTS = 16
"""Places along an earlier run at which it enters the law, evenly in ln of the training done."""

STRETCH = float(np.log(20.0))
"""As far back from their ends: at the very beginning of training no law holds."""

BEYOND = float(np.log(1.5))
"""As far beyond the most training that one of them has done the law is asked."""

PLACES = 64
"""The law is asked at so many places, between which lines are drawn."""

DOUBTED = {FitStatus.TOO_FEW_SIZES, FitStatus.TOO_FEW_POINTS, FitStatus.NOT_DECREASING}
"""Of such a law nothing is told."""

UNTESTED = 1.2
"""What the law foresees of a fourth size is so many times less sure than it says: of three, none can be
forecast from the others."""

WELL_TESTED, FEW_TESTS = 4, 4.0
"""Of up to so many sizes, three forecasts or none tell how sure the law is: Student's t has this many degrees
of freedom, not those of the intervals. By simulation of runs that differ by 2 %, which is more than is usual,
less than 1 % of them are flagged; with five degrees it was 3 %."""

MOST_TESTED = 4
"""Of more sizes so many are forecast from the others."""

SPENT = 0.5
"""Share of the rate of false alarms at which the one draw is judged; the rest is for its changing with the
training done. `benchmarks/flags_studies.py` shows what is raised."""


@dataclass(frozen=True)
class Law:
    """What the law of other sizes rests on.

    Attributes:
        runs: How many runs.
        sizes: How many sizes they have.
        limit: Standard deviations from which on a run above it is flagged.
        ratio: The run's largest learning rate over what theirs say of its size; None where one is not known.
    """

    runs: int
    sizes: int
    limit: float
    ratio: float | None


@dataclass(frozen=True)
class AboveSizes:
    """How far a run is above the law of other sizes.

    Attributes:
        score: Standard deviations of what the law foresees.
        apart: By how much its level lies above, in ln y.
        expected: ln of the metric that the law foresees for the newest validation.
        flagged: Whether the score has passed the limit twice in a row.
    """

    score: float
    apart: float
    expected: float
    flagged: bool


class Sizes:
    """What earlier runs of other sizes foresee for a run, as a function of the training done.

    The joint law of size and training done is averaged over the earlier runs, with what annealing has gained
    taken out. How far it is off for one run is one draw of Student's t, which all validations of the run
    share: looking again does not bring another one, so the limit does not grow with their number.

    Args:
        curves: Earlier runs, as `usable` chooses them.
        run: The run, of whose validations none count yet.
        rate: False alarms per run.

    Attributes:
        told: What the law rests on.
    """

    def __init__(self, curves: Sequence[Curve], run: Curve, rate: float) -> None:
        n, z, log_y, annealed = _points(curves)
        sizes = np.unique(n)
        freedom = DEGREES_OF_FREEDOM if sizes.size > WELL_TESTED else FEW_TESTS
        limit = -T_SCALE * float(stdtrit(freedom, SPENT * rate))
        self.told = Law(len(curves), sizes.size, limit, off_trend(curves, run, "peak"))
        begun = np.sort([z[n == size].min() for size in sizes])
        self._places = np.linspace(begun[LEAST_SIZES - 1], z.max() + BEYOND, PLACES)
        size = float(run.params or 0.0)
        asked = np.full(PLACES, size), np.exp(self._places)
        laws = [
            model_toward(n, np.exp(z), np.exp(log_y + gain * annealed), size)
            for gain in (GAIN, GAIN + GAIN_SD)
        ]
        (self._mean, scale), (with_more, _) = (law.log_moments(*asked) for law in laws)
        missed = _missed(n, z, log_y + GAIN * annealed, size)
        self._deviation, self._by_gain = missed * scale / T_SCALE, with_more - self._mean
        self._silent = bool(DOUBTED & set(laws[0].reasons))
        self._per_step = float(np.log(run.per_step))
        self._last: deque[float] = deque(maxlen=SMOOTH)
        self._noise, self._count, self._above = 0.0, 0, 0

    def update(self, log_y: float, place: Array) -> AboveSizes | None:
        """Takes the next validation of the run.

        Args:
            log_y: Its log.
            place: ln S and annealing there, shape (2,).

        Returns:
            How far the run is off, or None where the law says nothing, or it is too early.
        """
        z, annealed = float(place[0]) + self._per_step, float(place[1])
        if self._silent or not self._places[0] <= z <= self._places[-1]:
            return None
        mean, deviation, by_gain = (
            float(np.interp(z, self._places, values))
            for values in (self._mean, self._deviation, self._by_gain)
        )
        apart = log_y + GAIN * annealed - mean
        if self._last:
            self._count += 1
            self._noise += (0.5 * (apart - self._last[-1]) ** 2 - self._noise) / min(self._count, 10)
        self._last.append(apart)
        if len(self._last) < SMOOTH:
            return None
        level = sum(self._last) / SMOOTH
        # A gain that is not what it is taken for moves the run, and the law as far as its runs have annealed.
        gain = GAIN_SD * annealed - by_gain
        score = level / float(np.sqrt(deviation**2 + self._noise / SMOOTH + gain**2))
        above = score > self.told.limit and level >= RELEVANT
        self._above = self._above + 1 if above else 0
        return AboveSizes(score, level, mean - GAIN * annealed, self._above > 1)


def _missed(n: Array, z: Array, log_y: Array, size: float) -> float:
    """By how much forecasts of the nearest sizes from the others missed more than they said; at least 1.

    Each size is forecast where its runs end. The smallest is not: the law is asked about larger ones.
    """
    sizes = np.unique(n)
    if sizes.size <= LEAST_SIZES:
        return UNTESTED
    nearest = sorted(sizes[1:], key=lambda one: abs(float(np.log(one / size))))
    scores = []
    for one in nearest[:MOST_TESTED]:
        own = n == one
        at = z[own].max()
        law = model_toward(n[~own], np.exp(z[~own]), np.exp(log_y[~own]), float(one))
        mean, scale = law.log_moments(np.array([one]), np.array([np.exp(at)]))
        scores.append((float(log_y[own & (z == at)].mean()) - float(mean[0])) * T_SCALE / float(scale[0]))
    return missed_more(np.square(scores))


def usable(library: Sequence[Curve], run: Curve) -> list[Curve]:
    """The earlier runs whose law tells of a run; none where they cannot tell.

    They have three other sizes at least, and the run is not smaller than all, nor further above the largest
    than that is above the smallest. Learning rates are known: else what annealing has gained is not. The data
    of a step may grow with size, and those of the run go on from there.

    Args:
        library: Earlier runs, those that count more first.
        run: The run, of whose validations none count.
    """
    known = [c for c in library if c.params and c.path is not None and c.steps.size > 1]
    if not run.params or run.path is None or not known:
        return []
    own, groups = float(np.log(run.params)), _by_size(known)
    groups.sort(key=lambda group: abs(_size(group) - own))
    alike = [group for group in groups if same_size(group[0].params, run.params)]
    others = [group for group in groups if not same_size(group[0].params, run.params)][:MOST_SIZES]
    sizes = [_size(group) for group in others]
    if len(others) < LEAST_SIZES or not min(sizes) <= own <= 2.0 * max(sizes) - min(sizes):
        return []
    found = [curve for group in [*alike, *others] for curve in _good(group[:MOST_RUNS])]
    batch = off_trend(found, run, "per_step") or 1.0
    return found if 1.0 / ALIKE_BATCH <= batch <= ALIKE_BATCH else []


def _by_size(curves: Sequence[Curve]) -> list[list[Curve]]:
    """The runs put together by size, in their order."""
    groups: list[list[Curve]] = []
    for curve in curves:
        group = next((group for group in groups if same_size(group[0].params, curve.params)), None)
        if group is None:
            groups.append([curve])
        else:
            group.append(curve)
    return groups


def _size(group: Sequence[Curve]) -> float:
    return float(np.log(group[0].params or 1.0))


def _good(group: Sequence[Curve]) -> list[Curve]:
    """Of runs of one size those that are not far above the best, at the most training that all have done."""
    places = [_levels(curve) for curve in group]
    at = min(z[-1] for z, _, _ in places)
    levels = [float(np.interp(at, z, log_y + GAIN * annealed)) for z, log_y, annealed in places]
    return [curve for curve, level in zip(group, levels, strict=True) if level <= min(levels) + FROM_BEST]


def _levels(curve: Curve) -> tuple[Array, Array, Array]:
    """Of a run after its warm-up: ln of the training done, in data; smoothed ln y; and annealing there."""
    place = curve.place(curve.steps)
    after = curve.steps >= (1 if curve.path is None else curve.path.warmup_end)
    after[-1] = True
    place, log_y = place[after], curve.log_y[after]
    if log_y.size > 2 * SMOOTH:
        log_y = smoothed(log_y)
    return place[:, 0] + np.log(curve.per_step), log_y, place[:, 1]


def _points(curves: Sequence[Curve]) -> tuple[Array, Array, Array, Array]:
    """What enters the law: size, ln of the training done, ln y and annealing, each of shape (k,)."""
    found = []
    for curve in curves:
        z, log_y, annealed = _levels(curve)
        at = np.linspace(max(z[0], z[-1] - STRETCH), z[-1], POINTS)
        size = np.full(POINTS, curve.params)
        found.append(np.stack([size, at, np.interp(at, z, log_y), np.interp(at, z, annealed)]))
    n, z, log_y, annealed = np.concatenate(found, axis=1)
    return n, z, log_y, annealed
