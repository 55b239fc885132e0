"""Earlier runs of a study that tell how a run's learning-rate schedule will play out."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable

from foretrain.course import Course, follow
from foretrain.observation import RunRecord

MOST_EARLIER = 16
"""Earlier runs that tell of a run: the most alike."""

ALIKE_DATA = 2.0
"""Runs whose data for each step differ by more than this factor do not tell of each other."""

FEWEST = 4
"""Points of an earlier run, at least."""

KEPT = 32
"""Courses that a shelf holds."""


class Shelf:
    """Courses of finished runs, kept between analyses: they do not change, and long runs have many rates.

    To be used by one thread.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[object, ...], Course | None] = OrderedDict()

    def follow(self, record: RunRecord, metric: str, axis: str, unit: int) -> Course | None:
        """As `follow`, from the shelf if the run is there and has not changed."""
        newest = record.observations[-1] if record.observations else None
        key = (
            *(record.info.run, record.info.study, record.info.attempt, record.state),
            *(len(record.observations), newest, record.schedule, metric, axis, unit),
        )
        if key not in self._kept:
            self._kept[key] = follow(record, metric, axis, unit)
        self._kept.move_to_end(key)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return self._kept[key]


def earlier_runs(
    own: Course, record: RunRecord, others: Iterable[RunRecord], metric: str, axis: str, shelf: Shelf
) -> tuple[Course, ...]:
    """The finished runs that tell most of a run: of the nearest size, then the newest.

    Args:
        own: The run along its schedule.
        record: The same run's record.
        others: Runs that were counted by the same conventions and are sound.
        metric: Name of the metric.
        axis: The data axis.
        shelf: Where courses are kept.

    Returns:
        At most `MOST_EARLIER`. Left out are runs that this one goes on from or that go on from it, runs with
        values that are not finite, with few points, or whose steps take other amounts of data.
    """
    finished = [r for r in others if r.state == "finished" and r.info.run != own.run]
    apart = [r for r in finished if r.info.run not in record.past and record.info.run not in r.past]
    # One that began at an unknown time counts as the oldest.
    apart.sort(key=lambda r: (_off(own, r), -(r.info.started or 0.0), r.info.run))
    found: list[Course] = []
    for candidate in apart:
        if any(o.metric == metric and not math.isfinite(o.value) for o in candidate.observations):
            continue
        course = shelf.follow(candidate, metric, axis, own.unit)
        if course is None or course.points.steps.size < FEWEST:
            continue
        if abs(math.log(course.data_per_step / own.data_per_step)) > math.log(ALIKE_DATA):
            continue
        found.append(course)
        if len(found) == MOST_EARLIER:
            break
    return tuple(found)


def _off(own: Course, record: RunRecord) -> float:
    """How far a run's size is from that of another, as a logarithm; 0 where one is unknown."""
    params = next((float(o.counts.params) for o in reversed(record.observations) if o.counts.params), 0.0)
    return abs(math.log(params / own.params)) if params and own.params else 0.0
