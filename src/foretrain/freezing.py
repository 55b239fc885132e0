"""Which parameters a fit moves, and how the others are held at given values meanwhile."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from foretrain.laws.law import Array, Law, Parameter

LARGEST = 1e300
"""A frozen coefficient is held between 1 / LARGEST and this in the units of the fit."""

STARTS = 32
"""So many starts are looked at: what is best with all parameters free need not be with some frozen."""

STEP = 1e-6
"""Relative step of the differences that tell how a frozen coefficient moves in the units of the fit."""


@dataclass(frozen=True)
class Freedom:
    """The free and the frozen parameters of one fit.

    In natural units the frozen ones stay; in the units of the fit a coefficient such as `A` of `A N^-alpha`
    moves with its exponent. Without frozen parameters every method is the law's own.

    Attributes:
        law: The law.
        free: Which parameters are fitted, shape (p,).
        values: Those of the frozen ones in natural units, shape (p - free.sum(),).
        x_unit: Shape (n_axes,).
        y_unit: In the metric's unit.
    """

    law: Law
    free: NDArray[np.bool_]
    values: Array
    x_unit: Array
    y_unit: float

    @property
    def count(self) -> int:
        """How many parameters are fitted."""
        return int(self.free.sum())

    @property
    def frozen(self) -> tuple[str, ...]:
        """The names of the frozen parameters, in the order of theta."""
        pairs = zip(self.law.parameters, self.free, strict=True)
        return tuple(parameter.name for parameter, free in pairs if not free)

    def pin(self, theta: Array) -> Array:
        """Sets the frozen parameters in the units of the fit; twice, for coefficients need the exponents."""
        if not self.values.size:
            return theta
        theta = np.array(theta, dtype=float)
        with np.errstate(all="ignore"):
            for _ in range(2):
                natural = self.law.rescale(theta, self.x_unit, self.y_unit)
                natural[~self.free] = self.values
                back = self.law.rescale(natural, 1.0 / self.x_unit, 1.0 / self.y_unit)
                inside = np.clip(np.nan_to_num(back, posinf=LARGEST), -LARGEST, LARGEST)
                theta[~self.free] = inside[~self.free]
        return theta

    @cached_property
    def rigid(self) -> bool:
        """Whether the frozen parameters stay in the units of the fit, too, whatever the free ones are."""
        lower, upper = self.law.bounds
        somewhere = self.pin(np.clip(np.full(lower.size, 0.7), lower, upper))
        elsewhere = self.pin(np.where(self.free, 1.1 * somewhere, somewhere))
        return bool((somewhere[~self.free] == elsewhere[~self.free]).all())

    def gradient(self, u: Array, theta: Array) -> Array:
        """The derivatives of the law by the free parameters, by which the frozen ones move, too.

        How those move is told by central differences.

        Args:
            u: Where, shape (n_axes, n), in the units of the fit.
            theta: All parameters in the units of the fit, shape (p,), pinned.

        Returns:
            Shape (free.sum(), n).
        """
        by_all = self.law.gradient(u, theta)
        if self.rigid:
            return by_all[self.free]
        moved = []
        for i in np.flatnonzero(self.free):
            step = np.zeros_like(theta)
            step[i] = STEP * max(abs(theta[i]), 1e-12)
            change = self.pin(theta + step) - self.pin(theta - step)
            moved.append(change[~self.free] / (2 * step[i]))
        return np.asarray(by_all[self.free] + np.stack(moved) @ by_all[~self.free])

    def starts(self, u: Array, v: Array, weights: Array) -> Array:
        """The law's starts with the frozen parameters set, the most promising first, shape (p, m)."""
        if not self.values.size:
            return self.law.starts(u, v, weights)
        wide = copy.copy(self.law)
        wide.polished = STARTS  # type: ignore[misc]
        thetas = np.stack([self.pin(theta) for theta in wide.starts(u, v, weights).T], axis=1)
        wide.polished = 2 * self.law.polished  # type: ignore[misc]
        return wide._best(u, v, weights, thetas)

    def natural(self, theta: Array) -> Array:
        """Parameters in natural units, the frozen ones exactly as given."""
        natural = self.law.rescale(theta, self.x_unit, self.y_unit)
        if self.values.size:
            natural[~self.free] = self.values
        return natural

    def require(self, points: int) -> None:
        """Raises ValueError if there are fewer points than parameters to fit."""
        if points < self.count:
            to_fit = " to fit" if self.values.size else ""
            raise ValueError(
                f"The law {self.law.name} has {self.count} parameters{to_fit}, so {points} observations "
                f"cannot fix it: wait for at least {self.count + 1}."
            )


def freedom(law: Law, fixed: Mapping[str, float] | None, x_unit: Array, y_unit: float) -> Freedom:
    """Checks what is to be frozen.

    Args:
        law: The law.
        fixed: Values by the parameter's name, in natural units; none if empty.
        x_unit: The units that the fit works in, shape (n_axes,).
        y_unit: In the metric's unit.

    Returns:
        The free and the frozen parameters.

    Raises:
        ValueError: If a name is unknown, a value is not a number within its parameter's bounds, or no
            parameter is left to fit.
    """
    known = {parameter.name: parameter for parameter in law.parameters}
    values = {}
    for name, value in (fixed or {}).items():
        if name not in known:
            raise ValueError(
                f"Expected `fixed` to name parameters of the law {law.name}, which are "
                f"{', '.join(known)}; got {name!r}."
            )
        values[name] = _checked(law.name, known[name], value)
    if len(values) == len(known):
        raise ValueError(
            f"Expected `fixed` to leave a parameter of the law {law.name} to fit, got all "
            f"{len(known)}: evaluate the law instead."
        )
    free = np.array([name not in values for name in known])
    return Freedom(law, free, np.array([values[name] for name in known if name in values]), x_unit, y_unit)


def _checked(law: str, parameter: Parameter, value: float) -> float:
    """The value as a number, if the parameter may have it."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    lower, upper = parameter.lower, parameter.upper
    positive = parameter.log and lower == 0
    if np.isfinite(number) and lower <= number <= upper and not (positive and number == 0):
        return number
    least = "above 0" if positive else f"of at least {lower:g}"
    most = f" and at most {upper:g}" if np.isfinite(upper) else ""
    raise ValueError(
        f"Expected `fixed` to give {parameter.name} of the law {law} a finite number {least}{most}, in "
        f"natural units, got {value!r}: leave it out to have it fitted."
    )
