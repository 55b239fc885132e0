"""What every law is: a formula with named parameters, its gradient, its bounds and where a fit may start."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from foretrain.laws.linear import project
from foretrain.laws.numerics import SATURATION, Array, power

__all__ = ["SATURATION", "Array", "Axis", "Law", "Parameter", "SeparableLaw", "power"]


AT_ONCE = 2_000_000
"""Numbers in one feature of a grid that are held in memory at once."""

LARGEST_LOG = 690.0
"""`inverse` looks between exp(-690) and exp(690)."""


@dataclass(frozen=True)
class Axis:
    """One quantity that a law takes.

    Attributes:
        name: Its name, as it stands in the formula ("x", "N", "D").
        meaning: What it is, in words.
        unit: Its unit, in words.
    """

    name: str
    meaning: str
    unit: str


X = Axis("x", "amount of data seen, steps or compute", "the axis's unit")
SIZE = Axis("N", "model size", "parameters")
DATA = Axis("D", "data seen", "training examples or tokens")


@dataclass(frozen=True)
class Parameter:
    """One parameter of a law.

    Attributes:
        name: Its name, as it is printed ("E", "A", "alpha").
        meaning: What it is, in words.
        unit: Its unit, in words.
        lower: Smallest value a fit may give it.
        upper: Largest value a fit may give it.
        log: Whether a fit searches its logarithm: for positive parameters of unknown order of magnitude.
    """

    name: str
    meaning: str
    unit: str
    lower: float
    upper: float = float("inf")
    log: bool = False


class Law(ABC):
    """A form `y = f(x; theta)` with named parameters theta.

    Attributes:
        name: The key in `LAWS`.
        formula: The formula, for people.
        source: Author, year and equation.
        axes: What it takes as x, in order.
        monotone: For each axis, which way y goes as the axis grows, for any parameters within the bounds:
            -1 it never rises, 1 it never falls, 0 it may do either.
        polished: How many starts a fit follows to their optimum.
        linear: The coefficients of a separable law, in order; none may be negative.
        nonlinear: The other parameters, in order.
    """

    name: ClassVar[str]
    formula: ClassVar[str]
    source: ClassVar[str]
    axes: ClassVar[tuple[Axis, ...]] = (X,)
    monotone: ClassVar[tuple[int, ...]] = (-1,)
    polished: ClassVar[int] = 3
    linear: ClassVar[tuple[Parameter, ...]] = ()
    nonlinear: ClassVar[tuple[Parameter, ...]]

    @property
    def n_axes(self) -> int:
        """How many axes it takes as x."""
        return len(self.axes)

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """All parameters, in the order of theta, the coefficients first."""
        return self.linear + self.nonlinear

    @property
    def bounds(self) -> tuple[Array, Array]:
        """Smallest and largest value of each parameter, each of shape (p,)."""
        lower = np.array([parameter.lower for parameter in self.parameters])
        return lower, np.array([parameter.upper for parameter in self.parameters])

    def limits(self, x: Array) -> tuple[Array, Array]:
        """The bounds within which a fit to points at x searches; some laws narrow them to where x lies.

        Args:
            x: The observations' positions, shape (n_axes, n), in the units that the fit works in.

        Returns:
            Smallest and largest value of each parameter, each of shape (p,).
        """
        return self.bounds

    def units(self, x: Array) -> Array:
        """The units that a fit works in, shape (n_axes,): each axis's smallest x.

        Args:
            x: The observations' positions, shape (n_axes, n), in natural units.
        """
        return np.asarray(x.min(axis=1))

    @abstractmethod
    def value(self, x: Array, theta: Array) -> Array:
        """The law's y at x of shape (n_axes, n) for parameters theta of shape (p,); shape (n,)."""

    @abstractmethod
    def gradient(self, x: Array, theta: Array) -> Array:
        """The derivatives of `value` by each parameter; shape (p, n)."""

    @abstractmethod
    def starts(self, x: Array, y: Array, weights: Array) -> Array:
        """Parameters from which a fit starts, the most promising first.

        Args:
            x: Where the metric was measured, shape (n_axes, n), in the units that the fit works in.
            y: The metric there, shape (n,). Positive.
            weights: What each point counts, shape (n,). Not negative.

        Returns:
            Shape (p, m) with at most `polished` sets of parameters.
        """

    @abstractmethod
    def rescale(self, theta: Array, x_unit: Array, y_unit: float) -> Array:
        """Parameters for x and y in natural units, from those for x / x_unit and y / y_unit.

        Args:
            theta: All parameters, shape (p,).
            x_unit: Shape (n_axes,).
            y_unit: In the metric's unit.

        Returns:
            Shape (p,); a parameter beyond the range of floats becomes infinite or zero.
        """

    def inverse(self, y: Array, theta: Array, *, axis: int = 0, x: Array | None = None) -> Array:
        """How far one axis must go for the law to reach y.

        Args:
            y: The metric to be reached, shape (n,), in its own unit.
            theta: All parameters, shape (p,).
            axis: Which axis is asked about.
            x: The other axes, shape (n_axes, n); what it holds for `axis` itself is not read. Needed where
                the law has more axes than one.

        Returns:
            Along that axis, shape (n,), found by bisection; infinite where the law never reaches y, and 0
            where it has passed y from the start.

        Raises:
            ValueError: If the law may rise and fall along that axis, or the other axes are not given.
        """
        direction = self.monotone[axis]
        if direction == 0:
            raise ValueError(
                f"Expected a law that is monotone along {self.axes[axis].name}, got {self.name}, which may "
                f"rise and fall: look for y in its values instead."
            )
        y = np.atleast_1d(np.asarray(y, dtype=float))
        if x is None and self.n_axes > 1:
            raise ValueError(
                f"Expected `x` with the law {self.name}, which has {self.n_axes} axes: give the "
                f"others' values."
            )
        at = np.ones((self.n_axes, y.size)) if x is None else np.array(x, dtype=float)
        low, high = np.full(y.size, -LARGEST_LOG), np.full(y.size, LARGEST_LOG)
        for _ in range(64):
            middle = 0.5 * (low + high)
            at[axis] = np.exp(middle)
            reached = direction * (self.value(at, theta) - y) >= 0
            low, high = np.where(reached, low, middle), np.where(reached, middle, high)
        with np.errstate(over="ignore"):
            found = np.where(high < LARGEST_LOG, np.exp(high), np.inf)
        return np.where(low > -LARGEST_LOG, found, 0.0)

    def basis(self, x: Array, e: Array) -> Array:
        """The features of a separable law; a law that is not has none.

        Raises:
            TypeError: If the law is not separable.
        """
        raise TypeError(f"The law {self.name} is not separable, so it has no basis: use `value`.")

    def grid(self, x: Array) -> Array:
        """The grid of nonlinear parameters of a separable law; a law that is not has none.

        Raises:
            TypeError: If the law is not separable.
        """
        raise TypeError(f"The law {self.name} is not separable, so it has no grid: use `starts`.")

    def _best(self, x: Array, y: Array, weights: Array, thetas: Array) -> Array:
        """Of parameters of shape (p, m), the `polished` ones whose log residuals are smallest."""
        with np.errstate(all="ignore"):
            logs = np.log(np.array([self.value(x, theta) for theta in thetas.T])) - np.log(y)
            loss = np.nan_to_num((weights * np.minimum(logs**2, 1e6)).sum(axis=1), nan=np.inf)
        return thetas[:, np.argsort(loss, kind="stable")[: self.polished]]


class SeparableLaw(Law):
    """A form `y = sum_k c_k * basis_k(x; e)`, linear in the coefficients c and not in the parameters e.

    A fit solves for c inside and searches only e (variable projection, Golub and Pereyra 1973). The same
    separation makes a law cheap to try at many exponents at once.
    """

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

    def starts(self, x: Array, y: Array, weights: Array) -> Array:
        """The grid points that describe the observations best, with their coefficients."""
        e = self.grid(x)
        parts = np.array_split(e, 1 + e.shape[1] * y.size // AT_ONCE, axis=1)
        solved = [project(self.basis(x, part), y, weights) for part in parts if part.shape[1]]
        coefficients = np.concatenate([part.coefficients for part in solved])
        first = np.argsort(np.concatenate([part.rss for part in solved]), kind="stable")[: self.polished]
        return np.concatenate([coefficients[first].T, e[:, first]])

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
