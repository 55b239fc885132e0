"""`foretrain study run`: trains points of a study's file, for Slurm arrays, make, or one machine."""

from __future__ import annotations

import argparse
import json
from typing import Any

from foretrain.cli.output import CommandError, console, table, warn
from foretrain.cli.plan import add_study, read_study
from foretrain.study import Outcome, process_pool, run_study
from foretrain.study.points import Point


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser("study", help="train points of a study")
    actions = parser.add_subparsers(dest="action", required=True)
    action = actions.add_parser("run", help="train the points that are not finished")
    add_study(action)
    action.add_argument(
        "--point", action="append", metavar="I", help="only this one: its number in the plan, or its id"
    )
    action.add_argument("--workers", type=int, default=1, help="processes on this machine (default: 1)")
    action.add_argument("--json", action="store_true", help="one point a line, as JSON")
    action.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Trains the points; 1 where one of them is not finished then."""
    study, root = read_study(args)
    if args.workers < 1:
        raise CommandError(f"Expected at least 1 worker, got {args.workers}.", code=2)
    points = study.points if args.point is None else [_chosen(study.points, text) for text in args.point]
    pool = process_pool(args.workers) if args.workers > 1 else None
    try:
        told = run_study(study.load_train(), points, pool, root=root, study=study.study)
    except ValueError as error:
        raise CommandError(str(error), code=2) from None
    except KeyboardInterrupt:
        raise CommandError("Interrupted. Finished points are kept: run the command again to go on.") from None
    if args.json:
        for outcome in told.outcomes:
            print(json.dumps({"run": outcome.point.run, "state": outcome.state, "error": outcome.error}))
    else:
        console().print(table(f"Study {study.study}", ("run", "state"), map(_row, told.outcomes), left=2))
        for outcome in told.unfinished:
            warn(f"{outcome.point.run} {outcome.state}:")
            for line in outcome.error.strip().splitlines():
                warn(f"  {line}")
    return 0 if told.complete else 1


def _row(outcome: Outcome) -> tuple[str, str]:
    return outcome.point.run, outcome.state


def _chosen(points: tuple[Point, ...], text: str) -> Point:
    """The point that a number or an id names."""
    for number, point in enumerate(points):
        if text in (str(number), point.id):
            return point
    raise CommandError(
        f"Expected a number from 0 to {len(points) - 1} or a point's id, got {text}: see foretrain plan.",
        code=2,
    )
