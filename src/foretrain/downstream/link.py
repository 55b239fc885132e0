"""The link from a loss to a metric of a downstream task: a sigmoid, as draws of what it may be."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, fdtrc

from foretrain.downstream.sampler import sample
from foretrain.families.family import missed_more
from foretrain.hestness.law import Estimate
from foretrain.inputs import positive, same_length
from foretrain.laws.law import Array
from foretrain.laws.numerics import effective_count
from foretrain.status import Coded

MIN_POINTS = 6
"""With fewer points nothing is left of four parameters to tell how well the link fits."""

RECENT, LEAST_RECENT = 0.5, 8.0
"""Points count less the higher their loss, exponentially, so that half of them count, or eight: far from a
guess no sigmoid is exact, and what is asked about are lower losses. Half was chosen on the runs of Gadre et
al. 2024, where too much error of larger models is foretold if all points count alike."""

ORIGINS = (0.5, 0.65, 0.8)
"""Past predictions are made from these shares of the points, the highest losses first."""

UNRELATED_P = 0.01
"""A metric follows the loss where a constant fits so much worse by chance only at this rate (F test)."""

BEYOND = 0.25
"""Beyond the losses measured by more than this share of their span the limit of the link decides."""

TOLD = 0.4
"""The best limit counts as told where its 90% interval covers less than this share of what is possible."""

STEEPNESS = (0.2, 50.0)
"""Slopes tried, times the span of the losses: from a straight line to a step between two points."""

RESOLUTION = 1e-4
"""Misfit, as a share of the metric's range, below which a link counts as exact."""

WORST = 3.0
"""A prediction counts as missed by no more standard deviations than this: the rest is luck of the draws."""

NORMAL_90 = 1.645
"""Half of a normal 90% interval, in standard deviations."""

PARAMETERS = ("slope", "middle", "best", "chance")


class LinkDoubt(Coded):
    """What is in doubt about a link, the gravest first."""

    UNRELATED = (
        "unrelated",
        "The metric does not follow the loss: it may be at chance still, or depend on something else. Take a "
        "continuous metric of the task, such as the loss of its answers.",
    )
    NO_LIMIT = (
        "no_limit",
        "The points do not tell where the metric ends as the loss falls: trust losses near those measured.",
    )
    BEYOND = (
        "beyond",
        "The loss lies beyond those measured by more than a quarter of their span: there the sigmoid is "
        "assumed and not seen.",
    )


@dataclass(frozen=True)
class MetricLink:
    """`metric(L) = best + (chance - best) / (1 + exp(-slope (L - middle)))`, as draws of what it may be.

    Attributes:
        loss: Losses it rests on, shape (n,), ascending.
        metric: The metric there, shape (n,).
        limits: The least and the greatest value that the metric can have.
        draws: Slope, middle, best and chance, shape (q, 4): `best` is the metric's limit as the loss falls,
            `chance` as it grows.
        noise: Standard deviation of a measured metric about the link, of each draw, shape (q,).
        inflation: By how much predictions of the lower losses from the higher ones missed more than they
            said; at least 1. Intervals are wider by it.
        doubts: What is in doubt, the gravest first; of a prediction see `doubts_at`.
    """

    loss: Array
    metric: Array
    limits: tuple[float, float]
    draws: Array
    noise: Array
    inflation: float = 1.0
    doubts: tuple[LinkDoubt, ...] = ()

    def parameter(self, name: str, level: float = 0.9) -> Estimate:
        """One parameter, "slope", "middle", "best" or "chance", with its interval, given the sigmoid.

        Raises:
            ValueError: If there is no such parameter.
        """
        if name not in PARAMETERS:
            raise ValueError(f"Expected one of {', '.join(PARAMETERS)}, got {name!r}.")
        return Estimate.of(self.draws[:, PARAMETERS.index(name)], level)

    def values(self, loss: ArrayLike) -> Array:
        """The link at a loss, by each draw: shape (q,) for one loss, or for one loss a draw."""
        return _sigmoid(self.draws.T, np.asarray(loss, dtype=float))

    def predict(self, loss: ArrayLike, level: float = 0.9) -> Estimate:
        """The metric that would be measured at a loss; the metric's noise is in it.

        Args:
            loss: One loss, or one for each draw where the loss is itself uncertain.
            level: Of the interval.

        Raises:
            ValueError: If a loss is not positive and finite, or they are not one, or one a draw.
        """
        return Estimate.of(self.measured(loss), level)

    def measured(self, loss: ArrayLike) -> Array:
        """What `predict` takes its quantiles of, shape (q,)."""
        at = positive("loss", loss).ravel()
        if at.size not in (1, self.noise.size):
            raise ValueError(
                f"Expected one loss, or {self.noise.size}, one for each draw, got {at.size}: ask one by one."
            )
        luck = np.random.default_rng(1).standard_normal(self.noise.size) * self.noise
        middle = self._median(at)
        return np.clip(middle + self.inflation * (self.values(at) + luck - middle), *self.limits)

    def _median(self, loss: Array) -> Array:
        grid = np.linspace(loss.min(), loss.max(), 1 if loss.size == 1 else 65)
        return np.interp(loss, grid, [float(np.median(self.values(at))) for at in grid])

    def doubts_at(self, loss: float) -> tuple[LinkDoubt, ...]:
        """What is in doubt about the metric at a loss, the gravest first."""
        span = float(self.loss[-1] - self.loss[0])
        outside = max(self.loss[0] - loss, loss - self.loss[-1])
        return (*self.doubts, *((LinkDoubt.BEYOND,) if outside > BEYOND * span else ()))


