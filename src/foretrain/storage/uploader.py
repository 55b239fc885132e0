"""The uploader: a thread that brings a spool to a store, and copies the study from it, beside training."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from foretrain.storage.mirror import Mirror, describe
from foretrain.storage.objects import ObjectFolder
from foretrain.storage.shipping import Shipment, left_files
from foretrain.storage.spool import SpoolFolder, left_behind
from foretrain.storage.urls import join, without_secrets

_LOOK_EVERY = 5.0  # seconds, at how much there is to upload
_FETCHED_AT_ONCE = 32  # objects: a tenth of a second of work
_REST = 20.0  # times as long as listing and fetching took
_TOLD_AFTER = 3  # failures in a row: stores fail now and then


@dataclass(frozen=True)
class Pace:
    """How often a store is written to and read, in seconds where nothing else is said.

    Attributes:
        first: From an attempt's first line to its first object.
        least: Between two objects, while a run is young.
        share: Between two objects, as a part of the attempt's age so far.
        most: Between two objects, at most.
        after_sync: Between two objects, at checkpoints.
        size: Bytes of lines that are an object however little time has passed.
        together: How many objects of an attempt are put together into one.
        read: Between two listings of the study; if that is longer, twenty times what the last one took.
        left: Between two looks for what ended processes left behind.
        retry: Before a failed call is tried again; doubled with each failure.
        longest_retry: The most of that.
    """

    first: float = 5.0
    least: float = 30.0
    share: float = 0.01
    most: float = 300.0
    after_sync: float = 10.0
    size: int = 2**18
    together: int = 64
    read: float = 60.0
    left: float = 60.0
    retry: float = 1.0
    longest_retry: float = 60.0


class Uploader:
    """Brings one attempt's lines from its spool folder to a store, in a thread of its own.

    The thread is a daemon: it never keeps a process alive. What it could not bring stays in the spool, and
    the next uploader with the same root on the same machine brings it. Nothing raises, and nothing but
    `close` waits. The methods are to be called by one thread.

    Args:
        url: The store's root.
        study: The study's folder below it.
        spool: The attempt's spool folder; removed when all of it is in the store.
        pace: How often.
    """

    def __init__(self, url: str, study: str, spool: SpoolFolder, pace: Pace) -> None:
        self._url = url
        self._study = study
        self._spool = spool
        self._pace = pace
        self._objects = ObjectFolder(url)
        self._shipment: Shipment | None = None
        self._mirror: Mirror | None = None
        self._wake, self._settled = threading.Event(), threading.Event()
        self._news = self._sync = self._closing = False
        self._began = time.monotonic()
        self._written: float | None = None
        self._parts = {"left": _Part(), "upload": _Part(), "read": _Part()}
        self._pid = os.getpid()
        thread = threading.Thread(target=self._run, name="foretrain-uploader", daemon=True)
        thread.start()

    @property
    def fault(self) -> str | None:
        """What is wrong with the store, as sentences; None while all is well."""
        shown = without_secrets(self._url)
        errors = {name: part.error for name, part in self._parts.items() if part.error}
        sentences = []
        reason = errors.get("upload") or (errors.get("read") if self._written is None else None)
        if reason:
            sentences.append(
                f"Observations cannot be uploaded to {shown} ({reason}): they wait in "
                f"{self._spool.path} on this machine, are tried again, and if this process ends before, are "
                "uploaded by the next one here with the same root: check the address and the access to it."
            )
        elif "left" in errors:
            sentences.append(
                f"Observations that an earlier process left in {self._spool.path.parent} cannot be uploaded "
                f"to {shown} ({errors['left']}): they are tried again."
            )
        if "read" in errors and not reason and not self._closing:
            sentences.append(
                f"The study at {shown} could not be read, or not all of it ({errors['read']}): projections "
                "may lack other runs, and it is tried again."
            )
        return " ".join(sentences) or None

    def tell(self, *, sync: bool = False) -> None:
        """Says that there are new lines, and with `sync` that they are wanted in the store soon."""
        if not self._news or (sync and not self._sync):
            self._news = True
            self._sync = self._sync or sync
            self._wake.set()

    def close(self, wait: float) -> None:
        """Says that no line will follow, and waits until all is in the store or one more try has failed.

        Args:
            wait: Seconds, at most. The thread goes on after that.
        """
        if self._pid != os.getpid():
            return
        self._closing = True
        self._wake.set()
        self._settled.wait(wait)

    # The thread

    def _run(self) -> None:
        try:
            while True:
                self._wake.wait(self._seconds_until_due())
                self._wake.clear()
                if self._work(self._closing):
                    break
            self._spool.remove()
        except BaseException as error:  # an interpreter that is shutting down, or a filesystem's own exit
            self._parts["upload"].error = describe(error)
        finally:
            self._settled.set()

    def _seconds_until_due(self) -> float:
        now, upload = time.monotonic(), self._parts["upload"]
        if self._closing and not self._settled.is_set():
            return 0.0
        if self._closing:
            return max(0.0, upload.due - now)
        due = [self._parts["left"].due, self._parts["read"].due]
        if upload.failures:
            due.append(upload.due)
        elif self._news:
            due.append(min(self._upload_at(), now + _LOOK_EVERY))
        return max(0.0, min(due) - now)

    def _upload_at(self) -> float:
        pace = self._pace
        if self._written is None:
            return self._began + pace.first
        gap = min(max(pace.least, pace.share * (time.monotonic() - self._began)), pace.most)
        return self._written + (min(gap, pace.after_sync) if self._sync else gap)

    def _work(self, closing: bool) -> bool:
        """One round of what is due; whether that was the last."""
        now = time.monotonic()
        if self._shipment is None:
            files = left_files(self._spool)
            self._shipment = Shipment(files[0], self._objects) if files else None
        if now >= self._parts["left"].due and not closing:
            # Before our own, so that attempts are numbered in the order in which they began.
            self._try("left", self._upload_left)
        upload = self._parts["upload"]
        if now >= upload.due or (closing and not self._settled.is_set()):
            if self._try("upload", lambda: self._upload(closing)) and closing:
                return True
            if closing:
                self._settled.set()
        if now >= self._parts["read"].due and not closing:
            self._try("read", self._read)
        return False

    def _try(self, name: str, do: Callable[[], float]) -> bool:
        """Does one thing, which says in how many seconds it is due again; whether it could be done."""
        part, begun = self._parts[name], time.monotonic()
        try:
            wait = do()
        except (Exception, asyncio.CancelledError) as error:
            part.failures += 1
            if part.failures >= _TOLD_AFTER or self._closing or isinstance(error, ValueError):
                part.error = describe(error)
            longest = self._pace.longest_retry
            wait = min(self._pace.retry * 2.0 ** min(part.failures - 1, 30), longest)
            part.due = time.monotonic() + wait
            return False
        part.failures, part.error = 0, ""
        part.due = begun + wait
        return True

    def _upload(self, closing: bool) -> float:
        # Though nothing may be due yet: of a root that cannot be used, the root is told, not a folder of it.
        self._objects.connect()
        if not self._spool.held:
            self._spool.take()
        shipment = self._shipment
        if shipment is None:
            return 0.0
        due = self._news and time.monotonic() >= self._upload_at()
        if closing or due or shipment.waiting >= self._pace.size:
            self._news = self._sync = False
            try:
                while shipment.ship():
                    self._written = time.monotonic()
                    if shipment.is_untidy(self._pace.together):
                        shipment.put_together()
            except BaseException:
                self._news = True
                raise
        if shipment.is_untidy(self._pace.together) or (closing and not shipment.tidy):
            shipment.put_together()
        return 0.0

    def _upload_left(self) -> float:
        for folder in left_behind(self._spool.path.parent):
            try:
                for path in left_files(folder):
                    Shipment(path, self._objects).ship_again()
                folder.remove()
            finally:
                folder.leave()
        return self._pace.left

    def _read(self) -> float:
        if self._mirror is None:
            without = "" if self._shipment is None else self._shipment.unique
            folder = self._spool.path / self._study
            self._mirror = Mirror(join(self._url, self._study), folder, without=without)
        begun = time.monotonic()
        more = self._mirror.pull(_FETCHED_AT_ONCE)
        if self._mirror.fault:
            raise OSError(self._mirror.fault)
        # Python's lock lets one thread run at a time: long work here would take its turns from training.
        rest = _REST * (time.monotonic() - begun)
        return rest if more else max(self._pace.read, rest)


@dataclass
class _Part:
    """One of the things an uploader does.

    Attributes:
        due: When it is to be done again, on the monotonic clock.
        failures: How often in a row it could not be done.
        error: Why, once that is to be told.
    """

    due: float = 0.0
    failures: int = 0
    error: str = ""
