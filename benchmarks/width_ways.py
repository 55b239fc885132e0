"""Ways to learn the width of the next forecast from a curve's past ones; `widths.py` compares them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from choose import COUNTS, LEVELS, Asked, Intervals
from foretrain.forecasting import past_forecasts, uncertainty
from foretrain.forecasting.averaging import COARSE, average

MANY_ORIGINS = (1.2, 1.35, 1.5, 1.75, 2.0, 2.5, 3.0, 4.5, 6.0)
LIKE = 0.5
"""Past forecasts are at like distances within about this much of the logarithm of the distance."""
PULL = 2.0
"""Prior counts against a trend of past errors."""


@dataclass(frozen=True)
class Back:
    """One past forecast, and what it said of itself at each of n later points.

    Attributes:
        divisor: x_max over the x that it was made at.
        z: How far beyond that the points lie, in ln x.
        error: Log error that came minus what was said.
        spread: Spread of the shapes.
        fall: Log error that it forecast, below that at its origin.
    """

    divisor: float
    z: np.ndarray
    error: np.ndarray
    spread: np.ndarray
    fall: np.ndarray

    @property
    def missed(self) -> float:
        """How far off it was per ln x, as `past_forecasts.usual_error` has it."""
        return float(np.sqrt((self.error**2).mean() / (self.z**2 + past_forecasts.AT_HAND).mean()))


def look_back(one: Asked, origins: Sequence[float]) -> list[Back]:
    """A curve's past forecasts from these origins, with the windows' shares of its model."""
    curve, found, latest = one.curve, [], 0
    log_x, log_y = np.log(curve.x), np.log(curve.y)
    precision = np.ones_like(log_y)
    if curve.y_se is not None:
        precision = uncertainty._precision(log_x, log_y, curve.y_se)
    log_x, log_y, precision = uncertainty._in_cells(log_x, log_y, precision)
    for divisor in origins:
        cut = int((log_x <= log_x[-1] - np.log(divisor)).sum())
        if one.model.average is None or cut < past_forecasts.MIN_PAST or cut == latest:
            continue
        latest = cut
        z = log_x[cut:] - log_x[cut - 1]
        near = z <= max(np.log(past_forecasts.REACH), float(z[0]))
        u, shares = log_x[:cut] - log_x[cut - 1], one.model.average.windows
        then = average(u, log_y[:cut], precision[:cut], shares, COARSE)
        mean, spread = then.moments(np.append(0.0, z[near]))
        found.append(
            Back(divisor, z[near], log_y[cut:][near] - mean[1:], spread[1:], np.abs(mean[1:] - mean[0]))
        )
    return found


def grown(missed: float, one: Asked) -> np.ndarray:
    """A miss per ln x, carried to the distances asked about as it is shipped."""
    return np.asarray(missed * np.sqrt(uncertainty.NEAR * np.maximum(one.z, 0) + 0.02))


def by_origin(power: float, most: int | None = None) -> Callable[[Asked, list[Back]], np.ndarray]:
    """Past misses averaged, each counted by its origin's divisor to minus this power."""

    def part(one: Asked, past: list[Back]) -> np.ndarray:
        past = past[:most]
        counts = [back.divisor**-power for back in past]
        return grown(float(np.average([back.missed for back in past], weights=counts)), one)

    return part


def shrinking(one: Asked, past: list[Back]) -> np.ndarray:
    """Past misses as their trend over the origins, held back by a prior, continues to today."""
    logs, at = np.log([back.missed + 1e-6 for back in past]), np.log([back.divisor for back in past])
    apart = at - at.mean()
    slope = apart @ (logs - logs.mean()) / (apart @ apart + PULL)
    return grown(float(np.exp(logs.mean() - slope * at.mean())), one)


