"""`foretrain report`: what the records of a study say, without TensorBoard."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from foretrain import __version__
from foretrain.axes import AXES
from foretrain.cli.drawing import render
from foretrain.cli.figures import draw
from foretrain.cli.figures_study import draw_study
from foretrain.cli.output import CommandError, console, count, visible, warn
from foretrain.cli.output import table as make_table
from foretrain.cli.page import Tables, page, section
from foretrain.cli.page_study import no_study_section, study_section
from foretrain.cli.report_many import MOST_IN_FULL, Told, tell
from foretrain.cli.roots import add_source, choose, read_studies, save_dir, study_folders
from foretrain.decisions import from_study
from foretrain.importers import SOURCES
from foretrain.importers.logs import LogError, name_under
from foretrain.report import NamedProjection, Report
from foretrain.reporting.comparison import RunCurve, resumed_as
from foretrain.reporting.findings import ANNEALED, NOT_ANNEALED
from foretrain.reporting.sentences import borrowing_line, record_line, record_under_way
from foretrain.storage.records import folder_name
from foretrain.storage.urls import is_url
from foretrain.tensorboard.summary import replace_report


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser("report", help="what the runs under a log directory say")
    add_source(parser)
    parser.add_argument("--json", action="store_true", help="one report a line, as JSON")
    parser.add_argument("--html", type=Path, metavar="FILE", help="also write one HTML file with pictures")
    parser.add_argument("--png", type=Path, metavar="DIR", help="also write the pictures there")
    parser.add_argument(
        "--all",
        action="store_true",
        help=f"analyze every run; of more than {MOST_IN_FULL}, else the newest, the flagged and the best",
    )
    parser.add_argument(
        "--tab", action="store_true", help="also put the reports where TensorBoard's Scaling tab finds them"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints what the runs say; 1 where there are none."""
    with study_folders(args.log_dir) as folders:
        found = read_studies(folders, args.log_dir, args.metric)
        told = [tell(study, *choose(study, args.metric, args.axis), every=args.all) for study in found]
    told = [one for one in told if one.reports]
    if args.html is not None or args.png is not None:
        _write(args, told)
    if args.tab:
        _put_into_tab(args.log_dir, told)
    if args.json:
        for report in (report for one in told for report in (*one.reports, *one.others)):
            print(report.to_json())
        return 0
    screen = console()
    for one in told:
        rows, _ = _rows(one)
        screen.print(make_table(_title(one.reports), _columns(one.reports), rows, left=2))
        for line in _lines(one):
            screen.print(visible(line, longest=10_000))
    return 0


def _write(args: argparse.Namespace, told: Sequence[Told]) -> None:
    """Writes the pictures, and the page that holds them."""
    sections = []
    try:
        for one in told:
            reports = one.reports
            sizes, of_sizes = _sizes(one)
            figures = draw(reports)
            if args.png is not None:
                args.png.mkdir(parents=True, exist_ok=True)
                among = f"{folder_name(reports[0].study)}-" if len(told) > 1 else ""
                for name, figure in {**figures, **of_sizes}.items():
                    (args.png / f"{among}{name}.png").write_bytes(render(figure, "png"))
            if args.html is not None:
                pictures = {name: render(figure, "svg") for name, figure in figures.items()}
                also = sizes({name: render(figure, "svg") for name, figure in of_sizes.items()})
                rows, others = _rows(one)
                tables = Tables(_columns(reports), rows, others)
                sections.append(section([*reports, *one.others], tables, _lines(one), pictures, also))
        if args.html is not None:
            args.html.write_text(page(f"foretrain {__version__}: scaling laws", sections), encoding="utf-8")
    except OSError as error:
        raise CommandError(f"The report cannot be written: {error}.") from None


