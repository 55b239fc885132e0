"""How many distinct samples a run has seen, where its loader makes that certain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch.utils.data import (
    BatchSampler,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
)

from foretrain.lightning.counting import BatchCounter
from foretrain.lightning.facts import read_progress

MOST_INDICES = 100_000  # of a subset, looked through at each validation for those that are there twice


@dataclass(frozen=True)
class Drawing:
    """How a loader draws samples from its data set.

    Attributes:
        size: Samples in a whole batch of one process.
        first: Samples in the first batch of an epoch of one process.
        length: Distinct samples there are.
        epoch: Samples drawn in an epoch, over all processes.
        in_order: Whether every epoch draws them in the same order.
        resumes: Whether the loader goes on within an epoch, as one with a state does.
    """

    size: int
    first: int
    length: int
    epoch: int
    in_order: bool
    resumes: bool


def find_drawing(trainer: Any, processes: int) -> Drawing | None:
    """How a Trainer draws its training samples; None where what it sees of that does not tell."""
    loader, batches = trainer.train_dataloader, read_progress(trainer).epoch_batches
    if batches is None or trainer.reload_dataloaders_every_n_epochs > 0:
        return None  # the next loader may have other data
    sampler, size = getattr(loader, "sampler", None), getattr(loader, "batch_size", None)
    grouped = getattr(loader, "batch_sampler", None)
    if size is None and type(grouped) is BatchSampler:
        sampler, size = grouped.sampler, grouped.batch_size
    known = _sampled(sampler, loader, processes)
    if known is None or not isinstance(size, int):
        return None
    length, drawn, in_order = known
    epoch = min(batches * size, drawn) * processes
    return Drawing(size, min(size, drawn), length, epoch, in_order, hasattr(loader, "load_state_dict"))


def _sampled(sampler: Any, loader: Any, processes: int) -> tuple[int, int, bool] | None:
    """Distinct samples there are, samples that a process draws, and whether always in the same order."""
    try:
        length = len(loader.dataset)
    except (TypeError, AttributeError, NotImplementedError):
        return None
    # Classes derived from these may draw as they like: Lightning puts one of `DistributedSampler` around any.
    kind = type(sampler)
    if kind is DistributedSampler:
        return (length, len(sampler), not sampler.shuffle) if sampler.num_replicas == processes else None
    if processes > 1:
        return None  # without a distributed sampler processes may draw the same
    if kind is SequentialSampler:
        return length, len(sampler), True
    if kind is RandomSampler:
        return None if sampler.replacement else (length, len(sampler), False)
    if kind is SubsetRandomSampler and len(sampler) <= MOST_INDICES:
        distinct = len({int(index) for index in sampler.indices})
        return (distinct, distinct, False) if distinct == len(sampler) else None
    return None


def unique_samples(trainer: Any, samples: int, counter: BatchCounter) -> int | None:
    """Distinct samples among the first `samples` of the run; None where they are not certain.

    A run that is resumed within an epoch draws from the beginning of its data again, as Lightning says in a
    warning: in the same order it sees again what it saw; else what is new is known after the next epoch.

    Args:
        trainer: The Trainer.
        samples: Samples seen, or to be seen if training goes on as planned, over all processes.
        counter: What it has counted by now.
    """
    if counter.began is None:
        return counter.distinct if samples == counter.earlier else None
    drawing = find_drawing(trainer, counter.processes)
    if drawing is None or counter.first != drawing.first or not _is_regular(trainer, counter):
        return None  # what we count is not what the loader draws
    before, length, epoch = counter.distinct, drawing.length, drawing.epoch
    if before is not None and before >= length:
        return length if before == length else None  # there were other data
    left = read_progress(trainer).epoch_batches or 0
    position = counter.began[1]
    # Samples of the epoch that was under way when this process began.
    stretch = min((left - position) * drawing.size * counter.processes, epoch) if position else 0
    new = samples - counter.earlier
    if epoch >= length and new - stretch >= epoch:
        return length
    if drawing.in_order and not drawing.resumes:
        seen = new if new <= (stretch or epoch) else max(stretch, min(new - stretch, epoch))
        return None if before is None else max(before, min(seen, length))
    # Epochs that are cut short draw other samples each time: after one, between it and all of them.
    if before == 0 and not stretch and (new <= epoch or epoch >= length):
        return min(new, length)
    return None


def _is_regular(trainer: Any, counter: BatchCounter) -> bool:
    """Whether every epoch of this process went on to its planned end."""
    batches = read_progress(trainer).epoch_batches
    if batches is None or counter.began is None:
        return False
    epoch, position = counter.began
    here = trainer.fit_loop.batch_idx + 1
    expected = (int(trainer.current_epoch) - epoch) * batches + here - position
    # Once training has ended the epoch counts as the next.
    return counter.batches in (expected, expected - batches if here == batches else expected)
