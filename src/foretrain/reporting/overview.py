"""Studies of many runs at a glance: which runs are worth a look of their own, and what is said of the others.

An analysis of one run takes about a second. Of thousands, some are analyzed, and of the others tells one law.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from foretrain.conventions import Signature, signature
from foretrain.families.family import family_moments
from foretrain.families.model import MIN_SIZES, USUAL_NOISE
from foretrain.families.relatives import ending
from foretrain.forecasting.uncertainty import quantile_factor
from foretrain.laws.law import Array
from foretrain.projection import LEVELS, named_projection
from foretrain.reporting.comparison import RunCurve, each_once, resumed_as, stack
from foretrain.reporting.entering import SAME_PHASE
from foretrain.reporting.findings import ANNEALED, AS_PLANNED, NOT_ANNEALED, SCHEDULE_UNKNOWN, NamedProjection
from foretrain.reporting.soundness import OFF_LEVEL, OFF_POINTS

Item = TypeVar("Item")
Key = TypeVar("Key", bound=Hashable)

OF_EACH = 16
"""Runs of each kind that are worth a look: the newest, the flagged, the best."""

FAR = 4.0
"""Runs that lie further off than so many robust standard deviations are no measure of the others."""

MOST_PASSES, FEWEST_USUAL = 4, 8
"""The others are told without those so often; fewer runs do not tell how far off is usual."""

MOST_PLACES = 2_000
"""Sizes and data that a law is asked about at once."""

TIMES = 10.0
"""The others are projected to their planned end and to so many times their data."""

_LEAST = quantile_factor(OFF_LEVEL)

FEWEST_ENDS = 6
"""Ends that a law is told of, at least: one more than the joint law has parameters."""


@dataclass(frozen=True)
class Glance:
    """What is looked at of one run of many.

    Attributes:
        curve: Its points along the axis.
        started: Seconds since 1970 when it began; None where unknown.
        planned: Data seen at its planned end; None where unknown, or where it has come to its end.
        end: Learning rate at its planned end over the largest; None where unknown.
        finite: Whether every value was a finite number.
    """

    curve: RunCurve
    started: float | None = None
    planned: float | None = None
    end: float | None = None
    finite: bool = True


def above_others(curves: Sequence[RunCurve]) -> dict[str, float]:
    """The runs that lie above what the others predict, as `soundness.off_curve` tells it, all at once.

    The rates of runs are compared in steps of `SAME_PHASE`, and a run may be one of some hundreds that
    predict it; so one that is found deserves an analysis, which tells for sure.

    Args:
        curves: The study's runs.

    Returns:
        By the run's name, by how many scales its last point lies above, where its last `OFF_POINTS` points
        all lie above the interval of the level `OFF_LEVEL`.
    """
    found: dict[str, float] = {}
    for alike in _by(curves, lambda curve: signature(curve.conventions)).values():
        once = each_once([c for c in alike if c.points and c.sized])
        far: set[str] = set()
        # Where most runs are, those that are far off are found best.
        for phase, asked in sorted(_by(once, _phase).items(), key=lambda item: -len(item[1])):
            at = float("nan") if phase is None else phase
            others, asked = [c.in_phase(at) for c in once], [c.in_phase(at) for c in asked]
            for _ in range(MOST_PASSES):
                above, more = _above(asked, [c for c in others if c.run not in far])
                if more <= far:
                    break
                # They would themselves make what the others predict less sure.
                far |= more
            found |= above
    return found


def _above(asked: Sequence[RunCurve], others: Sequence[RunCurve]) -> tuple[dict[str, float], set[str]]:
    """The runs above what the others predict, by how many scales; and those that are no measure of others."""
    others = [c for c in others if c.points]
    sizes = {c.params for c in others}
    most = max((c.points[-1][0] for c in others), default=0.0)
    last: dict[str, list[tuple[float, float, float]]] = {}
    for curve in asked:
        reached = [(curve.params, x, y) for x, y in curve.points if 0.1 * most <= x <= 1.5 * most]
        if len(reached) >= OFF_POINTS and curve.params >= min(sizes):
            last[curve.run] = reached[-OFF_POINTS:]
    if not last or len(sizes) < MIN_SIZES:
        return {}, set()
    points = stack(others)
    off, scale = _off(points, [rows[-1] for rows in last.values()])
    usual = 1.4826 * float(np.median(np.abs(off))) if len(last) >= FEWEST_USUAL else 0.0
    far = {run for run, own in zip(last, off.tolist(), strict=True) if own > FAR * max(usual, USUAL_NOISE)}
    above = {run: float(d) for run, d in zip(last, off / scale, strict=True) if d > _LEAST}
    if above:  # Most runs are not, and need no look at their earlier points.
        off, scale = _off(points, [row for run in above for row in last[run]])
        least = (off / scale).reshape(-1, OFF_POINTS).min(axis=1).tolist()
        above = {run: above[run] for run, own in zip(above, least, strict=True) if own > _LEAST}
    return above, far


def _off(
    points: tuple[Array, Array, Array], asked: Sequence[tuple[float, float, float]]
) -> tuple[Array, Array]:
    """How far points lie above the law of others, as log ratios, and the law's scale there."""
    at_n, at_d, value = np.array(asked).T
    mean, scale = _moments(points, at_n, at_d)
    return np.log(value) - mean, scale


def _moments(points: tuple[Array, Array, Array], at_n: Array, at_d: Array) -> tuple[Array, Array]:
    """`family_moments`, each place once and some at a time: of all together they take gigabytes."""
    places, of = np.unique(np.stack([at_n, at_d]), axis=1, return_inverse=True)
    parts = [places[:, i : i + MOST_PLACES] for i in range(0, places.shape[1], MOST_PLACES)]
    moments = [family_moments(*points, *part)[0] for part in parts]
    mean, scale = (np.concatenate(each)[of.ravel()] for each in zip(*moments, strict=True))
    return mean, scale


