"""Reports as pictures: learning curves, the joint law, residuals, the track record. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from foretrain.axes import AXES
from foretrain.cli.drawing import BAND, plain_text, scale_log, start
from foretrain.cli.output import count, visible
from foretrain.laws import LAWS
from foretrain.laws.law import Array
from foretrain.report import LawFit, Report

LEVEL = "0.9"
MOST_NAMED = 12
"""Runs up to which a legend names each."""


def draw(reports: Sequence[Report]) -> dict[str, Any]:
    """The pictures of one study's reports.

    Args:
        reports: Of one metric along one axis; at least one.

    Returns:
        matplotlib's figures by name; only those for which the reports have something to show.

    Raises:
        CommandError: If matplotlib is not installed.
    """
    reports = sorted(reports, key=lambda report: (report.params or 0.0, report.run))
    with plain_text():
        drawn = {name: draws(reports) for name, draws in _FIGURES.items()}
    return {name: figure for name, figure in drawn.items() if figure is not None}


def _colours(reports: Sequence[Report]) -> dict[str, Any]:
    """A colour a run, from dark for the smallest model to light for the largest."""
    import matplotlib

    sizes = sorted({report.params or 0.0 for report in reports})
    if len(sizes) > 1:
        scale = matplotlib.colormaps["viridis"]
        return {r.run: scale(0.9 * sizes.index(r.params or 0.0) / (len(sizes) - 1)) for r in reports}
    scale = matplotlib.colormaps["tab10"]
    return {report.run: scale(place % 10) for place, report in enumerate(reports)}


def _finish(axes: Any, reports: Sequence[Report], logarithmic: str) -> None:
    """Sets the axes, once everything is drawn, and names the runs where they are few."""
    for which in logarithmic:
        scale_log(axes, which)
    if 0 < len(reports) <= MOST_NAMED:
        # matplotlib leaves out labels that begin with "_".
        handles, labels = axes.get_legend_handles_labels()
        axes.legend(handles, [f" {label}" for label in labels], fontsize="small")


def _curves(reports: Sequence[Report]) -> Any:
    known = [report for report in reports if report.points]
    if not known:
        return None
    first = known[0]
    figure, axes = start("Learning curves, projected", AXES[first.axis].unit, first.metric)
    colours = _colours(known)
    for report in known:
        x, y = np.array(report.points).T
        colour, band = colours[report.run], report.curve
        axes.plot(x, y, ".", color=colour, markersize=3, label=f" {visible(report.run, 40)}")
        if band is not None and LEVEL in band.lower:
            within = np.array(band.x) <= 10 * x[-1]
            at, median, lower, upper = (
                np.array(values)[within]
                for values in (band.x, band.median, band.lower[LEVEL], band.upper[LEVEL])
            )
            axes.plot(at, median, color=colour, linewidth=1)
            axes.fill_between(at, lower, upper, color=colour, **BAND)
    _finish(axes, known, "xy")
    return figure


def _joint(reports: Sequence[Report]) -> Any:
    found = next((r for r in reports if r.joint is not None and r.joint.by_size is not None), None)
    if found is None or found.joint is None or found.joint.by_size is None:
        return None
    joint, band = found.joint, found.joint.by_size
    at = joint.at_data or 0.0
    title = f"Model size, at {count(at)} {AXES[found.axis].unit}"
    figure, axes = start(title, "trainable parameters", found.metric)
    axes.plot(band.x, band.median, color="0.3", linewidth=1)
    if LEVEL in band.lower:
        axes.fill_between(band.x, band.lower[LEVEL], band.upper[LEVEL], color="0.3", **BAND)
    colours = _colours(reports)
    for report in reports:
        value = _value_at(report, at)
        if value is not None and report.params:
            marker = "o" if report.run in joint.runs else "x"
            axes.plot(
                report.params,
                value,
                marker,
                color=colours[report.run],
                label=f" {visible(report.run, 40)}{'' if marker == 'o' else ' (left out)'}",
            )
    _finish(axes, reports, "xy")
    return figure


def _value_at(report: Report, at: float) -> float | None:
    """The run's value at an amount of data, on the line between two points of the log-log plot."""
    if not report.points or not report.points[0][0] <= at <= report.points[-1][0] * (1 + 1e-9):
        return None
    x, y = np.log(np.array(report.points)).T
    return float(np.exp(np.interp(np.log(at), x, y)))


