"""Closed forms on the law `L(N, D) = E + A N^-alpha + B D^-beta`, for one set of parameters or many draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from foretrain.families.repeated import R_D, effective_data
from foretrain.inputs import positive
from foretrain.laws.law import Array

FLOPS_PER_WEIGHT = 6.0
"""Training FLOPs for each parameter and token: 2 forward, 4 backward (Kaplan et al. 2020, section 2.1)."""

PLACES, ZOOMS = 48, 5
"""Sizes, evenly spaced in ln N, among which a constrained optimum is looked for, and how often anew between
the neighbours of the best: five times leave ln N within 1e-6 of a range of e^20."""

R_N = 5.309743
"""Multiples of the size that the distinct data suffice for, after which what more parameters gain has decayed
by e, on text (Muennighoff et al. 2023, arXiv:2305.16264, beside R_D)."""

WIDEST = 1e3
"""With repeats the best size is looked for within this factor of the best one without."""


class Worth(NamedTuple):
    """What a size and an amount of data are worth where data repeat.

    Attributes:
        n: Effective parameters.
        d: Effective data, in the unit of the data seen.
    """

    n: Array
    d: Array


@dataclass(frozen=True)
class JointLaw:
    """The law `E + A N^-alpha + B D^-beta` (Hoffmann et al. 2022, equation 2), or draws of it.

    All methods work on every draw at once: results have the shape of the parameters, broadcast with the
    arguments. What does not exist is infinite: the data needed for an error below the floor.

    Attributes:
        e: Irreducible error, in the metric's unit, shape (m,) or a number. Not negative.
        a: Coefficient of size. Not negative, as is `b`.
        alpha: Exponent of size. Positive, as is `beta`.
        b: Coefficient of data.
        beta: Exponent of data.

    Example:
        >>> law = JointLaw(e=1.8172, a=477.83, alpha=0.34731, b=2143.4, beta=0.36717)
        >>> n, d = law.optimum(5.76e23)
        >>> round(float(n) / 1e9), round(float(d) / 1e12, 1)
        (73, 1.3)
    """

    e: ArrayLike
    a: ArrayLike
    alpha: ArrayLike
    b: ArrayLike
    beta: ArrayLike

    def _values(self) -> tuple[Array, Array, Array, Array, Array]:
        e, a, alpha, b, beta = (
            np.asarray(v, dtype=float) for v in (self.e, self.a, self.alpha, self.b, self.beta)
        )
        return e, a, alpha, b, beta

    def loss(self, n: ArrayLike, d: ArrayLike) -> Array:
        """The law's value at size n and data d, in the metric's unit."""
        e, a, alpha, b, beta = self._values()
        return np.asarray(e + a * np.asarray(n, float) ** -alpha + b * np.asarray(d, float) ** -beta)

    def gains(self, n: ArrayLike, d: ArrayLike) -> tuple[Array, Array]:
        """By how much ln L falls for each unit of ln N, and of ln D, at one place.

        Compute is proportional to N D, so these are also the gains of one unit of ln C spent on a bigger
        model, or on more data; at the compute-optimal size they are equal.
        """
        _, a, alpha, b, beta = self._values()
        level = self.loss(n, d)
        return (
            np.asarray(alpha * a * np.asarray(n, float) ** -alpha / level),
            np.asarray(beta * b * np.asarray(d, float) ** -beta / level),
        )

    def optimum(self, compute: ArrayLike, per: float = FLOPS_PER_WEIGHT) -> tuple[Array, Array]:
        """The size and the data of least error for a budget (Hoffmann et al. 2022, equation 4).

        Args:
            compute: The budget, in FLOPs.
            per: FLOPs for each parameter and unit of data: `C = per N D`.

        Returns:
            N and D. Where A or B is zero the optimum is at an end: N is 0 or infinite.
        """
        room = np.asarray(compute, float) / per
        exponent, log_g = self.growth()
        with np.errstate(over="ignore", invalid="ignore"):
            log_n = log_g + exponent * np.log(room)
            n = np.exp(log_n)
            return np.asarray(n), np.asarray(np.exp(np.log(room) - log_n))

    def best_loss(self, compute: ArrayLike, per: float = FLOPS_PER_WEIGHT) -> Array:
        """The least error that a budget allows, in the metric's unit."""
        e, excess, power = self._frontier(per)
        with np.errstate(over="ignore"):
            return np.asarray(e + excess * np.asarray(compute, float) ** -power)

    def compute_for(self, loss: ArrayLike, per: float = FLOPS_PER_WEIGHT) -> Array:
        """The least compute for an error, at the best size for it; infinite where the floor forbids it."""
        e, excess, power = self._frontier(per)
        return _inverse(np.asarray(loss, float) - e, excess, power)

    def data_for(self, loss: ArrayLike, n: ArrayLike) -> Array:
        """The data with which a model of size n reaches an error; infinite where none suffice."""
        e, a, alpha, b, beta = self._values()
        return _inverse(np.asarray(loss, float) - e - a * np.asarray(n, float) ** -alpha, b, beta)

    def size_for(self, loss: ArrayLike, d: ArrayLike) -> Array:
        """The size that reaches an error on data d; infinite where none suffices."""
        e, a, alpha, b, beta = self._values()
        return _inverse(np.asarray(loss, float) - e - b * np.asarray(d, float) ** -beta, a, alpha)

    def growth(self) -> tuple[Array, Array]:
        """How the best size grows: a and ln g of `N = g R^a`, where R is the product of size and data."""
        _, a, alpha, b, beta = self._values()
        with np.errstate(divide="ignore", invalid="ignore"):
            log_g = (np.log(alpha * a) - np.log(beta * b)) / (alpha + beta)
        return np.asarray(beta / (alpha + beta)), np.asarray(log_g)

    def with_growth(self, exponent: ArrayLike, log_g: ArrayLike) -> JointLaw:
        """The law of the same least error for every budget, whose best size grows in another way.

        With `K R^-p` what the best use of R leaves above E, `alpha = p / a`, `beta = p / (1 - a)`,
        `A = a K g^alpha` and `B = (1 - a) K g^-beta`.

        Args:
            exponent: a of `N = g R^a`, between 0 and 1, in a shape that broadcasts with the parameters.
            log_g: ln g.
        """
        a, log_g = np.asarray(exponent, float), np.asarray(log_g, float)
        e, excess, power = self._frontier(1.0)
        alpha, beta = power / a, power / (1.0 - a)
        with np.errstate(over="ignore", under="ignore"):
            by_size = a * excess * np.exp(alpha * log_g)
            by_data = (1.0 - a) * excess * np.exp(-beta * log_g)
        return JointLaw(e, by_size, alpha, by_data, beta)

    def worth(self, n: ArrayLike, seen: ArrayLike, unique: float, r: float = R_D, r_n: float = R_N) -> Worth:
        """What size and data are worth once the data repeat (Muennighoff et al. 2023, equations 5 and 6).

        Data beyond `unique` count less and less, and so do parameters beyond the size that is best for the
        distinct data alone: as in `foretrain.laws.repeated`, but for draws of the joint law.

        Args:
            n: Sizes, in parameters.
            seen: Data seen, of a shape that broadcasts with them.
            unique: Distinct data that there are.
            r: Repeats after which their value has decayed by e.
            r_n: The same for excess parameters, in multiples of that size.

        Returns:
            Effective parameters and effective data.
        """
        _, a, alpha, b, beta = self._values()
        n, seen = np.asarray(n, float), np.asarray(seen, float)
        with np.errstate(over="ignore", divide="ignore"):
            distinct = np.log(np.minimum(seen, unique))
            enough = np.exp((np.log(alpha * a) - np.log(beta * b) + beta * distinct) / alpha)
        return Worth(effective_data(n, np.clip(enough, 1e-300, 1e300), r_n), effective_data(seen, unique, r))

    def optimum_of_repeats(
        self, compute: float, unique: float, per: float = FLOPS_PER_WEIGHT, r: float = R_D, r_n: float = R_N
    ) -> tuple[Array, Array]:
        """The size and the data seen of least error for a budget, where the data repeat beyond `unique`.

        Size and data count as `worth` says: where data are short, a smaller model for more epochs is best.

        Returns:
            N and the data seen, D, with `C = per N D`.

        References:
            Muennighoff et al. 2023, arXiv:2305.16264, section 5.
        """
        positive("compute", [compute]), positive("unique", [unique])
        free, _ = self.optimum(compute, per)
        centre = np.log(np.clip(np.atleast_1d(free), 1.0, compute / per))
        low, high = centre - np.log(WIDEST), centre + np.log(WIDEST)
        steps = np.linspace(0.0, 1.0, PLACES)[:, None]
        laws = JointLaw(*(np.atleast_1d(v) for v in self._values()))
        for _ in range(ZOOMS):
            places = low + (high - low) * steps
            n = np.exp(places)
            level = laws.loss(*laws.worth(n, compute / per / n, unique, r, r_n))
            best = np.argmin(level, axis=0)
            column = np.arange(best.size)
            low, high = (
                places[np.maximum(best - 1, 0), column],
                places[np.minimum(best + 1, PLACES - 1), column],
            )
        size = np.exp(0.5 * (low + high)).reshape(np.shape(free))
        return np.asarray(size), np.asarray(compute / per / size)

    def _frontier(self, per: float) -> tuple[Array, Array, Array]:
        """E, K and p of the least error for a budget, `E + K C^-p`."""
        e, a, alpha, b, beta = self._values()
        power = alpha * beta / (alpha + beta)
        _, log_g = self.growth()
        with np.errstate(divide="ignore", invalid="ignore"):
            excess = a * np.exp(-alpha * log_g) + b * np.exp(beta * log_g)
        # Without a term of size (or of data) one that is as small as one likes costs nothing.
        excess = np.where((a > 0) & (b > 0), excess, 0.0)
        return e, excess * per**power, power


def _inverse(left: Array, coefficient: Array, exponent: Array) -> Array:
    """X with `coefficient x^-exponent = left`; infinite where left is not positive."""
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        x = np.exp((np.log(coefficient) - np.log(np.maximum(left, 0.0))) / exponent)
    return np.asarray(np.where(left > 0, x, np.inf))
