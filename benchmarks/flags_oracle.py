"""How many simulated faults could be found at all: likelihood-ratio tests that know the fault and its onset.

Both know the noise, its correlation, and what the fault does at every validation; they look once, at the
validations of the first tenth of the run after the onset, with 1 % of false alarms. The first also knows the
healthy curve; the second must forecast it from the validations before the onset, as a straight line in ln S
that bends a little, with two gains of annealing.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.stats import norm

from flags_runs import STEPS, Setting, simulate
from foretrain.flagging.replay import MEMORIES
from foretrain.runs.annealing import RatePath

SOON = 0.1
PRIOR_SD = (1.0, 0.4, 0.4, 0.4)
"""Of level, slope and the two gains, before the first validation."""
BEND = 0.03
"""Standard deviation by which the slope changes per unit of ln S."""


def power(seed: int, runs: int, setting: Setting, fault: str, rate: float = 0.01) -> np.ndarray:
    """Chance that each fault is found by the oracle that forecasts, and by the other; shape (2, R).

    Args:
        seed: As for `simulate`.
        runs: Likewise.
        setting: Likewise.
        fault: Likewise.
        rate: False alarms.
    """
    quiet = replace(setting, sd=0.0)
    with_fault = simulate(seed, runs, quiet, fault)
    effect = np.log(with_fault.y / simulate(seed, runs, quiet, fault, sound=runs).y)
    assert with_fault.lr is not None
    noise = noise_covariance(setting)
    covariances = noise + curve_covariance(with_fault.step, with_fault.lr), noise
    found = np.empty((2, runs))
    for row, onset in enumerate(with_fault.onset):
        before = with_fault.step <= onset
        window = ~before & (with_fault.step <= onset + SOON * STEPS)
        for which, covariance in enumerate(covariances):
            told = np.linalg.solve(covariance[np.ix_(before, before)], covariance[np.ix_(before, window)])
            left = covariance[np.ix_(window, window)] - covariance[np.ix_(window, before)] @ told
            strength = np.sqrt(effect[row, window] @ np.linalg.solve(left, effect[row, window]))
            found[which, row] = norm.cdf(strength - norm.isf(rate))
    return found


def noise_covariance(setting: Setting) -> np.ndarray:
    """Of the noise of ln y, shape (n, n)."""
    at = np.arange(setting.n)
    return setting.sd**2 * setting.rho ** np.abs(at[:, None] - at)


def curve_covariance(step: np.ndarray, lr: np.ndarray) -> np.ndarray:
    """Of the healthy curve, before anything is known, shape (n, n)."""
    path = RatePath.of(lr)
    z = np.log(path.done(step))
    z = z - z[0]
    features = np.stack([np.ones_like(z), z, *(path.annealed(step, memory) for memory in MEMORIES)], axis=1)
    least, most = np.minimum.outer(z, z), np.maximum.outer(z, z)
    # An integrated Brownian motion, and a little that keeps the matrix from being singular.
    bends = BEND**2 * least**2 * (3.0 * most - least) / 6.0
    return (features * np.square(PRIOR_SD)) @ features.T + bends + 1e-12 * np.eye(z.size)
