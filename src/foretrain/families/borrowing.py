"""One projection of two: a run's own, and that of the law its study's other runs share.

Each counts by its precision. What is weighed is how surely each knows the run's level; the noise of one more
measurement is the same for both. So a young run ends where its family's law has it, and as its own points
come to tell more, the projection passes to them.

The two are also compared. Where they lie further apart than both say, this run departs from its family: by so
much the family is trusted less for it. A run with a bad learning rate is
thereby not moved to where good runs end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foretrain.families.relatives import Relatives
from foretrain.forecasting.uncertainty import quantile_factor
from foretrain.laws.law import Array
from foretrain.projection import Moments, named_projection
from foretrain.reporting.findings import Borrowing
from foretrain.reporting.soundness import OFF_LEVEL
from foretrain.status import FitStatus

MOSTLY = 0.5
"""A projection of which the family counts more than this rests on it."""

APART = quantile_factor(OFF_LEVEL)
"""Scales between the two projections from which on it is said that they disagree."""

TOLD_BY_OTHERS = {
    *(FitStatus.TOO_FEW_POINTS, FitStatus.SHORT_RANGE, FitStatus.FLOOR_NOT_IDENTIFIED),
    *(FitStatus.ANNEALING_ASSUMED, FitStatus.ANNEALING_BORROWED, FitStatus.UNCALIBRATED),
}
"""What is no longer in doubt about a projection that rests on the family: its own points need not tell it."""

DISAGREE_DOUBT = (
    "The study's other runs tell {:.4g} for the {}, this run's own points {:.4g}: further apart than both "
    "allow for. The projection leans on its own points; look at its learning rate, its data and its labels."
)

TINY = 1e-18


@dataclass(frozen=True)
class Combined:
    """A projection at several places, of the run's own and of its family's.

    Attributes:
        moments: Mean and Student's t scale of the log error, both of shape (q,).
        own: The same by the run's own points.
        family: The same by the law of other runs; the run's own where that says nothing.
        share: What the family counts, 0 to 1, shape (q,).
    """

    moments: Moments
    own: Moments
    family: Moments
    share: Array

    @classmethod
    def alone(cls, own: Moments) -> Combined:
        """The run's own projection."""
        return cls(own, own, own, np.zeros_like(own[0]))

    @property
    def apart(self) -> Array:
        """By how many scales of both the two lie apart, shape (q,)."""
        both = np.hypot(self.own[1], self.family[1])
        return np.asarray(np.abs(self.family[0] - self.own[0]) / np.maximum(both, TINY))

    def doubts(self, own: set[FitStatus]) -> set[FitStatus]:
        """What is in doubt at its first place, of what is in doubt about the run's own projection."""
        return (own - TOLD_BY_OTHERS) | {FitStatus.FAMILY_BORROWED} if self.share[0] > MOSTLY else own


def combine(own: Moments, family: Moments, noise: float) -> Combined:
    """A run's own projection and its family's, by their precisions.

    Args:
        own: Mean and scale of the log error by the run's own points, both of shape (q,).
        family: The same by the law of other runs; a new run's departure from it is in the scale.
        noise: The part of the own scale that is there at the last point already.

    Returns:
        The two as one.
    """
    (mean, scale), (told, spread) = own, family
    measured = np.minimum(scale, noise) ** 2
    open_, kin = scale**2 - measured, np.maximum(spread**2, TINY)
    # The least variance of this run's departure from its family with which the two are a scale apart.
    departs = np.maximum((told - mean) ** 2 - scale**2 - kin, 0.0)
    share = open_ / (open_ + kin + departs)
    variance = measured + share * (kin + departs)
    return Combined((mean + share * (told - mean), np.sqrt(variance)), own, family, np.asarray(share))


def on_the_way(own: Moments, end: Combined, noise: float) -> Combined:
    """A run's own projection on its way to an end, moved as that end was.

    What a projection misses grows from the last point to the end and goes together along the way, so a place
    is moved by as much less as less is open there.

    Args:
        own: Mean and scale of the log error by the run's own points, both of shape (q,).
        end: What was made of the end, one place.
        noise: The part of the own scale that is there at the last point already.

    Returns:
        The projection there; of the family nothing but the share is told.
    """
    mean, scale = own
    measured = min(noise, float(end.own[1][0])) ** 2
    before = max(float(end.own[1][0]) ** 2 - measured, TINY)
    after = max(float(end.moments[1][0]) ** 2 - measured, 0.0)
    way = np.clip((scale**2 - measured) / before, 0.0, 1.0)
    moved = mean + np.sqrt(way) * (end.moments[0] - end.own[0])
    return Combined((moved, np.sqrt(scale**2 + way * (after - before))), own, own, end.share[0] * way)


@dataclass(frozen=True)
class Lender:
    """The law of other runs, beside the projections of one run.

    Attributes:
        relatives: The other runs.
        last: Data seen at the run's last point, in the axis's unit: up to there its own points tell all.
        noise: Scale of the run's own projection at its last point.
        most: Data up to which the other runs tell of it.
    """

    relatives: Relatives
    last: float
    noise: float
    most: float = np.inf

    def at(self, own: Moments, data: Array) -> Combined:
        """The projection for the end of training at so much data, shape (q,)."""
        found = combine(own, self.relatives.moments(data), self.noise)
        return _where((data > self.last) & (data <= self.most), found, Combined.alone(own))

    def on_the_way(self, own: Moments, end: Combined, data: Array) -> Combined:
        """The projection on the way to an end, at so much data, shape (q,)."""
        return _where(data > self.last, on_the_way(own, end, self.noise), Combined.alone(own))

    def note(self, name: str, at: float, found: Combined, levels: Sequence[float]) -> Borrowing | None:
        """What is told of the projection at one place; None where nothing is lent."""
        if not found.share[0] > 0:
            return None
        own, family = (
            named_projection(name, moments, params=self.relatives.params, data=at, levels=levels)
            for moments in (found.own, found.family)
        )
        return Borrowing(float(found.share[0]), self.relatives.runs, own, family, float(found.apart[0]))


def disagreement(found: Borrowing | None) -> str:
    """The doubt where a run's own projection and its family's lie apart; empty where they do not."""
    if found is None or found.apart <= APART:
        return ""
    name = found.own.name if found.own.name == "planned end" else f"end at {found.own.name} the data"
    return DISAGREE_DOUBT.format(found.family.median, name, found.own.median)


def _where(told: NDArray[np.bool_], one: Combined, other: Combined) -> Combined:
    def pick(a: Moments, b: Moments) -> Moments:
        return np.where(told, a[0], b[0]), np.where(told, a[1], b[1])

    return Combined(
        pick(one.moments, other.moments),
        pick(one.own, other.own),
        pick(one.family, other.family),
        np.where(told, one.share, other.share),
    )
