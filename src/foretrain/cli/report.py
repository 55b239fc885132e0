"""`foretrain report`: what the records of a study say, without TensorBoard."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from foretrain.analysis import Question, RunCurve, Shelf, analyze, continued_by
from foretrain.axes import AXES
from foretrain.cli.output import console, count, progress, visible
from foretrain.cli.output import table as make_table
from foretrain.cli.roots import add_source, choose, read_studies, study_folders
from foretrain.findings import ANNEALED, NOT_ANNEALED, record_line
from foretrain.report import NamedProjection, Report
from foretrain.store import Study


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser("report", help="what the runs under a log directory say")
    add_source(parser)
    parser.add_argument("--json", action="store_true", help="one report a line, as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints what the runs say; 1 where there are none."""
    with study_folders(args.log_dir) as folders:
        studies = read_studies(folders, args.log_dir, args.metric)
        reports = [told for study in studies for told in _analyze(study, args.metric, args.axis)]
    if args.json:
        for told in reports:
            print(told.to_json())
        return 0
    screen = console()
    screen.print(_table(reports))
    for line in (_regions(reports), *_best(reports), _track(reports)):
        if line:
            screen.print(visible(line, longest=10_000))
    return 0


def _analyze(study: Study, metric: str | None, axis: str | None) -> list[Report]:
    metric, axis = choose(study, metric, axis)
    shelf = Shelf()
    names = [name for name, run in study.runs.items() if any(o.metric == metric for o in run.observations)]
    return [
        analyze(study.runs, Question(run=name, metric=metric, axis=axis), shelf)
        for name in progress(names, "Fitting")
    ]


def _table(reports: Sequence[Report]) -> Table:
    first = reports[0]
    continued = {study: _continued(reports, study) for study in {report.study for report in reports}}
    return make_table(
        f"{first.metric} against {AXES[first.axis].unit}, projected with 90 % intervals",
        ("run", "status", "parameters", first.axis, first.metric, "planned end", "at 10x"),
        (_row(report, continued[report.study]) for report in reports),
        left=2,
    )


def _continued(reports: Sequence[Report], study: str) -> dict[str, str]:
    """The runs of a study that another one goes on from, and which."""
    runs = [report for report in reports if report.study == study]
    return continued_by(
        [RunCurve(r.run, 0.0, r.points, past=r.past, finished=r.state == "finished") for r in runs]
    )


def _row(report: Report, continued: Mapping[str, str]) -> tuple[str, ...]:
    named = {p.name: p for p in report.projections}
    last = report.points[-1] if report.points else (float("nan"), float("nan"))
    flags = ", ".join(flag.kind.value for flag in report.flags)
    status = f"continued by {continued[report.run]}" if report.run in continued else report.status
    return (
        report.run,
        f"flagged: {flags}" if flags else status,
        "-" if report.params is None else f"{report.params:,.0f}",
        f"{last[0]:,.0f}",
        f"{last[1]:.4g}",
        _told(named.get("planned end")),
        _told(named.get("10x")),
    )


def _told(projection: NamedProjection | None) -> str:
    """A projection with its interval, and what it assumes of the learning rate where that must be said."""
    if projection is None:
        return "-"
    kind = f", {projection.kind}" if projection.kind in (ANNEALED, NOT_ANNEALED) else ""
    lower, upper = projection.lower["0.9"], projection.upper["0.9"]
    return f"{projection.median:.4g} ({lower:.4g} to {upper:.4g}){kind}"


def _best(reports: Sequence[Report]) -> list[str]:
    """One line for each run whose error has risen since its best value."""
    return [
        f"{r.run} is past its best: {r.metric} was {r.best.value:.4g} at step {r.best.step:,}."
        for r in reports
        if r.best is not None and r.best.risen
    ]


def _track(reports: Sequence[Report]) -> str:
    """One line: how the past forecasts of the finished runs met what came."""
    told = [past.inside() for report in reports if report.state == "finished" for past in report.track]
    return record_line(len(told), sum(told))


def _regions(reports: Sequence[Report]) -> str:
    """One line: which runs are in which region of their learning curves, and from where on."""
    found: dict[str, list[str]] = {"small_data": [], "power_law": [], "irreducible": []}
    for report in reports:
        regions = report.regions
        if regions is None:
            continue
        starts = {"power_law": regions.power_law_from, "irreducible": regions.irreducible_from}
        begin = starts.get(regions.now)
        found[regions.now].append(report.run if begin is None else f"{report.run} from {count(begin)}")
    told = [f"{code.replace('_', ' ')} ({', '.join(runs)})" for code, runs in found.items() if runs]
    return "Regions now: " + "; ".join(told) if told else ""
