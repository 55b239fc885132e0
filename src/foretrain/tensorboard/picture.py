"""A report as a picture for TensorBoard's Images tab: log axes, law, interval, projections."""

from __future__ import annotations

import math
from typing import Any

from foretrain.report import NamedProjection, Report
from foretrain.tensorboard.plain import LEVEL
from foretrain.tensorboard.words import amount, unit

_SIZE, _DPI = (7.2, 4.5), 100  # inches, and pixels of each
_COLOR = "#3367a8"


def picture(report: Report) -> Any:
    """Draws the report.

    Args:
        report: The report.

    Returns:
        Red, green and blue of each pixel, of type uint8 and shape (height, width, 3); None where matplotlib
        is not installed or there is nothing to draw.
    """
    points = [(x, y) for x, y in report.points if 0 < x < math.inf and 0 < y < math.inf]
    ahead = [item for item in report.projections if 0 < item.data < math.inf and 0 < item.median < math.inf]
    if len(points) < 2 or not ahead:
        return None
    try:
        import numpy as np
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import FuncFormatter, NullFormatter
    except ImportError:
        return None
    # Not through pyplot, which would choose a backend and keep the figure.
    figure = Figure(figsize=_SIZE, dpi=_DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_xscale("log")
    axes.set_yscale("log")
    first, last = points[0][0], points[-1][0]
    far = max([last, *(item.data for item in ahead if item.name != "100x")])
    ends = [item for item in ahead if item.data <= far]
    _draw_law(axes, report, last, far)
    axes.plot(*zip(*points, strict=True), "o", color=_COLOR, markersize=4, label="measured")
    for item in ends:
        _draw_projection(axes, item)
    values = [y for _, y in points] + [item.median for item in ends]
    axes.set_xlim(first / 1.1, far * 1.25)
    axes.set_ylim(min(values) / 1.15, max(values) * 1.1)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: amount(x)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:.3g}"))
    axes.yaxis.set_minor_formatter(FuncFormatter(lambda y, _: f"{y:.3g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(which="both", labelsize=8)
    axes.grid(which="major", color="0.9")
    axes.set_xlabel(unit(report.axis), parse_math=False)
    axes.set_ylabel(report.metric[:80], parse_math=False)
    axes.set_title(report.run[-80:], fontsize=10, parse_math=False)
    axes.legend(fontsize=8, frameon=False)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _draw_law(axes: Any, report: Report, last: float, far: float) -> None:
    curve = report.curve
    if curve is None:
        return
    blank = (None,) * len(curve.x)
    rows = zip(
        curve.x,
        curve.median,
        curve.lower.get(LEVEL, blank),
        curve.upper.get(LEVEL, blank),
        strict=False,
    )
    drawn = [row for row in rows if row[1] is not None and row[0] <= far * 1.001]
    past, beyond = ([row for row in drawn if (row[0] <= last) == side] for side in (True, False))
    beyond = past[-1:] + beyond
    axes.plot([row[0] for row in past], [row[1] for row in past], color=_COLOR, label="law")
    axes.plot([row[0] for row in beyond], [row[1] for row in beyond], "--", color=_COLOR)
    band = [row for row in drawn if row[2] is not None and row[3] is not None]
    if band:
        x, _, lower, upper = zip(*band, strict=True)
        axes.fill_between(x, lower, upper, color=_COLOR, alpha=0.15, linewidth=0, label="90 % interval")


def _draw_projection(axes: Any, item: NamedProjection) -> None:
    low, high = item.lower.get(LEVEL), item.upper.get(LEVEL)
    if low is not None and high is not None:
        axes.plot([item.data, item.data], [low, high], color=_COLOR, linewidth=1.5)
    axes.plot([item.data], [item.median], "s", color=_COLOR, markerfacecolor="white", markersize=6)
    axes.annotate(
        item.name[:40],
        (item.data, item.median),
        xytext=(0, 9),
        textcoords="offset points",
        ha="center",
        fontsize=8,
        parse_math=False,
    )
