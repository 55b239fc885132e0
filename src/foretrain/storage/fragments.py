"""Fragments: lines of a record file, cut into immutable objects for stores that cannot append."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from foretrain.observation import RunInfo
from foretrain.storage.records import (
    MAX_LINE,
    FileName,
    LineError,
    decode_line,
    encode_header,
    read_header,
    read_name,
    write_name,
)

UNNUMBERED = 999_999_999
"""Stands for an attempt's number while the store was not asked which is free: it counts as the newest."""


@dataclass(frozen=True)
class Fragment:
    """Some lines of an attempt, as one object.

    Attributes:
        name: Its file name.
        content: A header, and the lines as they were written.
    """

    name: str
    content: bytes


class RecordTail:
    """A growing record file of this machine, cut into fragments from its start on.

    Holds no line for longer than a call. A line without an end, or damaged, is left out.

    Args:
        path: The file, as `foretrain.store` writes it.

    Attributes:
        offset: Bytes that were cut so far.
        info: The run and the attempt, once its header was read.
        generation: How often the file was found removed and begun anew.
    """

    def __init__(self, path: Path) -> None:
        name = read_name(path.name)
        self._unique = "0" if name is None else name.unique
        self.path = path
        self.offset = 0
        self.info: RunInfo | None = None
        self.generation = 0
        self._file = 0

    @property
    def unique(self) -> str:
        """What tells its process apart."""
        return self._unique

    @property
    def new(self) -> int:
        """How many bytes were not cut yet."""
        try:
            status = self.path.stat()
        except OSError:
            return 0
        if self.offset and (status.st_ino != self._file or status.st_size < self.offset):
            self.generation += 1
            self.offset = 0
        self._file = status.st_ino
        return status.st_size - self.offset

    def read_info(self) -> RunInfo | None:
        """The run and the attempt, None where there is no header yet."""
        if self.info is None:
            self._collect(0, MAX_LINE)
        return self.info

    def cut(self, number: int, most: int) -> Fragment | None:
        """The next fragment, of about `most` bytes; None where there is no whole line left.

        Args:
            number: The attempt's number.
            most: Bytes to look at.

        Raises:
            OSError: If the file cannot be read.
        """
        while self.new:
            start = self.offset
            lines, self.offset = self._collect(start, most)
            if lines:
                return self._fragment(number, lines)
            if self.offset == start:
                return None
        return None

    def again(self, number: int, start: int) -> Fragment | None:
        """All that was cut from `start` on, as one fragment."""
        lines: dict[int, bytes] = {}
        while start < self.offset:
            more, end = self._collect(start, self.offset - start)
            lines |= more
            if end == start:
                break
            start = end
        return self._fragment(number, lines) if lines else None

    def _fragment(self, number: int, lines: dict[int, bytes]) -> Fragment | None:
        if self.info is None:
            return None
        name = FileName(number, self._unique, min(lines), max(lines))
        info = replace(self.info, attempt=number)
        # Twice, as in a file: without a header all that follows is lost.
        header = encode_header(0, info) + b"\n" + encode_header(1, info)
        return Fragment(write_name(name), header + b"".join(lines[key] + b"\n" for key in sorted(lines)))

    def _collect(self, start: int, most: int) -> tuple[dict[int, bytes], int]:
        """The whole lines from `start` on in about `most` bytes, by number, and where they end."""
        found: dict[int, bytes] = {}
        for line, end in _whole_lines(self.path, start, most):
            start = end
            try:
                number, kind, data = decode_line(line)
                if kind != "run":
                    found[number] = line
                elif self.info is None:
                    self.info = read_header(data)
            except LineError:
                continue
        return found, start


def _whole_lines(path: Path, start: int, most: int) -> Iterator[tuple[bytes, int]]:
    with path.open("rb") as file:
        file.seek(start)
        # One line may be longer than what was asked for.
        block = file.read(max(most, MAX_LINE + 1))
    size = max(most, block.find(b"\n") + 1)
    end = block.rfind(b"\n", 0, size) + 1
    if not end and len(block) > MAX_LINE:
        yield block, start + len(block)  # no line of ours: to be passed over
    for line in block[: end - 1].split(b"\n") if end else ():
        start += len(line) + 1
        yield line, start


def covers(names: Iterable[FileName], name: FileName) -> bool:
    """Whether the lines that a fragment names are all in other fragments of its process."""
    assert name.first is not None and name.last is not None
    need = name.first
    for first, last in sorted((n.first or 0, n.last or 0) for n in names if n.unique == name.unique):
        if first > need:
            break
        need = max(need, last + 1)
    return need > name.last
