"""Earlier runs of a study that tell how a run's learning-rate schedule will play out."""

from __future__ import annotations

import math
import operator
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from foretrain.observation import RunRecord
from foretrain.report import JointReport
from foretrain.reporting.comparison import RunCurve, joint_report
from foretrain.reporting.points import run_curve
from foretrain.reporting.survey import Survey
from foretrain.run_flags import FlagBook
from foretrain.runs.course import Course, follow

MOST_EARLIER = 16
"""Earlier runs that tell of a run: the most alike."""

ALIKE_DATA = 8.0
"""Runs whose data for each step differ by more than this factor do not tell of each other."""

FEWEST = 4
"""Points of an earlier run, at least."""

KEPT, KEPT_CURVES = 32, 1_024
"""Courses and curves that a shelf holds."""


class Shelf:
    """What is kept between analyses of a study's runs.

    Courses of finished runs, because they do not change and long runs have many rates; curves of runs that
    have not changed; what is known of all runs; the law of the same curves; and replays of runs that raise
    flags. Reports are the same without. To be used by one thread.

    Attributes:
        flags: The replays.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[object, ...], Course | None] = OrderedDict()
        self._curves: OrderedDict[tuple[str, str, str], tuple[RunRecord, RunCurve]] = OrderedDict()
        self._survey: tuple[Mapping[str, RunRecord], str, str, Survey] | None = None
        self._joint: tuple[tuple[RunCurve, ...], dict[str, Any], JointReport] | None = None
        self.flags = FlagBook()

    def curve(self, record: RunRecord, metric: str, axis: str) -> RunCurve:
        """As the first of `run_curve`; the same object as long as the record is."""
        key = (record.info.run, metric, axis)
        if key not in self._curves or self._curves[key][0] is not record:
            self._curves[key] = record, run_curve(record, metric, axis)[0]
        self._curves.move_to_end(key)
        while len(self._curves) > KEPT_CURVES:
            self._curves.popitem(last=False)
        return self._curves[key][1]

    def survey(self, runs: Mapping[str, RunRecord], metric: str, axis: str) -> Survey:
        """The survey of a study, made anew where it has changed."""
        if self._survey is None or self._survey[0] is not runs or self._survey[1:3] != (metric, axis):
            made = Survey(runs, metric, lambda record: self.curve(record, metric, axis))
            self._survey = runs, metric, axis, made
        return self._survey[3]

    def joint_report(self, curves: Sequence[RunCurve], **asked: Any) -> JointReport:
        """As `joint_report`; made anew where a curve or what is asked has changed."""
        held = self._joint
        same = held is not None and len(held[0]) == len(curves) and all(map(operator.is_, held[0], curves))
        if held is None or not same or held[1] != asked:
            held = self._joint = tuple(curves), asked, joint_report(curves, **asked)
        return held[2]

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
    apart.sort(key=lambda r: (_off(own, r, metric), -(r.info.started or 0.0), r.info.run))
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


def _off(own: Course, record: RunRecord, metric: str) -> float:
    """How far a run's size is from that of another, as a logarithm; 0 where one is unknown."""
    newest = record.newest(metric)
    params = float(newest.counts.params or 0) if newest is not None else 0.0
    return abs(math.log(params / own.params)) if params and own.params else 0.0
