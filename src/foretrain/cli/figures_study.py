"""What a study's runs of several sizes say, as pictures: the joint law, the frontier, equal compute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from foretrain.axes import AXES
from foretrain.cli.drawing import BAND, plain_text, scale_log, start
from foretrain.cli.output import count
from foretrain.decisions import Isoflop, Planner, StudyPoints, envelope
from foretrain.decisions.isoflop import NO_EQUAL_COMPUTE, equal_compute
from foretrain.laws.law import Array

LEVEL = 0.9
MOST_SLICES = 8
"""Sizes that have a slice of the law, evenly among those there are."""

AHEAD = 100.0
"""The frontier is drawn up to this many times the largest compute."""


def isoflop(points: StudyPoints) -> Isoflop:
    """Curves of equal compute at budgets that at least four sizes have reached, along the data seen."""
    return equal_compute(points.n, points.seen, points.y, points.per)


def missing(planner: Planner, points: StudyPoints) -> dict[str, str]:
    """What the study does not identify, by the name of the picture, with what would help."""
    why = " ".join(reason.sentence for reason in planner.blocking)
    told = {}
    if why:
        advice = planner.next_run().sentence
        told = {name: f"{why} {advice}" for name in ("slices", "frontier", "law_residuals")}
    if not isoflop(points).budgets.size:
        told["isoflop"] = NO_EQUAL_COMPUTE
    return told


def draw_study(planner: Planner, points: StudyPoints) -> dict[str, Any]:
    """The pictures of what a study identifies.

    Args:
        planner: From `foretrain.decisions.from_study`.
        points: From the same.

    Returns:
        matplotlib's figures by name; those that are not there are in `missing`.

    Raises:
        CommandError: If matplotlib is not installed.
    """
    without = missing(planner, points)
    with plain_text():
        return {name: draws(planner, points) for name, draws in _FIGURES.items() if name not in without}


def _shades(places: Array) -> list[Any]:
    import matplotlib

    return [matplotlib.colormaps["viridis"](0.9 * i / max(len(places) - 1, 1)) for i in range(len(places))]


def _slices(planner: Planner, points: StudyPoints) -> Any:
    sizes = np.unique(points.n)
    sizes = sizes[np.unique(np.linspace(0, len(sizes) - 1, min(len(sizes), MOST_SLICES)).astype(int))]
    figure, axes = start("The joint law, one slice for each size", AXES[points.axis].unit, points.metric)
    for size, colour in zip(sizes, _shades(sizes), strict=True):
        own = points.n == size
        at = np.geomspace(points.d.min(), 10 * points.d.max(), 40)
        told = planner.final_loss(np.full_like(at, size), at)
        axes.plot(at, told.median, color=colour, linewidth=1)
        axes.fill_between(at, told.lower[LEVEL], told.upper[LEVEL], color=colour, **BAND)
        axes.plot(points.d[own], points.y[own], ".", color=colour, label=f"{count(size)} parameters")
    scale_log(axes, "x")
    scale_log(axes, "y")
    axes.legend(fontsize="small")
    return figure


def _frontier(planner: Planner, points: StudyPoints) -> Any:
    compute = points.per * points.n * points.seen
    at = np.geomspace(compute.min(), AHEAD * compute.max(), 60)
    draws, _ = planner.advice.optimum(at[:, None], points.per)
    lower, median, upper = np.quantile(draws, [0.5 - LEVEL / 2, 0.5, 0.5 + LEVEL / 2], axis=1)
    figure, axes = start("The best size for a budget", "training FLOPs", "parameters")
    axes.plot(compute, points.n, ".", color="0.75", markersize=4, label="all points")
    best_at, best_n, _ = envelope(points.n, points.seen, points.y, per=points.per)
    axes.plot(best_at, best_n, ".", color="tab:orange", label="no other reached its error with less compute")
    by = "by the joint law or by equal compute" if planner.contrary else "by the joint law"
    axes.plot(at, median, color="tab:blue", linewidth=1, label=f"compute-optimal, {by}")
    axes.fill_between(at, lower, upper, color="tab:blue", **BAND)
    found = isoflop(points)
    inside = [(c, best) for c, best in zip(found.budgets, found.optima, strict=True) if best.inside]
    if inside:
        n = np.array([best.n for _, best in inside])
        spread = 1.645 * np.nan_to_num(np.array([best.log_n_std for _, best in inside]))
        axes.errorbar(
            [c for c, _ in inside],
            n,
            yerr=[n - n * np.exp(-spread), n * np.exp(spread) - n],
            fmt="s",
            markersize=4,
            color="tab:red",
            label="best of equal compute",
        )
    scale_log(axes, "x")
    scale_log(axes, "y")
    axes.legend(fontsize="small")
    return figure


def _isoflop(planner: Planner, points: StudyPoints) -> Any:
    del planner
    found = isoflop(points)
    figure, axes = start("Equal compute", "parameters", points.metric)
    for budget, sizes, losses, best, colour in zip(
        found.budgets, found.sizes, found.losses, found.optima, _shades(found.budgets), strict=True
    ):
        axes.plot(sizes, losses, ".-", color=colour, linewidth=1, label=f"{budget:.3g} FLOPs")
        if best.inside:
            axes.plot(best.n, best.loss, "*", color=colour, markersize=12)
    scale_log(axes, "x")
    scale_log(axes, "y")
    axes.legend(fontsize="small")
    return figure


def law_residuals(planner: Planner, points: StudyPoints) -> Array:
    """How far each point lies from the joint law, ln(error / law), shape (m,)."""
    told = np.median(planner.trade_off.loss(points.n[:, None], points.d[:, None]), axis=1)
    return np.asarray(np.log(points.y / told))


def _law_residuals(planner: Planner, points: StudyPoints) -> Any:
    off = law_residuals(planner, points)
    figure, axes = start(
        "Distance of the entering points from the joint law",
        AXES[points.axis].unit,
        "percent above the law",
    )
    axes.axhline(0, color="0.3", linewidth=1)
    sizes = np.unique(points.n)
    for size, colour in zip(sizes, _shades(sizes), strict=True):
        own = points.n == size
        label = f"{count(size)} parameters" if len(sizes) <= MOST_SLICES else None
        axes.plot(points.d[own], 100 * np.expm1(off[own]), ".", color=colour, label=label)
    scale_log(axes, "x")
    if len(sizes) <= MOST_SLICES:
        axes.legend(fontsize="small")
    return figure


_FIGURES: dict[str, Callable[[Planner, StudyPoints], Any]] = {
    "slices": _slices,
    "frontier": _frontier,
    "isoflop": _isoflop,
    "law_residuals": _law_residuals,
}
