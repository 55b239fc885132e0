"""Where the next validation of a run is expected: a bank of filters that learn slope, annealing and noise.

Of every run several linear models are followed side by side (Harrison and Stevens 1976). The log error has a
level, a slope by ln S for the training done S, two gains of annealing, and noise that is a first-order
autoregression. Members differ in how fast the slope may change and in how strongly neighbouring noise
correlates; they count by how well they foresaw the validations so far. All arrays may hold many runs at once:
R runs, M members, 5 numbers in a state.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foretrain.laws.law import Array

BENDS = (0.1, 0.3, 0.9)
"""Standard deviation by which the slope d ln y / d ln S may change per unit of ln S, over the slope itself.
That of a power law over a floor changes by its exponent at most; that of an exponential by 1 and more."""

LEAST_SLOPE = 0.03
"""What a smaller slope counts as, there."""

RHOS = (0.0, 0.3, 0.55, 0.75, 0.9)
"""Correlation of the noise of neighbouring validations."""

RHO, BEND = (grid.ravel() for grid in np.meshgrid(RHOS, BENDS, indexing="ij"))

BURN_IN = 8
"""So many points tell the first noise; before them nothing is foreseen."""

LEAST_NOISE = 2e-4
"""Noise of ln y below this is not looked for: what is smaller is arithmetic."""

TIED = 0.01
"""Noise of ln y to begin with where neighbouring validations are equal to the last digit: a model that has
not begun to learn says nothing of the noise of one that has."""

SLOPE, SLOPE_SD = -0.2, 0.4
"""Beforehand, of d ln y / d ln S: exponents of learning curves range from .07 to .5 (Hestness et al.
2017)."""

GAIN_SD = 0.4
"""Beforehand, of what a full decay of the rate adds to ln y, in each of two memories. Published: -.04 to -.08
of language models (`foretrain.runs.usual`); of classification errors it is several times that."""

BESIDE_SLOPE_SD, BESIDE_GAIN_SD = 0.1, 0.05
"""The same of the log of a run over earlier ones, whose slope and gains are about nothing."""

NOISE_MEMORY = 40.0
"""As how many validations the noise is learned from at most, so that it may change along a run."""

QUICK_MEMORY = 15.0
"""A second estimate of the noise rests on so many: the larger one counts, for noise may grow along a run."""

FORGET = 0.98
"""What a member's past counts after each validation."""

SHARES_FROM = 8
"""The first validations of a run bend as none later do, so they do not tell which member counts."""

TAIL = 4.0
"""Degrees of freedom of Student's density, by which members are judged."""

OUTLIER = 3.0
"""A validation further off than so many standard deviations moves the state no more than one there."""


@dataclass(frozen=True)
class State:
    """One model of each run, in place of its bank: what a forecast is made from.

    Attributes:
        mean: Level, slope, two gains and the noise of the last validation, shape (R, 5).
        covariance: Shape (R, 5, 5).
        rho: Correlation of neighbouring noise, shape (R,).
        bend: Variance of the slope's change per unit of ln S, shape (R,).
        noise: Variance of the noise of one validation, shape (R,).
    """

    mean: Array
    covariance: Array
    rho: Array
    bend: Array
    noise: Array


def first_noise(z: Array, log_y: Array) -> Array:
    """Standard deviation of the noise of a few neighbouring validations.

    The least that second, third and fourth differences say, and what a cubic in ln S leaves: each takes
    some curves for noise, and none takes noise for a curve.

    Args:
        z: ln S, shape (R, n), with n > 4.
        log_y: Log of the metric, shape (R, n).

    Returns:
        Shape (R,).
    """
    told = []
    for order, scale in ((2, 6.0), (3, 20.0), (4, 70.0)):
        squares = np.diff(log_y, order, axis=-1) ** 2 / scale
        told.append(0.5 * (squares.mean(axis=-1) + np.median(squares, axis=-1) / 0.455))
    off = z - z.mean(axis=1, keepdims=True)
    off = off / np.maximum(np.abs(off).max(axis=1, keepdims=True), 1e-12)
    basis = np.linalg.qr(off[..., None] ** np.arange(4))[0]
    left = log_y - (basis @ (np.swapaxes(basis, -1, -2) @ log_y[..., None]))[..., 0]
    told.append((left**2).sum(axis=1) / (z.shape[1] - 4))
    least = np.where((np.diff(log_y, axis=1) == 0).any(axis=1), TIED, LEAST_NOISE)
    return np.asarray(np.maximum(np.sqrt(np.min(told, axis=0)), least))


