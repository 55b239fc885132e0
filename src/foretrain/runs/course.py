"""A run along its learning-rate schedule: its points by step, data by step, and longer plans of its shape."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from foretrain.axes import AXES
from foretrain.laws.law import Array
from foretrain.observation import RunRecord
from foretrain.reporting.points import usable
from foretrain.runs.annealing import RatePath
from foretrain.runs.curve import RunCurve
from foretrain.schedule import Schedule

LONGEST = 500_000
"""Rates that are held of one run; of a longer run so many steps are taken as one that they suffice."""

CELLS = 20_000
"""Rates that a longer plan of the same shape is made of."""

JUMP = 0.03
"""A change of the rate from one step to the next by this share of the largest is a jump."""

LATELY = 0.5
"""Data for each step is that of the steps after this share of them."""


@dataclass(frozen=True)
class LongPath(RatePath):
    """A schedule with many steps, told in stretches of equal length.

    Attributes:
        rates: Rate at the end of each stretch, shape (n,), as a share of the largest rate.
        each: Steps in a stretch, as the run counts them.
        summed: Training done by the end of each stretch, exactly, shape (n,), in steps at the largest rate.
    """

    each: float
    summed: Array

    def done(self, steps: Array) -> Array:
        """Training done after so many stretches, in steps at the largest rate; see `RatePath.done`."""
        return np.asarray(self.summed[np.asarray(steps, dtype=int) - 1])

    def annealed(self, steps: Array, memory: float) -> Array:
        """How much of the rate has been given up after so many stretches; see `RatePath.annealed`."""
        # The law knows training done and memory only as their product.
        return RatePath(self.rates).annealed(steps, memory * self.each)

    @classmethod
    def along(cls, schedule: Schedule, unit: int = 1, cells: int = CELLS) -> LongPath:
        """The path of a whole schedule that begins with step 1.

        Args:
            schedule: The schedule. Its largest rate is positive.
            unit: Steps that count as one.
            cells: Stretches at most.
        """
        count = min(cells, schedule.end)
        width = schedule.end / count
        ends: Array = np.arange(1, count + 1, dtype=float) * width
        # At whole steps: between the two of a jump lie rates that no step has.
        rates = schedule.at(np.clip(np.floor(ends + 1e-9), 1, schedule.end)) / schedule.peak
        return cls(rates, width / unit, np.asarray(_summed(schedule, ends) / (schedule.peak * unit)))


def stretch(schedule: Schedule, end: int) -> Schedule:
    """The schedule stretched to another number of steps, as `Schedule.stretched`, but with its jumps.

    A law of annealing tells a jump from a steep line: by the time a jump is over, the rate is low, and what
    it gains shows later.

    Args:
        schedule: The schedule, from step 1.
        end: Its new last step.

    Raises:
        ValueError: If the steps do not suffice for the warm-up, or are more than a schedule can have.
    """
    smooth = schedule.stretched(end / schedule.end)
    start = schedule.warmup_end
    ratio = (smooth.end - start) / max(schedule.end - start, 1)
    steps, values = np.array(schedule.steps), np.array(schedule.values)
    sheer = (np.diff(steps) == 1) & (np.abs(np.diff(values)) > JUMP * schedule.peak) & (steps[:-1] >= start)
    knots = dict(smooth.knots)
    for k in np.flatnonzero(sheer):
        before, after = (start + (int(step) - start) * ratio for step in steps[k : k + 2])
        top, flat = math.floor(before), min(math.ceil(after), smooth.end)
        knots = {step: rate for step, rate in knots.items() if not top <= step <= flat}
        knots |= {flat: float(smooth.at(flat)), top: float(values[k]), top + 1: float(values[k + 1])}
    return Schedule.from_knots(sorted(knots.items()), smooth.tolerance)


def _summed(schedule: Schedule, steps: Array) -> Array:
    """Sum of the rates up to given steps, which may lie between two whole ones, shape (n,)."""
    knots, rates = np.array(schedule.steps, dtype=float), np.array(schedule.values)
    width, slope = np.diff(knots), np.zeros(len(knots))
    slope[:-1] = np.diff(rates) / width
    # From the rate v at a knot, the next m steps add m v + slope m (m + 1) / 2.
    pieces = width * rates[:-1] + slope[:-1] * width * (width + 1.0) / 2.0
    at_knots = rates[0] + np.concatenate([[0.0], np.cumsum(pieces)])
    whole = np.clip(np.floor(steps), 0.0, knots[-1])
    knot = np.clip(np.searchsorted(knots, whole, side="right") - 1, 0, len(knots) - 1)
    m = np.maximum(whole - knots[knot], 0.0)
    upto = np.where(whole < 1.0, 0.0, at_knots[knot] + m * rates[knot] + slope[knot] * m * (m + 1.0) / 2.0)
    return np.asarray(upto + (steps - whole) * schedule.at(np.clip(whole + 1.0, 1.0, knots[-1])))


@dataclass(frozen=True)
class Course:
    """A run along its schedule.

    Attributes:
        run: Name of the run.
        params: Trainable parameters; 0 where unknown.
        schedule: The rate of every step to the planned end.
        unit: Steps that count as one in `points`.
        points: Its points, ready for the laws of annealing.
        steps: Optimizer steps of its points, ascending, shape (n,).
        values: The metric there, in its own unit, shape (n,).
        known_steps: Steps at which the data seen are known, ascending, shape (m,): 0, those of the points,
            and the planned end if its data are.
        known_data: Data seen there, in the axis's unit, never falling, shape (m,).
        data_per_step: Data of one step, as seen lately.
    """

    run: str
    params: float
    schedule: Schedule
    unit: int
    points: RunCurve
    steps: Array = field(repr=False)
    values: Array = field(repr=False)
    known_steps: Array = field(repr=False)
    known_data: Array = field(repr=False)
    data_per_step: float

    @property
    def last(self) -> int:
        """Optimizer step of the newest point."""
        return int(self.steps[-1])

    @property
    def end_data(self) -> float:
        """Data seen at the planned end, in the axis's unit."""
        return float(self.data_at(np.array([self.schedule.end]))[0])

    @property
    def is_over(self) -> bool:
        """Whether no further point is to come before the planned end, should points keep their distance."""
        return self.steps.size > 1 and bool(2 * self.steps[-1] - self.steps[-2] > self.schedule.end)

    def in_units(self, steps: Array) -> Array:
        """Steps as `points` counts them, whole numbers from 1 on, shape (n,)."""
        most = self.points.path.rates.size
        return np.clip(np.ceil(np.asarray(steps) / self.unit), 1, most).astype(int)

    def data_at(self, steps: Array) -> Array:
        """Data seen after so many steps, shape (n,), in the axis's unit."""
        beyond = np.maximum(np.asarray(steps) - self.known_steps[-1], 0.0)
        within = np.interp(steps, self.known_steps, self.known_data)
        return np.asarray(within + beyond * self.data_per_step)

    def steps_at(self, data: float) -> float:
        """After how many steps so much data have been seen."""
        beyond = max(data - float(self.known_data[-1]), 0.0)
        return float(np.interp(data, self.known_data, self.known_steps)) + beyond / self.data_per_step

    def longer(self, steps: float) -> LongPath:
        """The path of a run with the same schedule stretched to so many steps.

        Raises:
            ValueError: If they do not suffice for the warm-up, or are more than a schedule can have.
        """
        return LongPath.along(stretch(self.schedule, round(steps)), self.unit)


