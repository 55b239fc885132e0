"""One falling curve of `N^kappa t` for all sizes, against time alone and an additive law."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foretrain.fitting import fit
from foretrain.laws import LAWS
from foretrain.laws.law import Array
from foretrain.timescale.curves import Falling, TimeCurve, isotonic, until_lowest

MOST_POINTS = 40
"""A curve enters the comparison with so many points at most, evenly spaced in ln time."""


@dataclass(frozen=True)
class Collapse:
    """How well one curve serves all sizes.

    Attributes:
        residual: Standard deviation of ln error about the one curve, over that of ln error.
        held_out: Root mean square of ln error about the curve of the other sizes, for each size in turn.
        time_alone: The same where the curve is one of time alone (kappa 0).
        additive: The same for `E + a t^-alpha + b N^-beta` fitted to the other sizes.
    """

    residual: float
    held_out: float
    time_alone: float
    additive: float


def compare_collapse(
    curves: Sequence[TimeCurve],
    kappa: float,
    refit: Callable[[NDArray[np.bool_]], float],
) -> Collapse:
    """Compares one curve of `N^kappa t` with the alternatives, on sizes that were left out.

    Args:
        curves: The runs, of at least four sizes. What comes after their lowest error is not part of the
            claim.
        kappa: The exponent measured on all of them.
        refit: The exponent measured on the chosen ones alone, shape (c,) of booleans.

    Returns:
        The residuals. A left-out size is judged only where the others have been: no curve is extrapolated.
    """
    parts = [_thinned(*until_lowest(curve)) for curve in curves]
    sizes = np.log([curve.params for curve in curves])
    log_t, log_y = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    log_n = np.repeat(sizes, [part[0].size for part in parts])
    together = _one_curve(log_t + kappa * log_n, log_y)
    residual = float((log_y - together.read(log_t + kappa * log_n)).std() / log_y.std())
    squares, count = np.zeros(3), 0
    for size in np.unique(sizes):
        others, mine = log_n != size, log_n == size
        exponent = refit(sizes != size)
        z = log_t + exponent * log_n
        known = mine & _within(z, others) & _within(log_t, others)
        if not known.any():
            continue
        law = LAWS["chinchilla"]
        added = fit(law, np.exp(np.stack([log_n[others], log_t[others]])), np.exp(log_y[others]))
        at = np.exp(np.stack([log_n[known], log_t[known]]))
        told = (
            _one_curve(z[others], log_y[others]).read(z[known]),
            _one_curve(log_t[others], log_y[others]).read(log_t[known]),
            np.log(added.predict(at)),
        )
        squares += [float(((log_y[known] - values) ** 2).sum()) for values in told]
        count += int(known.sum())
    held_out, time_alone, additive = np.sqrt(squares / max(count, 1))
    return Collapse(residual, float(held_out), float(time_alone), float(additive))


def _one_curve(z: Array, log_y: Array) -> Falling:
    order = np.argsort(z, kind="stable")
    return isotonic(z[order], log_y[order])


def _within(values: Array, others: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.asarray((values >= values[others].min()) & (values <= values[others].max()))


def _thinned(log_time: Array, log_error: Array) -> tuple[Array, Array]:
    """The points of a curve that enter: the nearest to places evenly spaced in ln time."""
    places = np.linspace(log_time[0], log_time[-1], MOST_POINTS)
    chosen = np.unique(np.abs(places[:, None] - log_time).argmin(axis=1))
    return log_time[chosen], log_error[chosen]
