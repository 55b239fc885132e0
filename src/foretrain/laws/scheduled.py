"""Published laws of the loss under a learning-rate schedule, in their authors' letters and conventions.

Each takes the rate of every step and gives the loss after any of them: a linear term and the multi-power law
of Luo et al. 2025, and the momentum law of Tissue et al. 2024. `prepare` does once what does not depend on
the parameters, so that a fit evaluates a law many times at little cost.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from foretrain.laws.annealing import (
    MEMORY,
    SMALLEST,
    annealing_area,
    checked_rates,
    checked_steps,
    cumulative_rate,
)
from foretrain.laws.law import Array, Parameter
from foretrain.laws.numerics import SATURATION, saturated_exp

MOST_FALLS = 500
"""A multi-power law sums at most so many changes of the rate; neighbouring ones are taken together."""

L0 = Parameter("L0", "loss beyond all training", "the loss's unit", 0.0)
A = Parameter("A", "coefficient of the cumulative rate", "the loss's unit times that of S1^alpha", 0.0)
ALPHA = Parameter("alpha", "exponent of the cumulative rate", "none", 0.0)

Prepared = TypeVar("Prepared")


class ScheduledLaw(ABC, Generic[Prepared]):
    """A law of the loss given the rate of every step.

    Attributes:
        name: The key in `SCHEDULED`.
        formula: The formula, for people.
        source: Author, year and equation.
        parameters: All parameters, in the order of theta.
    """

    name: ClassVar[str]
    formula: ClassVar[str]
    source: ClassVar[str]
    parameters: ClassVar[tuple[Parameter, ...]]

    @abstractmethod
    def prepare(self, rates: ArrayLike, steps: ArrayLike) -> Prepared:
        """What the law needs to know of a schedule at given steps.

        Args:
            rates: Learning rate of every step from the first, shape (T,). Not negative.
            steps: After which steps, shape (n,), whole numbers from 1 to T.

        Raises:
            ValueError: If rates or steps are not as above.
        """

    @abstractmethod
    def value(self, at: Prepared, theta: Array) -> Array:
        """The loss, shape (n,), for parameters theta of shape (p,)."""

    @abstractmethod
    def gradient(self, at: Prepared, theta: Array) -> Array:
        """The derivatives of `value` by each parameter, shape (p, n)."""

    def loss(self, rates: ArrayLike, steps: ArrayLike, theta: ArrayLike) -> Array:
        """The loss after given steps.

        Args:
            rates: Learning rate of every step from the first, shape (T,). Not negative.
            steps: After which steps, shape (n,), whole numbers from 1 to T.
            theta: All parameters, shape (p,).

        Returns:
            Shape (n,), in the loss's unit.

        Raises:
            ValueError: If rates or steps are not as above, or the number of parameters is another.
        """
        told = np.asarray(theta, dtype=float)
        if told.shape != (len(self.parameters),):
            names = ", ".join(parameter.name for parameter in self.parameters)
            raise ValueError(f"Expected `theta` to hold {names} of the law {self.name}, got {told.shape}.")
        return self.value(self.prepare(rates, steps), told)


class _TwoTermLaw(ScheduledLaw[Array]):
    """`L0 + A S1^-alpha - c g`; prepared, shape (2, n), are S1 and g."""

    def value(self, at: Array, theta: Array) -> Array:
        """The loss."""
        level, a, alpha, c = theta
        return np.asarray(level + a * saturated_exp(-alpha * np.log(at[0])) - c * at[1])

    def gradient(self, at: Array, theta: Array) -> Array:
        """Its derivatives by L0, A, alpha and the coefficient."""
        _, a, alpha, _ = theta
        trained = saturated_exp(-alpha * np.log(at[0]))
        return np.stack([np.ones_like(trained), trained, -a * np.log(at[0]) * trained, -at[1]])


class LinearAnnealingLaw(_TwoTermLaw):
    """`L = L0 + A S1^-alpha - B (eta_max - eta)`: the loss goes with the rate of the step at once.

    S1 is the sum of the rates as they are, with the warm-up. B is in the loss's unit over the rate's. Source:
    Luo et al. 2025, arXiv:2503.12811, where it is an ablation and the first stage of their fit.
    """

    name = "linear"
    formula = "L0 + A S1^-alpha - B (eta_max - eta)"
    source = "Luo et al. 2025, arXiv:2503.12811, linear loss reduction"
    parameters = (
        L0,
        A,
        ALPHA,
        Parameter("B", "gain by a lower rate", "the loss's over the rate's", 0.0),
    )

    def prepare(self, rates: ArrayLike, steps: ArrayLike) -> Array:
        """S1 and `eta_max - eta`, shape (2, n)."""
        rates = checked_rates(rates)
        at = checked_steps(steps, rates)
        return np.stack([_trained(rates, "actual")[at], rates.max() - rates[at]])


class MomentumLaw(_TwoTermLaw):
    """`L = L0 + A S1^-alpha - C S2`: the gain of a lower rate comes over 1 / (1 - lambda) steps.

    S1 is the sum of the rates, S2 the annealing area (`laws.annealing.annealing_area`), both with the warm-up
    counted as if at the highest rate. C is in the loss's unit over that of the rate. A rate of zero that
    stays goes on to lower the loss until the memory ends, and the gain does not level off as rates grow.
    Source: Tissue, Wang and Wang 2024, arXiv:2408.11029, equation 1.

    Attributes:
        memory: lambda, the share of the momentum that a step leaves.
    """

    name = "momentum"
    formula = "L0 + A S1^-alpha - C S2"
    source = "Tissue, Wang and Wang 2024, arXiv:2408.11029, equation 1"
    parameters = (L0, A, ALPHA, Parameter("C", "gain by annealing", "the loss's unit over that of S2", 0.0))

    def __init__(self, memory: float = MEMORY) -> None:
        self.memory = memory

    def prepare(self, rates: ArrayLike, steps: ArrayLike) -> Array:
        """S1 and S2, shape (2, n)."""
        rates = checked_rates(rates)
        at = checked_steps(steps, rates)
        return np.stack([_trained(rates, "peak")[at], annealing_area(rates, memory=self.memory)[at]])


@dataclass(frozen=True)
class RateChanges:
    """What a multi-power law needs of a schedule at n steps: g groups of changes, the last one partial.

    Attributes:
        trained: Sum of the rates up to each step, shape (n,).
        change: By how much the rate rose up to each step, by group, shape (n, g); 0 for what is to come.
        since: Sum of the rates from the group's change up to the step, shape (n, g).
        log_rate: Log of the rate after the change, shape (n, g).
    """

    trained: Array
    change: Array
    since: Array
    log_rate: Array


class MultiPowerLaw(ScheduledLaw[RateChanges]):
    """`L = L0 + A S1^-alpha - LD`: each fall of the rate gains by a power law of what was trained since.

    `LD = B sum_k (eta_(k-1) - eta_k) G(eta_k^-gamma S_k)`, `S_k = sum_(i=k..s) eta_i`, and
    `G(x) = 1 - (C x + 1)^-beta`. S1 is the sum of the rates as they are, with the warm-up. As in the authors'
    code, and unlike their text, the rises of the warm-up count as changes too, from a rate of zero before the
    first step: L0 is what is left at a rate of zero. B and C take their units from the rate's. Source: Luo et
    al. 2025, arXiv:2503.12811.

    Attributes:
        most: The sum goes over at most so many changes; neighbours are taken together, at their mean.
            On the authors' schedules the loss is then off by at most 5e-5 of itself; None sums them all.
    """

    name = "multi_power"
    formula = "L0 + A S1^-alpha - B sum_k (eta_(k-1) - eta_k) G(eta_k^-gamma S_k), G(x) = 1 - (C x + 1)^-beta"
    source = "Luo et al. 2025, arXiv:2503.12811"
    parameters = (
        *(L0, A, ALPHA),
        Parameter("B", "gain by a lower rate", "the loss's over the rate's", 0.0),
        Parameter("C", "how soon it comes", "one over that of eta^(1 - gamma)", 0.0),
        Parameter("beta", "exponent of what was trained since", "none", 0.0),
        Parameter("gamma", "exponent of the rate", "none", 0.0),
    )

    def __init__(self, most: int | None = MOST_FALLS) -> None:
        if most is not None and most < 1:
            raise ValueError(f"Expected `most` to be at least 1, or None for all changes, got {most}.")
        self.most = most

    def prepare(self, rates: ArrayLike, steps: ArrayLike) -> RateChanges:
        """The sum of the rates, and their changes in groups."""
        rates = checked_rates(rates)
        at = checked_steps(steps, rates)
        before = np.concatenate([[0.0], np.cumsum(rates)[:-1]])
        where = np.flatnonzero(np.diff(rates, prepend=0.0))
        changes = _Changes(rates, before, where)
        starts = changes.starts(self.most)
        ends = np.append(starts[1:], where.size)
        seen = np.searchsorted(where, at, side="right")  # how many changes each step has behind it
        current = np.searchsorted(starts, seen, side="right") - 1  # the group that the last of them is in
        whole = ends[None, :] <= seen[:, None]
        total, place, log_rate = changes.grouped(starts, ends)
        partial = np.where(ends[current] <= seen, seen, starts[current])
        part, part_place, part_log = changes.grouped(partial, seen)
        trained = (before + rates)[at]
        places = np.hstack([np.broadcast_to(place, whole.shape), part_place[:, None]])
        return RateChanges(
            trained=np.maximum(trained, SMALLEST * rates.max()),
            change=np.hstack([np.where(whole, total, 0.0), part[:, None]]),
            since=np.maximum(trained[:, None] - places, 0.0),
            log_rate=np.hstack([np.broadcast_to(log_rate, whole.shape), part_log[:, None]]),
        )

    def value(self, at: RateChanges, theta: Array) -> Array:
        """The loss."""
        level, a, alpha, b, c, beta, gamma = theta
        logs = np.log1p(c * at.since * saturated_exp(-gamma * at.log_rate))
        risen = -(at.change * np.expm1(-np.minimum(beta * logs, SATURATION))).sum(axis=1)
        return np.asarray(level + a * saturated_exp(-alpha * np.log(at.trained)) + b * risen)

    def gradient(self, at: RateChanges, theta: Array) -> Array:
        """Its derivatives by L0, A, alpha, B, C, beta and gamma."""
        _, a, alpha, b, c, beta, gamma = theta
        x = at.since * saturated_exp(-gamma * at.log_rate)
        logs = np.log1p(c * x)
        left = np.exp(-np.minimum(beta * logs, SATURATION))
        by_argument = at.change * beta * left * x / (1.0 + c * x)
        trained = saturated_exp(-alpha * np.log(at.trained))
        return np.stack(
            [
                np.ones_like(trained),
                trained,
                -a * np.log(at.trained) * trained,
                (at.change * (1.0 - left)).sum(axis=1),
                b * by_argument.sum(axis=1),
                b * (at.change * logs * left).sum(axis=1),
                -b * c * (by_argument * at.log_rate).sum(axis=1),
            ]
        )


class _Changes:
    """The changes of a rate, in order, summed so that any run of them has its total and its mean at once."""

    def __init__(self, rates: Array, before: Array, where: NDArray[np.intp]) -> None:
        change = np.diff(rates, prepend=0.0)[where]
        self.size = np.abs(change)
        logs = np.log(np.maximum(rates[where], SMALLEST * rates.max()))
        parts = np.stack([change, self.size, self.size * before[where], self.size * logs])
        self.summed = np.concatenate([np.zeros((4, 1)), np.cumsum(parts, axis=1)], axis=1)

    def starts(self, most: int | None) -> NDArray[np.intp]:
        """Where groups of about equal size begin, `most` of them at most; each change one if None.

        Rises count a tenth: most are those of a warm-up, long ago.
        """
        if most is None or self.size.size <= most:
            return np.arange(self.size.size)
        share = np.where(np.diff(self.summed[0]) > 0, 0.1, 1.0) * self.size
        middle = (np.cumsum(share) - 0.5 * share) / share.sum()
        return np.asarray(np.flatnonzero(np.diff(np.floor(most * middle), prepend=-1.0)))

    def grouped(self, first: NDArray[np.intp], last: NDArray[np.intp]) -> Array:
        """Total change, mean sum of the rates before it and mean log rate, from one to before the other."""
        total, weight, place, log_rate = self.summed[:, last] - self.summed[:, first]
        weight = np.where(weight > 0, weight, 1.0)
        return np.stack([total, place / weight, log_rate / weight])


def _trained(rates: Array, warmup: str) -> Array:
    """The sum of the rates, positive."""
    return np.asarray(np.maximum(cumulative_rate(rates, warmup=warmup), SMALLEST * rates.max()))


SCHEDULED: dict[str, LinearAnnealingLaw | MomentumLaw | MultiPowerLaw] = {
    law.name: law for law in (LinearAnnealingLaw(), MomentumLaw(), MultiPowerLaw())
}
"""The laws with their defaults, by name."""
