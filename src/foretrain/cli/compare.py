"""`foretrain compare`: runs side by side at the data that all have seen, or one recipe against another."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from foretrain.analysis import Question, Shelf, analyze
from foretrain.axes import AXES
from foretrain.cli.output import CommandError, console, count, positive, progress, table, visible
from foretrain.cli.recipes import tell_recipes
from foretrain.cli.roots import add_source, choose, read_studies, study_folders
from foretrain.conventions import NOT_COMPARED, signature
from foretrain.reporting.comparison import RunCurve
from foretrain.reporting.points import run_curve
from foretrain.store import Study

PLANNED, LEVEL = "planned end", "0.9"


@dataclass(frozen=True)
class Compared:
    """One run beside the others.

    Attributes:
        study: Name of the study.
        run: Name of the run.
        state: "running", "finished" or "failed".
        params: Trainable parameters; None where unknown.
        data: Data seen, in the axis's unit.
        at: The data that all runs have seen.
        value: The metric there, on the line between two validations of the log-log plot; None where the run
            was not validated so early.
        above: By how much that is above the lowest of the runs counted alike, as a share; None as `value`.
        end: Projected metric at the planned end, with the ends of its 90 % interval; None where unknown.
        counted: Letter of the group of runs that were counted alike.
    """

    study: str
    run: str
    state: str
    params: float | None
    data: float
    at: float
    value: float | None
    above: float | None
    end: tuple[float, float, float] | None
    counted: str


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser("compare", help="runs side by side, at the data that all have seen")
    add_source(parser)
    parser.add_argument(
        "--run", action="append", dest="runs", metavar="RUN", help="only this run; repeatable"
    )
    parser.add_argument(
        "--at", type=float, metavar="DATA", help="data to compare at; default: what all have seen"
    )
    recipes = parser.add_argument_group("recipes: which needs less compute for the same error?")
    recipes.add_argument(
        "--recipe",
        action="append",
        dest="recipes",
        metavar="PATTERN",
        help="name of a study, or of runs of one, such as 'wide-*'; twice, for the two recipes",
    )
    recipes.add_argument("--against", metavar="LOG_DIR", help="the other recipe's runs, instead of --recipe")
    recipes.add_argument(
        "--budget", type=positive, metavar="FLOPS", help="default: the most that both have reached"
    )
    parser.add_argument("--json", action="store_true", help="one run a line, as JSON; of recipes one object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the runs of each study, best first, or the recipes; 1 where there are not two."""
    if args.recipes and (len(args.recipes) != 2 or args.against):
        raise CommandError("Expected --recipe twice, or --against, for two recipes.", 2)
    if args.budget and not (args.recipes or args.against):
        raise CommandError("Expected --recipe twice, or --against, with --budget.", 2)
    if (args.recipes or args.against) and (args.runs or args.at):
        raise CommandError("Expected recipes without --run and --at: each is compared at its best size.", 2)
    studies = _read(args.log_dir, args.metric)
    if args.recipes or args.against:
        tell_recipes(args, studies, _read(args.against, args.metric) if args.against else None)
        return 0
    known = {name for study in studies for name in study.runs}
    unknown = [name for name in args.runs or () if name not in known]
    if unknown:
        raise CommandError(f"There is no run {', '.join(unknown)}; there are: {', '.join(sorted(known))}.")
    compared = 0
    for study in studies:
        metric, axis = choose(study, args.metric, args.axis)
        found, rules = compare(study, metric, axis, args.runs, args.at)
        compared += len(found) > 1
        if args.json:
            for one in found:
                print(json.dumps(asdict(one)))
        elif found:
            _tell(found, rules, metric, axis)
    if not compared:
        raise CommandError("Expected at least two runs of one study to compare.")
    return 0


def _read(log_dir: str, metric: str | None) -> list[Study]:
    with study_folders(log_dir) as folders:
        return read_studies(folders, log_dir, metric)


