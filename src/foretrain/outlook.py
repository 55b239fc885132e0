"""Where one run is heading: along its data, or through its learning-rate schedule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from foretrain.annealing import RatePath
from foretrain.course import Course
from foretrain.findings import ANNEALED, AS_PLANNED, NOT_ANNEALED
from foretrain.fitting import fit
from foretrain.forecaster import Forecaster
from foretrain.laws import LAWS
from foretrain.laws.law import Array
from foretrain.projection import Moments, band, named_projection
from foretrain.repeats import DataBudget
from foretrain.report import Band, LawFit, NamedProjection
from foretrain.run_projection import STILL
from foretrain.status import FitStatus
from foretrain.uncertainty import CURVE_LAWS, RECENCY, CurveModel, model_curve

Places = Sequence[tuple[str, float]]
"""Named amounts of data, in the axis's unit."""

FAR = 10.0
FAR_DOUBT = "This is {:.3g} times beyond the last point: few laws have been tested that far."
REACH = 1000.0
GRID = 96
TAIL = 20.0
"""The law is drawn over the last part of the points, by this factor: the earlier ones hardly count in it."""

PAST_GRID, FUTURE_GRID, BENDS = 16, 24, 8
"""Steps at which a law is drawn through a schedule: behind the last point; ahead of it, so many along their
logarithm and so many evenly; and where the rate bends most."""

ANNEALING = (FitStatus.ANNEALING_ASSUMED, FitStatus.ANNEALING_BORROWED)


@dataclass(frozen=True)
class Outlook:
    """What is projected for a run by itself.

    Attributes:
        reasons: What is in doubt, the gravest first.
        curve: The projected error along the data axis.
        projections: The projected errors at named places.
        fits: The laws that were averaged.
        model: The average, where it is one of laws of data.
    """

    reasons: tuple[FitStatus, ...]
    curve: Band
    projections: tuple[NamedProjection, ...]
    fits: tuple[LawFit, ...] = ()
    model: CurveModel | None = None


def by_data(
    x: Array,
    y: Array,
    places: Places,
    *,
    budget: DataBudget,
    kind: str,
    params: float | None,
    levels: Sequence[float],
) -> Outlook:
    """Projects a run along its data, whatever its learning rate.

    Args:
        x: Data seen, shape (n,), ascending, in the axis's unit.
        y: The metric there, shape (n,), in its own unit.
        places: Where to project.
        budget: How much distinct data there is; repeats count as their effective data.
        kind: What the projections are called.
        params: Trainable parameters; None where unknown.
        levels: Nominal levels of the intervals.
    """
    worth = budget.effective(x)
    model = model_curve(worth, y)
    grid = np.geomspace(max(x[0], x[-1] / TAIL), REACH * x[-1], GRID)
    projections = tuple(
        _named(
            name,
            model.log_moments(budget.effective(np.array([at]))),
            at,
            last=float(x[-1]),
            kind=kind,
            codes=_codes(budget.repeats(at), kind),
            params=params,
            levels=levels,
        )
        for name, at in places
    )
    codes = {*model.reasons, *_codes(budget.repeats(float(x[-1])), kind)}
    return Outlook(
        reasons=_in_order(codes),
        curve=band(model.log_moments(budget.effective(grid)), grid, levels),
        projections=projections,
        fits=_fits(model, worth, y),
        model=model,
    )


