"""Tables of logged numbers, one row a call of the logger: what CSVLogger and W&B's exports have in common."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from foretrain.importers.logs import LogError, Point, as_number, as_step, in_order, whole_lines

_EMPTY = ("", None)


class Columns:
    """Gathers the points of some columns from rows that come one by one.

    Args:
        wanted: Names of the columns.
        step: Name of the column that holds the step.
        time: Name of the column that holds seconds since 1970, if there is one.
    """

    def __init__(self, wanted: Collection[str], step: str, time: str = "") -> None:
        self._wanted = wanted
        self._step = step
        self._time = time
        self._points: dict[str, list[Point]] = {}
        self.names: dict[str, None] = {}
        self.damaged = 0

    def add(self, row: Mapping[str, object] | None) -> None:
        """Takes a row; None is one that could not be read."""
        if row is None:
            self.damaged += 1
            return
        self.names |= dict.fromkeys(row)
        held = {name: row[name] for name in self._wanted if row.get(name) not in _EMPTY}
        if not held:
            return
        step, time = as_step(row.get(self._step)), as_number(row.get(self._time))
        values = {name: as_number(value) for name, value in held.items()}
        if step is None or None in values.values():
            self.damaged += 1
        for name, value in values.items():
            if step is not None and value is not None:
                self._points.setdefault(name, []).append(Point(step, value, time))

    @property
    def series(self) -> dict[str, tuple[Point, ...]]:
        """The points by column."""
        return {name: in_order(points) for name, points in self._points.items()}

    def problems(self, path: Path) -> tuple[str, ...]:
        """What could not be read, as sentences."""
        if not self.damaged:
            return ()
        return (f"{path}: {self.damaged} rows without a whole step or number were passed over.",)


def read_rows(path: Path) -> tuple[list[str], Iterator[dict[str, object] | None]]:
    """A CSV file's header, and its rows by name; a row that is damaged is None.

    Raises:
        LogError: If there is no header, or a name stands in it twice.
    """
    lines = whole_lines(path)
    first = next(lines, None)
    header = next(csv.reader([first]), []) if first is not None else []
    if not header or len(set(header)) < len(header):
        raise LogError(
            f"Expected a table with a header of different names in {path}, got {(first or '')[:80]!r}: "
            "pass the file as the logger wrote it."
        )
    return header, _rows(header, lines)


def _rows(header: list[str], lines: Iterable[str | None]) -> Iterator[dict[str, object] | None]:
    for line in lines:
        if line is None:
            yield None
            continue
        try:
            cells = next(csv.reader([line], strict=True), [])
        except csv.Error:
            cells = [""]
        if cells:
            yield dict(zip(header, cells, strict=True)) if len(cells) == len(header) else None
