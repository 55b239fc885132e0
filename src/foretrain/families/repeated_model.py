"""Where runs with repeated data end, from runs with few repeats and what is known of memorising."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares

from foretrain.families.repeated import along, broadcast
from foretrain.fitting import HUBER, Fit, fit, ratio
from foretrain.inputs import check_levels, positive, same_length
from foretrain.laws import LAWS
from foretrain.laws.law import SATURATION, Array
from foretrain.projection import LEVELS, Forecast

LAW = LAWS["memorization"]

CAPACITY = 2.0 * float(np.log(2.0))
"""Nats that a parameter memorises at most: 2 bits (Allen-Zhu and Li 2024, arXiv:2404.05405)."""

REPEATS = 100.0 / float(np.log(2.0))
"""Repeats after which what is left to memorise has fallen by e: half of it after 100 (the same: 1 bit)."""

CAPACITY_DOUBT = 0.5
"""Standard deviation of the logarithm of the capacity. From half a nat, what maximum likelihood costs (Akaike
1974), to 3.6 bits (Morris et al. 2025, arXiv:2505.24832) is then about nine tenths of what is possible."""

REPEATS_DOUBT = 0.7
"""The same of the repeats: a factor of three either way."""

KNOWN = 5.0
"""Degrees of freedom of Student's t by which a run departs from the law."""

DRAWS = 2000
"""Sets of parameters drawn for the intervals."""

FEWEST_SIZES = 4
"""From so many model sizes on, what is left out in turn is a size; with fewer, a run."""

PASSES = 4
"""How often the scale of the errors is told anew: it depends on the parameters, and they on it."""

STILL_OPEN = 0.7
"""A prior is not narrowed where this share of its deviation is left."""

SMALLEST_SCALE = 1e-4
"""No law holds better than this."""

LOG = np.array([parameter.log for parameter in LAW.parameters])
FREE = np.array([parameter.name != "L0" for parameter in LAW.parameters])
GUESS, CAPACITY_AT = ([parameter.name for parameter in LAW.parameters].index(name) for name in ("L0", "M"))
BASE = int(FREE.sum()) - 2
"""How many of the free parameters have no prior: all but the last two."""

PRIOR = np.append(np.zeros(BASE), [1.0 / CAPACITY_DOUBT, 1.0 / REPEATS_DOUBT])
"""One over the standard deviations of the priors."""


@dataclass(frozen=True)
class RepeatedModel:
    """The law `memorization` fitted to runs, with the doubt about it.

    Attributes:
        fit: The fitted law.
        scale: Standard deviation of the log error of one run about the law.
        draws: Parameters in the units of the fit, drawn from what the runs and the priors leave open, shape
            (n_draws, 8).
    """

    fit: Fit
    scale: float
    draws: Array = field(repr=False)

    @property
    def borrowed(self) -> bool:
        """Whether what a parameter memorises rests on the literature: the runs hardly narrow its prior."""
        return bool(np.log(self.draws[:, CAPACITY_AT]).std() > STILL_OPEN * CAPACITY_DOUBT)

    def forecast(
        self, n: ArrayLike, d: ArrayLike, u: ArrayLike, levels: Sequence[float] = LEVELS, seed: int = 0
    ) -> Forecast:
        """Where other runs end.

        Args:
            n: Model sizes, in parameters. Positive.
            d: Data seen at the end, in training examples or tokens. Positive.
            u: Unique data in the same unit. Positive.
            levels: Nominal levels of the central intervals.
            seed: Of the random draws; the same seed gives the same intervals.

        Returns:
            Median and intervals of one run at each place, in the shape that the first three broadcast to.

        Raises:
            ValueError: If a number is not positive and finite, the shapes do not broadcast, or a level is not
                between 0 and 1.
        """
        checked = check_levels(levels)
        size, seen, unique = broadcast(n=positive("n", n), d=positive("d", d), u=positive("u", u))
        logs = self.log_values(np.stack([size.ravel(), seen.ravel(), unique.ravel()]))
        logs = logs + self.scale * np.random.default_rng(seed).standard_t(KNOWN, logs.shape)

        def at(share: float) -> Array:
            return np.asarray(np.exp(np.quantile(logs, share, axis=0)).reshape(size.shape))

        return Forecast(
            median=at(0.5),
            lower={level: at(0.5 - level / 2) for level in checked},
            upper={level: at(0.5 + level / 2) for level in checked},
            status=self.fit.status,
            reasons=self.fit.reasons,
        )

    def chance_past_best(self, n: float, d: float, u: float) -> float:
        """How sure it is that a run ends past its best epoch: the share of the draws that say so.

        Args:
            n: Model size, in parameters. Positive.
            d: Data seen at the end, in training examples or tokens. Positive.
            u: Unique data in the same unit. Positive.

        Returns:
            Between 0 and 1; 0 within the first epoch.

        Raises:
            ValueError: If a number is not positive and finite.
        """
        size, seen, unique = (float(positive(name, v)) for name, v in (("n", n), ("d", d), ("u", u)))
        if seen <= unique:
            return 0.0
        logs = self.log_values(along(size, unique, np.geomspace(1.0, seen / unique, 60)))
        return float((logs[:, -1] > logs.min(axis=1) + 1e-9).mean())

    def log_values(self, x: Array) -> Array:
        """Ln L of every draw at x of shape (3, m); shape (n_draws, m)."""
        at = ratio(x, self.fit.x_unit[:, None])
        with np.errstate(under="ignore"):
            values = np.array([LAW.value(at, theta) for theta in self.draws])
        return np.asarray(np.log(values) + np.log(self.fit.y_unit))


