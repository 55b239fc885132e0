"""W&B's history exports: CSV files and JSON lines. W&B's own `.wandb` run files are not read.

Two shapes of CSV are known: what `run.history().to_csv()` writes, one run a file with a column a metric, and
what the web page exports of a chart, many runs a file with columns "run - metric". JSON lines are one object
a line, as `run.scan_history()` gives them. The configuration, where it is asked for, is read from a file of
the same name that ends in `.config.json`, as `json.dump(dict(run.config), file)` writes it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path

from foretrain.importers.columns import Columns, read_rows
from foretrain.importers.logs import LogError, LoggedRun, Source, files_named, name_under, whole_lines
from foretrain.importers.settings import read_json_settings

STEPS = ("trainer/global_step", "_step")
"""Columns that may hold the step: Lightning's own comes before W&B's count of calls to `wandb.log`."""
CHART_STEPS = (*STEPS, "Step")
_TIME = "_timestamp"
_BOUNDS = ("__MIN", "__MAX")


def find(path: Path) -> list[Path]:
    """The exports under a path, or the file itself."""
    return files_named(path, lambda name: name.endswith((".csv", ".jsonl", ".ndjson")))


def read(place: Path, root: Path, wanted: Collection[str]) -> list[LoggedRun]:
    """The runs that one export tells of.

    Raises:
        LogError: If it has no column of steps.
    """
    if place.suffix != ".csv":
        return [_run(place, root, _objects(place), wanted)]
    header, rows = read_rows(place)
    if header[0] in CHART_STEPS and all(" - " in name for name in header[1:]):
        return _chart(place, header, rows, wanted)
    return [_run(place, root, rows, wanted)]


def _run(
    place: Path, root: Path, rows: Iterator[dict[str, object] | None], wanted: Collection[str]
) -> LoggedRun:
    # Rows of Lightning's lack neither column, and the first that does not decides for all.
    kept = {step: Columns(wanted, step, _TIME) for step in STEPS}
    for row in rows:
        for columns in kept.values():
            columns.add(row)
    seen = next(iter(kept.values())).names
    step = next((step for step in STEPS if step in seen), None)
    if step is None:
        raise LogError(
            f"Expected a column `trainer/global_step` or `_step` in {place}, got "
            f"{', '.join(list(seen)[:20]) or 'none'}: export the history with its steps."
        )
    columns = kept[step]
    problems = columns.problems(place)
    if step == "_step":
        problems += (
            f"{place}: steps are W&B's `_step`, which counts calls of `wandb.log` unless the script passed a "
            "step itself: check that they are optimizer steps.",
        )
    name = name_under(root, place.parent / place.stem) if root.is_dir() else place.stem
    return LoggedRun(
        name=name,
        series=columns.series,
        names=tuple(name for name in seen if name and name not in (*STEPS, "_timestamp", "_runtime")),
        settings=read_json_settings(place.with_suffix(".config.json")),
        problems=problems,
    )


def _chart(
    place: Path, header: list[str], rows: Iterator[dict[str, object] | None], wanted: Collection[str]
) -> list[LoggedRun]:
    shown = [name for name in header[1:] if not name.endswith(_BOUNDS)]
    asked = {name: name.rpartition(" - ")[2] for name in shown}
    columns = Columns([name for name in shown if asked[name] in wanted], header[0])
    for row in rows:
        columns.add(row)
    series, settings = columns.series, read_json_settings(place.with_suffix(".config.json"))
    found: dict[str, LoggedRun] = {}
    for run in dict.fromkeys(name.rpartition(" - ")[0] for name in shown):
        own = [name for name in shown if name.rpartition(" - ")[0] == run]
        found[run] = LoggedRun(
            name=run,
            series={asked[name]: series[name] for name in own if name in series},
            names=tuple(asked[name] for name in own),
            # One file for all runs: each run's settings stand under its name.
            settings={
                name.removeprefix(f"{run}."): value
                for name, value in settings.items()
                if name.startswith(f"{run}.")
            },
            problems=columns.problems(place),
        )
    return list(found.values())


def _objects(place: Path) -> Iterator[dict[str, object] | None]:
    for line in whole_lines(place):
        if line is not None and not line.strip():
            continue
        try:
            record = None if line is None else json.loads(line)
        except (ValueError, RecursionError):
            record = None
        yield record if isinstance(record, dict) else None


SOURCE = Source("wandb", find, read)
