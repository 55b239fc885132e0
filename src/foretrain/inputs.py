"""What a public function requires of the arrays it is given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from foretrain.laws.law import Array


def positive(name: str, values: ArrayLike) -> Array:
    """The values as an array.

    Raises:
        ValueError: If there are none, or one is not a positive, finite number.
    """
    try:
        array = np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Expected `{name}` to be an array of numbers, got {values!r:.80}: {error}."
        ) from None
    if array.size == 0:
        raise ValueError(f"Expected `{name}` to hold at least one number, got none.")
    bad = ~(np.isfinite(array) & (array > 0))
    if bad.any():
        first = array[bad].flat[0]
        raise ValueError(
            f"Expected `{name}` to hold positive, finite numbers, got {float(first)} "
            f"({int(bad.sum())} of {array.size} are not): leave those points out."
        )
    return array


def same_length(**arrays: Array) -> None:
    """Checks that the arrays, by name, are one-dimensional and equally long.

    Raises:
        ValueError: If they are not.
    """
    shapes = {name: array.shape for name, array in arrays.items()}
    if any(array.ndim != 1 for array in arrays.values()) or len(set(shapes.values())) > 1:
        told = ", ".join(f"`{name}` of shape {shape}" for name, shape in shapes.items())
        raise ValueError(f"Expected one-dimensional arrays of the same length, got {told}.")


def broadcast(first: str, one: ArrayLike, second: str, other: ArrayLike) -> tuple[Array, Array]:
    """Two arrays of positive numbers, by name, in the shape of both together.

    Raises:
        ValueError: If a number is not positive and finite, or the two do not broadcast.
    """
    a, b = positive(first, one), positive(second, other)
    try:
        a, b = np.broadcast_arrays(a, b)
    except ValueError:
        raise ValueError(
            f"Expected `{first}` and `{second}` to broadcast, got shapes {a.shape} and {b.shape}."
        ) from None
    return a, b


def check_levels(levels: Sequence[float]) -> tuple[float, ...]:
    """The nominal levels of intervals.

    Raises:
        ValueError: If one is not between 0 and 1, or there is none.
    """
    try:
        checked = tuple(float(level) for level in levels)
    except (TypeError, ValueError):
        checked = ()
    if not checked or not all(0 < level < 1 for level in checked):
        raise ValueError(f"Expected `levels` to be numbers between 0 and 1, such as 0.9, got {levels!r}.")
    return checked