def worth_a_look(glances: Mapping[str, Glance], above: Mapping[str, float]) -> dict[str, str]:
    """The runs to analyze by themselves, each with why.

    Args:
        glances: The study's runs by name.
        above: From `above_others`.

    Returns:
        By name in the order of `glances`: "newest", "flagged" or "best", at most `OF_EACH` of each. Runs that
        another one stands for are none of them.
    """
    resumed = resumed_as([glance.curve for glance in glances.values()])
    known = [name for name in glances if name not in resumed]
    # One that began at an unknown time counts as the oldest.
    newest = sorted(known, key=lambda name: glances[name].started or 0.0, reverse=True)
    broken = [name for name in newest if not glances[name].finite]
    flagged = [*broken[: OF_EACH // 2], *sorted(set(above) & set(known), key=lambda name: -above[name])]
    with_points = [name for name in known if glances[name].curve.points]
    best = sorted(with_points, key=lambda name: glances[name].curve.points[-1][1])
    why: dict[str, str] = {}
    for reason, names in (("flagged", flagged), ("best", best), ("newest", newest)):
        why |= {name: reason for name in [n for n in names if n not in why][:OF_EACH]}
    return {name: why[name] for name in glances if name in why}


def evenly(glances: Mapping[str, Glance], most: int) -> list[str]:
    """Some of the runs that have ended, or of all where none has: evenly over the sizes, then their data.

    Args:
        glances: The study's runs by name.
        most: How many at most.

    Returns:
        Their names in the order of `glances`; runs that another one stands for are not among them.
    """
    curves = [glance.curve for glance in glances.values() if glance.curve.points]
    resumed = resumed_as(curves)
    curves = [curve for curve in curves if curve.run not in resumed]
    curves = [curve for curve in curves if curve.finished] or curves
    order = sorted(curves, key=lambda curve: (curve.params, curve.points[-1][0], curve.run))
    places = np.unique(np.linspace(0, len(order) - 1, min(most, len(order))).round().astype(int))
    chosen = {order[i].run for i in places}
    return [name for name in glances if name in chosen]


def by_ends(
    glances: Mapping[str, Glance], without: Container[str] = (), levels: Sequence[float] = LEVELS
) -> dict[str, tuple[NamedProjection, ...]]:
    """Where runs end, by the law of the study's ends alone: without looking at their own points.

    Runs that were counted alike and whose rates end alike share one law of size and data, fitted to the ends
    of those that have ended, see `relatives.ending`.

    Args:
        glances: The study's runs by name.
        without: Those whose ends do not count, as they lie off the others.
        levels: Nominal levels of the intervals.

    Returns:
        By name, "planned end" of a run under way and "10x"; nothing of a run whose law has fewer than three
        sizes, or whose size is unknown.
    """
    known = [glance for glance in glances.values() if glance.curve.points and glance.curve.sized]
    found: dict[str, tuple[NamedProjection, ...]] = {}
    for (_, end, _), alike in _by(known, _ends_as).items():
        ends = each_once([glance.curve for glance in alike if glance.curve.run not in without])
        ends = [c for c in (ending(c, alike[0].curve, end) for c in ends) if c.points]
        if len({c.params for c in ends}) >= MIN_SIZES and sum(len(c.points) for c in ends) >= FEWEST_ENDS:
            found |= _projected(alike, stack(ends), end, levels)
    return found


def _projected(
    alike: Sequence[Glance], points: tuple[Array, Array, Array], end: float | None, levels: Sequence[float]
) -> dict[str, tuple[NamedProjection, ...]]:
    asked: list[tuple[RunCurve, str, float]] = []
    for glance in alike:
        last = glance.curve.points[-1][0]
        if glance.planned is not None and glance.planned > last:
            asked.append((glance.curve, "planned end", glance.planned))
        asked.append((glance.curve, f"{TIMES:g}x", TIMES * last))
    at_n = np.array([curve.params for curve, _, _ in asked])
    at_d = np.array([data for _, _, data in asked])
    mean, scale = _moments(points, at_n, at_d)
    found: dict[str, tuple[NamedProjection, ...]] = {}
    for i, (curve, name, data) in enumerate(asked):
        kind = _kind(name, end)
        one = named_projection(
            name,
            (mean[i : i + 1], scale[i : i + 1]),
            params=curve.params,
            data=data,
            levels=levels,
            kind=kind,
        )
        found[curve.run] = (*found.get(curve.run, ()), one)
    return found


def _kind(name: str, end: float | None) -> str:
    if end is None:
        return SCHEDULE_UNKNOWN
    if end > 1.0 - SAME_PHASE:
        return NOT_ANNEALED
    return AS_PLANNED if name == "planned end" else ANNEALED


def _ends_as(glance: Glance) -> tuple[Signature, float | None, str | None]:
    """What must be alike of runs whose ends follow one law; of unknown rates, the kind of scheduler."""
    conventions = glance.curve.conventions
    unknown = conventions.get("schedule") if glance.end is None else None
    return signature(conventions), _step(glance.end), unknown


def _phase(curve: RunCurve) -> float | None:
    """How far the rate has come down at the last points, in steps; None where it is unknown."""
    return _step(float(np.median(curve.phases[-OFF_POINTS:])) if curve.phases else None)


def _by(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    groups: dict[Key, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def _step(phase: float | None) -> float | None:
    if phase is None or not np.isfinite(phase):
        return None
    return 1.0 if phase > 1.0 - SAME_PHASE else SAME_PHASE * round(phase / SAME_PHASE)
