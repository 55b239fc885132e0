"""The objects under a URL: listed, read, written whole, removed. Nothing more is asked of a filesystem."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from foretrain.storage.urls import BUCKETS, open_filesystem, protocol_of

Key = tuple[str, ...]
"""Names below the URL: ("study", "run", "file")."""
_DEPTH = 4


class ObjectFolder:
    """The objects under a URL, through its fsspec filesystem.

    Asks for nothing that an object store lacks: no append, no rename, no lock. Every method but `connect`
    and the constructor may wait for the network, and raises whatever the filesystem raises. To be used by one
    thread.

    Args:
        url: A URL; nothing is contacted before the first call.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._filesystem: Any = None
        self._root = ""
        self._walked: dict[Key, list[tuple[str, bool, int | None]]] = {}

    @property
    def walked(self) -> int:
        """How many folders `files` has listed so far, of a listing that is not complete."""
        return len(self._walked)

    def connect(self) -> Any:
        """The filesystem; made at the first call, which may import much, but contacts nothing.

        Raises:
            ValueError: If the URL is one of a filesystem that is not installed.
        """
        if self._filesystem is None:
            self._filesystem, self._root = open_filesystem(self.url)
        return self._filesystem

    def names(self, *folder: str) -> list[str]:
        """The names in a folder; none where it is not there."""
        return [name for name, _, _ in self._list(folder)]

    def files(self) -> dict[Key, int | None]:
        """Every file at most four levels down, with its size where the store tells it.

        Raises:
            Exception: Where any part of it could not be listed. The next call goes on from there, where
                folders are listed one by one: of a hundred calls one may always fail.
        """
        filesystem = self.connect()
        if not _lists_flat(filesystem):
            walked = dict(self._walk(()))
            self._walked.clear()
            return walked
        filesystem.invalidate_cache()
        try:
            found = filesystem.find(self._root, detail=True)
        except FileNotFoundError:
            return {}
        files: dict[Key, int | None] = {}
        for path, told in found.items():
            key = self._key(path)
            if key is not None and len(key) <= _DEPTH:
                files[key] = _size(told)
        return files

    def read(self, key: Key) -> bytes:
        """An object's content."""
        return bytes(self.connect().cat_file(self._path(key)))

    def read_parts(self, key: Key, total: int, size: int) -> Iterator[bytes]:
        """The first `total` bytes of an object, `size` at a time."""
        for start in range(0, total, size):
            yield bytes(self.connect().cat_file(self._path(key), start=start, end=min(start + size, total)))

    def read_many(self, keys: Iterable[Key]) -> dict[Key, bytes | Exception]:
        """Several objects' contents, at once where the store can; or what went wrong with each."""
        paths = {self._path(key): key for key in keys}
        filesystem = self.connect()
        got = filesystem.cat(list(paths), on_error="return")
        # A filesystem may give back its own spelling of a path.
        named = {self._key(path): content for path, content in got.items()}
        missing = OSError("it was not sent")
        return {
            key: bytes(content) if isinstance(content, bytes | bytearray | memoryview) else _as_error(content)
            for key in paths.values()
            for content in [named.get(key, missing)]
        }

    def write(self, key: Key, content: bytes) -> None:
        """Writes a whole object."""
        path, filesystem = self._path(key), self.connect()
        try:
            filesystem.pipe_file(path, content)
        except FileNotFoundError:
            if protocol_of(self.url) in BUCKETS:
                raise  # A bucket has no folders, so it is the bucket that is missing, and not ours to make.
            filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
            filesystem.pipe_file(path, content)

    def remove(self, key: Key) -> None:
        """Removes an object; one that is gone is removed."""
        try:
            self.connect().rm_file(self._path(key))
        except FileNotFoundError:
            return

    def _path(self, key: Iterable[str]) -> str:
        self.connect()
        return "/".join((self._root, *key))

    def _key(self, path: str) -> Key | None:
        root, path = self._root.strip("/"), str(path).strip("/")
        if root and not path.startswith(root + "/"):
            return None
        return tuple(path[len(root) :].strip("/").split("/"))

    def _list(self, folder: Key) -> Iterator[tuple[str, bool, int | None]]:
        """The name of each thing in a folder, whether it is a folder, and its size."""
        filesystem = self.connect()
        filesystem.invalidate_cache()
        path = self._path(folder)
        try:
            found = filesystem.ls(path, detail=True)
        except FileNotFoundError:
            return
        for told in found:
            name = str(told["name"]).rstrip("/").rpartition("/")[2]
            if name and str(told["name"]).strip("/") != path.strip("/"):
                yield name, told.get("type") == "directory", _size(told)

    def _walk(self, folder: Key) -> Iterator[tuple[Key, int | None]]:
        # Not the filesystem's own walk: that takes a folder which it cannot list for an empty one.
        if folder not in self._walked:
            self._walked[folder] = list(self._list(folder))
        for name, is_folder, size in self._walked[folder]:
            key = (*folder, name)
            if not is_folder:
                yield key, size
            elif len(key) < _DEPTH:
                yield from self._walk(key)


def _lists_flat(filesystem: Any) -> bool:
    """Whether it lists a whole tree by a call of its own, as object stores do."""
    from fsspec.asyn import AsyncFileSystem
    from fsspec.spec import AbstractFileSystem

    kind = type(filesystem)
    if getattr(filesystem, "async_impl", False):
        return getattr(kind, "_find", None) is not AsyncFileSystem._find
    return kind.find is not AbstractFileSystem.find


def _size(told: Any) -> int | None:
    size = told.get("size") if isinstance(told, dict) else None
    return size if isinstance(size, int) else None


def _as_error(content: object) -> Exception:
    return content if isinstance(content, Exception) else OSError(f"it sent {type(content).__name__}")
