"""What one run's records say of it by itself, with the study's finished runs to tell of its schedule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from foretrain.axes import AXES
from foretrain.families.borrowing import disagreement
from foretrain.families.relatives import Relatives
from foretrain.laws.law import Array
from foretrain.observation import RunRecord
from foretrain.regions import IRREDUCIBLE, MIN_POINTS, POWER_LAW, SMALL_DATA, label_regions, local_slopes
from foretrain.reporting.comparison import RunCurve
from foretrain.reporting.earlier import Shelf, earlier_runs
from foretrain.reporting.findings import (
    NOT_ANNEALED,
    SCHEDULE_UNKNOWN,
    CurveRegions,
    PastForecast,
    ScheduleNote,
)
from foretrain.reporting.outlook import PLANNED_END, Outlook, by_data, through_schedule
from foretrain.reporting.points import best_value, usable
from foretrain.reporting.question import Question
from foretrain.reporting.repeats import DataBudget, data_budget
from foretrain.reporting.track import EARLIER_UNDER_WAY, SHARES, UNDER_WAY, replay, replay_by_data
from foretrain.runs.course import Course, follow, why_unknown
from foretrain.status import FitStatus

SCALES = (2.0, 10.0, 100.0)

UNKNOWN_DOUBT = (
    "The learning rates to come are unknown ({}), so no decay of theirs is foreseen: a run that decays its "
    "rate ends lower."
)
FALLEN_DOUBT = (
    "The learning rate has fallen along the run, so its earlier points are not final losses: "
    "projections beyond the planned end assume what no run has shown."
)
RISEN_DOUBT = (
    "The error has risen since its lowest part: the best value was {:.4g} at step {:,}. "
    "Look for over-fitting, or take the weights of that step."
)

FLATTER = 0.8
"""A curve flattens if it falls, two standard errors up and down, at most this share as steeply at its end."""

REGIONS = {SMALL_DATA: "small_data", POWER_LAW: "power_law", IRREDUCIBLE: "irreducible"}

NO_REGIONS = {FitStatus.NOT_DECREASING, FitStatus.NON_MONOTONE}
"""What is in doubt about curves in which regions mean nothing."""

BESIDE = {FitStatus.NOT_ANNEALED, FitStatus.REPEATED_DATA}
"""What is told of single projections and among the doubts, and is no status of the run's own fit."""


@dataclass(frozen=True)
class _Ahead:
    """A run's outlook, and what it rests on."""

    outlook: Outlook
    schedule: ScheduleNote
    planned: float | None
    track: tuple[PastForecast, ...] = ()


def analyze_run(
    record: RunRecord,
    own: RunCurve,
    others: Sequence[RunRecord],
    question: Question,
    shelf: Shelf,
    family: Sequence[RunCurve] = (),
) -> dict[str, Any]:
    """What a run's own records say of it.

    Args:
        record: The run.
        own: Its points along the axis; at least one.
        others: The study's other runs that may be compared with it and are sound.
        question: What is asked.
        shelf: Where finished runs are kept between analyses.
        family: Points of the runs that may tell where this one ends: of the others, or none.

    Returns:
        Fields of `Report` by name.
    """
    metric, axis = question.metric, question.axis
    points = own.points
    x, y = (np.array(values) for values in zip(*points, strict=True))
    kept = usable(record, metric, axis)[0]
    budget = data_budget(record, axis, kept[-1][1].counts).learned(x, y)
    course = follow(record, metric, axis)
    planned = None if course is None else course.schedule
    relatives = Relatives.of(own, family, None if planned is None else planned.values[-1] / planned.peak)
    if course is not None and not course.schedule.is_constant_after_warmup:
        ahead = _follow(course, record, others, x, budget, question, shelf, relatives)
    else:
        ahead = _ignore(course, record, x, y, budget, question, relatives)
    reasons = ahead.outlook.reasons
    status = next((reason for reason in reasons if reason not in BESIDE), FitStatus.OK)
    best = best_value(kept, points)
    doubts = [reason.sentence for reason in reasons]
    if apart := disagreement(ahead.outlook.borrowing):
        doubts.append(apart)
    if ahead.schedule.state == "unknown":
        doubts.append(UNKNOWN_DOUBT.format(ahead.schedule.why))
        rates = [o.lr for o in record.observations if o.metric == metric and o.lr is not None and o.lr > 0]
        if rates and rates[-1] < 0.5 * max(rates):
            doubts.append(FALLEN_DOUBT)
    if best.risen:
        doubts.append(RISEN_DOUBT.format(best.value, best.step))
    return {
        "planned": ahead.planned,
        "status": status.value,
        "sentence": status.sentence,
        "fits": ahead.outlook.fits,
        "curve": ahead.outlook.curve,
        "projections": ahead.outlook.projections,
        "doubts": tuple(doubts),
        "regions": _regions(ahead.outlook, x, y),
        "reasons": tuple(reason.value for reason in reasons),
        "schedule": ahead.schedule,
        "best": best,
        "repeats": budget.note(float(x[-1])),
        "track": ahead.track,
        "borrowing": ahead.outlook.borrowing,
    }


