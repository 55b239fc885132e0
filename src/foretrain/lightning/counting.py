"""What a training batch holds: samples and tokens, counted without touching the data or waiting for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy
from torch.nn.utils.rnn import PackedSequence

Count = int | Tensor


def first_size(batch: Any) -> int | None:
    """The size of the first dimension of the first tensor in a batch, depth first; None if it has none.

    Looks into mappings, lists, tuples and dataclasses only. Anything else that can be iterated, such as a
    generator, is left alone: looking would consume it. Tensors without a dimension are passed over.
    """
    # What nearly every batch is, first: this runs in every training step.
    first = batch[0] if type(batch) in (list, tuple) and batch else batch
    if isinstance(first, Tensor) and first.dim():
        return first.size(0)
    if isinstance(batch, Tensor):
        return None
    if isinstance(batch, PackedSequence):
        return int(batch.batch_sizes[0])  # kept on the CPU by PyTorch, so this does not wait
    if isinstance(batch, Mapping):
        items: Any = batch.values()
    elif isinstance(batch, list | tuple):
        items = batch
    elif is_dataclass(batch) and not isinstance(batch, type):
        items = (getattr(batch, field.name) for field in fields(batch))
    else:
        return None
    for item in items:
        size = first_size(item)
        if size is not None:
            return size
    return None


def attended_tokens(batch: Any) -> Count:
    """Tokens that are not padding, as a tensor that is not read here: reading would wait for the device."""
    mask: Tensor = batch["attention_mask"]
    return mask.sum(dtype=torch.int64)


def all_tokens(batch: Any) -> Count:
    """Tokens in `input_ids`, padding included."""
    ids: Tensor = batch["input_ids"]
    return ids.numel()


def token_rule(batch: Any) -> tuple[str, Callable[[Any], Count]] | None:
    """How the tokens of batches like this one are counted, by name; None if it holds none that we know."""
    if not isinstance(batch, Mapping) or not isinstance(batch.get("input_ids"), Tensor):
        return None
    mask = batch.get("attention_mask")
    # A mask of another shape is one over pairs of positions, and its sum counts no tokens.
    if isinstance(mask, Tensor) and mask.shape == batch["input_ids"].shape:
        return "attention_mask", attended_tokens
    return "input_ids", all_tokens


class _Tally:
    """A sum of counts; those that come as tensors stay on their device until it is read."""

    def __init__(self) -> None:
        self.known = 0
        self.late: Tensor | None = None

    def add(self, count: Any) -> bool:
        """Adds a count; False if it is none."""
        if type(count) is int and count >= 0:
            self.known += count
            return True
        if isinstance(count, Tensor):
            whole = count.dim() == 0 and count.dtype == torch.int64
            total = count if whole else count.detach().sum(dtype=torch.int64)
            self.late = total.clone() if self.late is None else self.late.add_(total)
            return True
        if count is None or isinstance(count, str) or not float(count).is_integer() or count < 0:
            return False
        self.known += int(count)
        return True

    def read(self) -> int:
        if self.late is not None:
            self.known += int(self.late.item())
            self.late = None
        return self.known


class BatchCounter:
    """Counts samples and tokens over a run, over all data-parallel processes. Only `add` is on the hot path.

    One process counts its own batches; the totals are multiplied by the number of data-parallel processes,
    which hold shards of equal size in Lightning (its sampler pads them).

    Args:
        batch_size_fn: Samples in a batch; by default `first_size`.
        length_fn: Tokens in a batch, all its samples together; by default the tokens of a batch that is a
            mapping with `input_ids`, else none.

    Attributes:
        processes: Data-parallel processes.
        batches: Batches of this process that were counted since it began.
        first: Samples in the first of them; None before it, or if unknown.
        faults: What could not be counted and why, by name.
    """

    def __init__(
        self,
        batch_size_fn: Callable[[Any], Count] | None = None,
        length_fn: Callable[[Any], Count] | None = None,
    ) -> None:
        self._size = first_size if batch_size_fn is None else batch_size_fn
        self._length = length_fn
        self._user_length = length_fn is not None
        self.samples_rule = "first tensor" if batch_size_fn is None else "batch_size_fn"
        self.tokens_rule: str | None = None if length_fn is None else "length_fn"
        self.faults: dict[str, str] = {}
        self.start()

    def start(self, *, processes: int = 1, samples: int = 0, tokens: int | None = None) -> None:
        """Begins a count, on top of what an earlier process of the run had counted."""
        self.batches = 0
        self.first: int | None = None
        self._last: Any = None
        self.processes = processes
        self._earlier = (samples, tokens)
        self._samples, self._tokens = _Tally(), _Tally()
        if not self._user_length:
            self._length, self.tokens_rule = None, None

    def add(self, batch: Any) -> None:
        """Counts a batch. Never raises an `Exception`; what it cannot count, it says in `faults`."""
        if batch is None:  # a loader may yield None to skip a step
            return
        self.batches += 1
        if self.batches == 1 and self._length is None and (rule := token_rule(batch)):
            self.tokens_rule, self._length = rule
        try:
            size = self._size(batch)
            if type(size) is int and size >= 0:
                self._samples.known += size
                self._last = size
            elif self._samples.add(size):
                self._last = size
            else:
                self._miss(f"got {size!r}")
        except Exception as error:
            self._miss(f"{type(error).__name__}: {error}")
        if self.batches == 1:
            self.first = self._samples.read() or None  # may wait for the device, once
        if self._length is not None:
            try:
                tokens = self._length(batch)
                if not self._tokens.add(tokens):
                    raise ValueError(f"got {tokens!r}")
            except Exception as error:
                self._drop_tokens(error)

    def read(self) -> tuple[int, int | None]:
        """Samples and tokens over all processes; None where tokens are not known. Waits for the device."""
        samples, tokens = self._earlier
        total = samples + self.processes * self._samples.read()
        if self._length is None:
            return total, tokens if self.batches == 0 else None
        counted = self.processes * self._tokens.read()
        if tokens is None:
            # Tokens of an earlier process that did not count them cannot be made up.
            return total, counted if samples == 0 else None
        return total, tokens + counted

    @property
    def earlier(self) -> int:
        """Samples that were counted before this process began, over all processes."""
        return self._earlier[0]

    def describe(self) -> str:
        """One sentence on what is counted in a batch: a wrong rule should be seen at once."""
        samples = f"{self.first} samples" if self.first is not None else "no samples"
        tokens = f" and tokens ({self.tokens_rule})" if self.tokens_rule is not None else ""
        times = f", times {self.processes} processes" if self.processes > 1 else ""
        return f"ScalingLawMonitor counts {samples} ({self.samples_rule}){tokens} in the first batch{times}."

    def add_uncounted(self, batches: int) -> None:
        """Adds batches that were trained on before counting began, taken to be like the first."""
        if self.first is not None:
            samples, tokens = self._earlier
            self._earlier = (samples + batches * self.first * self.processes, tokens)

    def _miss(self, reason: str) -> None:
        if self._last is not None:
            self._samples.add(self._last)
        self.faults.setdefault(
            "samples",
            f"ScalingLawMonitor cannot count the samples of a batch ({reason}): pass `batch_size_fn`. "
            "Until then a batch like the last one counted is assumed, or none.",
        )

    def _drop_tokens(self, error: Exception) -> None:
        self._length = None
        self.tokens_rule = None
        self.faults.setdefault(
            "tokens",
            f"ScalingLawMonitor cannot count the tokens of a batch ({type(error).__name__}: {error}): pass a "
            "`length_fn` that returns the tokens of the whole batch. Tokens are unknown from here on.",
        )


def count_parameters(module: torch.nn.Module) -> tuple[int, int] | None:
    """Trainable parameters and all parameters, tied ones once; None while some are not yet made."""
    trainable = total = 0
    for parameter in module.parameters():
        if is_lazy(parameter):
            return None
        size = int(
            getattr(parameter, "ds_numel", 0) or parameter.numel()
        )  # DeepSpeed's shards know the whole
        total += size
        if parameter.requires_grad:
            trainable += size
    return trainable, total
