"""Samples and tokens of a run, summed up batch by batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from foretrain.lightning.batches import Count, Loaders, first_size, token_rule
from foretrain.lightning.naming import function_name


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
        batch_size_fn: Samples in a batch; by default `first_size`, of each loader where there are several.
        length_fn: Tokens in a batch, all its samples together; by default the tokens of batches in which
            `token_rule` finds some, else none.

    Attributes:
        processes: Data-parallel processes.
        batches: Batches of this process that were counted since it began.
        first: Samples in the first of them; None before it, or if unknown.
        chosen: Whether the user said how samples are counted.
        began: Epoch and batch in the epoch, from 0, of the first of them; None before it.
        distinct: Distinct samples before them; None where unknown.
        flops_per_sample: Measured training FLOPs of one sample; None where not measured.
        samples: Of this process that were counted without `add`, by who knows that it would count the same.
        newest: Samples in the last batch that was counted, as they were told; None before it.
        faults: What could not be counted and why, by name.
    """

    def __init__(
        self,
        batch_size_fn: Callable[[Any], Count] | None = None,
        length_fn: Callable[[Any], Count] | None = None,
    ) -> None:
        self._size: Callable[[Any], Any] = first_size if batch_size_fn is None else batch_size_fn
        self._length = length_fn
        self._user_length = length_fn is not None
        self.chosen = batch_size_fn is not None
        self.samples_rule = "first tensor"
        if batch_size_fn is not None:
            self.samples_rule = f"batch_size_fn {function_name(batch_size_fn)}"
        self.tokens_rule: str | None = None
        if length_fn is not None:
            self.tokens_rule = f"length_fn {function_name(length_fn)}"
        self.faults: dict[str, str] = {}
        self.start()

    def start(
        self,
        *,
        processes: int = 1,
        samples: int = 0,
        tokens: int | None = None,
        tokens_rule: str | None = None,
        distinct: int | None = None,
        loader: Any = None,
    ) -> None:
        """Begins a count, on top of what an earlier process of the run had counted.

        Args:
            processes: Data-parallel processes.
            samples: Samples counted earlier, over all processes.
            tokens: Tokens counted earlier; None where unknown.
            tokens_rule: How those were counted, which holds until the first batch.
            distinct: Distinct samples among those counted earlier; None where unknown.
            loader: What the Trainer draws from: one loader, or several in a dictionary, list or tuple.
        """
        self.batches = 0
        self.first: int | None = None
        self.began: tuple[int, int] | None = None
        self.distinct = distinct if samples else 0
        self.flops_per_sample: float | None = None
        self.newest: Any = None
        self.samples = 0
        self._token_rule = token_rule
        if not self.chosen:
            loaders = Loaders.of(loader)
            self._size = first_size if loaders is None else loaders.samples
            self.samples_rule = "first tensor" if loaders is None else "first tensor of each loader"
            self._token_rule = token_rule if loaders is None else loaders.token_rule
        self.processes = processes
        self._earlier = (samples, tokens)
        self._samples, self._tokens = _Tally(), _Tally()
        if not self._user_length:
            self._length, self.tokens_rule = None, None if tokens is None else tokens_rule

    def add(self, batch: Any) -> None:
        """Counts a batch. Never raises an `Exception`; what it cannot count, it says in `faults`."""
        if batch is None:  # a loader may yield None to skip a step
            return
        self.batches += 1
        if self.batches == 1 and self._length is None:
            self._find_tokens(batch)
        try:
            size = self._size(batch)
            if type(size) is int and size >= 0:
                self._samples.known += size
                self.newest = size
            elif self._samples.add(size):
                self.newest = size
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

    @property
    def only_sizes(self) -> bool:
        """Whether the size of the first tensor is all that is counted of a batch."""
        return self._size is first_size and self._length is None

    def read(self) -> tuple[int, int | None]:
        """Samples and tokens over all processes; None where tokens are not known. Waits for the device."""
        samples, tokens = self._earlier
        total = samples + self.processes * (self.samples + self._samples.read())
        if self._length is None:
            return total, tokens if self.batches == 0 else None
        counted = self.processes * self._tokens.read()
        if tokens is None:
            # Tokens of an earlier process that did not count them cannot be made up.
            return total, counted if samples == 0 else None
        return total, tokens + counted

    @property
    def last(self) -> int | None:
        """Samples in the last batch of this process; None if unknown. May wait for the device."""
        return None if self.newest is None else int(self.newest)

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
            self.distinct = None

    def _find_tokens(self, batch: Any) -> None:
        self.tokens_rule = None
        try:
            rule = self._token_rule(batch)
        except Exception:  # batches are anyone's
            return
        if rule is not None:
            self.tokens_rule, self._length = rule

    def _miss(self, reason: str) -> None:
        if self.newest is not None:
            self._samples.add(self.newest)
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
