"""The hooks of every training step: what a batch held and which learning rate was used, and no more."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from foretrain.flags import Flag
from foretrain.lightning.counting import BatchCounter
from foretrain.lightning.host import HostCallback, guarded, guards_itself, hold_back, leave_out, take_back
from foretrain.lightning.recording import Recording
from foretrain.lightning.schedule import MOST_NOTED, RateRecorder
from foretrain.report import Report

POLL_EVERY = 16  # training batches, while a fit is under way
IDLE_HOOKS = (  # of every batch, in which there is nothing to do
    *("on_before_zero_grad", "on_before_backward", "on_after_backward"),
    *("on_validation_batch_start", "on_validation_batch_end"),
)


class TrainingPath(HostCallback):
    """What `ScalingLawMonitor` does in every training step.

    The caches are cold there, and every function and object that is touched costs microseconds: a step with
    one optimizer group and a batch that is a plain list of tensors is taken in these bodies alone. Whatever
    else comes goes the long way, through `BatchCounter.add` and `RateRecorder.take`, to the same counts.
    """

    report: Report | None
    flags: tuple[Flag, ...]
    _recording: Recording | None
    _counter: BatchCounter
    _rates: RateRecorder
    _plain: BatchCounter | None = None  # the counter, where the size of the first tensor is all it counts
    # What to note a rate in and what counts the steps, where the rate of one optimizer only has to be noted.
    _noting: tuple[list[tuple[int, float]], Any] | None = None

    def _go_the_long_way(self) -> None:
        """Has the next step look at everything anew."""
        self._plain = self._noting = None
        # Calling a hook costs a step more than most of them do in it: those with nothing to do step aside.
        if self._recording is None:
            take_back(self, (*IDLE_HOOKS, "on_train_batch_start"))
            return
        leave_out(self, TrainingPath, IDLE_HOOKS)
        if self._recording.meter is None:
            leave_out(self, TrainingPath, ("on_train_batch_start",))
        else:
            take_back(self, ("on_train_batch_start",))

    @guarded
    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Has torch count the FLOPs of a batch, where they are to be measured."""
        if self._recording is not None:
            self._recording.begin_measuring(trainer, pl_module)

    def _adopt(self, recording: Recording, trainer: Any, wait: float = 0.0) -> None:
        """Adopts a report, should one have come within so many seconds."""
        self.report = recording.adopt(trainer, wait) or self.report
        self.flags = recording.alarm.flags or self.flags

    @guards_itself
    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Takes the learning rate of this update: schedulers change it before validation."""
        try:
            if self._noting is not None:
                groups = optimizer.param_groups
                if len(groups) == 1 and type(rate := groups[0]["lr"]) is float:
                    noted, steps = self._noting
                    noted.append((steps.completed + 1, rate))
                    return
            if self._recording is not None:
                rates = self._rates
                rates.take(trainer, optimizer)
                self._noting = (rates.noted, rates.steps) if rates.only_notes else None
        except Exception as error:
            hold_back(self, "on_before_optimizer_step", error)

    @guards_itself
    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts the batch."""
        try:
            counter = self._plain
            if counter is not None and (type(batch) is list or type(batch) is tuple) and batch:
                first = batch[0]
                if type(first) is Tensor and (shape := first.shape):
                    counter.batches = batches = counter.batches + 1
                    counter.newest = size = shape[0]
                    counter.samples += size
                    if not batches % POLL_EVERY:
                        self._poll(trainer)
                    return
            recording = self._recording
            if recording is not None:
                self._count(recording, trainer, batch)
        except Exception as error:
            hold_back(self, "on_train_batch_end", error)

    def _poll(self, trainer: Any) -> None:
        recording = self._recording
        if len(self._rates.noted) >= MOST_NOTED:
            self._rates.enter()
        if recording is not None and recording.due:
            self._adopt(recording, trainer)

    def _count(self, recording: Recording, trainer: Any, batch: Any) -> None:
        """Counts a batch, and does what is due after it."""
        counter = self._counter
        counter.add(batch)
        if recording.meter is not None:
            recording.measure()
            if recording.meter is None:
                self._go_the_long_way()  # which leaves out the hook that began to measure
        if recording.by_batch:
            recording.look(trainer)
        if counter.batches == 1 and counter.began is None:
            recording.first_batch(trainer)
        elif counter.batches == 2:
            recording.second_batch(trainer)
        elif not counter.batches % POLL_EVERY:
            self._poll(trainer)
        plain = counter.only_sizes and recording.meter is None and not recording.by_batch
        self._plain = counter if plain and counter.batches > 1 else None
