"""A run's points along an axis, and the best of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from foretrain.axes import AXES
from foretrain.forecasting.upturn import upturn
from foretrain.laws.law import Array
from foretrain.observation import Observation, RunRecord
from foretrain.reporting.comparison import RunCurve
from foretrain.reporting.entering import entering
from foretrain.reporting.findings import BestValue

MAX_POINTS = 256

OTHERWISE = "counted by other conventions"
"""Why observations are left out that were made before the run was resumed with other conventions."""


def run_curve(
    record: RunRecord, metric: str, axis: str
) -> tuple[RunCurve, dict[str, int], tuple[Observation, ...]]:
    """A run's points along an axis, how many were left out and why, and the observations behind them."""
    kept, excluded = usable(record, metric, axis)
    params = [float(o.counts.params) for o in record.observations if o.metric == metric and o.counts.params]
    by_x = dict(kept)
    places = thin(np.array(sorted(by_x)), MAX_POINTS)
    curve = RunCurve(
        run=record.info.run,
        params=params[-1] if params else 0.0,
        points=tuple((x, by_x[x].value) for x in places),
        conventions=dict(record.info.conventions),
        phases=_phases([by_x[x].lr for x in places]),
        past={run: _seen_at(kept, step) for run, step in record.past.items()},
        finished=record.state == "finished",
        pruned=any(o.counts.pruned for o in reversed(record.observations) if o.metric == metric),
        entering=entering(record, kept) if kept else None,
    )
    return curve, excluded, tuple(o for o in record.observations if o.metric == metric)


def _seen_at(kept: Sequence[tuple[float, Observation]], step: float) -> float:
    """The x of the last observation up to a step, 0 where there is none."""
    return max((x for x, observation in kept if observation.counts.steps <= step), default=0.0)


def _phases(rates: list[float | None]) -> tuple[float, ...]:
    """Each rate over the largest, NaN where it is unknown; nothing where none is known."""
    largest = max((rate for rate in rates if rate is not None), default=0.0)
    if not largest > 0:
        return ()
    return tuple(float("nan") if rate is None else rate / largest for rate in rates)


def usable(
    record: RunRecord, metric: str, axis: str
) -> tuple[list[tuple[float, Observation]], dict[str, int]]:
    """The observations that can be fitted, each with its x, in order; and how many cannot be, by reason."""
    kept: list[tuple[float, Observation]] = []
    excluded: dict[str, int] = {}
    for observation in record.observations:
        if observation.metric != metric:
            continue
        x = AXES[axis].read(observation.counts)
        reason = why_left_out(record, observation, axis)
        if reason is None and x is not None:
            kept.append((x, observation))
        elif reason is not None:
            excluded[reason] = excluded.get(reason, 0) + 1
    return kept, excluded


def why_left_out(record: RunRecord, observation: Observation, axis: str) -> str | None:
    """Why an observation of a run cannot be fitted along an axis, in words; None where it can."""
    x = AXES[axis].read(observation.counts)
    if (observation.metric, int(observation.counts.steps)) in record.counted_otherwise:
        return OTHERWISE
    if not np.isfinite(observation.value):
        return "not finite"
    if observation.value <= 0:
        return "not positive"
    if x is None:
        return f"{axis} not counted"
    if x <= 0 or observation.counts.steps <= 0:
        return "before the first update"
    return None


def thin(x: Array, most: int) -> list[float]:
    """At most `most` of ascending positive x, evenly spread along ln x; the first and last are kept."""
    if len(x) <= most:
        return [float(value) for value in x]
    wanted = np.linspace(np.log(x[0]), np.log(x[-1]), most)
    index = np.unique(np.clip(np.searchsorted(np.log(x), wanted), 0, len(x) - 1))
    return [float(value) for value in x[np.union1d(index, [0, len(x) - 1])[-most:]]]


def best_value(kept: Sequence[tuple[float, Observation]], points: Sequence[tuple[float, float]]) -> BestValue:
    """The lowest value, where it first came, and whether the curve has risen since.

    Args:
        kept: The observations that can be fitted, each with its x; at least one.
        points: The run's points, (x, value), ascending in x.
    """
    x, lowest = min(kept, key=lambda item: item[1].value)
    found = upturn(*np.array(points).T)
    return BestValue(lowest.value, x, int(lowest.counts.steps), found.bias, found.past)
