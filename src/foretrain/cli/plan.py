"""`foretrain plan`: a study's file with its points and their states, or what the runs of a study advise."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foretrain.cli import plan_runs
from foretrain.cli.output import CommandError, console, table
from foretrain.storage.urls import as_root, is_url, without_secrets
from foretrain.study.file import StudyFile, read_study_file
from foretrain.study.job import read_states

GRID_OPTIONS = ("root", "missing", "array")


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser(
        "plan",
        help="what to run next: the points of a study's file, or what its runs advise",
        description="Of a study's file: its points, and which of them are finished. Of a log directory or "
        "its URL: what the runs of several sizes say about the next one. Without a question: what ten times "
        "the compute is best spent on, and whether the largest run wants more data or a bigger model.",
    )
    add_study(parser, also=", or the log_dir of runs")
    parser.add_argument("--missing", action="store_true", help="only the points that are not finished")
    parser.add_argument(
        "--array", action="store_true", help="only their numbers, as Slurm's --array takes them: 0-3,7"
    )
    plan_runs.add_questions(parser)
    parser.add_argument(
        "--json", action="store_true", help="one point, or one study of runs, a line, as JSON"
    )
    parser.set_defaults(run=run)


def add_study(parser: argparse.ArgumentParser, also: str = "") -> None:
    """Adds the arguments that say which study is meant."""
    parser.add_argument("file", help=f"the study's file: JSON with root, train, and grid or points{also}")
    parser.add_argument("--root", help="where the runs are kept, instead of the file's root")


def read_study(args: argparse.Namespace) -> tuple[StudyFile, str]:
    """The study's file, and the root of its store.

    Raises:
        CommandError: If there is no such study.
    """
    try:
        found = read_study_file(args.file)
        return found, found.root if args.root is None else as_root(args.root)
    except OSError as error:
        raise CommandError(f"Cannot read {args.file}: {error.strerror or error}.", code=2) from None
    except ValueError as error:
        raise CommandError(str(error), code=2) from None


def run(args: argparse.Namespace) -> int:
    """Prints the points, or the advice; 1 where there is none."""
    of_runs = is_url(args.file) or Path(args.file).is_dir()
    kind, other = ("a study's file", GRID_OPTIONS) if of_runs else ("a log directory", plan_runs.QUESTIONS)
    asked = [f"--{name}" for name in other if getattr(args, name)]
    if asked:
        raise CommandError(f"{', '.join(asked)} is for {kind}, got {without_secrets(args.file)}.", code=2)
    return plan_runs.run(args) if of_runs else _run_grid(args)


def _run_grid(args: argparse.Namespace) -> int:
    """Prints the points; 1 where numbers of missing points are asked for and none is missing."""
    study, root = read_study(args)
    found = read_states(root, study.study, [point.run for point in study.points])
    states = [found[point.run] for point in study.points]
    numbers = [number for number, state in enumerate(states) if state != "finished"]
    if args.array:
        if not numbers:
            raise CommandError("Every point is finished.")
        print(_ranges(numbers))
        return 0
    shown = numbers if args.missing else range(len(states))
    if args.json:
        for number in shown:
            point = study.points[number]
            record = {"number": number, "run": point.run, "state": states[number], **point.to_json()}
            print(json.dumps(record))
        return 0
    rows = [_row(study, number, states[number]) for number in shown]
    screen = console()
    screen.print(
        table(f"Study {study.study}", ("run", "state", "number", "size", "data", "seed"), rows, left=2)
    )
    counted = Counter(states)
    screen.print(
        ", ".join(f"{counted[state]} {state}" for state in sorted(counted)) + f" of {len(states)} points"
    )
    return 0


def _row(study: StudyFile, number: int, state: str) -> tuple[object, ...]:
    point = study.points[number]
    return point.run, state, number, f"{point.size:g}", f"{point.data:,.10g}", point.seed


def _ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers as ranges: 0-3,7."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges)
