"""Which points of a run stand for the error of a run that ended there: the one rule, by its learning rates.

Plans, what a report says of all sizes together, and what a young run borrows take their points by it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from foretrain.laws.law import Array
from foretrain.observation import Observation, RunRecord
from foretrain.reporting.findings import Entering
from foretrain.schedule import Schedule

DECAYED, CONSTANT = "decayed", "constant"
"""Kinds of points: the end of a run whose rate has come down, and those at a rate that has not."""

SAME_PHASE = 0.15
"""Two points are compared if their learning rates, over the largest of their run, differ by no more: in the
middle of a decay the error is another than at a constant rate."""

ENDED = 0.95
"""A finished run's last validation is its end from this share of its planned steps on."""

STABLE = 0.5
"""A run tells of constant rates if its rate is at its peak up to this share of its steps."""

LEVEL = 1e-3
"""The rate is at its peak down to this share below it."""

STILL = 0.02
"""Points before the end of a decay are as good where the rate, over its largest, then falls by no more."""

EARLIEST = 30.0
"""Points at a constant rate count from the last one's data divided by this on: the first ones are not yet on
the power law, and what is asked of size against data takes all points as equal."""


KINDS = {
    DECAYED: "Of each run its end counts, with the learning rate decayed.",
    CONSTANT: "The points are those at a constant learning rate: a run that decays its rate ends lower.",
}


def why_not(found: Entering, kind: str) -> str:
    """Why a run has no points of a kind, in words."""
    if kind == DECAYED and CONSTANT in found.spans:
        return "its learning rate has not decayed, those of the runs that enter have"
    if kind == CONSTANT and DECAYED in found.spans:
        known = "is not known" if found.rates_unknown else "has decayed"
        return f"its learning rate {known}, those of the runs that enter are constant"
    return found.reason or "its points share all they tell with another run's"


def entering(record: RunRecord, kept: Sequence[tuple[float, Observation]]) -> Entering:
    """The points of a run that may enter, of each kind.

    Args:
        record: The run.
        kept: Its observations that can be fitted, each with the data seen, in order of step; at least one.

    Returns:
        The points. A run under a schedule that holds its rate and then lets it fall may have both kinds.
    """
    steps = np.array([observation.counts.steps for _, observation in kept])
    x = np.array([at for at, _ in kept])
    schedule = record.schedule
    if schedule is not None and not schedule.first <= steps[-1] <= schedule.end:
        schedule = None
    spans: dict[str, tuple[float, float]] = {}
    if schedule is None:
        rates = [observation.lr for _, observation in kept]
        constant = len(kept) > 1 and rates[0] is not None and rates[0] > 0 and len(set(rates)) == 1
        first, until, now = 0, int(steps[-1]) if constant else 0, 1.0 if constant else np.nan
    else:
        first, until = _at_peak(schedule)
        now = float(schedule.at(steps[-1])) / schedule.peak if schedule.peak > 0 else 1.0
    if until >= STABLE * steps[-1]:
        at_peak = x[(steps >= first) & (steps <= until)]
        if at_peak.size:
            late = at_peak[at_peak >= at_peak[-1] / EARLIEST]
            spans[CONSTANT] = float(late[0]), float(late[-1])
    reason = _unended(record, int(steps[-1]), now)
    if not reason:
        spans[DECAYED] = float(x[_last_stretch(kept, steps, schedule)]), float(x[-1])
    return Entering(spans, bool(np.isnan(now)), reason)


def _at_peak(schedule: Schedule) -> tuple[int, int]:
    """The first and the last step of the stretch at the peak rate."""
    near = schedule.peak * (1.0 - LEVEL) - 2.0 * schedule.tolerance
    first = schedule.warmup_end
    last = first
    for step, value in schedule.knots:
        if step > first:
            if value < near:
                break
            last = step
    return first, last


def _last_stretch(kept: Sequence[tuple[float, Observation]], steps: Array, schedule: Schedule | None) -> int:
    """The first of the last points whose rates are as good as that of the end; the last where unknown."""
    if schedule is not None and schedule.peak > 0:
        phases = schedule.at(steps) / schedule.peak
    else:
        rates = np.array([np.nan if o.lr is None else o.lr for _, o in kept], dtype=float)
        if not np.nanmax(rates, initial=0.0) > 0:
            return len(kept) - 1
        phases = rates / np.nanmax(rates)
    apart = np.flatnonzero(~(np.abs(phases - phases[-1]) <= STILL))
    return min(int(apart[-1]) + 1 if apart.size else 0, len(kept) - 1)


def _unended(record: RunRecord, last: int, phase: float) -> str:
    """Why the last point is not the end of a run whose rate has decayed; empty where it is."""
    if record.state != "finished":
        return f"it is {record.state}, and points on the way of a decaying learning rate are no final errors"
    planned = record.info.planned.steps if record.info.planned is not None else 0
    steps = planned or max(observation.counts.steps for observation in record.observations)
    if last < ENDED * steps:
        return (
            f"its last validation is at step {last:,} of {steps:,}: before its learning rate has come down "
            "that is no final error"
        )
    if phase > 1.0 - SAME_PHASE:
        return "its learning rate has not decayed"
    return ""
