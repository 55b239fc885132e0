"""Where equal compute contradicts the joint law: that it does, and draws that leave open which is right."""

from __future__ import annotations

import numpy as np

from foretrain.decisions.allocation import FLOPS_PER_WEIGHT, JointLaw
from foretrain.decisions.isoflop import FEWEST_BUDGETS, Isoflop
from foretrain.laws.law import Array

ENDS = (0.05, 0.95)
"""The two contradict each other where their 90% intervals have nothing in common."""

BY_LAW, BY_EQUAL_COMPUTE = 0.2, 0.6
"""Shares of the draws for each of the two; the rest lie between. Equal compute rests on no form of a law.
Where the two contradict each other on the runs of Porian et al. 2024, it told the best size for 4 to 64 times
the compute of the runs it knew within 8 to 15 %, the joint law was off five to eight times; but one suite of
runs is no proof, so a fifth keeps the law inside the 90 % interval."""

LEAST, MOST = 0.01, 0.99
"""An exponent of the best size is held between: at 0 or 1 one of the law's own would be infinite."""


def disagreement(law: JointLaw, found: Isoflop, per: float = FLOPS_PER_WEIGHT) -> str:
    """A sentence where equal compute and the joint law do not agree on the best size; else empty.

    They are compared by how the best size grows, and by what it is for the least and the most compute at
    which it was read off the runs.

    Args:
        law: Draws of the law, `Planner.trade_off`.
        found: From the same runs.
        per: FLOPs for each parameter and unit of data.
    """
    inside = [budget for budget, best in zip(found.budgets, found.optima, strict=True) if best.inside]
    if found.growth is None or len(inside) < FEWEST_BUDGETS or not found.draws.size:
        return ""
    exponent, log_k = found.draws
    ours, theirs = (np.quantile(draws, ENDS) for draws in (law.growth()[0], exponent))
    told = ""
    if _apart(ours, theirs):
        told = (
            f"The best sizes of equal compute grow like compute to the power of {found.growth.exponent:.2f} "
            f"({theirs[0]:.2f} to {theirs[1]:.2f}), by the joint law it is {ours[0]:.2f} to {ours[1]:.2f}: "
        )
    for budget in () if told else (inside[-1], inside[0]):
        ours = np.quantile(law.optimum(budget, per)[0], ENDS)
        theirs = np.exp(np.quantile(log_k + exponent * np.log(budget), ENDS))
        if _apart(ours, theirs):
            told = (
                f"For {budget:.3g} FLOPs the best size of equal compute is {theirs[0]:.3g} to "
                f"{theirs[1]:.3g} parameters, by the joint law {ours[0]:.3g} to {ours[1]:.3g}: "
            )
            break
    if not told:
        return ""
    return (
        f"{told}the law does not hold for these runs. Trust the sizes of equal compute, within the budgets "
        "that were run; the intervals of best sizes hold both."
    )


def _apart(ours: Array, theirs: Array) -> bool:
    """Whether two intervals have nothing in common."""
    return bool(ours[1] < theirs[0] or theirs[1] < ours[0])


def either(law: JointLaw, found: Isoflop, per: float, seed: int = 0) -> JointLaw:
    """Draws that leave open whether the joint law or equal compute is right about the best size.

    A fifth are the law's. Three fifths have the growth of equal compute in its place, and the law's least
    error for each budget, which hardly depends on it. A fifth lie between the two, anywhere: a law that is
    wrong may be wrong in part.

    Args:
        law: Draws of the law, each parameter of shape (m,).
        found: From the same runs, with draws of its growth.
        per: FLOPs for each parameter and unit of data.
        seed: The same seed gives the same draws.
    """
    rng = np.random.default_rng(seed)
    exponent, log_g = law.growth()
    other, log_k = found.draws[:, rng.integers(found.draws.shape[1], size=exponent.size)]
    between_them = 1.0 - BY_LAW - BY_EQUAL_COMPUTE
    part = np.clip((rng.uniform(size=exponent.size) - BY_LAW) / between_them, 0.0, 1.0)

    def between(ours: Array, theirs: Array) -> Array:
        return (1.0 - part) * ours + part * theirs

    return law.with_growth(
        np.clip(between(exponent, other), LEAST, MOST), between(log_g, log_k + other * np.log(per))
    )
