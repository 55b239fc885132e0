"""How well one law tells the errors of pruned networks that it was not fitted to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from foretrain.laws.law import Array
from foretrain.pruning.curves import PruningCurve
from foretrain.pruning.joint import JointPruningLaw, fit_joint_pruning


@dataclass(frozen=True, eq=False)
class JudgedNetworks:
    """What laws of other networks say of each network.

    Attributes:
        laws: The law fitted without the network, one for each, in the order of the curves.
        relative: `predicted / measured - 1`, one array for each network, without its point unpruned, which
            the law is given.
    """

    laws: tuple[JointPruningLaw, ...]
    relative: tuple[Array, ...]

    @property
    def mean(self) -> float:
        """Mean relative deviation, with its sign: mu of Rosenfeld et al."""
        return float(np.concatenate(self.relative).mean())

    @property
    def std(self) -> float:
        """Standard deviation of the relative deviations: sigma of Rosenfeld et al."""
        return float(np.concatenate(self.relative).std())


def fit_curves(curves: Sequence[PruningCurve], *, upper: float | None = None) -> JointPruningLaw:
    """One law through the curves of several networks.

    Args:
        curves: The curves.
        upper: The error at the highest sparsity, where it is known; see `fit_joint_pruning`.

    Raises:
        ValueError: As `fit_joint_pruning` does.
    """
    rows = [
        (curve.depth, curve.width, density, curve.unpruned, error)
        for curve in curves
        for density, error in zip(curve.density, curve.error, strict=True)
    ]
    return fit_joint_pruning(*np.array(rows, dtype=float).reshape(-1, 5).T, upper=upper)


def leave_networks_out(curves: Sequence[PruningCurve], *, upper: float | None = None) -> JudgedNetworks:
    """Predicts each network from the law of the others, given its error unpruned.

    Args:
        curves: The curves of at least three networks.
        upper: The error at the highest sparsity, where it is known; see `fit_joint_pruning`.

    Returns:
        The laws and their deviations.

    Raises:
        ValueError: If there are fewer than three networks, and as `fit_joint_pruning` does.

    References:
        Rosenfeld et al. 2021, arXiv:2006.10621, section 5 (mean and deviation of the relative error).
    """
    if len(curves) < 3:
        raise ValueError(f"Expected the curves of at least 3 networks, got {len(curves)}: prune more.")
    laws, relative = [], []
    for place, curve in enumerate(curves):
        law = fit_curves([*curves[:place], *curves[place + 1 :]], upper=upper)
        told = law.predict(curve.depth, curve.width, curve.density[1:], curve.unpruned)
        laws.append(law)
        relative.append(told / curve.error[1:] - 1)
    return JudgedNetworks(tuple(laws), tuple(relative))
