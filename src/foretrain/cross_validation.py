"""How far a law is off points it was not fitted to: cross-validation, and extrapolation from a corner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from foretrain.fitting import fit
from foretrain.inputs import positive
from foretrain.laws import LAWS, Law
from foretrain.laws.law import Array


@dataclass(frozen=True, eq=False)
class Deviations:
    """How far predictions lie off what was measured.

    Attributes:
        predicted: Predictions for the points judged, shape (k,), in the metric's unit.
        relative: `(predicted - measured) / measured`, shape (k,).
        judged: Indices of those points, shape (k,).
    """

    predicted: Array
    relative: Array
    judged: NDArray[np.int64]

    @property
    def mean(self) -> float:
        """Mean relative deviation, with its sign: mu of Rosenfeld et al."""
        return float(self.relative.mean())

    @property
    def std(self) -> float:
        """Standard deviation of the relative deviations: sigma of Rosenfeld et al."""
        return float(self.relative.std())


def cross_validate(
    law: Law | str,
    x: ArrayLike,
    y: ArrayLike,
    *,
    folds: int = 10,
    seed: int = 0,
    fixed: Mapping[str, float] | None = None,
) -> Deviations:
    """Predicts every point from a fit to points of other folds.

    Args:
        law: The law, or its name.
        x: Where the metric was measured, shape (n_axes, n), or (n,) for one axis. Positive.
        y: The metric there, shape (n,), in its own unit. Positive; one point for each place, else a fold's
            points would be known from their repeats.
        folds: The points are split into so many parts, at random.
        seed: Of the split.
        fixed: Parameters that are known, by name.

    Returns:
        The deviations of all points, in their order.

    Raises:
        ValueError: If there are fewer points than folds or too few to fit, two lie at one place, or a number
            is not positive and finite.

    References:
        Rosenfeld et al. 2020, arXiv:1909.12673, section 6 (10-fold cross-validation of relative deviations).
    """
    chosen, places, values = _checked(law, x, y)
    if not 2 <= folds <= values.size:
        raise ValueError(f"Expected 2 to {values.size} `folds`, as many as points at most, got {folds}.")
    if np.unique(places, axis=1).shape[1] < values.size:
        raise ValueError(
            "Expected one point for each place, got repeats: take the mean or the median over seeds first."
        )
    fold = np.random.default_rng(seed).permutation(values.size) % folds
    predicted = np.empty_like(values)
    for part in range(folds):
        out = fold == part
        predicted[out] = fit(chosen, places[:, ~out], values[~out], fixed=fixed).predict(places[:, out])
    return Deviations(predicted, predicted / values - 1, np.arange(values.size))


def extrapolate(
    law: Law | str,
    x: ArrayLike,
    y: ArrayLike,
    known: ArrayLike,
    *,
    fixed: Mapping[str, float] | None = None,
) -> Deviations:
    """Predicts the other points from a fit to the known ones, such as a corner of small models and data.

    Args:
        law: The law, or its name.
        x: Where the metric was measured, shape (n_axes, n), or (n,) for one axis. Positive.
        y: The metric there, shape (n,), in its own unit. Positive.
        known: Which points are fitted, shape (n,), booleans.
        fixed: Parameters that are known, by name.

    Returns:
        The deviations of the points that are not.

    Raises:
        ValueError: If there are too few known points to fit or none to judge, or a number is not positive and
            finite.
    """
    chosen, places, values = _checked(law, x, y)
    chosen_points = np.asarray(known, dtype=bool)
    if chosen_points.shape != values.shape or chosen_points.all():
        raise ValueError(
            f"Expected `known` as {values.size} booleans of which some are false, got shape "
            f"{chosen_points.shape} with {int(chosen_points.sum())} true: leave points to be judged."
        )
    fitted = fit(chosen, places[:, chosen_points], values[chosen_points], fixed=fixed)
    predicted = fitted.predict(places[:, ~chosen_points])
    return Deviations(predicted, predicted / values[~chosen_points] - 1, np.flatnonzero(~chosen_points))


def _checked(law: Law | str, x: ArrayLike, y: ArrayLike) -> tuple[Law, Array, Array]:
    chosen = LAWS[law] if isinstance(law, str) else law
    places, values = np.atleast_2d(positive("x", x)), positive("y", y)
    if values.ndim != 1 or places.shape != (chosen.n_axes, values.size):
        raise ValueError(
            f"Expected `x` of shape ({chosen.n_axes}, n) and `y` of shape (n,) for the law {chosen.name}, "
            f"got {places.shape} and {values.shape}."
        )
    return chosen, places, values
