"""Forecasts made along the way, and how far what then came lies off them, over windows of growing length.

After every validation a forecast of all later ones is made, and some of those forecasts are kept: two of each
age of 1, 2, 4, 8, ... validations. What came since is compared with each, as a mean over the window, so that
small and lasting deviations show as well as large and sudden ones.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from foretrain.flagging.tracker import State
from foretrain.laws.law import Array

LEVELS = 7
"""Ages up to 2 to this power; a window is between half of that and that long."""

LEAST_RATE = 0.02
"""Rates below this share of the largest count as this one."""

CLIP = 4.0
"""One validation counts as no further off than so many standard deviations: noise has heavy tails."""

VIEWS = np.array([[0.0, 0.0], [0.5, 0.5], [1.0, 1.0]])
"""What is expected after an origin: how much of the slope, and of what annealing gains, is taken. Nothing
(the error stays), half of it (it flattens at once), or all (the forecast)."""

STAYS, HALF, WHOLE = range(3)

RECENT = 3
"""So many validations before an origin tell the level there, beside the model of the run."""

CAUTIOUS = np.array([1.0, 1.0, 0.0])
"""In which views the higher of the two counts: those that tell whether an error is too high."""


def slot(now: int) -> int:
    """Where the origin of the `now`-th validation is kept: two of each level, in turn."""
    level = 0
    while level < LEVELS - 1 and now % (2 << level) == 0:
        level += 1
    return 2 * level + (now >> (level + (level < LEVELS - 1))) % 2


class Origins:
    """The forecasts of R runs that are kept, O of each; see `VIEWS` for the V things foreseen."""

    def __init__(self, runs: int) -> None:
        many = (runs, 2 * LEVELS)
        self._born = np.full(many, -1)
        self._mean, self._covariance = np.zeros((*many, 5)), np.zeros((*many, 5, 5))
        self._rho, self._bend, self._noise = np.zeros(many), np.zeros(many), np.zeros(many)
        self._place, self._recent = np.zeros((*many, 3)), np.zeros(many)
        self._path = np.zeros((*many, len(VIEWS), 5))
        self._off, self._held = np.zeros((*many, len(VIEWS))), np.zeros((*many, len(VIEWS)))
        self._now = 0

    @property
    def ages(self) -> Array:
        """Validations since each origin, shape (R, O), 0 where there is none."""
        return np.where(self._born >= 0, self._now - self._born, 0)

    def decayed(self, place: Array) -> Array:
        """How far the rate has fallen since each origin, as the log of a factor and as far as it shows.

        Args:
            place: ln S and both annealings now, shape (R, 3).

        Returns:
            Shape (R, O), not negative.
        """
        then, now = (np.maximum(LEAST_RATE + 1.0 - at[..., 1], LEAST_RATE) for at in (self._place, place))
        return np.asarray(np.maximum(np.log(then / now[:, None]), 0.0))

    def clear(self, which: NDArray[np.bool_]) -> None:
        """Drops those of some runs, shape (R,)."""
        self._born[which] = -1

    def add(self, state: State, place: Array, recent: Array) -> None:
        """Keeps the forecast of now, in place of the older one of two of its kind.

        Args:
            state: From which it is made.
            place: ln S and both annealings, shape (R, 3).
            recent: Mean of the last few validations, shape (R,).
        """
        at = slot(self._now)
        self._born[:, at] = self._now
        self._mean[:, at], self._covariance[:, at] = state.mean, state.covariance
        self._rho[:, at], self._bend[:, at], self._noise[:, at] = state.rho, state.bend, state.noise
        self._place[:, at], self._path[:, at] = place, 0.0
        self._off[:, at] = self._held[:, at] = 0.0
        self._recent[:, at] = recent

    def compare(self, log_y: Array, place: Array) -> tuple[Array, Array, Array]:
        """Takes the next validation and compares it, and the mean since each origin, with what was foreseen.

        Args:
            log_y: Its log, shape (R,).
            place: ln S and both annealings there, shape (R, 3).

        Returns:
            How far the mean since each origin lies above what was foreseen, shape (R, O, V), that in standard
            deviations with each validation held at `CLIP` of its own, likewise, and how many standard
            deviations the newest validation alone lies above, likewise.
        """
        self._now += 1
        age = np.maximum(self.ages, 1).astype(float)
        held = self._rho**age
        moved = place[:, None] - self._place
        path = np.empty_like(self._path)
        path[..., 0] = 1.0
        path[..., 1] = VIEWS[:, 0] * moved[..., :1]
        back = np.minimum(moved[..., None, 1:], 0.0)  # a rate that rises again takes back what was gained
        path[..., 2:4] = VIEWS[:, 1:] * np.maximum(moved[..., None, 1:], 0.0) + back
        path[..., 4] = held[..., None]
        bends = self._bend * np.abs(moved[..., 0]) ** 3
        free = self._noise * (1.0 - held**2)
        alone = self._variance(path) + (bends / 3.0 + free)[..., None]
        off = log_y[:, None, None] - (path * self._mean[:, :, None]).sum(axis=-1)
        # What a model that has gone wrong takes for the level is no level: the last validations are.
        lower = self._recent - self._mean[..., 0] - held * self._mean[..., 4]
        off -= CAUTIOUS * np.maximum(lower, 0.0)[..., None]
        deviation = np.sqrt(np.maximum(alone, 1e-18))
        self._off += off
        self._held += np.minimum(np.maximum(off, -CLIP * deviation), CLIP * deviation)
        self._path += path
        mean_path = self._path / age[..., None, None]
        # Of the mean of an integrated random walk over its range; of a single point a third of the cube.
        bends *= 0.05 + (1.0 / 3.0 - 0.05) / age
        variance = self._variance(mean_path) + (bends + self._free_mean(age))[..., None]
        score = self._held / (age[..., None] * np.sqrt(np.maximum(variance, 1e-18)))
        return self._off / age[..., None], score, off / deviation

    def _variance(self, path: Array) -> Array:
        """Of what the states at the origins say of the mean along a path, shape (R, O, V)."""
        return np.asarray(np.maximum(((path @ self._covariance) * path).sum(axis=-1), 0.0))

    def _free_mean(self, age: Array) -> Array:
        """Variance of the mean of the noise that is new since the origin, shape (R, O)."""
        rho = np.minimum(self._rho, 0.999)
        tail = rho * (1.0 - rho**age) / (1.0 - rho)
        whole = (1.0 + 2.0 * (rho / (1.0 - rho) - tail / (age * (1.0 - rho)))) / age
        return np.asarray(self._noise * np.maximum(whole - (tail / age) ** 2, 1e-9))
