"""Runs of held attempts: their observations are read, and put together, where they are asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from foretrain.observation import Observation, RunRecord
from foretrain.storage.attempts import Attempt, put_together
from foretrain.storage.held import HeldAttempt

KEPT = 64
"""Groups whose observations, and as many whose schedules, stay in memory: those asked for last."""


@dataclass
class _Place:
    """Where an observation is, in place of it."""

    run: str
    metric: str
    step: int
    held: HeldAttempt


@dataclass(frozen=True, eq=False)
class _Group:
    """Attempts of runs that continue one another, in an order that every reader finds alike."""

    attempts: tuple[HeldAttempt, ...]


class HeldRecord(RunRecord):
    """A run whose attempts are held."""

    @classmethod
    def of(
        cls, group: _Group, known: RunRecord, metrics: dict[str, int], last: dict[str, _Place]
    ) -> HeldRecord:
        """A run.

        Args:
            group: Its attempts, and those of runs that it continues or that continue it.
            known: What is known of it without observations.
            metrics: How many observations there are of each metric.
            last: Where the last one of each is.
        """
        record = object.__new__(cls)
        vars(record).update(
            info=known.info,
            state=known.state,
            past=known.past,
            counted_otherwise=known.counted_otherwise,
            _group=group,
            _metrics=metrics,
            _last=last,
        )
        return record

    @property
    def metrics(self) -> Mapping[str, int]:
        """How many observations there are of each metric."""
        return vars(self)["_metrics"] if "_group" in vars(self) else super().metrics

    def newest(self, metric: str) -> Observation | None:
        """The last observation of a metric."""
        if "_group" not in vars(self):
            return super().newest(metric)
        place: _Place | None = vars(self)["_last"].get(metric)
        if place is None:
            return None
        found = place.held.newest
        if found.metric != metric or found.counts.steps != place.step:
            return super().newest(metric)
        return found if found.run == self.info.run else replace(found, run=self.info.run)

    def __eq__(self, other: object) -> bool:
        """Whether another record tells the same, held or not."""
        return isinstance(other, RunRecord) and _fields(self) == _fields(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """As of a record that is not held, of which it tells the same."""
        return repr(RunRecord(*_fields(self)))

    def __reduce__(self) -> tuple[Any, ...]:
        """As a record that is not held: the file may be on another machine."""
        return RunRecord, _fields(self)


class _Asked:
    """A field of a record that is read when it is asked for; one that was set stays as it was set."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, record: Any, owner: type | None = None) -> Any:
        if record is None:
            return self
        read = _observations if self._name == "observations" else _schedules
        try:
            runs = read(vars(record)["_group"])
        except _Gone as gone:
            runs = gone.found
        return getattr(runs[record.info.run], self._name)


for _name in ("observations", "schedule", "schedule_used_until", "schedule_unknown"):
    setattr(HeldRecord, _name, _Asked(_name))


class _Gone(Exception):
    """Not all could be read just now: what was found is not kept."""

    def __init__(self, found: dict[str, RunRecord]) -> None:
        self.found = found


@lru_cache(KEPT)
def _observations(group: _Group) -> dict[str, RunRecord]:
    return _read(group, schedule=False)


@lru_cache(KEPT)
def _schedules(group: _Group) -> dict[str, RunRecord]:
    return _read(group, schedule=True)


def _read(group: _Group, *, schedule: bool) -> dict[str, RunRecord]:
    """The runs of a group, whole but for their schedules, or but for their observations."""
    contents = [attempt.content() for attempt in group.attempts]
    pairs = zip(group.attempts, contents, strict=True)
    found = put_together(attempt.decode(content, schedule=schedule) for attempt, content in pairs)
    if not all(contents):
        raise _Gone(found)
    return found


def held_runs(attempts: Sequence[HeldAttempt]) -> dict[str, RunRecord]:
    """As `attempts.put_together` of runs that continue one another, without reading their observations.

    Args:
        attempts: In an order that every reader finds alike; at least one.
    """
    group = _Group(tuple(attempts))
    only = attempts[0]
    if len(attempts) == 1 and (only.info.continues is None or only.info.continues["step"] <= 0):
        metrics = {metric: len(steps) for metric, steps in only.steps.items()}
        last = {m: _Place(only.info.run, m, steps[-1], only) for m, steps in only.steps.items()}
        return {only.info.run: HeldRecord.of(group, RunRecord(only.info, state=only.state), metrics, last)}
    runs: dict[str, RunRecord] = {}
    for run, known in put_together(map(_places, attempts)).items():
        places: Any = known.observations
        last = {place.metric: place for place in places}
        runs[run] = HeldRecord.of(group, known, dict(Counter(place.metric for place in places)), last)
    return runs


def _places(held: HeldAttempt) -> Attempt:
    """The attempt with the places of its observations."""
    info = held.info
    points: Any = {m: {step: _Place(info.run, m, step, held) for step in s} for m, s in held.steps.items()}
    first, last = min(s[0] for s in held.steps.values()), max(s[-1] for s in held.steps.values())
    return Attempt(info, points, first, last, held.state)


def _fields(record: RunRecord) -> tuple[Any, ...]:
    return tuple(getattr(record, name) for name in RunRecord.__dataclass_fields__)
