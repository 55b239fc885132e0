"""How every picture begins and ends: axes, logarithmic scales, files. Needs matplotlib."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from foretrain.cli.output import CommandError, visible

SIZE, RESOLUTION = (8.0, 5.0), 120.0
BAND = {"alpha": 0.15, "linewidth": 0.0}


@contextmanager
def plain_text() -> Iterator[None]:
    """Within it names are no formulas: "$" in one is printed as it is.

    Raises:
        CommandError: If matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        raise CommandError("Pictures need matplotlib: pip install 'foretrain[report]'.") from None
    with matplotlib.rc_context({"text.parse_math": False, "axes.formatter.use_mathtext": False}):
        yield


def render(figure: Any, kind: str) -> bytes:
    """A figure as the bytes of a file.

    Args:
        figure: From `figures.draw` or `figures_study.draw_study`.
        kind: "svg" or "png". Neither holds a date: the same reports give the same file.
    """
    import matplotlib

    file = io.BytesIO()
    # Text as outlines, so that the picture needs no font; a salt, so that the same picture is the same file.
    with matplotlib.rc_context({"svg.hashsalt": "foretrain", "svg.fonttype": "path"}):
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(file, format=kind, dpi=RESOLUTION, metadata=metadata)
    return file.getvalue()


def start(title: str, x: str, y: str) -> tuple[Any, Any]:
    """A figure and its axes, with a title and labels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    axes.set_title(visible(title), loc="left")
    axes.set_xlabel(visible(x))
    axes.set_ylabel(visible(y))
    axes.grid(visible=True, which="major", alpha=0.3)
    return figure, axes


def scale_log(axes: Any, which: str) -> None:
    """Makes the "x" or "y" axis logarithmic, once everything is drawn."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    getattr(axes, f"set_{which}scale")("log")
    axis = getattr(axes, f"{which}axis")
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    low, high = axis.get_view_interval()
    axis.set_minor_formatter(
        FuncFormatter(lambda value, _: f"{value:.3g}") if high < 10 * low else NullFormatter()
    )
