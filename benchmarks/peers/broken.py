"""Broken neural scaling laws with one break, Caballero et al. 2023 (arXiv:2210.14891), fitted in two ways.

    y = a + b x^-c0 (1 + (x / d)^(1/f))^(-c1 f)

`published` is the released script: a grid of 163,840 points, then `curve_fit` without bounds from the best of
them, on ln(y + 1). The script's grid fits its one curve (x up to about 1,000, y of about 1), so here x is
scaled to end at 1,000 and y to have 1 as its largest; `curve_fit` may take 20,000 evaluations instead of 1e8.
`bounded` is what a careful user would do: least squares of log residuals within bounds from 12 starts.
"""

from __future__ import annotations

import warnings

import numpy as np
from scipy.optimize import OptimizeWarning, curve_fit, least_squares

X_END = 1000.0
EVALUATIONS = 20_000
STARTS = 12


def law(x: np.ndarray, a: float, b: float, c0: float, c1: float, d: float, f: float) -> np.ndarray:
    """One break; nan where a power of a negative number is asked for."""
    with np.errstate(all="ignore"):
        return a + b * x**-c0 * (1 + (x / d) ** (1 / f)) ** (-c1 * f)


def _best_of_grid(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The released grid, all of it; f = 0, which the script divides by, is no break."""
    a = np.arange(0.0, 1.0, 0.1)
    b = d = 1.25 ** np.arange(0.0, 40.0, 2.5) - 1 + 1e-8
    small = np.arange(0.0, 1.0, 0.25)
    c0, c1, d_all, f = (v.ravel() for v in np.meshgrid(small, small, d, small, indexing="ij"))
    with np.errstate(all="ignore"):
        bend = (1 + (x / d_all[:, None]) ** (1 / f[:, None])) ** (-c1 * f)[:, None]
    shape = x ** -c0[:, None] * np.where(f[:, None] == 0, 1.0, bend)
    target, best, found = np.log(y + 1), np.inf, np.zeros(6)
    for b_one in b:
        for a_one in a:
            misfit = ((np.log(a_one + b_one * shape + 1) - target) ** 2).mean(axis=1)
            i = int(np.argmin(misfit))
            if misfit[i] < best:
                best, found = float(misfit[i]), np.array([a_one, b_one, c0[i], c1[i], d_all[i], f[i]])
    return found


def published(x: np.ndarray, y: np.ndarray, at: np.ndarray) -> np.ndarray:
    """By the released script, at `at`, shape (m,); nan where it diverges."""
    scale = float(y.max())
    u, v = x * X_END / x.max(), y / scale

    def logged(x: np.ndarray, *theta: float) -> np.ndarray:
        with np.errstate(all="ignore"):
            return np.log(law(x, *theta) + 1)

    start = _best_of_grid(u, v)
    start[5] = max(start[5], 1e-3)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", OptimizeWarning)
        theta = curve_fit(logged, u, np.log(v + 1), p0=start, maxfev=EVALUATIONS)[0]
    return scale * law(at * X_END / x.max(), *theta)


def bounded(x: np.ndarray, y: np.ndarray, at: np.ndarray) -> np.ndarray:
    """By least squares of log residuals within bounds, the best of 12 starts, at `at`, shape (m,)."""
    rng = np.random.default_rng(0)
    u, far, log_y = np.log(x / x.max()), np.log(at / x.max()), np.log(y)
    span = float(u[-1] - u[0])

    def logged(theta: np.ndarray, u: np.ndarray) -> np.ndarray:
        a, log_b, c0, c1, log_d, log_f = theta
        f = np.exp(log_f)
        return np.log(a + np.exp(log_b - c0 * u - c1 * f * np.logaddexp(0, (u - log_d) / f)))

    low = np.array([0.0, np.log(y.min()) - 10, 0.0, -10.0, u[0], np.log(0.01)])
    high = np.array([y.min(), np.log(y.max()) + 10, 5.0, 10.0, np.log(10.0), np.log(5.0)])
    fits = []
    for _ in range(STARTS):
        exponents = rng.uniform(0, 1), rng.uniform(-0.5, 1)
        floor, where = rng.uniform(0, y.min()), u[0] + span * rng.uniform()
        start = np.clip([floor, np.log(y.min()), *exponents, where, 0], low + 1e-9, high - 1e-9)
        fits.append(least_squares(lambda t: logged(t, u) - log_y, start, bounds=(low, high), x_scale="jac"))
    best = min(fits, key=lambda fit: float(fit.cost))
    return np.exp(logged(best.x, far))
