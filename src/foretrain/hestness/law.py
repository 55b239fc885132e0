"""The generalization-error law of a few shards: a power law, with an irreducible error or without, and doubt.

A study has few shards, mostly four to eight, so it seldom tells whether the error has a floor; a forecast
from one law, with a floor or without, would be too sure. So floors from 0 to the lowest error are all kept,
each with the power law that fits beside it, weighted by how well it does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from foretrain.inputs import positive, same_length
from foretrain.laws.law import Array

FLOORS = np.concatenate([[0.0], np.linspace(0.0, 0.98, 50)[1:]])
"""Irreducible errors that are tried, as shares of the lowest error."""

NO_FLOOR = 0.5
"""Prior probability that there is none that matters: Hestness et al. 2017 find pure power laws."""

MIN_SHARDS = 4
"""With fewer shards nothing is left to tell how well the law fits."""

DRAWS = 4000
STEPS = 40
LEAST = 1e-12
"""Relative misfit below which a law counts as exact: then rounding would decide between laws."""


@dataclass(frozen=True)
class Estimate:
    """A number with its central interval.

    Attributes:
        median: The middle of what it may be; infinite where that is no number.
        lower: Lower end of the interval.
        upper: Upper end; infinite where none can be told.
    """

    median: float
    lower: float
    upper: float

    @classmethod
    def of(cls, draws: Array, level: float) -> Estimate:
        """From draws, some of which may be infinite."""
        ends = np.quantile(draws, [0.5, (1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
        return cls(*(float(end) for end in ends))


@dataclass(frozen=True)
class ErrorLaw:
    """`error(m) = E + A m^-alpha` of the training examples m, as draws of what E, A and alpha may be.

    Attributes:
        data: Training examples of the shards it rests on, shape (k,), ascending.
        error: Their errors, shape (k,).
        exponent: Of the pure power law, by linear regression in logarithms; Hestness's beta_g without its
            sign.
        exponent_std: Its standard error.
        coefficient: A of the pure power law, in the metric's unit.
        misfit: Root mean square relative error of the pure power law.
        draws: E, A and alpha, shape (n, 3).
        noise: Standard deviation of the log error of a shard about its law, of each draw, shape (n,).
    """

    data: Array
    error: Array
    exponent: float
    exponent_std: float
    coefficient: float
    misfit: float
    draws: Array
    noise: Array

    def parameter(self, name: str, level: float = 0.9) -> Estimate:
        """One parameter, "E", "A" or "alpha", with its interval."""
        return Estimate.of(self.draws[:, ("E", "A", "alpha").index(name)], level)

    @property
    def floor_is_told(self) -> bool:
        """Whether the shards tell that there is an irreducible error: 0 is outside its 90% interval."""
        return self.parameter("E").lower > 0

    def values(self, data: float) -> Array:
        """The law's error at so many training examples, by each draw, shape (n,)."""
        floor, a, alpha = self.draws.T
        with np.errstate(over="ignore", under="ignore"):
            return np.asarray(floor + a * data**-alpha)

    def predict(self, data: float, level: float = 0.9) -> Estimate:
        """The error that would be measured after so many training examples; the noise of a shard is in it."""
        noise = np.random.default_rng(1).standard_normal(self.noise.size) * self.noise
        with np.errstate(over="ignore", under="ignore"):
            return Estimate.of(self.values(data) * np.exp(noise), level)

    def data_for(self, target: float | Array) -> Array:
        """Training examples at which the law reaches an error, by each draw; infinite where it never does.

        Args:
            target: The error, or one for each draw.
        """
        floor, a, alpha = self.draws.T
        can = (target > floor) & (alpha > 0)
        with np.errstate(all="ignore"):
            logs = np.log(np.where(can, a / (target - floor), 1.0)) / np.where(can, alpha, 1.0)
            return np.where(can, np.exp(np.minimum(logs, 700.0)), np.inf)


def fit_error_law(data: ArrayLike, error: ArrayLike, *, seed: int = 0) -> ErrorLaw:
    """Fits the generalization-error law to the best error of each shard.

    For each of a range of irreducible errors E the power law beside it is fitted by least squares of the log
    error. Its parameters then have Student's t distribution with k - 2 degrees of freedom (without a floor
    this is exact: it is linear regression), and E counts by its marginal likelihood, with the noise
    integrated out under its reference prior; half of the prior is on no floor.

    Args:
        data: Training examples of each shard, shape (k,). Positive, in any order.
        error: The best error of each, shape (k,), in the metric's unit. Positive.
        seed: Of the draws.

    Returns:
        The law.

    Raises:
        ValueError: If a number is not positive and finite, the lengths differ, or there are fewer than four
            shards of different sizes.

    References:
        Hestness et al. 2017, arXiv:1712.00409, sections 2 and 5 (the law and its regression); Box and Tiao
        1973, Bayesian Inference in Statistical Analysis, section 2.7 (regression under the reference prior);
        Tierney and Kadane 1986 (the approximation for a floor that is not 0).

    Example:
        >>> law = fit_error_law([100, 200, 400, 800, 1600], [0.50, 0.41, 0.33, 0.27, 0.22])
        >>> round(law.exponent, 2)
        0.3
    """
    x, y = positive("data", data), positive("error", error)
    same_length(data=x, error=y)
    if np.unique(x).size < MIN_SHARDS or np.unique(x).size < x.size:
        raise ValueError(
            f"Expected at least {MIN_SHARDS} shards of different sizes, one error each, got "
            f"{np.unique(x).size} sizes in {x.size} errors: train on more shards, each half of the next."
        )
    order = np.argsort(x)
    x, y = x[order], y[order]
    centre = float(np.log(x).mean())
    t, v = np.log(x) - centre, np.log(y)
    scale = float(v.mean())
    floors = FLOORS * float(np.exp(v.min() - scale))
    theta, squares, hessian = _regress(t, v - scale, floors)
    squares = np.maximum(squares, LEAST**2 * x.size)
    shares = _shares(theta, squares, hessian, x.size)
    draws, noise = _draw(floors, theta, squares, hessian, shares, x.size, seed)
    a = np.exp(np.clip(draws[:, 1] + scale + draws[:, 2] * centre, -700.0, 700.0))
    spread = float(np.sqrt(squares[0] / (x.size - 2) / (t @ t)))
    fitted = theta[0, 0] - theta[0, 1] * t
    return ErrorLaw(
        data=x,
        error=y,
        exponent=float(theta[0, 1]),
        exponent_std=spread,
        coefficient=float(np.exp(np.clip(theta[0, 0] + scale + theta[0, 1] * centre, -700.0, 700.0))),
        misfit=float(np.sqrt(np.mean(np.expm1(fitted - v + scale) ** 2))),
        draws=np.stack([draws[:, 0] * np.exp(scale), a, draws[:, 2]], axis=1),
        noise=noise,
    )


