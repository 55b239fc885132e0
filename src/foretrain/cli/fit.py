"""`foretrain fit`: one law's parameters, of runs or of a table of numbers."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from foretrain.cli.output import CommandError, console, progress, table, visible, warn
from foretrain.cli.roots import add_source, choose, read_studies, study_folders
from foretrain.conventions import signature
from foretrain.fitting import fit
from foretrain.importers.columns import read_rows
from foretrain.importers.logs import LogError, as_number
from foretrain.laws import LAWS
from foretrain.laws.law import Array
from foretrain.reporting.comparison import RunCurve, each_once, entering_kind
from foretrain.reporting.entering import KINDS
from foretrain.reporting.points import run_curve
from foretrain.resampling import resample_curve, resample_joint
from foretrain.status import FitStatus
from foretrain.store import Study

CURVE, JOINT = "power_floor", "chinchilla"
"""The laws whose parameters have intervals, of one axis and of two."""
LEVEL = 0.9


@dataclass(frozen=True)
class Fitted:
    """A law fitted to some points.

    Attributes:
        of: What they are: a run, "all runs", or a file.
        law: Name of the law.
        points: How many there are.
        parameters: By name, in natural units; empty where the law could not be fitted.
        intervals: Lower and upper end of the 90 % interval by name, where there is one.
        status: Code of the outcome.
        sentence: What that means, and what would help.
    """

    of: str
    law: str
    points: int
    parameters: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    status: str
    sentence: str


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser(
        "fit",
        help="fit one law to runs, or to the columns of a CSV file",
        description="Fits one law. Of a log directory, a law of one axis is fitted to each run's points, and "
        f"{JOINT} to the last points of all runs that were counted alike; of a CSV file, any law.",
    )
    add_source(parser)
    parser.add_argument("--law", choices=sorted(LAWS), default=CURVE, help="default: %(default)s")
    parser.add_argument(
        "--run", action="append", dest="runs", metavar="RUN", help="only this run; repeatable"
    )
    parser.add_argument("--x", action="append", metavar="COLUMN", help="of a CSV file: one for each axis")
    parser.add_argument("--y", metavar="COLUMN", help="of a CSV file: the error")
    parser.add_argument("--json", action="store_true", help="one fit a line, as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Fits and prints; 1 where something could not be fitted."""
    path = Path(args.log_dir)
    if path.suffix == ".csv" and path.is_file():
        fits = [_fit_file(args, path)]
    elif args.x or args.y:
        raise CommandError(f"Expected a CSV file with --x and --y, got {args.log_dir}.", 2)
    else:
        fits = list(_fit_runs(args))
    if args.json:
        for one in fits:
            print(json.dumps(asdict(one)))
    else:
        _tell(fits)
    return 0 if all(one.parameters for one in fits) else 1


def fit_points(of: str, law: str, x: Array, y: Array) -> Fitted:
    """The law's parameters, with intervals where there is a way to them.

    Args:
        of: What the points are.
        law: Name of the law.
        x: Positions, shape (n_axes, n).
        y: Errors, shape (n,).
    """
    try:
        found = fit(law, x, y)
    except ValueError as error:
        return Fitted(of, law, y.size, {}, {}, "not_fitted", str(error))
    sentence, intervals = found.status.sentence, {}
    try:
        if law == CURVE:
            intervals = resample_curve(x[0], y).intervals(LEVEL)
        elif law == JOINT:
            intervals = resample_joint(x[0], x[1], y).intervals(LEVEL)
    except ValueError as error:
        if law == JOINT:  # what has no interval is not identified: no number is better than any
            return Fitted(of, law, y.size, {}, {}, FitStatus.TOO_FEW_POINTS.value, str(error))
        sentence += f" There are no intervals: {error}"
    return Fitted(of, law, y.size, found.parameters, intervals, found.status.value, sentence)


