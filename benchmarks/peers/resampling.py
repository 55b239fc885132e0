"""What most notebooks do: a power law with offset by `curve_fit`, and a residual bootstrap around it."""

from __future__ import annotations

import warnings

import numpy as np
from scipy.optimize import OptimizeWarning, curve_fit

from peers.answer import LEVELS, Answer

STARTS = 20
DRAWS = 200


def law(u: np.ndarray, e: float, a: float, b: float) -> np.ndarray:
    """A power law above a limit."""
    return e + a * u**-b


def bootstrap(x: np.ndarray, y: np.ndarray, at: np.ndarray, draws: int = DRAWS) -> Answer:
    """Least squares from 20 starts; residuals drawn anew around the fit, and as noise of the new points."""
    rng = np.random.default_rng(0)
    u, far = x / x.max(), at / x.max()

    def refit(values: np.ndarray, start: list[float]) -> np.ndarray | None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", OptimizeWarning)
                return curve_fit(law, u, values, p0=start, bounds=([0, 0, 0.01], [y.max(), np.inf, 3]))[0]
        except (RuntimeError, ValueError):
            return None

    fits = [
        refit(y, [rng.uniform(0, y.min()), rng.uniform(0.01, 1), rng.uniform(0.05, 2)]) for _ in range(STARTS)
    ]
    best = min((p for p in fits if p is not None), key=lambda p: float(((law(u, *p) - y) ** 2).sum()))
    fitted = law(u, *best)
    residuals, drawn = y - fitted, []
    warm = list(np.clip(best, [1e-9, 1e-9, 0.011], [y.max() * (1 - 1e-9), np.inf, 2.99]))
    for _ in range(draws):
        again = refit(fitted + rng.choice(residuals, y.size), warm)
        if again is not None:
            drawn.append(law(far, *again) + rng.choice(residuals, far.size))
    cloud = np.array(drawn)
    intervals = {}
    for level in LEVELS:
        lower, upper = np.quantile(cloud, [0.5 - level / 2, 0.5 + level / 2], axis=0)
        intervals[level] = (lower, upper)
    return law(far, *best), intervals
