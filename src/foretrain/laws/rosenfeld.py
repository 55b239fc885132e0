"""The laws of Rosenfeld et al.: error from random guessing to a floor (2020), and under pruning (2021)."""

from __future__ import annotations

import numpy as np

from foretrain.laws.law import DATA, SIZE, Array, Axis, Law, Parameter, SeparableLaw, power
from foretrain.laws.linear import project
from foretrain.laws.numerics import log_sum, safe_log, saturated_exp, sigmoid, softplus


class RosenfeldLaw(Law):
    """`y = e0 t / sqrt(t^2 + eta^2)`, `t = D^-alpha + b N^-beta + c`: from random guessing to a floor.

    y and e0 are in the metric's unit, N in parameters, D in training examples, or both as shares of the full
    model and the full data as in the paper. `e0` is the error of random guessing. t has no unit of its own:
    its first coefficient is 1, and b, c and eta are in `data^-alpha`. The irreducible error is
    `e0 c / sqrt(c^2 + eta^2)`. Where no point is near random guessing, e0 and eta are not told apart.
    Source: Rosenfeld et al. 2020, arXiv:1909.12673, with the modulus written out.
    """

    name = "rosenfeld"
    formula = "e0 t / sqrt(t^2 + eta^2), t = D^-alpha + b N^-beta + c"
    source = "Rosenfeld et al. 2020, arXiv:1909.12673"
    axes = (SIZE, DATA)
    monotone = (-1, -1)
    polished = 6
    nonlinear = (
        Parameter("e0", "error of random guessing", "the metric's unit", 0.0, log=True),
        Parameter("b", "coefficient of model size", "parameters^beta over data^alpha", 0.0, log=True),
        Parameter("c", "what remains of t", "one over data^alpha", 0.0, log=True),
        Parameter("eta", "t at the transition from random guessing", "one over data^alpha", 0.0, log=True),
        Parameter("alpha", "exponent of data", "none", 0.01, 3.0),
        Parameter("beta", "exponent of model size", "none", 0.01, 3.0),
    )

    def _logs(self, x: Array, theta: Array) -> tuple[Array, Array, Array]:
        """Logs of the terms of t by data and by size, and of t."""
        _, b, c, _, alpha, beta = theta
        by_data, by_size = -alpha * np.log(x[1]), safe_log(b) - beta * np.log(x[0])
        return by_data, by_size, log_sum(log_sum(by_data, by_size), safe_log(c))

    def value(self, x: Array, theta: Array) -> Array:
        """y, below e0."""
        *_, log_t = self._logs(x, theta)
        return np.asarray(theta[0] * saturated_exp(-0.5 * softplus(2.0 * (safe_log(theta[3]) - log_t))))

    def gradient(self, x: Array, theta: Array) -> Array:
        """The derivatives by e0, b, c, eta, alpha and beta."""
        e0, b, _, eta, _, _ = theta
        by_data, by_size, log_t = self._logs(x, theta)
        beyond = 2.0 * (safe_log(eta) - log_t)
        y = e0 * saturated_exp(-0.5 * softplus(beyond))
        fall = y * sigmoid(beyond)
        data, size = saturated_exp(by_data - log_t), saturated_exp(by_size - log_t)
        return np.stack(
            [
                y / e0,
                fall * size / b,
                fall * saturated_exp(-log_t),
                -fall / eta,
                -np.log(x[1]) * fall * data,
                -np.log(x[0]) * fall * size,
            ]
        )

    def starts(self, x: Array, y: Array, weights: Array) -> Array:
        """At four levels of e0 and 8 x 8 exponents, `t / eta` is linear in three coefficients; the best."""
        exponents = np.geomspace(0.05, 1.6, 8)
        alpha, beta = np.repeat(exponents, 8), np.tile(exponents, 8)
        by_data, by_size = power(x[1], alpha), power(x[0], beta)
        features = np.stack([by_data, by_size, np.ones_like(by_size)], axis=1)
        found = []
        for e0 in y.max() * np.array([1.02, 1.2, 2.0, 5.0]):
            below = 1.0 - (y / e0) ** 2
            solved = project(features, y / (e0 * np.sqrt(below)), weights * below**2)
            a, b, c = np.maximum(solved.coefficients, 1e-6).T
            found.append(np.stack([np.full_like(a, e0), b / a, c / a, 1.0 / a, alpha, beta]))
        return self._best(x, y, weights, np.concatenate(found, axis=1))

    def rescale(self, theta: Array, x_unit: Array, y_unit: float) -> Array:
        """`e0` takes on the unit of y, `b`, `c` and `eta` that of data, `b` that of size as well."""
        e0, b, c, eta, alpha, beta = theta
        by_data = power(x_unit[1:], np.array([alpha]))[0, 0]
        by_size = power(1.0 / x_unit[:1], np.array([beta]))[0, 0]
        return np.array([y_unit * e0, b * by_data * by_size, c * by_data, eta * by_data, alpha, beta])


