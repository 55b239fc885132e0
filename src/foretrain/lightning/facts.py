"""What a Trainer knows about its run: where it logs, how far it is, how far it means to go. Only reads.

Nothing here communicates between processes: these facts are read on rank zero alone, where a collective
call would wait for ever. (`trainer.log_dir` is such a call, and is therefore not used.)
"""

from __future__ import annotations

import logging
import math
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foretrain.lightning.counting import BatchCounter

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """Where the observations of a run are kept, and under which name.

    Attributes:
        root: The store's root, a local path or a URL.
        run: The run's name in its study; for a TensorBoard log directory, its name there.
        named: Whether the name comes from a logger or the user, and not from the clock.
    """

    root: str
    run: str
    named: bool


@dataclass(frozen=True)
class Progress:
    """How far a Trainer is in its plan, in batches of one process.

    Attributes:
        epoch_batches: Batches in an epoch; None where the loader has no length.
        done: Batches trained on.
        total: Batches when the run ends as planned; None where that is unknown.
        epochs: Passes over the data, with the fraction of the one under way.
    """

    epoch_batches: int | None
    done: int
    total: int | None
    epochs: float


def find_place(trainer: Any, *, root: str | None, run: str | None) -> Place:
    """Beside the run directory of the first logger that has one: runs logged together form a study."""
    save_dir = name = None
    for logger in trainer.loggers:
        try:
            save_dir = _local_text(getattr(logger, "save_dir", None))
            if save_dir is not None and _is_tracking_store(logger):
                save_dir = os.path.dirname(os.path.abspath(save_dir))  # noqa: PTH100, PTH120
            name = None if save_dir is None else _run_name(logger, save_dir)
        except Exception:  # loggers are anyone's, and another may know
            save_dir = None
        if save_dir is not None:
            break
    if save_dir is None:
        save_dir = str(trainer.default_root_dir)
    if root is None:
        root = save_dir.rstrip("/") + "/foretrain" if "://" in save_dir else str(Path(save_dir, "foretrain"))
    chosen = run or name
    return Place(root, chosen or _fresh_name(), named=chosen is not None)


def _is_tracking_store(logger: Any) -> bool:
    """Whether a logger's `save_dir` is a store that takes each of its folders for one of its own.

    Judged by the class's name, since each Lightning has a class of its own.
    """
    return any(cls.__name__ == "MLFlowLogger" for cls in type(logger).__mro__)


def _local_text(path: Any) -> str | None:
    if path is None:
        return None
    return str(os.path.expanduser(os.path.expandvars(os.fspath(path))))  # noqa: PTH111 (keeps URLs as they are)


def _run_name(logger: Any, save_dir: str) -> str | None:
    log_dir = _local_text(getattr(logger, "log_dir", None))
    if log_dir is not None:
        relative = os.path.relpath(log_dir, save_dir)
        if relative == ".":
            return Path(os.path.abspath(save_dir)).name  # noqa: PTH100 (does not follow links)
        if not relative.startswith(".."):
            return Path(relative).as_posix()
        return Path(log_dir).name
    if logger.version in (None, ""):
        return None  # a name alone is that of many runs
    return "/".join(str(part) for part in (logger.name, logger.version) if part not in (None, ""))


def _fresh_name() -> str:
    # `secrets` draws from the system, not from a generator that the training may have seeded.
    return f"run_{time.strftime('%Y%m%dT%H%M%S')}_{secrets.token_hex(3)}"


def data_parallel_size(trainer: Any) -> int:
    """How many processes train on different data: fewer than there are where they share a model."""
    try:
        return int(trainer.strategy.distributed_sampler_kwargs["num_replicas"]) or int(trainer.world_size)
    except Exception:  # single-device strategies have no such property
        return int(trainer.world_size)


def why_not_recorded(trainer: Any) -> str | None:
    """A sentence if the validations of this fit measure nothing that a scaling law speaks of, else None."""
    if not trainer.enable_validation:
        return "it has no validation. Give the module a `validation_step` and the Trainer validation data."
    return None


def validates_fit(trainer: Any) -> bool:
    """Whether the validation under way belongs to `fit`, and is no sanity check."""
    return bool(trainer.state.fn == "fit" and not trainer.sanity_checking)


def ends_epoch(trainer: Any) -> bool:
    """Whether the last batch of the epoch was trained on, so that a validation under way is its last."""
    return bool(trainer.fit_loop.epoch_loop.batch_progress.is_last_batch)


def size_doubt(trainer: Any, counter: BatchCounter) -> str | None:
    """A sentence if the samples counted in a batch are not what the loaders put into one, else None."""
    size = _batch_size(trainer.train_dataloader)
    short = trainer.num_training_batches == 1  # the only batch may be a short one
    if counter.chosen or size in (None, counter.first) or short:
        return None
    return (
        f"ScalingLawMonitor counts {counter.first} samples in a batch, but the data loader's `batch_size` is "
        f"{size}: pass `batch_size_fn` if the first dimension of the first tensor is not the batch."
    )


