"""How the error falls with training and with a lower learning rate: a law of two axes, and those axes.

The axes come from the rate of every step: how much has been trained (the sum of the rates) and what share of
the highest rate is still there, now or averaged over a memory. What the published laws make of the same
rates, in their authors' letters, is in `laws/scheduled.py`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import solve_banded

from foretrain.laws.law import Array, Axis, Parameter, SeparableLaw, power
from foretrain.laws.single import ALPHA, EXPONENTS, E

MEMORY = 0.999
"""Share of the momentum that one step leaves (Tissue et al. 2024 take .99 to .999, by default this)."""

SMALLEST = 1e-12
"""Least share of the highest rate, and of one step at it: no axis of a law is zero."""

DIPS = 2e-3
"""A rate this share below the highest before it has begun to fall; less is rounding."""


class AnnealingLaw(SeparableLaw):
    """`L = E + A S^-alpha + B h`: a power law in the cumulative rate S, and a term that the rate h leaves.

    L and E are in the metric's unit, S in steps times the rate's unit, h without one. `B h` is what lowering
    the rate would still gain: with a constant rate the curve ends at E + B, not at E. With h the rate over
    its highest it is the linear term of Luo et al., `L0 - B' (eta_max - eta)`, where E = L0 - B' eta_max and
    B = B' eta_max. With h averaged over a memory lambda it is the law of Tissue et al., `L0 - C S2`, where
    B = C eta_max / (1 - lambda) and E = L0 - B. `annealing_axes` gives both axes. While the rate has hardly
    moved, E and B cannot be told apart. Source: Tissue, Wang and Wang 2024,
    arXiv:2408.11029, equation 1; Luo et al. 2025, arXiv:2503.12811 (linear loss reduction).
    """

    name = "annealing"
    formula = "E + A S^-alpha + B h"
    source = "Tissue, Wang and Wang 2024, arXiv:2408.11029; Luo et al. 2025, arXiv:2503.12811"
    axes = (
        Axis("h", "learning rate, now or averaged over a memory, over its highest", "none"),
        Axis("S", "cumulative learning rate", "steps times the rate's unit"),
    )
    monotone = (1, -1)
    linear = (
        E,
        Parameter("A", "coefficient of the cumulative rate", "the metric's unit times that of S^alpha", 0.0),
        Parameter("B", "what annealing to a rate of zero gains", "the metric's unit", 0.0),
    )
    nonlinear = (ALPHA,)

    def basis(self, x: Array, e: Array) -> Array:
        """Three features: 1, `S^-alpha` and h."""
        trained = power(x[1], e[0])
        left = np.broadcast_to(power(x[0], -np.ones(1)), trained.shape)
        return np.stack([np.ones_like(trained), trained, left], axis=1)

    def slopes(self, x: Array, e: Array) -> Array:
        """Their derivatives by alpha: 0, `-ln S S^-alpha` and 0."""
        slope = -np.log(x[1]) * power(x[1], e[:1])[0]
        return np.stack([np.zeros_like(slope), slope, np.zeros_like(slope)])[None]

    def grid(self, x: Array) -> Array:
        """64 exponents, evenly spaced in their logarithm between the bounds."""
        return EXPONENTS[None, :]

    def rescale(self, theta: Array, x_unit: Array, y_unit: float) -> Array:
        """`E` takes on the unit of L, `A` and `B` those of L and of their axis."""
        e, a, b, alpha = theta
        a = y_unit * a * power(1.0 / x_unit[1:], np.array([alpha]))[0, 0]
        return np.array([y_unit * e, a, y_unit * b / x_unit[0], alpha])


def annealing_axes(
    rates: ArrayLike, steps: ArrayLike, *, memory: float = MEMORY, warmup: str = "peak"
) -> Array:
    """The two axes of `AnnealingLaw` at given steps.

    Args:
        rates: Learning rate of every step from the first, shape (T,). Not negative.
        steps: After which steps, shape (n,), whole numbers from 1 to T.
        memory: Share of the past that one step leaves of the averaged rate; 0 for the rate of the step itself
            (the linear term).
        warmup: How the steps of the warm-up count in S, see `cumulative_rate`.

    Returns:
        Shape (2, n): h, the rate over its highest, and S. Both positive.

    Raises:
        ValueError: If rates, steps or memory are not as above.
    """
    rates = checked_rates(rates)
    at = checked_steps(steps, rates)
    left = averaged_rate(rates, memory=memory)[at] / rates.max()
    trained = cumulative_rate(rates, warmup=warmup)[at]
    return np.stack([np.maximum(left, SMALLEST), np.maximum(trained, SMALLEST * rates.max())])


def warmup_steps(rates: ArrayLike) -> int:
    """How many steps the warm-up has: those before the rate first reaches what it then falls from.

    A fall of less than .2% is taken as rounding. A rate that never rises has no warm-up, and the first step
    of the highest rate is not part of it.

    Args:
        rates: Learning rate of every step from the first, shape (T,). Not negative.

    Raises:
        ValueError: If the rates are not as above.
    """
    rates = checked_rates(rates)
    fallen = np.flatnonzero(rates < (1.0 - DIPS) * np.maximum.accumulate(rates))
    rising = rates[: fallen[0]] if fallen.size else rates
    return int(np.argmax(rising >= (1.0 - 1e-6) * rising.max()))


def cumulative_rate(rates: ArrayLike, *, warmup: str = "peak") -> Array:
    """The sum S of the rates up to and with each step.

    Args:
        rates: Learning rate of every step from the first, shape (T,). Not negative.
        warmup: "peak" counts each step of the warm-up as if the rate were already that at its end (Tissue et
            al. 2024); "actual" counts the rates as they are (Luo et al. 2025, there S1 + S_W).

    Returns:
        Shape (T,).

    Raises:
        ValueError: If the rates or the choice are not as above.
    """
    rates = checked_rates(rates)
    if warmup not in ("peak", "actual"):
        raise ValueError(f'Expected `warmup` to be "peak" or "actual", got {warmup!r}.')
    return np.asarray(np.cumsum(_warmed(rates) if warmup == "peak" else rates))


def averaged_rate(rates: ArrayLike, *, memory: float = MEMORY) -> Array:
    """The rate averaged over the past: each step leaves `memory` of the average and adds the rest.

    Before the first step, and through the warm-up, it is the rate at the warm-up's end.

    Args:
        rates: Learning rate of every step from the first, shape (T,). Not negative.
        memory: Share of the average that one step leaves, at least 0 and below 1.

    Returns:
        Shape (T,), in the rate's unit; with a memory of 0 the rates after the warm-up themselves.

    Raises:
        ValueError: If the rates or the memory are not as above.
    """
    rates = checked_rates(rates)
    if not 0.0 <= memory < 1.0:
        raise ValueError(f"Expected `memory` to be at least 0 and below 1, such as {MEMORY}, got {memory}.")
    warmed = _warmed(rates)
    driven = (1.0 - memory) * warmed
    driven[0] += memory * warmed[0]
    bands = np.stack([np.ones_like(driven), np.full_like(driven, -memory)])
    with np.errstate(under="ignore"):
        return np.asarray(solve_banded((1, 0), bands, driven))  # average_i - memory average_(i-1) = driven_i


def annealing_area(rates: ArrayLike, *, memory: float = MEMORY) -> Array:
    """The annealing area S2 up to and with each step, in the rate's unit times steps.

    `S2 = sum_i m_i`, `m_i = memory m_(i-1) + (eta_(i-1) - eta_i)`, with m = 0 through the warm-up. Summed, it
    is the fall of the averaged rate, over 1 - memory.

    Args:
        rates: Learning rate of every step from the first, shape (T,). Not negative.
        memory: lambda, at least 0 and below 1.

    Returns:
        Shape (T,).

    Raises:
        ValueError: If the rates or the memory are not as above.

    References:
        Tissue, Wang and Wang 2024, arXiv:2408.11029, equation 1.
    """
    rates = checked_rates(rates)
    fall = rates[warmup_steps(rates)] - averaged_rate(rates, memory=memory)
    return np.asarray(fall / (1.0 - memory))


def checked_rates(rates: ArrayLike) -> Array:
    """The rates as numbers.

    Raises:
        ValueError: Unless there is at least one, all are finite and not negative, and some are positive.
    """
    found = np.asarray(rates, dtype=float)
    if found.ndim != 1 or not found.size:
        raise ValueError(
            f"Expected `rates` to be the learning rate of every step, shape (T,), got shape {found.shape}."
        )
    bad = ~(np.isfinite(found) & (found >= 0))
    if bad.any():
        raise ValueError(
            f"Expected `rates` to be finite and not negative, got {found[bad][0]} at step "
            f"{int(np.argmax(bad)) + 1}: give the rate that was used."
        )
    if not found.any():
        raise ValueError("Expected `rates` to be positive at some step, got zeros: nothing was trained.")
    return found


def checked_steps(steps: ArrayLike, rates: Array) -> NDArray[np.intp]:
    """Where in `rates` the given steps are: step i is at index i - 1.

    Raises:
        ValueError: Unless they are whole numbers from 1 to the number of rates.
    """
    found = np.atleast_1d(np.asarray(steps, dtype=float))
    with np.errstate(invalid="ignore"):
        good = (found >= 1) & (found <= rates.size) & (found == np.floor(found))
    if found.ndim != 1 or not good.all():
        told = f"shape {found.shape}" if found.ndim != 1 else f"{found[~good][0]:g}"
        raise ValueError(
            f"Expected `steps` to be whole numbers from 1 to {rates.size}, the last step with a rate, shape "
            f"(n,), got {told}: give the rate of every step up to the last one asked about."
        )
    return np.asarray(found.astype(np.intp) - 1)


def _warmed(rates: Array) -> Array:
    """The rates with the warm-up's as high as its end's."""
    first = warmup_steps(rates)
    warmed = rates.copy()
    warmed[:first] = rates[first]
    return np.asarray(warmed)
