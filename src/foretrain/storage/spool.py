"""The spool: where lines lie on this machine until the store behind a URL has them."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path

_HELD: weakref.WeakSet[SpoolFolder] = weakref.WeakSet()


def spool_root(url: str, spool: Path | None = None) -> Path:
    """The folder of all spool folders of one URL: the same for every process of this user.

    Args:
        url: The root's URL.
        spool: Where to keep it; by default the system's temporary folder, which `TMPDIR` names.
    """
    own = Path(tempfile.gettempdir(), f"foretrain-{os.getuid()}") if spool is None else spool
    return own / hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()[:16]


class SpoolFolder:
    """A folder of one process, locked for as long as the process lives.

    The lock is the kernel's: it goes with the process, however that ends, and tells the folders that were
    left behind from those in use. Programs that tidy temporary folders pass over locked ones.

    Args:
        root: `spool_root`.
        name: The folder's name in it; a new one by default.

    Attributes:
        path: The folder.
    """

    def __init__(self, root: Path, name: str | None = None) -> None:
        self.path = root / (name or os.urandom(8).hex())
        self._fd: int | None = None

    @property
    def held(self) -> bool:
        """Whether this process has the lock."""
        return self._fd is not None

    def make(self) -> None:
        """Makes the folder, open to its user alone, and locks it.

        Raises:
            OSError: If that is impossible, or the folder above it belongs to someone else.
        """
        for folder in (self.path.parent.parent, self.path.parent):
            folder.mkdir(mode=0o700, exist_ok=True)
            _check_own(folder)
        self.path.mkdir(mode=0o700, exist_ok=True)
        if not self.take():
            raise BlockingIOError(f"{self.path} is in use")

    def take(self) -> bool:
        """Locks the folder if it is there and no living process has it."""
        if self._fd is not None:
            return True
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(fd), os.stat(self.path)):  # noqa: PTH116 (like os.fstat)
                raise FileNotFoundError  # removed by who had the lock before
        except OSError:
            os.close(fd)
            return False
        self._fd = fd
        _HELD.add(self)
        return True

    def leave(self) -> None:
        """Lets go of the lock; the folder stays."""
        fd, self._fd = self._fd, None
        if fd is not None:
            with contextlib.suppress(OSError):
                os.close(fd)

    def remove(self) -> None:
        """Removes the folder with all that is in it, and lets go of the lock."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.leave()


def left_behind(root: Path) -> Iterator[SpoolFolder]:
    """The spool folders whose processes have ended, locked one by one; the caller lets go of them."""
    try:
        names = sorted(entry.name for entry in root.iterdir())
    except OSError:
        return
    for name in names:
        folder = SpoolFolder(root, name)
        if folder.take():
            yield folder


def _check_own(folder: Path) -> None:
    told = folder.lstat()
    # In a temporary folder that all users share, another might have made it first.
    if not stat.S_ISDIR(told.st_mode) or told.st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to someone else")


def _let_go_in_child() -> None:
    """A forked process shares its parent's locks, and would keep them when the parent is gone."""
    for folder in list(_HELD):
        folder.leave()


os.register_at_fork(after_in_child=_let_go_in_child)
