"""One fit of a Trainer under way: the metric read, recorded with its counts, and what its reports say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from foretrain.lightning import measure
from foretrain.lightning.counting import BatchCounter, count_parameters
from foretrain.lightning.facts import Place, size_doubt
from foretrain.lightning.host import guarded, inform
from foretrain.lightning.logging import say
from foretrain.lightning.schedule import RateRecorder
from foretrain.lightning.session import Session
from foretrain.lightning.settings import Settings
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
        size: Parameters of the whole model, trainable and all; None while some are not yet made.
        warn_once: Warns, unless it already did so under a key.

    Attributes:
        session: The store and the fitter, from the first observation on.
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
        size: tuple[int, int] | None,
        warn_once: Callable[[str, str], None],
    ) -> None:
        self.settings = settings
        self.counter = counter
        self.rates = rates
        self.place = place
        self.warn_once = warn_once
        self._newest: Report | None = None
        self.session: Session | None = None
        self._continues = continues
        self._uncounted = uncounted
        self._size = size
        self._metric: Any = None

    @property
    def due(self) -> bool:
        """Whether a report may have come."""
        return self.session is not None and self.session.due

    def first_batch(self, trainer: Any) -> None:
        """Says what is counted in a batch, once the first one was."""
        counter = self.counter
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

    def validated(self, trainer: Any, module: Any) -> None:
        """Records the metric of a validation that ended, and asks for a fit."""
        value = self._read_metric(trainer)
        if value is not None:
            self._record(trainer, module, value)

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

    def _record(self, trainer: Any, module: Any, value: float) -> None:
        settings, counter = self.settings, self.counter
        if self._size is None:
            self._size = count_parameters(module)  # lazy modules know their size by now
        size = measure.model_size(settings, module, self._size)
        counts = measure.count(trainer, settings, counter, size)
        if self.session is None:
            info = measure.describe(
                trainer, settings, counter, counts, run=self.place.run, continues=self._continues
            )
            self.session = Session(settings, self.place, info, settings.choose_axis(counts))
        schedule = self._tell_rates(trainer)
        observation = measure.observe(self.session.info, settings.monitor, value, counts, self.rates.rate)
        self.session.keep(observation, schedule)
        self.session.ask()
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
