"""`forecast_run`: where one run will be, by its learning-rate schedule, its own points and earlier runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from foretrain.doubts import doubts
from foretrain.family_model import T_SCALE
from foretrain.inputs import check_levels, positive, same_length
from foretrain.laws.law import Array
from foretrain.projection import LEVELS, Forecast, intervals
from foretrain.run_curve import RunCurve, same_level
from foretrain.run_model import RunModel, model_run
from foretrain.status import FitStatus
from foretrain.uncertainty import model_curve

FEW_POINTS = 4
"""With fewer points after warm-up the law is that of other runs."""

STILL = 0.9
"""A rate that is still this share of the largest has hardly fallen."""

MOVES = 0.01
"""A further drop by this share of the largest rate has a gain that must be known."""

FLAT = (FitStatus.NOT_DECREASING, FitStatus.NON_MONOTONE)


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
    earlier = same_level(run, earlier)
    flat = steps.ravel()
    model = model_run(run, earlier, ask=float(run.path.done(flat).max()))
    reasons = reasons_to_doubt(run, model, flat, borrowed_from=len(earlier))
    if any(reason in FLAT for reason in reasons) and not earlier:
        curve = model_curve(run.done, np.exp(run.log_y))
        mean, scale = curve.log_moments(np.maximum(run.path.done(flat), 1e-12))
    else:
        mean, deviation = model.log_moments(flat)
        scale = T_SCALE * deviation
    return intervals(mean.reshape(steps.shape), scale.reshape(steps.shape), levels, reasons)


def reasons_to_doubt(
    run: RunCurve, model: RunModel, steps: Array, *, borrowed_from: int
) -> tuple[FitStatus, ...]:
    """What is in doubt about a run's projection, the gravest first.

    Args:
        run: The run's points.
        model: What was estimated from them.
        steps: Where it is asked about, shape (n,).
        borrowed_from: How many earlier runs there are.

    Returns:
        Of the curve with its annealing taken out what `doubts` finds, and what is to say of the schedule.
    """
    held = np.clip(run.log_y + model.gained(run), -700.0, 700.0)
    found = set(doubts(run.done, np.exp(held), n_scores=model.n_scores or None))
    if run.done.size < FEW_POINTS:
        found.add(FitStatus.TOO_FEW_POINTS)
    elif borrowed_from:
        found -= {FitStatus.TOO_FEW_POINTS, FitStatus.SHORT_RANGE, FitStatus.FLOOR_NOT_IDENTIFIED}
    rates = run.path.rates
    now, then = rates[run.steps[-1] - 1], rates[steps - 1].min()
    if now - then > MOVES and model.borrowed > 0.5:
        found.add(FitStatus.ANNEALING_BORROWED if borrowed_from else FitStatus.ANNEALING_ASSUMED)
    if then >= STILL:
        found.add(FitStatus.NOT_ANNEALED)
    if not borrowed_from:
        found.add(FitStatus.UNCALIBRATED)
    return tuple(status for status in FitStatus if status in found)


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
