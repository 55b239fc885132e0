"""The flags of a recorded run: its validations replayed in order, beside the earlier runs of its study."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from foretrain.conventions import signature
from foretrain.flagging.family import Curve
from foretrain.flagging.replay import Replay, places_of
from foretrain.flags import Flag
from foretrain.observation import Observation, RunRecord
from foretrain.runs.annealing import RatePath
from foretrain.schedule import Schedule

FALSE_ALARM_RATE = 0.01
"""Share of healthy runs that raise any flag, where nothing else is asked for."""

MOST_EARLIER = 16
"""Earlier runs that a run is compared with."""

MOST_POINTS = 128
"""Validations of an earlier run that are compared with; of more so many are taken, evenly over the run."""

FEWEST = 8
"""Validations of an earlier run, at least."""

ALIKE_DATA = 1.1
"""Runs whose data for each step differ by more than this factor are not of one recipe."""

LONGEST = 5_000_000
"""Learning rates of longer runs are taken as unknown: every one is held."""

KEPT = 64
"""Runs whose replays are held, to be gone on with."""


class FlagBook:
    """Replays of runs, gone on with where a run has new validations. To be used by one thread.

    What it tells is what replays from the beginning would tell, as long as the earlier runs stay as they are.

    Args:
        false_alarm_rate: Share of healthy runs that raise any flag.
    """

    def __init__(self, false_alarm_rate: float = FALSE_ALARM_RATE) -> None:
        self._rate = false_alarm_rate
        self._replayed: OrderedDict[tuple[str, str], _Replayed] = OrderedDict()
        self._earlier: OrderedDict[tuple[str, str, bool], tuple[RunRecord, Curve | None]] = OrderedDict()

    def flags(self, runs: Mapping[str, RunRecord], run: str, metric: str) -> tuple[Flag, ...]:
        """The flags that a run's validations raise, in the order in which they did.

        Args:
            runs: The study's runs by name, among them the one asked about.
            run: Its name.
            metric: Name of the metric.
        """
        record = runs[run]
        told = validations(record, metric)
        rates = _rates(record, told)
        key = (run, metric)
        held = self._replayed.pop(key, None)
        if held is None or not held.goes_on(told, rates):
            library = list(self._library(runs, record, metric, rates is not None))
            held = _Replayed(rates, library, self._rate, _params(record))
        held.take(told, rates)
        self._replayed[key] = held
        while len(self._replayed) > KEPT:
            self._replayed.popitem(last=False)
        return tuple(held.flags)

    def _library(
        self, runs: Mapping[str, RunRecord], record: RunRecord, metric: str, with_rates: bool
    ) -> Iterator[Curve]:
        every = (self._curve(earlier, metric, with_rates) for earlier in earlier_runs(runs, record, metric))
        return islice((curve for curve in every if curve is not None), MOST_EARLIER)

    def _curve(self, record: RunRecord, metric: str, with_rates: bool) -> Curve | None:
        """An earlier run to be compared with; None where it is none, or is flagged by its own past."""
        key = (record.info.run, metric, with_rates)
        if key not in self._earlier or self._earlier[key][0] is not record:
            self._earlier[key] = record, _sound_curve(record, metric, with_rates)
        self._earlier.move_to_end(key)
        while len(self._earlier) > 4 * KEPT:
            self._earlier.popitem(last=False)
        return self._earlier[key][1]


def validations(record: RunRecord, metric: str) -> list[tuple[int, float]]:
    """Step and value of the validations that the newest attempt of a run stands on, in order of step.

    What an earlier attempt measured beyond the newest one's last validation belongs to weights that were
    thrown away. Left out are also values that are zero or negative, which no error has, numbers from before
    the first update, and, unless they are not finite, those of a model that was pruned since the first: it
    is meant to lose something.
    """
    told = [
        o
        for o in record.observations
        if o.metric == metric and (not math.isfinite(o.value) or (o.value > 0 and o.counts.steps > 0))
    ]
    told = [o for o in told if _kept(o) == _kept(told[0]) or not math.isfinite(o.value)]
    inherited = max(record.past.values(), default=0)
    own = [o for o in told if o.counts.steps > inherited]
    newest = max((o.attempt for o in own), default=0)
    last = max((o.counts.steps for o in own if o.attempt == newest), default=inherited)
    # One object stands for all that are not a number, so that lists of them are equal.
    values = ((int(o.counts.steps), math.nan if math.isnan(o.value) else o.value) for o in told)
    return [(step, value) for step, value in values if step <= last]


def _kept(observation: Observation) -> float:
    """Share of the parameters that pruning left."""
    density = observation.counts.density
    return 1.0 if density is None else density


def earlier_runs(runs: Mapping[str, RunRecord], record: RunRecord, metric: str) -> Iterator[RunRecord]:
    """The study's runs that a run may be compared with: the nearest in size, of those the newest first.

    They have finished before the first validation of the run, by the clocks of their machines, were counted
    by the same conventions, take as much data in a step, are pruned to the same density if at all, and share
    no past with it. Runs whose times are not known count as earlier.
    """
    own = _Measured.of(record, metric)
    if own is None:
        return
    counted = signature(record.info.conventions)
    found: list[tuple[float, float, str]] = []
    for name, other in runs.items():
        if other.state != "finished" or name == record.info.run:
            continue
        if name in record.past or record.info.run in other.past or other.past.keys() & record.past.keys():
            continue
        if signature(other.info.conventions) != counted:
            continue
        theirs = _Measured.of(other, metric)
        if theirs is None or theirs.count < FEWEST or not theirs.alike(own):
            continue
        if theirs.until is not None and own.since is not None and not theirs.until < own.since:
            continue
        found.append((theirs.apart(own), -(theirs.until or 0.0), name))
    for _, _, name in sorted(found):
        yield runs[name]


@dataclass(frozen=True)
class _Measured:
    """When a run was measured, and how it was counted at its newest observation."""

    count: int
    since: float | None
    until: float | None
    params: float | None
    data_per_step: float
    kept: float

    @classmethod
    def of(cls, record: RunRecord, metric: str) -> _Measured | None:
        told = [o for o in record.observations if o.metric == metric and o.counts.steps > 0]
        if not told:
            return None
        counts = told[-1].counts
        data = float(counts.samples or 0) / counts.steps
        return cls(len(told), told[0].time, told[-1].time, _params(record), data, _kept(told[-1]))

    def alike(self, other: _Measured) -> bool:
        if self.kept != other.kept:
            return False
        if not self.data_per_step or not other.data_per_step:
            return True
        return abs(math.log(self.data_per_step / other.data_per_step)) <= math.log(ALIKE_DATA)

    def apart(self, other: _Measured) -> float:
        return abs(math.log(self.params / other.params)) if self.params and other.params else 0.0


def _rates(record: RunRecord, told: Sequence[tuple[int, float]]) -> Schedule | None:
    """The learning rates of a run, those used and those planned from there; None where they are not known.

    What is to come need not be known: a validation is judged by the rates up to it.
    """
    schedule, last = record.schedule, told[-1][0] if told else 0
    if schedule is None or schedule.first != 1 or schedule.peak <= 0:
        return None
    return schedule if last <= schedule.end <= LONGEST else None


def _agree(one: Schedule, other: Schedule, until: int) -> bool:
    """Whether two schedules have the same largest rate, and the same rates up to a step."""
    if one == other:
        return True
    within = 1e-6 * one.peak + one.tolerance + other.tolerance
    if abs(one.peak - other.peak) > within or min(one.end, other.end) < until:
        return False
    steps = np.unique(np.clip([*one.steps, *other.steps], 1, max(until, 1)))
    return bool((np.abs(one.at(steps) - other.at(steps)) <= within).all())


def _sound_curve(record: RunRecord, metric: str, with_rates: bool) -> Curve | None:
    """A finished run to be compared with; None where it is none, or its own past flags it."""
    told = validations(record, metric)
    if not all(math.isfinite(value) for _, value in told):
        return None
    rates = _rates(record, told)
    if len(told) < FEWEST or (with_rates and rates is None):
        return None
    told = [told[i] for i in np.unique(np.linspace(0, len(told) - 1, MOST_POINTS).astype(int))]
    alone = _Replayed(rates if with_rates else None, (), FALSE_ALARM_RATE)
    alone.take(told, alone.rates)
    if any(flag.leaves_out for flag in alone.flags):
        return None
    steps, values = (np.array(column) for column in zip(*told, strict=True))
    peak = None if alone.rates is None else alone.rates.peak
    return Curve(alone.path, steps, np.log(values), peak, _params(record))


def _params(record: RunRecord) -> float | None:
    """Size of a run's model, by its last observation; None where that is not known."""
    counts = record.observations[-1].counts if record.observations else None
    return None if counts is None or not counts.params else float(counts.params)


