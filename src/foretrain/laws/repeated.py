"""The data-constrained law of Muennighoff et al. 2023: repeated tokens count less than new ones."""

from __future__ import annotations

import numpy as np

from foretrain.laws.law import DATA, SATURATION, SIZE, Array, Axis, Law, Parameter, power
from foretrain.laws.linear import project
from foretrain.laws.numerics import saturated_exp

CONTRAST = 690.0
"""Largest absolute logarithm of a quantity that is not a power of another."""


class RepeatedDataLaw(Law):
    """`L = E + A N'^-alpha + B D'^-beta`, where repeats of data and excess parameters count less and less.

    `D' = U + U R_D (1 - exp(-(D / U - 1) / R_D))` for D tokens seen of which U are unique, and likewise
    `N' = U_N + U_N R_N (1 - exp(-(N / U_N - 1) / R_N))` with `U_N = min(N, N_opt(U))`, where
    `N_opt(U) = (alpha A U^beta / (beta B))^(1 / alpha)` is the size that compute-optimal training on U tokens
    has. L and E are in the metric's unit, N in parameters, D and U in the same unit of data; U counts as no
    more than D. With every token seen once and N below N_opt it is Chinchilla's law. R_D is about 15 on
    text: the value of repeats decays by e in as many epochs. It never rises with repeats: over-fitted runs
    do not follow it. Source: Muennighoff et al. 2023, arXiv:2305.16264.
    """

    name = "repeated_data"
    formula = (
        "E + A N'^-alpha + B D'^-beta, D' = U + U R_D (1 - exp(-(D / U - 1) / R_D)), "
        "N' = U_N + U_N R_N (1 - exp(-(N / U_N - 1) / R_N)), U_N = min(N, N_opt(U))"
    )
    source = "Muennighoff et al. 2023, arXiv:2305.16264"
    axes = (SIZE, DATA, Axis("U", "unique data", "training examples or tokens"))
    monotone = (-1, -1, -1)
    polished = 4
    nonlinear = (
        Parameter("E", "irreducible error", "the metric's unit", 0.0),
        Parameter(
            "A", "coefficient of model size", "the metric's unit times parameters^alpha", 0.0, log=True
        ),
        Parameter("B", "coefficient of data", "the metric's unit times data^beta", 0.0, log=True),
        Parameter("alpha", "exponent of model size", "none", 0.01, 3.0),
        Parameter("beta", "exponent of data", "none", 0.01, 3.0),
        Parameter("R_D", "repeats after which their value has decayed by e", "epochs", 0.01, 1e4, log=True),
        Parameter("R_N", "the same for excess parameters", "multiples of N_opt", 0.01, 1e4, log=True),
    )

    def units(self, x: Array) -> Array:
        """Each axis's smallest x, D and U in the same unit."""
        data = x[1:].min()
        return np.array([x[0].min(), data, data])

    def value(self, x: Array, theta: Array) -> Array:
        """The law's L."""
        e, a, b, alpha, beta, r_d, r_n = theta
        log_u = np.log(np.minimum(x[1], x[2]))
        log_d, *_ = _effective(np.log(x[1]), log_u, r_d)
        log_n, *_ = _effective(np.log(x[0]), _log_optimum(log_u, theta), r_n)
        return np.asarray(e + a * saturated_exp(-alpha * log_n) + b * saturated_exp(-beta * log_d))

    def gradient(self, x: Array, theta: Array) -> Array:
        """The derivatives by all seven; of N' also through N_opt."""
        _, a, b, alpha, beta, r_d, r_n = theta
        log_u = np.log(np.minimum(x[1], x[2]))
        optimum = _log_optimum(log_u, theta)
        log_d, data_by_rate, _ = _effective(np.log(x[1]), log_u, r_d)
        log_n, size_by_rate, size_by_optimum = _effective(np.log(x[0]), optimum, r_n)
        by_size, by_data = saturated_exp(-alpha * log_n), saturated_exp(-beta * log_d)
        through = -alpha * a * by_size * size_by_optimum
        return np.stack(
            [
                np.ones_like(log_u),
                by_size + through / (alpha * a),
                by_data - through / (alpha * b),
                -log_n * a * by_size + through * (1.0 / alpha**2 - optimum / alpha),
                -log_d * b * by_data + through * (log_u - 1.0 / beta) / alpha,
                -beta * b * by_data * data_by_rate,
                -alpha * a * by_size * size_by_rate,
            ]
        )

    def starts(self, x: Array, y: Array, weights: Array) -> Array:
        """At 8 x 8 exponents and 5 values of R_D, with no excess parameters, L is linear in E, A and B."""
        exponents = np.geomspace(0.06, 1.0, 8)
        alpha, beta = np.repeat(exponents, 8), np.tile(exponents, 8)
        log_u = np.log(np.minimum(x[1], x[2]))
        found = []
        for r_d in (1.0, 4.0, 15.0, 60.0, 240.0):
            data = np.exp(_effective(np.log(x[1]), log_u, r_d)[0])
            by_data, by_size = power(data, beta), power(x[0], alpha)
            features = np.stack([np.ones_like(by_size), by_size, by_data], axis=1)
            e, a, b = np.maximum(project(features, y, weights).coefficients, [0.0, 1e-9, 1e-9]).T
            for r_n in (2.0, 20.0):
                rates = [np.full_like(e, r_d), np.full_like(e, r_n)]
                found.append(np.stack([e, a, b, alpha, beta, *rates]))
        return self._best(x, y, weights, np.concatenate(found, axis=1))

    def rescale(self, theta: Array, x_unit: Array, y_unit: float) -> Array:
        """`E` takes on the unit of L, `A` and `B` those of L and of their axis."""
        e, a, b, alpha, beta, r_d, r_n = theta
        by_size = power(1.0 / x_unit[:1], np.array([alpha]))[0, 0]
        by_data = power(1.0 / x_unit[1:2], np.array([beta]))[0, 0]
        return np.array([y_unit * e, y_unit * a * by_size, y_unit * b * by_data, alpha, beta, r_d, r_n])


def _log_optimum(log_u: Array, theta: Array) -> Array:
    """Log of N_opt(U): the model size of compute-optimal training on U unique tokens."""
    _, a, b, alpha, beta, _, _ = theta
    return np.asarray((np.log(alpha * a) - np.log(beta * b) + beta * log_u) / alpha)


def _effective(log_all: Array, log_unique: Array, rate: float) -> tuple[Array, Array, Array]:
    """Log of the effective amount, its derivative by the rate, and by the log of the unique amount.

    The unique amount counts as no more than all of it; there the last derivative is 0.
    """
    excess = np.maximum(log_all - log_unique, 0.0)
    ratio = np.exp(np.minimum(excess, SATURATION))
    repeats = np.minimum((ratio - 1.0) / rate, SATURATION)
    lost = np.exp(-repeats)
    worth = 1.0 + rate * (1.0 - lost)
    log_effective = np.clip(np.minimum(log_all, log_unique) + np.log(worth), -CONTRAST, CONTRAST)
    by_rate = (1.0 - lost - repeats * lost) / worth
    held = np.where(repeats < SATURATION, ratio * lost, 0.0)
    return log_effective, by_rate, np.where(excess > 0, (worth - held) / worth, 0.0)
