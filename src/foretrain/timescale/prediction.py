"""What a larger model would reach, read off a smaller one trained longer; or why that is not told."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from foretrain.inputs import positive
from foretrain.status import Coded
from foretrain.timescale.curves import Falling, TimeCurve, falling_part
from foretrain.timescale.equivalence import PUBLISHED, Equivalence

FLAT = 0.02
"""A curve whose last part falls by less than this, d ln error / d ln time, has met its capacity."""

LAST = 0.2
"""That is judged on this part of the range of ln time."""


class Refusal(Coded):
    """Why no prediction is made, with the remedy."""

    NOT_LARGER = (
        "not_larger",
        "The model asked about is not larger than the one that was trained: only a small model trained "
        "longer can stand for a larger one.",
    )
    NOT_PLAIN_SGD = (
        "not_plain_sgd",
        "The trade of size for time was claimed for SGD at a constant rate, and this run is not known to be "
        "one: measure the exponent with this optimizer and schedule.",
    )
    OTHER_RECIPE = (
        "other_recipe",
        "The exponent was measured with another optimizer or schedule than this run's: measure it with this.",
    )
    NOT_EQUIVALENT = (
        "not_equivalent",
        "The measured runs do not follow one curve of size and time: use a law of size and data instead.",
    )
    OUTSIDE_RANGE = (
        "outside_range",
        "The small model was not trained through the times that answer for this: train it longer, or measure "
        "it earlier.",
    )
    BELOW_CAPACITY = (
        "below_capacity",
        "The small model has stopped improving before that time: its capacity is met, the larger model's is "
        "not. Take a larger small model.",
    )


@dataclass(frozen=True)
class Prediction:
    """What a larger model would reach.

    Attributes:
        error: In the metric's unit; NaN where refused.
        lower: Lower end of its 90% interval; NaN where refused.
        upper: Upper end.
        time: When the small model is as far, in the unit of its times.
        refused: Why there is no prediction; None where there is one.
        assumed: Whether the exponent is the published one and was not measured: then nothing tells how wide
            the interval should be, and its ends are the error itself.
    """

    error: float
    lower: float
    upper: float
    time: float
    refused: Refusal | None = None
    assumed: bool = False


def predict_larger(
    small: TimeCurve, params: float, time: float, equivalence: Equivalence | None = None
) -> Prediction:
    """Reads the error of a larger model off the curve of a smaller one, at `(N / N_small)^kappa` the time.

    Args:
        small: The smaller model's run.
        params: Parameters of the larger one.
        time: Its training time, in the unit of the small one's.
        equivalence: The trade as measured with the same optimizer and schedule. Without it the published
            exponent 1/3 is assumed, for SGD at a constant rate alone.

    Returns:
        The error, with an interval that holds the error of the exponent and what left-out sizes were missed
        by; or why it is refused.

    Raises:
        ValueError: If `params` or `time` is not positive.
    """
    size, until = float(positive("params", params)), float(positive("time", time))
    kappa = PUBLISHED if equivalence is None else equivalence.kappa.median
    ratio = np.log(size) - np.log(small.params)
    at = float(np.log(until) + kappa * ratio)
    part = falling_part(small)
    refused = _refusal(small, part, ratio, at, equivalence)
    if refused is not None:
        return Prediction(np.nan, np.nan, np.nan, float(np.exp(at)), refused, equivalence is None)
    told = float(part.read(np.array([at]))[0])
    if equivalence is None:
        error = float(np.exp(told))
        return Prediction(error, error, error, float(np.exp(at)), assumed=True)
    shift = equivalence.kappa_std * ratio
    around = part.read(np.array([at - shift, at + shift]))
    spread = float(np.hypot((around[0] - around[1]) / 2, equivalence.collapse.held_out))
    half = float(stdtrit(equivalence.freedom, 0.95)) * spread
    lower, error, upper = (float(np.exp(told + offset)) for offset in (-half, 0.0, half))
    return Prediction(error, lower, upper, float(np.exp(at)))


def _refusal(
    small: TimeCurve, part: Falling, ratio: float, at: float, equivalence: Equivalence | None
) -> Refusal | None:
    if ratio <= 0:
        return Refusal.NOT_LARGER
    if equivalence is None:
        if not small.plain_sgd:
            return Refusal.NOT_PLAIN_SGD
    elif (equivalence.optimizer, equivalence.constant_rate) != (small.optimizer, small.constant_rate):
        return Refusal.OTHER_RECIPE
    elif not equivalence.holds:
        return Refusal.NOT_EQUIVALENT
    if not part.log_time[0] <= at <= np.log(small.time[-1]):
        return Refusal.OUTSIDE_RANGE
    return Refusal.BELOW_CAPACITY if at > capacity_time(small) else None


def capacity_time(curve: TimeCurve) -> float:
    """The logarithm of the time from which a curve falls no more; infinite if it falls to the end.

    It falls no more where over every stretch of a fifth of its range of ln time that begins later, as over
    the last, ln error falls by less than .02 of ln time.
    """
    part = falling_part(curve)
    end = float(np.log(curve.time[-1]))
    width = LAST * (end - float(np.log(curve.time[0])))
    starts = np.linspace(part.log_time[0], end - width, 200)
    slopes = (part.read(starts) - part.read(starts + width)) / width
    falling = np.flatnonzero(slopes > FLAT)
    if falling.size and falling[-1] == starts.size - 1:
        return float("inf")
    return float(starts[falling[-1] + 1]) if falling.size else float(starts[0])
