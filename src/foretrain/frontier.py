"""The compute-optimal model size: where it lies at one budget, and how it grows with compute."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import Akima1DInterpolator

Array = NDArray[np.float64]

GRID_STEPS = 25
"""Places in each interval between two model sizes at which the interpolated loss is searched."""

MIN_MODELS = 4
"""Fewer models at one budget do not bracket a minimum that can be interpolated."""

NARROWEST = 1.0 / 3.0
"""The standard deviation of ln N is at least this part of the mean step of ln N between the models: the grid
hides less. Porian et al. 2024 clip at .33 of a step."""


@dataclass(frozen=True)
class Growth:
    """The law `N = coefficient C^exponent`, by linear regression of ln N on ln C.

    Attributes:
        exponent: Of the compute; no unit.
        coefficient: In the unit of N over that of C to the power of the exponent.
        r2: Share of the variance of ln N that the line explains, every budget alike; at most 1.
        exponent_std: Standard error of the exponent.
        log_coefficient_std: Standard error of the logarithm of the coefficient.
    """

    exponent: float
    coefficient: float
    r2: float
    exponent_std: float
    log_coefficient_std: float

    def predict(self, c: ArrayLike) -> Array:
        """N at compute c, in the shape of c."""
        return np.asarray(self.coefficient * np.asarray(c, dtype=float) ** self.exponent)


@dataclass(frozen=True)
class Optimum:
    """The model size of least loss at one compute budget.

    Attributes:
        n: Model size at the minimum of the interpolated loss, in the unit of the sizes given; the median over
            the noise replicates where there are any. NaN where there is no minimum inside.
        log_n_std: Standard deviation of ln n over the replicates; NaN without them.
        loss: The interpolated loss at its minimum; likewise the median, or NaN.
        inside: Whether the minimum lies between the smallest and the largest model.
        share_inside: Share of the replicates whose minimum does, 0 to 1; NaN without replicates.
    """

    n: float
    log_n_std: float
    loss: float
    inside: bool
    share_inside: float


def fit_growth(c: ArrayLike, n: ArrayLike, n_log_std: ArrayLike | None = None) -> Growth:
    """Fits `N = k C^a` to compute-optimal model sizes.

    With `n_log_std` a point counts `1 / n_log_std^2` and the standard errors are those that these imply;
    without, all count alike and the standard errors come from the residuals.

    Args:
        c: Compute budgets, shape (k,), in any unit, such as FLOPs. Positive.
        n: The best model size at each, shape (k,). Positive.
        n_log_std: Standard deviation of ln n, shape (k,). Positive.

    Returns:
        The law with its standard errors. With two points and no `n_log_std` these are NaN.

    Raises:
        ValueError: If the arrays are not one-dimensional and equally long, hold a number that is not positive
            and finite, or hold fewer than two different budgets.

    References:
        Porian et al. 2024, arXiv:2406.19146, section 2 (weighted regression in logarithms); the approach is
        the second of Hoffmann et al. 2022, arXiv:2203.15556, section 3.2.

    Example:
        >>> growth = fit_growth([1e18, 1e19, 1e20], [1e8, 3.2e8, 1e9])
        >>> round(growth.exponent, 2)
        0.5
    """
    budget, size = _checked("c", c), _checked("n", n)
    spread = np.ones_like(size) if n_log_std is None else _checked("n_log_std", n_log_std)
    if not budget.shape == size.shape == spread.shape:
        raise ValueError(
            f"Expected `c`, `n` and `n_log_std` of the same length, got {budget.size}, {size.size} and "
            f"{spread.size}: give one number for each budget."
        )
    x, y = np.log(budget), np.log(size)
    if np.ptp(x) <= 1e-12 * np.abs(x).max():
        raise ValueError(
            f"Expected `c` to hold at least two different budgets, got {budget.size} of {budget[0]}: "
            "an exponent needs models at another budget."
        )
    w = (spread.min() / spread) ** 2
    x_mean, y_mean = float(w @ x / w.sum()), float(w @ y / w.sum())
    across = x - x_mean
    spanned = float(w @ across**2)
    exponent = float(w @ (across * (y - y_mean))) / spanned
    residual = y - y_mean - exponent * across
    left, total = float((residual**2).sum()), float(((y - y.mean()) ** 2).sum())
    if n_log_std is not None:
        scale = float(spread.min())
    else:
        scale = float(np.sqrt(left / (x.size - 2))) if x.size > 2 else float("nan")
    with np.errstate(over="ignore", under="ignore"):
        coefficient = float(np.exp(y_mean - exponent * x_mean))
    return Growth(
        exponent=exponent,
        coefficient=coefficient,
        r2=1.0 - left / total if total > 0 else 1.0,
        exponent_std=scale / float(np.sqrt(spanned)),
        log_coefficient_std=scale * float(np.sqrt(1.0 / w.sum() + x_mean**2 / spanned)),
    )


def find_optimum(
    n: ArrayLike, loss: ArrayLike, *, log_noise: float = 0.0, replicates: int = 0, seed: int = 0
) -> Optimum:
    """Finds the model size of least loss at one compute budget.

    ln loss is interpolated over ln N by Akima's method (a parabola would be biased: the true curve is not
    symmetric) and searched on a fine grid. The standard deviation comes from adding noise to ln loss.

    Args:
        n: Model sizes trained at this budget, shape (k,), in any order, all different. Positive.
        loss: The loss of each, shape (k,). Positive.
        log_noise: Standard deviation of ln loss between repetitions of one run.
        replicates: How many times noise is added; 0 for none.
        seed: Of the noise.

    Returns:
        The optimum. Where the least loss is that of the smallest or the largest model there is none: `inside`
        is False.

    Raises:
        ValueError: If there are fewer than four models, sizes repeat, or a number is not as said above.

    References:
        Porian et al. 2024, arXiv:2406.19146, appendix on the estimator; Akima 1970, Journal of the ACM 17(4).
    """
    size, y = _checked("n", n), _checked("loss", loss)
    if size.shape != y.shape:
        raise ValueError(f"Expected `n` and `loss` of the same length, got {size.size} and {y.size}.")
    if size.size < MIN_MODELS or np.unique(size).size < size.size:
        raise ValueError(
            f"Expected at least {MIN_MODELS} different model sizes at one budget, got "
            f"{np.unique(size).size} in {size.size} points: train more sizes, and average repeated ones."
        )
    if not (np.isfinite(log_noise) and log_noise >= 0 and replicates >= 0):
        raise ValueError(
            f"Expected `log_noise` and `replicates` not below 0, got {log_noise} and {replicates}."
        )
    order = np.argsort(size)
    x, logs = np.log(size[order]), np.log(y[order])
    place, level = minima(x, logs[None])
    inside = bool(np.isfinite(place[0]))
    if not replicates:
        return Optimum(float(np.exp(place[0])), float("nan"), float(np.exp(level[0])), inside, float("nan"))
    noise = np.random.default_rng(seed).normal(0.0, log_noise, (replicates, x.size))
    places, levels = minima(x, logs + noise)
    kept = np.isfinite(places)
    share = float(kept.mean())
    if not kept.any():
        return Optimum(float("nan"), float("nan"), float("nan"), inside, 0.0)
    deviation = max(float(np.std(places[kept])), NARROWEST * float(np.ptp(x)) / (x.size - 1))
    return Optimum(
        n=float(np.exp(np.median(places[kept]))),
        log_n_std=deviation / share,
        loss=float(np.exp(np.median(levels[kept]))),
        inside=inside,
        share_inside=share,
    )


def minima(x: Array, logs: Array) -> tuple[Array, Array]:
    """Where each of many curves is lowest.

    Args:
        x: ln N, ascending, shape (k,).
        logs: ln loss there, shape (r, k).

    Returns:
        Places ln N and levels ln loss of the minimum of each row; NaN where it is on an edge.
    """
    steps = np.linspace(0.0, 1.0, GRID_STEPS, endpoint=False)
    grid = np.append((x[:-1, None] + np.diff(x)[:, None] * steps).ravel(), x[-1])
    curve = Akima1DInterpolator(x, logs, axis=1)(grid)
    least = np.argmin(curve, axis=1)
    edge = (least == 0) | (least == grid.size - 1)
    level = curve[np.arange(len(logs)), least]
    return np.where(edge, np.nan, grid[least]), np.where(edge, np.nan, level)


def _checked(name: str, values: ArrayLike) -> Array:
    try:
        array = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        array = np.full(1, np.nan)
    if array.ndim != 1 or array.size == 0 or not (np.isfinite(array) & (array > 0)).all():
        raise ValueError(
            f"Expected `{name}` to be a one-dimensional array of positive, finite numbers, got "
            f"{values!r:.80}: leave out the other points."
        )
    return array
