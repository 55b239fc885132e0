"""`foretrain store compute`: what the runs of a study have cost, and what of it was lost."""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from foretrain.cli.output import CommandError, console, table, visible, warn
from foretrain.cli.roots import add_source, study_folders
from foretrain.compute import (
    ComputeBurden,
    RunCompute,
    Totals,
    compute_burden,
    compute_record,
    totals,
)
from foretrain.storage.attempts import Attempt, put_together
from foretrain.storage.reader import record_files
from foretrain.storage.record_file import Recording
from foretrain.storage.urls import without_secrets

MAX_RUNS = 64
"""Of more runs only the sums are printed; `--json` has them all."""

OTHER = "other runs"


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser("compute", help="sum up training FLOPs by run, size and recipe")
    add_source(parser, choose=False)
    parser.add_argument(
        "--recipe",
        action="append",
        default=[],
        metavar="PATTERN",
        help='runs that are summed up together, such as "wide-*"; may be repeated; default: by how they '
        "were counted",
    )
    parser.add_argument(
        "--burden",
        metavar="METRIC",
        help="say how much more compute half of this error takes over the finished runs",
    )
    parser.add_argument("--json", action="store_true", help="one run a line and one line of sums, as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the sums of every study; 1 where nothing is there, or a sum misses something."""
    found = missing = 0
    with study_folders(args.log_dir) as folders:
        for folder in folders:
            attempts, damaged = _read(folder)
            runs = compute_record(attempts)
            if not runs:
                continue
            found += 1
            unknown = sum(one.kept is None for one in runs)
            missing += damaged + unknown
            tell = _tell_json if args.json else _tell
            burden = None if args.burden is None else _burden(attempts, args.burden)
            tell(runs, _recipes(runs, args.recipe), burden)
            if damaged:
                warn(
                    f"{runs[0].study}: {damaged} damaged lines were passed over, so the sums may miss FLOPs."
                )
            if unknown:
                warn(f"{runs[0].study}: {unknown} runs recorded no FLOPs; the sums are without them.")
    if not found:
        raise CommandError(f"No records under {without_secrets(args.log_dir)}: expected a log_dir of runs.")
    return 1 if missing else 0


def _read(folder: Path) -> tuple[list[Attempt], int]:
    """What was recorded of a study, every line checked, and how many lines were damaged."""
    attempts: list[Attempt] = []
    damaged = 0
    for _, files in sorted(record_files(folder).items()):
        recording = Recording()
        recording.update(files)
        damaged += sum(recording.skipped.values())
        attempt = recording.read()
        attempts += [] if attempt is None else [attempt]
    return attempts, damaged


def _burden(attempts: Sequence[Attempt], metric: str) -> ComputeBurden:
    """The compute burden over the finished runs' last values.

    Raises:
        CommandError: If there are too few.
    """
    newest = [run.newest(metric) for run in put_together(attempts).values() if run.state == "finished"]
    known = [(o.counts.flops, o.value) for o in newest if o is not None and o.counts.flops]
    known = [(flops, value) for flops, value in known if 0 < value < math.inf]
    try:
        return compute_burden([flops for flops, _ in known], [value for _, value in known])
    except ValueError as error:
        told = f"No compute burden of {metric!r} over {len(known)} finished runs: {error}"
        raise CommandError(told) from None


def _recipes(runs: Sequence[RunCompute], patterns: Sequence[str]) -> Callable[[RunCompute], str]:
    """Which recipe a run is of: the first pattern that its name fits, else how it was counted."""
    if patterns:
        return lambda one: next((p for p in patterns if fnmatchcase(one.run, p)), OTHER)
    shared = set.intersection(*(set(one.counted) for one in runs))

    def counted(one: RunCompute) -> str:
        own = sorted(set(one.counted) - shared)
        return ", ".join(f"{name}: {rule}" for name, rule in own) or "all that differ in nothing else"

    return counted


def _tell_json(
    runs: Sequence[RunCompute], recipe: Callable[[RunCompute], str], burden: ComputeBurden | None
) -> None:
    for one in runs:
        row = {**asdict(one), "counted": dict(one.counted), "recipe": recipe(one), "spent": one.spent}
        print(json.dumps(row))
    sums: dict[str, Any] = {
        "study": runs[0].study,
        "total": asdict(_total(runs)),
        "sizes": [{"params": size, **asdict(one)} for size, one in _by_size(runs).items()],
        "recipes": [{"recipe": name, **asdict(one)} for name, one in totals(runs, recipe).items()],
        "rules": [{"rule": name, **asdict(one)} for name, one in totals(runs, lambda r: r.rule).items()],
    }
    if burden is not None:
        numbers = {"exponent": asdict(burden.exponent), "halving": asdict(burden.halving)}
        told = {name: {key: _finite(at) for key, at in ends.items()} for name, ends in numbers.items()}
        sums["burden"] = {**told, "models": burden.models, "sentence": burden.sentence}
    print(json.dumps(sums))


def _tell(
    runs: Sequence[RunCompute], recipe: Callable[[RunCompute], str], burden: ComputeBurden | None
) -> None:
    screen = console()
    columns = ("run", "state", "parameters", "processes", "FLOPs", "of them lost", "inherited")
    if len(runs) <= MAX_RUNS:
        rows = (
            (one.run, one.state, _size(one.params), one.attempts)
            + (
                ("-",) * 3
                if one.kept is None
                else (_flops(one.spent), _flops(one.lost), _flops(one.inherited))
            )
            for one in runs
        )
        screen.print(table(runs[0].study, columns, rows, left=2))
    sizes = {_size(size): one for size, one in _by_size(runs).items()}
    _tell_sums(f"{runs[0].study}: by size", "parameters", sizes)
    recipes = totals(runs, recipe)
    if len(recipes) > 1:
        _tell_sums(f"{runs[0].study}: by recipe", "recipe", recipes)
    total = _total(runs)
    share = total.lost / total.spent if total.spent else 0.0
    screen.print(
        visible(
            f"{runs[0].study}: {_flops(total.spent)} FLOPs in {total.runs} runs, of which {share:.1%} were "
            f"lost to resumed stretches; {_flops(total.unfinished)} are of runs that failed or have not "
            "ended.",
            longest=2_000,
        )
    )
    if burden is not None:
        screen.print(visible(burden.sentence, longest=2_000))
    rules = Counter(one.rule for one in runs if one.kept is not None)
    if len(rules) > 1:
        told = "; ".join(f"{rule}: {times} runs" for rule, times in rules.most_common())
        warn(
            f"{runs[0].study}: FLOPs were counted by different rules, and are summed up all the same: {told}."
        )


def _tell_sums(title: str, name: str, sums: dict[str, Totals]) -> None:
    columns = (name, "runs", "FLOPs", "of them lost", "not finished")
    rows = (
        (label, one.runs, _flops(one.spent), _flops(one.lost), _flops(one.unfinished))
        for label, one in sums.items()
    )
    console().print(table(title, columns, rows))


def _by_size(runs: Sequence[RunCompute]) -> dict[int | None, Totals]:
    found = totals(runs, lambda one: one.params)
    return {size: found[size] for size in sorted(found, key=lambda size: (size is None, size))}


def _total(runs: Sequence[RunCompute]) -> Totals:
    everything: Hashable = None
    return totals(runs, lambda _: everything)[everything]


def _size(params: int | None) -> str:
    return "-" if params is None else f"{params:,}"


def _flops(flops: float) -> str:
    return "0" if not flops else f"{flops:.3g}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
