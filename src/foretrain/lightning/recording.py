"""One fit of a Trainer under way: the metric read, recorded with its counts, and what its reports say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from foretrain.axes import Counts
from foretrain.conventions import signature
from foretrain.lightning import measure
from foretrain.lightning.alarm import Alarm
from foretrain.lightning.conventions import conventions
from foretrain.lightning.counting import BatchCounter
from foretrain.lightning.facts import Place, ends_epoch, size_doubt
from foretrain.lightning.flops import FlopMeter
from foretrain.lightning.host import guarded, inform
from foretrain.lightning.logging import say
from foretrain.lightning.metric import MetricWatch, logged_by_step
from foretrain.lightning.parameters import ModelSize, count_parameters
from foretrain.lightning.resume import Past, begin_counts, choose_place
from foretrain.lightning.schedule import RateRecorder
from foretrain.lightning.scheme import Names, name_among
from foretrain.lightning.session import Session
from foretrain.lightning.settings import MEASURED, Settings
from foretrain.observation import ScheduleUpdate
from foretrain.report import Report


class Recording:
    """What `ScalingLawMonitor` does while one fit lasts, on rank zero.

    It holds what can be neither copied nor pickled, and ends with the fit.

    Args:
        settings: What the user asked for.
        counter: Counts the batches of the run.
        rates: Takes the learning rates of the run.
        place: Where observations are kept.
        continues: The run and step that this fit goes on from.
        uncounted: Batches that were trained on before and that nobody counted.
        size: Parameters of the whole model; None while some are not yet made.
        names: Under which names reports are logged.
        warn_once: Warns, unless it already did so under a key.

    Attributes:
        alarm: What has been told of the run's flags.
        session: The store and the fitter, from the first observation on.
        by_batch: Whether training logs the metric, so that each batch must be looked at.
        meter: Measures FLOPs; None where they are not to be measured, or were.
    """

    def __init__(
        self,
        settings: Settings,
        counter: BatchCounter,
        rates: RateRecorder,
        *,
        place: Place,
        continues: dict[str, Any],
        uncounted: int,
        size: ModelSize | None,
        names: Names,
        warn_once: Callable[[str, str], None],
    ) -> None:
        self.settings = settings
        self.counter = counter
        self.rates = rates
        self.place = place
        self.warn_once = warn_once
        self.alarm = Alarm(settings, int(continues["step"]), warn_once)
        self._newest: Report | None = None
        self.session: Session | None = None
        self.meter = FlopMeter() if settings.flops_per_sample == MEASURED else None
        self._continues = continues
        self._uncounted = uncounted
        self._size = size
        self._names = names
        self._watch = MetricWatch(settings.monitor)
        self.by_batch = False
        self._fresh = False  # whether the batch before the validation under way logged the metric
        self._awaited = False  # whether a validation of this epoch went by without the metric
        self._late: Counts | None = None  # what the epoch had used when it ended, where it is awaited
        self._found = False  # whether any validation logged the metric

    @property
    def due(self) -> bool:
        """Whether a report may have come."""
        return self.session is not None and self.session.due

    def first_batch(self, trainer: Any) -> None:
        """Says what is counted in a batch, once the first one was."""
        counter = self.counter
        counter.began = int(trainer.current_epoch), int(trainer.fit_loop.batch_idx)
        if self._uncounted:
            counter.add_uncounted(self._uncounted)
            self.warn_once(
                "uncounted",
                f"The checkpoint has no counts of ScalingLawMonitor: the {self._uncounted} batches before it "
                f"are taken to be like this one ({counter.first} samples).",
            )
        inform(counter.describe())
        if self.session is not None:
            # A validation came first, straight after a resume: its header tells how the past was counted.
            if signature(self.session.info.conventions) != signature(
                conventions(trainer, self.settings, counter)
            ):
                self.session.close("failed")
                self.session = None
        if doubt := size_doubt(trainer, counter):
            self.warn_once("batch size", doubt)

    def begin_measuring(self, trainer: Any, module: Any) -> None:
        """Begins to measure the FLOPs of a batch, if it is the one that is measured."""
        if self.meter is not None:
            self.meter.enter(trainer, module, self.counter)

    def measure(self) -> None:
        """Ends measuring the FLOPs of a batch, if that was under way."""
        if self.meter is not None and self.meter.finish(self.counter):
            self.meter = None

    def second_batch(self, trainer: Any) -> None:
        """Sees whether the first batch logged the metric, which only validation should."""
        self._watch.note(trainer)
        self.by_batch = self._watch.value is not None

    def look(self, trainer: Any) -> None:
        """Notes the metric as the batch before this one left it, where training logs it."""
        self._watch.note(trainer)

    def validating(self, trainer: Any) -> None:
        """Notes what there is of the metric before a validation, and whether the last batch logged it."""
        self._fresh = self._watch.renewed(trainer) and self.by_batch

    def validated(self, trainer: Any, module: Any) -> None:
        """Records the metric of a validation that ended, and asks for a fit."""
        if self._watch.renewed(trainer) or self._fresh:
            self._found, self._awaited = True, False
            self._record(trainer, self._count(trainer, module))
            return
        self._awaited = True
        outside = self.by_batch and not self._found
        # A metric that is there was logged in training; by which batch, is seen from now on.
        self.by_batch = self.by_batch or (not self._found and self._watch.value is not None)
        if ends_epoch(trainer):
            return  # it may yet be logged now that the epoch ends, after this hook
        if self._watch.value is None:
            self._miss(trainer)
        elif outside:
            self.warn_once("logged outside", measure.logged_outside(self.settings.monitor))

    def epoch_ends(self, trainer: Any, module: Any) -> None:
        """Counts what the epoch used, should the metric be logged now that it ends."""
        if self.meter is not None:
            self.meter.leave()  # of a batch that the module has skipped
        if self._awaited:
            self._late = self._count(trainer, module)

    def epoch_ended(self, trainer: Any) -> None:
        """Records the metric if it was logged when the epoch ended, after a validation without it."""
        counts, self._late, self._awaited = self._late, None, False
        if counts is None:
            return
        if self._watch.renewed(trainer):
            self._record(trainer, counts)
        elif self._watch.value is None:
            self._miss(trainer)
        elif self.session is None:
            self.warn_once("logged outside", measure.logged_outside(self.settings.monitor))

    def _miss(self, trainer: Any) -> None:
        name = self.settings.monitor
        by_step = logged_by_step(trainer, name)
        self.warn_once("missing metric", measure.missing(name, self._watch.names, by_step=by_step))

    def _count(self, trainer: Any, module: Any) -> Counts:
        if self._size is None:
            self._size = count_parameters(module)  # lazy modules know their size by now
        return measure.count(trainer, self.settings, self.counter, module, self._size)

    def _record(self, trainer: Any, counts: Counts) -> None:
        settings, counter, transform = self.settings, self.counter, self.settings.transform
        value = float(self._watch.value)
        if self.session is None:
            info = measure.describe(
                trainer,
                settings,
                counter,
                counts,
                self._size,
                run=self.place.run,
                continues=self._continues,
            )
            self.session = Session(settings, self.place, info, settings.choose_axis(counts), self._names)
        schedule = self._tell_rates(trainer)
        observation = measure.observe(
            self.session.info, transform.name, transform.error(value), counts, self.rates
        )
        if transform.bound is not None:
            observation = replace(observation, logged=value)
        self.session.keep(observation, schedule)
        self.session.ask()
        if doubt := transform.doubt(value):
            self.warn_once("bound", doubt)
        for what, fault in (counter.faults | self.session.faults()).items():
            self.warn_once(what, fault)

    @guarded  # so that trouble with the schedule costs no observation
    def _tell_rates(self, trainer: Any) -> ScheduleUpdate | None:
        return self.rates.update(trainer)

    def adopt(self, trainer: Any, wait: float = 0.0) -> Report | None:
        """Logs a report if one has come, and gives it; waits for it at most so many seconds."""
        if self.session is None:
            return None
        # Lightning only takes note of a SIGTERM, and whoever sent it does not wait for a projection.
        report = self.session.fetch(wait, give_up=lambda: bool(trainer.received_sigterm))
        if report is None:
            told = self.session.show(trainer)
        else:
            self._newest = report
            told = self.session.adopt(trainer, report)
        for sentence in told:
            self.warn_once(sentence, sentence)
        self.alarm.sound(self.session, trainer)
        return report

    def say_last(self) -> None:
        """Says the newest projection in words, and what went wrong since the last validation."""
        for what, fault in self.session.faults().items() if self.session is not None else ():
            self.warn_once(what, fault)
        if self._newest is not None:
            inform(say(self._newest))

    def sync(self, trainer: Any) -> None:
        """Makes the observations as durable as the disk allows."""
        if self.session is not None:
            self.session.tell(self._tell_rates(trainer))
            self.session.sync()

    def close(self, state: str, trainer: Any = None) -> None:
        """Ends the record with "finished" or "failed"; where the Trainer is known, tells its loggers so."""
        session, self.session = self.session, None
        if self.meter is not None:
            self.meter.leave()
        rates = None if session is None or trainer is None else self._tell_rates(trainer)
        self.rates.let_go()
        if session is None:
            return
        try:
            session.tell(rates)
            for sentence in session.show_last(trainer, state) if trainer is not None else ():
                self.warn_once(sentence, sentence)
        finally:
            session.close(state)


def begin(
    trainer: Any,
    settings: Settings,
    counter: BatchCounter,
    past: Past | None,
    *,
    size: ModelSize | None,
    monitors: Sequence[Settings],
    running: Sequence[Recording],
    warn_once: Callable[[str, str], None],
) -> Recording:
    """Begins to record a fit, on top of what an earlier one had counted.

    Args:
        trainer: The Trainer.
        settings: What the user asked for.
        counter: Counts the batches of the run.
        past: What the run had counted; None where it is new.
        size: Parameters of the whole model; None while some are not yet made.
        monitors: What all monitors of the Trainer were asked for, in its order.
        running: The recordings of this fit that other monitors have begun.
        warn_once: Warns, unless it already did so under a key.
    """
    place, step = choose_place(trainer, settings, past), int(trainer.global_step)
    if not place.named and past is None and running:
        place = replace(place, run=running[0].place.run)  # monitors of one fit speak of one run
    return Recording(
        settings,
        counter,
        RateRecorder() if past is None else RateRecorder.from_state(past.schedule, step),
        place=place,
        # Told also where nothing was resumed: it sets the run apart from what an earlier one left behind.
        continues={"run": (past or place).run, "step": step},
        uncounted=begin_counts(trainer, counter, past),
        size=size,
        names=name_among(settings, monitors),
        warn_once=warn_once,
    )