def compare(
    study: Study, metric: str, axis: str, names: Sequence[str] | None = None, at: float | None = None
) -> tuple[list[Compared], dict[str, dict[str, str]]]:
    """The runs of a study beside each other.

    Args:
        study: The study.
        metric: Name of the metric.
        axis: The data axis, a key of `AXES`.
        names: Of the runs to compare; all if None.
        at: The data to compare at; the largest amount that all have seen if None.

    Returns:
        The runs, groups in order of their letters and in each the best first, and how the runs of each group
        were counted.
    """
    asked = [record for name, record in study.runs.items() if not names or name in names]
    curves = [curve for curve in (run_curve(record, metric, axis)[0] for record in asked) if curve.points]
    if not curves:
        return [], {}
    at = min(curve.points[-1][0] for curve in curves) if at is None else at
    letters: dict[Any, str] = {}
    for curve in curves:
        letters.setdefault(signature(curve.conventions), _letter(len(letters)))
    values = {curve.run: _value_at(curve, at) for curve in curves}
    shelf, found = Shelf(), []
    by_run = {curve.run: curve for curve in curves}
    for name in progress(list(by_run), "Fitting"):
        curve = by_run[name]
        letter = letters[signature(curve.conventions)]
        alike = [values[c.run] for c in curves if letters[signature(c.conventions)] == letter]
        lowest = min((value for value in alike if value is not None), default=None)
        value = values[name]
        report = analyze(study.runs, Question(run=name, metric=metric, axis=axis), shelf)
        end = next((p for p in report.projections if p.name == PLANNED), None)
        found.append(
            Compared(
                study=report.study,
                run=name,
                state=report.state,
                params=report.params,
                data=curve.points[-1][0],
                at=at,
                value=value,
                above=None if value is None or lowest is None else value / lowest - 1,
                end=None if end is None else (end.median, end.lower[LEVEL], end.upper[LEVEL]),
                counted=letter,
            )
        )
    found.sort(key=lambda one: (one.counted, one.value is None, one.value, one.run))
    rules = {
        letter: {name: rule for name, rule in kept if name not in NOT_COMPARED}
        for kept, letter in letters.items()
    }
    return found, rules


def _letter(place: int) -> str:
    """A, B, ..., Z, then AA, AB, ..."""
    letters = ""
    place += 1
    while place:
        place, rest = divmod(place - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters


def _value_at(curve: RunCurve, at: float) -> float | None:
    if not curve.points[0][0] <= at <= curve.points[-1][0]:
        return None
    x, y = np.log(np.array(curve.points)).T
    return float(np.exp(np.interp(np.log(at), x, y)))


def _tell(found: Sequence[Compared], rules: dict[str, dict[str, str]], metric: str, axis: str) -> None:
    at = found[0].at
    rows = [
        (
            one.run,
            one.state,
            one.counted,
            "-" if one.params is None else f"{one.params:,.0f}",
            f"{one.data:,.0f}",
            "-" if one.value is None else f"{one.value:.4g}",
            "-" if one.above is None else f"{one.above:+.2%}",
            "-" if one.end is None else f"{one.end[0]:.4g} ({one.end[1]:.4g} to {one.end[2]:.4g})",
        )
        for one in found
    ]
    columns = ("run", "state", "counted", "parameters", axis, f"at {count(at)}", "above best", PLANNED)
    screen = console()
    title = f"{found[0].study}: {metric} at {count(at)} {AXES[axis].unit}, best first"
    screen.print(table(title, columns, rows, left=3))
    if len(rules) > 1:
        screen.print("Runs of different letters were counted by different rules, and are not compared:")
        names = sorted({name for held in rules.values() for name in held})
        differing = [name for name in names if len({held.get(name) for held in rules.values()}) > 1]
        for letter, held in rules.items():
            told = "; ".join(f"{name}: {held.get(name, 'not recorded')}" for name in differing)
            screen.print(visible(f"  {letter}  {told}", longest=2_000))
