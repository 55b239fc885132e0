"""What `foretrain report` tells of a study: every run analyzed of a few, of thousands some."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field

from foretrain.analysis import Question, Shelf, analyze
from foretrain.axes import AXES
from foretrain.cli.output import progress
from foretrain.observation import RunRecord
from foretrain.report import Report
from foretrain.reporting.overview import Glance, above_others, by_ends, evenly, worth_a_look
from foretrain.reporting.points import run_curve
from foretrain.store import Study

MOST_IN_FULL = 64
"""Runs of a study up to which each is analyzed: that takes up to a second for each."""

MOST_STUDIED = 600
"""Of more runs so many tell of model size and compute: no more points enter that law either."""

NOT_ANALYZED, ABOVE, NOT_FINITE = "not analyzed", "above the others", "not finite"
"""The status of the other runs."""

SENTENCE = (
    "The run was not analyzed by itself: its projections are those of the law of the study's ends, whatever "
    "its own points say. Ask for the analysis of every run with --all."
)


@dataclass(frozen=True)
class Told:
    """What is told of a study.

    Attributes:
        study: Its records.
        reports: Of the runs that were analyzed by themselves, in the study's order.
        others: Of the other runs, whose projections are those of the law of all ends.
        line: Which runs those are, as a sentence; empty where there are no others.
        studied: The runs that the part on model size and compute rests on, by name.
    """

    study: Study
    reports: list[Report]
    others: list[Report] = field(default_factory=list)
    line: str = ""
    studied: Mapping[str, RunRecord] = field(default_factory=dict)


def tell(study: Study, metric: str, axis: str, *, every: bool = False) -> Told:
    """Analyzes a study's runs.

    Args:
        study: Its records.
        metric: Name of the metric.
        axis: The data axis.
        every: Whether each run is analyzed, however many there are.
    """
    names = [name for name, run in study.runs.items() if metric in run.metrics]
    others: dict[str, Report] = {}
    line, studied = "", dict(study.runs)
    if len(names) > MOST_IN_FULL and not every:
        glances, excluded = _look(study, names, metric, axis)
        above = above_others([glance.curve for glance in glances.values()])
        why = worth_a_look(glances, above)
        others = _others(study, glances, excluded, above, why, metric, axis)
        studied = {name: study.runs[name] for name in evenly(glances, MOST_STUDIED)}
        line = _line(len(why), len(others), Counter(why.values()))
        names = list(why)
    shelf = Shelf()
    reports = [
        analyze(study.runs, Question(run=name, metric=metric, axis=axis), shelf)
        for name in progress(names, "Fitting")
    ]
    return Told(study, reports, list(others.values()), line, studied)


def _look(
    study: Study, names: Sequence[str], metric: str, axis: str
) -> tuple[dict[str, Glance], dict[str, dict[str, int]]]:
    """What is looked at of each run; and how many of its points are left out, by reason."""
    glances: dict[str, Glance] = {}
    excluded: dict[str, dict[str, int]] = {}
    for name in progress(names, "Reading"):
        record = study.runs[name]
        curve, excluded[name], _ = run_curve(record, metric, axis)
        planned = record.info.planned if record.state == "running" else None
        glances[name] = Glance(
            curve,
            record.info.started,
            None if planned is None else AXES[axis].read(planned),
            _end(record, curve.phases),
            "not finite" not in excluded[name],
        )
    return glances, excluded


def _others(
    study: Study,
    glances: Mapping[str, Glance],
    excluded: Mapping[str, dict[str, int]],
    above: Container[str],
    why: Container[str],
    metric: str,
    axis: str,
) -> dict[str, Report]:
    """Reports of the runs that are not analyzed."""
    projections = by_ends(glances, without=above)
    others: dict[str, Report] = {}
    for name, glance in glances.items():
        if name in why:
            continue
        record = study.runs[name]
        newest = record.newest(metric)
        others[name] = Report(
            run=name,
            metric=metric,
            axis=axis,
            step=0 if newest is None else int(newest.counts.steps),
            study=record.info.study,
            state=record.state,
            params=int(glance.curve.params) or None,
            planned=glance.planned,
            conventions=dict(record.info.conventions),
            points=glance.curve.points,
            excluded=excluded[name],
            status=NOT_FINITE if not glance.finite else ABOVE if name in above else NOT_ANALYZED,
            sentence=SENTENCE,
            projections=projections.get(name, ()),
            past=glance.curve.past,
        )
    return others


def _end(record: RunRecord, phases: tuple[float, ...]) -> float | None:
    """A run's learning rate at its end, over its largest; None where the records do not tell."""
    if record.state == "finished":
        return phases[-1] if phases else None
    if record.schedule is None or record.schedule_unknown is not None or not record.schedule.peak:
        return None
    return record.schedule.values[-1] / record.schedule.peak


def _line(analyzed: int, others: int, why: Counter[str]) -> str:
    kinds = " and ".join(
        f"the {why[kind]} {kind}" for kind in ("newest", "best", "flagged") if why[kind]
    ).replace(" and ", ", ", max(len(why) - 2, 0))
    return (
        f"Of {analyzed + others:,} runs {analyzed} were analyzed by themselves: {kinds}. Of the other "
        f"{others:,} the law of the study's ends tells, whatever their own points say; --all analyzes every "
        "run, which takes up to a second for each."
    )
