"""The `foretrain` command: what the records of a study say, without TensorBoard."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from foretrain import __version__
from foretrain.analysis import Question, Shelf, analyze
from foretrain.axes import AXES
from foretrain.findings import ANNEALED, NOT_ANNEALED, record_line
from foretrain.mirror import Mirror
from foretrain.report import NamedProjection, Report
from foretrain.store import StudyReader
from foretrain.urls import as_root, is_url, without_secrets


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: The arguments; the process's own if None.

    Returns:
        0, or 1 where there is nothing to report.
    """
    parser = argparse.ArgumentParser(prog="foretrain", description="Scaling laws of training runs.")
    parser.add_argument("--version", action="version", version=f"foretrain {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    report = commands.add_parser("report", help="what the runs under a log directory say")
    report.add_argument("log_dir", help="the loggers' save_dir, or the foretrain folder in it; or its URL")
    report.add_argument("--metric", help="default: the one most runs have")
    report.add_argument("--axis", choices=sorted(AXES), help="default: tokens where all runs count them")
    report.add_argument("--json", action="store_true", help="one report a line, as JSON")
    return _report(parser.parse_args(argv))


def _report(args: argparse.Namespace) -> int:
    try:
        root = as_root(args.log_dir)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    if not is_url(root):
        return _tell(args, Path(root), root)
    with tempfile.TemporaryDirectory(prefix="foretrain-read-") as copy:
        mirror = Mirror(root, Path(copy))
        mirror.pull_patiently()
        if mirror.fault:
            print(mirror.fault, file=sys.stderr)
        return _tell(args, Path(copy), without_secrets(root))


def _tell(args: argparse.Namespace, log_dir: Path, shown: str) -> int:
    folders = _study_folders(log_dir)
    reports = [report for folder in folders for report in _read(folder, args.metric, args.axis)]
    if not reports:
        print(
            f"No observations under {shown}: expected the save_dir of a logger whose runs had a "
            "ScalingLawMonitor.",
            file=sys.stderr,
        )
        return 1
    if args.json:
        for report in reports:
            print(report.to_json())
    else:
        # Names of runs are no markup: "[red]" is printed as it is.
        console = Console(markup=False, highlight=False)
        console.print(_table(reports))
        for told in (_regions(reports), *_best(reports), _track(reports)):
            if told:
                console.print(told)
    return 0


def _study_folders(log_dir: Path) -> list[Path]:
    """The folders of studies in a log directory, in the `foretrain` folder in it, or the folder itself."""
    root = log_dir / "foretrain" if (log_dir / "foretrain").is_dir() else log_dir
    if any(root.glob("*/*.jsonl")):
        return [root]
    return sorted(folder for folder in root.glob("*") if any(folder.glob("*/*.jsonl")))


def _read(folder: Path, metric: str | None, axis: str | None) -> list[Report]:
    study = StudyReader(folder).read()
    if study.damaged:
        print(f"{folder}: {study.damaged} damaged records were passed over.", file=sys.stderr)
    observations = [o for run in study.runs.values() for o in run.observations]
    if not observations:
        return []
    if metric is None:
        names = [o.metric for o in observations]
        metric = max(sorted(set(names)), key=names.count)
    if axis is None:
        axis = "tokens" if all(o.counts.tokens for o in observations) else "samples"
    shelf = Shelf()
    return [
        analyze(study.runs, Question(run=name, metric=metric, axis=axis), shelf)
        for name, run in study.runs.items()
        if any(o.metric == metric for o in run.observations)
    ]


def _table(reports: Sequence[Report]) -> Table:
    first = reports[0]
    table = Table(title=f"{first.metric} against {AXES[first.axis].unit}, projected with 90 % intervals")
    for column in ("run", "parameters", first.axis, first.metric, "planned end", "at 10x", "status"):
        table.add_column(column, justify="left" if column in ("run", "status") else "right")
    for report in reports:
        named = {p.name: p for p in report.projections}
        told = [_told(named.get("planned end")), _told(named.get("10x"))]
        last = report.points[-1] if report.points else (float("nan"), float("nan"))
        flags = ", ".join(flag.kind.value for flag in report.flags)
        table.add_row(
            report.run,
            "-" if report.params is None else f"{report.params:,.0f}",
            f"{last[0]:,.0f}",
            f"{last[1]:.4g}",
            *told,
            f"flagged: {flags}" if flags else report.status,
        )
    return table


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
        found[regions.now].append(report.run if begin is None else f"{report.run} from {_count(begin)}")
    told = [f"{code.replace('_', ' ')} ({', '.join(runs)})" for code, runs in found.items() if runs]
    return "Regions now: " + "; ".join(told) if told else ""


def _count(x: float) -> str:
    """A count in three digits: 920,000; below a hundred as it is."""
    return f"{float(f'{x:.3g}'):,.0f}" if x >= 100 else f"{x:.3g}"


if __name__ == "__main__":
    sys.exit(main())