def _fit_file(args: argparse.Namespace, path: Path) -> Fitted:
    law, columns = LAWS[args.law], args.x or []
    names = ", ".join(axis.name for axis in law.axes)
    if len(columns) != law.n_axes or args.y is None:
        raise CommandError(f"Expected --y and {law.n_axes} times --x for {law.name} ({names}).", 2)
    try:
        header, rows = read_rows(path)
    except (LogError, OSError) as error:
        raise CommandError(str(error)) from None
    asked = [*columns, args.y]
    missing = [name for name in asked if name not in header]
    if missing:
        raise CommandError(f"{path} has no column {', '.join(missing)}; it has {', '.join(header)}.", 2)
    numbers = [[as_number(row[name]) for name in asked] if row is not None else [None] for row in rows]
    kept = [row for row in numbers if all(value is not None and 0 < value < np.inf for value in row)]
    if len(kept) < len(numbers):
        warn(f"{path}: {len(numbers) - len(kept)} rows without positive numbers were left out.")
    if not kept:
        raise CommandError(f"{path} has no row of positive numbers in {', '.join(asked)}.")
    values = np.array(kept, dtype=float).T
    return fit_points(path.name, law.name, values[:-1], values[-1])


def _fit_runs(args: argparse.Namespace) -> Iterator[Fitted]:
    law = LAWS[args.law]
    if law.n_axes > 1 and law.name != JOINT:
        raise CommandError(
            f"Expected a law of one axis or {JOINT} for runs, got {law.name}: pass a CSV file.", 2
        )
    with study_folders(args.log_dir) as folders:
        studies = read_studies(folders, args.log_dir, args.metric)
    known = {name for study in studies for name in study.runs}
    unknown = [name for name in args.runs or () if name not in known]
    if unknown:
        raise CommandError(f"There is no run {', '.join(unknown)}; there are: {', '.join(sorted(known))}.")
    for study in studies:
        curves = _curves(study, args)
        if law.n_axes > 1:
            yield _joint(curves)
            continue
        by_run = {curve.run: curve for curve in curves}
        for name in progress(list(by_run), "Fitting"):
            x, y = np.array(by_run[name].points).T
            yield fit_points(name, law.name, x[None], y)


def _curves(study: Study, args: argparse.Namespace) -> list[RunCurve]:
    metric, axis = choose(study, args.metric, args.axis)
    asked = [record for name, record in study.runs.items() if not args.runs or name in args.runs]
    curves = [run_curve(record, metric, axis)[0] for record in asked]
    empty = [curve.run for curve in curves if not curve.points]
    if empty:
        warn(f"Without a positive {metric} along {axis}, left out: {', '.join(empty)}.")
    return [curve for curve in curves if curve.points]


def _joint(curves: Sequence[RunCurve]) -> Fitted:
    sized = [curve for curve in curves if curve.sized]
    rules = Counter(signature(curve.conventions) for curve in sized)
    kept = [curve for curve in sized if signature(curve.conventions) == rules.most_common(1)[0][0]]
    if len(kept) < len(curves):
        left = ", ".join(curve.run for curve in curves if curve not in kept)
        warn(f"Counted by other conventions, pruned, or of unknown size, left out: {left}.")
    once = each_once(kept)
    kind = entering_kind(once)
    entering = [curve for curve in (c.of_kind(kind) for c in once) if curve.points]
    if len(entering) < len(once):
        without = ", ".join(curve.run for curve in once if not curve.of_kind(kind).points)
        warn(f"{KINDS[kind]} Without such points, left out: {without}.")
    # The last one of each run: the intervals take points as independent.
    ends = np.array([(curve.params, *curve.points[-1]) for curve in entering], dtype=float).reshape(-1, 3)
    return fit_points("all runs", JOINT, ends[:, :2].T, ends[:, 2])


def _tell(fits: Sequence[Fitted]) -> None:
    screen = console()
    if not fits:
        raise CommandError("There is nothing to fit.")
    law = LAWS[fits[0].law]
    names = [parameter.name for parameter in law.parameters]
    rows = [(one.of, one.status, one.points, *(_shown(one, name) for name in names)) for one in fits]
    screen.print(table(f"{law.name}: {law.formula}", ("of", "status", "points", *names), rows, left=2))
    for sentence, times in Counter(
        one.sentence for one in fits if one.status != "ok" or not one.intervals
    ).items():
        screen.print(visible(f"{sentence} ({times} of {len(fits)} fits)", longest=2_000))
    screen.print(f"Source: {law.source}. Intervals are of 90 %.")


def _shown(one: Fitted, name: str) -> str:
    if name not in one.parameters:
        return "-"
    value = f"{one.parameters[name]:.4g}"
    if name not in one.intervals:
        return value
    lower, upper = one.intervals[name]
    return f"{value} ({lower:.4g} to {upper:.4g})"
