"""Laws of two axes: how the error falls as model size and data grow together."""

from __future__ import annotations

import numpy as np

from foretrain.laws.law import DATA, SIZE, Array, Parameter, SeparableLaw, power
from foretrain.laws.single import E

EXPONENTS = np.geomspace(0.05, 1.0, 28)
"""Where published exponents of size and data lie; what the points do not tell is averaged over these."""

LAW_GRID = np.stack([np.repeat(EXPONENTS, len(EXPONENTS)), np.tile(EXPONENTS, len(EXPONENTS))])


class ChinchillaLaw(SeparableLaw):
    """`L = E + A N^-alpha + B D^-beta`: model size N and data D, each with a power law of its own.

    L and E are in the metric's unit, N in parameters, D in training examples or tokens. Source: Hoffmann et
    al. 2022, arXiv:2203.15556, equation 2, fitted by variable projection.
    """

    name = "chinchilla"
    formula = "E + A N^-alpha + B D^-beta"
    source = "Hoffmann et al. 2022, arXiv:2203.15556, equation 2"
    axes = (SIZE, DATA)
    monotone = (-1, -1)
    linear = (
        E,
        Parameter("A", "coefficient of model size", "the metric's unit times parameters^alpha", 0.0),
        Parameter("B", "coefficient of data", "the metric's unit times data^beta", 0.0),
    )
    nonlinear = (
        Parameter("alpha", "exponent of model size", "none", 0.01, 3.0),
        Parameter("beta", "exponent of data", "none", 0.01, 3.0),
    )

    def basis(self, x: Array, e: Array) -> Array:
        """Three features: 1, `N^-alpha` and `D^-beta`."""
        by_size, by_data = power(x[0], e[0]), power(x[1], e[1])
        return np.stack([np.ones_like(by_size), by_size, by_data], axis=1)

    def slopes(self, x: Array, e: Array) -> Array:
        """Their derivatives by alpha and by beta."""
        by_alpha = -np.log(x[0]) * power(x[0], e[:1])[0]
        by_beta = -np.log(x[1]) * power(x[1], e[1:])[0]
        zero = np.zeros_like(by_alpha)
        return np.array([[zero, by_alpha, zero], [zero, zero, by_beta]])

    def grid(self, x: Array) -> Array:
        """28 x 28 exponents, evenly spaced in their logarithms from 0.05 to 1."""
        return LAW_GRID

    def rescale(self, theta: Array, x_unit: Array, y_unit: float) -> Array:
        """`E` takes on the unit of L, `A` and `B` those of L and of their axis."""
        e, a, b, alpha, beta = theta
        by_size = power(1.0 / x_unit[:1], np.array([alpha]))[0, 0]
        by_data = power(1.0 / x_unit[1:], np.array([beta]))[0, 0]
        return np.array([y_unit * e, y_unit * a * by_size, y_unit * b * by_data, alpha, beta])


class GadreLaw(SeparableLaw):
    """`L = E + (a M^eta + b M^-eta) C^-eta`, `M = D / N`, `C = 6 N D`: over-training at any ratio M.

    L and E are in the metric's unit, N in parameters, D in tokens, C in FLOPs. With both definitions put in
    it reads `E + 6^-eta (a N^(-2 eta) + b D^(-2 eta))`: Chinchilla's law with one exponent for both axes, so
    four parameters instead of five. Source: Gadre et al. 2024, arXiv:2403.08540.
    """

    name = "gadre"
    formula = "E + (a M^eta + b M^-eta) C^-eta, M = D / N, C = 6 N D"
    source = "Gadre et al. 2024, arXiv:2403.08540"
    axes = (SIZE, DATA)
    monotone = (-1, -1)
    linear = (
        E,
        Parameter("a", "coefficient of model size", "the metric's unit times parameters^(2 eta)", 0.0),
        Parameter("b", "coefficient of data", "the metric's unit times tokens^(2 eta)", 0.0),
    )
    nonlinear = (Parameter("eta", "exponent of compute at a fixed ratio", "none", 0.005, 1.5),)

    def basis(self, x: Array, e: Array) -> Array:
        """Three features: 1, `(M / C)^eta` and `(M C)^-eta`."""
        share = np.exp(-e[0] * np.log(6.0))[:, None]
        by_size, by_data = share * power(x[0], 2.0 * e[0]), share * power(x[1], 2.0 * e[0])
        return np.stack([np.ones_like(by_size), by_size, by_data], axis=1)

    def slopes(self, x: Array, e: Array) -> Array:
        """Their derivatives by eta."""
        one, by_size, by_data = self.basis(x, e[:, None])[0]
        slopes = [0.0 * one, -(np.log(6.0) + 2.0 * np.log(x[0])) * by_size]
        return np.stack([*slopes, -(np.log(6.0) + 2.0 * np.log(x[1])) * by_data])[None]

    def grid(self, x: Array) -> Array:
        """96 exponents, evenly spaced in their logarithms between the bounds."""
        return np.geomspace(0.005, 1.5, 96)[None]

    def rescale(self, theta: Array, x_unit: Array, y_unit: float) -> Array:
        """`E` takes on the unit of L, `a` and `b` those of L and of their axis."""
        e, a, b, eta = theta
        by_size, by_data = power(1.0 / x_unit, np.array([2.0 * eta]))[0]
        return np.array([y_unit * e, y_unit * a * by_size, y_unit * b * by_data, eta])
