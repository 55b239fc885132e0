"""The recipe of Hoffmann et al. 2022 (arXiv:2203.15556, section 3.3), for one axis.

E + A x^-alpha in log-sum-exp form; the sum of Huber losses (delta 1e-3) of log residuals; L-BFGS from their
grid of starts.
"""

from __future__ import annotations

import itertools

import numpy as np
from scipy.optimize import minimize

DELTA = 1e-3
STARTS = {
    "e": np.arange(-1.0, 1.5, 0.5),
    "a": np.arange(0.0, 30.0, 5.0),
    "alpha": np.arange(0.0, 2.5, 0.5),
}
"""e = ln E, a = ln A, with x in its own unit."""


def huber(x: np.ndarray, y: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The best of 150 fits, at `at`, shape (m,)."""
    log_x, log_y = np.log(x), np.log(y)

    def objective(theta: np.ndarray) -> tuple[float, np.ndarray]:
        e, a, alpha = theta
        second = a - alpha * log_x
        value = np.logaddexp(e, second)
        residual = value - log_y
        clipped = residual.clip(-DELTA, DELTA)
        loss = clipped * (residual - clipped / 2)
        of_e, of_second = np.exp(e - value), np.exp(second - value)
        gradient = clipped @ of_e, clipped @ of_second, -clipped @ (of_second * log_x)
        return float(loss.sum()), np.array(gradient)

    best = min(
        (
            minimize(objective, start, jac=True, method="L-BFGS-B", options={"ftol": 1e-12, "gtol": 1e-10})
            for start in itertools.product(*STARTS.values())
        ),
        key=lambda found: float(found.fun),
    )
    e, a, alpha = best.x
    return np.exp(np.logaddexp(e, a - alpha * np.log(at)))