def why_unknown(record: RunRecord) -> str | None:
    """In a word or two, why the rates of a run up to its planned end are not known; None where they are."""
    if record.schedule is None or record.schedule_unknown is not None:
        return record.schedule_unknown or "not recorded"
    last = max((o.counts.steps for o in record.observations), default=0)
    if record.schedule.first != 1 or record.schedule.peak <= 0 or last > record.schedule.end:
        return "recorded in part"
    return None


def follow(record: RunRecord, metric: str, axis: str, unit: int | None = None) -> Course | None:
    """A run along its schedule.

    Args:
        record: The run.
        metric: Name of the metric.
        axis: The data axis, a key of `AXES`.
        unit: Steps that count as one; by default as few as `LONGEST` allows.

    Returns:
        The course, or None where the schedule is not known, there are no points, or the axis does not grow.
    """
    schedule = record.schedule
    if schedule is None or why_unknown(record) is not None:
        return None
    kept = [(x, o) for x, o in usable(record, metric, axis)[0] if o.counts.steps <= schedule.end]
    if not kept:
        return None
    unit = unit or math.ceil(schedule.end / LONGEST)
    steps = np.array([o.counts.steps for _, o in kept], dtype=float)
    order = np.argsort(steps, kind="stable")
    steps, data = steps[order], np.maximum.accumulate(np.array([x for x, _ in kept])[order])
    values = np.array([o.value for _, o in kept])[order]
    early = steps <= LATELY * steps[-1]
    since = (steps[early][-1], data[early][-1]) if early.any() else (0.0, 0.0)
    per_step = float((data[-1] - since[1]) / (steps[-1] - since[0]))
    if per_step <= 0:
        return None
    rates = schedule.rates()
    if unit > 1:
        rates = rates[: unit * (rates.size // unit)].reshape(-1, unit).mean(axis=1)
    places = np.clip(np.ceil(steps / unit), 1, rates.size)
    known = [(0.0, 0.0), *zip(steps, data, strict=True)]
    planned = record.info.planned
    end_data = None if planned is None else AXES[axis].read(planned)
    if planned is not None and end_data and planned.steps == schedule.end > steps[-1] and end_data > data[-1]:
        known.append((float(schedule.end), end_data))
    known_steps, first = np.unique([s for s, _ in known], return_index=True)
    params = [float(o.counts.params) for _, o in kept if o.counts.params]
    return Course(
        run=record.info.run,
        params=params[-1] if params else 0.0,
        schedule=schedule,
        unit=unit,
        points=RunCurve.of(
            places, values, rates, params=params[-1] if params else 0.0, batch=per_step * unit
        ),
        steps=steps,
        values=values,
        known_steps=known_steps,
        known_data=np.array([x for _, x in known])[first],
        data_per_step=per_step,
    )