def residuals(reports: Sequence[Report]) -> tuple[str, dict[str, tuple[Array, Array]]]:
    """How far the points lie from the law, as log ratios.

    Returns:
        The law in words, and of each run the data and the residuals, both of shape (n,). Of the joint law
        where there is one; of each run's own law of the largest weight otherwise.
    """
    joint = next((r.joint for r in reports if r.joint is not None and r.joint.fit is not None), None)
    found: dict[str, tuple[Array, Array]] = {}
    for report in reports:
        law = joint.fit if joint is not None else max(report.fits, key=lambda f: f.weight, default=None)
        if law is None or not report.points or (joint is not None and report.run not in joint.runs):
            continue
        x, y = np.array(report.points).T
        predicted = _predict(law, x, report.params or 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            off = np.log(y / predicted)
        kept = np.isfinite(off)
        if kept.any():
            found[report.run] = (x[kept], off[kept])
    return "the joint law" if joint is not None else "each run's own law", found


def _predict(law: LawFit, x: Array, params: float) -> Array:
    known = LAWS[law.law]
    theta = np.array([law.parameters[parameter.name] for parameter in known.parameters])
    at = np.stack([np.full_like(x, params), x]) if known.n_axes == 2 else x[None]
    with np.errstate(all="ignore"):
        return np.asarray(known.value(at, theta))


def _residuals(reports: Sequence[Report]) -> Any:
    what, found = residuals(reports)
    if not found:
        return None
    axis = AXES[reports[0].axis].unit
    figure, axes = start(f"Distance from {what}", axis, "percent above the law")
    axes.axhline(0, color="0.3", linewidth=1)
    colours = _colours(reports)
    for run, (x, off) in found.items():
        axes.plot(
            x, 100 * np.expm1(off), ".-", color=colours[run], linewidth=0.5, label=f" {visible(run, 40)}"
        )
    _finish(axes, list(reports), "x")
    return figure


def _track(reports: Sequence[Report]) -> Any:
    scored = [report for report in reports if report.state == "finished" and report.track]
    if not scored:
        return None
    told = [past for report in scored for past in report.track]
    inside = sum(past.inside() for past in told)
    figure, axes = start(
        f"Past forecasts of the end: {inside} of {len(told)} inside their 90 % interval",
        "share of the training done when it was made",
        "forecast over what came",
    )
    axes.axhline(1, color="0.3", linewidth=1)
    colours = _colours(reports)
    for place, report in enumerate(scored):
        # A little to the side, so that bars at the same share do not hide each other.
        side = 0.01 * (place - (len(scored) - 1) / 2) if len(scored) <= MOST_NAMED else 0.0
        for number, past in enumerate(report.track):
            if LEVEL in past.lower and past.came > 0:
                axes.errorbar(
                    past.share + side,
                    past.median / past.came,
                    yerr=[
                        [max((past.median - past.lower[LEVEL]) / past.came, 0.0)],
                        [max((past.upper[LEVEL] - past.median) / past.came, 0.0)],
                    ],
                    fmt="o",
                    markersize=4,
                    color=colours[report.run],
                    label=f" {visible(report.run, 40)}" if number == 0 else None,
                )
    _finish(axes, scored, "")
    return figure


_FIGURES: dict[str, Callable[[Sequence[Report]], Any]] = {
    "curves": _curves,
    "joint": _joint,
    "residuals": _residuals,
    "track": _track,
}
