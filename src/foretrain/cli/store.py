"""`foretrain store`: the record files themselves: whether they are sound, brought together, as a table."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

from foretrain.cli.compute import add_parser as add_compute
from foretrain.cli.export import add_parser as add_export
from foretrain.cli.output import CommandError, console, progress, table, warn
from foretrain.cli.roots import add_source, study_folders
from foretrain.storage.merging import Merged, MergedFile, merge_study
from foretrain.storage.reader import record_files
from foretrain.storage.record_file import Recording
from foretrain.storage.urls import as_root, is_url, without_secrets


def add_parser(commands: Any) -> None:
    """Adds the subcommand and its own."""
    parser = commands.add_parser("store", help="check, merge, export or sum up the records")
    own = parser.add_subparsers(dest="what", required=True)
    check = own.add_parser("check", help="say what every record file holds and what of it is damaged")
    add_source(check, choose=False)
    check.add_argument("--json", action="store_true", help="one file a line, as JSON")
    check.set_defaults(run=run_check)
    merge = own.add_parser("merge", help="bring the records of other directories into one")
    merge.add_argument("source", nargs="+", help="a log_dir, or the foretrain folder in it; or its URL")
    merge.add_argument("--into", required=True, metavar="LOG_DIR", help="the directory that gets them")
    merge.add_argument("--prefix", default="", help="put before the names of the runs that come")
    merge.add_argument("--json", action="store_true", help="one file a line, as JSON")
    merge.set_defaults(run=run_merge)
    add_compute(own)
    add_export(own)


def run_check(args: argparse.Namespace) -> int:
    """Prints what each process recorded; 1 where something is damaged or nothing is there."""
    rows: list[dict[str, Any]] = []
    with study_folders(args.log_dir) as folders:
        for folder in folders:
            for (where, _), found in sorted(record_files(folder).items()):
                recording = Recording()
                recording.update(found)
                attempt = recording.read()
                rows.append(
                    {
                        "study": None if attempt is None else attempt.info.study,
                        "run": None if attempt is None else attempt.info.run,
                        "attempt": None if attempt is None else attempt.info.attempt,
                        "state": None if attempt is None else attempt.state,
                        "observations": 0 if attempt is None else len(attempt.flat()),
                        "skipped": dict(sorted(recording.skipped.items())),
                        "unfinished": recording.unfinished,
                        "files": [str(Path(Path(where).name, Path(path).name)) for path in sorted(found)],
                    }
                )
    if not rows:
        raise CommandError(f"No records under {without_secrets(args.log_dir)}: expected a log_dir of runs.")
    damaged = [row for row in rows if row["skipped"] or row["run"] is None]
    if args.json:
        for row in rows:
            print(json.dumps(row))
    else:
        _tell_check(rows)
    for row in damaged:
        reasons = row["skipped"] or {"no readable header": 1}
        told = ", ".join(f"{times} {reason}" for reason, times in reasons.items())
        warn(f"{', '.join(row['files'])}: lines passed over: {told}.")
    return 1 if damaged else 0


def _tell_check(rows: list[dict[str, Any]]) -> None:
    console().print(
        table(
            f"{len(rows)} attempts",
            ("study", "run", "state", "attempt", "observations", "damaged lines"),
            (
                (
                    *(
                        "-" if row[name] is None else row[name]
                        for name in ("study", "run", "state", "attempt")
                    ),
                    f"{row['observations']:,}",
                    sum(row["skipped"].values()),
                )
                for row in rows
            ),
            left=3,
        )
    )
    unfinished = sum(row["unfinished"] for row in rows)
    if unfinished:
        console().print(
            f"{unfinished} files end in a line without an end: their process was stopped, or is writing now."
        )


def run_merge(args: argparse.Namespace) -> int:
    """Copies record files; 1 where one was refused."""
    try:
        root = as_root(args.into)
    except ValueError as error:
        raise CommandError(str(error), 2) from None
    if is_url(root):
        raise CommandError("Expected a directory with --into, got a URL: merge there and upload it.", 2)
    target = Path(root) if Path(root).name == "foretrain" else Path(root, "foretrain")
    told: list[MergedFile] = []
    for source in args.source:
        with study_folders(source) as folders:
            if not folders:
                raise CommandError(f"No records under {without_secrets(source)}: expected a log_dir of runs.")
            for folder in progress(folders, "Merging", least=2):
                try:
                    told += merge_study(folder, target, prefix=args.prefix)
                except OSError as error:
                    raise CommandError(f"Merging {folder} into {target} stopped: {error}.") from None
    if args.json:
        for one in told:
            print(json.dumps({**vars(one), "path": str(one.path), "outcome": one.outcome.name.lower()}))
    else:
        rows = Counter((one.study or "-", one.run or one.path.name, one.outcome.value) for one in told)
        console().print(
            table(
                f"into {target}",
                ("study", "run", "outcome", "files"),
                ((*row, files) for row, files in sorted(rows.items())),
                left=3,
            )
        )
    refused = (Merged.CLASH, Merged.DIFFERS, Merged.UNREADABLE)
    return 1 if any(one.outcome in refused for one in told) else 0
