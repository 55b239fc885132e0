"""The joint law of Kaplan et al. 2020."""

from __future__ import annotations

import numpy as np

from foretrain.laws.law import DATA, SIZE, Array, Law, Parameter
from foretrain.laws.linear import project
from foretrain.laws.numerics import log_sum, saturated_exp, sigmoid


class KaplanLaw(Law):
    """`L = ((Nc / N)^(alpha_N / alpha_D) + Dc / D)^alpha_D`: no irreducible error, and one power around both.

    L is in nats, N and Nc in parameters (there without embeddings), D and Dc in tokens. Nc and Dc are where
    each axis alone would give L = 1. Source: Kaplan et al. 2020, arXiv:2001.08361, equation 1.5.
    """

    name = "kaplan"
    formula = "((Nc / N)^(alpha_N / alpha_D) + Dc / D)^alpha_D"
    source = "Kaplan et al. 2020, arXiv:2001.08361, equation 1.5"
    axes = (SIZE, DATA)
    monotone = (-1, -1)
    nonlinear = (
        Parameter("Nc", "model size at which L would be 1", "parameters", 0.0, log=True),
        Parameter("Dc", "data at which L would be 1", "training examples or tokens", 0.0, log=True),
        Parameter("alpha_N", "exponent of model size", "none", 0.01, 3.0),
        Parameter("alpha_D", "exponent of data", "none", 0.01, 3.0),
    )

    def _logs(self, x: Array, theta: Array) -> tuple[Array, Array]:
        """The logarithms of the two summands."""
        nc, dc, alpha_n, alpha_d = theta
        by_size = alpha_n / alpha_d * (np.log(nc) - np.log(x[0]))
        return by_size, np.asarray(np.log(dc) - np.log(x[1]))

    def value(self, x: Array, theta: Array) -> Array:
        """L, held between exp(-300) and exp(300)."""
        return saturated_exp(theta[3] * log_sum(*self._logs(x, theta)))

    def gradient(self, x: Array, theta: Array) -> Array:
        """The derivatives by Nc, Dc, alpha_N and alpha_D."""
        nc, dc, alpha_n, alpha_d = theta
        by_size, by_data = self._logs(x, theta)
        total = log_sum(by_size, by_data)
        share = sigmoid(by_size - by_data)
        relative = [
            alpha_n * share / nc,
            alpha_d * (1.0 - share) / dc,
            share * by_size * alpha_d / alpha_n,
            total - share * by_size,
        ]
        return np.stack(relative) * saturated_exp(alpha_d * total)

    def starts(self, x: Array, y: Array, weights: Array) -> Array:
        """At 16 x 16 exponents, `L^(1 / alpha_D)` is linear in two coefficients; the best three."""
        exponents = np.geomspace(0.03, 1.5, 16)
        found = []
        for alpha_d in exponents:
            size = saturated_exp(-(exponents / alpha_d)[:, None] * np.log(x[0]))
            features = np.stack([size, np.broadcast_to(1.0 / x[1], size.shape)], axis=1)
            target = saturated_exp(np.log(y) / alpha_d)
            a, b = np.maximum(project(features, target, weights).coefficients, 1e-12).T
            nc = saturated_exp(np.log(a) * alpha_d / exponents)
            found.append(np.stack([nc, b, exponents, np.full_like(a, alpha_d)]))
        return self._best(x, y, weights, np.concatenate(found, axis=1))

    def rescale(self, theta: Array, x_unit: Array, y_unit: float) -> Array:
        """`Nc` and `Dc` take on the units of their axes, and the power `1 / alpha` of that of L."""
        nc, dc, alpha_n, alpha_d = theta
        log_y = np.log(y_unit)
        log_nc, log_dc = np.log(nc) + np.log(x_unit[0]), np.log(dc) + np.log(x_unit[1])
        nc, dc = np.exp(log_nc + log_y / alpha_n), np.exp(log_dc + log_y / alpha_d)
        return np.array([nc, dc, alpha_n, alpha_d])
