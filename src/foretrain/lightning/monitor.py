"""ScalingLawMonitor: the callback that counts, observes and logs where a run is heading."""

from __future__ import annotations

import functools
import os
import weakref
from collections.abc import Callable, Iterable
from typing import Any, Literal

from foretrain.flags import Flag
from foretrain.lightning.alarm import stop_together
from foretrain.lightning.counting import BatchCounter
from foretrain.lightning.distinct import unique_samples
from foretrain.lightning.facts import Place, validates_fit, why_not_recorded
from foretrain.lightning.host import guarded, hold_back, version_fault, warn
from foretrain.lightning.parameters import ModelSize, count_parameters
from foretrain.lightning.recording import Recording, begin
from foretrain.lightning.resume import Past, is_fresh
from foretrain.lightning.schedule import RateRecorder
from foretrain.lightning.settings import Settings, as_numbers, as_path
from foretrain.lightning.training_path import TrainingPath
from foretrain.report import Report


class ScalingLawMonitor(TrainingPath):
    """Records a validation metric against the data seen, and logs where its scaling law is heading.

    After every validation of `fit` one observation is kept beside the logs, a fit is asked for in a child
    process, and its projections are logged as `scaling/...` when they come. All runs whose loggers share a
    `save_dir` form one study. Works in a Trainer of `lightning.pytorch` and of `pytorch_lightning`.

    Nothing in it can end a training run, change it, or wait for a device on the training path: what goes
    wrong here is one warning.

    Args:
        monitor: The metric, as the module logs it in validation.
        mode: "min" for a metric that falls, such as a loss or an error rate; "max" for one that grows, such
            as an accuracy, of which the law takes the error `bound - metric`.
        bound: With `mode="max"` the best value the metric can have: 1 for fractions, 100 for percents. By
            default 1.
        axis: What is taken as the amount of data: "tokens", "samples", "unique_samples", "flops", "steps" or
            "epochs". By default tokens where they are known, else samples.
        targets: Amounts of data to project to, in the axis, beside 2, 10 and 100 times what was seen.
        target_params: Model sizes to project to, in parameters; needs a study with several sizes.
        study: Name of the study.
        run: Name of the run in its study; by default its log directory, relative to the logger's `save_dir`.
        root: Directory of the observations; by default `foretrain` in the logger's `save_dir`.
        batch_size_fn: Samples in a batch. By default the size of the first dimension of the first tensor.
        length_fn: Tokens in a batch, all its samples together. By default counted for batches with
            `input_ids`, without what `attention_mask` masks.
        model_size: Parameters as the law should count them: "trainable", which is the default, "total",
            "non_embedding", a number, or a function of the module.
        flops_per_sample: Training FLOPs of one sample, or "measured" to have torch count them on the second
            batch; by default 6 times parameters times tokens (or samples), less where weights are frozen.
        fit: Whether projections are made; observations are recorded in any case.
        final_wait: Most seconds to wait for the last projection when the fit ends.
        on_flag: Called with each `Flag` that is new, on rank zero, between batches or after a validation.
        action: "warn", or "stop" to end the fit once a flag is grave enough: on all processes together, at
            the end of a validation, after a checkpoint was saved.
        stop_at: The least severity for which it is ended: "notice", "warning" or "critical".
        data_policy: The rule that selected the training data, such as "hardest half by margin"; by default a
            random sample. Runs of different policies are never fitted together.
        name: What sets this monitor apart from others of the same Trainer, in the names of its scalars and
            in checkpoints. By default what they differ in.

    Attributes:
        settings: The arguments, checked.
        report: The newest report, or None.
        flags: The flags of the run, as far as they are known, on rank zero.

    Raises:
        ValueError: If an argument cannot be meant.

    Example::

        trainer = Trainer(callbacks=ScalingLawMonitor("val_loss", targets=[1e9]))
        trainer.fit(model)
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        *,
        mode: Literal["min", "max"] = "min",
        bound: float | None = None,
        axis: str | None = None,
        targets: Iterable[float] = (),
        target_params: Iterable[float] = (),
        study: str = "default",
        run: str | None = None,
        root: str | os.PathLike[str] | None = None,
        # LightningCLI compares what a function is annotated to return: `Any` lets every one pass.
        batch_size_fn: Callable[[Any], Any] | None = None,
        length_fn: Callable[[Any], Any] | None = None,
        model_size: int | Literal["trainable", "total", "non_embedding"] | Callable[[Any], Any] | None = None,
        flops_per_sample: float | Literal["measured"] | None = None,
        fit: bool = True,
        final_wait: float = 10.0,
        on_flag: Callable[[Any], Any] | None = None,
        action: Literal["warn", "stop"] = "warn",
        stop_at: Literal["notice", "warning", "critical"] = "critical",
        data_policy: str | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__()
        self.settings = Settings(
            monitor=monitor,
            axis=axis,
            targets=as_numbers("targets", targets),
            target_params=as_numbers("target_params", target_params),
            study=study,
            run=run,
            root=as_path(root),
            batch_size_fn=batch_size_fn,
            length_fn=length_fn,
            model_size=model_size,
            flops_per_sample=flops_per_sample,
            fit=fit,
            final_wait=final_wait,
            mode=mode,
            bound=bound,
            name=name,
            on_flag=on_flag,
            action=action,
            stop_at=stop_at,
            data_policy=data_policy,
        )
        self.report: Report | None = None
        self.flags: tuple[Flag, ...] = ()
        self._counter = BatchCounter(batch_size_fn, length_fn)
        self._size: ModelSize | None = None
        self._place: Place | None = None
        self._loaded: Past | None = None
        self._distinct: int | None = None  # distinct samples, in a copy, which has no Trainer to ask
        self._rates = RateRecorder()
        self._stage: str | None = None
        self._said: set[str] = set()
        self._stopped = False
        self._let_go()

    def _let_go(self) -> None:
        """Drops what belongs to a fit under way and can be neither copied nor pickled."""
        self._trainer: weakref.ref[Any] | None = None
        self._recording: Recording | None = None
        self._go_the_long_way()

    def __getstate__(self) -> dict[str, Any]:
        """The monitor without its open file and child process, for copies and for spawned processes."""
        self._counter.read()  # takes counts off the device
        copy = type(self).__new__(type(self))
        copy.__dict__.update(self.__dict__)
        copy._distinct = self._find_distinct()
        copy._let_go()
        state = dict(copy.__dict__)
        for name in ("log", "log_dict"):  # lent by the Trainer; they would take the model along
            state.pop(name, None)
        return state

    @functools.cached_property  # which is a plain attribute to the profiler, which asks around every hook
    def state_key(self) -> str:
        """Apart for what monitors of one Trainer differ in, so that all can be in one checkpoint."""
        return str(self._generate_state_key(**self.settings.identity))

    def warn_once(self, key: str, message: str) -> None:
        """Warns, unless it already did so under this key."""
        if key not in self._said:
            self._said.add(key)
            warn(message)

    # State in checkpoints

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs: its name and what it had counted."""
        return self._state() or {}

    @guarded
    def _state(self) -> dict[str, Any] | None:
        past = self._loaded or self._past()
        return None if past is None else past.to_state()

    def _past(self) -> Past | None:
        if self._place is None:
            return None
        counter, schedule = self._counter, self._rates.to_state()
        return Past(self._place.run, *counter.read(), counter.tokens_rule, self._find_distinct(), schedule)

    @guarded  # so that trouble with them costs no counts
    def _find_distinct(self) -> int | None:
        trainer = None if self._trainer is None else self._trainer()
        if trainer is None:
            return self._distinct
        return unique_samples(trainer, self._counter.read()[0], self._counter)

    @guarded
    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Takes up the counts that another monitor of the run left, where none is as this one is now."""
        # A run goes on counting when it is resumed with another metric, axis or study.
        states = checkpoint.get("callbacks") or {}
        ours = [state for key, state in states.items() if str(key).startswith(f"{type(self).__qualname__}{{")]
        if ours and self.state_key not in states:
            self.load_state_dict(ours[0])

    @guarded
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up the counts of a checkpoint; they count from the next `fit` on."""
        # `validate` and `test` load checkpoints too, which are not what training goes on from; the learning
        # rate finder loads what it has just saved, and detaches our hooks in between.
        if self._stage in (None, "fit") and self._recording is None:
            self._loaded = Past.from_state(state_dict)

    # Hooks

    @guarded
    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Looks at the model before a strategy may cut it into shards."""
        self._stage = str(getattr(stage, "value", stage))
        if self._stage != "fit":
            return
        self._loaded = None
        self._size = count_parameters(pl_module)
        if fault := version_fault(trainer):
            self.warn_once("version", fault)

    @guarded
    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Decides whether this fit is recorded, and from what counts it goes on."""
        self._close("failed")
        self._stopped = False  # on every process, which decide together
        same = self._trainer is not None and self._trainer() is trainer
        past = self._loaded or (self._past() if same else None)
        self._loaded, self._rates = None, RateRecorder()
        self._let_go()
        if not trainer.is_global_zero or trainer.fast_dev_run:
            self._place = None
            return
        if is_fresh(trainer):
            # A monitor that served another Trainer begins anew.
            past = self.report = None
            self.flags = ()
            self._said.clear()
        if reason := why_not_recorded(trainer):
            self._place = None
            self.warn_once("not recorded", f"ScalingLawMonitor records nothing in this run: {reason}")
            return
        self._trainer = weakref.ref(trainer)
        size = count_parameters(pl_module)
        # More than at `setup` where the model was built since; less where each process now holds a shard.
        if size is not None:
            self._size = size.or_earlier(self._size)
        monitors = [callback for callback in trainer.callbacks if isinstance(callback, ScalingLawMonitor)]
        recording = begin(
            trainer,
            self.settings,
            self._counter,
            past,
            size=self._size,
            monitors=[monitor.settings for monitor in monitors],
            running=[monitor._recording for monitor in monitors if monitor._recording is not None],
            warn_once=self.warn_once,
        )
        self._place, self._rates, self._recording = recording.place, recording.rates, recording
        self._go_the_long_way()

    @guarded
    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Looks at the metric as it was before, which tells whether this validation logs it."""
        if self._recording is not None and validates_fit(trainer):
            self._recording.validating(trainer)

    @guarded
    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Records the metric, asks for a fit, and logs what an earlier one found."""
        recording = self._recording
        try:
            if recording is not None and validates_fit(trainer):
                recording.validated(trainer, pl_module)
                if recording.by_batch or not recording.rates.only_notes:
                    self._go_the_long_way()
                self._adopt(recording, trainer)
        except Exception as error:  # the other processes still wait for what this one decides
            hold_back(self, "on_validation_end", error)
        if not self._stopped:
            reason = None if recording is None else recording.alarm.reason
            self._stopped = stop_together(self.settings, reason, trainer, self.warn_once)

    @guarded
    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Counts what the epoch used, for a metric that the module logs only now, after this hook."""
        if self._recording is not None:
            self._recording.epoch_ends(trainer, pl_module)

    @guarded
    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Records what the module logged when the last epoch ended."""
        if self._recording is not None:
            self._recording.epoch_ended(trainer)

    @guarded
    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Makes the observations as durable as the checkpoint that counts them."""
        if self._recording is not None:
            self._go_the_long_way()
            self._recording.sync(trainer)

    @guarded
    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Waits a little for the last projection, says it, and closes."""
        try:
            if self._recording is not None:
                self._recording.epoch_ended(trainer)
                self._adopt(self._recording, trainer, wait=self.settings.final_wait)
                self._recording.say_last()
        finally:
            self._close("finished", trainer)

    @guarded
    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Closes: after an exception or an interrupt Lightning calls no other hook."""
        self._close("failed", trainer)

    @guarded
    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Closes, should `on_train_end` not have been reached."""
        self._close("finished")

    def _close(self, state: str, trainer: Any = None) -> None:
        recording, self._recording = self._recording, None
        self._go_the_long_way()
        if recording is not None:
            recording.close(state, trainer)
