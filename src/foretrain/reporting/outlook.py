"""Where one run is heading: along its data, or through its learning-rate schedule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from foretrain.families.borrowing import Combined, Lender
from foretrain.families.relatives import Relatives
from foretrain.fitting import fit
from foretrain.forecasting.uncertainty import CURVE_LAWS, RECENCY, CurveModel, model_curve
from foretrain.laws import LAWS
from foretrain.laws.law import Array
from foretrain.projection import Moments, band, named_projection
from foretrain.regions import MIN_POINTS
from foretrain.report import Band, LawFit, NamedProjection
from foretrain.reporting.findings import ANNEALED, AS_PLANNED, NOT_ANNEALED, SCHEDULE_UNKNOWN, Borrowing
from foretrain.reporting.repeats import DataBudget
from foretrain.runs.annealing import RatePath
from foretrain.runs.course import Course
from foretrain.runs.forecaster import FEW_POINTS, FLAT, STILL, Forecaster
from foretrain.status import FitStatus

PLANNED_END = "planned end"

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
        borrowing: What the law of other runs counts at the planned end, or at ten times the data where
            none is ahead; None where it counts nothing.
    """

    reasons: tuple[FitStatus, ...]
    curve: Band
    projections: tuple[NamedProjection, ...]
    fits: tuple[LawFit, ...] = ()
    model: CurveModel | None = None
    borrowing: Borrowing | None = None


def by_data(
    x: Array,
    y: Array,
    places: Places,
    *,
    budget: DataBudget,
    kind: str,
    params: float | None,
    levels: Sequence[float],
    relatives: Relatives | None = None,
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
        relatives: What other runs say of its end. Where the rates to come are unknown, that is the planned
            end alone, and other places are moved as it is.
    """
    worth, last = budget.effective(x), float(x[-1])
    model = model_curve(worth, y)

    def own(at: Array) -> Moments:
        return model.log_moments(budget.effective(at))

    name, end = _main(places, last)
    lender = _lender(relatives, model.reasons, x.size, own(x[-1:]), last, budget)
    if kind == SCHEDULE_UNKNOWN and name != PLANNED_END:
        lender = None
    main = Combined.alone(own(end)) if lender is None else lender.at(own(end), end)

    def told(at: Array) -> Combined:
        if lender is None:
            return Combined.alone(own(at))
        return lender.on_the_way(own(at), main, at) if kind == SCHEDULE_UNKNOWN else lender.at(own(at), at)

    grid = np.geomspace(max(x[0], last / TAIL), REACH * last, GRID)
    projections = tuple(
        _named(
            place[0],
            told(np.array([place[1]])),
            place[1],
            last=last,
            kind=kind,
            codes=_codes(budget.repeats(place[1]), kind),
            params=params,
            levels=levels,
        )
        for place in places
    )
    codes = {*model.reasons, *_codes(budget.repeats(last), kind)}
    return Outlook(
        reasons=_in_order(main.doubts(codes)),
        curve=band(told(grid).moments, grid, levels),
        projections=projections,
        fits=_fits(model, worth, y),
        model=model,
        borrowing=None if lender is None else lender.note(name, float(end[0]), main, levels),
    )


def through_schedule(
    course: Course,
    earlier: Sequence[Course],
    places: Places,
    *,
    budget: DataBudget,
    levels: Sequence[float],
    relatives: Relatives | None = None,
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
        relatives: What other runs say of its end, and of longer runs.
    """
    run, end = course.points, course.in_units(np.array([course.schedule.end]))
    forecaster = Forecaster.of(run, [item.points for item in earlier], end)
    newest = np.array([course.last])
    last, end_data = float(course.data_at(newest)[0]), np.array([course.end_data])
    noise = forecaster.moments(course.in_units(newest))
    lender = _lender(relatives, forecaster.reasons, run.done.size, noise, last, budget)
    main = Combined.alone(forecaster.moments(end))
    if lender is not None:
        main = lender.at(main.own, end_data)

    def told(steps: Array, at: Array, path: RatePath | None = None) -> Combined:
        own = forecaster.moments(steps, path)
        if lender is None:
            return Combined.alone(own)
        return lender.on_the_way(own, main, at) if path is None else lender.at(own, at)

    grid = _grid(course)
    projections = []
    for name, at in places:
        kind, path, steps = _route(course, at, budget)
        if steps is None:
            continue
        projections.append(
            _named(
                name,
                told(steps, np.array([at]), path),
                at,
                last=last,
                kind=kind,
                codes=_codes(budget.repeats(at), kind) | {r for r in forecaster.reasons if r in ANNEALING},
                params=course.params or None,
                levels=levels,
            )
        )
    reasons = {*forecaster.reasons, *_codes(budget.repeats(last), AS_PLANNED)}
    return Outlook(
        reasons=_in_order(main.doubts(reasons)),
        curve=band(told(course.in_units(grid), course.data_at(grid)).moments, course.data_at(grid), levels),
        projections=tuple(projections),
        borrowing=None if lender is None else lender.note(PLANNED_END, course.end_data, main, levels),
    )


def _lender(
    relatives: Relatives | None,
    reasons: Sequence[FitStatus],
    count: int,
    newest: Moments,
    last: float,
    budget: DataBudget,
) -> Lender | None:
    """Other runs as they may tell of a run, if they may.

    They do not tell of one whose error surely does not fall. Where data repeat, they tell as far as they went
    themselves: nobody knows what repeats are worth beyond.
    """
    if relatives is None or (count >= MIN_POINTS and set(FLAT) & set(reasons)):
        return None
    farthest = relatives.reach * (1 + 1e-6)
    most = max(farthest, budget.unique) if np.isfinite(budget.unique) else np.inf
    # What a few points leave open at the last of them is not their noise.
    noise = float(newest[1][0]) if count >= FEW_POINTS else 0.0
    return Lender(relatives, last, noise, most)


def _main(places: Places, last: float) -> tuple[str, Array]:
    """The place that matters most: the planned end while that is ahead, else ten times the data."""
    named = dict(places)
    end = named.get(PLANNED_END)
    name = PLANNED_END if end is not None and end > last else "10x"
    return name, np.array([named[name]])


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
    told: Combined,
    at: float,
    *,
    last: float,
    kind: str,
    codes: set[FitStatus],
    params: float | None,
    levels: Sequence[float],
) -> NamedProjection:
    doubts = [FAR_DOUBT.format(at / last)] if at > FAR * last else []
    reasons = _in_order(told.doubts(codes))
    doubts += [code.sentence for code in reasons]
    found = named_projection(name, told.moments, params=params, data=at, levels=levels, doubts=tuple(doubts))
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
