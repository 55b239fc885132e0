"""The file of one attempt: opened when it is needed, and written one line at a time."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

from foretrain.observation import RunInfo
from foretrain.storage.records import encode_header, folder_name, read_name

_FIRST_REPEAT = 16
_REPEAT_GROWTH = 4


class AttemptFile:
    """The file `<study>/<run>/<attempt>-<unique>.jsonl` of one process, which alone writes it.

    Every line is one write. The header stands twice at the start, and again before line 16, 64, 256 and so
    on: without one all of the file would be lost, and a damaged page takes both at the start.

    Args:
        study_dir: The study's folder; made when it is needed.
        number: The attempt's number; by default one more than the run's newest.

    Attributes:
        next: Number of the line that is written next.
        unconfirmed: Why the disk may not have what was written; empty where all is well.
    """

    def __init__(self, study_dir: Path, number: int | None = None) -> None:
        self._study_dir = study_dir
        self._number = number
        self._path: Path | None = None
        self._fd: int | None = None
        self._info: RunInfo | None = None
        self._has_header = False
        self._repeat_at = _FIRST_REPEAT
        self.next = 0
        self.unconfirmed = ""

    @property
    def deleted(self) -> bool:
        """Whether it was there and is gone, with all that was written to it."""
        if self._path is None or not self._has_header:
            return False
        try:
            os.stat(self._path)  # noqa: PTH116 (like the other calls, of which tests make each fail)
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            pass
        return False

    def open(self, info: RunInfo) -> RunInfo:
        """Opens the file, unless it is open, with a header where it has none.

        Args:
            info: The run; the same at each call.

        Returns:
            The same with the attempt's number.

        Raises:
            OSError: If that is impossible; the next call tries again.
        """
        if self._fd is not None and os.fstat(self._fd).st_nlink == 0:
            self.close()  # The file was deleted: what is written to it now would vanish.
        if self._fd is None or self._info is None:
            self._fd = self._open(info)
        assert self._info is not None
        return self._info

    def write(self, line: bytes) -> None:
        """Writes a line that has the number `next`; it outlives the process once this returns.

        Raises:
            OSError: If not all of it could be written; the file is to be closed then.
        """
        assert self._fd is not None and self._info is not None, "the file is not open"
        if self.next >= self._repeat_at:
            _write(self._fd, encode_header(0, self._info))
            self._repeat_at *= _REPEAT_GROWTH
        _write(self._fd, line)
        self.next += 1

    def sync(self) -> None:
        """Waits until the disk has what was written. Does not raise, see `unconfirmed`."""
        if self._fd is None or self._path is None:
            return
        self.unconfirmed = ""
        try:
            os.fsync(self._fd)
            folder = os.open(self._path.parent, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            # Some file systems have no such call.
            if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
                self.unconfirmed = reason(error)

    def close(self) -> None:
        """Closes the file; `open` opens it again. Does not raise."""
        fd, self._fd = self._fd, None
        if fd is not None:
            try:
                os.close(fd)
            except OSError as error:
                # Network disks tell only now that an earlier write failed.
                self.unconfirmed = reason(error)

    def _open(self, info: RunInfo) -> int:
        folder = self._study_dir / folder_name(info.run)
        folder.mkdir(parents=True, exist_ok=True)
        if self._path is None or self._info is None:
            self._info = replace(info, attempt=self._number or _next_number(folder))
            self._path = folder / f"{self._info.attempt:04d}-{os.urandom(8).hex()}.jsonl"
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            # A file that is opened again may end in a torn line, which must not damage the next one.
            empty = os.fstat(fd).st_size == 0
            start = b"" if empty else b"\n"
            if empty or not self._has_header:
                # The empty line between keeps one flipped bit, in the line's end, from taking both.
                copies = encode_header(self.next, self._info), encode_header(self.next + 1, self._info)
                _write(fd, start + b"\n".join(copies))
                self.next += len(copies)
            else:
                _write(fd, start)
        except BaseException:
            os.close(fd)
            raise
        self._has_header = True
        return fd


def reason(error: Exception) -> str:
    """What an error says, without its number."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _write(fd: int, line: bytes) -> None:
    if line and os.write(fd, line) != len(line):
        raise OSError(errno.ENOSPC, "only a part was written")


def _next_number(folder: Path) -> int:
    """One more than the newest attempt's number."""
    names = (read_name(path.name) for path in folder.iterdir())
    return 1 + max((name.attempt for name in names if name is not None), default=0)
