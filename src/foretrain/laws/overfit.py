"""Laws of repeated data that can rise: the cost of over-fitting grows with epochs and with model size."""

from __future__ import annotations

import numpy as np

from foretrain.laws.law import DATA, SATURATION, SIZE, Array, Axis, Law, Parameter, power
from foretrain.laws.linear import project
from foretrain.laws.numerics import saturated_exp

UNIQUE = Axis("U", "unique data", "training examples or tokens")

COMMON = (
    Parameter("A", "coefficient of model size", "the metric's unit times parameters^alpha", 0.0, log=True),
    Parameter("B", "coefficient of data", "the metric's unit times data^beta", 0.0, log=True),
    Parameter("alpha", "exponent of model size", "none", 0.01, 3.0),
    Parameter("beta", "exponent of data", "none", 0.01, 3.0),
)

LEAST_RANGE = 1e-9
"""The error of random guessing lies at least so far above the irreducible one, in the fit's unit."""


def _repeats(x: Array) -> Array:
    """`D / U - 1`, at least 0 and at most exp(300)."""
    log_ratio = np.clip(np.log(x[1]) - np.log(x[2]), 0.0, SATURATION)
    return np.asarray(np.expm1(log_ratio))


class LovelaceLaw(Law):
    """`L = E + A N^-alpha + B D^-beta + P R^delta (N / U)^kappa` with `R = D / U - 1`.

    Chinchilla's law in the data seen, and an over-fitting penalty that grows with the repeats R and with the
    parameters for each unique example or token. U counts as no more than D; without repeats there is no
    penalty. L and E are in the metric's unit, N in parameters, D and U in the same unit of data. The penalty
    has no bound: far beyond the runs it was fitted to it leaves the range of any loss. Source: Lovelace et
    al. 2026, arXiv:2605.01640, where `D = U (1 + R)`.
    """

    name = "lovelace"
    formula = "E + A N^-alpha + B D^-beta + P R^delta (N / U)^kappa, R = D / U - 1"
    source = "Lovelace et al. 2026, arXiv:2605.01640"
    axes = (SIZE, DATA, UNIQUE)
    monotone = (0, 0, -1)
    polished = 4
    nonlinear = (
        Parameter("E", "irreducible error", "the metric's unit", 0.0),
        *COMMON,
        Parameter("P", "coefficient of over-fitting", "the metric's unit", 0.0, log=True),
        Parameter("delta", "exponent of repeats", "none", 0.05, 4.0),
        Parameter("kappa", "exponent of parameters for each unique example", "none", 0.05, 4.0),
    )

    def units(self, x: Array) -> Array:
        """Each axis's smallest x, D and U in the same unit."""
        data = x[1:].min()
        return np.array([x[0].min(), data, data])

    def _penalty(self, x: Array, theta: Array) -> tuple[Array, Array, Array]:
        """The penalty, and the logarithms of the repeats and of the parameters for each unique example."""
        p, delta, kappa = theta[5:]
        repeats = _repeats(x)
        log_repeats = np.log(np.where(repeats > 0, repeats, 1.0))
        load = np.log(x[0]) - np.log(np.minimum(x[1], x[2]))
        height = saturated_exp(np.log(np.maximum(p, 1e-300)) + delta * log_repeats + kappa * load)
        return np.where(repeats > 0, height, 0.0), log_repeats, load

    def value(self, x: Array, theta: Array) -> Array:
        """The law's L."""
        e, a, b, alpha, beta = theta[:5]
        by_size, by_data = saturated_exp(-alpha * np.log(x[0])), saturated_exp(-beta * np.log(x[1]))
        return np.asarray(e + a * by_size + b * by_data + self._penalty(x, theta)[0])

    def gradient(self, x: Array, theta: Array) -> Array:
        """The derivatives by all eight."""
        _, a, b, alpha, beta, p, _, _ = theta
        log_n, log_d = np.log(x[0]), np.log(x[1])
        by_size, by_data = saturated_exp(-alpha * log_n), saturated_exp(-beta * log_d)
        penalty, log_repeats, load = self._penalty(x, theta)
        return np.stack(
            [
                np.ones_like(log_n),
                by_size,
                by_data,
                -log_n * a * by_size,
                -log_d * b * by_data,
                penalty / max(p, 1e-300),
                penalty * log_repeats,
                penalty * load,
            ]
        )

    def starts(self, x: Array, y: Array, weights: Array) -> Array:
        """At 7 x 7 exponents and 3 x 3 of the penalty, L is linear in E, A, B and P."""
        exponents = np.geomspace(0.08, 1.0, 7)
        alpha, beta = np.repeat(exponents, 7), np.tile(exponents, 7)
        by_size, by_data = power(x[0], alpha), power(x[1], beta)
        found = []
        for delta in (0.5, 1.0, 2.0):
            for kappa in (0.5, 1.0, 2.0):
                unit = self._penalty(x, np.array([0.0, 1.0, 1.0, 1.0, 1.0, 1.0, delta, kappa]))[0]
                by_repeats = np.broadcast_to(unit, by_size.shape)
                features = np.stack([np.ones_like(by_size), by_size, by_data, by_repeats], axis=1)
                e, a, b, p = np.maximum(project(features, y, weights).coefficients, 1e-12).T
                last = [np.full_like(e, delta), np.full_like(e, kappa)]
                found.append(np.stack([e, a, b, alpha, beta, p, *last]))
        return self._best(x, y, weights, np.concatenate(found, axis=1))

    def rescale(self, theta: Array, x_unit: Array, y_unit: float) -> Array:
        """`E` takes on the unit of L, `A`, `B` and `P` those of L and of their axes."""
        e, a, b, alpha, beta, p, delta, kappa = theta
        size, data = np.log(x_unit[0]), np.log(x_unit[1])
        scale = y_unit * saturated_exp(np.array([alpha * size, beta * data, kappa * (data - size)]))
        return np.array([y_unit * e, a * scale[0], b * scale[1], alpha, beta, p * scale[2], delta, kappa])


