"""A run against earlier runs of its recipe: how far above them it lies, and how much slower it falls."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from foretrain.flagging.along import Along
from foretrain.laws.law import Array
from foretrain.runs.annealing import RatePath

LEVEL_SD, FALL_SD = 0.01, 0.005
"""Beforehand, how much runs of one recipe differ in ln y, and in what ln y falls by while the training
doubles: seeds of language models differ by .02 nats (Kaplan et al. 2020)."""

PRIOR_RUNS = 2.0
"""As how many runs that counts."""

GAIN, GAIN_SD = 0.055, 0.04
"""What a full decay of the rate lowers ln y by, and how uncertain that is (`runs.usual`): schedules of
other lengths are compared as if the rate had not fallen."""

MEMORY = 0.01
"""Of annealing, see `RatePath.annealed`."""

SMOOTH = 3
"""So many validations are taken together."""

LOOKS = 2.0
"""Per doubling of the training done, as how many independent looks the comparisons count."""

SPENT = 0.5

SAME_SIZE = 1.1
"""Models whose sizes differ by no more than this factor have curves that collapse. Those of another size fall
at another pace, which would be taken for a change."""

RELEVANT = 0.01
"""A run that lies above its family by less, in ln y, is not flagged."""


@dataclass(frozen=True)
class Curve:
    """A run along the training it has done.

    Attributes:
        path: Its learning rate; None where that is not known, and each step counts alike.
        steps: Optimizer steps of its validations, shape (n,), ascending.
        log_y: Log of the metric, shape (n,).
        peak: Its largest learning rate; None where that is not known.
        params: Size of its model; None where that is not known.
        per_step: Data that it takes in a step, in one unit for all runs; 1 where that is not known.
    """

    path: RatePath | None
    steps: Array
    log_y: Array
    peak: float | None
    params: float | None = None
    per_step: float = 1.0

    def place(self, steps: Array) -> Array:
        """The log of the training done S and the annealing that shows by then, shape (n, 2)."""
        if self.path is None:
            return np.stack([np.log(steps), np.zeros(len(steps))], axis=1)
        return np.stack([np.log(self.path.done(steps)), self.path.annealed(steps, MEMORY)], axis=1)


def same_size(one: float | None, other: float | None) -> bool:
    """Whether two models are of one size, as far as that is known."""
    if not one or not other:
        return True
    return max(one, other) <= SAME_SIZE * min(one, other)


def smoothed(values: Array) -> Array:
    """Of neighbouring values, the first and the last as they are."""
    means = np.convolve(values, np.full(SMOOTH, 1.0 / SMOOTH), mode="valid")
    return np.concatenate([values[:1], means, values[-1:]])


def off_trend(curves: Sequence[Curve], run: Curve, of: str) -> float | None:
    """What a run has of something over what a power law of size through others has; None if not known."""
    known = [curve for curve in curves if curve.params and getattr(curve, of)]
    own = getattr(run, of)
    if len({curve.params for curve in known}) < 2 or not own or not run.params:
        return None
    size = np.log([curve.params or 0.0 for curve in known])
    values = np.log([getattr(curve, of) for curve in known])
    slope, level = np.polyfit(size, values, 1)
    return float(own / np.exp(level + slope * np.log(run.params)))


@dataclass(frozen=True)
class AboveFamily:
    """How far a run is above its family.

    Attributes:
        score: Standard deviations over the limit, the larger of level and fall; above 1 it is flagged.
        apart: By how much its level lies above theirs, in ln y.
        fall: By how much less it fell than they did, while the training doubled, in ln y; 0 if not yet known.
        by_fall: Whether the fall has the larger score.
        runs: With how many of them the one of larger score was compared.
    """

    score: float
    apart: float
    fall: float
    by_fall: bool
    runs: int


class Family:
    """Earlier runs, as functions of the training done.

    A run that belongs to them differs as they differ from each other: Student's t with a prior of two runs.
    Two things are compared, both upward only: the level, with runs of the same size, and the fall while the
    training doubled, with those of the same size and of smaller ones, for smaller models fall less.

    Args:
        library: The runs, at least one.
        rate: False alarms per run.
        params: Size of the run's model; None where it is not known, and then all count as of the same size.
    """

    def __init__(self, library: Sequence[Curve], rate: float, params: float | None = None) -> None:
        self._rate = rate
        self._alike = np.array([same_size(params, curve.params) for curve in library])
        smaller = [bool(params and curve.params and curve.params < params) for curve in library]
        self._not_larger = self._alike | np.array(smaller)
        curves = []
        for curve in library:
            place = curve.place(curve.steps)
            z, log_y = place[:, 0], curve.log_y + GAIN * place[:, 1]
            if log_y.size > 2 * SMOOTH:
                # Places, too: else a curve is lifted where it bends, most of all at its beginning.
                z, log_y = smoothed(z), smoothed(log_y)
            curves.append((z, np.stack([log_y, place[:, 1]])))
        self._curves = Along(curves)
        self._last: deque[Array] = deque(maxlen=SMOOTH)
        self._noise, self._count, self._start = 0.0, 0, 0.0
        self._past: dict[int, Array] = {}

    def update(self, log_y: float, place: Array) -> AboveFamily | None:
        """Takes the next validation of the run.

        Args:
            log_y: Its log.
            place: ln S and annealing there, shape (2,).

        Returns:
            How far the run is off, or None where less than two runs reach this far, or it is too early.
        """
        z = float(place[0])
        reach = self._curves.reach(z)
        if reach.sum() < 2:
            return None
        theirs, annealed = self._curves.at(z)
        apart = np.where(reach, log_y + GAIN * place[1] - theirs, np.nan)
        if self._last:
            moved = apart - self._last[-1]
            moved = moved[~np.isnan(moved)]
            step = float(moved.mean()) if moved.size else 0.0
            self._count += 1
            self._noise += (0.5 * step**2 - self._noise) / min(self._count, 10)
        else:
            self._start = float(place[0])
        self._last.append(apart)
        look = int((place[0] - self._start) * LOOKS / np.log(2.0))
        mean = np.mean(self._last, axis=0)
        self._past[look] = mean
        if len(self._last) < SMOOTH:
            return None
        scale = GAIN_SD * float(np.abs(place[1] - annealed[reach]).mean())
        level, apart_level, runs = self._score(mean[self._alike], LEVEL_SD, scale, look)
        before = self._past.get(look - round(LOOKS))
        fallen = np.empty(0) if before is None else (mean - before)[self._not_larger]
        fall, apart_fall, of_fall = self._score(fallen, FALL_SD, scale, look)
        if apart_level < RELEVANT and apart_fall < RELEVANT:
            return AboveFamily(0.0, apart_level, apart_fall, False, runs)
        by_fall = fall > level
        return AboveFamily(max(level, fall), apart_level, apart_fall, by_fall, of_fall if by_fall else runs)

    def _score(self, apart: Array, usual: float, scale: float, look: int) -> tuple[float, float, int]:
        """How far a mean over the runs is above 0, over the limit, that mean, and over how many runs."""
        apart = apart[~np.isnan(apart)]
        n = apart.size
        if n < 2:
            return 0.0, 0.0, n
        mean, freedom = float(apart.mean()), PRIOR_RUNS + n - 1.0
        between = (PRIOR_RUNS * usual**2 + float(((apart - mean) ** 2).sum())) / freedom
        variance = between * (1.0 + 1.0 / n) + self._noise / SMOOTH + scale**2
        critical = -float(stdtrit(freedom, SPENT * self._rate / (1.0 + look / 10.0) ** 2))
        return mean / (critical * float(np.sqrt(variance))), mean, n
