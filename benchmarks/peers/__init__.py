"""Ways to extrapolate one learning curve, ours among them, each behind one function.

Every method takes `(x, y, at)`, where it is fitted, the error there, and where to predict, and answers with a
median and, where it has any, central intervals by nominal level.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

import foretrain
from curves import Curve
from peers import broken, m1_m4, packages
from peers.answer import LEVELS, Answer, Intervals, Timed
from peers.hoffmann import huber
from peers.resampling import bootstrap

__all__ = [
    "DEFAULT",
    "LEVELS",
    "METHODS",
    "Answer",
    "Intervals",
    "Timed",
    "answer",
    "answers",
    "installed",
    "packages",
]

Method = Callable[[np.ndarray, np.ndarray, np.ndarray], Answer]

M4_LIMITS: dict[str, tuple[float, float | None]] = {
    "IC": (1.0, 1.0),
    "BB": (1.001, 1.0),
    "NMT": (1.0, None),
    "LM": (1.0, None),
    "LCDB": (1.0, 1.0),
}
"""M4's first upper limit and the bound on it, by domain: its authors' for their own four. A domain without a
row, and a curve that reaches 1, begins just above its largest error, without a bound."""


def ours(x: np.ndarray, y: np.ndarray, at: np.ndarray) -> Answer:
    """`foretrain.forecast`."""
    result = foretrain.forecast(x, y, at, levels=LEVELS)
    return result.median, {level: (result.lower[level], result.upper[level]) for level in LEVELS}


def last_value(x: np.ndarray, y: np.ndarray, at: np.ndarray) -> Answer:
    """No extrapolation at all."""
    return np.full(at.shape, y[-1]), {}


def _point(estimate: Callable[..., np.ndarray]) -> Callable[..., Answer]:
    """A method of an estimator that has no intervals."""

    def method(x: np.ndarray, y: np.ndarray, at: np.ndarray, **settings: float | None) -> Answer:
        return estimate(x, y, at, **settings), {}

    return method


METHODS: dict[str, Callable[..., Answer]] = {
    "foretrain": ours,
    "M4": _point(m1_m4.m4),
    "curve_fit + bootstrap": bootstrap,
    "last value": last_value,
    "M1": _point(m1_m4.m1),
    "M2": _point(m1_m4.m2),
    "M3": _point(m1_m4.m3),
    "Huber": _point(huber),
    "BNSL": _point(broken.published),
    "BNSL, bounded": _point(broken.bounded),
    "simple-scaling-laws": packages.simple_scaling_laws("separable-power"),
    "simple-scaling-laws, shifted": packages.simple_scaling_laws("shifted-separable-power"),
    "simple-scaling-laws, broken": packages.simple_scaling_laws("broken-power"),
}
"""In the order of the tables. `DEFAULT` takes seconds a curve at most; from M2 on, some take more."""
DEFAULT = tuple(METHODS)[:4]


def _for_curve(name: str, curve: Curve) -> Method:
    if name == "M4" and curve.domain in M4_LIMITS and curve.y.max() < 1:
        start, bound = M4_LIMITS[curve.domain]
        return partial(METHODS[name], start=start, bound=bound)
    return METHODS[name]


def answer(name: str, curve: Curve) -> Timed:
    """What a method says of a curve's held-out points, and how much processor time it took.

    Where it fails or has no positive number to offer, the last value stands in, and `failed` says so.
    """
    begun = time.process_time()
    try:
        median, intervals = _for_curve(name, curve)(curve.x, curve.y, curve.x_far)
    except (ValueError, TypeError, RuntimeError, FloatingPointError, np.linalg.LinAlgError):
        median, intervals = np.full(curve.x_far.shape, np.nan), {}
    seconds = time.process_time() - begun
    good = np.isfinite(median) & (median > 0)
    return Timed(np.where(good, median, curve.y[-1]), intervals, seconds, not good.all())


def installed(names: Sequence[str]) -> list[str]:
    """Those methods whose packages are there; of the others it says that they are not."""
    for name in names:
        if (package := packages.missing(name)) is not None:
            print(f"{name}: {package} is not installed, left out (see --peers-path)")
    return [name for name in names if packages.missing(name) is None]


def answers(names: Sequence[str], curves: Sequence[Curve]) -> dict[str, list[Timed]]:
    """`answer` of each method on each curve, behind a progress bar."""
    from rich.progress import track

    said: dict[str, list[Timed]] = {name: [] for name in names}
    for curve in track(curves, "curves", transient=True):
        for name in names:
            said[name].append(answer(name, curve))
    return said