def fit_link(
    loss: ArrayLike,
    metric: ArrayLike,
    *,
    chance: float | None = None,
    limits: tuple[float, float] = (0.0, 1.0),
    seed: int = 0,
) -> MetricLink:
    """Fits the sigmoid from a loss to a metric of a downstream task.

    A least-squares fit would be too sure of the limit that the metric has not reached yet, so everything that
    the points allow is kept: draws of the parameters from their posterior, with normal noise integrated out
    under its reference prior, both limits anywhere in `limits`, the middle anywhere from a loss of zero to
    one span above the largest, and the logarithm of the slope anywhere from a straight line to a step. The
    lower losses count most. They are also predicted from the higher ones, and where those predictions missed
    by more than they said, the intervals are widened.

    Args:
        loss: Loss of each model, shape (n,), in any order. Positive. That of the task's own answers serves
            better than that of other text.
        metric: The metric of each, shape (n,): an accuracy or an error, as fractions.
        chance: The metric of a guess, where it is known: then the link tends there as the loss grows.
        limits: The least and the greatest value that the metric can have: (0, 100) for percents.
        seed: Of the draws.

    Returns:
        The link. Look at `doubts` before trusting it.

    Raises:
        ValueError: If there are fewer than six points or two different losses, a loss is not positive and
            finite, or a metric or chance is outside the limits.

    References:
        Bhagia et al. 2024, arXiv:2412.04403 (the sigmoid, and the two steps); Gadre et al. 2024,
        arXiv:2403.08540 (an exponential, which is its lower end). The posterior, the weights and the
        widening are ours.

    Example:
        >>> import numpy as np
        >>> loss = np.linspace(1.0, 3.0, 12)
        >>> link = fit_link(loss, 0.25 + 0.6 / (1 + np.exp(4 * (loss - 2))), chance=0.25)
        >>> round(link.predict(1.4).median, 2)
        0.8
    """
    x = positive("loss", loss)
    y = _within("metric", metric, limits)
    same_length(loss=x, metric=y)
    if x.size < MIN_POINTS or np.unique(x).size < 2:
        raise ValueError(
            f"Expected at least {MIN_POINTS} models with different losses, got {x.size} with "
            f"{np.unique(x).size}: measure more models, or more checkpoints of them."
        )
    known = None if chance is None else float(_within("chance", chance, limits).ravel()[0])
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    link = replace(_draw(x, y, known, limits, seed), inflation=_inflation(x, y, known, limits, seed))
    return replace(link, doubts=_doubts(link))


