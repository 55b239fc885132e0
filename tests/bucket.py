"""A store as the worst of buckets: whole objects only, and some calls fail, even after they had worked.

Its objects are files of a folder, so that several processes can share one. Lists now and then lack some.
"""

import os
import random
import sys
import threading
import time
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote, unquote

import fsspec
from fsspec.spec import AbstractFileSystem


class Bucket(AbstractFileSystem):
    protocol = "bucket"
    cachable = False
    folder: ClassVar[Path]
    fails: ClassVar[float] = 0.0
    chance: ClassVar[random.Random] = random.Random(0)
    hangs: ClassVar[threading.Event | None] = None
    calls: ClassVar[list[tuple[str, str]]] = []
    threads: ClassVar[set[str]] = set()
    changed: ClassVar[list[str]] = []
    failed: ClassVar[int] = 0

    def _call(self, name, path, do):
        kind = type(self)
        kind.calls.append((name, path))
        kind.threads.add(threading.current_thread().name)
        if kind.hangs is not None:
            kind.hangs.wait()
        luck = kind.chance.random()
        kind.failed += luck < kind.fails
        if luck < kind.fails / 2:
            raise ConnectionError(f"{name} failed")
        done = do()
        if luck < kind.fails and name != "list":
            raise TimeoutError(f"{name} did not say that it worked")
        if luck < kind.fails:
            return [entry for entry in done if kind.chance.random() < 0.5]
        return done

    def _file(self, path):
        return self.folder / quote(self._strip_protocol(path), safe="")

    def ls(self, path, detail=True, **kwargs):
        path = self._strip_protocol(path).strip("/")

        def look():
            found = {}
            for file in self.folder.iterdir():
                name = unquote(file.name)
                if file.name.endswith(".new") or not name.startswith(path + "/" if path else ""):
                    continue
                rest = name[len(path) :].strip("/")
                child = (path + "/" + rest.partition("/")[0]).strip("/")
                kind = "directory" if "/" in rest else "file"
                found[child] = {"name": child, "type": kind, "size": None if "/" in rest else _size(file)}
            if not found:
                raise FileNotFoundError(path)
            return list(found.values())

        found = self._call("list", path, look)
        return found if detail else [entry["name"] for entry in found]

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        def put():
            file = self._file(path)
            if file.exists() and file.read_bytes() != value:
                self.changed.append(path)
            new = file.with_name(f"{file.name}.{os.getpid()}.{threading.get_ident()}.new")
            new.write_bytes(value)
            new.replace(file)  # as in a bucket, an object is there whole or not at all

        self._call("put", path, put)

    def cat_file(self, path, start=None, end=None, **kwargs):
        return self._call("get", path, lambda: self._file(path).read_bytes()[start:end])

    def rm_file(self, path):
        self._call("remove", path, lambda: self._file(path).unlink())

    def _open(self, path, mode="rb", **kwargs):
        raise NotImplementedError(f"a bucket has no open files: {mode}")

    def mv(self, *args, **kwargs):
        raise NotImplementedError("a bucket has no rename")

    def cp_file(self, *args, **kwargs):
        raise NotImplementedError("a bucket has no copy")


def _size(file):
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def install(folder, fails=0.0, seed=0):
    """Registers `bucket://` over a folder, and gives its class, whose `fails` and `hangs` can be set."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    Bucket.folder, Bucket.fails, Bucket.chance = Path(folder), fails, random.Random(seed)
    Bucket.hangs, Bucket.calls, Bucket.threads, Bucket.changed = None, [], set(), []
    Bucket.failed = 0
    fsspec.register_implementation("bucket", Bucket, clobber=True)
    return Bucket


def main(folder, spool, fails, run, first, last, mode):
    """A process that keeps observations in `bucket://b`, and ends well.

    With "hold" it uploads none and does not end; with "hang" no call of the store comes back.
    """
    from foretrain.axes import Counts
    from foretrain.observation import Observation, RunInfo
    from foretrain.storage.uploader import Pace
    from foretrain.storage.url_store import UrlStore

    install(folder, float(fails), seed=int(first))
    pace = Pace(0.0, 0.02, 0.0, 0.02, 0.0, read=0.1, left=0.1, retry=0.01, longest_retry=0.05)
    if mode == "hang":
        Bucket.hangs = threading.Event()
    if mode == "hold":
        pace = Pace(first=1e9, left=1e9, read=1e9)
    store = UrlStore("bucket://b", spool=Path(spool), pace=pace)
    store.begin(RunInfo(run=run, started=time.time(), continues={"run": run, "step": int(first) - 1}))
    for step in range(int(first), int(last) + 1):
        if store.append(Observation(run, "val_loss", 1 / step, Counts(samples=10 * step, steps=step))):
            print(step, flush=True)
        if mode != "hold":
            time.sleep(0.002)
    if mode == "hold":
        time.sleep(600)
    store.finish("failed" if mode == "hang" else "finished")
    store.close()
    store.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
