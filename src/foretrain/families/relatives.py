"""What a study's other runs say of the end of one run: which points may tell, and the law they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from foretrain.families.family import family_moments, missed_more, model_toward
from foretrain.families.model import MIN_SIZES, T_SCALE, FamilyModel
from foretrain.laws.law import Array
from foretrain.projection import Moments
from foretrain.reporting.comparison import RunCurve, each_once, stack
from foretrain.reporting.entering import CONSTANT, DECAYED, SAME_PHASE

MAX_RUNS = 64
"""Runs that tell of one, the nearest in size."""

MOST_SCORED = 8
"""Up to so many runs are forecast from each other. Of more the law's own past forecasts tell as well, and
those are made anyway."""


@dataclass(frozen=True)
class Relatives:
    """The law that other runs of a study share, asked for a run of one size.

    Attributes:
        runs: Their names.
        params: The size asked about, in trainable parameters.
        law: Their law around this size.
        reach: The most data that one of them has seen, in the axis's unit.
        inflation: By how much forecasts of these runs from each other missed more than they said; at least 1.
        n_scores: How many such forecasts there are.
    """

    runs: tuple[str, ...]
    params: float
    law: FamilyModel
    reach: float
    inflation: float = 1.0
    n_scores: int = 0

    @classmethod
    def of(cls, own: RunCurve, others: Sequence[RunCurve], end: float | None) -> Relatives | None:
        """The runs that tell where a run ends.

        Args:
            own: The run.
            others: Runs that were counted by the same conventions and are sound. Those that share a past with
                the run are passed over.
            end: Learning rate at the run's planned end over its largest; None where that is unknown, and then
                runs tell of it that have the same kind of scheduler.

        Returns:
            The relatives, or None where they have fewer than three sizes.
        """
        ends = [ending(c, own, end) for c in each_once([c for c in others if own.shared(c) is None])]
        found = sorted((c for c in ends if c.points), key=lambda c: (_off(own, c), c.run))[:MAX_RUNS]
        if own.params <= 0 or len({c.params for c in found}) < MIN_SIZES:
            return None
        scores = _scores(found)
        inflation = missed_more(np.square(scores))
        n, d, y = stack(found)
        law = model_toward(n, d, y, own.params)
        return cls(tuple(c.run for c in found), own.params, law, float(d.max()), inflation, scores.size)

    def moments(self, data: Array) -> Moments:
        """Mean and Student's t scale of the log error of a run of this size that ends at so much data.

        Args:
            data: In the axis's unit, shape (q,).
        """
        mean, scale = self.law.log_moments(np.full(data.shape, self.params), data)
        return mean, self.inflation * scale


def ending(curve: RunCurve, own: RunCurve, end: float | None) -> RunCurve:
    """The points of a run that are ends, as the end of another run will be one: none where it has none.

    Args:
        curve: The run.
        own: The other run.
        end: Its learning rate at its planned end over the largest; None where that is unknown.
    """
    phase, nothing = curve.phases[-1] if curve.phases else float("nan"), replace(curve, points=(), phases=())
    if end is None:
        alike = curve.conventions.get("schedule") == own.conventions.get("schedule")
        unknown = curve.entering is not None and curve.entering.rates_unknown
        return curve.of_kind(DECAYED, whole=True) if alike and unknown else nothing
    if end > 1.0 - SAME_PHASE:
        return curve.of_kind(CONSTANT)
    return curve.of_kind(DECAYED, whole=True) if abs(phase - end) <= SAME_PHASE else nothing


def _off(own: RunCurve, other: RunCurve) -> float:
    return abs(float(np.log(other.params / own.params))) if own.params > 0 else 0.0


def _scores(curves: Sequence[RunCurve]) -> Array:
    """The log error of forecasts of runs' last points from the other runs, over what was said, shape (s,).

    The smallest size is not forecast: the law is asked about larger ones, or between.
    """
    found: list[float] = []
    if len(curves) > MOST_SCORED:
        return np.array(found)
    smallest = min(c.params for c in curves)
    for index, curve in enumerate(curves):
        others = [*curves[:index], *curves[index + 1 :]]
        if curve.params == smallest or len({c.params for c in others}) < MIN_SIZES:
            continue
        n, d = np.array([curve.params]), np.array([curve.points[-1][0]])
        (mean, scale), _ = family_moments(*stack(others), n, d)
        found.append(float((np.log(curve.points[-1][1]) - mean[0]) * T_SCALE / scale[0]))
    return np.array(found)
