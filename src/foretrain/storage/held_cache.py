"""What was found in the sound files of a large study, kept on this machine from one reader to the next.

Derived from the record files alone: without it everything is the same, and takes longer.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

from foretrain.storage.held import SOUND, Ends, HeldAttempt, find_ends, hold
from foretrain.storage.records import SCHEMA

LEAST = 256
"""Files that are new in it, or else it is not written again: fewer are read in a fraction of a second."""

SETTLED = 2.0
"""Seconds since a file was last changed before it is kept: two changes within one tick of a coarse clock
would else look like one."""

UNUSED = 90 * 86_400.0
"""Seconds after which the cache of a study is removed."""

_VERSION = f"1.{SCHEMA}.{zlib.crc32(SOUND):08x}"


class HeldCache:
    """The ends of files that were found sound, by their places, with what the file system said of them then.

    A file is taken from it only while its size, its two times and its inode are those of when it was read.
    Holds the first and the last line as they were written, whose own checksums are checked again. It lies in
    the user's own cache folder (`XDG_CACHE_HOME`, or `~/.cache`), where no other user can write. It is
    replaced at once, so that of two writers one wins; where it cannot be read or written there is none.
    To be used by one thread, for a reader's first reading: `save` ends it.

    Args:
        study_dir: The study's folder.
    """

    def __init__(self, study_dir: Path) -> None:
        self._place, self._study_dir = _place(study_dir)
        self._now = time.time()
        self._kept: dict[str, list[Any]] | None = None
        self._found: dict[str, list[Any]] = {}
        self._new = 0

    def hold(self, path: str, status: os.stat_result) -> HeldAttempt | None:
        """As `held.hold`, without reading the file where it is known."""
        if self._place is None:
            return hold(path, status.st_size, find_ends(path, status.st_size))
        if self._kept is None:
            self._kept = _load(self._place, self._study_dir)
        # Not os.path, which takes longer than all else here.
        folder, _, name = path.rpartition(os.sep)
        key = f"{folder.rpartition(os.sep)[2]}/{name}"
        identity = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
        held = hold(path, status.st_size, _ends(self._kept.get(key), identity))
        if held is not None:
            self._found[key] = self._kept[key]
            return held
        ends = find_ends(path, status.st_size)
        if ends is not None and max(status.st_mtime, status.st_ctime) < self._now - SETTLED:
            lines = ends.header.decode("ascii"), ends.newest.decode("ascii")
            self._found[key] = [identity, *lines, ends.state, ends.steps]
            self._new += 1
        return hold(path, status.st_size, ends)

    def save(self) -> None:
        """Writes it, where enough had to be read; afterwards it keeps nothing. Raises nothing."""
        place, found, self._place = self._place, self._found, None
        self._kept, self._found = None, {}
        if place is None or self._new < LEAST:
            return
        with contextlib.suppress(OSError, ValueError):
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _forget_unused(place.parent, self._now - UNUSED)
            body = json.dumps(found, separators=(",", ":")).encode("ascii")
            head = {"version": _VERSION, "study": self._study_dir, "crc": zlib.crc32(body)}
            fd, written = tempfile.mkstemp(dir=place.parent, prefix=place.stem, suffix=".part")
            try:
                with os.fdopen(fd, "wb") as file:
                    file.write(json.dumps(head).encode("ascii") + b"\n" + body)
                Path(written).replace(place)
            except BaseException:
                Path(written).unlink()
                raise


def _place(study_dir: Path) -> tuple[Path | None, str]:
    """The file for a study, None where there can be none; and the study's whole path."""
    try:
        whole = os.path.realpath(study_dir)
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        digest = hashlib.sha256(whole.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        return Path(base) / "foretrain" / f"{digest}.json", whole
    except (OSError, RuntimeError, ValueError):
        return None, ""


def _load(place: Path, study_dir: str) -> dict[str, list[Any]]:
    """What it holds; nothing where it is damaged, of another version or of another study."""
    try:
        head, _, body = place.read_bytes().partition(b"\n")
        if json.loads(head) != {"version": _VERSION, "study": study_dir, "crc": zlib.crc32(body)}:
            return {}
        kept = json.loads(body)
    except (OSError, ValueError, RecursionError):
        return {}
    return kept if isinstance(kept, dict) else {}


def _ends(entry: Any, identity: list[int]) -> Ends | None:
    """What an entry tells, where it is of a file with this identity."""
    try:
        known, header, newest, state, steps = entry
        if known != identity or state not in ("running", "finished", "failed") or not steps:
            return None
        if not all(type(step) is int for own in steps.values() for step in (*own[:1], own[-1])):
            return None
        return Ends(header.encode("ascii"), newest.encode("ascii"), state, steps)
    except (ValueError, TypeError, AttributeError, LookupError):
        return None


def _forget_unused(folder: Path, before: float) -> None:
    for path in [*folder.glob("*.json"), *folder.glob("*.part")]:
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < before:
                path.unlink()
