"""Whether size trades for training time, at which exponent, and whether one curve then serves all sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from foretrain.hestness.law import Estimate
from foretrain.laws.law import Array
from foretrain.timescale.collapse import Collapse, compare_collapse
from foretrain.timescale.curves import TimeCurve, falling_part

LEVELS = 10
"""At so many errors, evenly spaced in their logarithm, the times are compared."""

MIN_SIZES = 4
"""With fewer sizes nothing is left to tell how well time and size trade."""

OVERLAP = 1 / 3
"""The sizes compared must share this part of the whole range of ln error."""

GOOD = 0.1
"""Equivalence is reported only where the residual of the collapse is below this share of the spread."""

PUBLISHED = 1 / 3
"""Exponent of the claim: time for size^(1/3), the "model scale" of Boopathy and Fiete."""


@dataclass(frozen=True, eq=False)
class Equivalence:
    """How training time trades for model size: `error = g(N^kappa t)`, if it does.

    Attributes:
        kappa: The exponent, with a 90% interval.
        kappa_std: Its standard error, over sizes or runs drawn anew.
        freedom: Degrees of freedom of that.
        levels: The errors at which times were compared, shape (k,).
        params: Sizes compared, shape (j,), ascending.
        left_out: Sizes left out, since they never come down to errors that the others share.
        passages: Mean over the levels of ln time, of each curve compared, shape (c,).
        sizes: ln N of each curve compared, shape (c,).
        collapse: How well one curve serves all sizes, and how well the alternatives do.
        optimizer: Of all curves; None where unknown or mixed.
        constant_rate: Whether all were trained at a constant rate; None where unknown.
        holds: Whether the equivalence is supported.
        why: That in one sentence, with the figures.
    """

    kappa: Estimate
    kappa_std: float
    freedom: int
    levels: Array
    params: Array
    left_out: tuple[float, ...]
    passages: Array
    sizes: Array
    collapse: Collapse
    optimizer: str | None
    constant_rate: bool | None
    holds: bool
    why: str


def measure_equivalence(curves: Sequence[TimeCurve]) -> Equivalence:
    """Measures by how much more training a smaller model makes up for its size.

    Each curve is smoothed up to its lowest error so that it never rises. At ten errors that all of them go
    through, the time of first passage is regressed in logarithms on the size, with an effect of each level:
    `ln t = a_level - kappa ln N`. All curves pass all levels, so this is the regression of each curve's mean
    on its size, and the curves are the independent units. The standard error is that of the jackknife over
    curves, or over sizes where a size has several curves, since those share what the line misses; the
    interval is Student's. Then one falling curve is fitted to all points against `N^kappa t`, and compared
    with what time alone and the law `E + a t^-alpha + b N^-beta` say of a size that was left out.

    Sizes that stay above most errors of the others are left out, the worst first, until the rest share a
    third of the range: a model beyond its capacity reaches no lower error in any time, so nothing trades.

    Args:
        curves: Runs of one recipe at several sizes, trained on the same data.

    Returns:
        The exponent, and whether the equivalence is supported: residual of the collapse below 0.1 of the
        spread of ln error, nearer to left-out sizes than either alternative, and an exponent above zero.

    Raises:
        ValueError: If there are fewer than four sizes, or they share no range of errors.

    References:
        Boopathy and Fiete 2024, arXiv:2409.05782: the claim, for SGD at a constant rate. Its text could not
        be read in full; regression and collapse are ours.
    """
    kept, left_out = _sharing(curves)
    smooth = [falling_part(curve) for curve in kept]
    high = min(float(part.log_error[0]) for part in smooth)
    low = max(float(part.log_error[-1]) for part in smooth)
    margin = 0.02 * (high - low)
    levels = np.linspace(high - margin, low + margin, LEVELS)
    passages = np.array([part.first_passage(levels).mean() for part in smooth])
    sizes = np.log([curve.params for curve in kept])
    kappa, deviation, freedom = _regression(sizes, passages)
    half = float(stdtrit(freedom, 0.95)) * deviation
    collapse = compare_collapse(kept, kappa, lambda keep: _slope(sizes[keep], passages[keep]))
    optimizers = {curve.optimizer for curve in kept}
    constant = {curve.constant_rate for curve in kept}
    told = Estimate(kappa, kappa - half, kappa + half)
    why = _doubt(told, collapse)
    return Equivalence(
        kappa=told,
        kappa_std=deviation,
        freedom=freedom,
        levels=np.exp(levels),
        params=np.unique(np.exp(sizes).round(6)),
        left_out=left_out,
        passages=passages,
        sizes=sizes,
        collapse=collapse,
        optimizer=optimizers.pop() if len(optimizers) == 1 else None,
        constant_rate=constant.pop() if len(constant) == 1 else None,
        holds=not why,
        why=_sentence(collapse, why),
    )


def _sharing(curves: Sequence[TimeCurve]) -> tuple[list[TimeCurve], tuple[float, ...]]:
    """The curves that share enough of the range of errors, and the sizes left out."""
    kept = sorted(curves, key=lambda curve: curve.params)
    found = len({curve.params for curve in kept})
    if found < MIN_SIZES:
        raise ValueError(
            f"Expected curves of at least {MIN_SIZES} model sizes, got {found}: train more sizes."
        )
    whole = np.log(max(c.error[0] for c in kept)) - np.log(min(c.error.min() for c in kept))
    left_out: list[float] = []
    while True:
        shared = np.log(min(c.error[0] for c in kept)) - np.log(max(c.error.min() for c in kept))
        if shared >= OVERLAP * whole > 0:
            return kept, tuple(sorted(left_out))
        if len({curve.params for curve in kept}) == MIN_SIZES:
            break
        worst = max(kept, key=lambda curve: curve.error.min()).params
        left_out.append(worst)
        kept = [curve for curve in kept if curve.params != worst]
    if not shared > 0:
        raise ValueError(
            "Expected curves that go through the same errors, got none that four sizes share: measure the "
            "small models longer and the large ones earlier."
        )
    return kept, tuple(sorted(left_out))


def _slope(sizes: Array, passages: Array) -> float:
    centred = sizes - sizes.mean()
    return float(-(centred @ passages) / (centred @ centred))


def _regression(sizes: Array, passages: Array) -> tuple[float, float, int]:
    """Kappa, its standard error by the jackknife over clusters, and the degrees of freedom."""
    groups = np.unique(sizes)  # a size is a cluster; with one run a size that is the run
    without = np.array([_slope(sizes[sizes != size], passages[sizes != size]) for size in groups])
    spread = (groups.size - 1) / groups.size * ((without - without.mean()) ** 2).sum()
    return _slope(sizes, passages), float(np.sqrt(spread)), groups.size - 2


def _doubt(kappa: Estimate, collapse: Collapse) -> str:
    """Why size and time do not trade along one curve; empty if they do."""
    if collapse.residual >= GOOD:
        return f"more than {GOOD} is left, so size and time do not trade along one curve"
    if collapse.held_out >= collapse.additive:
        return "the additive law is nearer, so no equivalence is told"
    if collapse.held_out >= collapse.time_alone:
        return "time alone tells as much, so size does not trade with it"
    if kappa.lower <= 0:
        return "but the sizes do not tell kappa from 0, so no trade is told"
    return ""


def _sentence(collapse: Collapse, doubt: str) -> str:
    return (
        f"One curve of N^kappa t leaves {collapse.residual:.3f} of the spread of ln error, and misses a size "
        f"left out by {collapse.held_out:.1%}, against {collapse.time_alone:.1%} for time alone and "
        f"{collapse.additive:.1%} for the additive law: "
        f"{doubt or 'size and time trade along one curve'}."
    )
