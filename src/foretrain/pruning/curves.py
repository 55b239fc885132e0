"""The error of one network against the share of its weights that pruning left."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from foretrain.axes import Counts
from foretrain.inputs import positive, same_length
from foretrain.laws.law import Array
from foretrain.observation import RunRecord
from foretrain.pruning.joint import PrunedNetwork


@dataclass(frozen=True, eq=False)
class PruningCurve:
    """The error of a network at each density.

    Attributes:
        depth: Its depth, in any unit.
        width: Its width, likewise.
        weights: Weights that pruning may remove.
        density: Share of them that is left, shape (n,), falling from 1.
        error: The error there, shape (n,), in the metric's unit.

    Raises:
        ValueError: If a number is not positive and finite, the lengths differ, or the density does not fall
            from 1.
    """

    depth: float
    width: float
    weights: float
    density: Array
    error: Array

    def __post_init__(self) -> None:
        """Takes any sequences as arrays."""
        for name in ("depth", "width", "weights"):
            object.__setattr__(self, name, float(positive(name, getattr(self, name))))
        for name in ("density", "error"):
            object.__setattr__(self, name, positive(name, getattr(self, name)))
        same_length(density=self.density, error=self.error)
        if self.density[0] != 1 or not (np.diff(self.density) < 0).all():
            raise ValueError(
                f"Expected `density` to fall from 1, got {self.density[0]:.4g} to {self.density[-1]:.4g} at "
                f"{self.density.size} points: begin with the network unpruned, and give each density once."
            )

    @property
    def unpruned(self) -> float:
        """The error of the whole network."""
        return float(self.error[0])

    @property
    def network(self) -> PrunedNetwork:
        """The network, to choose from."""
        return PrunedNetwork(self.depth, self.width, self.weights, self.unpruned)

    def density_for(self, target: float) -> float:
        """The density at which the measured error first passes a target, between two points by their logs.

        Args:
            target: An error, in the metric's unit.

        Returns:
            The lowest density down to which all errors are at most the target; the last one measured where
            none is above it; NaN where the whole network's is.
        """
        above = np.flatnonzero(self.error > target)
        if not above.size:
            return float(self.density[-1])
        if above[0] == 0:
            return float("nan")
        pair = slice(above[0] - 1, above[0] + 1)
        place = np.interp(np.log(target), np.log(self.error[pair]), np.log(self.density[pair]))
        return float(np.exp(place))


def pruning_curve(
    runs: Iterable[RunRecord], metric: str, *, depth: float, width: float, weights: int
) -> PruningCurve:
    """The curve of a network that was trained and pruned, once or from several seeds.

    Of each density the last measurement of a run counts, whether one run went through all densities or each
    has one of its own; over the runs the mean is taken. Records hold the share of all parameters that masks
    left, which is that of no pruning where there are no masks; the curve has the share of the weights that
    may be pruned.

    Args:
        runs: The runs of the network, as the store has them.
        metric: Name of the metric; an error, lower is better.
        depth: Depth of the network, in any unit.
        width: Its width, likewise.
        weights: How many of its parameters may be pruned.

    Returns:
        The curve.

    Raises:
        ValueError: If the runs do not hold the network unpruned, its densities are not those of so many
            weights, or an error is not positive and finite.
    """
    found: dict[int, list[float]] = {}
    for record in runs:
        last = {
            weights - _gone(record, one.counts, weights): one.value
            for one in record.observations
            if one.metric == metric
        }
        for kept, value in last.items():
            found.setdefault(kept, []).append(value)
    if weights not in found:
        raise ValueError(
            f"Expected runs that measured {metric!r} of the network unpruned, got densities of "
            f"{len(found)} others: measure it before it is pruned."
        )
    left = sorted(found, reverse=True)
    error = np.array([np.mean(found[kept]) for kept in left])
    return PruningCurve(depth, width, weights, np.array(left) / weights, error)


def _gone(record: RunRecord, counts: Counts, weights: int) -> int:
    """How many weights are masked."""
    total = counts.params_total or 0
    gone = 0 if counts.density is None else round(total * (1 - counts.density))
    if not gone < weights <= total:
        raise ValueError(
            f"Expected {weights} weights that may be pruned and some of them left, got {total} parameters of "
            f"which {gone} are gone in the run {record.info.run!r}: count the weights that have masks."
        )
    return gone
