"""What stands beside a report's points: counts along the other axes, learning rates, what is left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from foretrain.axes import AXES
from foretrain.observation import Observation, RunRecord
from foretrain.reporting.findings import History, LeftOutPoint
from foretrain.reporting.points import usable, why_left_out

GROWING = ("samples", "steps", "epochs", "tokens", "unique_samples", "flops")
"""Fields of `Counts` that grow while a run is trained."""

MOST_KNOTS, MOST_LEFT_OUT = 128, 48
"""Bends of the learning rate and measurements left out that a report keeps: it stays small."""


def history(record: RunRecord, metric: str, axis: str, points: Sequence[tuple[float, float]]) -> History:
    """What stands beside the points of a run.

    Args:
        record: The run.
        metric: Name of the metric.
        axis: The data axis, a key of `foretrain.axes.AXES`.
        points: The points of the report, as `foretrain.reporting.points.run_curve` gives them.

    Returns:
        The history. What grows in proportion to another count takes its own place all the same: a reader
        then needs no rule.
    """
    by_x = dict(usable(record, metric, axis)[0])
    behind = [by_x[x] for x, _ in points]
    columns = {name: tuple(getattr(o.counts, name) for o in behind) for name in GROWING if name != axis}
    rates = tuple(o.lr for o in behind)
    knots = () if record.schedule is None else record.schedule.knots
    planned = record.info.planned
    densities = [o.counts.density for o in record.observations if o.counts.density is not None]
    return History(
        counts={name: column for name, column in columns.items() if any(v is not None for v in column)},
        rates=rates if any(rate is not None for rate in rates) else (),
        schedule=tuple((int(step), float(rate)) for step, rate in _evenly(knots, MOST_KNOTS)),
        planned={} if planned is None else {k: v for k, v in planned.to_json().items() if k in GROWING},
        density=densities[-1] if densities else None,
        left_out=_left_out(record, metric, axis),
    )


def _left_out(record: RunRecord, metric: str, axis: str) -> tuple[LeftOutPoint, ...]:
    def told(observation: Observation) -> LeftOutPoint | None:
        reason = why_left_out(record, observation, axis) if observation.metric == metric else None
        if reason is None:
            return None
        steps, data = int(observation.counts.steps), AXES[axis].read(observation.counts)
        return LeftOutPoint(steps, data, observation.value, reason)

    found = [item for item in map(told, record.observations) if item is not None]
    return tuple(_evenly(found, MOST_LEFT_OUT))


def _evenly(values: Sequence[Any], most: int) -> Sequence[Any]:
    """At most `most` of the values, the first and the last kept."""
    if len(values) <= most:
        return values
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]
