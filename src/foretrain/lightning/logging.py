"""What loggers are told of a report: scalars with fixed names, one sentence, and the report itself."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from foretrain.flags import Flag, Severity
from foretrain.report import NamedProjection, Report
from foretrain.reporting.findings import ANNEALED, AS_PLANNED, NOT_ANNEALED

log = logging.getLogger(__name__)

LEVEL = "0.9"
FACTORS = ("2x", "10x", "100x")
SIZE_FACTORS = ("2x size", "10x size")
PLANNED_END = "planned end"
FLAGS = "scaling/flags"
STALE = "scaling/stale"
TRACK = "scaling/track_inside"
TOO_FEW_POINTS = (
    "too_few_points"  # a report's status, with which its projections are hardly more than a guess
)


def short(number: float) -> str:
    """A number as a part of a name: "300000", "1e6", "1.5e9"."""
    mantissa, _, exponent = f"{number:.6g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa


def scalar_names(
    axis: str,
    targets: Sequence[float],
    target_params: Sequence[float],
    *,
    planned: bool,
    annealed: bool = False,
) -> tuple[str, ...]:
    """The names of the scalars that a run logs by itself, to be told to a logger at once; see `scalars`.

    Those of larger models without a target come only with a study of several sizes, and are not among them.

    Args:
        axis: Name of the data axis.
        targets: Data amounts that the user asked for.
        target_params: Model sizes that the user asked for.
        planned: Whether the run has a planned end.
        annealed: Whether projections beyond the planned end follow a stretched schedule; see `anneals`.
    """
    data = [*FACTORS, *(f"{short(target)}_{axis}" for target in targets)]
    stems = [*data[: len(FACTORS)], *(["end"] if planned else []), *data[len(FACTORS) :]]
    stems += [f"{short(target)}_params" for target in target_params]
    names = [f"projected_{stem}" for stem in stems] + [f"annealed_{stem}" for stem in data if annealed]
    projected = (f"scaling/{name}{end}" for name in names for end in ("", "_lower", "_upper"))
    return (*projected, *flag_counts(()), TRACK, STALE, f"scaling/{axis}")


def anneals(report: Report) -> bool:
    """Whether a report's projections follow the run's schedule, so that those beyond it are annealed ones."""
    return report.schedule is not None and report.schedule.state == "followed"


def scalars(report: Report, targets: Sequence[float], target_params: Sequence[float]) -> dict[str, float]:
    """The scalars that a report has, by name; what it does not know is left out.

    A projection along this run's own schedule is `projected_...`; one of a run whose schedule is stretched to
    end there is `annealed_...`, so that the two never share a chart.

    Left out are also projections from too few points: their intervals, of many powers of ten, would set the
    scale of a chart for good.

    Args:
        report: The report.
        targets: Data amounts that the user asked for.
        target_params: Model sizes that the user asked for.
    """
    found: dict[str, float] = {}
    for projection in report.projections if report.status != TOO_FEW_POINTS else ():
        if projection.name in FACTORS:
            found |= _triple(projection.name, projection)
        elif projection.name == PLANNED_END:
            found |= _triple("end", projection)
        for target in targets:
            if _same(projection.data, target):
                found |= _triple(f"{short(target)}_{report.axis}", projection)
    for projection in report.joint.projections if report.joint is not None else ():
        if projection.name in SIZE_FACTORS:
            found |= _triple(projection.name.replace(" ", "_"), projection)
        for target in target_params:
            if projection.params is not None and _same(projection.params, target):
                found |= _triple(f"{short(target)}_params", projection)
    if found and report.points:
        found[f"scaling/{report.axis}"] = report.points[-1][0]
    if found:
        found |= flag_counts(report.flags)
        if report.track:
            found[TRACK] = sum(past.inside(LEVEL) for past in report.track) / len(report.track)
        found[STALE] = float(bool(report.stale))
    return {name: value for name, value in found.items() if math.isfinite(value)}


def flag_counts(flags: Iterable[Flag]) -> dict[str, float]:
    """How many flags of each severity there are, as scalars by name."""
    severities = [flag.severity for flag in flags]
    return {f"{FLAGS}/{severity.value}": float(severities.count(severity)) for severity in Severity}


def _same(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=1e-6)


def _triple(stem: str, projection: NamedProjection) -> dict[str, float]:
    name = f"scaling/{'annealed' if projection.kind == ANNEALED else 'projected'}_{stem}"
    values = {
        name: projection.median,
        f"{name}_lower": projection.lower.get(LEVEL),
        f"{name}_upper": projection.upper.get(LEVEL),
    }
    return {name: float(value) for name, value in values.items() if value is not None}


def say(report: Report) -> str:
    """The report in a sentence or two, for the end of a fit."""
    unit = report.axis.replace("_", " ")
    if report.points:
        x, value = report.points[-1]
        now = f"{report.metric} of {report.run} is {value:.4g} at {short(x)} {unit}"
    else:
        now = f"{report.metric} of {report.run} has no points yet"
    ends = [p for p in report.projections if p.name == PLANNED_END and p.kind == AS_PLANNED]
    ahead = [p for p in ends if report.points and p.data > report.points[-1][0]]
    further = ahead + [p for p in report.projections if p.name in FACTORS]
    if not further or report.status == TOO_FEW_POINTS:
        return f"{now}; no projection yet. {report.sentence}".rstrip()
    doubt = "" if report.status == "ok" else f" {report.sentence}"
    doubt += f" Newer observations are not in it: {report.stale}" if report.stale else ""
    return f"{now}; projected {_list(_words(p, unit) for p in further)}.{doubt}"


def _words(projection: NamedProjection, unit: str) -> str:
    words = f"{projection.median:.4g}"
    lower, upper = projection.lower.get(LEVEL), projection.upper.get(LEVEL)
    if lower is not None and upper is not None:
        words += f" (90 %: {lower:.4g} to {upper:.4g})"
    kind = f", {projection.kind}" if projection.kind in (ANNEALED, NOT_ANNEALED) else ""
    place = f"the {PLANNED_END}" if projection.name == PLANNED_END else projection.name
    return f"{words} at {place} ({short(projection.data)} {unit}{kind})"


def _list(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def logging_step(trainer: Any) -> int:
    """The step at which Lightning itself would log now: batches that stepped, not `global_step`."""
    try:
        return int(trainer.fit_loop.epoch_loop._batches_that_stepped)
    except (AttributeError, TypeError):  # private, so it may go
        return int(trainer.global_step)


def tell(loggers: Iterable[Any], values: dict[str, float], step: int) -> list[str]:
    """Gives scalars to every logger.

    Args:
        loggers: The Trainer's loggers.
        values: Scalars by name.
        step: The step of now.

    Returns:
        A sentence for every logger that failed; the others were served.
    """
    return _serve(loggers, lambda logger: logger.log_metrics(values, step=step)) if values else []


def introduce(loggers: Iterable[Any], prefix: str, axis: str) -> None:
    """Makes the amount of data the x axis of our scalars, where a logger lets a metric have one of its own.

    It is to be called before the first scalars are told, once: what a logger has made of a name by then
    stays. A logger's `experiment` may call a server, so it is asked for only where the scalars themselves
    are about to.

    Args:
        loggers: The Trainer's loggers.
        prefix: Start of the scalars' names.
        axis: Name of the data axis; the scalar `<prefix><axis>` tells the amount.
    """
    for logger in loggers:
        try:
            if not _has_directory(logger):
                logger.experiment.define_metric(f"{prefix}*", step_metric=f"{prefix}{axis}")
        except Exception:  # most have no such method, and of what fails `tell` will say
            log.debug("%s has no x axis for scalars.", type(logger).__name__, exc_info=True)


def _has_directory(logger: Any) -> bool:
    """Whether a logger writes files into a directory of the run, rather than to a service."""
    return getattr(logger, "log_dir", None) is not None


def show(loggers: Iterable[Any], report: Report, step: int, label: str = "") -> list[str]:
    """Writes the report into the event file of every logger that has one; as `tell`.

    Args:
        loggers: The Trainer's loggers.
        report: The report.
        step: The step of now.
        label: What follows the metric in the report's tag.
    """
    from foretrain.tensorboard.summary import write_report

    return serve_writers(loggers, lambda writer: write_report(writer, report, step, label))


def serve_writers(loggers: Iterable[Any], service: Callable[[Any], None]) -> list[str]:
    """Gives the TensorBoard writer of every logger that has one to a service; as `tell`.

    Args:
        loggers: The Trainer's loggers.
        service: Takes torch's or tensorboardX's `SummaryWriter`.
    """
    from foretrain.tensorboard.summary import supports

    def serve(logger: Any) -> None:
        if not _has_directory(logger):
            return  # its `experiment` may call a server, which has no use for what we write
        writer = getattr(logger, "experiment", None)
        if supports(writer):
            service(writer)

    return _serve(loggers, serve)


def write_flag(loggers: Iterable[Any], flag: Flag, step: int, tag: str) -> list[str]:
    """Writes a flag as text where a logger has such: TensorBoard's writers, and Weights & Biases; as `tell`.

    Args:
        loggers: The Trainer's loggers.
        flag: The flag.
        step: The step of now.
        tag: The text's name.
    """
    row = [flag.step, flag.kind.value, flag.severity.value, flag.message]

    def write(logger: Any) -> None:
        add_text = getattr(logger.experiment, "add_text", None) if _has_directory(logger) else None
        if callable(add_text):
            add_text(tag, f"**{flag.kind.value}** ({flag.severity.value}): {flag.message}", step)
        elif callable(log_text := getattr(logger, "log_text", None)):
            log_text(key=tag, columns=["step", "kind", "severity", "message"], data=[row])

    return _serve(loggers, write)


def _serve(loggers: Iterable[Any], service: Callable[[Any], None]) -> list[str]:
    failures: list[str] = []
    for logger in loggers:
        try:
            service(logger)
        except Exception as error:
            failures.append(
                f"ScalingLawMonitor could not log through {type(logger).__name__} "
                f"({type(error).__name__}: {error}). Training and the other loggers go on."
            )
    return failures