class PruningLaw(SeparableLaw):
    """`y = e_np ((d^2 + p^2 rise^(2/gamma)) / (d^2 + p^2))^(gamma/2)`: error against the density d kept.

    y and e_np are in the metric's unit. From the unpruned error e_np at d = 1 it climbs as `d^-gamma` once d
    falls below `p rise^(1/gamma)`, and levels off at `rise e_np` (`e_up` of the paper) below p. Where no
    point lies on that level, rise and p are not told apart. Source: Rosenfeld et al. 2021,
    arXiv:2006.10621, with the modulus written out.
    """

    name = "pruning"
    formula = "e_np ((d^2 + p^2 rise^(2/gamma)) / (d^2 + p^2))^(gamma/2)"
    source = "Rosenfeld et al. 2021, arXiv:2006.10621"
    axes = (Axis("d", "density", "share of weights kept, 0 to 1"),)
    linear = (Parameter("e_np", "error of the unpruned network", "the metric's unit", 0.0),)
    nonlinear = (
        Parameter("rise", "upper level over e_np", "times e_np", 1.0, log=True),
        Parameter("gamma", "exponent of the climb", "none", 0.01, 5.0),
        Parameter("p", "density below which it levels off", "share of weights kept", 0.0, log=True),
    )

    def basis(self, x: Array, e: Array) -> Array:
        """One feature, by how much the error has risen."""
        rise, gamma, p = e[:, :, None]
        log_d, log_p = 2.0 * np.log(x[0]), 2.0 * np.log(p)
        logs = log_sum(log_d, log_p + 2.0 * np.log(rise) / gamma) - log_sum(log_d, log_p)
        return saturated_exp(0.5 * gamma * logs)[:, None, :]

    def slopes(self, x: Array, e: Array) -> Array:
        """Its derivatives by rise, gamma and p."""
        rise, gamma, p = e
        log_d, upper, lower = 2.0 * np.log(x[0]), 2.0 * (np.log(p) + np.log(rise) / gamma), 2.0 * np.log(p)
        logs = log_sum(log_d, np.asarray(upper)) - log_sum(log_d, np.asarray(lower))
        above, below = sigmoid(upper - log_d), sigmoid(lower - log_d)
        relative = [above / rise, 0.5 * logs - above * np.log(rise) / gamma, gamma * (above - below) / p]
        return (np.stack(relative) * saturated_exp(0.5 * gamma * logs))[:, None, :]

    def grid(self, x: Array) -> Array:
        """12 rises, 10 exponents and 16 places."""
        low = x[0].min()
        places = np.geomspace(1e-3 * low, x[0].max(), 16)
        values = np.meshgrid(np.geomspace(1.05, 1e3, 12), np.geomspace(0.1, 4.0, 10), places, indexing="ij")
        return np.stack([axis.ravel() for axis in values])

    def rescale(self, theta: Array, x_unit: Array, y_unit: float) -> Array:
        """`e_np` takes on the unit of y, `p` that of d."""
        e_np, rise, gamma, p = theta
        return np.array([y_unit * e_np, rise, gamma, p * x_unit[0]])
