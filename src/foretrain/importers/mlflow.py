"""MLflow's stores, read without MLflow: the file store (`mlruns`) and a local SQLite database."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path

from foretrain.importers.logs import (
    LogError,
    LoggedRun,
    Point,
    Source,
    as_number,
    as_step,
    files_named,
    in_order,
    whole_lines,
)
from foretrain.importers.settings import read_flat_yaml

_STATES = {
    **dict.fromkeys(("3", "FINISHED"), "finished"),
    **dict.fromkeys(("4", "FAILED", "5", "KILLED"), "failed"),
}
"""By the numbers of the file store and the names of databases; a run still going has no entry."""
_DATABASE = b"SQLite format 3\0"
_LONGEST_VALUE = 10_000


def find(path: Path) -> list[Path]:
    """The runs of a file store, as their `meta.yaml`, or the databases at or under a path."""
    found = files_named(path, lambda name: name == "meta.yaml" or name.endswith((".db", ".sqlite")))
    return [place for place in found if place.name != "meta.yaml" or "run_id" in read_flat_yaml(place)]


def read(place: Path, root: Path, wanted: Collection[str]) -> list[LoggedRun]:
    """The runs at one place; those that were deleted in MLflow are left out.

    Raises:
        LogError: If it is neither a run's `meta.yaml` nor a database of MLflow.
    """
    if place.name == "meta.yaml":
        return _stored(place, wanted)
    with place.open("rb") as file:
        if file.read(len(_DATABASE)) != _DATABASE:
            raise LogError(f"Expected a run's meta.yaml or an SQLite database of MLflow, got {place}.")
    try:
        with closing(sqlite3.connect(f"{place.resolve().as_uri()}?mode=ro", uri=True)) as database:
            return list(_tables(place, database, wanted))
    except sqlite3.Error as error:
        raise LogError(
            f"Expected an SQLite database of MLflow in {place}, it cannot be read ({error}): check the file."
        ) from error


def _stored(place: Path, wanted: Collection[str]) -> list[LoggedRun]:
    about = read_flat_yaml(place)
    if about.get("lifecycle_stage", "active") != "active":
        return []
    folder = place.parent
    experiment = read_flat_yaml(folder.parent / "meta.yaml").get("name", folder.parent.name)
    title = about.get("run_name") or _value(folder / "tags" / "mlflow.runName") or ""
    damaged, series = 0, {}
    metrics = dict(_values(folder / "metrics"))
    for name in metrics.keys() & set(wanted):
        points, bad = _points(metrics[name])
        series[name] = in_order(points)
        damaged += bad
    return [
        LoggedRun(
            name=_name(experiment, title, about.get("run_id", folder.name)),
            series=series,
            names=tuple(sorted(metrics)),
            settings={name: _value(path) for name, path in _values(folder / "params")},
            state=_STATES.get(about.get("status", "")),
            problems=(f"{folder}: {damaged} damaged lines were passed over.",) if damaged else (),
        )
    ]


def _values(folder: Path) -> Iterator[tuple[str, Path]]:
    """The files in a folder by the name that MLflow knows them by: "val/loss" is a file in a folder."""
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            if path.is_file() and not path.is_symlink():
                yield path.relative_to(folder).as_posix(), path


def _value(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_LONGEST_VALUE).decode("utf-8", "replace").strip()
    except OSError:
        return ""


def _points(path: Path) -> tuple[list[Point], int]:
    """The lines "milliseconds value step" of a metric's file, and how many were none."""
    points, damaged = [], 0
    for line in whole_lines(path):
        parts = (line or "").split(" ")
        value, step = (as_number(parts[1]), as_step(parts[2])) if len(parts) > 2 else (None, None)
        if value is None or step is None:
            damaged += 1
        else:
            points.append(Point(step, value, _seconds(as_number(parts[0]))))
    return points, damaged


def _tables(place: Path, database: sqlite3.Connection, wanted: Collection[str]) -> Iterator[LoggedRun]:
    experiments = dict(database.execute("SELECT experiment_id, name FROM experiments"))
    runs = database.execute(
        "SELECT run_uuid, name, experiment_id, status FROM runs WHERE lifecycle_stage = 'active' "
        "ORDER BY run_uuid"
    ).fetchall()
    for run, title, experiment, status in runs:
        logged = database.execute("SELECT DISTINCT key FROM metrics WHERE run_uuid = ? ORDER BY key", (run,))
        names = tuple(str(name) for (name,) in logged)
        series = {name: in_order(_rows(database, run, name)) for name in names if name in wanted}
        settings = database.execute("SELECT key, value FROM params WHERE run_uuid = ?", (run,))
        yield LoggedRun(
            name=_name(str(experiments.get(experiment, experiment)), str(title or ""), str(run)),
            series=series,
            names=names,
            settings={str(name): str(value) for name, value in settings},
            state=_STATES.get(str(status)),
        )


def _rows(database: sqlite3.Connection, run: str, name: str) -> Iterator[Point]:
    # The database holds NaN as a 0 with a mark, and what is infinite as the largest float.
    rows = database.execute(
        "SELECT step, value, is_nan, timestamp FROM metrics WHERE run_uuid = ? AND key = ? "
        "ORDER BY step, timestamp",
        (run, name),
    )
    for at, number, is_nan, milliseconds in rows:
        step, value = as_step(at), float("nan") if is_nan else as_number(number)
        if step is not None and value is not None:
            yield Point(
                step, value if abs(value) < 1.7e308 else value * 10, _seconds(as_number(milliseconds))
            )


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000.0


def _name(experiment: str, title: str, identity: str) -> str:
    """Unique and the same at every import: MLflow gives names that stand for several runs."""
    return "/".join(part for part in (experiment, f"{title}-{identity[:8]}" if title else identity) if part)


SOURCE = Source("mlflow", find, read)
