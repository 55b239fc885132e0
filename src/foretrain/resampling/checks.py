"""What the arguments of `foretrain.resampling` must be; what is not raises a ValueError that says so."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from foretrain.laws.law import Array


def block_length(block: int | None, kind: str, n: int) -> int:
    """The length of a block, in points; 1 draws single residuals."""
    if kind != "block":
        if block is not None:
            raise ValueError(f'Expected `block` only with kind="block", got block={block!r}, kind={kind!r}.')
        return 1
    length = round(n ** (1 / 3)) if block is None else block
    if not isinstance(length, int) or isinstance(length, bool) or not 1 <= length <= n:
        raise ValueError(f"Expected `block` to be a whole number from 1 to {n}, the points, got {block!r}.")
    return length


def check_enough(x: Array) -> None:
    """Refuses fewer points than fix the three parameters of a power law with floor."""
    different = np.unique(x).size
    if x.size < 5 or different < 3:
        raise ValueError(
            f"Expected at least 5 points at 3 different x for the 3 parameters of E + A x^-alpha, got "
            f"{x.size} at {different}: measure more points first."
        )


def check_options(kind: str, kinds: tuple[str, ...], n_resamples: int, seed: int) -> None:
    """Refuses an unknown kind, and counts that are not whole numbers."""
    if kind not in kinds:
        raise ValueError(f"Expected `kind` to be one of {', '.join(kinds)}, got {kind!r}.")
    for name, value, least in (("n_resamples", n_resamples, 1), ("seed", seed, 0)):
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least:
            raise ValueError(f"Expected `{name}` to be a whole number, at least {least}, got {value!r}.")


def check_levels(name: str, levels: Sequence[float]) -> Array:
    """Levels as an array, each between 0 and 1."""
    try:
        array = np.asarray(levels, dtype=float)
    except (TypeError, ValueError):
        array = np.array([])
    if array.ndim != 1 or array.size == 0 or not ((array > 0) & (array < 1)).all():
        raise ValueError(f"Expected `{name}` to hold numbers between 0 and 1, such as 0.9, got {levels!r}.")
    return array


def check_positive(name: str, values: ArrayLike) -> Array:
    """Values as an array of positive, finite numbers."""
    try:
        array = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        raise ValueError(f"Expected `{name}` to be an array of numbers, got {values!r:.80}.") from None
    bad = ~(np.isfinite(array) & (array > 0))
    if bad.any() or array.size == 0:
        came = f"{array[bad].flat[0]} ({bad.sum()} of {array.size} are not)" if array.size else "none"
        raise ValueError(
            f"Expected `{name}` to hold positive, finite numbers, got {came}: leave those points out."
        )
    return array


def check_same_length(**arrays: Array) -> None:
    """Refuses arrays that are not one-dimensional and equally long."""
    if any(array.ndim != 1 for array in arrays.values()) or len({a.shape for a in arrays.values()}) > 1:
        told = ", ".join(f"`{name}` of shape {array.shape}" for name, array in arrays.items())
        raise ValueError(f"Expected one-dimensional arrays of the same length, got {told}.")


def check_enough_runs(n: Array, d: Array) -> None:
    """Refuses fewer runs than fix the five parameters of the joint law."""
    sizes, amounts = np.unique(n).size, np.unique(d).size
    if n.size < 7 or sizes < 3 or amounts < 3:
        raise ValueError(
            f"Expected at least 7 runs of 3 different sizes and 3 amounts of data for the 5 parameters of "
            f"E + A N^-alpha + B D^-beta, got {n.size} of {sizes} and {amounts}: train more first."
        )


def check_delta(delta: float) -> None:
    """Refuses a threshold of the Huber loss that is not a positive number."""
    if isinstance(delta, bool) or not isinstance(delta, (int, float)) or not 0 < delta < np.inf:
        raise ValueError(
            f"Expected `huber_delta` to be a positive log residual, such as 1e-3, got {delta!r}."
        )
