"""What is said beyond the points: `forecast` along one axis, `forecast_joint` over model size and data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from foretrain.families.family import family_moments
from foretrain.families.model import FamilyModel
from foretrain.forecasting.uncertainty import model_curve, quantile_factor
from foretrain.inputs import broadcast, check_levels, positive, same_length
from foretrain.laws.law import Array
from foretrain.report import Band, NamedProjection
from foretrain.status import FitStatus

LEVELS = (0.5, 0.8, 0.9)

Moments = tuple[Array, Array]
"""Mean and Student's t scale of the log error."""


@dataclass(frozen=True)
class Forecast:
    """A predictive distribution of the metric at given scales.

    It speaks of one new measurement: the metric's noise, the doubt about parameters and law, and distance are
    in it.

    Attributes:
        median: Projected metric, in its own unit, in the shape of `at`.
        lower: Lower end of the central interval, by nominal level, each in the shape of `at`.
        upper: Upper end, likewise.
        status: The gravest of `reasons`, or `FitStatus.OK`; a string code that carries its `.sentence`.
        reasons: All that is in doubt, the gravest first.
    """

    median: Array
    lower: dict[float, Array]
    upper: dict[float, Array]
    status: FitStatus
    reasons: tuple[FitStatus, ...] = ()


def band(moments: Moments, x: Array, levels: Sequence[float], *, digits: int = 6) -> Band:
    """The projected error and its intervals along x, rounded to `digits` significant ones."""
    result = intervals(*moments, tuple(levels), ())

    def told(values: Array) -> tuple[float, ...]:
        return tuple(float(f"{value:.{digits}g}") for value in values)

    return Band(
        x=told(x),
        median=told(result.median),
        lower={f"{level:g}": told(result.lower[level]) for level in levels},
        upper={f"{level:g}": told(result.upper[level]) for level in levels},
    )


def named_projection(
    name: str,
    moments: Moments,
    *,
    params: float | None,
    data: float,
    levels: Sequence[float],
    doubts: tuple[str, ...] = (),
    kind: str = "",
) -> NamedProjection:
    """The projected error and its intervals at one named scale."""
    result = intervals(*moments, tuple(levels), ())
    return NamedProjection(
        name=name,
        params=params,
        data=float(data),
        median=float(result.median[0]),
        lower={f"{level:g}": float(result.lower[level][0]) for level in levels},
        upper={f"{level:g}": float(result.upper[level][0]) for level in levels},
        doubts=doubts,
        kind=kind,
    )


def intervals(
    mean: Array, deviation: Array, levels: tuple[float, ...], reasons: tuple[FitStatus, ...]
) -> Forecast:
    """The forecast whose log error has this mean and Student's t scale, and what is in doubt about it."""
    with np.errstate(over="ignore", under="ignore"):
        return Forecast(
            median=np.asarray(np.exp(mean)),
            lower={level: np.asarray(np.exp(mean - quantile_factor(level) * deviation)) for level in levels},
            upper={level: np.asarray(np.exp(mean + quantile_factor(level) * deviation)) for level in levels},
            status=reasons[0] if reasons else FitStatus.OK,
            reasons=reasons,
        )


@np.errstate(under="ignore")
def forecast(
    x: ArrayLike,
    y: ArrayLike,
    at: ArrayLike,
    levels: Sequence[float] = LEVELS,
    seed: int = 0,
    *,
    y_se: ArrayLike | None = None,
) -> Forecast:
    """Projects one learning curve to other amounts of data, steps or compute.

    Args:
        x: Where the metric was measured, shape (n,), in the axis's unit. Positive, in any order.
        y: The metric there, shape (n,), in its own unit; one that falls as x grows. Positive.
        at: Where to project, any shape, in the axis's unit. Positive.
        levels: Nominal levels of the central intervals.
        seed: Kept for estimators that draw; today's is deterministic, so it changes nothing.
        y_se: Standard error of each y, shape (n,), in the metric's unit, if it is known. Positive.

    Returns:
        Median and intervals, and a status that says what to doubt.

    Raises:
        ValueError: If x, y or at holds a number that is not positive and finite, x and y are not
            one-dimensional and equally long, or a level is not between 0 and 1.

    Example:
        >>> import numpy as np
        >>> from foretrain import forecast
        >>> x = np.geomspace(1e3, 1e5, 30)
        >>> result = forecast(x, 0.5 + 30 * x**-0.4, at=[1e6])
        >>> round(float(result.median[0]), 2)
        0.62
    """
    del seed
    x, y, at = positive("x", x), positive("y", y), positive("at", at)
    same_length(x=x, y=y)
    levels = check_levels(levels)
    order = np.argsort(x, kind="stable")
    given = None
    if y_se is not None:
        given = positive("y_se", y_se)
        same_length(y=y, y_se=given)
        given = given[order]
    model = model_curve(x[order], y[order], y_se=given)
    mean, deviation = model.log_moments(at.ravel())
    return intervals(mean.reshape(at.shape), deviation.reshape(at.shape), levels, model.reasons)


def forecast_joint(
    n_params: ArrayLike,
    n_data: ArrayLike,
    y: ArrayLike,
    at_params: ArrayLike,
    at_data: ArrayLike,
    levels: Sequence[float] = LEVELS,
) -> Forecast:
    """Projects the error of other model sizes and amounts of data from runs of several sizes.

    Points with the same number of parameters are taken as one run: they are not independent.

    Args:
        n_params: Model size of each point, shape (n,), in parameters. Positive.
        n_data: Data seen at each point, shape (n,), in training examples or tokens. Positive.
        y: The metric there, shape (n,), in its own unit. Positive.
        at_params: Model sizes to project to, any shape that broadcasts with `at_data`. Positive.
        at_data: Amounts of data to project to. Positive.
        levels: Nominal levels of the central intervals.

    Returns:
        Median and intervals in the broadcast shape of `at_params` and `at_data`, and a status.

    Raises:
        ValueError: If an array holds a number that is not positive and finite, the first three are not
            one-dimensional and equally long, or the last two do not broadcast.
    """
    n, d, y = positive("n_params", n_params), positive("n_data", n_data), positive("y", y)
    same_length(n_params=n, n_data=d, y=y)
    return forecast_family(n, d, y, at_params, at_data, check_levels(levels))


@np.errstate(under="ignore")
def forecast_family(
    n: Array,
    d: Array,
    y: Array,
    at_params: ArrayLike,
    at_data: ArrayLike,
    levels: tuple[float, ...],
    model: FamilyModel | None = None,
) -> Forecast:
    """`forecast_joint` of points that are known to be sound, and maybe averaged already.

    Args:
        n: Model size of each point, shape (k,), in parameters. Positive.
        d: Data seen at each point, shape (k,). Positive.
        y: The metric there, shape (k,), in its own unit. Positive.
        at_params: As in `forecast_joint`, as are `at_data`, `levels` and what comes back.
        at_data: Likewise.
        levels: Likewise.
        model: What `foretrain.families.family.model_family` makes of the points, if that is known.

    Raises:
        ValueError: If `at_params` or `at_data` holds a number that is not positive and finite, or the two do
            not broadcast.
    """
    at_n, at_d = broadcast("at_params", at_params, "at_data", at_data)
    (mean, scale), model = family_moments(n, d, y, at_n.ravel(), at_d.ravel(), model)
    return intervals(mean.reshape(at_n.shape), scale.reshape(at_n.shape), levels, model.reasons)