def _regress(t: Array, v: Array, floors: Array) -> tuple[Array, Array, Array]:
    """Least squares of v = ln(E + exp(c - alpha t)) for each floor E, by Gauss and Newton's method, damped.

    Returns:
        c and alpha, shape (f, 2); the sums of squares, shape (f,); and half their Hessian, shape (f, 2, 2).
    """
    excess = np.exp(v) - floors[:, None]
    weight = (excess / np.exp(v)) ** 2
    theta = _line(t, np.log(np.maximum(excess, 1e-12)), weight)
    damping = np.full(floors.size, 1e-3)
    residual, slopes = _residuals(t, v, floors, theta)
    squares = (residual**2).sum(axis=1)
    for _ in range(STEPS):
        hessian = np.einsum("fin,fjn->fij", slopes, slopes)
        damped = (
            hessian + damping[:, None, None] * np.eye(2) * np.trace(hessian, axis1=1, axis2=2)[:, None, None]
        )
        step = np.linalg.solve(
            damped + 1e-12 * np.eye(2), np.einsum("fin,fn->fi", slopes, residual)[..., None]
        )
        tried = theta + np.clip(step[..., 0], -1.0, 1.0)
        new_residual, new_slopes = _residuals(t, v, floors, tried)
        new_squares = (new_residual**2).sum(axis=1)
        better = new_squares <= squares
        damping = np.where(better, damping / 10.0, damping * 10.0).clip(1e-12, 1e6)
        theta = np.where(better[:, None], tried, theta)
        residual = np.where(better[:, None], new_residual, residual)
        slopes = np.where(better[:, None, None], new_slopes, slopes)
        squares = np.where(better, new_squares, squares)
    return theta, squares, np.einsum("fin,fjn->fij", slopes, slopes)


def _line(t: Array, v: Array, weight: Array) -> Array:
    """Weighted regression of v on -t, row by row; intercept and slope, shape (f, 2)."""
    mass = weight.sum(axis=1)
    t_mean, v_mean = (weight * t).sum(axis=1) / mass, (weight * v).sum(axis=1) / mass
    across = t - t_mean[:, None]
    slope = (weight * across * v).sum(axis=1) / (weight * across**2).sum(axis=1)
    return np.stack([v_mean - slope * t_mean, -slope], axis=1)


def _residuals(t: Array, v: Array, floors: Array, theta: Array) -> tuple[Array, Array]:
    """Residuals, shape (f, n), and the derivatives of the law by c and alpha, shape (f, 2, n)."""
    power = np.exp(np.clip(theta[:, :1] - theta[:, 1:] * t, -300.0, 300.0))
    value = floors[:, None] + power
    share = power / value
    return v - np.log(value), np.stack([share, -t * share], axis=1)


def _shares(theta: Array, squares: Array, hessian: Array, n: int) -> Array:
    """Posterior probability of each floor, shape (f,)."""
    log_volume: Array = np.linalg.slogdet(hessian)[1]
    # Log-uniform prior of the exponent: without it a floor near the lowest error, beside which any steep law
    # fits, would win by the number of exponents that it leaves.
    prior = np.where(FLOORS == 0, NO_FLOOR, (1 - NO_FLOOR) / (FLOORS.size - 1))
    log_prior = np.log(prior / np.maximum(theta[:, 1], 0.02))
    log_share = log_prior - 0.5 * (n - 2) * np.log(squares) - 0.5 * log_volume
    share = np.exp(log_share - log_share.max())
    return np.asarray(share / share.sum())


def _draw(
    floors: Array, theta: Array, squares: Array, hessian: Array, shares: Array, n: int, seed: int
) -> tuple[Array, Array]:
    """E, c and alpha, shape (n, 3), and the noise of each draw, shape (n,)."""
    rng = np.random.default_rng(seed)
    chosen = np.searchsorted(np.cumsum(shares), (np.arange(DRAWS) + 0.5) / DRAWS).clip(max=floors.size - 1)
    noise = np.sqrt(squares[chosen] / rng.chisquare(n - 2, DRAWS))
    root = np.linalg.cholesky(np.linalg.inv(hessian + 1e-12 * np.eye(2)))
    moved = theta[chosen] + noise[:, None] * np.einsum(
        "fij,fj->fi", root[chosen], rng.standard_normal((DRAWS, 2))
    )
    return np.column_stack([floors[chosen], moved]), noise