def through_schedule(
    course: Course,
    earlier: Sequence[Course],
    places: Places,
    *,
    budget: DataBudget,
    levels: Sequence[float],
) -> Outlook:
    """Projects a run through its schedule to its planned end, and beyond it with the schedule stretched.

    What lies within the plan is this run as planned. What lies beyond is another run, of the same shape of
    schedule: the two do not lie on one curve, and the band ends with the plan.

    Args:
        course: The run along its schedule.
        earlier: Finished runs that tell of it.
        places: Where to project.
        budget: How much distinct data there is. Beyond the plan repeats count as their effective data.
        levels: Nominal levels of the intervals.
    """
    run, end = course.points, course.schedule.end
    forecaster = Forecaster.of(run, [item.points for item in earlier], course.in_units(np.array([end])))
    grid = _grid(course)
    curve = band(forecaster.moments(course.in_units(grid)), course.data_at(grid), levels)
    last = float(course.data_at(np.array([course.last]))[0])
    projections = []
    for name, at in places:
        kind, path, steps = _route(course, at, budget)
        if steps is None:
            continue
        codes = _codes(budget.repeats(at), kind) | {r for r in forecaster.reasons if r in ANNEALING}
        projections.append(
            _named(
                name,
                forecaster.moments(steps, path),
                at,
                last=last,
                kind=kind,
                codes=codes,
                params=course.params or None,
                levels=levels,
            )
        )
    reasons = {*forecaster.reasons, *_codes(budget.repeats(last), AS_PLANNED)}
    return Outlook(reasons=_in_order(reasons), curve=curve, projections=tuple(projections))


def _route(course: Course, at: float, budget: DataBudget) -> tuple[str, RatePath | None, Array | None]:
    """The kind of a projection to so much data, its path, and how many steps of that; None if none."""
    end = course.schedule.end
    if at <= course.end_data * (1 + 1e-9):
        steps = np.clip(course.steps_at(at), 1, end)
        return AS_PLANNED, None, course.in_units(np.array([steps]))
    worth = budget.effective(np.array([course.end_data, at]))
    try:
        path = course.longer(end + float(worth[1] - worth[0]) / course.data_per_step)
    except ValueError:  # no schedule is that long
        return ANNEALED, None, None
    final = float(course.schedule.values[-1])
    kind = ANNEALED if final < STILL * course.schedule.peak else NOT_ANNEALED
    return kind, path, np.array([path.rates.size])


def _grid(course: Course) -> Array:
    """Steps at which the law is drawn, ascending, shape (n,)."""
    last, end = course.last, course.schedule.end
    first = min(max(float(course.points.steps[0] * course.unit), last / TAIL), last)
    parts = [np.geomspace(first, last, PAST_GRID)]
    if end > last:
        knots, rates = np.array(course.schedule.steps), np.array(course.schedule.values)
        bend = np.abs(np.diff(np.diff(rates) / np.diff(knots)))
        ahead = np.flatnonzero((knots[1:-1] > last) & (knots[1:-1] < end))
        most = ahead[np.argsort(-bend[ahead], kind="stable")[:BENDS]]
        parts += [
            np.geomspace(last, end, FUTURE_GRID),
            np.linspace(last, end, FUTURE_GRID),
            knots[1:-1][most],
        ]
    return np.unique(np.round(np.clip(np.concatenate(parts), 1, end)))


def _named(
    name: str,
    moments: Moments,
    at: float,
    *,
    last: float,
    kind: str,
    codes: set[FitStatus],
    params: float | None,
    levels: Sequence[float],
) -> NamedProjection:
    doubts = [FAR_DOUBT.format(at / last)] if at > FAR * last else []
    reasons = _in_order(codes)
    doubts += [code.sentence for code in reasons]
    found = named_projection(name, moments, params=params, data=at, levels=levels, doubts=tuple(doubts))
    return replace(found, kind=kind, reasons=tuple(code.value for code in reasons))


def _codes(repeated: bool, kind: str) -> set[FitStatus]:
    found = {FitStatus.REPEATED_DATA} if repeated else set()
    return found | ({FitStatus.NOT_ANNEALED} if kind == NOT_ANNEALED else set())


def _in_order(codes: set[FitStatus]) -> tuple[FitStatus, ...]:
    """The gravest first."""
    return tuple(status for status in FitStatus if status in codes)


def _fits(model: CurveModel, x: Array, y: Array) -> tuple[LawFit, ...]:
    found = []
    for name in CURVE_LAWS:
        if model.share(name) == 0 or len(x) <= len(LAWS[name].parameters):
            continue
        result = fit(name, x, y, weights=(x / x[-1]) ** RECENCY)
        found.append(
            LawFit(name, result.parameters, model.share(name), result.status.value, result.status.sentence)
        )
    return tuple(found)
