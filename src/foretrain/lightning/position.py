"""Where a Trainer is among its optimizer steps, and after which of them it steps a scheduler."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from foretrain.lightning.facts import planned_steps, read_progress
from foretrain.lightning.vetting import Doubt

MOST_STEPS = 10_000_000  # for which the steps of an uneven rhythm are listed

ACCUMULATION, EPOCHS, NO_END = "accumulation changes", "epochs of unknown length", "no end"
TOO_LONG = "too long"


@dataclass(frozen=True)
class Position:
    """Where a Trainer is, at an optimizer step under way.

    Attributes:
        step: Number of this optimizer step, from 1.
        total: Number of the last one.
        epoch: The epoch, from 0.
        batch: The batch in the epoch, from 0.
        batches: Batches in an epoch; infinite where unknown.
        accumulate: Batches for an optimizer step.
    """

    step: int
    total: int
    epoch: int
    batch: int
    batches: float
    accumulate: int

    @property
    def epoch_steps(self) -> float:
        """Optimizer steps in an epoch, whose last window steps even when it is short."""
        return self.batches if math.isinf(self.batches) else math.ceil(self.batches / self.accumulate)

    @property
    def before(self) -> int:
        """Optimizer steps before this epoch."""
        return self.step - math.ceil((self.batch + 1) / self.accumulate)

    def due(self, interval: str, frequency: int) -> Sequence[int]:
        """The optimizer steps after which a scheduler is stepped, from this one to the one before the last.

        Raises:
            Doubt: If they are not known.
        """
        if interval == "step" and (frequency == 1 or math.isinf(self.batches)):
            every = frequency // math.gcd(frequency, self.accumulate)
            return range(self.step + (self.before - self.step) % every, self.total, every)
        if math.isinf(self.batches):
            raise Doubt(EPOCHS)
        steps = int(self.epoch_steps)
        if interval == "epoch":
            first = 1 + -(self.epoch + 1) % frequency
            return range(self.before + first * steps, self.total, steps * frequency)
        if self.total - self.before > MOST_STEPS:
            raise Doubt(TOO_LONG)
        seen = np.minimum(np.arange(1, steps + 1) * self.accumulate, self.batches)
        within = np.flatnonzero(seen % frequency == 0) + 1
        epochs = np.arange(math.ceil((self.total - self.before) / steps))
        due = (self.before + epochs[:, None] * steps + within).ravel()
        return [int(step) for step in due[(due >= self.step) & (due < self.total)]]


def find_position(trainer: Any) -> Position:
    """Where a Trainer is, within an optimizer step.

    Raises:
        Doubt: If its plan has no end.
    """
    if any(type(callback).__name__ == "GradientAccumulationScheduler" for callback in trainer.callbacks):
        raise Doubt(ACCUMULATION)
    total, step = find_total(trainer), int(trainer.global_step) + 1
    if total is None or total < step:
        raise Doubt(NO_END)
    return Position(
        step=step,
        total=total,
        epoch=int(trainer.current_epoch),
        batch=int(trainer.fit_loop.epoch_loop.batch_idx),
        batches=trainer.num_training_batches,
        accumulate=int(trainer.accumulate_grad_batches),
    )


def find_total(trainer: Any) -> int | None:
    """The optimizer steps of the whole run as planned; None where that has no end."""
    return planned_steps(trainer, read_progress(trainer))
