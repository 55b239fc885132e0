"""Answers that take seconds: each is worked out once, however many readers ask for it at once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any


class Once:
    """Keeps the newest answers by their keys. Any thread may ask.

    Args:
        most: Answers kept; the one that was asked for longest ago goes first.
        at_once: Answers worked out at one time; the others wait.
    """

    def __init__(self, most: int, at_once: int) -> None:
        self._lock = threading.Lock()
        self._working = threading.Semaphore(at_once)
        self._most = most
        self._kept: OrderedDict[Hashable, Future[Any]] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The answer of `make`, which is called once for a key while its answer is kept.

        Raises:
            Exception: What `make` raises, to everybody who waits for it.
        """
        with self._lock:
            kept = self._kept.get(key)
            answer = self._kept[key] = kept or Future()
            self._kept.move_to_end(key)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        if kept is None:
            try:
                with self._working:
                    answer.set_result(make())
            except BaseException as error:  # whoever waits for it must not wait for ever
                with self._lock:
                    if self._kept.get(key) is answer:
                        del self._kept[key]  # the next one tries again
                answer.set_exception(error)
                raise
        return answer.result()
