"""A copy on this machine of the record files under a URL, which is kept up with at little cost."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from foretrain.storage.fragments import covers
from foretrain.storage.objects import Key, ObjectFolder
from foretrain.storage.records import FileName, read_name
from foretrain.storage.urls import without_secrets

MAX_BYTES = 2**29
"""Most that is copied."""
MAX_AT_ONCE = 64
LARGE = 8 * 2**20
"""Files above this are copied alone, in parts."""
FORGOTTEN_AFTER = 8
"""Listings in a row that must lack all of an attempt before its copy is removed: some are incomplete."""
_MOST_GONE = 3
_PATIENCE = (0.2, 0.5, 1.0, 2.0)
_LONGEST = 60.0
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}")


class Mirror:
    """Copies the record files under a URL into a folder.

    Fragments never change, so each is fetched once, and one whose lines are all there already is not fetched
    at all; other files are fetched again when their size changes. A file appears in the folder whole.
    To be used by one thread.

    Args:
        url: What is copied: a root, or one study.
        folder: Where to; is made.
        without: The unique part of the names of files to leave out.
    """

    def __init__(self, url: str, folder: Path, *, without: str = "") -> None:
        self._objects = ObjectFolder(url)
        self._folder = folder
        self._without = without
        self._held: dict[Key, int | None] = {}
        self._listed: dict[Key, int | None] = {}
        self._wanted: list[Key] = []
        self._gone = 0
        self._missed: Counter[tuple[Key, str]] = Counter()
        self._error = ""
        self._left_out = 0

    @property
    def fault(self) -> str | None:
        """Why the copy may be incomplete, as a sentence; None where it is not."""
        shown = without_secrets(self._objects.url)
        if self._error:
            return f"{shown} could not be read ({self._error}): what was read of it before still counts."
        if self._left_out:
            return (
                f"{self._left_out} files under {shown} were left out, because all together are larger than "
                f"{MAX_BYTES:,} bytes: split the study."
            )
        return None

    def pull_patiently(self) -> None:
        """Copies all that is new; what goes wrong is told by `fault`.

        Tries for some seconds, and while that gains anything for up to a minute.
        """
        pauses, end = iter(_PATIENCE), time.monotonic() + _LONGEST
        while True:
            before = self._gained
            try:
                while self.pull():
                    pass
                return
            except Exception as error:
                self._error = describe(error)
            if self._gained != before and time.monotonic() < end:
                pauses = iter(_PATIENCE)
            pause = next(pauses, None)
            if pause is None:
                return
            time.sleep(pause)

    @property
    def _gained(self) -> tuple[int, int]:
        """Changes with everything that is copied or listed."""
        return len(self._held), self._objects.walked

    def pull(self, most: int | None = None) -> bool:
        """Copies what is new, at most so many files; whether there is more to do.

        Raises:
            Exception: Whatever the filesystem raises. What was copied by then stays.
        """
        if not self._wanted:
            self._listed = {key: size for key, size in self._objects.files().items() if self._is_ours(key)}
            self._wanted = self._choose(self._listed)
            self._forget(self._listed)
        wanted, self._wanted = self._wanted[:most], self._wanted[len(self._wanted[:most]) :]
        if self._fetch(wanted) and self._gone < _MOST_GONE:
            self._gone += 1
            self._wanted = []  # Replaced by one that holds them all, after they were listed.
            return True
        self._gone, self._error = 0, ""
        return bool(self._wanted)

    def _is_ours(self, key: Key) -> bool:
        name = read_name(key[-1])
        return name is not None and name.unique != self._without and all(map(_NAME.fullmatch, key))

    def _fetch(self, wanted: list[Key]) -> bool:
        """Fetches files; whether any was gone."""
        listed = self._listed
        small = [key for key in wanted if (listed[key] or 0) <= LARGE]
        gone, error = False, None
        for start in range(0, len(small), MAX_AT_ONCE):
            for key, content in self._objects.read_many(small[start : start + MAX_AT_ONCE]).items():
                if isinstance(content, FileNotFoundError):
                    gone = True
                elif isinstance(content, Exception):
                    error = content
                else:
                    self._put(key, [content], listed[key])
        for key in wanted:
            size = listed[key] or 0
            if size > LARGE:
                self._put(key, self._objects.read_parts(key, size, LARGE), size)
        if error is not None:
            raise error
        return gone

    def _choose(self, listed: dict[Key, int | None]) -> list[Key]:
        """The files to fetch: what is new or has grown, and is not in fragments that are here or will be."""
        held: dict[Key, list[FileName]] = {}
        for key in self._held:
            held.setdefault(key[:-1], []).append(_name(key))
        wanted: list[Key] = []
        room = MAX_BYTES - sum(size or 0 for size in self._held.values())
        self._left_out = 0
        for key in sorted(listed, key=_largest_first):
            name, size = _name(key), listed[key]
            there = held.setdefault(key[:-1], [])
            if key in self._held:
                if size is None or size == self._held[key]:
                    continue
            elif name.first is not None and covers(there, name):
                continue
            room -= size or 0
            if room < 0:
                self._left_out += 1
                continue
            wanted.append(key)
            there.append(name)
        return wanted

    def _put(self, key: Key, parts: Iterable[bytes], size: int | None) -> None:
        path = self._folder.joinpath(*key)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(path.name + ".part")
        with unfinished.open("wb") as file:
            for part in parts:
                file.write(part)
        unfinished.replace(path)
        self._held[key] = size

    def _forget(self, listed: dict[Key, int | None]) -> None:
        """Removes the copies of attempts that were removed."""
        there = {_whose(key) for key in listed}
        self._missed = Counter({whose: self._missed[whose] + 1 for whose in map(_whose, self._held)})
        for whose in there:
            del self._missed[whose]
        for key in [key for key in self._held if self._missed[_whose(key)] >= FORGOTTEN_AFTER]:
            self._folder.joinpath(*key).unlink(missing_ok=True)
            del self._held[key]


def describe(error: BaseException) -> str:
    """An error as a sentence's middle: its kind, and the start of what it says."""
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _name(key: Key) -> FileName:
    name = read_name(key[-1])
    assert name is not None, key
    return name


def _largest_first(key: Key) -> tuple[Key, str, int, int]:
    """Orders the fragments of a process by their first lines, and of equal ones the longest first."""
    name = _name(key)
    return key[:-1], name.unique, name.first or 0, -(name.last or 0)


def _whose(key: Key) -> tuple[Key, str]:
    return key[:-1], _name(key).unique
