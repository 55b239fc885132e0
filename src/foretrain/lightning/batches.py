"""What a training batch holds: samples and tokens, found without touching the data or waiting for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor
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


def texts(batch: Any) -> Iterator[tuple[Tensor, Tensor | None]]:
    """The token ids in a batch, each with its mask of the same shape, or None.

    Looks for `input_ids` and `attention_mask` in a mapping, a dataclass or a named tuple, which is the batch
    or an element of a list or tuple that is the batch.
    """
    found = _text(batch)
    if found is not None:
        yield found
    elif isinstance(batch, list | tuple):
        for item in batch:
            if type(item) is not str and (found := _text(item)) is not None:
                yield found


def _text(holder: Any) -> tuple[Tensor, Tensor | None] | None:
    if isinstance(holder, Mapping):
        ids, mask = holder.get("input_ids"), holder.get("attention_mask")
    elif is_dataclass(holder) or hasattr(holder, "_fields"):
        ids, mask = getattr(holder, "input_ids", None), getattr(holder, "attention_mask", None)
    else:
        return None
    if not isinstance(ids, Tensor):
        return None
    # A mask of another shape is one over pairs of positions, and its sum counts no tokens.
    return ids, mask if isinstance(mask, Tensor) and mask.shape == ids.shape else None


def attended_tokens(batch: Any) -> Count:
    """Tokens that are not padding, as a tensor that is not read here: reading would wait for the device.

    Raises:
        ValueError: If there are none with a mask.
    """
    counts = [None if mask is None else mask.sum(dtype=torch.int64) for _, mask in texts(batch)]
    if not counts or any(count is None for count in counts):
        raise ValueError("expected `input_ids` with an `attention_mask` of the same shape")
    return counts[0] if len(counts) == 1 else torch.stack(counts).sum()  # type: ignore[return-value, arg-type]


def all_tokens(batch: Any) -> Count:
    """Tokens in `input_ids`, padding included.

    Raises:
        ValueError: If there are none.
    """
    counts = [ids.numel() for ids, _ in texts(batch)]
    if not counts:
        raise ValueError("expected `input_ids`")
    return sum(counts)


def token_rule(batch: Any) -> tuple[str, Callable[[Any], Count]] | None:
    """How the tokens of batches like this one are counted, by name; None if it holds none that we know."""
    masks = [mask for _, mask in texts(batch)]
    if not masks:
        return None
    if all(mask is not None for mask in masks):
        return "attention_mask", attended_tokens
    return "input_ids", all_tokens


@dataclass(frozen=True)
class Loaders:
    """Several loaders that are drawn from together, in a dictionary, list or tuple, nested or not.

    Batches have the same structure as they; None stands where a loader is exhausted.

    Attributes:
        paths: Where each loader's part of a batch is: the keys and indices to take, one after the other.
    """

    paths: tuple[tuple[Any, ...], ...]

    @classmethod
    def of(cls, loader: Any) -> Loaders | None:
        """The loaders of a Trainer; None where it has one."""
        paths = tuple(_paths(loader))
        return cls(paths) if len(paths) > 1 else None

    def split(self, batch: Any) -> list[Any]:
        """The batches of those loaders that are not exhausted."""
        parts = []
        for path in self.paths:
            part = batch
            for key in path:
                part = part[key]
            if part is not None:
                parts.append(part)
        return parts

    def samples(self, batch: Any) -> int:
        """Samples in all of them together, by `first_size`.

        Raises:
            ValueError: If that is not known of one.
        """
        sizes = [first_size(part) for part in self.split(batch)]
        if None in sizes:
            raise ValueError("expected a tensor in the batch of every loader")
        return sum(sizes)  # type: ignore[arg-type]

    def token_rule(self, batch: Any) -> tuple[str, Callable[[Any], Count]] | None:
        """How their tokens are counted, by name; None if one of them holds none that we know."""
        rules = [token_rule(part) for part in self.split(batch)]
        if not rules or any(rule is None for rule in rules):
            return None
        names = {rule[0] for rule in rules if rule is not None}
        name = min(names) if len(names) == 1 else "input_ids"
        return f"{name} of each loader", TokensOfEach(self, name == "attention_mask")


@dataclass(frozen=True)
class TokensOfEach:
    """Counts the tokens of several loaders.

    Attributes:
        loaders: The loaders.
        attended: Whether padding is left out.
    """

    loaders: Loaders
    attended: bool

    def __call__(self, batch: Any) -> Count:
        """Tokens in the batches of all loaders together."""
        rule = attended_tokens if self.attended else all_tokens
        counts: list[Any] = [rule(part) for part in self.loaders.split(batch)]
        return sum(counts[1:], start=counts[0]) if counts else 0


def _paths(loader: Any) -> Iterator[tuple[Any, ...]]:
    if isinstance(loader, Mapping):
        items: Any = loader.items()
    elif isinstance(loader, list | tuple):
        items = enumerate(loader)
    else:
        yield ()
        return
    for key, item in items:
        yield from ((key, *path) for path in _paths(item))
