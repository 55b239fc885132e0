"""`forecast_run`: where one run will be, by its learning-rate schedule, its own points and earlier runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from foretrain.inputs import check_levels, positive, same_length
from foretrain.laws.law import Array
from foretrain.projection import LEVELS, Forecast, intervals
from foretrain.runs.curve import RunCurve
from foretrain.runs.forecaster import Forecaster


@np.errstate(under="ignore")
def forecast_run(
    step: ArrayLike,
    y: ArrayLike,
    lr: ArrayLike,
    at: ArrayLike,
    library: Sequence[Mapping[str, Any]] = (),
    levels: Sequence[float] = LEVELS,
    seed: int = 0,
    *,
    n_params: float | None = None,
) -> Forecast:
    """Projects one run along its learning-rate schedule.

    A decaying rate lowers the loss by more than a law of the steps alone has it. Here the error follows a law
    of the training done, the sum of the rates, less what annealing has gained (Luo et al. 2025). Earlier runs
    of the same recipe, if given, tell the law as far as they agree; without them what a decay gains is taken
    from published runs until the run's own rate has fallen.

    Args:
        step: Optimizer steps at which y was measured, shape (n,), whole numbers from 1 on, in any order.
        y: The metric there, shape (n,), in its own unit; one that falls in training. Positive.
        lr: Learning rate of every step from 1 to the planned end, shape (T,). None negative, one positive.
        at: Steps to project to, any shape, whole numbers from 1 to T.
        library: Earlier runs, each a mapping with `step`, `y` and `lr` as above, and optionally `n_params`. A
            step of theirs has as much data as one of the run. Those whose y, after as much training, is not
            of the run's order of magnitude are left out.
        levels: Nominal levels of the central intervals.
        seed: Kept for estimators that draw; today's is deterministic, so it changes nothing.
        n_params: The run's model size, where those of earlier runs are given: runs of other sizes tell less.

    Returns:
        Median and intervals, and a status that says what to doubt.

    Raises:
        ValueError: If a step is no whole number from 1 to T, a number is not finite, a y, a size or every
            rate is not positive, step and y differ in length, an earlier run lacks one of the three, or a
            level is not between 0 and 1.

    Example:
        >>> import numpy as np
        >>> from foretrain import forecast_run
        >>> lr = 3e-4 * (0.55 + 0.45 * np.cos(np.pi * np.arange(1, 10001) / 10000))
        >>> step = np.arange(200, 5001, 200)
        >>> y = 2.5 + 60 * np.cumsum(lr / 3e-4)[step - 1] ** -0.5 - 0.15 * (1 - lr[step - 1] / 3e-4)
        >>> result = forecast_run(step, y, lr, at=[10000])
        >>> bool(result.lower[0.9][0] < 3.17 < result.upper[0.9][0])
        True
    """
    del seed
    levels = check_levels(levels)
    run = _run_curve("", step, y, lr, n_params)
    steps = _steps("at", at, run.path.rates.size)
    earlier = []
    for index, item in enumerate(library):
        missing = [name for name in ("step", "y", "lr") if name not in item]
        if missing:
            raise ValueError(
                f"Expected `library[{index}]` to be a mapping with step, y and lr, got one without "
                f"{' and '.join(missing)}."
            )
        where = f"library[{index}]."
        earlier.append(_run_curve(where, item["step"], item["y"], item["lr"], item.get("n_params")))
    flat = steps.ravel()
    forecaster = Forecaster.of(run, earlier, flat)
    mean, scale = forecaster.moments(flat)
    return intervals(mean.reshape(steps.shape), scale.reshape(steps.shape), levels, forecaster.reasons)


def _run_curve(where: str, step: ArrayLike, y: ArrayLike, lr: ArrayLike, n_params: Any) -> RunCurve:
    try:
        rates = np.asarray(lr, dtype=float)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Expected `{where}lr` to be an array of numbers, got {lr!r:.80}: {error}."
        ) from None
    if rates.ndim != 1 or not rates.size:
        raise ValueError(
            f"Expected `{where}lr` to hold the rate of every step from 1 to the planned end, shape (T,), "
            f"got shape {rates.shape}."
        )
    bad = ~np.isfinite(rates) | (rates < 0)
    if bad.any() or not rates.any():
        first = int(np.argmax(bad)) if bad.any() else 0
        raise ValueError(
            f"Expected `{where}lr` to hold finite rates, none negative and one positive, got "
            f"{rates[first]} at step {first + 1}."
        )
    metric = positive(f"{where}y", y)
    steps = _steps(f"{where}step", step, rates.size)
    same_length(**{f"{where}step": steps, f"{where}y": metric})
    params = 0.0 if n_params is None else float(positive(f"{where}n_params", n_params).ravel()[0])
    return RunCurve.of(steps, metric, rates, params=params)


def _steps(name: str, values: ArrayLike, last: int) -> Array:
    steps = positive(name, values)
    if (steps != np.floor(steps)).any() or (steps > last).any():
        wrong = steps[(steps != np.floor(steps)) | (steps > last)].flat[0]
        raise ValueError(
            f"Expected `{name}` to hold whole numbers of steps from 1 to {last}, the last that `lr` has a "
            f"rate for, got {wrong:g}: give `lr` up to there."
        )
    return np.asarray(steps).astype(int)