def _batch_size(loader: Any) -> int | None:
    """Samples in a batch of a loader, or of several together; None where one does not say it."""
    if isinstance(loader, Mapping | list | tuple):
        sizes = [_batch_size(one) for one in (loader.values() if isinstance(loader, Mapping) else loader)]
        return None if None in sizes else sum(sizes)  # type: ignore[arg-type]
    size = getattr(loader, "batch_size", None)
    return size if isinstance(size, int) else None


def read_progress(trainer: Any) -> Progress:
    """How far the Trainer is, and how far it means to go."""
    batches = trainer.num_training_batches
    epoch_batches = int(batches) if math.isfinite(batches) and batches > 0 else None
    done = int(trainer.fit_loop.total_batch_idx) + 1
    epochs = float(trainer.current_epoch)
    if epoch_batches is not None:
        epochs += (trainer.fit_loop.batch_idx + 1) / epoch_batches
    elif trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
        epochs += 1.0
    return Progress(epoch_batches, done, _planned_batches(trainer, epoch_batches, done), epochs)


def _planned_batches(trainer: Any, epoch_batches: int | None, done: int) -> int | None:
    plans: list[int] = []
    max_epochs, max_steps = trainer.max_epochs, trainer.max_steps
    if epoch_batches is not None and max_epochs is not None and max_epochs >= 0:
        plans.append(epoch_batches * max_epochs)
    if max_steps is not None and max_steps >= 0:
        accumulate = int(trainer.accumulate_grad_batches)
        if not trainer.lightning_module.automatic_optimization:
            # The module decides how often it steps, and `global_step` counts every optimizer.
            if trainer.global_step > 0:
                plans.append(math.ceil(max_steps * done / trainer.global_step))
        elif epoch_batches is None:
            plans.append(max_steps * accumulate)
        else:
            # The last window of an epoch steps even when it is short.
            epochs, rest = divmod(max_steps, math.ceil(epoch_batches / accumulate))
            plans.append(epochs * epoch_batches + min(rest * accumulate, epoch_batches))
    return min(plans) if plans else None


def planned_steps(trainer: Any, progress: Progress) -> int | None:
    """Optimizer steps when the run ends as planned, as `trainer.global_step` will count them."""
    if progress.total is None:
        return None
    if trainer.lightning_module.automatic_optimization and trainer.train_dataloader is not None:
        try:
            steps = trainer.estimated_stepping_batches
            if math.isfinite(steps) and steps > 0:
                return int(steps)
        except Exception:  # raised where the accumulation changes over epochs
            log.debug("The Trainer does not know how many steps it will take.", exc_info=True)
    if progress.done == 0 or trainer.global_step == 0:
        return None
    return round(int(trainer.global_step) * progress.total / progress.done)


def planned_samples(
    trainer: Any,
    progress: Progress,
    *,
    counted: int,
    batches: int,
    first: int | None,
    processes: int,
    earlier: int,
) -> int | None:
    """Samples when the run ends as planned, over all processes; None where that is unknown.

    Exact where the loader says how long an epoch is and we count what it batches; otherwise the batches to
    come are taken to be like those seen.

    Args:
        trainer: The Trainer.
        progress: How far it is.
        counted: Samples counted over the whole run.
        batches: Batches counted in this process.
        first: Samples in the first of them.
        processes: Data-parallel processes.
        earlier: Samples counted before this process.
    """
    if progress.total is None or progress.done == 0 or counted == 0:
        return None
    if batches == 0:  # validated straight after a resume: all that is known are the batches before it
        batches, earlier = progress.done, 0
    loader = trainer.train_dataloader
    size = getattr(loader, "batch_size", None)
    if size is not None and size == first and progress.epoch_batches is not None:
        try:
            epoch = min(progress.epoch_batches * size, len(loader.sampler)) * processes
        except TypeError:  # a sampler without a length
            epoch = progress.epoch_batches * size * processes

        def position(batch: int) -> int:
            epochs, rest = divmod(batch, progress.epoch_batches or 1)
            return int(epochs * epoch + min(rest * size * processes, epoch))

        return counted + max(0, position(progress.total) - position(progress.done))
    return counted + round(max(0, progress.total - progress.done) * (counted - earlier) / batches)


def schedule_name(trainer: Any) -> str:
    """The learning-rate schedulers by class, "constant" where there are none.

    With several optimizers also which of them it is whose rates are recorded: the first with a scheduler.
    """
    configs, optimizers = trainer.lr_scheduler_configs, trainer.optimizers
    name = "+".join(type(config.scheduler).__name__ for config in configs) or "constant"
    if len(optimizers) < 2:
        return name
    watched = watched_optimizer(trainer)
    number = next(i for i, optimizer in enumerate(optimizers, 1) if optimizer is watched)
    return f"{name} (of optimizer {number} of {len(optimizers)})"


def watched_optimizer(trainer: Any) -> Any:
    """The optimizer whose learning rates are recorded; None where there is only one."""
    configs, optimizers = trainer.lr_scheduler_configs, trainer.optimizers
    if len(optimizers) < 2:
        return None
    scheduled = [config.scheduler.optimizer for config in configs]
    return next((one for one in optimizers if any(one is other for other in scheduled)), optimizers[0])
