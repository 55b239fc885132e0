"""One measurement: what the run had used when the metric was read, and how that was counted."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from foretrain.axes import Counts
from foretrain.lightning.conventions import conventions
from foretrain.lightning.counting import BatchCounter
from foretrain.lightning.distinct import unique_samples
from foretrain.lightning.facts import planned_samples, planned_steps, read_progress
from foretrain.lightning.flops import training_flops
from foretrain.lightning.parameters import ModelSize, density
from foretrain.lightning.schedule import RateRecorder
from foretrain.lightning.settings import Settings
from foretrain.observation import Observation, RunInfo


def model_size(settings: Settings, module: Any, size: ModelSize | None) -> int | None:
    """Parameters as the scaling law takes them; None where unknown."""
    chosen = settings.model_size
    if callable(chosen):
        return int(chosen(module))
    if isinstance(chosen, str) or chosen is None:
        return None if size is None else int(getattr(size, chosen or "trainable"))
    return int(chosen)


def count(
    trainer: Any, settings: Settings, counter: BatchCounter, module: Any, size: ModelSize | None
) -> Counts:
    """What the run has used by now. Waits for the device if a count lies there."""
    samples, tokens = counter.read()
    total = None if size is None else size.total
    counts = Counts(
        samples=samples,
        steps=int(trainer.global_step),
        epochs=read_progress(trainer).epochs,
        tokens=tokens,
        unique_samples=unique_samples(trainer, samples, counter),
        params=model_size(settings, module, size),
        params_total=total,
        params_non_embedding=None if size is None else size.non_embedding,
        density=density(module, total),
    )
    return replace(counts, flops=training_flops(settings, counts, size, counter.flops_per_sample))


def plan(
    trainer: Any, settings: Settings, counter: BatchCounter, counts: Counts, size: ModelSize | None
) -> Counts | None:
    """What the run will have used when it ends as planned; None where the plan has no end."""
    progress = read_progress(trainer)
    steps = planned_steps(trainer, progress)
    if progress.total is None or steps is None:
        return None
    samples = planned_samples(
        trainer,
        progress,
        counted=counts.samples,
        batches=counter.batches,
        first=counter.first,
        processes=counter.processes,
        earlier=counter.earlier,
    )
    if samples is None:
        return Counts(samples=0, steps=steps, epochs=_planned_epochs(trainer, progress.total))
    tokens = None
    if counts.tokens is not None and counts.samples > 0:
        tokens = round(counts.tokens * (samples / counts.samples))
    planned = replace(
        counts,
        samples=samples,
        steps=steps,
        epochs=_planned_epochs(trainer, progress.total),
        tokens=tokens,
        unique_samples=unique_samples(trainer, samples, counter),
        density=None,  # what pruning is to come is not known
    )
    return replace(planned, flops=training_flops(settings, planned, size, counter.flops_per_sample))


def _planned_epochs(trainer: Any, batches: int) -> float:
    epoch = read_progress(trainer).epoch_batches
    return batches / epoch if epoch else 0.0


def missing(metric: str, logged: Iterable[str], *, by_step: bool = False) -> str:
    """What is said when the metric is not there: what is, or that it was logged by step alone."""
    if by_step:
        return (
            f"ScalingLawMonitor expects the metric `{metric}` once for a whole validation, but it was logged "
            "by step alone: log it with `on_epoch=True`."
        )
    names = ", ".join(sorted(logged)) or "none"
    return (
        f"ScalingLawMonitor expects the metric `{metric}`, which was not logged in this validation. "
        f"Logged are: {names}. Pass one of them as `monitor`."
    )


def logged_outside(metric: str) -> str:
    """What is said when the metric is there, but not logged when a validation measures."""
    return (
        f"ScalingLawMonitor expects the metric `{metric}` from validation, but it was logged outside of it: "
        "only what is logged by the batch before a validation, or as an epoch ends, is recorded. Log it in "
        "validation to have every validation recorded."
    )


def describe(
    trainer: Any,
    settings: Settings,
    counter: BatchCounter,
    counts: Counts,
    size: ModelSize | None,
    *,
    run: str,
    continues: dict[str, Any] | None,
) -> RunInfo:
    """The run, as it is known at its first observation."""
    return RunInfo(
        run=run,
        study=settings.study,
        conventions=conventions(trainer, settings, counter),
        planned=plan(trainer, settings, counter, counts, size),
        continues=continues,
        started=time.time(),
    )


def observe(info: RunInfo, metric: str, value: float, counts: Counts, rates: RateRecorder) -> Observation:
    """The measurement as a record, with the learning rates of the last update."""
    return Observation(
        run=info.run,
        metric=metric,
        value=value,
        counts=counts,
        lr=rates.rate,
        lrs=rates.rates,
        attempt=info.attempt,
        time=time.time(),
    )
