"""Changes of a known shape that began at a known validation: how well each explains what came since.

The generalised likelihood ratio of Willsky and Jones (1976). From each origin a filter goes on that knows
nothing of a change; what a jump, or a drift, of size 1 would have made of its surprises is followed beside
it. The surprises of a filter are independent of each other, so the likelihood ratio is a sum over them, and
neighbouring noise that correlates costs no more power than it must.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from foretrain.flagging.origins import CLIP, LEVELS, slot
from foretrain.flagging.tracker import OUTLIER, State
from foretrain.laws.law import Array

SHAPES = 2
"""A jump that stays, and a drift of equal steps."""


class Signatures:
    """Filters of R runs that go on from O origins, the same ones as those of `Origins`; H shapes."""

    def __init__(self, runs: int) -> None:
        many = (runs, 2 * LEVELS)
        self._born = np.full(many, -1)
        self._mean, self._covariance = np.zeros((*many, 5)), np.zeros((*many, 5, 5))
        self._rho, self._bend, self._noise = np.zeros(many), np.zeros(many), np.zeros(many)
        self._made = np.zeros((*many, SHAPES, 5))
        self._told, self._known = np.zeros((*many, SHAPES)), np.zeros((*many, SHAPES))
        self._place = np.zeros((runs, 3))
        self._now = 0

    def clear(self, which: NDArray[np.bool_]) -> None:
        """Drops those of some runs, shape (R,)."""
        self._born[which] = -1

    def add(self, state: State, place: Array) -> None:
        """Begins a filter now, in place of the older one of two of its kind.

        Args:
            state: With which it begins.
            place: ln S and both annealings, shape (R, 3).
        """
        at = slot(self._now)
        self._born[:, at] = self._now
        self._mean[:, at], self._covariance[:, at] = state.mean, state.covariance
        self._rho[:, at], self._bend[:, at], self._noise[:, at] = state.rho, state.bend, state.noise
        self._made[:, at] = self._told[:, at] = self._known[:, at] = 0.0
        self._place = place

    def compare(self, log_y: Array, place: Array) -> tuple[Array, Array]:
        """Takes the next validation.

        Args:
            log_y: Its log, shape (R,).
            place: ln S and both annealings there, shape (R, 3).

        Returns:
            Standard deviations by which a change since each origin differs from none, shape (R, O, H), with
            the surprise of each validation held at `CLIP`, and how far it has raised the mean since then,
            likewise; both 0 where there is no origin.
        """
        self._now += 1
        variance = self._predict(place - self._place)
        self._place = place
        age = np.where(self._born >= 0, self._now - self._born, 1).astype(float)
        shape = np.stack([np.ones_like(age), age], axis=-1)
        expected = self._mean[..., 0] + self._mean[..., 4]
        made = shape - self._made[..., 0] - self._made[..., 4]
        deviation = np.sqrt(variance[0])
        surprise = np.minimum(np.maximum((log_y[:, None] - expected) / deviation, -CLIP), CLIP)
        self._told += made * (surprise / deviation)[..., None]
        self._known += made**2 / variance[0][..., None]
        gain = variance[1] / variance[0][..., None]
        self._mean += gain * (np.minimum(np.maximum(surprise, -OUTLIER), OUTLIER) * deviation)[..., None]
        self._made += gain[..., None, :] * made[..., None]
        self._covariance -= gain[..., :, None] * variance[1][..., None, :]
        known = np.where((self._born >= 0)[..., None], np.maximum(self._known, 1e-30), np.inf)
        mean_shape = np.stack([np.ones_like(age), 0.5 * (age + 1.0)], axis=-1)
        return self._told / np.sqrt(known), self._told / known * mean_shape

    def _predict(self, moved: Array) -> tuple[Array, Array]:
        """Moves all filters on; the variance of the next validation, and its covariance with the state."""
        step = np.zeros_like(self._covariance)
        step[..., range(4), range(4)] = 1.0
        step[..., 0, 1:4] = moved[:, None]
        step[..., 4, 4] = self._rho
        self._mean = (step @ self._mean[..., None])[..., 0]
        self._made = self._made @ np.swapaxes(step, -1, -2)
        self._covariance = spread = step @ self._covariance @ np.swapaxes(step, -1, -2)
        z = np.abs(moved[:, :1])
        bend = self._bend * z
        spread[..., 0, 0] += bend * z**2 / 3.0
        spread[..., 0, 1] += bend * z / 2.0
        spread[..., 1, 0] += bend * z / 2.0
        spread[..., 1, 1] += bend
        spread[..., 4, 4] += (1.0 - self._rho**2) * self._noise
        along = spread[..., 0] + spread[..., 4]
        return np.maximum(along[..., 0] + along[..., 4], 1e-18), along
