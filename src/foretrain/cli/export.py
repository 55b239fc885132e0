"""`foretrain store export`: every observation as a row of a CSV or Parquet file."""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, TextIO

from foretrain.axes import Counts
from foretrain.cli.output import CommandError, warn
from foretrain.cli.roots import add_source, read_studies, study_folders
from foretrain.store import Study

COUNTS = tuple(field.name for field in fields(Counts))
COLUMNS = ("study", "run", "attempt", "state", "metric", "value", *COUNTS, "lr", "time", "conventions")
LARGEST_INTEGER = 2**63 - 1


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser("export", help="write every observation as a row of a table")
    add_source(parser, choose=False)
    parser.add_argument("--metric", help="only this one")
    parser.add_argument("--to", metavar="FILE", help="a .csv or .parquet file; default: CSV, printed")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Writes the table; 1 where there is nothing to write."""
    target = None if args.to is None else Path(args.to)
    if target is not None and target.suffix not in (".csv", ".parquet"):
        raise CommandError(f"Expected a file that ends in .csv or .parquet, got {args.to!r}.", 2)
    with study_folders(args.log_dir) as folders:
        studies = read_studies(folders, args.log_dir, args.metric)
    rows = [row for study in studies for row in _rows(study, args.metric)]
    try:
        if target is None:
            _write_csv(rows, sys.stdout)
        elif target.suffix == ".csv":
            with _whole(target) as half, half.open("w", encoding="utf-8", newline="") as file:
                _write_csv(rows, file)
        else:
            with _whole(target) as half:
                _write_parquet(rows, half)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise CommandError(f"{args.to} cannot be written: {error.strerror or error}.") from None
    if target is not None:
        warn(f"{len(rows)} observations are in {target}.")
    return 0


def _rows(study: Study, metric: str | None) -> Iterator[dict[str, Any]]:
    for run in study.runs.values():
        conventions = json.dumps(run.info.conventions, sort_keys=True)
        for observation in run.observations:
            if metric not in (None, observation.metric):
                continue
            yield {
                "study": run.info.study,
                "run": observation.run,
                "attempt": observation.attempt,
                "state": run.state,
                "metric": observation.metric,
                "value": observation.value,
                **{name: getattr(observation.counts, name) for name in COUNTS},
                "lr": observation.lr,
                "time": observation.time,
                "conventions": conventions,
            }


def _write_csv(rows: Sequence[dict[str, Any]], file: TextIO) -> None:
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {name: _text(value) if isinstance(value, str) else value for name, value in row.items()}
        for row in rows
    )


def _write_parquet(rows: Sequence[dict[str, Any]], path: Path) -> None:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise CommandError("Parquet files need pyarrow: pip install 'foretrain[parquet]'.") from None
    columns = {name: _column([row[name] for row in rows]) for name in COLUMNS}
    types = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64()}
    arrays = {name: pyarrow.array(values, types[kind]) for name, (kind, values) in columns.items()}
    pyarrow.parquet.write_table(pyarrow.table(arrays), path)


def _column(values: Sequence[Any]) -> tuple[type, list[Any]]:
    """A column's type and its values as that type: whole numbers where all are."""
    known = [value for value in values if value is not None]
    if any(isinstance(value, str) for value in known):
        return str, [None if value is None else _text(value) for value in values]
    if known and all(isinstance(value, int) and abs(value) <= LARGEST_INTEGER for value in known):
        return int, list(values)
    return float, [None if value is None else float(value) for value in values]


def _text(value: str) -> str:
    """The text with what UTF-8 cannot hold written as its number."""
    return value.encode("utf-8", "backslashreplace").decode()


@contextmanager
def _whole(target: Path) -> Iterator[Path]:
    """Another name to write under; it becomes the target's only when all is written."""
    half = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        yield half
        half.replace(target)
    finally:
        half.unlink(missing_ok=True)
