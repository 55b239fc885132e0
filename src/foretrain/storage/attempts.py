"""The attempts of each run, put together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from foretrain.conventions import Signature, signature
from foretrain.observation import Observation, RunInfo, RunRecord, ScheduleUpdate
from foretrain.schedule_history import ScheduleHistory, merge_schedules

MAX_POINTS = 16_384
"""Most observations kept in memory of one metric of one attempt; past it they are thinned, see `thinned`."""
_NEWEST = 1_024
_FINEST = 2.0**-20


class _Point(NamedTuple):
    """An observation, and the conventions that it was counted by."""

    observation: Observation
    counted: Signature


_Points = dict[tuple[str, int], _Point]


@dataclass
class Attempt:
    """What one process wrote of a run.

    Attributes:
        info: The run and the attempt.
        points: Observations by metric and step, thinned past `MAX_POINTS`.
        first: Step of the earliest observation, None before there is one.
        last: Step of the latest one.
        state: "running", "finished" or "failed".
        schedule: What it tells of its learning rates.
    """

    info: RunInfo
    points: dict[str, dict[int, Observation]] = field(default_factory=dict)
    first: float = math.inf
    last: float = -math.inf
    state: str = "running"
    schedule: ScheduleHistory = field(default_factory=ScheduleHistory)
    _widths: dict[str, float] = field(default_factory=dict)

    def add(self, observation: Observation) -> None:
        """Takes an observation; the later one of two at one step counts."""
        step = int(observation.counts.steps)
        points = self.points.setdefault(observation.metric, {})
        points[step] = observation
        self.first, self.last = min(self.first, step), max(self.last, step)
        self.state = "running"
        if len(points) > MAX_POINTS:
            kept, width = thinned(sorted(points), self._widths.get(observation.metric, _FINEST))
            self._widths[observation.metric] = width
            self.points[observation.metric] = {step: points[step] for step in kept}

    def flat(self) -> _Points:
        """The observations by metric and step."""
        counted = signature(self.info.conventions)
        return {
            (metric, step): _Point(observation, counted)
            for metric, points in self.points.items()
            for step, observation in points.items()
        }

    def copy(self) -> Attempt:
        """The same, to be added to."""
        points = {metric: dict(points) for metric, points in self.points.items()}
        return replace(self, points=points, schedule=self.schedule.copy(), _widths=dict(self._widths))


def thinned(steps: Sequence[int], width: float) -> tuple[list[int], float]:
    """The steps that are kept: the first of each stretch of equal length in ln(1 + step), and the newest.

    Stretches only ever become twice as long, so that each is made of whole ones of before: the first step
    of one has always been kept, and thinning again and again wears nothing away.

    Args:
        steps: Ascending.
        width: Length of a stretch the last time.

    Returns:
        The steps that are kept, ascending, at most half of `MAX_POINTS` beside the newest; and the length.
    """
    old, newest = steps[:-_NEWEST], steps[-_NEWEST:]
    while True:
        first: dict[int, int] = {}
        for step in old:
            first.setdefault(int(math.log1p(step) / width), step)
        if len(first) <= MAX_POINTS // 2:
            return [*first.values(), *newest], width
        width *= 2.0


def put_together(attempts: Iterable[Attempt]) -> dict[str, RunRecord]:
    """The runs by name, each as its attempts tell it.

    Args:
        attempts: In an order that every reader finds alike.
    """
    runs: dict[str, list[Attempt]] = {}
    # Equal numbers happen where two processes started at once, or where a store could not be asked: then, and
    # only then, the clock decides, and after it the order given.
    for attempt in sorted(attempts, key=lambda attempt: (attempt.info.attempt, attempt.info.started or 0.0)):
        runs.setdefault(attempt.info.run, []).append(attempt)
    merged: dict[str, _Points] = {}
    schedules: dict[str, ScheduleHistory] = {}
    pasts: dict[str, dict[str, int]] = {}
    for run in _histories_first(runs):
        merged[run] = _merge(runs[run], merged)
        parts = ((attempt.info, attempt.state, attempt.schedule) for attempt in runs[run])
        schedules[run] = merge_schedules(parts, schedules)
        pasts[run] = _past(runs[run], pasts)
    return {run: _record(runs[run], merged[run], schedules[run], pasts[run]) for run in sorted(runs)}


def with_unsaved(
    attempts: list[Attempt],
    info: RunInfo,
    observations: Iterable[Observation],
    schedule: ScheduleUpdate | None,
) -> list[Attempt]:
    """The attempts, with what one of them could not write."""
    for index, attempt in enumerate(attempts):
        if (attempt.info.run, attempt.info.attempt) == (info.run, info.attempt):
            own = attempt.copy()
            attempts = [*attempts[:index], own, *attempts[index + 1 :]]
            break
    else:
        own = Attempt(info)
        attempts = [*attempts, own]
    if schedule is not None:
        own.schedule.add(schedule)
    for observation in observations:
        own.add(observation)
    return attempts


def _merge(attempts: list[Attempt], merged: Mapping[str, _Points]) -> _Points:
    """One run's observations, from those of its attempts.

    An attempt trains on from a checkpoint: what an older attempt measured up to there is its past too; what
    the older one measured beyond belongs to weights that were thrown away. The latter stays visible only
    until the newer attempt has passed it, because until then it is the best that is known of what comes.
    So once an attempt has passed its forerunners, what is left is one line of training, and equals what an
    uninterrupted run would have measured: also where the two measured at different steps, which taking the
    newer one of equal steps alone would not give.

    Where the attempt does not say at which step it began, its first observation stands for that.

    Two monitors of one training are two attempts of one run that hold different metrics, so each metric is
    put together from the attempts that were about it.
    """
    others = {str((attempt.info.continues or {}).get("run")) for attempt in attempts}
    metrics = {metric for attempt in attempts for metric, _ in attempt.flat()}
    metrics |= {metric for other in others for metric, _ in merged.get(other, {})}
    points: _Points = {}
    for metric in sorted(metrics):
        points |= _merge_metric(metric, [a for a in attempts if _is_about(a, metric)], merged)
    return points


def _is_about(attempt: Attempt, metric: str) -> bool:
    named = attempt.info.conventions.get("metric", metric) == metric
    return named or any(held == metric for held, _ in attempt.flat())


def _merge_metric(metric: str, attempts: list[Attempt], merged: Mapping[str, _Points]) -> _Points:
    """One metric's observations, by the rule of `_merge`."""
    points: _Points = {}
    for attempt in attempts:
        continues = attempt.info.continues
        passed = math.inf if attempt.state == "finished" else attempt.last
        if continues is None:
            start, past = attempt.first - 1, points
        elif continues["step"] <= 0:
            start, past, passed = 0, {}, math.inf  # From scratch: no other weights are this attempt's past.
        else:
            start = continues["step"]
            past = points if continues["run"] == attempt.info.run else merged.get(continues["run"], {})
        points = {
            **{key: _of(point, attempt) for key, point in past.items() if key[1] <= start},
            **{key: point for key, point in points.items() if key[1] > start and key[1] >= passed},
            **attempt.flat(),
        }
    return {key: point for key, point in points.items() if key[0] == metric}


