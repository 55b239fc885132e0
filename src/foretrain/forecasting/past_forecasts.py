"""A curve's own past forecasts: laws averaged over its first parts, against the points that came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from foretrain.forecasting.averaging import COARSE, WINDOWS, average
from foretrain.laws.law import Array

ORIGINS = (1.5, 2.0, 3.0, 4.5)
"""Past forecasts are made from a curve's points up to x_max divided by each of these."""

REACH = 2.2
"""A past forecast is scored up to this many times the x it was made at."""

MIN_PAST = 6
"""A past forecast is made from no fewer points."""

AT_HAND = 0.05
"""Squared distances in ln x are taken this much larger: the next point, too, may be missed."""


@dataclass(frozen=True)
class PastForecast:
    """What was forecast from one origin, and what came.

    Attributes:
        error: Log error that came minus what each window said, shape (k, n).
        z: How far beyond the origin the points lie, in ln x, shape (n,). Positive.
        counts: What it counts for the width of the next forecast: the later its origin, the more.
    """

    error: Array
    z: Array
    counts: float


def past_forecasts(log_x: Array, log_y: Array, precision: Array) -> list[PastForecast]:
    """The past forecasts of one curve, from the latest origin to the earliest.

    Args:
        log_x: ln x, shape (n,), ascending.
        log_y: ln y, shape (n,).
        precision: What each point counts beside its place, shape (n,).

    Returns:
        One for each of `ORIGINS` that has points enough before it. Of origins with the same points before
        them, as sparse curves have, the latest alone: a forecast counts once.
    """
    found: list[PastForecast] = []
    latest = 0
    for divisor in ORIGINS:
        cut = int((log_x <= log_x[-1] - np.log(divisor)).sum())
        if cut < MIN_PAST or cut == latest:
            continue
        latest = cut
        origin = log_x[cut - 1]
        z = log_x[cut:] - origin
        near = z <= max(np.log(REACH), float(z[0]))
        u = log_x[:cut] - origin
        then = average(u, log_y[:cut], precision[:cut], evenly(), COARSE)
        error = log_y[cut:][near] - then.by_window(COARSE.logs(z[near]))
        found.append(PastForecast(error, z[near], 1.0 / divisor))
    return found


def evenly() -> Array:
    """Every window counts the same."""
    return np.full(len(WINDOWS), 1.0 / len(WINDOWS))


def window_shares(past: Sequence[PastForecast]) -> Array:
    """What each window counts: the inverse of how far off its past forecasts were, shape (k,), sum 1."""
    if not past:
        return evenly()
    off = np.sqrt(np.mean([np.mean(one.error**2, axis=1) for one in past], axis=0))
    share = (off + 0.1 * off.mean() + 1e-9) ** -min(1.0, len(past) / 3)
    return np.asarray(share / share.sum())


def usual_error(past: Sequence[PastForecast], windows: Array) -> float:
    """How far off past forecasts were, per ln x: their root mean square errors, averaged; 0 without any.

    Not the root of the mean square, in which one early miss would outweigh all that was forecast since.
    """
    if not past:
        return 0.0
    off = [np.sqrt(np.mean((windows @ one.error) ** 2) / np.mean(one.z**2 + AT_HAND)) for one in past]
    return float(np.average(off, weights=[one.counts for one in past]))