class Tracker:
    """The bank of filters of R runs, which take their validations one after the other.

    Args:
        log_y: Log of the first validation of each run, shape (R,).
        noise: Standard deviation of the noise to begin with, shape (R,).
        beside: Whether what is followed of each run is its log over earlier ones, shape (R,).
    """

    def __init__(self, log_y: Array, noise: Array, beside: NDArray[np.bool_]) -> None:
        runs, members = log_y.size, RHO.size
        self._count, self._last = 0, log_y
        self._noise = np.repeat(noise[:, None] ** 2, members, axis=1)
        self._quick = self._noise.copy()
        self._mean = np.zeros((runs, members, 5))
        self._mean[..., 0], self._mean[..., 1] = log_y[:, None], np.where(beside, 0.0, SLOPE)[:, None]
        slope = np.where(beside, BESIDE_SLOPE_SD, SLOPE_SD)[:, None] ** 2
        gain = np.where(beside, BESIDE_GAIN_SD, GAIN_SD)[:, None] ** 2
        self._covariance = np.zeros((runs, members, 5, 5))
        for k, variance in enumerate((np.ones_like(slope), slope, gain, gain)):
            self._covariance[..., k, k] = variance
        self._log_share = np.zeros((runs, members))

    def update(self, log_y: Array, moved: Array) -> None:
        """Takes the next validation of every run.

        Args:
            log_y: Its log, shape (R,).
            moved: Of ln S and of both annealings since the last one, shape (R, 3).
        """
        self._count += 1
        self._predict(moved)
        mean, spread = self._mean, self._covariance
        gain = spread[..., 0] + spread[..., 4]
        variance = gain[..., 0] + gain[..., 4]
        off = log_y[:, None] - mean[..., 0] - mean[..., 4]
        far = np.abs(off) / np.sqrt(variance)
        trust = np.minimum(1.0, OUTLIER / np.maximum(far, 1e-12))
        scaled = gain / variance[..., None]
        mean += scaled * (trust * off)[..., None]
        spread -= (trust[..., None] * scaled)[..., :, None] * gain[..., None, :]
        held = np.minimum(far, OUTLIER)
        # Student's density, so that no single validation decides which member counts.
        if self._count > SHARES_FROM:
            told = -0.5 * np.log(variance) - 0.5 * (TAIL + 1) * np.log1p(far**2 / TAIL)
            self._log_share = FORGET * self._log_share + told
        if self._count > 2:  # the first ones tell of level and slope
            lately = max(self._count - BURN_IN / 2.0, 3.0)
            told = (log_y != self._last)[:, None]  # equal ones tell of no noise, see `TIED`
            now = 1.02 * held**2 * self._noise
            self._quick += told / min(lately, QUICK_MEMORY) * (now - self._quick)
            self._noise += told / min(lately, NOISE_MEMORY) * (now - self._noise)
            np.maximum(self._quick, LEAST_NOISE**2, out=self._quick)
            np.maximum(self._noise, LEAST_NOISE**2, out=self._noise)
        self._last = log_y

    def _bends(self) -> Array:
        """Variance of the slope's change per unit of ln S, shape (R, M)."""
        return np.asarray((BEND * np.hypot(self._mean[..., 1], LEAST_SLOPE)) ** 2)

    def _predict(self, moved: Array) -> None:
        mean, spread = self._mean, self._covariance
        z, step = moved[:, 0], np.zeros((moved.shape[0], 1, 5, 5))
        step[..., range(4), range(4)] = 1.0
        step[:, 0, 0, 1:4] = moved
        step = np.repeat(step, RHO.size, axis=1)
        step[..., 4, 4] = RHO
        self._mean = (step @ mean[..., None])[..., 0]
        self._covariance = spread = step @ spread @ np.swapaxes(step, -1, -2)
        bend = self._bends() * np.abs(z)[:, None]
        spread[..., 0, 0] += bend * z[:, None] ** 2 / 3.0
        spread[..., 0, 1] += bend * z[:, None] / 2.0
        spread[..., 1, 0] += bend * z[:, None] / 2.0
        spread[..., 1, 1] += bend
        spread[..., 4, 4] += (1.0 - RHO**2) * self._noise

    def loosen(self, which: NDArray[np.bool_], by: Array) -> None:
        """Lets the levels of some runs move, and their slopes and gains.

        Args:
            which: Which runs, shape (R,).
            by: How far their level may lie off, shape (R,), in ln y.
        """
        self._covariance[which, :, 0, 0] += (by[which] ** 2)[:, None]
        self._covariance[which, :, 1, 1] += (0.3 * SLOPE_SD) ** 2
        for gain in (2, 3):
            self._covariance[which, :, gain, gain] += (0.1 * GAIN_SD) ** 2

    def state(self) -> State:
        """The bank as one model of the same mean and covariance."""
        share = np.exp(self._log_share - self._log_share.max(axis=1, keepdims=True))
        share /= share.sum(axis=1, keepdims=True)
        mean = (share[:, None] @ self._mean)[:, 0]
        apart = self._mean - mean[:, None]
        spread = (share[..., None, None] * self._covariance).sum(axis=1)
        spread += np.swapaxes(apart * share[..., None], -1, -2) @ apart
        bend = np.exp((share * np.log(self._bends())).sum(axis=1))
        noise = np.maximum((share * self._noise).sum(axis=1), (share * self._quick).sum(axis=1))
        return State(mean, spread, share @ RHO, bend, noise)
