"""A curve over whole steps as a few knots with straight lines between them: found, cut, put together."""

from __future__ import annotations

import math
import sys
from bisect import bisect_left, bisect_right

MAX_KNOTS = 1024
"""Most knots kept; a curve that would need more is kept less exactly."""
TOLERANCE = 1e-4
"""Largest error of a value while the knots suffice, as a fraction of the largest value."""

Knots = list[tuple[int, float]]
"""Steps, rising, and the value at each."""


class KnotBuilder:
    """Takes the learning rate of one optimizer step after the other, and keeps only knots.

    From the last knot on it holds the slopes of all lines that pass every later rate within the tolerance,
    and sets a knot when no slope is left (the swing filter of Elmeleegy, Elmagarmid, Cecchet, Aref and
    Zwaenepoel 2009, VLDB). That takes constant time for a step and no memory for a line. Should there be more
    than `max_knots` knots, they are thinned to half, and the tolerance grows by what that costs.

    Args:
        max_knots: Most knots kept, at least 4.
        tolerance: Largest error of a rate to begin with, as a fraction of the largest rate so far.
    """

    __slots__ = (
        *("_anchor", "_flat", "_fraction", "_high", "_knots", "_low", "_max_knots", "_peak", "_rate"),
        *("_slack", "_step", "_value"),
    )

    def __init__(self, *, max_knots: int = MAX_KNOTS, tolerance: float = TOLERANCE) -> None:
        self._max_knots = max_knots
        self._fraction = tolerance
        self._knots: Knots = []  # all but the end of the line under way, which begins at the last of them:
        self._anchor, self._value = 0, 0.0
        self._low, self._high = -math.inf, math.inf  # slopes that pass all rates since
        self._flat = False  # whether all rates since have been the same; the slopes are then not kept
        self._step, self._rate = 0, 0.0
        self._peak = self._slack = 0.0

    @classmethod
    def resumed(cls, knots: Knots, tolerance: float, rate: float | None = None) -> KnotBuilder:
        """A builder that has come to the end of given knots.

        Args:
            knots: The knots.
            tolerance: Largest error of any rate.
            rate: The last rate itself; the value of the last knot if None.
        """
        builder = cls()
        if knots:
            builder._peak = max(value for _, value in knots)
            builder._slack = max(tolerance, builder._peak * builder._fraction)
            builder._fraction = builder._slack / builder._peak if builder._peak else builder._fraction
            builder._knots = list(knots[:-1])
            builder._set_knot(*knots[-1])
            builder._step, builder._rate = knots[-1]
            builder._rate = builder._rate if rate is None else rate
        return builder

    @property
    def anchor(self) -> int:
        """The step of the last knot that stays, 0 before there is one."""
        return self._anchor

    @property
    def step(self) -> int:
        """The last step taken, 0 before there is one."""
        return self._step

    @property
    def tolerance(self) -> float:
        """Largest error of any rate so far, as a learning rate."""
        return self._slack

    @property
    def rate(self) -> float | None:
        """The last rate taken, None before there is one."""
        return self._rate if self._step else None

    def add(self, step: int, rate: float) -> None:
        """Takes the rate of a step.

        Steps that are left out are taken to lie on a straight line; one that is not beyond the last, such as
        another evaluation within the same step, is passed over.

        Raises:
            ValueError: If the rate is negative or not finite.
        """
        # Called once for every update of a training run: the usual way is short, and calls nothing.
        last = self._step
        if step <= last:
            return
        if rate == self._rate and self._flat:
            self._step = step
            return
        if rate > self._peak and rate < math.inf:
            self._peak, self._slack = rate, max(self._slack, rate * self._fraction)
        elif not 0.0 <= rate < math.inf:
            raise ValueError(
                f"Expected a learning rate that is finite and not negative, got {rate} at step {step}: "
                "leave out the steps whose rate is unknown."
            )
        if self._flat or not last:
            self._leave_flat(step, rate)
            if not last:
                return
        slack, value, width = self._slack, self._value, step - self._anchor
        low = ((rate - slack if rate > slack else 0.0) - value) / width
        high = (rate + slack - value) / width
        if low < self._low:
            low = self._low
        if high > self._high:
            high = self._high
        if low > high:
            self._set_knot(last, self._line())
            slack, value, width = self._slack, self._value, step - self._anchor
            low = ((rate - slack if rate > slack else 0.0) - value) / width
            high = (rate + slack - value) / width
        if rate == value and last == self._anchor:
            self._flat = True
        self._low, self._high, self._step, self._rate = low, high, step, rate

    def _leave_flat(self, step: int, rate: float) -> None:
        """Ends a stretch of equal rates, whose slopes were not kept, or begins with the first rate."""
        width = self._step - self._anchor
        if width:
            self._low, self._high = -min(self._slack, self._value) / width, self._slack / width
        elif not self._step:
            self._set_knot(step, rate)
            self._step, self._rate = step, rate
        self._flat = not width and self._anchor == step

    def _set_knot(self, step: int, value: float) -> None:
        knots = self._knots
        knots.append((step, value))
        if len(knots) >= self._max_knots:
            self._knots, self._slack = thin(knots, self._slack, self._max_knots // 2)
            self._fraction = self._slack / self._peak
            step, value = self._knots[-1]
        self._anchor, self._value = step, value
        self._low, self._high, self._flat = -math.inf, math.inf, False

    def _line(self) -> float:
        """Where the line under way ends: as near to the last rate as the slopes allow."""
        width = self._step - self._anchor
        if not width:
            return self._value
        slope = (self._rate - self._value) / width
        if self._low <= slope <= self._high:
            return self._rate
        return max(0.0, self._value + width * (self._low if slope < self._low else self._high))

    def knots(self, since: int = 0) -> Knots:
        """The knots up to the last step, from the last one at or before `since` on.

        The end of the line under way moves as steps are added. So knots that were given out earlier are not
        followed but replaced by later ones, from the first step of those on; see `splice`.
        """
        knots = self._knots[max(0, bisect_right(self._knots, since, key=_step_of) - 1) :]
        return [*knots, (self._step, self._line())] if self._step > self._anchor else knots


def cut(knots: Knots, *, first: int | None = None, last: int | None = None) -> Knots:
    """The knots from one step to another, with knots set where the cut goes through a line."""
    if last is not None:
        index = bisect_right(knots, last, key=_step_of)
        head = knots[:index]
        if 0 < index < len(knots) and head[-1][0] < last:
            head.append(_between(head[-1], knots[index], last))
        knots = head
    if first is not None:
        index = bisect_left(knots, first, key=_step_of)
        tail = knots[index:]
        if 0 < index < len(knots) and tail[0][0] > first:
            tail.insert(0, _between(knots[index - 1], tail[0], first))
        knots = tail
    return knots


def splice(knots: Knots, later: Knots) -> Knots:
    """Knots, replaced by later ones from the first step of those on."""
    if not later:
        return knots
    step, value = later[0]
    head = knots[: bisect_left(knots, step, key=_step_of)]
    here = cut(knots, first=step, last=step)
    if here and head and not math.isclose(here[0][1], value, rel_tol=1e-9):
        head = cut(knots, last=step - 1)  # not the same line: the old one holds to the step before
    return head + later


def _between(a: tuple[int, float], b: tuple[int, float], step: int) -> tuple[int, float]:
    share = (step - a[0]) / (b[0] - a[0])
    return step, a[1] * (1.0 - share) + b[1] * share


def thin(knots: Knots, tolerance: float, most: int) -> tuple[Knots, float]:
    """Fewer knots for the same values.

    Args:
        knots: The knots.
        tolerance: Largest error of a value as they are.
        most: How many to leave at most, at least 2.

    Returns:
        The knots that are left, and the largest error of a value with them.
    """
    # Two curves of lines are as near everywhere as they are at the knots of both.
    peak = max(value for _, value in knots)
    while len(knots) > most:
        more = max(tolerance, TOLERANCE * peak, sys.float_info.min)
        builder = KnotBuilder(max_knots=len(knots) + 1, tolerance=0.0)
        builder._peak, builder._slack = peak, more
        for step, value in knots:
            builder.add(step, value)
        knots = builder.knots()
        tolerance = min(tolerance + more, sys.float_info.max)
    return knots, tolerance


def _step_of(knot: tuple[int, float]) -> int:
    return knot[0]
