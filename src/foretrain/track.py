"""The track record: what had been projected for the end of a run along the way, against what came."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from foretrain.borrowing import combine
from foretrain.course import Course
from foretrain.findings import PastForecast
from foretrain.forecaster import Forecaster
from foretrain.projection import LEVELS, intervals
from foretrain.relatives import Relatives
from foretrain.run_curve import RunCurve

SHARES = (0.2, 0.3, 0.5, 0.75)
"""Past forecasts are made after these shares of a run's steps."""

FEWEST = 4
"""From fewer points no past forecast is made."""

MOST_EARLIER = 8
"""Earlier runs that tell of a past forecast, which bounds its cost."""


def replay(
    course: Course,
    earlier: Sequence[Course] = (),
    levels: Sequence[float] = LEVELS,
    relatives: Relatives | None = None,
) -> tuple[PastForecast, ...]:
    """The forecasts of a run's end that could have been made along the way, made again from its records.

    They are those of `forecast_run` from the points up to each of `SHARES` of the steps. The schedule is the
    one that was used, and the earlier runs are those that have ended by now, not by then.

    Args:
        course: The run, which has come to its end; of one under way what came is its newest point.
        earlier: Finished runs that tell of it, the most alike first; `MOST_EARLIER` of them are used.
        levels: Nominal levels of the intervals.
        relatives: What other runs say of its end, joined with its own points as it would have been then.

    Returns:
        Those that could be made from at least `FEWEST` points, the earliest first. What came is the last
        point, one measurement.
    """
    ask, found = course.in_units(np.array([course.last])), []
    lent = None if relatives is None else relatives.moments(course.data_at(np.array([course.last])))
    library = [item.points for item in earlier[:MOST_EARLIER]]
    for share in SHARES:
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
        made = intervals(*told, tuple(levels), ())
        found.append(
            PastForecast(
                share=share,
                median=float(made.median[0]),
                lower={f"{level:g}": float(made.lower[level][0]) for level in levels},
                upper={f"{level:g}": float(made.upper[level][0]) for level in levels},
                came=float(course.values[-1]),
            )
        )
    return tuple(found)
