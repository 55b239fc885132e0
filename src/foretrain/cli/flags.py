"""`foretrain flags LOG_DIR`: the flags of recorded runs, replayed from their validations at any rate."""

from __future__ import annotations

import argparse
import json
from typing import Any

from foretrain.cli.output import console, progress, table, visible, warn
from foretrain.cli.roots import add_source, choose, read_studies, study_folders
from foretrain.course import why_unknown
from foretrain.flagging.replay import flag_run
from foretrain.flags import Flag
from foretrain.observation import RunRecord


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser(
        "flags",
        help="runs that fell off their predicted curve",
        description="Replays the validations of every run in order and tells the flags that they raise, each "
        "from what was known by then. A run is compared with its own past, through its learning rates where "
        "they were recorded.",
    )
    add_source(parser, choose=False)
    parser.add_argument("--metric", help="default: the one most runs have")
    parser.add_argument(
        "--false-alarm-rate",
        type=_rate,
        default=0.01,
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
            for name, record in progress(replayed, "Replaying"):
                found += [(name, flag) for flag in _replay(record, metric, args.false_alarm_rate)]
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


def _replay(record: RunRecord, metric: str, rate: float) -> tuple[Flag, ...]:
    """The flags of one run; values that are zero or negative are left out, and that is said."""
    told = [o for o in record.observations if o.metric == metric and o.counts.steps > 0]
    used = [o for o in told if not o.value <= 0]
    if len(used) < len(told):
        warn(f"{record.info.run}: {len(told) - len(used)} values that are not positive are not replayed.")
    lr = record.schedule.rates() if record.schedule is not None and why_unknown(record) is None else None
    return flag_run([o.counts.steps for o in used], [o.value for o in used], lr, false_alarm_rate=rate)


def _rate(text: str) -> float:
    """An argument that is a share."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"expected a number between 0 and 1, such as 0.01, got {text!r}")
    return value
