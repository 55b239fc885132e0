"""A logged run as records: what the log and the user say, together."""

from __future__ import annotations

import bisect
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from foretrain.axes import Counts
from foretrain.conventions import DATA_POLICY
from foretrain.importers.declared import IMPORTED, Declared
from foretrain.importers.logs import LogError, LoggedRun, Point, as_number, is_finite, variants
from foretrain.observation import Observation, Plan, RunInfo, ScheduleUpdate
from foretrain.schedule import Schedule

COUNTED = ("params", "samples", "tokens", "flops", "unique_samples")
"""The conventions that another run's may be declared equal to."""


@dataclass(frozen=True)
class ImportedRun:
    """A run as it will be recorded.

    Attributes:
        info: The run; its conventions say what it was imported from.
        observations: In order of their steps.
        schedule: Its learning rates, where they are known at every step.
        state: "finished", "failed" or "running".
        problems: What of the log was left out, as sentences.
    """

    info: RunInfo
    observations: tuple[Observation, ...]
    schedule: ScheduleUpdate | None
    state: str
    problems: tuple[str, ...] = ()


def as_recorded(
    logged: LoggedRun, declared: Declared, *, source: str, study: str, prefix: str = "", like: RunInfo | None
) -> ImportedRun:
    """A logged run as records.

    Args:
        logged: What the log says.
        declared: What the user says.
        source: The kind of log.
        study: Name of the study.
        prefix: Put before the run's name.
        like: The run whose ways of counting are declared to be the same.

    Raises:
        LogError: If the log lacks what is asked for.
    """
    run = prefix + logged.name
    problems = list(logged.problems)
    params = _setting(logged, declared.params_setting, declared.params)
    samples_per_step = _setting(logged, declared.samples_setting, declared.samples_per_step)
    steps = _Steps(logged, declared)
    count = _Counter(logged, declared, steps, samples_per_step, params)
    rates = _rates(logged, declared, steps)
    observations, left_out = [], 0
    for metric in declared.metrics:
        name = next((name for name in variants(metric) if logged.series.get(name)), None)
        if name is None:
            continue
        for point in logged.series[name]:
            counts = count.at(point.step)
            if counts is None:
                left_out += 1
                continue
            rate = _last_until(rates, counts.steps)
            recorded = declared.record_as or metric
            observations.append(Observation(run, recorded, point.value, counts, rate, time=point.time))
    if not observations:
        raise LogError(_nothing(logged, declared, left_out))
    if left_out:
        problems.append(f"{left_out} values were left out: what had been used by then was not logged.")
    observations.sort(key=lambda o: (o.counts.steps, o.metric))
    state = logged.state or ("finished" if declared.finished else "running")
    schedule = _schedule(rates, declared.lr_between, int(observations[-1].counts.steps))
    conventions = declared.conventions() if like is None else _same_as(like, declared)
    conventions["metric"] = observations[0].metric
    info = RunInfo(run, study, conventions=conventions, started=observations[0].time)
    told = ImportedRun(info, tuple(observations), schedule, state, tuple(problems))
    declaration = "" if like is None else f"; counts declared equal to those of {like.run}"
    conventions[IMPORTED] = f"{source}; {_digest(told)}{declaration}"
    return told


def _same_as(like: RunInfo, declared: Declared) -> dict[str, str]:
    missing = [
        f"{name} ({flag})"
        for name, flag in (("tokens", "--tokens-per-step"), ("params", "--params"))
        if name in like.conventions and name not in declared.conventions()
    ]
    if missing:
        raise LogError(
            f"Expected what {like.run!r} counts to be counted here too, {' and '.join(missing)} is missing: "
            "pass it, or leave out --like."
        )
    policy = {} if declared.data_policy is None else {DATA_POLICY: declared.data_policy}
    return {name: rule for name, rule in like.conventions.items() if name in COUNTED} | policy


def _nothing(logged: LoggedRun, declared: Declared, left_out: int) -> str:
    wanted = " or ".join(repr(metric) for metric in declared.metrics)
    if left_out:
        keys = [declared.samples_key, declared.tokens_key, declared.flops_key, declared.steps_key]
        named = ", ".join(repr(key) for key in keys if key is not None)
        return f"{logged.name}: none of {named} was logged where {wanted} was: pass other keys."
    known = ", ".join(sorted(logged.names)[:40]) or "nothing"
    return f"{logged.name}: {wanted} was not logged; pass one of these as --metric: {known}."


