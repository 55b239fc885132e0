"""How far runs are off what was foreseen, and from where on that is flagged, over the whole of a run."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from foretrain.flagging.origins import HALF, RECENT, STAYS, WHOLE, Origins
from foretrain.flagging.signatures import Signatures
from foretrain.flagging.tracker import BURN_IN, Tracker, first_noise
from foretrain.laws.law import Array


class Test(IntEnum):
    """What is tested after every validation."""

    RISE = 0
    """The mean of the last validations lies above the level before them."""
    ABOVE = 1
    """It lies above a forecast that takes half of the fall that was to be expected."""
    BELOW = 2
    """It lies below the forecast."""
    SPIKE = 3
    """The last validation alone lies far above the level before it."""
    CHANGE = 4
    """A jump or a drift above the forecast explains the last validations, and the error has risen."""
    FALL = 5
    """The same below the forecast, of a run beside earlier ones: alone it may always fall faster."""


EASE = np.array([1.0, 1.0, 1.0, 2.0, 1.15, 1.1])
"""By how much the limits of each test are wider than `limit`. One of a spike is wide, for noise with heavy
tails has single validations far off and means no harm."""

RELEVANT = np.array([2e-3, 2e-3, 1e-2, 2e-2, 2e-3, 1e-2])
"""Deviations of ln y below this are not flagged, however certain."""

UNKNOWN_RATE = 1.4
"""Without its learning rate a run may fall to a quarter of its error: a decay halves that of some, and
published curves without any fall faster than their own past tells."""

DECAY = 0.6
"""A planned fall of the rate by a factor may lower ln y by this share of its log beyond the forecast:
in classification a drop of the rate to a tenth halves some errors, and a second one gains another share."""

RISEN = 0.3
"""A change counts where the mean of its validations lies above the level before it by so much of what would
flag it alone: a law that flattens makes drifts above the forecast, and no rise."""

JUDGED_FROM = BURN_IN + 4
"""The validation, counted from 1, after which the tests begin."""

SPENT = 1.0
"""Scale of what `limit` spends, by simulation: false alarms of the healthy runs of the benchmark."""

FREEDOM = 80.0
"""Degrees of freedom of the limits at most: of noise learned from the last 40 validations, two each."""

LEAST = 2.5
"""Standard deviations below which nothing is flagged at any rate of false alarms: no test looks closer."""

LOOSEN = 4.0
"""From so many standard deviations on, what is not flagged is a sign that the model of the run is wrong: its
level, slope and gains are let go, so that it learns them anew."""


def limit(count: int, rate: float) -> float:
    """Standard deviations from which on a deviation is flagged.

    Of the false alarms of a run a share of 1 / (k ln^2 k) is spent at its k-th validation. The sum converges,
    so the rate holds for a run of any length, and late validations cost little: the limit is 4.9 at
    the 20th validation and 6.0 at the 1,000th for a rate of 1 %.

    Args:
        count: Of which validation, counted from 1.
        rate: False alarms per run.

    Returns:
        The upper quantile of Student's t, for the noise is estimated.
    """
    k = count + 5.0
    return -float(stdtrit(min(float(count), FREEDOM), SPENT * rate / (k * np.log(k) ** 2)))


@dataclass(frozen=True)
class Deviations:
    """How far R runs are off, by each of the tests.

    Attributes:
        score: Standard deviations by which the worst window is off, over `EASE`; 0 where what it is off by is
            not relevant. Shape (R, 6).
        apart: By how much, in ln y, the sign included, shape (R, 6).
        age: Validations in that window, shape (R, 6).
    """

    score: Array
    apart: Array
    age: NDArray[np.intp]


class Watch:
    """Takes the validations of R runs one after the other and says how far each is off.

    Args:
        rates_known: Whether the learning rates of each run are known, shape (R,).
        beside: Whether what it takes of each run is its log over earlier ones, which does not fall with the
            rates, shape (R,).
    """

    def __init__(self, rates_known: NDArray[np.bool_], beside: NDArray[np.bool_] | None = None) -> None:
        self._beside = np.zeros_like(rates_known) if beside is None else beside
        self._known = rates_known
        self._runs = np.arange(rates_known.size)
        self._count = 0
        self._first: list[tuple[Array, Array]] = []
        self._origins, self._signatures = Origins(rates_known.size), Signatures(rates_known.size)
        self._tracker: Tracker | None = None
        self._loosened = np.zeros(rates_known.size, dtype=int)
        self._place: Array = np.zeros((rates_known.size, 3))
        self._recent: Array = np.zeros((RECENT, rates_known.size))

    @property
    def count(self) -> int:
        """Validations taken."""
        return self._count

    def update(self, log_y: Array, place: Array) -> Deviations | None:
        """Takes the next validation.

        Args:
            log_y: Its log, shape (R,).
            place: ln S for the training done S and the annealing under two memories, shape (R, 3).

        Returns:
            How far the runs are off, or None where it is too early to tell.
        """
        self._count += 1
        if self._tracker is None:
            self._begin(log_y, place)
            return None
        apart, score, alone = self._origins.compare(log_y, place)
        signs = self._signatures.compare(log_y, place)
        self._tracker.update(log_y, place - self._place)
        self._place = place
        self._recent = np.concatenate([self._recent[1:], log_y[None]])
        ages = self._origins.ages
        score = np.where((ages > 0)[..., None], score, 0.0)
        self._let_go(ages, score[..., WHOLE], apart[..., WHOLE])
        found = self._judge(ages, score, apart, alone, signs)
        self._add(place)
        return found if self._count > JUDGED_FROM else None

    def accept(self, which: NDArray[np.bool_]) -> None:
        """Begins some runs anew from the level of now, after a flag: forecasts made before count no more."""
        if self._tracker is not None:
            self._tracker.loosen(which, np.full(self._runs.size, 0.3))
            self._origins.clear(which)
            self._signatures.clear(which)
            self._add(self._place)

    def _add(self, place: Array) -> None:
        if self._tracker is not None:
            state = self._tracker.state()
            self._origins.add(state, place, self._recent.mean(axis=0))
            self._signatures.add(state, place)

    def _begin(self, log_y: Array, place: Array) -> None:
        self._first.append((log_y, place))
        if len(self._first) < BURN_IN:
            return
        values = np.stack([value for value, _ in self._first])
        z = np.stack([where[:, 0] for _, where in self._first], axis=1)
        self._tracker = Tracker(values[0], first_noise(z, values.T), self._beside)
        self._place, self._recent = self._first[0][1], values[-RECENT:]
        for value, where in self._first:
            self._tracker.update(value, where - self._place)
            self._place = where
        self._add(place)

    def _let_go(self, ages: Array, score: Array, apart: Array) -> None:
        """Loosens the models of runs that were off for a while, by forecasts made since the last time."""
        since = self._count - self._loosened[:, None]
        worst = np.where((ages >= 3) & (ages < since), np.abs(score), 0.0)
        at = np.argmax(worst, axis=1)
        off = worst[self._runs, at] > LOOSEN
        if off.any() and self._tracker is not None:
            self._loosened[off] = self._count
            self._tracker.loosen(off, np.abs(apart[self._runs, at]))

    def _judge(
        self, ages: Array, score: Array, apart: Array, alone: Array, signs: tuple[Array, Array]
    ) -> Deviations:
        """The worst window of each test."""
        shape = (self._runs.size, len(Test))
        found, far, origin = np.zeros(shape), np.zeros(shape), np.zeros(shape, dtype=int)
        if max(np.abs(score).max(), np.abs(signs[0]).max(), alone.max()) < LEAST:
            return Deviations(found, far, np.zeros(shape, dtype=np.intp))
        for test, view, sign in ((Test.RISE, STAYS, 1), (Test.ABOVE, HALF, 1), (Test.BELOW, WHOLE, -1)):
            least = np.full(ages.shape, RELEVANT[test])
            if test is Test.BELOW:
                fall = np.where(self._known, 0.0, UNKNOWN_RATE)[:, None]
                fall = fall + DECAY * self._origins.decayed(self._place)
                least += np.where(self._beside[:, None], 0.0, fall)
            relevant = sign * apart[..., view] > least
            scores = np.where(relevant, sign * score[..., view], 0.0)
            at = np.argmax(scores, axis=1)
            found[:, test], far[:, test] = scores[self._runs, at], apart[self._runs, at, view]
            origin[:, test] = at
        change, raised = signs
        flat = raised.reshape(self._runs.size, -1)
        for test, sign in ((Test.CHANGE, 1), (Test.FALL, -1)):
            moved = (sign * apart[..., STAYS] > RELEVANT[test]) & (ages >= 2)
            relevant = moved[..., None] & (sign * raised > RELEVANT[test])
            both = np.minimum(sign * change, sign * score[..., STAYS, None] / RISEN)
            scores = np.where(relevant, both, 0.0).reshape(flat.shape)
            at = np.argmax(scores, axis=1)
            found[:, test], far[:, test] = scores[self._runs, at], flat[self._runs, at]
            origin[:, test] = at // change.shape[-1]
        found[~self._beside, Test.FALL] = 0.0
        newest = np.argmin(np.where(ages > 0, ages, np.iinfo(int).max), axis=1)
        far[:, Test.SPIKE], origin[:, Test.SPIKE] = apart[self._runs, newest, STAYS], newest
        relevant = far[:, Test.SPIKE] > RELEVANT[Test.SPIKE]
        found[:, Test.SPIKE] = np.where(relevant, alone[self._runs, newest, STAYS], 0.0)
        return Deviations(found / EASE, far, np.take_along_axis(ages.astype(np.intp), origin, axis=1))
