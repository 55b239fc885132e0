"""`foretrain flags LOG_DIR`: the flags of recorded runs, replayed from their validations at any rate."""

from __future__ import annotations

import argparse
import json
from typing import Any

from foretrain.cli.output import console, progress, table, visible, warn
from foretrain.cli.roots import add_source, choose, read_studies, study_folders
from foretrain.flags import Flag
from foretrain.observation import RunRecord
from foretrain.run_flags import FALSE_ALARM_RATE, FlagBook


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser(
        "flags",
        help="runs that fell off their predicted curve",
        description="Replays the validations of every run in order and tells the flags that they raise, each "
        "from what was known by then. A run is compared with its own past, through its learning rates where "
        "they were recorded, and with the runs of the study that had finished before it began.",
    )
    add_source(parser, choose=False)
    parser.add_argument("--metric", help="default: the one most runs have")
    parser.add_argument(
        "--false-alarm-rate",
        type=_rate,
        default=FALSE_ALARM_RATE,
        metavar="SHARE",
        help="share of healthy runs that raise any flag (default: 0.01)",
    )
    parser.add_argument(
        "--json", action="store_true", help="one flag a line, as JSON, with its run and study"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the flags; 0 also where runs are flagged, 1 where there is no run."""
    with study_folders(args.log_dir) as folders:
        for study in read_studies(folders, args.log_dir, args.metric):
            metric, _ = choose(study, args.metric, None)
            found: list[tuple[str, Flag]] = []
            replayed = [
                (name, record) for name, record in sorted(study.runs.items()) if metric in record.metrics
            ]
            book = FlagBook(args.false_alarm_rate)
            for name, record in progress(replayed, "Replaying"):
                _count_left_out(record, metric)
                found += [(name, flag) for flag in book.flags(study.runs, name, metric)]
            if args.json:
                for name, flag in found:
                    print(json.dumps({"run": name, "metric": metric, **flag.to_json()}))
                continue
            rows = [(name, flag.kind.value, flag.severity.value, f"{flag.step:,}") for name, flag in found]
            screen = console()
            screen.print(table(f"Flags of {metric}", ("run", "kind", "severity", "step"), rows, left=3))
            for name, flag in found:
                screen.print(visible(f"{name}: {flag.message}", longest=10_000))
            flagged = len({name for name, _ in found})
            screen.print(f"{flagged} of {len(replayed)} runs are flagged at {args.false_alarm_rate:g}.")
    return 0


def _count_left_out(record: RunRecord, metric: str) -> None:
    """Says how many values that are zero or negative are left out."""
    count = sum(o.value <= 0 for o in record.observations if o.metric == metric and o.counts.steps > 0)
    if count:
        warn(f"{record.info.run}: {count} values that are not positive are not replayed.")


def _rate(text: str) -> float:
    """An argument that is a share."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"expected a number between 0 and 1, such as 0.01, got {text!r}")
    return value
