"""Curves of one axis that are no power laws of the error, to compare one with; and the growth of models."""

from __future__ import annotations

import numpy as np

from foretrain.laws.law import SATURATION, Array, Axis, Parameter, SeparableLaw, power
from foretrain.laws.numerics import sigmoid, softplus
from foretrain.laws.single import E


class ExponentialLaw(SeparableLaw):
    """`y = E + A exp(-k x)`: the error reaches its floor, and sooner than by any power of x.

    y, E and A are in the metric's unit, x and 1 / k in the axis's. Source: exp3 of Mohr et al. 2022, LCDB 1.0
    (ECML PKDD), there for accuracies.
    """

    name = "exponential"
    formula = "E + A exp(-k x)"
    source = "exp3 of Mohr et al. 2022, LCDB 1.0, ECML PKDD"
    linear = (E, Parameter("A", "height above the irreducible error at x = 0", "the metric's unit", 0.0))
    nonlinear = (Parameter("k", "rate", "one over the axis's unit", 0.0, log=True),)

    def basis(self, x: Array, e: Array) -> Array:
        """Two features, 1 and `exp(-k x)`."""
        features = np.exp(-_product(x[0], e[0][:, None]))
        return np.stack([np.ones_like(features), features], axis=1)

    def slopes(self, x: Array, e: Array) -> Array:
        """Their derivatives by k: 0 and `-x exp(-k x)`."""
        product = _product(x[0], e[:1])
        slope = np.where(product < SATURATION, -x[0] * np.exp(-product), 0.0)
        return np.stack([np.zeros_like(slope), slope])[None]

    def grid(self, x: Array) -> Array:
        """96 rates: from a twentieth of a fall over the whole range to five falls before the first point."""
        return np.geomspace(0.05 / x[0].max(), 5.0 / x[0].min(), 96)[None]

    def rescale(self, theta: Array, x_unit: Array, y_unit: float) -> Array:
        """`E` and `A` take on the unit of y, `k` the inverse of that of x."""
        e, a, k = theta
        return np.array([y_unit * e, y_unit * a, k / x_unit[0]])


def _product(x: Array, k: Array) -> Array:
    """`k x`, at most 300."""
    return np.asarray(np.exp(np.clip(np.log(np.maximum(k, 1e-300)) + np.log(x), -690.0, np.log(SATURATION))))


class InverseLogLaw(SeparableLaw):
    """`y = E + A / ln(1 + x / x0)`: slower than any power law.

    y, E and A are in the metric's unit, x and x0 in the axis's. Source: ilog2 of Domhan et al. 2015 (IJCAI,
    table 1), `c - a / ln(x + 1)` for accuracies; there x0 is one epoch, here it is fitted, so that the unit
    of x does not matter.
    """

    name = "inverse_log"
    formula = "E + A / ln(1 + x / x0)"
    source = "ilog2 of Domhan et al. 2015, IJCAI, table 1, with a unit x0"
    linear = (E, Parameter("A", "coefficient", "the metric's unit", 0.0))
    nonlinear = (Parameter("x0", "where the fall slows down", "the axis's unit", 0.0, log=True),)

    def basis(self, x: Array, e: Array) -> Array:
        """Two features, 1 and `1 / ln(1 + x / x0)`."""
        features = 1.0 / softplus(np.log(x[0]) - np.log(e[0][:, None]))
        return np.stack([np.ones_like(features), features], axis=1)

    def slopes(self, x: Array, e: Array) -> Array:
        """Their derivatives by x0."""
        q = np.log(x[0]) - np.log(e[0])
        slope = sigmoid(q) / softplus(q) ** 2 / e[0]
        return np.stack([np.zeros_like(slope), slope])[None]

    def grid(self, x: Array) -> Array:
        """64 values of x0, from far below the first point to the last."""
        return np.geomspace(x[0].min() * 1e-8, x[0].max(), 64)[None]

    def rescale(self, theta: Array, x_unit: Array, y_unit: float) -> Array:
        """`E` and `A` take on the unit of y, `x0` that of x."""
        e, a, x0 = theta
        return np.array([y_unit * e, y_unit * a, x0 * x_unit[0]])


class ModelGrowthLaw(SeparableLaw):
    """`s = sigma m^beta_p`: the size of the smallest model that fits m samples; it grows.

    s is in parameters, m in samples. Hestness et al. expect `beta_p` between 1/2 and 1. Source: Hestness et
    al. 2017, arXiv:1712.00409, section 2; Hestness, Ardalani and Diamos 2019 (PPoPP), section 3.3.
    """

    name = "model_growth"
    formula = "sigma m^beta_p"
    source = "Hestness et al. 2017, arXiv:1712.00409, section 2; Hestness et al. 2019, PPoPP, section 3.3"
    axes = (Axis("m", "unique data", "training samples"),)
    monotone = (1,)
    linear = (Parameter("sigma", "coefficient", "parameters over samples^beta_p", 0.0),)
    nonlinear = (Parameter("beta_p", "exponent of growth", "none", 0.01, 3.0),)

    def basis(self, x: Array, e: Array) -> Array:
        """One feature, `m^beta_p`."""
        return power(x[0], -e[0])[:, None, :]

    def slopes(self, x: Array, e: Array) -> Array:
        """Its derivative by beta_p, `ln m m^beta_p`."""
        return np.asarray(np.log(x[0]) * power(x[0], -e[:1])[0])[None, None, :]

    def grid(self, x: Array) -> Array:
        """64 exponents, evenly spaced in their logarithm between the bounds."""
        return np.geomspace(0.01, 3.0, 64)[None]

    def rescale(self, theta: Array, x_unit: Array, y_unit: float) -> Array:
        """`sigma` takes on the units of both."""
        sigma, beta_p = theta
        return np.array([y_unit * sigma * power(1.0 / x_unit, np.array([-beta_p]))[0, 0], beta_p])
