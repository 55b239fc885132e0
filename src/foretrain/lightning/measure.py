"""One measurement: what the run had used when the metric was read, and how that was counted."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from foretrain.axes import Counts
from foretrain.lightning.counting import BatchCounter
from foretrain.lightning.facts import (
    planned_samples,
    planned_steps,
    read_progress,
    schedule_name,
    unique_samples,
)
from foretrain.lightning.settings import Settings
from foretrain.observation import Observation, RunInfo

FLOPS_PER_PARAMETER = 6  # 2 forward and 4 backward: Kaplan et al. 2020, arXiv:2001.08361, section 2.1


def model_size(
    settings: Settings, module: Any, counted: tuple[int, int] | None
) -> tuple[int | None, int | None]:
    """Parameters as the scaling law takes them, and all parameters; None where unknown."""
    trainable, total = counted if counted is not None else (None, None)
    if settings.model_size is None:
        return trainable, total
    chosen = settings.model_size(module) if callable(settings.model_size) else settings.model_size
    return int(chosen), total


def count(
    trainer: Any, settings: Settings, counter: BatchCounter, size: tuple[int | None, int | None]
) -> Counts:
    """What the run has used by now. Waits for the device if a count lies there."""
    samples, tokens = counter.read()
    counts = Counts(
        samples=samples,
        steps=int(trainer.global_step),
        epochs=read_progress(trainer).epochs,
        tokens=tokens,
        unique_samples=unique_samples(trainer, samples, first=counter.first, processes=counter.processes),
        params=size[0],
        params_total=size[1],
    )
    return replace(counts, flops=_flops(settings, counts))


def plan(trainer: Any, settings: Settings, counter: BatchCounter, counts: Counts) -> Counts | None:
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
        unique_samples=unique_samples(trainer, samples, first=counter.first, processes=counter.processes),
    )
    return replace(planned, flops=_flops(settings, planned))


def _planned_epochs(trainer: Any, batches: int) -> float:
    epoch = read_progress(trainer).epoch_batches
    return batches / epoch if epoch else 0.0


def _flops(settings: Settings, counts: Counts) -> float | None:
    if settings.flops_per_sample is not None:
        return settings.flops_per_sample * counts.samples
    used = counts.samples if counts.tokens is None else counts.tokens
    return None if counts.params is None or not used else float(FLOPS_PER_PARAMETER * counts.params * used)


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


def conventions(trainer: Any, settings: Settings, counter: BatchCounter) -> dict[str, str]:
    """How things are counted, by name: runs that differ here are not fitted together."""
    tokens = counter.tokens_rule
    flops = f"6 * params * {'samples' if tokens is None else 'tokens'}"
    return {
        "params": "trainable" if settings.model_size is None else "model_size",
        "samples": counter.samples_rule,
        **({} if tokens is None else {"tokens": tokens}),
        "flops": flops if settings.flops_per_sample is None else "flops_per_sample",
        "metric": settings.transform.name,
        "schedule": schedule_name(trainer),
        # It trains on a few batches of the data on purpose, so it says nothing of other runs.
        **({"data": f"overfit_batches={trainer.overfit_batches:g}"} if trainer.overfit_batches else {}),
    }


def describe(
    trainer: Any,
    settings: Settings,
    counter: BatchCounter,
    counts: Counts,
    *,
    run: str,
    continues: dict[str, Any] | None,
) -> RunInfo:
    """The run, as it is known at its first observation."""
    return RunInfo(
        run=run,
        study=settings.study,
        conventions=conventions(trainer, settings, counter),
        planned=plan(trainer, settings, counter, counts),
        continues=continues,
        started=time.time(),
    )


def observe(info: RunInfo, metric: str, value: float, counts: Counts, rate: float | None) -> Observation:
    """The measurement as a record, with the learning rate of the last update."""
    return Observation(
        run=info.run,
        metric=metric,
        value=value,
        counts=counts,
        lr=rate,
        attempt=info.attempt,
        time=time.time(),
    )