def at_like_distances(one: Asked, past: list[Back]) -> np.ndarray:
    """At each distance the past misses at distances like it; beyond the furthest they grow as its root."""
    furthest = float(np.log(past_forecasts.REACH))
    z = np.clip(one.z, 1e-3, furthest)
    top, bottom = np.zeros_like(z), np.full_like(z, 1e-12)
    for back in past:
        near = np.exp(-0.5 * ((np.log(back.z) - np.log(z)[:, None]) / LIKE) ** 2)
        near *= back.divisor**-2.0 / back.z.size
        top += near @ back.error**2
        bottom += near.sum(axis=1)
    return np.asarray(np.sqrt(top / bottom * np.maximum(one.z / z, 1.0)))


def in_proportion(what: str) -> Callable[[Asked, list[Back]], np.ndarray]:
    """Past misses over what each forecast said of itself, times what today's says."""

    def part(one: Asked, past: list[Back]) -> np.ndarray:
        assert one.model.average is not None
        mean, spread = one.model.average.moments(np.append(0.0, one.z))
        residual = one.model.noise[0]
        now = {"spread": spread[1:], "fall": np.abs(mean[1:] - mean[0])}[what]
        ratios = [
            np.sqrt((back.error**2).mean() / (getattr(back, what) ** 2 + residual**2 + 1e-12).mean())
            for back in past
        ]
        counts = [1.0 / back.divisor for back in past]
        return np.asarray(float(np.average(ratios, weights=counts)) * np.sqrt(now**2 + residual**2))

    return part


def fewer_wider(one: Asked, past: list[Back]) -> np.ndarray:
    """As shipped, widened where few distances like those asked about fit into the fitted part."""
    span = float(np.log(one.curve.x[-1] / one.curve.x[0]))
    fit = max(span / max(float(one.z.max()), past_forecasts.AT_HAND), 0.5)
    return np.asarray(by_origin(1.0)(one, past) * np.sqrt(1.0 + 4.0 / fit))


OTHERS: dict[str, tuple[Sequence[float], Callable[[Asked, list[Back]], np.ndarray]]] = {
    "as shipped": (past_forecasts.ORIGINS, by_origin(1.0)),
    "late origins count more": (past_forecasts.ORIGINS, by_origin(2.0)),
    "the latest origin alone": (past_forecasts.ORIGINS, by_origin(1.0, 1)),
    "nine origins": (MANY_ORIGINS, by_origin(1.0)),
    "nine origins, at like distances": (MANY_ORIGINS, at_like_distances),
    "misses shrink on": (past_forecasts.ORIGINS, shrinking),
    "as the shapes' spread": (past_forecasts.ORIGINS, in_proportion("spread")),
    "as the fall": (past_forecasts.ORIGINS, in_proportion("fall")),
    "narrower with a longer past": (past_forecasts.ORIGINS, fewer_wider),
}
"""Name, origins and the part `past` of the scale."""

PAST = list(uncertainty.SCALES).index("past")


def relearned(one: Asked, name: str) -> Asked:
    """What was said, with another part `past`; as it was where there is no past forecast."""
    origins, part = OTHERS[name]
    past = look_back(one, origins)
    if not past:
        return one
    parts = one.parts.copy()
    parts[PAST] = part(one, past)
    return replace(one, parts=parts)


def left_out(asked: Sequence[Asked]) -> tuple[dict[str, float], dict[str, float]]:
    """By domain, with scales fitted without it: mean log interval score, and 90 % coverage at 2x."""
    intervals = Intervals(asked)
    scored, held = {}, {}
    for domain in sorted({name for name, _ in intervals.cells}):
        scales = intervals.fit(np.array([float(name != domain) for name, _ in intervals.cells]))
        mine = [i for i, (name, _) in enumerate(intervals.cells) if name == domain]
        counts = [COUNTS[intervals.cells[i][1]] for i in mine]
        logs = np.mean([np.log(intervals.measure(scales, level)[1][mine]) for level in LEVELS], axis=0)
        scored[domain] = float(np.average(logs, weights=counts))
        held[domain] = float(intervals.measure(scales, 0.9)[0][mine[0]])
    return scored, held
