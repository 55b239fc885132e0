"""The track record: what had been projected along the way for where a run has come to, against what came."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from foretrain.families.borrowing import combine
from foretrain.families.relatives import Relatives
from foretrain.forecasting.uncertainty import model_curve
from foretrain.laws.law import Array
from foretrain.projection import LEVELS, Moments, intervals
from foretrain.reporting.findings import PastForecast
from foretrain.runs.course import Course
from foretrain.runs.curve import RunCurve
from foretrain.runs.forecaster import Forecaster

SHARES = (0.2, 0.3, 0.5, 0.75)
"""Past forecasts are made after these shares of a run's steps."""

UNDER_WAY, EARLIER_UNDER_WAY = (0.3, 0.5, 0.75), 2
"""Shares, and earlier runs, of a run under way: it is fitted again and again, so they cost less."""

FEWEST = 4
"""From fewer points no past forecast is made."""

MOST_EARLIER = 8
"""Earlier runs that tell of a past forecast, which bounds its cost."""


def replay(
    course: Course,
    earlier: Sequence[Course] = (),
    levels: Sequence[float] = LEVELS,
    relatives: Relatives | None = None,
    *,
    shares: Sequence[float] = SHARES,
) -> tuple[PastForecast, ...]:
    """The forecasts of a run's newest point that could have been made along the way, made again from records.

    They are those of `forecast_run` from the points up to each share of the steps. The schedule is the
    one that was used, and the earlier runs are those that have ended by now, not by then.

    Args:
        course: The run. Where it has come to its end its newest point is that.
        earlier: Finished runs that tell of it, the most alike first; `MOST_EARLIER` of them are used.
        levels: Nominal levels of the intervals.
        relatives: What other runs say of its end, joined with its own points as it would have been then; None
            of a run under way.
        shares: Shares of the steps.

    Returns:
        Those that could be made from at least `FEWEST` points, the earliest first. What came is the last
        point, one measurement.
    """
    ask, found = course.in_units(np.array([course.last])), []
    lent = None if relatives is None else relatives.moments(course.data_at(np.array([course.last])))
    library = [item.points for item in earlier[:MOST_EARLIER]]
    for share in shares:
        young = course.steps <= share * course.last
        if young.sum() < FEWEST:
            continue
        places = course.in_units(course.steps[young])
        run = RunCurve.of(places, course.values[young], course.points.path.rates)
        forecaster = Forecaster.of(run, library, ask)
        told = forecaster.moments(ask)
        if lent is not None:
            noise = float(forecaster.moments(places[-1:])[1][0])
            told = combine(told, lent, noise).moments
        found.append(_past(share, told, float(course.values[-1]), levels))
    return tuple(found)


def replay_by_data(
    x: Array, y: Array, levels: Sequence[float] = LEVELS, *, shares: Sequence[float] = SHARES
) -> tuple[PastForecast, ...]:
    """As `replay`, along the data of a run whose rate does not fall, or is not known.

    Args:
        x: Data seen, shape (n,), ascending; repeats count as their effective data.
        y: The metric there, shape (n,).
        levels: Nominal levels of the intervals.
        shares: Shares of the data.
    """
    found = []
    for share in shares:
        young = x <= share * x[-1]
        if young.sum() >= FEWEST:
            told = model_curve(x[young], y[young]).log_moments(x[-1:])
            found.append(_past(share, told, float(y[-1]), levels))
    return tuple(found)


def _past(share: float, told: Moments, came: float, levels: Sequence[float]) -> PastForecast:
    made = intervals(*told, tuple(levels), ())
    return PastForecast(
        share=share,
        median=float(made.median[0]),
        lower={f"{level:g}": float(made.lower[level][0]) for level in levels},
        upper={f"{level:g}": float(made.upper[level][0]) for level in levels},
        came=came,
    )
