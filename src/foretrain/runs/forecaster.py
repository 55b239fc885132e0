"""The forecast of one run through its schedule, for as many places and schedules as are asked about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from foretrain.families.model import T_SCALE
from foretrain.forecasting.doubts import doubts
from foretrain.forecasting.uncertainty import CurveModel, model_curve
from foretrain.laws.law import Array
from foretrain.projection import Moments
from foretrain.runs.annealing import RatePath
from foretrain.runs.curve import RunCurve, same_level
from foretrain.runs.model import RunModel, model_run
from foretrain.status import FitStatus

FEW_POINTS = 4
"""With fewer points after warm-up the law is that of other runs."""

STILL = 0.9
"""A rate that is still this share of the largest has hardly fallen."""

MOVES = 0.01
"""A further drop by this share of the largest rate has a gain that must be known."""

FLAT = (FitStatus.NOT_DECREASING, FitStatus.NON_MONOTONE)


@dataclass(frozen=True)
class Forecaster:
    """The law of one run through its schedule, or what stands for it where the error does not fall.

    Attributes:
        run: The run's points.
        model: The law.
        reasons: What is in doubt at the place asked about, the gravest first.
        flat: The average of laws of the training done, in place of the law; None where the law holds.
    """

    run: RunCurve
    model: RunModel
    reasons: tuple[FitStatus, ...]
    flat: CurveModel | None = None

    @classmethod
    @np.errstate(under="ignore")
    def of(cls, run: RunCurve, earlier: Sequence[RunCurve], ask: Array) -> Forecaster:
        """Fits the law, as `forecast_run` does.

        Args:
            run: The run's points.
            earlier: Finished runs that tell of it.
            ask: The steps that matter, as the run counts steps, shape (n,).
        """
        earlier = same_level(run, earlier)
        model = model_run(run, earlier, ask=float(run.path.done(ask).max()))
        reasons = reasons_to_doubt(run, model, ask, borrowed_from=len(earlier))
        flat = None
        if any(reason in FLAT for reason in reasons) and not earlier:
            flat = model_curve(run.done, np.exp(run.log_y))
        return cls(run, model, reasons, flat)

    @np.errstate(under="ignore")
    def moments(self, steps: Array, path: RatePath | None = None) -> Moments:
        """Mean and Student's t scale of the log error after so many steps, both of shape (n,).

        Args:
            steps: As the path counts them, shape (n,).
            path: Of a run with this other schedule; this run's own if None.
        """
        if self.flat is not None:
            return self.flat.log_moments(np.maximum((path or self.run.path).done(steps), 1e-12))
        mean, deviation = self.model.log_moments(steps, path)
        return mean, T_SCALE * deviation


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
