"""Data seen several times: what repeats are worth, and how many epochs are best by a fitted law."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from foretrain.fitting import Fit
from foretrain.inputs import positive
from foretrain.laws import LAWS
from foretrain.laws.law import Array

R_D = 15.387756
"""Repeats after which their value has decayed by e, on text (Muennighoff et al. 2023, arXiv:2305.16264)."""

PLACES = 200
"""Numbers of epochs, evenly spaced in their logarithm, at which the best is looked for; then nearer."""

ZOOMS = 3
"""How often it is looked for, each time between the neighbours of the best place."""


def effective_data(seen: ArrayLike, unique: ArrayLike, r: float = R_D) -> Array:
    """How much new data the data seen are worth, once they repeat.

    `D' = U + U r (1 - exp(-(D / U - 1) / r))`: four epochs are worth 93% of as much new data, 40 epochs 38%,
    and no number of them more than `1 + r` times the unique data. Within the first epoch it is the data seen.
    As an abscissa it straightens the part of a curve on which repeats count less and less. It knows no
    over-fitting: a curve that rises with epochs rises along it, too.

    Args:
        seen: Data seen, in training examples or tokens, any shape. Positive.
        unique: Unique data in the same unit, a shape that broadcasts with `seen`. Positive.
        r: Repeats after which their value has decayed by e. Positive.

    Returns:
        Effective data in the same unit, in the broadcast shape.

    Raises:
        ValueError: If a number is not positive and finite, or the shapes do not broadcast.

    References:
        Muennighoff et al. 2023, arXiv:2305.16264, equation 5.

    Example:
        >>> from foretrain.families.repeated import effective_data
        >>> round(float(effective_data(4e9, 1e9)) / 4e9, 2)
        0.93
    """
    (rate,) = positive("r", np.atleast_1d(r))[:1]
    seen, unique = broadcast(seen=positive("seen", seen), unique=positive("unique", unique))
    repeats = np.expm1(np.clip(np.log(seen) - np.log(unique), 0.0, 700.0))
    with np.errstate(over="ignore", under="ignore"):
        new = np.exp(np.log(np.minimum(seen, unique)) + np.log1p(-rate * np.expm1(-repeats / rate)))
    return np.asarray(np.minimum(new, seen))


@dataclass(frozen=True)
class BestEpochs:
    """How many epochs are best by a fitted law.

    Attributes:
        epochs: Data seen over unique data where the law is lowest, within what was asked.
        loss: The law's value there, in the metric's unit.
        past: Whether the law is higher at the most epochs that were asked about.
    """

    epochs: Array
    loss: Array
    past: NDArray[np.bool_]


def best_epochs(law: Fit, n: ArrayLike, u: ArrayLike, most: ArrayLike = 1000.0) -> BestEpochs:
    """The number of epochs from 1 to `most` at which a law of repeated data is lowest.

    Args:
        law: A fit of a law of model size, data seen and unique data: `memorization`, `lovelace` or
            `repeated_data`, which never rises.
        n: Model sizes, in parameters. Positive.
        u: Unique data, in training examples or tokens. Positive.
        most: Largest number of epochs. At least 1.

    Returns:
        Epochs, loss and whether more are worse, in the shape that `n`, `u` and `most` broadcast to.

    Raises:
        ValueError: If the law has other axes, a number is not positive and finite, `most` is less than 1, or
            the shapes do not broadcast.
    """
    names = [axis.name for axis in LAWS[law.law].axes]
    if names != ["N", "D", "U"]:
        raise ValueError(
            f"Expected a fit of a law of N, D and U, such as memorization, got {law.law}, which has "
            f"{' and '.join(names)}."
        )
    size, unique, limit = broadcast(n=positive("n", n), u=positive("u", u), most=positive("most", most))
    if limit.min() < 1:
        raise ValueError(f"Expected `most` to be at least one epoch, got {float(limit.min())}.")
    flat = zip(size.ravel(), unique.ravel(), limit.ravel(), strict=True)
    found = np.array([_best(law, *place) for place in flat]).T.reshape(3, *size.shape)
    return BestEpochs(found[0], found[1], found[2] > 0)


def past_best(law: Fit, n: ArrayLike, d: ArrayLike, u: ArrayLike) -> NDArray[np.bool_]:
    """Whether runs end past their best epoch by a fitted law: fewer epochs of the same data end lower.

    Args:
        law: As for `best_epochs`.
        n: Model sizes, in parameters. Positive.
        d: Data seen at the end, in training examples or tokens. Positive.
        u: Unique data in the same unit. Positive.

    Returns:
        In the shape that the last three broadcast to; never true within the first epoch.

    Raises:
        ValueError: As `best_epochs`.
    """
    size, seen, unique = broadcast(n=positive("n", n), d=positive("d", d), u=positive("u", u))
    return best_epochs(law, size, unique, np.exp(np.clip(np.log(seen) - np.log(unique), 0.0, 700.0))).past


def _best(law: Fit, n: float, u: float, most: float) -> tuple[float, float, bool]:
    """The best epochs of one model, the law's value there, and whether it is higher at the end."""
    low, high = 1.0, most
    for _ in range(ZOOMS):
        epochs = np.geomspace(low, high, PLACES)
        values = law.predict(along(n, u, epochs))
        best = int(np.argmin(values))
        low, high = epochs[max(best - 1, 0)], epochs[min(best + 1, PLACES - 1)]
    end = float(law.predict(along(n, u, np.array([most])))[0])
    return float(epochs[best]), float(values[best]), bool(end > values[best] * (1 + 1e-9))


def along(n: float, u: float, epochs: Array) -> Array:
    """Model size, data seen and unique data after so many epochs, shape (3, m)."""
    seen = np.exp(np.minimum(np.log(u) + np.log(epochs), 700.0))
    return np.stack([np.full_like(epochs, n), seen, np.full_like(epochs, u)])


def broadcast(**arrays: Array) -> tuple[Array, ...]:
    """The arrays, by name, in one shape.

    Raises:
        ValueError: If their shapes do not broadcast.
    """
    try:
        return tuple(np.broadcast_arrays(*arrays.values()))
    except ValueError:
        told = ", ".join(f"`{name}` of shape {array.shape}" for name, array in arrays.items())
        raise ValueError(f"Expected arrays of shapes that broadcast, got {told}.") from None