def _draw(
    x: Array, y: Array, chance: float | None, limits: tuple[float, float], seed: int, *, short: bool = False
) -> MetricLink:
    """The posterior of points in order of their loss; fewer draws of it where it is `short`."""
    weight, count = _weights(x)
    exact = (RESOLUTION * (limits[1] - limits[0])) ** 2
    span = float(x[-1] - x[0])
    lower = np.array([np.log(STEEPNESS[0] / span), 0.0, limits[0], limits[0]])
    upper = np.array([np.log(STEEPNESS[1] / span), float(x[-1]) + span, limits[1], limits[1]])
    free = len(lower) - (chance is not None)

    def natural(theta: Array) -> Array:
        slope, last = np.exp(theta[:, :1]), np.full((len(theta), 4 - free), 0.0 if chance is None else chance)
        return np.hstack([slope, theta[:, 1:], last])

    def variance(theta: Array) -> Array:
        residual = _sigmoid(natural(theta).T[:, :, None], x) - y
        return np.asarray(np.maximum((weight * residual**2).mean(axis=1), exact))

    theta = sample(
        lambda theta: -0.5 * count * np.log(variance(theta)),
        lower[:free],
        upper[:free],
        walkers=96 if short else 128,
        steps=600 if short else 1000,
        burn_in=300 if short else 400,
        every=25,
        seed=seed,
    )
    chi2 = np.random.default_rng(seed).chisquare(count, len(theta))
    return MetricLink(x, y, limits, natural(theta), np.sqrt(count * variance(theta) / chi2))


def _weights(x: Array) -> tuple[Array, float]:
    """What each point counts, mean 1, and as how many points all count together."""
    off = (x - x.min()) / (x.max() - x.min())
    wanted = max(RECENT * x.size, min(LEAST_RECENT, 0.999 * x.size))

    low, high = 0.0, 200.0
    while high - low > 1e-6:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if effective_count(np.exp(-middle * off)) > wanted else (low, middle)
    w = np.exp(-low * off)
    return w / w.mean(), effective_count(w)


def _inflation(x: Array, y: Array, chance: float | None, limits: tuple[float, float], seed: int) -> float:
    """By how much predictions of lower losses from higher ones missed more than they said."""
    scores = []
    for share in ORIGINS:
        past = x.size - max(int(share * x.size), MIN_POINTS)
        if past < 1 or np.unique(x[past:]).size < 2:
            continue
        link = _draw(x[past:], y[past:], chance, limits, seed, short=True)
        told = [link.predict(at) for at in x[:past]]
        missed = [_score(value, one) for value, one in zip(y[:past], told, strict=True)]
        scores.append(float(np.mean(np.square(missed))))
    return missed_more(np.array(scores))


def _score(value: float, told: Estimate) -> float:
    """By how many standard deviations a value was missed, where the 90% interval is taken as a normal one.

    Each side has its own: what an unreached limit leaves open is far to one side.
    """
    half = told.upper - told.median if value > told.median else told.median - told.lower
    return float(np.clip((value - told.median) / max(half / NORMAL_90, 1e-12), -WORST, WORST))


def _doubts(link: MetricLink) -> tuple[LinkDoubt, ...]:
    told = []
    weight, count = _weights(link.loss)
    residual = _sigmoid(link.draws.T[:, :, None], link.loss) - link.metric
    unexplained = float((weight * residual**2).mean(axis=1).min())
    constant = float(np.average((link.metric - np.average(link.metric, weights=weight)) ** 2, weights=weight))
    left = max(count - len(PARAMETERS), 1.0)
    explained = max(constant - unexplained, 0.0) / (len(PARAMETERS) - 1)
    if fdtrc(len(PARAMETERS) - 1, left, explained * left / max(unexplained, 1e-300)) > UNRELATED_P:
        told.append(LinkDoubt.UNRELATED)
    best = link.parameter("best")
    if best.upper - best.lower > TOLD * (link.limits[1] - link.limits[0]):
        told.append(LinkDoubt.NO_LIMIT)
    return tuple(told)


def _sigmoid(parameters: Array, loss: Array) -> Array:
    slope, middle, best, chance = parameters
    return np.asarray(best + (chance - best) * expit(slope * (loss - middle)))


def _within(name: str, values: ArrayLike, limits: tuple[float, float]) -> Array:
    low, high = limits
    if not -np.inf < low < high < np.inf:
        raise ValueError(f"Expected `limits` as the least and the greatest metric, got {limits}.")
    array = np.asarray(values, dtype=float)
    bad = ~((array >= low) & (array <= high))
    if bad.any():
        raise ValueError(
            f"Expected `{name}` between {low:g} and {high:g}, got {float(array[bad].flat[0])}: pass `limits` "
            "as the least and the greatest value that the metric can have."
        )
    return array
