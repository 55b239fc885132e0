"""ScalingLawMonitor: the callback that counts, observes and logs where a run is heading."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor

from foretrain.lightning import measure
from foretrain.lightning.counting import BatchCounter, count_parameters
from foretrain.lightning.facts import Place, size_doubt, why_not_recorded
from foretrain.lightning.host import HostCallback, guarded, inform, version_fault, warn
from foretrain.lightning.logging import say
from foretrain.lightning.resume import Past, begin_counts, choose_place, is_fresh
from foretrain.lightning.schedule import RateRecorder
from foretrain.lightning.session import Session
from foretrain.lightning.settings import Settings, as_numbers, as_path
from foretrain.observation import ScheduleUpdate
from foretrain.report import Report

POLL_EVERY = 16  # training batches, while a fit is under way


class ScalingLawMonitor(HostCallback):
    """Records a validation metric against the data seen, and logs where its scaling law is heading.

    After every validation of `fit` one observation is kept beside the logs, a fit is asked for in a child
    process, and its projections are logged as `scaling/...` when they come. All runs whose loggers share a
    `save_dir` form one study. Works in a Trainer of `lightning.pytorch` and of `pytorch_lightning`.

    Nothing in it can end a training run, change it, or wait for a device on the training path: what goes
    wrong here is one warning.

    Args:
        monitor: The metric, as the module logs it in validation.
        axis: What is taken as the amount of data: "tokens", "samples", "unique_samples", "flops", "steps" or
            "epochs". By default tokens where they are known, else samples.
        targets: Amounts of data to project to, in the axis, beside 2, 10 and 100 times what was seen.
        target_params: Model sizes to project to, in parameters; needs a study with several sizes.
        study: Name of the study.
        run: Name of the run in its study; by default its log directory, relative to the logger's `save_dir`.
        root: Directory of the observations; by default `foretrain` in the logger's `save_dir`.
        batch_size_fn: Samples in a batch. By default the size of the first dimension of the first tensor.
        length_fn: Tokens in a batch, all its samples together. By default counted for batches that are
            mappings with `input_ids`, without what `attention_mask` masks.
        model_size: Parameters as the law should count them, or a function of the module; by default the
            trainable ones.
        flops_per_sample: Training FLOPs of one sample; by default 6 times parameters times tokens (or
            samples).
        fit: Whether projections are made; observations are recorded in any case.
        final_wait: Most seconds to wait for the last projection when the fit ends.

    Attributes:
        settings: The arguments, checked.
        report: The newest report, or None.

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
        axis: str | None = None,
        targets: Iterable[float] = (),
        target_params: Iterable[float] = (),
        study: str = "default",
        run: str | None = None,
        root: str | os.PathLike[str] | None = None,
        # LightningCLI compares what a function is annotated to return: `Any` lets every one pass.
        batch_size_fn: Callable[[Any], Any] | None = None,
        length_fn: Callable[[Any], Any] | None = None,
        model_size: int | Callable[[Any], Any] | None = None,
        flops_per_sample: float | None = None,
        fit: bool = True,
        final_wait: float = 10.0,
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
        )
        self.report: Report | None = None
        self._key = str(self._generate_state_key(monitor=monitor, axis=axis))
        self._counter = BatchCounter(batch_size_fn, length_fn)
        self._size: tuple[int, int] | None = None
        self._place: Place | None = None
        self._loaded: Past | None = None
        self._loaded_rates: Any = None
        self._rates = RateRecorder()
        self._stage: str | None = None
        self._said: set[str] = set()
        self._let_go()

    def _let_go(self) -> None:
        """Drops what belongs to a fit under way and can be neither copied nor pickled."""
        self._session: Session | None = None
        self._trainer: weakref.ref[Any] | None = None
        self._continues: dict[str, Any] | None = None
        self._metric: Any = None
        self._uncounted = 0
        self._active = False

    def __getstate__(self) -> dict[str, Any]:
        """The monitor without its open file and child process, for copies and for spawned processes."""
        self._counter.read()  # takes counts off the device
        copy = type(self).__new__(type(self))
        copy.__dict__.update(self.__dict__)
        copy._let_go()
        state = dict(copy.__dict__)
        for name in ("log", "log_dict"):  # lent by the Trainer; they would take the model along
            state.pop(name, None)
        return state

    @property
    def state_key(self) -> str:
        """Apart for every metric and axis, so that several monitors can be in one checkpoint."""
        return self._key  # a profiler asks for it around every hook, of which a step has a dozen

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
        if past is None:
            return None
        rates = self._rates.to_state() if self._loaded is None else self._loaded_rates
        return {**past.to_state(), "schedule": rates}

    def _past(self) -> Past | None:
        return None if self._place is None else Past(self._place.run, *self._counter.read())

    @guarded
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up the counts of a checkpoint; they count from the next `fit` on."""
        # `validate` and `test` load checkpoints too, which are not what training goes on from; the learning
        # rate finder loads what it has just saved, and detaches our hooks in between.
        if self._stage in (None, "fit") and not self._active:
            self._loaded = Past.from_state(state_dict)
            self._loaded_rates = state_dict.get("schedule")

    # Hooks

    @guarded
    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Looks at the model before a strategy may cut it into shards."""
        self._stage = str(getattr(stage, "value", stage))
        if self._stage != "fit":
            return
        self._loaded = self._loaded_rates = None
        self._size = count_parameters(pl_module)
        if fault := version_fault(trainer):
            self.warn_once("version", fault)

    @guarded
    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Decides whether this fit is recorded, and from what counts it goes on."""
        self._close("failed")
        same = self._trainer is not None and self._trainer() is trainer
        past = self._loaded or (self._past() if same else None)
        rates = self._rates.to_state() if self._loaded is None else self._loaded_rates
        self._loaded = self._loaded_rates = None
        self._rates = RateRecorder()
        self._let_go()
        if not trainer.is_global_zero or trainer.fast_dev_run:
            self._place = None
            return
        if is_fresh(trainer):
            # A monitor that served another Trainer begins anew.
            past = self.report = None
            self._said.clear()
        if reason := why_not_recorded(trainer):
            self._place = None
            self.warn_once("not recorded", f"ScalingLawMonitor records nothing in this run: {reason}")
            return
        self._trainer = weakref.ref(trainer)
        self._place = choose_place(trainer, self.settings, past)
        # Told also where nothing was resumed: it sets the run apart from what an earlier one left behind.
        origin = self._place.run if past is None else past.run
        self._continues = {"run": origin, "step": int(trainer.global_step)}
        self._uncounted = begin_counts(trainer, self._counter, past)
        if past is not None:
            self._rates = RateRecorder.from_state(rates, int(trainer.global_step))
        size = count_parameters(pl_module)
        # More than at `setup` where the model was built since; less where each process now holds a shard.
        if size is not None and (self._size is None or size[1] >= self._size[1]):
            self._size = size
        self._active = True

    @guarded
    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Takes the learning rate of this update: schedulers change it before validation."""
        if self._active:
            self._rates.take(trainer, optimizer)

    @guarded
    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts the batch; the only work of ours on the training path."""
        if not self._active:
            return
        counter = self._counter
        counter.add(batch)
        if counter.batches == 1:
            self._first_batch(trainer)
        elif not counter.batches % POLL_EVERY and self._session is not None and self._session.due:
            self._adopt(trainer)

    @guarded
    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Records the metric, asks for a fit, and logs what an earlier one found."""
        if not self._active or trainer.sanity_checking or trainer.state.fn != "fit":
            return
        value = self._read_metric(trainer)
        if value is not None:
            self._record(trainer, pl_module, value)
        self._adopt(trainer)

    @guarded
    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Makes the observations as durable as the checkpoint that counts them."""
        if self._session is not None:
            self._session.tell(self._tell_rates(trainer))
            self._session.sync()

    @guarded
    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Waits a little for the last projection, says it, and closes."""
        try:
            if self._session is not None:
                self._adopt(trainer, wait=self.settings.final_wait)
                if self.report is not None:
                    inform(say(self.report))
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

    # Work

    def _first_batch(self, trainer: Any) -> None:
        counter = self._counter
        if self._uncounted:
            counter.add_uncounted(self._uncounted)
            self.warn_once(
                "uncounted",
                f"The checkpoint has no counts of ScalingLawMonitor: the {self._uncounted} batches before it "
                f"are taken to be like this one ({counter.first} samples).",
            )
        inform(counter.describe())
        if doubt := size_doubt(trainer, counter):
            self.warn_once("batch size", doubt)

    def _read_metric(self, trainer: Any) -> float | None:
        metrics = trainer.callback_metrics
        metric = metrics.get(self.settings.monitor)
        if metric is None:
            self.warn_once("missing metric", measure.missing(self.settings.monitor, metrics))
            return None
        if isinstance(metric, Tensor) and metric is self._metric:
            return None  # still the value of an earlier validation: a fresh one is always a new tensor
        self._metric = metric
        return float(metric)

    def _record(self, trainer: Any, pl_module: Any, value: float) -> None:
        settings, counter, place = self.settings, self._counter, self._place
        assert place is not None
        if self._size is None:
            self._size = count_parameters(pl_module)  # lazy modules know their size by now
        size = measure.model_size(settings, pl_module, self._size)
        counts = measure.count(trainer, settings, counter, size)
        if self._session is None:
            info = measure.describe(
                trainer, settings, counter, counts, run=place.run, continues=self._continues
            )
            self._session = Session(settings, place, info, settings.choose_axis(counts))
        schedule = self._tell_rates(trainer)
        observation = measure.observe(self._session.info, settings.monitor, value, counts, self._rates.rate)
        self._session.keep(observation, schedule)
        self._session.ask()
        for what, fault in (counter.faults | self._session.faults()).items():
            self.warn_once(what, fault)

    @guarded  # so that trouble with the schedule costs no observation
    def _tell_rates(self, trainer: Any) -> ScheduleUpdate | None:
        return self._rates.update(trainer)

    def _adopt(self, trainer: Any, wait: float = 0.0) -> None:
        report = None if self._session is None else self._session.fetch(wait)
        if self._session is None or report is None:
            return
        self.report = report
        for sentence in self._session.adopt(trainer, report):
            self.warn_once(sentence, sentence)

    def _close(self, state: str, trainer: Any = None) -> None:
        session, self._session, self._active = self._session, None, False
        rates = None if session is None or trainer is None else self._tell_rates(trainer)
        self._rates.let_go()
        if session is None:
            return
        try:
            session.tell(rates)
            for sentence in session.show_last(trainer, state) if trainer is not None else ():
                self.warn_once(sentence, sentence)
        finally:
            session.close(state)
