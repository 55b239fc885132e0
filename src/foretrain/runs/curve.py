"""One run's points along its learning-rate schedule, ready to be fitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from foretrain.laws.law import Array
from foretrain.runs.annealing import MEMORIES, RatePath

CELLS = 48
"""More points of one curve than this are averaged in cells of ln S."""


MOST_OFF = float(np.log(10.0))
"""Ln of the ratio of two runs' errors, after as much training, beyond which neither tells of the other."""


@dataclass(frozen=True)
class RunCurve:
    """One run's points, ready to be fitted.

    Attributes:
        path: Its learning rate.
        steps: Optimizer steps of each point, shape (n,), ascending, after warm-up.
        done: Training done there, `path.done`, of cells the mean in ln S; shape (n,).
        annealed: `path.annealed` there, for each of `MEMORIES`; shape (k, n).
        log_y: Log of the metric, shape (n,).
        params: Trainable parameters; 0 where unknown.
        batch: Data of one step, in the unit of the data axis; 0 where unknown.
    """

    path: RatePath
    steps: Array
    done: Array
    annealed: Array
    log_y: Array
    params: float = 0.0
    batch: float = 0.0

    @classmethod
    def of(cls, step: Array, y: Array, lr: Array, *, params: float = 0.0, batch: float = 0.0) -> RunCurve:
        """Sorts the points, leaves out those of warm-up where others are left, and averages many in cells.

        Args:
            step: Optimizer steps at which y was measured, shape (n,), whole numbers from 1 to T.
            y: The metric, shape (n,). Positive.
            lr: Rate of every step, shape (T,). None negative, one positive.
            params: Trainable parameters; 0 where unknown.
            batch: Data of one step; 0 where unknown.
        """
        path = RatePath.of(lr)
        order = np.argsort(step, kind="stable")
        steps, log_y = np.asarray(step)[order].astype(int), np.log(np.asarray(y, dtype=float)[order])
        after = steps >= path.warmup_end
        if after.sum() >= 3:
            steps, log_y = steps[after], log_y[after]
        log_done = np.log(np.maximum(path.done(steps), 1e-12))
        annealed = np.stack([path.annealed(steps, memory) for memory in MEMORIES])
        if steps.size > CELLS:
            width = max((log_done[-1] - log_done[0]) / CELLS, 1e-12)
            cell = np.floor((log_done - log_done[-1]) / width)
            first = np.concatenate([[0], np.flatnonzero(np.diff(cell)) + 1])
            many = np.diff(np.append(first, steps.size))
            log_done, log_y = np.add.reduceat(log_done, first) / many, np.add.reduceat(log_y, first) / many
            annealed = np.add.reduceat(annealed, first, axis=1) / many
            steps = steps[np.append(first[1:], steps.size) - 1]
        return cls(path, steps, np.exp(log_done), annealed, log_y, params, batch)

    def until(self, done: float) -> RunCurve:
        """The points up to so much training, at least one."""
        count = max(int((self.done <= done).sum()), 1)
        return replace(
            self,
            steps=self.steps[:count],
            done=self.done[:count],
            annealed=self.annealed[:, :count],
            log_y=self.log_y[:count],
        )

    def larger(self, other: RunCurve) -> float:
        """The log of its size over that of another run; 0 where one is unknown."""
        return _log_ratio(self.params, other.params)

    def log_data(self, other: RunCurve) -> Array:
        """Ln S, shape (n,), with S as the steps in which another run sees as much data."""
        return np.asarray(np.log(self.done) + _log_ratio(self.batch, other.batch))

    @property
    def end(self) -> float:
        """Training done by the last planned step."""
        return float(self.path.done(np.array([self.path.rates.size]))[0])


def same_level(run: RunCurve, library: Sequence[RunCurve]) -> list[RunCurve]:
    """The earlier runs whose error, after as much training as the run's, is of its order of magnitude.

    Others are of another task, or have another unit. Runs with no training in common are kept.
    """
    kept = []
    for earlier in library:
        at, known = np.log(run.done), earlier.log_data(run)
        common = (known[0] <= at) & (at <= known[-1])
        off = run.log_y[common] - np.interp(at[common], known, earlier.log_y)
        if not off.size or abs(float(np.median(off))) <= MOST_OFF:
            kept.append(earlier)
    return kept


def _log_ratio(one: float, other: float) -> float:
    return float(np.log(one / other)) if one > 0 and other > 0 else 0.0
