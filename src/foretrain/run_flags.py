"""The flags of a recorded run: its validations replayed in order, beside the earlier runs of its study."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import numpy as np

from foretrain.flagging.earlier import FEWEST, data_per_step, earlier_runs, kept, params_of
from foretrain.flagging.family import Curve, same_size
from foretrain.flagging.replay import Replay, places_of
from foretrain.flagging.sizes import MOST_RUNS, MOST_SIZES
from foretrain.flags import Flag
from foretrain.observation import RunRecord
from foretrain.runs.annealing import RatePath
from foretrain.schedule import Schedule

FALSE_ALARM_RATE = 0.01
"""Share of healthy runs that raise any flag, where nothing else is asked for."""

MOST_EARLIER = 16
"""Earlier runs that a run is compared with."""

MOST_POINTS = 128
"""Validations of an earlier run that are compared with; of more so many are taken, evenly over the run."""

ALIKE_SIZES = 8.0
"""Runs of other sizes may tell where their data for each step differ by no more than this factor: larger
models often take larger batches."""

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
            sizes = [] if rates is None else self._sizes(runs, record, metric)
            per_step = data_per_step(record, metric)
            held = _Replayed(rates, library, self._rate, params_of(record), per_step, sizes)
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

    def _sizes(self, runs: Mapping[str, RunRecord], record: RunRecord, metric: str) -> list[Curve]:
        """Earlier runs for the law of sizes: a few of each of the nearest sizes, the newest first."""
        per_step = data_per_step(record, metric)
        groups: list[list[Curve]] = []
        for earlier in earlier_runs(runs, record, metric, within=ALIKE_SIZES):
            params = params_of(earlier)
            group = next((group for group in groups if same_size(group[0].params, params)), None)
            if not params or (len(groups) > MOST_SIZES if group is None else len(group) == MOST_RUNS):
                continue
            curve = self._curve(earlier, metric, with_rates=True)
            # Of runs whose data are not known a step counts as one, which is no measure beside those known.
            if curve is None or abs(math.log(curve.per_step / per_step)) > math.log(ALIKE_SIZES):
                continue
            if group is None:
                groups.append([curve])
            else:
                group.append(curve)
        return [curve for group in groups for curve in group]

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
    told = [o for o in told if kept(o) == kept(told[0]) or not math.isfinite(o.value)]
    inherited = max(record.past.values(), default=0)
    own = [o for o in told if o.counts.steps > inherited]
    newest = max((o.attempt for o in own), default=0)
    last = max((o.counts.steps for o in own if o.attempt == newest), default=inherited)
    # One object stands for all that are not a number, so that lists of them are equal.
    values = ((int(o.counts.steps), math.nan if math.isnan(o.value) else o.value) for o in told)
    return [(step, value) for step, value in values if step <= last]


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
    per_step = data_per_step(record, metric)
    return Curve(alone.path, steps, np.log(values), peak, params_of(record), per_step)


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
        per_step: float = 1.0,
        sizes: Sequence[Curve] = (),
    ) -> None:
        self.rates, self.path = rates, None if rates is None else RatePath.of(rates.rates())
        peak = None if rates is None else rates.peak
        run = Curve(self.path, np.array([], dtype=int), np.array([]), peak, params, per_step)
        self._replay = Replay(run, library, false_alarm_rate, sizes)
        self._taken: list[tuple[int, float]] = []
        self.flags: list[Flag] = []

    def goes_on(self, told: Sequence[tuple[int, float]], rates: Schedule | None) -> bool:
        """Whether what is told now begins with what was taken, under the same rates."""
        taken = len(self._taken)
        # One that has taken nothing was made before it could be known which runs are earlier.
        if not taken or told[:taken] != self._taken:
            return False
        if rates is None or self.rates is None:
            return rates is self.rates
        return _agree(self.rates, rates, self._taken[-1][0])

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
