"""Which runs of a study lie off the curve that the others predict for their size and data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from foretrain.families.family import family_moments
from foretrain.families.model import MIN_SIZES
from foretrain.forecasting.uncertainty import quantile_factor
from foretrain.reporting.comparison import RunCurve, each_once, stack

MAX_CHECKED = 24
"""Runs up to which each is checked against all others."""

OFF_LEVEL = 0.98
"""A run is off the curve above this central interval of what the others predict ..."""

OFF_POINTS = 3
"""... at this many validations in a row, the last among them."""


def off_curve(own: RunCurve, others: Sequence[RunCurve]) -> dict[str, float] | None:
    """Whether a run lies above what the others predict for its size and data.

    Args:
        own: The run.
        others: Runs of at least three sizes that may be compared with it. Those that share a past with it
            are passed over: a run is no measure of itself.

    Returns:
        The evidence, or None: fewer than three sizes with points where their learning rate had come as far
        down, none as small, no points at data that the others have reached, or nothing amiss at one of the
        last three of those.
    """
    others = each_once([c for c in others if own.shared(c) is None])
    phase = float(np.median(own.phases[-OFF_POINTS:])) if own.phases else np.nan
    own, others = own.in_phase(phase), [c for c in (c.in_phase(phase) for c in others) if c.points]
    sizes = {c.params for c in others}
    if len(sizes) < MIN_SIZES or own.params < min(sizes):
        return None
    n, d, y = stack(others)
    reached = [(x, value) for x, value in own.points if 0.1 * d.max() <= x <= 1.5 * d.max()]
    if len(reached) < OFF_POINTS:
        return None
    x, value = (np.array(values) for values in zip(*reached[-OFF_POINTS:], strict=True))
    (mean, deviation), _ = family_moments(n, d, y, np.full_like(x, own.params), x)
    upper = mean + quantile_factor(OFF_LEVEL) * deviation
    if not (np.log(value) > upper).all():
        return None
    return {
        "data": float(x[-1]),
        "value": float(value[-1]),
        "predicted": float(np.exp(mean[-1])),
        "upper": float(np.exp(upper[-1])),
        "deviations": float((np.log(value[-1]) - mean[-1]) / deviation[-1]),
    }


def sound_runs(curves: Sequence[RunCurve]) -> list[RunCurve]:
    """The runs that do not lie off the curve of the others; the worst is left out first, then all again."""
    sound = list(curves)
    while MIN_SIZES < len(sound) <= MAX_CHECKED:
        found = {c.run: off_curve(c, [o for o in sound if o is not c]) for c in sound}
        worst = max((run for run in found), key=lambda run: (found[run] or {}).get("deviations", 0.0))
        if found[worst] is None:
            break
        sound = [c for c in sound if c.run != worst]
    return sound
