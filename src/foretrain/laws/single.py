"""Laws of one axis: how the error falls as one quantity grows."""

from __future__ import annotations

import numpy as np

from foretrain.laws.law import SATURATION, Array, Parameter, SeparableLaw, power

E = Parameter("E", "irreducible error", "the metric's unit", 0.0)
A = Parameter("A", "coefficient", "the metric's unit times the axis's to the power alpha", 0.0)
ALPHA = Parameter("alpha", "exponent", "none", 0.01, 3.0)
EXPONENTS = np.geomspace(ALPHA.lower, ALPHA.upper, 64)


class PowerLaw(SeparableLaw):
    """`y = A x^-alpha`: the power-law region of a learning curve.

    y is in the metric's unit, x in the axis's. Source: Hestness et al. 2017, arXiv:1712.00409, section 2
    (there `eps = alpha m^beta` with beta negative).
    """

    name = "power"
    formula = "A x^-alpha"
    source = "Hestness et al. 2017, arXiv:1712.00409, section 2"
    linear = (A,)
    nonlinear = (ALPHA,)

    def basis(self, x: Array, e: Array) -> Array:
        """One feature, `x^-alpha`."""
        return power(x[0], e[0])[:, None, :]

    def slopes(self, x: Array, e: Array) -> Array:
        """Its derivative by alpha, `-ln x x^-alpha`."""
        return np.asarray(-np.log(x[0]) * power(x[0], e[:1])[0])[None, None, :]

    def grid(self, x: Array) -> Array:
        """64 exponents, evenly spaced in their logarithm between the bounds."""
        return EXPONENTS[None, :]

    def rescale(self, theta: Array, x_unit: Array, y_unit: float) -> Array:
        """`A` takes on the units of both."""
        a, alpha = theta
        return np.array([y_unit * a * power(1.0 / x_unit, np.array([alpha]))[0, 0], alpha])


class PowerLawFloor(SeparableLaw):
    """`y = E + A x^-alpha`: a power law that ends at an irreducible error E.

    y and E are in the metric's unit, x in the axis's. Source: Hestness et al. 2017, arXiv:1712.00409,
    section 2 (there gamma is the irreducible error); M2 of Alabdulmohsin et al. 2022, arXiv:2209.06640.
    """

    name = "power_floor"
    formula = "E + A x^-alpha"
    source = "Hestness et al. 2017, arXiv:1712.00409, section 2; M2 of Alabdulmohsin et al. 2022"
    linear = (E, A)
    nonlinear = (ALPHA,)

    def basis(self, x: Array, e: Array) -> Array:
        """Two features, 1 and `x^-alpha`."""
        features = power(x[0], e[0])
        return np.stack([np.ones_like(features), features], axis=1)

    def slopes(self, x: Array, e: Array) -> Array:
        """Their derivatives by alpha: 0 and `-ln x x^-alpha`."""
        slope = -np.log(x[0]) * power(x[0], e[:1])[0]
        return np.stack([np.zeros_like(slope), slope])[None]

    def grid(self, x: Array) -> Array:
        """64 exponents, evenly spaced in their logarithm between the bounds."""
        return EXPONENTS[None, :]

    def rescale(self, theta: Array, x_unit: Array, y_unit: float) -> Array:
        """`E` takes on the unit of y, `A` those of both."""
        e, a, alpha = theta
        return np.array([y_unit * e, y_unit * a * power(1.0 / x_unit, np.array([alpha]))[0, 0], alpha])


class ShiftedPowerLawFloor(SeparableLaw):
    """`y = E + A (x + x0)^-alpha`: a power law that begins after an initial bend.

    y and E are in the metric's unit, x and x0 in the axis's. The shift lets the early part of a curve be
    flatter than its tail. Source: the rational-quadratic family of M3 of Alabdulmohsin et al. 2022,
    arXiv:2209.06640 (`beta (1/x + gamma)^c`) in the form of Bahri et al. 2021 with an offset in x.
    """

    name = "shifted_power_floor"
    formula = "E + A (x + x0)^-alpha"
    source = "after M3 of Alabdulmohsin et al. 2022, arXiv:2209.06640"
    linear = (E, A)
    nonlinear = (ALPHA, Parameter("x0", "shift", "the axis's unit", 0.0))

    def basis(self, x: Array, e: Array) -> Array:
        """Two features, 1 and `(x + x0)^-alpha`."""
        logs = np.log(x[0] + e[1][:, None])
        features = np.exp(np.clip(-e[0][:, None] * logs, -SATURATION, SATURATION))
        return np.stack([np.ones_like(features), features], axis=1)

    def slopes(self, x: Array, e: Array) -> Array:
        """Their derivatives by alpha and by x0."""
        alpha, shift = e
        shifted = x[0] + shift
        feature = power(shifted, np.array([alpha]))[0]
        by_alpha = -np.log(shifted) * feature
        by_shift = -alpha * power(shifted, np.array([alpha + 1.0]))[0]
        zero = np.zeros_like(feature)
        return np.array([[zero, by_alpha], [zero, by_shift]])

    def grid(self, x: Array) -> Array:
        """24 exponents times 10 shifts, the shifts as shares of the largest x."""
        alphas = np.geomspace(0.02, ALPHA.upper, 24)
        shifts = np.geomspace(0.002, 3.0, 10) * x[0].max()
        return np.stack([np.repeat(alphas, len(shifts)), np.tile(shifts, len(alphas))])

    def rescale(self, theta: Array, x_unit: Array, y_unit: float) -> Array:
        """`E` takes on the unit of y, `A` those of both, `x0` that of x."""
        e, a, alpha, shift = theta
        a = y_unit * a * power(1.0 / x_unit, np.array([alpha]))[0, 0]
        return np.array([y_unit * e, a, alpha, shift * x_unit[0]])
