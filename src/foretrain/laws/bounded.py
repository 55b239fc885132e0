"""Laws whose error is bounded on one side or on both: M3 and M4 of Alabdulmohsin et al. 2022."""

from __future__ import annotations

import numpy as np

from foretrain.laws.law import Array, Law, Parameter, SeparableLaw
from foretrain.laws.numerics import saturated_exp, sigmoid, softplus
from foretrain.laws.single import E


class M3Law(SeparableLaw):
    """`y = beta (1/x + gamma)^c`: a power law that flattens where x reaches 1 / gamma.

    y is in the metric's unit, x and 1 / gamma in the axis's. The irreducible error is `beta gamma^c`. Source:
    M3 of Alabdulmohsin et al. 2022, arXiv:2209.06640.
    """

    name = "m3"
    formula = "beta (1/x + gamma)^c"
    source = "M3 of Alabdulmohsin et al. 2022, arXiv:2209.06640"
    linear = (Parameter("beta", "coefficient", "the metric's unit times the axis's to the power c", 0.0),)
    nonlinear = (
        Parameter("c", "exponent", "none", 0.01, 3.0),
        Parameter("gamma", "one over the x where it flattens", "one over the axis's unit", 0.0, log=True),
    )

    def basis(self, x: Array, e: Array) -> Array:
        """One feature, `(1/x + gamma)^c`."""
        logs = np.log(1.0 / x[0] + e[1][:, None])
        return saturated_exp(e[0][:, None] * logs)[:, None, :]

    def slopes(self, x: Array, e: Array) -> Array:
        """Its derivatives by c and by gamma."""
        inverse = 1.0 / x[0] + e[1]
        feature = saturated_exp(e[0] * np.log(inverse))
        return np.stack([np.log(inverse) * feature, e[0] * feature / inverse])[:, None, :]

    def grid(self, x: Array) -> Array:
        """32 exponents times 24 values of gamma: none of it, and where the curve may flatten."""
        flat = np.concatenate([[1e-6 / x[0].max()], 1.0 / np.geomspace(x[0].min(), 30.0 * x[0].max(), 23)])
        exponents = np.geomspace(0.01, 3.0, 32)
        return np.stack([np.repeat(exponents, flat.size), np.tile(flat, exponents.size)])

    def rescale(self, theta: Array, x_unit: Array, y_unit: float) -> Array:
        """`beta` takes on the units of both, `gamma` the inverse of that of x."""
        beta, c, gamma = theta
        scale = np.exp(np.clip(c * np.log(x_unit[0]), -300.0, 300.0))
        return np.array([y_unit * beta * scale, c, gamma / x_unit[0]])


class M4Law(Law):
    """`(y - E) / (E + H - y)^alpha = beta x^-c`: a power law between random guessing and a floor.

    y, E and H are in the metric's unit, x in the axis's. y falls from `E + H`, the error of random guessing
    (`epsilon_0` of the paper), to E. As alpha approaches 0 the upper level stops to matter. The formula is
    implicit: y is the only root between the two levels, found by Newton's method. Source: M4 of Alabdulmohsin
    et al. 2022, arXiv:2209.06640, where the exponent is `c` with the other sign. Unlike there, a
    fit compares errors, not both sides of the formula: those move with E.
    """

    name = "m4"
    formula = "(y - E) / (E + H - y)^alpha = beta x^-c"
    source = "M4 of Alabdulmohsin et al. 2022, arXiv:2209.06640"
    polished = 6
    nonlinear = (
        E,
        Parameter("H", "height of random guessing above E", "the metric's unit", 0.0, log=True),
        Parameter(
            "beta",
            "coefficient",
            "the metric's unit to the power 1 - alpha times the axis's to the power c",
            0.0,
            log=True,
        ),
        Parameter("c", "exponent", "none", 0.01, 10.0),
        Parameter("alpha", "how slowly the curve leaves random guessing", "none", 1e-3, 10.0),
    )

    def value(self, x: Array, theta: Array) -> Array:
        """The root between the two levels."""
        return np.asarray(theta[0] + theta[1] * sigmoid(_solve(x[0], theta)))

    def gradient(self, x: Array, theta: Array) -> Array:
        """The derivatives, by the implicit function theorem."""
        _, h, beta, _, alpha = theta
        t = _solve(x[0], theta)
        share = sigmoid(t)
        moved = h * share * sigmoid(-t) / (sigmoid(-t) + alpha * share)
        return np.stack(
            [
                np.ones_like(t),
                share - moved * (1.0 - alpha) / h,
                moved / beta,
                -np.log(x[0]) * moved,
                moved * (np.log(h) - softplus(t)),
            ]
        )

    def starts(self, x: Array, y: Array, weights: Array) -> Array:
        """For 80 sets of levels and alpha, the line in logs; of them those that describe y best."""
        low, high = y.min(), y.max()
        found = []
        for e in low * np.array([0.0, 0.3, 0.6, 0.9, 0.99]):
            for top in high * np.array([1.01, 1.1, 1.5, 4.0]):
                for alpha in (0.02, 0.3, 0.8, 1.5):
                    left = np.log(y - e) - alpha * np.log(top - y)
                    slope, level = _line(np.log(x[0]), left, weights)
                    beta = np.exp(np.clip(level, -150.0, 150.0))
                    found.append([e, top - e, beta, np.clip(-slope, 0.01, 10.0), alpha])
        return self._best(x, y, weights, np.array(found).T)

    def rescale(self, theta: Array, x_unit: Array, y_unit: float) -> Array:
        """`E` and `H` take on the unit of y, `beta` its power `1 - alpha` and the power c of that of x."""
        e, h, beta, c, alpha = theta
        scale = np.exp(np.clip((1.0 - alpha) * np.log(y_unit) + c * np.log(x_unit[0]), -300.0, 300.0))
        return np.array([y_unit * e, y_unit * h, beta * scale, c, alpha])


def _line(x: Array, y: Array, weights: Array) -> tuple[float, float]:
    """Slope and intercept of the weighted line through the points; a slope of 0 where x does not vary."""
    centre, level = np.average(x, weights=weights), np.average(y, weights=weights)
    spread = float((weights * (x - centre) ** 2).sum())
    slope = float((weights * (x - centre) * (y - level)).sum()) / spread if spread > 0 else 0.0
    return slope, float(level - slope * centre)


def _solve(x: Array, theta: Array) -> Array:
    """The root as t, where `y = E + H / (1 + exp(-t))`.

    There the formula reads `-softplus(-t) + alpha softplus(t) = ln beta - c ln x - (1 - alpha) ln H`. The
    left side grows with a slope between 1 and alpha and is convex or concave, so Newton's method comes from
    one side after its first step, from any start.
    """
    _, h, beta, c, alpha = theta
    right = np.log(np.maximum(beta, 1e-300)) - c * np.log(x) - (1.0 - alpha) * np.log(h)
    t = np.where(right < (alpha - 1.0) * np.log(2.0), right, right / alpha)
    for _ in range(60):
        step = (alpha * softplus(t) - softplus(-t) - right) / (sigmoid(-t) + alpha * sigmoid(t))
        t = t - step
        if np.abs(step).max(initial=0.0) <= 1e-13 * (1.0 + np.abs(t).max(initial=0.0)):
            break
    return np.asarray(t)
