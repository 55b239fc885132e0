"""What every law is: a formula with named parameters that is linear in some and not in the others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SATURATION = 300.0
"""A power is held between exp(-300) and exp(300), so that squares and products of two stay floats."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a law.

    Attributes:
        name: Its name, as it is printed ("E", "A", "alpha").
        meaning: What it is, in words.
        unit: Its unit, in words.
        lower: Smallest value a fit may give it.
        upper: Largest value a fit may give it.
    """

    name: str
    meaning: str
    unit: str
    lower: float
    upper: float = float("inf")


class Law(ABC):
    """A form `y = sum_k c_k * basis_k(x; e)`, linear in the coefficients c and not in the parameters e.

    A fit solves for c inside and searches only e (variable projection, Golub and Pereyra 1973). The same
    separation makes a law cheap to try at many exponents at once.

    Attributes:
        name: The key in `LAWS`.
        formula: The formula, for people.
        source: Author, year and equation.
        n_axes: How many axes it takes as x.
        linear: The coefficients c, in order; none may be negative.
        nonlinear: The parameters e, in order.
    """

    name: ClassVar[str]
    formula: ClassVar[str]
    source: ClassVar[str]
    n_axes: ClassVar[int] = 1
    linear: ClassVar[tuple[Parameter, ...]]
    nonlinear: ClassVar[tuple[Parameter, ...]]

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """All parameters, the coefficients first."""
        return self.linear + self.nonlinear

    @abstractmethod
    def basis(self, x: Array, e: Array) -> Array:
        """The features that the coefficients multiply.

        Args:
            x: Where, shape (n_axes, n). Positive.
            e: The nonlinear parameters, shape (len(nonlinear), m): m sets of them.

        Returns:
            Shape (m, len(linear), n).
        """

    @abstractmethod
    def slopes(self, x: Array, e: Array) -> Array:
        """The derivatives of the features by the nonlinear parameters.

        Args:
            x: Where, shape (n_axes, n). Positive.
            e: One set of nonlinear parameters, shape (len(nonlinear),).

        Returns:
            Shape (len(nonlinear), len(linear), n).
        """

    @abstractmethod
    def grid(self, x: Array) -> Array:
        """Starting values of the nonlinear parameters.

        Args:
            x: The observations' positions, shape (n_axes, n), in the units that the fit works in.

        Returns:
            Shape (len(nonlinear), m).
        """

    @abstractmethod
    def rescale(self, theta: Array, x_unit: Array, y_unit: float) -> Array:
        """Parameters for x and y in natural units, from those for x / x_unit and y / y_unit.

        Args:
            theta: All parameters, coefficients first, shape (p,).
            x_unit: Shape (n_axes,).
            y_unit: In the metric's unit.

        Returns:
            Shape (p,); a coefficient beyond the range of floats becomes infinite.
        """

    def value(self, x: Array, theta: Array) -> Array:
        """The law's y at x of shape (n_axes, n) for parameters theta of shape (p,); shape (n,)."""
        k = len(self.linear)
        return np.asarray(theta[:k] @ self.basis(x, theta[k:, None])[0])

    def gradient(self, x: Array, theta: Array) -> Array:
        """The derivatives of `value` by each parameter; shape (p, n)."""
        k = len(self.linear)
        by_coefficient = self.basis(x, theta[k:, None])[0]
        by_nonlinear = np.einsum("k,ekn->en", theta[:k], self.slopes(x, theta[k:]))
        return np.concatenate([by_coefficient, by_nonlinear])


def power(x: Array, exponent: Array) -> Array:
    """`x ** -exponent` for every exponent, shape (m, n); too large or small values saturate."""
    return np.exp(np.clip(-exponent[:, None] * np.log(x), -SATURATION, SATURATION))