class _Replayed:
    """One run's replay so far, and the flags that it raised.

    Attributes:
        rates: Its learning rates; None where they are not known.
        path: The same, laid out.
        flags: In the order in which they were raised.
    """

    def __init__(
        self,
        rates: Schedule | None,
        library: Sequence[Curve],
        false_alarm_rate: float,
        params: float | None = None,
    ) -> None:
        self.rates, self.path = rates, None if rates is None else RatePath.of(rates.rates())
        peak = None if rates is None else rates.peak
        self._replay = Replay(self.path, peak, library, false_alarm_rate, params)
        self._taken: list[tuple[int, float]] = []
        self.flags: list[Flag] = []

    def goes_on(self, told: Sequence[tuple[int, float]], rates: Schedule | None) -> bool:
        """Whether what is told now begins with what was taken, under the same rates."""
        taken = len(self._taken)
        if told[:taken] != self._taken:
            return False
        if rates is None or self.rates is None:
            return rates is self.rates
        return _agree(self.rates, rates, self._taken[-1][0] if self._taken else 0)

    def take(self, told: Sequence[tuple[int, float]], rates: Schedule | None) -> None:
        """Takes the validations that are new."""
        new = told[len(self._taken) :]
        if not new:
            return
        if rates is not None and self.rates is not None and not _agree(self.rates, rates, new[-1][0]):
            self.rates, self.path = rates, RatePath.of(rates.rates())
            self._replay.follow(self.path)
        steps = np.array([step for step, _ in new])
        # One from before the first update has no place, and none is asked for: it is not finite.
        at = places_of(Curve(self.path, np.maximum(steps, 1), np.zeros(len(new)), None))
        for (step, value), place in zip(new, at, strict=True):
            if math.isfinite(value):
                self.flags += self._replay.update(step, value, place)
            else:
                self.flags += self._replay.not_finite(step, value)
        self._taken += new
