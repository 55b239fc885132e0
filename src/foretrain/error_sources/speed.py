"""Whether errors fall with data as a power law, slower, or faster than any power law."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from foretrain.hestness.law import Estimate
from foretrain.inputs import positive, same_length
from foretrain.laws.law import Array
from foretrain.status import Coded

FALSE_ALARMS = 0.01
"""Rate at which a power law with independent normal noise is called faster, or slower, than one."""

RELEVANT_BEND = 0.25
"""A bend matters where it changes the exponent along the points judged by this share."""

ZERO = 1e-6
"""An error below this share of the largest one counts as zero."""

DECADE = 10.0
MIN_POINTS = 6
MIN_SIZES = 4
MIN_SPAN = 3.0


class Verdict(Coded):
    """How fast errors fall with data."""

    POWER_LAW = ("power_law", "The error falls as a power law of the data.")
    FASTER = (
        "faster_than_power_law",
        "The error falls faster than any power law: a power law would promise too little of more data.",
    )
    SLOWER = (
        "slower_than_power_law",
        "The error falls slower than a power law, as it does towards a floor.",
    )
    NOT_FALLING = ("not_falling", "The error does not fall with the data.")
    UNCLEAR = (
        "unclear",
        "The points are too few, too near each other or too noisy to tell: train on more amounts of data.",
    )


@dataclass(frozen=True)
class LearningSpeed:
    """How fast errors fall with data.

    Attributes:
        verdict: What the points say.
        exponent: Of the power law through the points judged, positive where the error falls, with a 90%
            interval; NaN where there are too few.
        bend: By how much the exponent grows along those points, as a share of it, with a 90% interval; NaN
            where there are too few.
        zero_from: Amount of data from which all errors count as zero; None where they never do.
        before_zero: The largest amount whose error does not; None where all or none do.
        judged: How many points the verdict rests on.
    """

    verdict: Verdict
    exponent: Estimate
    bend: Estimate
    zero_from: float | None
    before_zero: float | None
    judged: int


def judge_speed(data: ArrayLike, error: ArrayLike) -> LearningSpeed:
    """Tells whether errors fall as a power law of the data, slower, or faster than any power law.

    The last decade of data is judged, since curves begin flat. A parabola is fitted to ln error against ln
    data: a power law has no curvature, one with a floor has a positive one. Where the curvature differs from
    zero by Student's t at 1%, and the exponent changes by a quarter or more along the points, it is no power
    law. Else it is one, if the exponent's interval excludes 0; `bend` says how much of one remains possible.

    Errors below a millionth of the largest count as zero. Where all are from some amount on, and the largest
    amount before is not, the error has left every power law that the points before allow: the first zero is
    compared with the 99% prediction interval of theirs.

    Args:
        data: Training examples of each run, shape (n,), in any order. Positive.
        error: Error of each run, shape (n,). Positive: give an exact zero as a small number. Runs should have
            been trained on independent samples of the data.

    Returns:
        The verdict with its figures.

    Raises:
        ValueError: If a number is not positive and finite, or the lengths differ.

    References:
        Rosenfeld 2021, arXiv:2108.07686 (Nyquist learners); Sorscher et al. 2022, arXiv:2206.14486 (data
        selection). The test is ours.
    """
    m, e = positive("data", data), positive("error", error)
    same_length(data=m, error=e)
    order = np.argsort(m, kind="stable")
    m, e = m[order], e[order]
    is_zero = e <= ZERO * e.max()
    sizes = np.unique(m)
    zeros = np.array([is_zero[m == size].all() for size in sizes])
    last_nonzero = int(np.flatnonzero(~zeros)[-1])
    zero_from = float(sizes[last_nonzero + 1]) if last_nonzero + 1 < sizes.size else None
    before = None if zero_from is None else float(sizes[last_nonzero])
    known = m <= sizes[last_nonzero]
    x, y = np.log(m[known]), np.log(e[known])
    if zero_from is not None and np.unique(x).size >= MIN_SIZES and _leaves(x, y, m, e, zero_from):
        return LearningSpeed(Verdict.FASTER, *_figures(x, y), zero_from, before, int(known.sum()))
    late = x >= x[-1] - np.log(DECADE)
    x, y = x[late], y[late]
    exponent, bend = _figures(x, y)
    verdict = _verdict(x, y, exponent)
    return LearningSpeed(verdict, exponent, bend, zero_from, before, x.size)


def _leaves(x: Array, y: Array, m: Array, e: Array, zero_from: float) -> bool:
    """Whether the first zeros lie below what the power law of the points before allows."""
    design = np.stack([np.ones_like(x), x], axis=1)
    slope, freedom, variance, inverse = _least_squares(design, y)
    at = np.array([1.0, np.log(zero_from)])
    spread = np.sqrt(variance * (1 + at @ inverse @ at))
    lowest = at @ slope + stdtrit(freedom, FALSE_ALARMS / 2) * spread
    return bool(np.log(e[m == zero_from]).max() < lowest)


def _verdict(x: Array, y: Array, exponent: Estimate) -> Verdict:
    if x.size < MIN_POINTS or np.unique(x).size < MIN_SIZES or x[-1] - x[0] < np.log(MIN_SPAN):
        return Verdict.UNCLEAR
    if exponent.upper <= 0:
        return Verdict.NOT_FALLING
    coefficients, freedom, variance, inverse = _least_squares(_parabola(x), y)
    change = -2 * coefficients[2] * (x[-1] - x[0])
    deviation = 2 * (x[-1] - x[0]) * np.sqrt(variance * inverse[2, 2])
    critical = -float(stdtrit(freedom, FALSE_ALARMS / 2))
    if exponent.median > 0 and abs(change) > max(critical * deviation, RELEVANT_BEND * exponent.median):
        return Verdict.FASTER if change > 0 else Verdict.SLOWER
    return Verdict.POWER_LAW if exponent.lower > 0 else Verdict.UNCLEAR


def _figures(x: Array, y: Array) -> tuple[Estimate, Estimate]:
    """Exponent, and the change of it along the points as a share of it, with 90% intervals."""
    nothing = Estimate(np.nan, np.nan, np.nan)
    if np.unique(x).size < MIN_SIZES or x.size < MIN_POINTS:
        return nothing, nothing
    line, freedom, variance, inverse = _least_squares(np.stack([np.ones_like(x), x], axis=1), y)
    half = -float(stdtrit(freedom, 0.05)) * float(np.sqrt(variance * inverse[1, 1]))
    exponent = Estimate(-float(line[1]), -float(line[1]) - half, -float(line[1]) + half)
    curve, freedom, variance, inverse = _least_squares(_parabola(x), y)
    unit = 2 * float(x[-1] - x[0]) / max(abs(exponent.median), 1e-300)
    half = -float(stdtrit(freedom, 0.05)) * float(np.sqrt(variance * inverse[2, 2])) * unit
    change = -float(curve[2]) * unit
    return exponent, Estimate(change, change - half, change + half)


def _parabola(x: Array) -> Array:
    off = x - x.mean()
    return np.stack([np.ones_like(off), off, off**2], axis=1)


def _least_squares(design: Array, y: Array) -> tuple[Array, int, float, Array]:
    """Coefficients, degrees of freedom, variance of the residuals and the inverse of the normal matrix."""
    inverse = np.linalg.inv(design.T @ design)
    coefficients = inverse @ (design.T @ y)
    freedom = y.size - design.shape[1]
    residual = y - design @ coefficients
    return coefficients, freedom, max(float(residual @ residual) / freedom, 1e-24), inverse