def model_repeated(
    n: ArrayLike, d: ArrayLike, u: ArrayLike, y: ArrayLike, *, random_guess: float, seed: int = 0
) -> RepeatedModel:
    """Fits the law `memorization` to finished runs, whose repeats may be few.

    Few repeats do not tell how much a model memorises and how soon. So the capacity of a parameter and the
    repeats it takes begin from what others measured, as lognormal priors, and runs that over-fit move them.
    Runs alike in n, d and u count as one, at the mean of their logarithms. Runs that share a size are not
    independent: the runs count against the priors as so many as there are sizes, and the doubt about the
    parameters is what leaving out each size in turn does to them (the jackknife by clusters, CV3 of
    MacKinnon, Nielsen and Webb 2023). The error of a run about the law is their root mean square.

    Args:
        n: Model size of each run, shape (m,), in parameters. Positive.
        d: Data seen at its end, shape (m,), in training examples or tokens. Positive.
        u: Unique data in the same unit, shape (m,). Positive.
        y: The loss at its end, shape (m,), in nats. Positive.
        random_guess: The loss of guessing, in nats: for a language model the logarithm of its vocabulary. It
            bounds what over-fitting costs. Larger than most of y.
        seed: Of the random draws; the same seed gives the same model.

    Returns:
        The model. Look at `fit.status` before trusting it.

    Raises:
        ValueError: If a number is not positive and finite, lengths differ, or there are fewer different runs
            than the five parameters that are fitted to them alone.

    References:
        Bryant and Liu 2026, arXiv:2605.09189; Allen-Zhu and Li 2024, arXiv:2404.05405; Akaike 1974;
        MacKinnon, Nielsen and Webb 2023, "Fast and reliable jackknife and bootstrap methods for
        cluster-robust inference".
    """
    columns = {name: positive(name, values) for name, values in (("n", n), ("d", d), ("u", u), ("y", y))}
    same_length(**columns)
    guess = float(positive("random_guess", random_guess))
    x, log_y = _cells(np.stack([columns["n"], columns["d"], columns["u"]]), np.log(columns["y"]))
    first = fit(LAW, x, np.exp(log_y), fixed={"L0": guess, "M": CAPACITY, "R_M": REPEATS})
    return _posterior(first, x, log_y, np.random.default_rng(seed))


def _cells(x: Array, log_y: Array) -> tuple[Array, Array]:
    """Runs alike in every axis as one, at the mean of their logarithms."""
    cells, member = np.unique(x, axis=1, return_inverse=True)
    member = member.ravel()
    return cells, np.bincount(member, weights=log_y) / np.bincount(member)


