"""A downstream metric of a model that was not trained: its loss by the joint law, the metric by the link."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from foretrain.downstream.link import LinkDoubt, MetricLink, fit_link
from foretrain.families.family import family_moments
from foretrain.forecasting.uncertainty import DEGREES_OF_FREEDOM
from foretrain.inputs import broadcast, check_levels, positive, same_length
from foretrain.laws.law import Array
from foretrain.projection import LEVELS, Forecast, intervals
from foretrain.status import FitStatus


@dataclass(frozen=True)
class MetricForecast:
    """A downstream metric at given sizes and data, with the doubt of both steps.

    Attributes:
        loss: The first step: the loss there.
        median: Projected metric, in the shape of `loss.median`.
        lower: Lower end of the central interval, by nominal level, each in that shape.
        upper: Upper end, likewise.
        link: The second step.
        doubts: What is in doubt at any of the places, first about the loss, then about the link.
    """

    loss: Forecast
    median: Array
    lower: dict[float, Array]
    upper: dict[float, Array]
    link: MetricLink
    doubts: tuple[FitStatus | LinkDoubt, ...]


def forecast_metric(
    n_params: ArrayLike,
    n_data: ArrayLike,
    loss: ArrayLike,
    metric: ArrayLike,
    at_params: ArrayLike,
    at_data: ArrayLike,
    *,
    chance: float | None = None,
    limits: tuple[float, float] = (0.0, 1.0),
    levels: Sequence[float] = LEVELS,
    seed: int = 0,
) -> MetricForecast:
    """Projects a downstream metric in two steps: the loss of the model, then the metric at that loss.

    The metric of small models hardly moves with size and data where their loss falls steadily; so the joint
    law is of the loss, and a sigmoid leads from the loss to the metric (`fit_link`). Losses are drawn from
    the forecast of the first step, and each is carried through a draw of the second: the interval of the
    metric holds the doubt of both.

    Args:
        n_params: Model size of each run, shape (n,), in parameters. Positive.
        n_data: Data of each, shape (n,), in training examples or tokens. Positive.
        loss: Its loss, shape (n,). Positive.
        metric: Its metric, shape (n,); NaN where it was not measured.
        at_params: Model sizes to project to, any shape that broadcasts with `at_data`. Positive.
        at_data: Amounts of data to project to. Positive.
        chance: As in `fit_link`, as is `limits`.
        limits: Likewise.
        levels: Nominal levels of the central intervals.
        seed: Of the draws.

    Returns:
        Loss and metric, each with median and intervals, and what is in doubt.

    Raises:
        ValueError: If a number is out of its range, the first four are not one-dimensional and equally long,
            the last two do not broadcast, or fewer than six runs have a metric.

    References:
        Bhagia et al. 2024, arXiv:2412.04403; Gadre et al. 2024, arXiv:2403.08540.
    """
    n, d, y = positive("n_params", n_params), positive("n_data", n_data), positive("loss", loss)
    v = np.asarray(metric, dtype=float)
    same_length(n_params=n, n_data=d, loss=y, metric=v)
    checked = check_levels(levels)
    known = ~np.isnan(v)
    link = fit_link(y[known], v[known], chance=chance, limits=limits, seed=seed)
    at_n, at_d = broadcast("at_params", at_params, "at_data", at_data)
    (mean, scale), model = family_moments(n, d, y, at_n.ravel(), at_d.ravel())
    t = np.random.default_rng(seed + 1).standard_t(DEGREES_OF_FREEDOM, link.noise.size)
    drawn = np.array([link.measured(np.exp(m + s * t)) for m, s in zip(mean, scale, strict=True)])
    doubts = [doubt for at in np.exp(mean) for doubt in link.doubts_at(float(at))]
    shape = at_n.shape

    def quantile(share: float) -> Array:
        return np.asarray(np.quantile(drawn, share, axis=1).reshape(shape))

    return MetricForecast(
        loss=intervals(mean.reshape(shape), scale.reshape(shape), checked, model.reasons),
        median=quantile(0.5),
        lower={level: quantile((1 - level) / 2) for level in checked},
        upper={level: quantile((1 + level) / 2) for level in checked},
        link=link,
        doubts=(*model.reasons, *(doubt for doubt in LinkDoubt if doubt in doubts)),
    )
