"""What brings one record file of this machine to a store: fragments, an attempt's number, fewer objects."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from foretrain.storage.fragments import UNNUMBERED, Fragment, RecordTail
from foretrain.storage.objects import Key, ObjectFolder
from foretrain.storage.records import FileName, LineError, decode_line, read_header, read_name
from foretrain.storage.spool import SpoolFolder

PIECE = 4 * 2**20
"""Bytes of lines in one object, at most, about: 20,000 observations."""
FULL = PIECE // 2
"""Objects from this size on are left as they are; those below are put together, up to this and one piece."""


@dataclass
class Loose:
    """The newest objects of an attempt, which are to be put together into one.

    Attributes:
        names: Their names.
        start: Where the first of them begins in the file.
        size: Bytes in them.
    """

    names: list[str]
    start: int = 0
    size: int = 0


class Shipment:
    """One record file on its way to the store behind a URL.

    Every call may wait for the network and raises what the filesystem raises; the next one goes on from
    there. An object is written under a name that only this process uses, and only ever with the same content,
    so that writing it again, after a write that had succeeded without saying so, changes nothing.

    Args:
        path: The file, at `<study>/<run>/<file>` in its folder: the same folders are used in the store.
        objects: The store's root.
    """

    def __init__(self, path: Path, objects: ObjectFolder) -> None:
        self._tail = RecordTail(path)
        self._objects = objects
        self._folder: Key = (path.parent.parent.name, path.parent.name)
        self._number: int | None = None
        self._next: Fragment | None = None
        self._loose = Loose([])
        self._generation = 0
        self._obsolete: list[str] = []

    @property
    def unique(self) -> str:
        """What tells the objects of this process apart."""
        return self._tail.unique

    @property
    def waiting(self) -> int:
        """Bytes that the store does not have, about; a line that was not finished counts."""
        return self._tail.new + (0 if self._next is None else len(self._next.content))

    @property
    def tidy(self) -> bool:
        """Whether there is nothing to put together, nor to remove."""
        return len(self._loose.names) <= 1 and not self._obsolete

    def is_untidy(self, most: int) -> bool:
        """Whether there are at least `most` small objects, or enough of them to make one that is full."""
        count = len(self._loose.names)
        return count >= most or (count > 1 and self._loose.size >= FULL)

    def ship(self, most: int = PIECE) -> bool:
        """Writes one object with the next lines; whether there was any.

        Args:
            most: Bytes of lines in it, about.
        """
        if self._next is None:
            if self._tail.read_info() is None or not self._tail.new:
                return False
            if self._number is None:
                self._number = self._choose_number()
            self._next = self._tail.cut(self._number, most)
            if self._generation != self._tail.generation:
                # The file was removed and begun anew: what was in it before cannot be put together any more.
                self._generation, self._loose = self._tail.generation, Loose([])
        if self._next is None:
            return False
        self._objects.write((*self._folder, self._next.name), self._next.content)
        self._loose.names.append(self._next.name)
        self._loose.size += len(self._next.content)
        self._next = None
        if self._loose.size >= FULL and len(self._loose.names) == 1:
            self._loose = Loose([], self._tail.offset)
        return True

    def put_together(self) -> None:
        """Writes the loose objects as one more, and removes them once that is there."""
        if len(self._loose.names) > 1 and self._next is None and self._number is not None:
            whole = self._tail.again(self._number, self._loose.start)
            if whole is not None:
                self._write_surely(whole)
                self._obsolete += [name for name in self._loose.names if name != whole.name]
            if whole is None or len(whole.content) >= FULL:
                self._loose = Loose([], self._tail.offset)
            else:
                self._loose = Loose([whole.name], self._loose.start, len(whole.content))
        self._remove_obsolete()

    def ship_again(self) -> None:
        """Writes all of a file that an ended process left behind, in as few objects as can be.

        What that process had written is found by its names, and removed.
        """
        if (info := self._tail.read_info()) is None:
            return
        there = self._names()
        self._number = max((n.attempt for n in there.values() if n.unique == self.unique), default=None)
        if self._number is None:
            self._number = self._choose_number(before=info.started)
        written: list[str] = []
        while (fragment := self._tail.cut(self._number, PIECE)) is not None:
            self._write_surely(fragment)
            written.append(fragment.name)
        last = max((name.last or 0 for name in map(read_name, written) if name is not None), default=-1)
        self._obsolete = [
            text
            for text, name in there.items()
            if name.unique == self.unique and text not in written and -1 < (name.last or -1) <= last
        ]
        self._remove_obsolete()

    def _write_surely(self, fragment: Fragment) -> None:
        key = (*self._folder, fragment.name)
        self._objects.write(key, fragment.content)
        if self._objects.read(key) != fragment.content:
            raise OSError(f"{fragment.name} does not read as it was written")

    def _remove_obsolete(self) -> None:
        while self._obsolete:
            try:
                self._objects.remove((*self._folder, self._obsolete[-1]))
            except PermissionError:
                self._obsolete.clear()  # Where nothing may be removed, they stay, and change nothing.
                return
            self._obsolete.pop()

    def _names(self) -> dict[str, FileName]:
        """The names of the run's objects, of as many listings as it takes until one adds nothing."""
        found: dict[str, FileName] = {}
        for turn in range(5):
            known = {name.attempt for name in found.values()}
            found |= {text: name for text in self._objects.names(*self._folder) if (name := read_name(text))}
            if turn and {name.attempt for name in found.values()} == known:
                break
        return found

    def _choose_number(self, before: float | None = None) -> int:
        """One more than the newest attempt's number.

        Args:
            before: For an attempt that began in the past, when, in seconds since 1970: those that began later
                do not count. The only place where the clock decides, for want of anything else.
        """
        names = self._names()
        numbers = {name.attempt for name in names.values() if name.attempt < UNNUMBERED}
        if before is not None:
            numbers -= {number for number in numbers if self._began(number, names) > before}
        return 1 + max(numbers, default=0)

    def _began(self, number: int, names: dict[str, FileName]) -> float:
        text = min(text for text, name in names.items() if name.attempt == number)
        for line in self._objects.read((*self._folder, text)).split(b"\n", 4)[:4]:
            try:
                return float(read_header(decode_line(line)[2]).started or 0.0)
            except LineError:
                continue
        return 0.0


def left_files(spool: SpoolFolder) -> list[Path]:
    """The record files of this machine in a spool folder: not those that were copied from the store."""
    return sorted(spool.path.glob(f"*/*/{UNNUMBERED}-*.jsonl"))