class MemorizationLaw(Law):
    """`L = E + H x / (H + x)`, where the excess x counts what a model memorises, and H bounds it.

    `x = A N^-alpha + B D^-beta + M (N / U) (1 - exp(-(D / U - 1) / R_M))`: Chinchilla's excess in the data
    seen, and what the parameters have memorised of each unique example or token. A model of N parameters
    memorises at most `M N`, and comes nearer to that with each repeat, by e in R_M of them. What it has
    memorised says nothing about new data, so it costs there as much as it gains on the old: to first order
    the two are equal (Akaike 1974; with all parameters fitted to the data by maximum likelihood they are
    `N / (2 U)` nats each). `H = L0 - E` holds the loss below that of random guessing, L0.

    L, E and L0 are in the metric's unit, N in parameters, D and U in the same unit of data; U counts as no
    more than D. Far below L0 and without repeats it is Chinchilla's law. Few repeats identify neither M nor
    R_M, and no run far below L0 identifies that: hold them fixed. For text and nats `M = 2 ln 2` and
    `R_M = 100 / ln 2` (`CAPACITY` and `REPEATS` of `foretrain.families.repeated`), and L0 is the
    logarithm of the vocabulary.

    Source: the bounded form is that of Bryant and Liu 2026, arXiv:2605.09189, whose over-fitting term has no
    repeats; capacity and repeats after Allen-Zhu and Li 2024, arXiv:2404.05405: 2 bits a parameter after
    1,000 exposures, 1 bit after 100.
    """

    name = "memorization"
    formula = (
        "E + H x / (H + x), H = L0 - E, x = A N^-alpha + B D^-beta + M (N / U) (1 - exp(-(D / U - 1) / R_M))"
    )
    source = "Bryant and Liu 2026, arXiv:2605.09189; Allen-Zhu and Li 2024, arXiv:2404.05405"
    axes = (SIZE, DATA, UNIQUE)
    monotone = (0, 0, -1)
    polished = 6
    nonlinear = (
        Parameter("E", "irreducible error", "the metric's unit", 0.0),
        Parameter("L0", "error of random guessing", "the metric's unit", 0.0, log=True),
        *COMMON,
        Parameter(
            "M", "what a parameter memorises at most", "metric times data per parameter", 0.0, log=True
        ),
        Parameter("R_M", "repeats after which the rest has fallen by e", "epochs", 0.1, 1e5, log=True),
    )

    def units(self, x: Array) -> Array:
        """Each axis's smallest x, D and U in the same unit."""
        data = x[1:].min()
        return np.array([x[0].min(), data, data])

    def _memorised(self, x: Array, theta: Array) -> tuple[Array, Array, Array]:
        """What is memorised of each unique example, the share of the capacity, and the repeats over R_M."""
        m, rate = theta[6:]
        lapse = np.minimum(_repeats(x) / rate, SATURATION)
        share = -np.expm1(-lapse)
        load = np.log(x[0]) - np.log(np.minimum(x[1], x[2]))
        return saturated_exp(np.log(np.maximum(m, 1e-300)) + load) * share, share, lapse

    def value(self, x: Array, theta: Array) -> Array:
        """The law's L."""
        e, guess, a, b, alpha, beta = theta[:6]
        height = max(guess - e, LEAST_RANGE)
        by_size, by_data = saturated_exp(-alpha * np.log(x[0])), saturated_exp(-beta * np.log(x[1]))
        excess = a * by_size + b * by_data + self._memorised(x, theta)[0]
        return np.asarray(e + excess * (height / (height + excess)))

    @np.errstate(under="ignore")
    def gradient(self, x: Array, theta: Array) -> Array:
        """The derivatives by all eight."""
        e, guess, a, b, alpha, beta, m, rate = theta
        bounded, height = guess - e < LEAST_RANGE, max(guess - e, LEAST_RANGE)
        log_n, log_d = np.log(x[0]), np.log(x[1])
        by_size, by_data = saturated_exp(-alpha * log_n), saturated_exp(-beta * log_d)
        memorised, share, lapse = self._memorised(x, theta)
        excess = a * by_size + b * by_data + memorised
        open_share = height / (height + excess)
        by_height = np.zeros_like(excess) if bounded else (1.0 - open_share) ** 2
        full = saturated_exp(np.log(np.maximum(m, 1e-300)) + log_n - np.log(np.minimum(x[1], x[2])))
        by_excess = [
            by_size,
            by_data,
            -log_n * a * by_size,
            -log_d * b * by_data,
            memorised / max(m, 1e-300),
            -full * (1.0 - share) * lapse / rate,
        ]
        return np.concatenate([[1.0 - by_height, by_height], np.stack(by_excess) * open_share**2])

    def starts(self, x: Array, y: Array, weights: Array) -> Array:
        """With E, L0, the exponents and R_M given, the excess is linear in A, B and M."""
        exponents = np.geomspace(0.15, 1.2, 6)
        alpha, beta = np.repeat(exponents, 6), np.tile(exponents, 6)
        by_size, by_data = power(x[0], alpha), power(x[1], beta)
        found = []
        for rate in (5.0, 30.0, 150.0):
            unit = self._memorised(x, np.array([0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, rate]))[0]
            features = np.stack([by_size, by_data, np.broadcast_to(unit, by_size.shape)], axis=1)
            for above in (1.02, 1.3, 3.0, 30.0):
                for below in (0.0, 0.5, 0.8, 0.95):
                    e, guess = below * y.min(), above * y.max()
                    target = (guess - e) * (y - e) / (guess - y)
                    a, b, m = np.maximum(project(features, target, weights).coefficients, 1e-12).T
                    first = [np.full_like(a, e), np.full_like(a, guess)]
                    found.append(np.stack([*first, a, b, alpha, beta, m, np.full_like(a, rate)]))
        return self._best(x, y, weights, np.concatenate(found, axis=1))

    def rescale(self, theta: Array, x_unit: Array, y_unit: float) -> Array:
        """`E` and `L0` take on the unit of L, `A`, `B` and `M` those of L and of their axes."""
        e, guess, a, b, alpha, beta, m, rate = theta
        size, data = np.log(x_unit[0]), np.log(x_unit[1])
        scale = y_unit * saturated_exp(np.array([alpha * size, beta * data, data - size]))
        first = [y_unit * e, y_unit * guess]
        return np.array([*first, a * scale[0], b * scale[1], alpha, beta, m * scale[2], rate])