def _sizes(told: Told) -> tuple[Callable[[Mapping[str, bytes]], str], dict[str, Any]]:
    """What writes the part on model size and compute, and its figures by name."""
    first = told.reports[0]
    try:
        planner, points = from_study(told.studied, first.metric, first.axis)
    except ValueError as error:
        reason = str(error)
        return lambda _: no_study_section(reason), {}
    some, every = len(told.studied), len(told.study.runs)
    if some < every:
        note = f"Of {every:,} runs {some:,} are looked at here, evenly over sizes and data."
        points = replace(points, notes=(*points.notes, note))
    return partial(study_section, planner, points), draw_study(planner, points)


def _put_into_tab(log_dir: str, told: Sequence[Told]) -> None:
    """Writes the reports beside the runs' event files, or beside their records where there are none."""
    if is_url(log_dir):
        raise CommandError(
            "Expected a directory with --tab, got a URL: TensorBoard's files lie elsewhere.", 2
        )
    root = save_dir(Path(log_dir))
    try:
        # Looked up, never joined: a run's name is no path.
        places = {name_under(root, place): place for place in SOURCES["tensorboard"].find(root)}
        for one in told:
            for report in one.reports:
                beside = places.get(report.run) or _records_of(one, report.run)
                replace_report(beside, report)
    except ModuleNotFoundError:
        raise CommandError("The tab needs TensorBoard: pip install 'foretrain[tensorboard]'.") from None
    except (OSError, LogError) as error:
        raise CommandError(f"The reports cannot be put into the tab: {error}.") from None
    warn(f"{sum(len(one.reports) for one in told)} reports are in the tab.")
    if others := sum(len(one.others) for one in told):
        warn(f"{others} runs were not analyzed, and keep the reports that they have: pass --all for theirs.")


def _records_of(told: Told, run: str) -> Path:
    """The folder of a run's records, which has its files since they were read."""
    folder = told.study.folder
    assert folder is not None
    return folder / folder_name(run)


def _title(reports: Sequence[Report]) -> str:
    first = reports[0]
    return f"{first.metric} against {AXES[first.axis].unit}, projected with 90 % intervals"


def _columns(reports: Sequence[Report]) -> tuple[str, ...]:
    first = reports[0]
    return "run", "status", "parameters", first.axis, first.metric, "planned end", "at 10x"


def _lines(told: Told) -> list[str]:
    """What there is to say of all runs together."""
    reports = told.reports
    now = record_under_way({r.run: r.track for r in reports if r.state == "running"})
    lines = (told.line, _regions(reports), *_borrowed(reports), *_best(reports), _track(reports), now)
    return [line for line in lines if line]


def _rows(told: Told) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    """A line a run, of those that were analyzed and of the others; one that another stands for says so."""
    resumed = resumed_as(
        [
            RunCurve(r.run, 0.0, r.points, past=r.past, finished=r.state == "finished")
            for r in (*told.reports, *told.others)
        ]
    )
    return [_row(report, resumed) for report in told.reports], [_row(r, resumed) for r in told.others]


def _row(report: Report, resumed: Mapping[str, str]) -> tuple[str, ...]:
    named = {p.name: p for p in report.projections}
    last = report.points[-1] if report.points else (float("nan"), float("nan"))
    flags = ", ".join(flag.kind.value for flag in report.flags)
    status = f"resumed as {resumed[report.run]}" if report.run in resumed else report.status
    return (
        report.run,
        f"flagged: {flags}" if flags else status,
        _size(report),
        f"{last[0]:,.0f}",
        f"{last[1]:.4g}",
        _told(named.get("planned end")),
        _told(named.get("10x")),
    )


def _size(report: Report) -> str:
    """The size of the model, and how much of it pruning has left."""
    size = "-" if report.params is None else f"{report.params:,.0f}"
    density = None if report.history is None else report.history.density
    return size if density is None or density >= 1 else f"{size}, pruned to {density:.2%}"


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


def _borrowed(reports: Sequence[Report]) -> list[str]:
    """One line for each run under way whose projection rests on other runs."""
    told = [(report.run, borrowing_line(report.borrowing)) for report in reports if report.state == "running"]
    return [f"{run}: {line}" for run, line in told if line]


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
