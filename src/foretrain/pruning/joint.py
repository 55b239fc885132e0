"""One law for the error of many pruned networks of a family, and the smallest of them for a target error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import least_squares

from foretrain.inputs import positive, same_length
from foretrain.laws.law import Array

MIN_POINTS = 12
LARGEST_EXPONENT = 3.0


@dataclass(frozen=True)
class JointPruningLaw:
    """`y = e_np ((m^2 + p^2 (e_up / e_np)^(2/gamma)) / (m^2 + p^2))^(gamma/2)`, `m = depth^phi width^psi d`.

    The error of a network pruned to the density d depends on its depth, width and density through m alone,
    and on how much data it was trained on through its error unpruned, e_np.

    Attributes:
        upper: e_up, the error at the highest sparsity, in the metric's unit.
        gamma: Exponent of the climb.
        p: m at which the climb levels off.
        phi: Exponent of depth, negative where a deeper network needs more of its weights; 0 where all are of
            one depth.
        psi: Exponent of width, likewise; 0 where all are of one width.
        mean: Mean relative deviation of the fit, predicted over measured less one.
        std: Its standard deviation.
    """

    upper: float
    gamma: float
    p: float
    phi: float
    psi: float
    mean: float = float("nan")
    std: float = float("nan")

    def invariant(self, depth: ArrayLike, width: ArrayLike, density: ArrayLike) -> Array:
        """m, in which networks of one error unpruned are alike."""
        d, w, kept = (np.asarray(values, dtype=float) for values in (depth, width, density))
        return np.asarray(d**self.phi * w**self.psi * kept)

    def predict(self, depth: ArrayLike, width: ArrayLike, density: ArrayLike, unpruned: ArrayLike) -> Array:
        """The error, in the metric's unit, in the common shape of the arguments."""
        e_np = np.asarray(unpruned, dtype=float)
        m = self.invariant(depth, width, density)
        rise = (self.upper / e_np) ** (2 / self.gamma)
        return np.asarray(e_np * ((m**2 + self.p**2 * rise) / (m**2 + self.p**2)) ** (self.gamma / 2))

    def density_for(self, target: float, depth: float, width: float, unpruned: float) -> float:
        """The lowest density at which a network has an error; NaN where none has it.

        A target above the upper level is met at any density, told as 0; one at or below what the whole
        network reaches, by none.
        """
        if target >= self.upper:
            return 0.0
        if target < float(self.predict(depth, width, 1.0, unpruned)):
            return float("nan")
        ratio = (target / unpruned) ** (2 / self.gamma)
        rise = (self.upper / unpruned) ** (2 / self.gamma)
        m = self.p * np.sqrt((rise - ratio) / (ratio - 1))
        return float(m / self.invariant(depth, width, 1.0))


@dataclass(frozen=True)
class PrunedNetwork:
    """A network to choose from.

    Attributes:
        depth: Its depth, in the unit of the fit.
        width: Its width, likewise.
        params: Weights that pruning may remove.
        unpruned: Its error unpruned.
    """

    depth: float
    width: float
    params: float
    unpruned: float


def smallest_for(
    law: JointPruningLaw, networks: Sequence[PrunedNetwork], target: float
) -> tuple[PrunedNetwork, float] | None:
    """The network and density with the fewest weights left that has an error; None where none has it."""
    found: list[tuple[float, int, PrunedNetwork, float]] = []
    for network in networks:
        density = law.density_for(target, network.depth, network.width, network.unpruned)
        if np.isfinite(density):
            found.append((density * network.params, len(found), network, density))
    return None if not found else min(found)[2:]


def fit_joint_pruning(
    depth: ArrayLike,
    width: ArrayLike,
    density: ArrayLike,
    unpruned: ArrayLike,
    error: ArrayLike,
    *,
    upper: float | None = None,
) -> JointPruningLaw:
    """Fits one law to the errors of many pruned networks, by least squares of relative deviations.

    Args:
        depth: Depth of each network, shape (n,), in any unit. Positive.
        width: Width of each, shape (n,), in any unit. Positive.
        density: Share of its weights that are left, shape (n,), above 0 and at most 1.
        unpruned: Error of that network unpruned, as measured, shape (n,).
        error: Its error at the density, shape (n,).
        upper: The error at the highest sparsity, such as that of random guessing. Without points near it,
            it is not identified: then give it.

    Returns:
        The law.

    Raises:
        ValueError: If there are fewer than twelve points, a number is not positive and finite, a density is
            above 1, or `upper` is below an error unpruned.

    References:
        Rosenfeld et al. 2021, arXiv:2006.10621, equations of sections 4 and 5, with the modulus written out.
    """
    given = {"depth": depth, "width": width, "density": density, "unpruned": unpruned, "error": error}
    arrays = {name: positive(name, values) for name, values in given.items()}
    same_length(**arrays)
    deep, wide, d, e_np, y = arrays.values()
    if y.size < MIN_POINTS or d.max() > 1:
        raise ValueError(
            f"Expected at least {MIN_POINTS} points with densities up to 1, got {y.size} up to "
            f"{d.max():.4g}: prune more networks, and give shares of weights left."
        )
    if upper is not None and not e_np.max() < upper < np.inf:
        raise ValueError(f"Expected `upper` above the largest error unpruned, {e_np.max():.4g}, got {upper}.")
    units = np.exp(np.log(deep).mean()), np.exp(np.log(wide).mean())
    logs = np.stack([np.log(deep / units[0]), np.log(wide / units[1]), np.log(d)])
    free = np.array([upper is None, True, True, np.ptp(logs[0]) > 0, np.ptp(logs[1]) > 0])
    level = float(y.max()) if upper is None else upper
    lowest = np.log([max(e_np.max() * 1.0001, 0.5 * level), 0.02, 1e-6])
    low = np.concatenate([lowest, [-LARGEST_EXPONENT, -LARGEST_EXPONENT]])
    high = np.concatenate([np.log([20 * level, 5.0, 10.0]), [LARGEST_EXPONENT, LARGEST_EXPONENT]])

    def off(theta: Array) -> Array:
        told = _law(theta).predict(np.exp(logs[0]), np.exp(logs[1]), d, e_np)
        return np.asarray(told / y - 1)

    best, least = np.zeros(5), np.inf
    for gamma, place, deeper, wider in product((0.3, 1.0), (0.02, 0.2), (-0.5, 1.0), (0.5, 1.0)):
        whole = np.array([np.log(1.05 * level), np.log(gamma), np.log(place), deeper, wider])
        whole = np.where(free, np.clip(whole, low, high), [np.log(level), 0.0, 0.0, 0.0, 0.0])

        def residual(part: Array, whole: Array = whole) -> Array:
            whole[free] = part
            return off(whole)

        found = least_squares(residual, whole[free], bounds=(low[free], high[free]))
        if found.cost < least:
            least, best = found.cost, whole.copy()
            best[free] = found.x
    relative = off(best)
    scaled = _law(best)
    p = scaled.p * units[0] ** scaled.phi * units[1] ** scaled.psi
    return JointPruningLaw(
        *(scaled.upper, scaled.gamma, float(p), scaled.phi, scaled.psi),
        *(float(relative.mean()), float(relative.std())),
    )


def _law(theta: Array) -> JointPruningLaw:
    upper, gamma, p = np.exp(theta[:3])
    return JointPruningLaw(float(upper), float(gamma), float(p), float(theta[3]), float(theta[4]))
