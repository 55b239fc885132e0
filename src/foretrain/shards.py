"""Nested shards of a training set, for learning curves over data: which examples belong to which size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Index = NDArray[np.int64]

SMALLEST_SHARE = 1024
"""The smallest shard holds this part of the training set: Hestness et al. 2017 begin at about 0.1%."""


@dataclass(frozen=True)
class Shards:
    """An order of the training examples of which every shard is a beginning, and the examples held out.

    Attributes:
        order: Indices of the training examples, shape (n,).
        validation: Indices of the examples held out, ascending; the same whatever the shard.
        sizes: Sizes of the shards, ascending; each about twice the one before, the last is n.
    """

    order: Index
    validation: Index
    sizes: tuple[int, ...]

    def take(self, size: int) -> Index:
        """The examples of the shard of this size, ascending; every smaller shard is part of it.

        Args:
            size: From 1 to all; it need not be one of `sizes`.

        Raises:
            ValueError: If there are not so many examples.
        """
        if isinstance(size, bool) or size != int(size) or not 1 <= size <= self.order.size:
            told = ", ".join(map(str, self.sizes))
            raise ValueError(
                f"Expected a shard of 1 to {self.order.size} training examples, got {size}: the sizes in "
                f"powers of two are {told}."
            )
        return np.sort(self.order[: int(size)])


def nested_shards(
    n: int,
    *,
    labels: Sequence[object] | NDArray[np.generic] | None = None,
    validation: float = 0,
    smallest: int | None = None,
    seed: int = 0,
) -> Shards:
    """Orders the examples of a data set so that its shards are nested, alike, and the same every time.

    With labels, the classes are interleaved in proportion (Sainte-Lague's method): in every shard each class
    has its share of examples, rounded, so that the shards' errors differ by their size and not by chance. The
    order within a class is drawn by the bits of Philox, which are the same in every version of numpy.

    Args:
        n: Examples in the data set.
        labels: The class of each, length n; anything that can be compared for equality. None for no classes.
        validation: Examples to hold out from all shards: a share below 1, or their number.
        smallest: Fewest examples in a shard; by default a 1024th of the training set, at least one.
        seed: Of the order.

    Returns:
        The shards.

    Raises:
        ValueError: If a number is out of its range, or the labels are not n.

    References:
        Hestness et al. 2017, arXiv:1712.00409, section 3 (shards that grow by factors of about two, and one
        validation set); Salmon et al. 2011 (Philox).

    Example:
        >>> shards = nested_shards(1000, validation=200, smallest=100)
        >>> shards.sizes, shards.take(100).size, shards.validation.size
        ((100, 200, 400, 800), 100, 200)
    """
    if isinstance(n, bool) or n != int(n) or n < 1:
        raise ValueError(f"Expected a data set of at least 1 example, got n={n}.")
    if isinstance(seed, bool) or seed != int(seed) or seed < 0:
        raise ValueError(f"Expected `seed` to be a whole number that is not negative, got {seed!r}.")
    held_out = _held_out(int(n), validation)
    kinds = _kinds(int(n), labels)
    drawn = np.random.Philox(int(seed)).random_raw(int(n))
    order = _interleaved(np.argsort(drawn, kind="stable"), kinds)
    training, held = order[: int(n) - held_out], order[int(n) - held_out :]
    return Shards(training, np.sort(held), _sizes(training.size, smallest))


def _held_out(n: int, validation: float) -> int:
    if isinstance(validation, bool) or not 0 <= validation < n or 1 <= validation != int(validation):
        raise ValueError(
            f"Expected `validation` to be a share below 1 or a number of examples below {n}, "
            f"got {validation!r}."
        )
    number = round(n * validation) if validation < 1 else int(validation)
    if validation > 0 and not 1 <= number < n:
        raise ValueError(
            f"Expected `validation` to leave examples on both sides, got {validation!r} of {n}: "
            "give a number."
        )
    return number


def _kinds(n: int, labels: ArrayLike | Sequence[object] | None) -> Index:
    """The class of each example as a number, shape (n,)."""
    if labels is None:
        return np.zeros(n, dtype=np.int64)
    found = np.asarray(labels)
    if found.shape != (n,):
        raise ValueError(
            f"Expected `labels` to hold one class for each of {n} examples, got shape {found.shape}: "
            "give class numbers or names, not one-hot rows."
        )
    _, kinds = np.unique(found, return_inverse=True)
    return np.asarray(kinds.reshape(n), dtype=np.int64)


def _interleaved(drawn: Index, kinds: Index) -> Index:
    """The examples drawn, in an order in which every beginning holds the classes in proportion."""
    count = np.bincount(kinds)
    by_class = drawn[np.argsort(kinds[drawn], kind="stable")]
    rank = np.arange(drawn.size) - np.repeat(np.cumsum(count) - count, count)
    place = (rank + 0.5) / np.repeat(count, count)
    # Of equal places the drawn order decides, so that no class is always first.
    position = np.empty_like(drawn)
    position[drawn] = np.arange(drawn.size)
    return np.asarray(by_class[np.lexsort((position[by_class], place))], dtype=np.int64)


def _sizes(n: int, smallest: int | None) -> tuple[int, ...]:
    least = max(1, n // SMALLEST_SHARE) if smallest is None else smallest
    if isinstance(least, bool) or least != int(least) or not 1 <= least <= n:
        raise ValueError(f"Expected `smallest` to be 1 to {n} examples, got {smallest!r}.")
    sizes = []
    while n >= least:
        sizes.append(n)
        n //= 2
        if n == 0:
            break
    return tuple(reversed(sizes))
