"""Record files brought to another root: copied whole, never rewritten in place, as often as one likes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from foretrain.observation import RunInfo
from foretrain.storage.reader import record_files
from foretrain.storage.record_file import Recording
from foretrain.storage.records import (
    LineError,
    decode_line,
    encode_header,
    folder_name,
    read_header,
    read_name,
)


class Merged(Enum):
    """What became of the records of one process."""

    COPIED = "copied"
    GROWN = "brought up to date"
    SAME = "already there"
    NEWER = "left alone: what is there goes on further"
    CLASH = (
        "refused: another process recorded this run under the same attempt; pass --prefix to keep both apart"
    )
    DIFFERS = "refused: another file of this name is there; one of the two is damaged"
    UNREADABLE = "refused: it has no readable header"


@dataclass(frozen=True)
class MergedFile:
    """One record file, and what became of it.

    Attributes:
        path: Where it came from.
        outcome: What became of it.
        run: The run it is of, by the name it has now; None where that is unknown.
        study: The study it is of.
    """

    path: Path
    outcome: Merged
    run: str | None = None
    study: str = ""


def merge_study(source: Path, root: Path, *, prefix: str = "") -> Iterator[MergedFile]:
    """Brings the record files of a study's folder into the same study under another root.

    A file that is not there is copied, one that has grown is replaced by the longer one, and one that says
    something else is left alone. Two processes that recorded a run of one name under one number of attempt,
    on machines that did not know of each other, are not put together: nobody knows that they trained the same
    run.

    Args:
        source: The study's folder, on this machine.
        root: The other root.
        prefix: Put before the names of the runs.

    Yields:
        What became of each file.

    Raises:
        OSError: If a file cannot be read or written.
    """
    for (_, _), found in sorted(record_files(source).items()):
        recording = Recording()
        recording.update(found)
        if recording.attempt is None:
            yield from (MergedFile(Path(path), Merged.UNREADABLE) for path in sorted(found))
            continue
        info = recording.attempt.info
        run = prefix + info.run
        folder = root / folder_name(info.study) / folder_name(run)
        clash = _clashes(folder, info, {_unique(path) for path in found})
        for path in sorted(found):
            outcome = Merged.CLASH if clash else _bring(Path(path), folder, prefix)
            yield MergedFile(Path(path), outcome, run, info.study)


def _unique(path: str | os.PathLike[str]) -> str:
    name = read_name(Path(path).name)
    return "" if name is None else name.unique


def _clashes(folder: Path, info: RunInfo, own: set[str]) -> bool:
    """Whether another process recorded the run under the same number of attempt."""
    try:
        names = [read_name(path.name) for path in folder.iterdir()]
    except OSError:
        return False
    return any(name is not None and name.attempt == info.attempt and name.unique not in own for name in names)


def _bring(path: Path, folder: Path, prefix: str) -> Merged:
    target = folder / path.name
    new = path.read_bytes()
    if prefix:
        new = b"".join(_renamed(line, prefix) for line in new.splitlines(keepends=True))
    old = target.read_bytes() if target.exists() else None
    if old == new:
        return Merged.SAME
    if old is not None and not new.startswith(old):
        return Merged.NEWER if old.startswith(new) else Merged.DIFFERS
    folder.mkdir(parents=True, exist_ok=True)
    # Never half a file under its own name; readers know no other names.
    half = target.with_suffix(f".{os.urandom(4).hex()}.half")
    try:
        half.write_bytes(new)
        half.replace(target)
    finally:
        half.unlink(missing_ok=True)
    return Merged.COPIED if old is None else Merged.GROWN


def _renamed(line: bytes, prefix: str) -> bytes:
    """A line as it is, or a header with the run's new name."""
    try:
        seq, kind, data = decode_line(line.rstrip(b"\n"))
        if kind != "run":
            return line
        info = read_header(data)
    except LineError:
        return line
    continues = info.continues and {**info.continues, "run": f"{prefix}{info.continues['run']}"}
    return encode_header(seq, replace(info, run=prefix + info.run, continues=continues))