def _setting(logged: LoggedRun, name: str | None, given: float | None) -> float | None:
    if name is None:
        return given
    if name not in logged.settings:
        known = ", ".join(sorted(logged.settings)[:40]) or "none"
        raise LogError(
            f"{logged.name}: the hyperparameter {name!r} was not logged; those logged are: {known}."
        )
    number = as_number(logged.settings[name])
    if number is None or not (is_finite(number) and number > 0):
        raise LogError(
            f"{logged.name}: expected a number above zero as hyperparameter {name!r}, "
            f"got {logged.settings[name][:80]!r}: give the number itself instead."
        )
    return number


class _Steps:
    """How many optimizer steps had been done when something was logged."""

    def __init__(self, logged: LoggedRun, declared: Declared) -> None:
        self._key = declared.steps_key
        self._logged = () if self._key is None else logged.series.get(self._key, ())
        self._offset = 1 - declared.first_step

    def at(self, step: int) -> int | None:
        if self._key is None:
            return step + self._offset
        done = _at(self._logged, step)
        return None if done is None or not is_finite(done) or done < 0 else round(done) + self._offset


class _Counter:
    """What a run had used at a logged step."""

    def __init__(
        self,
        logged: LoggedRun,
        declared: Declared,
        steps: _Steps,
        samples_per_step: float | None,
        params: float | None,
    ) -> None:
        self._logged, self._declared, self._steps = logged, declared, steps
        self._samples_per_step = samples_per_step
        self._params = None if params is None else round(params)

    def at(self, step: int) -> Counts | None:
        """The counts; None where something that is asked for is not known there."""
        declared, done = self._declared, self._steps.at(step)
        if done is None:
            return None
        samples = self._count(declared.samples_key, self._samples_per_step, step, done)
        tokens = self._count(declared.tokens_key, declared.tokens_per_step, step, done)
        flops = self._count(declared.flops_key, None, step, done)
        asked = ((declared.tokens_key, tokens), (declared.flops_key, flops))
        if samples is None or any(key is not None and value is None for key, value in asked):
            return None
        size = declared.dataset_size
        return Counts(
            samples=round(samples),
            steps=done,
            epochs=0.0 if size is None else samples / size,
            tokens=None if tokens is None else round(tokens),
            unique_samples=None if size is None else min(round(samples), size),
            params=self._params,
            flops=flops,
        )

    def _count(self, key: str | None, per_step: float | None, step: int, done: int) -> float | None:
        if key is None:
            return None if per_step is None else per_step * done
        value = _at(self._logged.series.get(key, ()), step)
        return value if value is not None and is_finite(value) and value >= 0 else None


def _at(points: Sequence[Point], step: int) -> float | None:
    """The number at a step, on the straight line between two logged ones; None beyond them."""
    place = bisect.bisect_left(points, step, key=lambda point: point.step)
    if place == len(points):
        return None
    after = points[place]
    if after.step == step:
        return after.value
    if place == 0:
        return None
    before = points[place - 1]
    return before.value + (after.value - before.value) * (step - before.step) / (after.step - before.step)


def _rates(logged: LoggedRun, declared: Declared, steps: _Steps) -> list[tuple[int, float]]:
    """The logged learning rates by the update that they were of, rising."""
    if declared.lr_key is None:
        return []
    points = logged.series.get(declared.lr_key)
    if not points:
        known = ", ".join(sorted(logged.names)[:40]) or "nothing"
        raise LogError(
            f"{logged.name}: {declared.lr_key!r} was not logged; pass one of these as --lr-key: {known}."
        )
    found: dict[int, float] = {}
    for point in points:
        update = steps.at(point.step)
        if update is not None and update >= 1 and is_finite(point.value) and point.value >= 0:
            found[update] = point.value
    return sorted(found.items())


def _last_until(rates: Sequence[tuple[int, float]], step: int) -> float | None:
    place = bisect.bisect_right(rates, step, key=lambda rate: rate[0])
    return rates[place - 1][1] if place else None


def _schedule(rates: Sequence[tuple[int, float]], between: str | None, last: int) -> ScheduleUpdate | None:
    """The rates of every step up to the last one, as the user says they went between the logged ones."""
    rates = [(step, rate) for step, rate in rates if step <= last]
    if between is None or not rates:
        return None
    knots = [(1, rates[0][1])] if rates[0][0] > 1 else []
    for step, rate in rates:
        if between == "hold" and knots and knots[-1][1] != rate and knots[-1][0] < step - 1:
            knots.append((step - 1, knots[-1][1]))
        knots.append((step, rate))
    if knots[-1][0] < last:
        knots.append((last, knots[-1][1]))
    return ScheduleUpdate(Schedule.from_knots(knots), Plan(None, "not logged"))


def _digest(run: ImportedRun) -> str:
    """A short digest of all that will be recorded: the same log imported again has the same one."""
    record = [
        run.info.to_json(),
        [observation.to_json() for observation in run.observations],
        None if run.schedule is None else run.schedule.to_json(),
        run.state,
    ]
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]