def _of(point: _Point, attempt: Attempt) -> _Point:
    if point.observation.run == attempt.info.run:
        return point
    return point._replace(observation=replace(point.observation, run=attempt.info.run))


def _past(attempts: list[Attempt], pasts: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """The other runs that one goes on from, each with its last step that counts, by the rule of `_merge`."""
    past: dict[str, int] = {}
    for attempt in attempts:
        continues = attempt.info.continues
        if continues is None:
            continue
        run, step = continues["run"], int(continues["step"])
        if step <= 0:
            past = {}
        elif run == attempt.info.run:
            past = {other: min(last, step) for other, last in past.items()}
        else:
            past = {other: min(last, step) for other, last in pasts.get(run, {}).items()} | {run: step}
    past.pop(attempts[0].info.run, None)  # runs that continue each other in a circle
    return past


def _record(
    attempts: list[Attempt], points: _Points, schedule: ScheduleHistory, past: dict[str, int]
) -> RunRecord:
    ordered = sorted(points.items(), key=lambda item: (item[0][1], item[0][0]))
    newest = attempts[-1]
    counted = {
        metric: signature(next(a for a in reversed(attempts) if _is_about(a, metric)).info.conventions)
        for metric in {metric for metric, _ in points}
    }
    return RunRecord(
        newest.info,
        tuple(point.observation for _, point in ordered),
        newest.state,
        *schedule.describe(newest.state),
        past=past,
        counted_otherwise=frozenset(key for key, point in ordered if point.counted != counted[key[0]]),
    )


def _histories_first(runs: Mapping[str, list[Attempt]]) -> list[str]:
    """The runs, each after those that it continues; a circle is cut where it comes back to itself."""
    order: dict[str, None] = {}
    seen: set[str] = set()
    for root in sorted(runs):
        path = [] if root in seen else [root]
        while path:
            run = path[-1]
            seen.add(run)
            for attempt in runs[run]:
                other = str((attempt.info.continues or {}).get("run"))
                if other in runs and other not in seen:
                    path.append(other)
                    break
            else:
                order[run] = None
                path.pop()
    return list(order)