@dataclass(frozen=True)
class _Objective:
    """The log errors of the runs by the free parameters, each as a fit searches it.

    Attributes:
        at: The runs' places in the units of the fit, shape (3, m).
        log_v: ln y in the unit of the fit, shape (m,).
        known: All parameters in the units of the fit, of which `L0` stays, shape (8,).
    """

    at: Array
    log_v: Array
    known: Array

    def theta(self, phi: Array) -> Array:
        """All parameters, shape (8,), from the free ones, shape (7,)."""
        theta: Array = self.known.copy()
        theta[FREE] = np.where(LOG[FREE], np.exp(np.clip(phi, -SATURATION, SATURATION)), phi)
        return theta

    def errors(self, phi: Array) -> Array:
        """Shape (m,)."""
        return np.asarray(np.log(LAW.value(self.at, self.theta(phi))) - self.log_v)

    def slopes(self, phi: Array) -> Array:
        """Their derivatives, shape (m, 7)."""
        theta = self.theta(phi)
        by_theta = LAW.gradient(self.at, theta) / LAW.value(self.at, theta)
        return np.asarray((by_theta * np.where(LOG, theta, 1.0)[:, None])[FREE].T)


def _inner(theta: Array) -> Array:
    """The free parameters as a fit searches them, some by their logarithm, shape (7,)."""
    return np.asarray(np.where(LOG, np.log(np.clip(theta, 1e-300, 1e300)), theta)[FREE])


def _posterior(first: Fit, x: Array, log_y: Array, rng: np.random.Generator) -> RepeatedModel:
    """Lets the runs move capacity and repeats, and draws what stays open."""
    goal = _Objective(ratio(x, first.x_unit[:, None]), log_y - np.log(first.y_unit), first.unit_theta)
    lower, upper = (_inner(bound) for bound in LAW.bounds)
    upper[0] = 0.999 * first.unit_theta[GUESS]
    start = _inner(first.unit_theta)
    phi = np.clip(start, lower + 1e-9, upper - 1e-9)
    group = _groups(x[0])
    alike = np.sqrt(log_y.size / (group.max() + 1.0))
    with np.errstate(under="ignore", over="ignore"):
        for _ in range(PASSES):
            square = float((goal.errors(phi) ** 2).sum())
            scale = max(float(np.sqrt(square / max(log_y.size - BASE, 1))), SMALLEST_SCALE)
            phi = _maximum(goal, phi, start, scale * alike, (lower, upper))
        unit = scale * alike
        root = _root(goal.slopes(phi) / unit, goal.errors(phi) / unit, group)
    drawn = np.clip(phi + rng.standard_normal((DRAWS, len(root))) @ root, lower, upper)
    theta = goal.theta(phi)
    natural = LAW.rescale(theta, first.x_unit, first.y_unit)
    natural[GUESS] = first.theta[GUESS]
    found = replace(first, theta=natural, unit_theta=theta, scale=scale, fixed=("L0",))
    return RepeatedModel(found, scale, np.array([goal.theta(one) for one in drawn]))


def _groups(sizes: Array) -> NDArray[np.intp]:
    """Which runs go together: those of one size, or each alone where there are few sizes."""
    names, member = np.unique(sizes, return_inverse=True)
    return np.asarray(member.ravel() if names.size >= FEWEST_SIZES else np.arange(sizes.size))


def _maximum(goal: _Objective, phi: Array, centre: Array, unit: float, bounds: tuple[Array, Array]) -> Array:
    """The most probable parameters: errors in this unit under Huber's loss, and the priors."""
    found = least_squares(
        lambda inner: np.append(goal.errors(inner) / unit, PRIOR * (inner - centre)),
        phi,
        jac=lambda inner: np.vstack([goal.slopes(inner) / unit, np.diag(PRIOR)]),
        bounds=bounds,
        loss="huber",
        f_scale=HUBER,
        x_scale="jac",
        max_nfev=100,
    )
    return np.asarray(found.x)


def _root(slopes: Array, errors: Array, group: NDArray[np.intp]) -> Array:
    """A root of the covariance of the parameters: what the runs leave open, and what the priors do.

    Args:
        slopes: Derivatives of the errors, in units of their scale, shape (m, 7).
        errors: Those, shape (m,).
        group: Which of them go together, shape (m,).

    Returns:
        Shape (k, 7): standard normal numbers times it are draws.
    """
    whole = slopes.T @ slopes + np.diag(PRIOR**2)
    names = np.unique(group)
    moved = []
    for name in names:
        out = group == name
        left = whole - slopes[out].T @ slopes[out]
        moved.append(np.linalg.pinv(left, rcond=1e-9, hermitian=True) @ (slopes[out].T @ errors[out]))
    by_runs = np.array(moved) * np.sqrt((names.size - 1) / names.size)
    by_prior = np.diag(PRIOR) @ np.linalg.pinv(whole, rcond=1e-12, hermitian=True)
    return np.concatenate([by_runs, by_prior])
