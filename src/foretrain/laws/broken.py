"""Power laws whose exponent changes along the way."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from foretrain.laws.law import Array, Parameter, SeparableLaw
from foretrain.laws.numerics import saturated_exp, sigmoid, softplus

LIMIT = Parameter("a", "limit as x grows", "the metric's unit", 0.0)
SCALE = Parameter("b", "scale", "the metric's unit times the axis's to the power c0", 0.0)
FIRST = Parameter("c0", "exponent before the first break", "none", -10.0, 10.0)


def _break(i: int) -> tuple[Parameter, Parameter, Parameter]:
    return (
        Parameter(f"c{i}", f"change of the exponent at break {i}", "none", -10.0, 10.0),
        Parameter(f"d{i}", f"place of break {i}", "the axis's unit", 0.0, log=True),
        Parameter(f"f{i}", f"width of break {i} in ln x", "in ln x", 1e-3, 5.0, log=True),
    )


class _BrokenPowerLaw(SeparableLaw):
    """What broken power laws of any number of breaks share; the parameters come in the formula's order."""

    monotone = (0,)
    polished = 8
    linear = (LIMIT, SCALE)
    breaks: ClassVar[int]

    def _logs(self, x: Array, e: Array) -> Array:
        """The logarithm of the feature that b multiplies; shape (m, n)."""
        log_x = np.log(x[0])
        logs = -e[0][:, None] * log_x
        for c, d, f in e[1:].reshape(self.breaks, 3, -1, 1):
            logs = logs - c * f * softplus((log_x - np.log(d)) / f)
        return np.asarray(logs)

    def basis(self, x: Array, e: Array) -> Array:
        """Two features, 1 and the product of powers."""
        features = saturated_exp(self._logs(x, e))
        return np.stack([np.ones_like(features), features], axis=1)

    def slopes(self, x: Array, e: Array) -> Array:
        """Their derivatives by c0 and by the parameters of each break."""
        log_x = np.log(x[0])
        rows = [-log_x]
        for c, d, f in e[1:].reshape(self.breaks, 3):
            q = (log_x - np.log(d)) / f
            past = sigmoid(q)
            rows += [-f * softplus(q), c * past / d, -c * (softplus(q) - q * past)]
        slopes = np.array(rows) * saturated_exp(self._logs(x, e[:, None])[0])
        return np.stack([np.zeros_like(slopes), slopes], axis=1)

    def limits(self, x: Array) -> tuple[Array, Array]:
        """The bounds, and every break from the first point to ten times the last."""
        lower, upper = self.bounds
        place = np.array([parameter.name.startswith("d") for parameter in self.parameters])
        low, high = x[0].min(), 10.0 * x[0].max()
        return np.where(place, low, lower), np.where(place, high, upper)

    def rescale(self, theta: Array, x_unit: Array, y_unit: float) -> Array:
        """`a` takes on the unit of y, `b` those of both, every `d` that of x."""
        natural = theta.copy()
        scale = float(saturated_exp(np.asarray(theta[2] * np.log(x_unit[0]))))
        natural[:2] = y_unit * theta[0], y_unit * theta[1] * scale
        natural[4::3] = theta[4::3] * x_unit[0]
        return np.asarray(natural)


class BrokenPowerLaw1(_BrokenPowerLaw):
    """`y = a + b x^-c0 (1 + (x/d1)^(1/f1))^(-c1 f1)`: a power law with one smooth break.

    y and a are in the metric's unit, x and d1 in the axis's. Far past the break the exponent is `c0 + c1`; a
    small f1 makes the break sharp; a negative c1 lets the curve rise. A break beyond the points cannot be
    told. Source: Caballero et al. 2023, arXiv:2210.14891, equation 1, with n = 1.
    """

    name = "broken_power_1"
    formula = "a + b x^-c0 (1 + (x/d1)^(1/f1))^(-c1 f1)"
    source = "Caballero et al. 2023, arXiv:2210.14891, equation 1, one break"
    breaks = 1
    nonlinear = (FIRST, *_break(1))

    def grid(self, x: Array) -> Array:
        """2,016 sets: exponents, their changes, and widths at nine places of the break."""
        places = np.geomspace(x[0].min(), 2.0 * x[0].max(), 11)[1:-1]
        first, change = [0.0, 0.05, 0.15, 0.5], [-1.0, -0.3, -0.1, 0.1, 0.3, 1.0, 3.0, 6.0]
        return _product(first, change, places, [0.01, 0.03, 0.1, 0.3, 0.6, 1.0, 2.0])


class BrokenPowerLaw2(_BrokenPowerLaw):
    """`y = a + b x^-c0 prod_i (1 + (x/di)^(1/fi))^(-ci fi)`, i = 1, 2: a power law with two smooth breaks.

    y and a are in the metric's unit, x, d1 and d2 in the axis's. With c1 negative and c2 positive it falls,
    rises and falls again (double descent). Source: Caballero et al. 2023, arXiv:2210.14891, equation 1, with
    n = 2.
    """

    name = "broken_power_2"
    formula = "a + b x^-c0 (1 + (x/d1)^(1/f1))^(-c1 f1) (1 + (x/d2)^(1/f2))^(-c2 f2)"
    source = "Caballero et al. 2023, arXiv:2210.14891, equation 1, two breaks"
    breaks = 2
    nonlinear = (FIRST, *_break(1), *_break(2))

    def grid(self, x: Array) -> Array:
        """1,890 sets: exponents and changes at every pair of six places of the breaks."""
        places = np.geomspace(x[0].min(), 1.5 * x[0].max(), 8)[1:-1]
        changes = [-1.0, -0.3, 0.0, 0.3, 1.0, 3.0]
        one = _product([0.0, 0.1, 0.4], changes, changes, [0.1, 0.5])
        pairs = np.array([(p, q) for i, p in enumerate(places) for q in places[i + 1 :]])
        c0, c1, c2, f = np.repeat(one, len(pairs), axis=1)
        d1, d2 = np.tile(pairs.T, one.shape[1])
        return np.stack([c0, c1, d1, f, c2, d2, f])


def _product(*values: Array | list[float]) -> Array:
    """Every combination of the values, shape (len(values), m)."""
    return np.stack([axis.ravel() for axis in np.meshgrid(*values, indexing="ij")])
