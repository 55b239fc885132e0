"""Fits of the published laws of the loss under a learning-rate schedule, done as their authors do them.

All minimise the sum of Huber losses, threshold .001, of ln L over the points of one or several runs. The
linear and the momentum law start from a grid, each start followed by L-BFGS-B within bounds; here with the
exact gradient and each parameter in units of its start. The multi-power law goes on from the linear one by
AdamW.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize

from foretrain.laws.law import Array
from foretrain.laws.numerics import safe_log
from foretrain.laws.scheduled import LinearAnnealingLaw, MomentumLaw, MultiPowerLaw, ScheduledLaw

DELTA = 1e-3
"""Log residual from which a point counts linearly (all three papers)."""

Objective = Callable[[Array], tuple[float, Array]]
"""The sum of losses and its gradient, at parameters."""


@dataclass(frozen=True)
class RatedCurve:
    """A loss curve and the learning rate of every step.

    Attributes:
        step: After which steps the loss was measured, shape (n,), whole numbers from 1 to T.
        loss: The loss there, shape (n,). Positive.
        rates: Learning rate of every step from the first, shape (T,), T at least the largest step.
    """

    step: Array
    loss: Array
    rates: Array

    def __post_init__(self) -> None:
        """Checks that each step has a loss.

        Raises:
            ValueError: Unless both have one dimension and the same length, and every loss is positive.
        """
        step, loss = np.asarray(self.step, dtype=float), np.asarray(self.loss, dtype=float)
        if step.ndim != 1 or step.shape != loss.shape or not step.size:
            raise ValueError(
                f"Expected `step` and `loss` of the same shape (n,), got {step.shape} and {loss.shape}."
            )
        bad = ~(np.isfinite(loss) & (loss > 0))
        if bad.any():
            raise ValueError(
                f"Expected `loss` to be positive and finite, got {loss[bad][0]}: leave out {int(bad.sum())} "
                f"of {loss.size} points."
            )


@dataclass(frozen=True)
class ScheduledFit:
    """A law of the loss under a schedule, with its parameters.

    Attributes:
        law: The law.
        theta: Its parameters, shape (p,), in the order of `law.parameters`.
        objective: Sum of the Huber losses of ln L at them.
    """

    law: ScheduledLaw[Any]
    theta: Array
    objective: float

    @property
    def parameters(self) -> dict[str, float]:
        """Value by name."""
        return {p.name: float(v) for p, v in zip(self.law.parameters, self.theta, strict=True)}

    def predict(self, rates: ArrayLike, steps: ArrayLike) -> Array:
        """The loss after given steps of a schedule, shape (n,); arguments as for `ScheduledLaw.loss`."""
        return self.law.loss(rates, steps, self.theta)


def huber(residual: Array) -> Array:
    """Huber's loss with threshold `DELTA`, in the shape of the residuals."""
    size = np.abs(residual)
    return np.asarray(np.where(size < DELTA, 0.5 * residual**2, DELTA * (size - 0.5 * DELTA)))


def fit_linear_annealing(curves: Sequence[RatedCurve]) -> ScheduledFit:
    """Fits the linear term as Luo et al. 2025 do before their own law.

    45 x 3 starts: L0 within .2 of the smallest loss, A and alpha within .1 of a straight line through `ln(L -
    min L + .01)` against ln S1, B of 100, 550 and 1,000 at their highest rate of 3e-4, and in proportion to
    the inverse of the highest rate at others.

    Args:
        curves: At least one run.

    Raises:
        ValueError: If there is no run, or its steps or rates are not as `LinearAnnealingLaw.prepare` expects.
    """
    law = LinearAnnealingLaw()
    prepared, loss = _prepared(law, curves)
    smallest = loss.min()
    logs = np.concatenate([np.log(at[0]) for at in prepared])
    slope, level = np.polyfit(logs, np.log(loss - smallest + 0.01), 1)
    peak = max(float(np.max(curve.rates)) for curve in curves)
    starts = product(
        np.linspace(smallest - 0.2, smallest + 0.2, 5),
        np.linspace(np.exp(level) - 0.1, np.exp(level) + 0.1, 3),
        np.linspace(-slope - 0.1, -slope + 0.1, 3),
        np.linspace(100.0, 1000.0, 3) * (3e-4 / peak),
    )
    return _followed(law, _objective(law, prepared, loss), starts)


def fit_momentum(
    curves: Sequence[RatedCurve], *, memory: float = 0.999, gain: float | None = None
) -> ScheduledFit:
    """Fits the momentum law from the starting grid of Tissue et al. 2024.

    Args:
        curves: At least one run.
        memory: lambda, at least 0 and below 1.
        gain: C where it is known, such as from a finished run; else it is fitted. A single run tells it only
            once its rate has fallen.

    Raises:
        ValueError: If there is no run, or its steps or rates are not as `MomentumLaw.prepare` expects.
    """
    law = MomentumLaw(memory)
    prepared, loss = _prepared(law, curves)
    gains = (1.0, 11.5, 22.0) if gain is None else (gain,)
    starts = product((0.1, 2.1), (1.0, 11.5, 22.0), (0.0, 0.4, 0.8), gains)
    ordered = ((level, a, alpha, c) for level, a, alpha, c in starts)
    bounds = [(0.0, None)] * 3 + [(0.0, None) if gain is None else (gain, gain)]
    return _followed(law, _objective(law, prepared, loss), ordered, bounds)


