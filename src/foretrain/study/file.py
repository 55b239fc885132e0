"""A study as a file: its points, where its runs are kept and what trains them, for schedulers and make."""

from __future__ import annotations

import importlib
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foretrain.storage.urls import as_root, is_url
from foretrain.study.job import Train
from foretrain.study.points import Point, check_points, grid

LONGEST = 64 * 2**20
"""Bytes: a larger file is no study."""


@dataclass(frozen=True)
class StudyFile:
    """What a study's file tells.

    Attributes:
        points: The points, in the file's order: their numbers count from 0.
        root: Root of the store, absolute, or a URL.
        study: Name of the study.
        train: What trains a point, as `module:function`; None where the file does not tell.
        folder: Of the file, where the module is looked for first.
    """

    points: tuple[Point, ...]
    root: str
    study: str
    train: str | None
    folder: Path

    def load_train(self) -> Train:
        """The function that trains a point; imports its module.

        Raises:
            ValueError: If the file names none, or it cannot be imported.
        """
        module, _, name = (self.train or "").partition(":")
        if not module or not name:
            raise ValueError(
                f"Expected `train` in the study's file as module:function, got {self.train!r}: "
                "name a function of one dictionary at a module's top level."
            )
        if str(self.folder) not in sys.path:
            sys.path.insert(0, str(self.folder))
        try:
            found = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise ValueError(
                f"Expected `train` to be a function that can be imported, got {self.train!r} "
                f"({type(error).__name__}: {error}): name a module beside the file, or an installed one."
            ) from error
        if not callable(found):
            raise ValueError(
                f"Expected `train` to be a function, got {self.train!r}, which is {found!r:.60}."
            )
        return found  # type: ignore[no-any-return]


def read_study_file(path: str | os.PathLike[str]) -> StudyFile:
    """Reads a study's file.

    It holds one JSON object: `root` (a directory, relative to the file, or a URL), `train`
    (`module:function`), `study` (a name, by default "default"), and `grid` (the arguments of `grid`: lists of
    `size`, `data` and `seed`, and options) or `points` (a list of objects with `size`, `data`, `seed` and
    `options`).

    Raises:
        ValueError: If it is no such file; says what is wrong with it.
        OSError: If it cannot be read.
    """
    path = Path(path)
    record = _read(path)
    known = {"grid", "points", "root", "study", "train"}
    if unknown := sorted(record.keys() - known):
        raise ValueError(f"Expected {', '.join(sorted(known))} in {path}, got also {', '.join(unknown)}.")
    for name in ("root", "study", "train"):
        if not isinstance(record.get(name, ""), str):
            raise ValueError(f"Expected `{name}` in {path} to be text, got {record[name]!r:.60}.")
    if ("grid" in record) == ("points" in record):
        raise ValueError(
            f"Expected either `grid` or `points` in {path}, got {'both' * ('grid' in record) or 'neither'}."
        )
    if not record.get("root"):
        raise ValueError(f"Expected `root` in {path}: name the directory or URL where the runs are kept.")
    root = as_root(record["root"])
    folder = path.absolute().parent
    return StudyFile(
        points=_points(record, path),
        root=root if is_url(root) else os.path.normpath(folder / root),
        study=record.get("study", "default"),
        train=record.get("train"),
        folder=folder,
    )


def _read(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        text = file.read(LONGEST + 1)
    if len(text) > LONGEST:
        raise ValueError(f"Expected a study's file of at most {LONGEST // 2**20} MiB, {path} is larger.")
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"Expected JSON in {path}, got something else: {error}.") from None
    if not isinstance(record, dict):
        raise ValueError(f"Expected one JSON object in {path}, got {record!r:.60}.")
    return record


def _points(record: dict[str, Any], path: Path) -> tuple[Point, ...]:
    if "grid" in record:
        axes = record["grid"]
        if not isinstance(axes, dict) or not all(isinstance(axes.get(n), list) for n in ("size", "data")):
            raise ValueError(
                f"Expected `grid` in {path} to hold lists of `size` and `data`, got {axes!r:.80}."
            )
        if not isinstance(axes.get("seed", []), list):
            raise ValueError(f"Expected `seed` of the grid in {path} to be a list, got {axes['seed']!r:.60}.")
        return check_points(grid(**axes))
    if not isinstance(record["points"], list):
        raise ValueError(f"Expected `points` in {path} to be a list, got {record['points']!r:.60}.")
    return check_points(Point.from_json(point) for point in record["points"])