def _follow(
    course: Course,
    record: RunRecord,
    others: Sequence[RunRecord],
    x: Array,
    budget: DataBudget,
    question: Question,
    shelf: Shelf,
    relatives: Relatives | None,
) -> _Ahead:
    """Through the schedule of a run whose rate falls."""
    earlier = earlier_runs(course, record, others, question.metric, question.axis, shelf)
    places = _places(question, x[-1], course.end_data)
    outlook = through_schedule(
        course, earlier, places, budget=budget, levels=question.levels, relatives=relatives
    )
    note = ScheduleNote("followed", end=course.schedule.end, earlier=tuple(item.run for item in earlier))
    over = record.state == "finished" or course.is_over
    if over:
        track = replay(course, earlier, question.levels, relatives)
    else:
        track = replay(course, earlier[:EARLIER_UNDER_WAY], question.levels, shares=UNDER_WAY)
    return _Ahead(outlook, note, course.end_data, track)


def _ignore(
    course: Course | None,
    record: RunRecord,
    x: Array,
    y: Array,
    budget: DataBudget,
    question: Question,
    relatives: Relatives | None,
) -> _Ahead:
    """Along the data of a run whose rate is constant, or unknown."""
    if course is not None:
        note, kind = ScheduleNote("constant", end=course.schedule.end), NOT_ANNEALED
    else:
        why = why_unknown(record) or f"{question.axis} do not grow with the steps"
        note, kind = ScheduleNote("unknown", why), SCHEDULE_UNKNOWN
    planned = None if record.info.planned is None else AXES[question.axis].read(record.info.planned)
    params = next((o.counts.params for o in reversed(record.observations) if o.counts.params), None)
    outlook = by_data(
        x,
        y,
        _places(question, x[-1], planned),
        budget=budget,
        kind=kind,
        params=None if params is None else float(params),
        levels=question.levels,
        relatives=relatives,
    )
    shares = SHARES if record.state == "finished" else UNDER_WAY
    return _Ahead(
        outlook, note, planned, replay_by_data(budget.effective(x), y, question.levels, shares=shares)
    )


def _places(question: Question, last: float, planned: float | None) -> list[tuple[str, float]]:
    """The named amounts of data that are projected to."""
    places = [(f"{scale:g}x", scale * last) for scale in SCALES]
    if planned is not None and planned > 0:
        places.append((PLANNED_END, planned))
    return places + [(f"{target:g}", target) for target in question.targets]


def _regions(outlook: Outlook, x: Array, y: Array) -> CurveRegions | None:
    """The regions of a curve that falls along eight points or more; of another one they mean nothing.

    Along a schedule no irreducible region is told: a curve also flattens because its rate has gone.
    """
    model, reasons = outlook.model, outlook.reasons
    if x.size < MIN_POINTS or NO_REGIONS & set(reasons) or (model is not None and model.average is None):
        return None
    floor = None
    if model is not None and FitStatus.FLOOR_NOT_IDENTIFIED not in model.reasons and _flattens(x, y):
        floor = model.floor_interval
    found = label_regions(x, y, floor=floor)
    return CurveRegions(
        now=REGIONS[int(found.labels[-1])],
        power_law_from=found.power_law_start,
        irreducible_from=found.irreducible_start,
    )


def _flattens(x: Array, y: Array) -> bool:
    """Whether the curve surely falls less steeply at its end: else only the prior tells of a floor."""
    smooth = local_slopes(np.log(x), np.log(y))
    steepest = float(np.max(-smooth.slope - 2.0 * smooth.error))
    return bool(-smooth.slope[-1] + 2.0 * smooth.error[-1] < FLATTER * steepest)
