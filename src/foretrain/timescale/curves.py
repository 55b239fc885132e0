"""Error against training time: the falling part of a curve, and when it first reaches a level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from foretrain.inputs import positive, same_length
from foretrain.laws.law import Array
from foretrain.observation import Observation, RunRecord

ROUNDING = 1e-6
"""Learning rates that differ by less, relatively, are the same."""


@dataclass(frozen=True, eq=False)
class TimeCurve:
    """The error of one run against its training time.

    Attributes:
        params: Parameters of the model.
        time: When it was measured, shape (n,), ascending, in optimizer steps or whatever the study compares.
        error: The error there, shape (n,), in the metric's unit.
        run: Name of the run.
        optimizer: Name of its optimizer ("SGD"); None where unknown.
        constant_rate: Whether the learning rate stayed the same; None where unknown.

    Raises:
        ValueError: If a number is not positive and finite, there are fewer than three, the lengths differ, or
            the time does not grow.
    """

    params: float
    time: Array
    error: Array
    run: str = ""
    optimizer: str | None = None
    constant_rate: bool | None = None

    def __post_init__(self) -> None:
        """Takes any sequences as arrays."""
        object.__setattr__(self, "params", float(positive("params", self.params)))
        object.__setattr__(self, "time", positive("time", self.time))
        object.__setattr__(self, "error", positive("error", self.error))
        same_length(time=self.time, error=self.error)
        if self.time.size < 3 or not (np.diff(self.time) > 0).all():
            raise ValueError(
                f"Expected `time` of the run {self.run!r} to grow over at least three points, got "
                f"{self.time.size} points: give each time once, in order."
            )

    @property
    def plain_sgd(self) -> bool:
        """Whether it is known to be trained by SGD at a constant rate, as the claim supposes."""
        return bool(self.constant_rate) and (self.optimizer or "").lower() == "sgd"


@dataclass(frozen=True, eq=False)
class Falling:
    """The falling part of a curve, smoothed to never rise: its steps, each at the mean place of its points.

    Attributes:
        log_time: Natural logarithm of time, or of what replaces it, shape (m,), ascending.
        log_error: Natural logarithm of the error, shape (m,), never rising.
    """

    log_time: Array
    log_error: Array

    def first_passage(self, log_error: Array) -> Array:
        """Natural logarithm of the time at which each level is first reached; NaN where it is not.

        A level above the first error is not reached either: that was before the first measurement.
        """
        reversed_error, reversed_time = self.log_error[::-1], self.log_time[::-1]
        found = np.interp(log_error, reversed_error, reversed_time)
        inside = (log_error >= reversed_error[0]) & (log_error <= reversed_error[-1])
        return np.asarray(np.where(inside, found, np.nan))

    def read(self, log_time: Array) -> Array:
        """Natural logarithm of the error at times within the range; that of the nearest end beyond it."""
        return np.asarray(np.interp(log_time, self.log_time, self.log_error))


def until_lowest(curve: TimeCurve) -> tuple[Array, Array]:
    """Natural logarithms of time and error up to the lowest error, each of shape (m,)."""
    last = int(np.argmin(curve.error)) + 1
    return np.log(curve.time[:last]), np.log(curve.error[:last])


def falling_part(curve: TimeCurve) -> Falling:
    """The part of a curve up to its lowest error, smoothed by isotonic regression of ln error."""
    return isotonic(*until_lowest(curve))


def isotonic(x: Array, y: Array) -> Falling:
    """The function of x that never rises and is nearest to y, by pooling adjacent violators.

    Args:
        x: Where, shape (n,), ascending.
        y: Values, shape (n,).

    Returns:
        Its steps, each at the mean x of the points that it holds.

    References:
        Barlow et al. 1972, Statistical inference under order restrictions, section 1.2.
    """
    blocks: list[tuple[float, float, int]] = []
    for place, value in zip(x.tolist(), y.tolist(), strict=True):
        sum_x, sum_y, count = place, value, 1
        while blocks and sum_y / count >= blocks[-1][1] / blocks[-1][2]:
            before = blocks.pop()
            sum_x, sum_y, count = sum_x + before[0], sum_y + before[1], count + before[2]
        blocks.append((sum_x, sum_y, count))
    table = np.array(blocks)
    return Falling(table[:, 0] / table[:, 2], table[:, 1] / table[:, 2])


def curves_of(
    runs: Mapping[str, RunRecord] | Sequence[RunRecord],
    metric: str = "val_loss",
    *,
    axis: str = "steps",
    optimizer: str | None = None,
) -> tuple[TimeCurve, ...]:
    """The finished runs of a study as curves against time.

    Whether the learning rate was constant is read off the records. Runs without a count of parameters, or
    with fewer than three positive, finite values, are left out.

    Args:
        runs: The runs, as the store has them.
        metric: Name of the metric; an error or a loss, lower is better.
        axis: What counts as time: "steps", "samples" or "tokens".
        optimizer: Name of the optimizer of all these runs, which records do not tell.

    Returns:
        The curves, in the order of the runs.

    Raises:
        ValueError: If `axis` is not one of those.
    """
    if axis not in ("steps", "samples", "tokens"):
        raise ValueError(f"Expected `axis` to be 'steps', 'samples' or 'tokens', got {axis!r}.")
    curves = []
    for record in runs.values() if isinstance(runs, Mapping) else runs:
        told = [
            o
            for o in record.observations
            if o.metric == metric and np.isfinite(o.value) and o.value > 0 and getattr(o.counts, axis)
        ]
        if record.state != "finished" or len(told) < 3 or not told[-1].counts.params:
            continue
        curves.append(
            TimeCurve(
                params=told[-1].counts.params,
                time=np.array([getattr(o.counts, axis) for o in told], dtype=float),
                error=np.array([o.value for o in told]),
                run=record.info.run,
                optimizer=optimizer,
                constant_rate=_constant(told),
            )
        )
    return tuple(curves)


def _constant(observations: Sequence[Observation]) -> bool | None:
    rates = [o.lr for o in observations if o.lr is not None]
    if not rates:
        return None
    return max(rates) - min(rates) <= ROUNDING * max(rates)
