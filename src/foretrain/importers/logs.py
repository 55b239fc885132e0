"""What every importer reads a log into, and what all of them check alike."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

MAX_STEP = 2**53
"""Latest step: the last that a float holds exactly."""


class LogError(Exception):
    """A log that cannot be imported; its text says what was expected, what came, and what to do."""


@dataclass(frozen=True)
class Point:
    """One logged number.

    Attributes:
        step: The step it was logged at, as the logger counts.
        value: The number; may be NaN or infinite.
        time: Seconds since 1970; None where the log does not tell.
    """

    step: int
    value: float
    time: float | None = None


@dataclass(frozen=True)
class LoggedRun:
    """One run, as its log tells it.

    Attributes:
        name: Its name: where it lies under what is imported, or what the tracker calls it.
        series: The numbers asked for, by name, each in the order of its steps, one a step.
        names: Names of all the numbers that were logged, whether asked for or not.
        settings: Hyperparameters by name, as text.
        state: "finished" or "failed" where the log says so.
        problems: What of the log could not be read, as sentences.
    """

    name: str
    series: Mapping[str, tuple[Point, ...]] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    state: str | None = None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """One kind of log.

    Attributes:
        name: What users call it.
        find: The places under a path that hold logs of this kind, in order of their names.
        read: The runs that one place holds, with the numbers asked for. Takes the place, the path it was
            found under, and names; of each name also what the logger makes of it (`variants`). Raises
            `LogError`, or `OSError`, for a log that cannot be read at all.
    """

    name: str
    find: Callable[[Path], list[Path]]
    read: Callable[[Path, Path, Collection[str]], list[LoggedRun]]


def variants(name: str) -> tuple[str, str]:
    """The names under which Lightning logs a metric: its own, or with "_epoch" where it logs steps, too."""
    return name, f"{name}_epoch"


def files_named(path: Path, fits: Callable[[str], bool]) -> list[Path]:
    """The regular files under a path whose names fit, or the path itself; links to folders are not followed.

    Raises:
        LogError: If there is nothing at the path.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise LogError(f"Expected a file or a directory, there is nothing at {path}: check the path.")
    return sorted(
        Path(folder, name)
        for folder, _, names in os.walk(path)
        for name in names
        if fits(name) and Path(folder, name).is_file()
    )


def name_under(root: Path, folder: Path) -> str:
    """A run's name: the folder's place under the root, as TensorBoard names runs; of the root its own."""
    relative = folder.relative_to(root).as_posix() if folder != root else "."
    return folder.resolve().name if relative == "." else relative


def as_step(text: object) -> int | None:
    """A step from what a log holds; None where it is none."""
    number = as_number(text)
    if number is None or not (0 <= number <= MAX_STEP and number == int(number)):
        return None
    return int(number)


def as_number(text: object) -> float | None:
    """A number from what a log holds, as text or as it is; None where it is none."""
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        return None
    if isinstance(text, str) and (len(text) > 400 or "_" in text):
        return None
    try:
        return float(text)
    except (ValueError, OverflowError):
        return None


def in_order(points: Iterable[Point]) -> tuple[Point, ...]:
    """The points by step; of several at one step, the one that came last."""
    by_step = {point.step: point for point in points}
    return tuple(by_step[step] for step in sorted(by_step))


def whole_lines(path: Path, longest: int = 2**20) -> Iterator[str | None]:
    """The lines of a text file that are whole: one without an end is still being written.

    Args:
        path: The file, in UTF-8.
        longest: Bytes in the longest line that is read.

    Yields:
        Each line without its end; None for one that is too long or holds what is no text.
    """
    with path.open("rb") as file:
        too_long = False
        while line := file.readline(longest + 1):
            if not line.endswith(b"\n"):
                too_long = len(line) > longest
                continue
            if too_long or b"\0" in line:
                too_long = False
                yield None
                continue
            try:
                yield line.decode("utf-8").rstrip("\r\n")
            except UnicodeDecodeError:
                yield None


def is_finite(value: float | None) -> bool:
    """Whether there is a value, and it is finite."""
    return value is not None and math.isfinite(value)