def fit_multi_power(curves: Sequence[RatedCurve], *, to_minimum: bool = False) -> ScheduledFit:
    """Fits the multi-power law in the two stages of Luo et al. 2025.

    The linear term first; then, from C = 1 and beta = gamma = .5, AdamW (rates .05 for L0, A, B and C, .005
    for the exponents, weight decay .01, at most 200 steps, until 20 in a row bring nothing). It needs two or
    three runs whose schedules differ. As in the authors' code, the parameters kept are those one step after
    the best: they are not a minimum, and the objective at them is above the best one met.

    Args:
        curves: At least one run, better three.
        to_minimum: Whether L-BFGS-B goes on from there to a minimum; the authors do not, and on their other
            schedules it is further off.

    Raises:
        ValueError: If there is no run, or its steps or rates are not as `MultiPowerLaw.prepare` expects.
    """
    law = MultiPowerLaw()
    first = fit_linear_annealing(curves)
    level, a, alpha, b = first.theta
    prepared, loss = _prepared(law, curves)
    objective = _objective(law, prepared, loss)
    theta = _adamw(objective, np.array([level, a, alpha, b, 1.0, 0.5, 0.5]))
    if to_minimum:
        return _followed(law, objective, [theta])
    return ScheduledFit(law, theta, objective(theta)[0])


def _prepared(law: ScheduledLaw[Any], curves: Sequence[RatedCurve]) -> tuple[list[Any], Array]:
    """What the law needs of each run, and the losses of all."""
    if not curves:
        raise ValueError("Expected at least one run to fit to, got none.")
    return [law.prepare(curve.rates, curve.step) for curve in curves], np.concatenate(
        [np.asarray(curve.loss, dtype=float) for curve in curves]
    )


def _objective(law: ScheduledLaw[Any], prepared: Sequence[Any], loss: Array) -> Objective:
    """The sum of Huber losses of ln L over all runs, and its gradient."""
    logs = np.log(loss)

    @np.errstate(all="ignore")
    def objective(theta: Array) -> tuple[float, Array]:
        value = np.concatenate([law.value(at, theta) for at in prepared])
        residual = safe_log(value) - logs
        slope = np.where(value > 1e-300, np.clip(residual, -DELTA, DELTA) / value, 0.0)
        by_theta = np.concatenate([law.gradient(at, theta) for at in prepared], axis=1)
        total = float(huber(residual).sum())
        return total if np.isfinite(total) else 1e300, np.nan_to_num(by_theta @ slope)

    return objective


def _followed(
    law: ScheduledLaw[Any], objective: Objective, starts: Any, bounds: Sequence[Any] | None = None
) -> ScheduledFit:
    """The best of the ends to which L-BFGS-B goes from each start."""
    bounds = bounds or [(parameter.lower, None) for parameter in law.parameters]
    lower = np.array([low for low, _ in bounds])
    found = []
    for start in starts:
        theta = np.maximum(start, lower)
        unit = np.where(theta > 0, theta, 1.0)  # so that parameters of any size are searched alike

        def scaled(u: Array, unit: Array = unit) -> tuple[float, Array]:
            total, gradient = objective(u * unit)
            return total, gradient * unit

        end = minimize(
            scaled,
            theta / unit,
            jac=True,
            method="L-BFGS-B",
            bounds=[(low / u, high and high / u) for (low, high), u in zip(bounds, unit, strict=True)],
            options={"maxiter": 100_000, "ftol": 1e-12, "gtol": 1e-9},
        )
        found.append((float(end.fun), end.x * unit))
    least, best = min(found, key=lambda end: end[0])
    return ScheduledFit(law, np.asarray(best), least)


def _adamw(
    objective: Objective, start: Array, *, most: int = 200, patience: int = 20, decay: float = 0.01
) -> Array:
    """AdamW (Loshchilov and Hutter 2019) as the authors run it: the parameters one step after the best."""
    rate = np.array([5e-2, 5e-2, 5e-3, 5e-2, 5e-2, 5e-3, 5e-3])
    theta, kept, least, since = start.astype(float), start, np.inf, 0
    first, second = np.zeros_like(theta), np.zeros_like(theta)
    for step in range(1, most + 1):
        total, gradient = objective(theta)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        slope = (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
        theta = theta * (1 - decay * rate) - rate * slope
        since = 0 if total < least else since + 1
        if (step - 1 > patience and since >= patience) or np.linalg.norm(gradient) < 1e-5:
            break
        if total < least:
            kept, least = theta, total
    return kept
