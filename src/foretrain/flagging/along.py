"""Earlier runs read at the same training done, all at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from foretrain.laws.law import Array


class Along:
    """L curves of K values, between whose points lines are drawn.

    Args:
        curves: Of each, where its points lie, shape (n,), ascending, and its values there, shape (K, n).
    """

    def __init__(self, curves: Sequence[tuple[Array, Array]]) -> None:
        longest = max((z.size for z, _ in curves), default=0)
        self._runs = np.arange(len(curves))
        self._last = np.array([z.size - 1 for z, _ in curves])
        self._z = np.full((len(curves), longest), np.inf)
        self._values = np.zeros((len(curves), longest, curves[0][1].shape[0] if curves else 0))
        for row, (z, values) in enumerate(curves):
            self._z[row, : z.size], self._values[row, : z.size] = z, values.T

    def reach(self, z: float) -> NDArray[np.bool_]:
        """Which curves have points on both sides of a place, shape (L,)."""
        return np.asarray((self._z[:, 0] <= z) & (z <= self._z[self._runs, self._last]))

    def at(self, z: float) -> Array:
        """Their values there, shape (K, L), those at their ends beyond them."""
        after = np.clip((self._z <= z).sum(axis=1), 1, np.maximum(self._last, 1))
        low, high = self._z[self._runs, after - 1], self._z[self._runs, np.minimum(after, self._last)]
        share = np.clip((z - low) / np.maximum(high - low, 1e-12), 0.0, 1.0)[:, None]
        before = self._values[self._runs, after - 1]
        return np.asarray(
            (before + share * (self._values[self._runs, np.minimum(after, self._last)] - before)).T
        )
