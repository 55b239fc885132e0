"""What goes into TensorBoard's own tabs: charts with margins, a table, hyperparameters and a picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from foretrain.lightning.logging import serve_writers
from foretrain.report import Report

MOST_READ = 2**24  # bytes of event files that are looked through during training: some milliseconds,
MOST_READ_LAST = 2**28  # and at its end


def lay_out(
    loggers: Iterable[Any], metric: str, names: Mapping[str, str], values: Mapping[str, float]
) -> list[str]:
    """Lays out the projections with their intervals, unless the run has a layout; as `logging.tell`.

    Args:
        loggers: The Trainer's loggers.
        metric: Name of the metric.
        names: Names of the scalars in the logger, by what they are called where a monitor is alone.
        values: What is known of them now, by the latter.
    """
    from foretrain.tensorboard.standard import LAYOUT_TAG, charted, is_free, layout

    charts = layout(metric, {name: names[name] for name in charted(names, values)})

    def write(writer: Any) -> None:
        if charts and is_free(writer, LAYOUT_TAG, MOST_READ):
            writer.add_custom_scalars(charts)

    return serve_writers(loggers, write)


def tabulate(loggers: Iterable[Any], report: Report, step: int, prefix: str) -> list[str]:
    """Writes the report's numbers, flags and doubts as a table; as `logging.tell`.

    Args:
        loggers: The Trainer's loggers.
        report: The report.
        step: The step of now.
        prefix: Start of the names of this monitor's scalars.
    """
    from foretrain.tensorboard.standard import table

    return serve_writers(loggers, lambda writer: writer.add_text(f"{prefix}report", table(report), step))


def sum_up(loggers: Iterable[Any], report: Report, step: int, prefix: str, *, draw: bool) -> list[str]:
    """Writes what is known at the end: size, data and compute as hyperparameters, and a picture.

    A run whose module or script logs hyperparameters keeps those alone: TensorBoard reads one set of a run.

    Args:
        loggers: The Trainer's loggers.
        report: The last report.
        step: The step of now.
        prefix: Start of the names of this monitor's scalars.
        draw: Whether the picture, which takes a second, is wanted; there is none without matplotlib.
    """
    from foretrain.tensorboard.picture import picture
    from foretrain.tensorboard.standard import SESSION_TAG, is_free, session, write_session

    loggers = list(loggers)
    own = {id(logger) for logger in loggers if getattr(logger, "hparams", None)}
    values = session(report)

    def tell(writer: Any) -> None:
        if is_free(writer, SESSION_TAG, MOST_READ_LAST):
            write_session(writer, values)

    failures = serve_writers((logger for logger in loggers if id(logger) not in own), tell)
    image: Any = None

    def show(writer: Any) -> None:
        nonlocal image
        if image is None:
            image = picture(report)
        if image is not None:
            writer.add_image(f"{prefix}projection", image, step, dataformats="HWC")

    return failures + (serve_writers(loggers, show) if draw else [])
