"""Executors beyond those that exist: serial, a pool that can be built anew, a shim for Ray."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol


class RunningJob(Protocol):
    """What is asked of a future."""

    def done(self) -> bool:
        """Whether the job has ended."""

    def result(self) -> Any:
        """What it returned; raises what it raised."""


class Executor(Protocol):
    """What is asked of an executor."""

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> RunningJob:
        """Hands over a job."""


class SerialExecutor:
    """Runs each job at once, in this process."""

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """Runs the job; what it raises waits in the future, but an interrupt passes."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args))
        except Exception as error:
            future.set_exception(error)
        return future


def process_pool(workers: int = 2) -> Callable[[], ProcessPoolExecutor]:
    """A function that makes a pool of fresh processes, for `run_study(executor=process_pool(4))`.

    The processes are spawned, not forked: a fork copies threads' locks and an accelerator's state, and hangs.
    As with every spawned process the script that starts it must guard its own start with
    `if __name__ == "__main__":`. They end when the process that started them does, also when it is killed.

    Args:
        workers: How many processes.

    Raises:
        ValueError: If there would be none.
    """
    if workers < 1:
        raise ValueError(f"Expected at least 1 worker, got {workers}.")
    context = multiprocessing.get_context("spawn")
    return lambda: ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with_parent)


def _end_with_parent() -> None:
    """Ends this worker when its launch is gone: the pool's own would wait for jobs, or train on, for ever."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class RayExecutor:
    """Makes Ray look like an executor: Ray has none of its own.

    Args:
        ray: The module `ray`, initialised.
        options: Of every remote call, such as `num_cpus=1` or `num_gpus=1`.

    Example::

        import ray
        ray.init()
        run_study(train, points, RayExecutor(ray, num_cpus=1), root="runs")
    """

    def __init__(self, ray: Any, **options: Any) -> None:
        self._ray = ray
        remote = ray.remote(_call)
        self._remote = remote.options(**options) if options else remote

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> RunningJob:
        """Hands the job to Ray."""
        return _RayJob(self._ray, self._remote.remote(fn, *args))


def _call(fn: Callable[..., Any], *args: Any) -> Any:
    return fn(*args)


@dataclass(frozen=True)
class _RayJob:
    ray: Any
    reference: Any

    def done(self) -> bool:
        ready, _ = self.ray.wait([self.reference], timeout=0)
        return bool(ready)

    def result(self) -> Any:
        try:
            return self.ray.get(self.reference)
        except Exception as error:
            # Ray wraps what the job raised; the launcher tells a failed job from a lost one by its class.
            cause = getattr(error, "cause", None)
            raise (cause if isinstance(cause, Exception) else error) from None

    def cancel(self) -> bool:
        self.ray.cancel(self.reference)
        return True


class Renewable:
    """An executor with what is needed to build it anew when it breaks.

    Holds the executor under way and whether it is ours to shut down.

    Args:
        given: An executor, or a function that makes one; None for serial.

    Raises:
        ValueError: If it is neither.
    """

    def __init__(self, given: Executor | Callable[[], Executor] | None) -> None:
        self._make: Callable[[], Any] | None = None
        self._own = True
        if given is None:
            self.executor: Any = SerialExecutor()
        elif hasattr(given, "submit"):
            self.executor, self._own = given, False
            if isinstance(given, ProcessPoolExecutor):
                self._make = _maker_of(given)
        elif callable(given):
            self._make = given
            self.executor = given()
        if not hasattr(getattr(self, "executor", None), "submit"):
            raise ValueError(
                f"Expected an executor with a method `submit`, or a function that makes one, got {given!r}: "
                "pass a ProcessPoolExecutor, a Dask client, a submitit executor, or None for serial."
            )

    @property
    def window(self) -> int | None:
        """How many jobs are handed over at a time; None for all.

        When a process of a pool dies, all jobs handed to the pool fail with it: with no more of them than
        processes, few are lost, and few can be at fault.
        """
        if isinstance(self.executor, SerialExecutor):
            return 1
        workers = getattr(self.executor, "_max_workers", None)
        return workers if self._make is not None and isinstance(workers, int) else None

    def renew(self) -> bool:
        """Builds the executor anew; whether that can be done."""
        if self._make is None:
            return False
        self.shutdown()
        self.executor, self._own = self._make(), True
        return True

    def shutdown(self) -> None:
        """Lets go of the executor if it is ours; does not wait for jobs."""
        if not self._own or not hasattr(self.executor, "shutdown"):
            return
        try:
            self.executor.shutdown(wait=False, cancel_futures=True)
        except TypeError:  # an executor of before, or beside, the standard library's
            self.executor.shutdown(wait=False)


def _maker_of(pool: ProcessPoolExecutor) -> Callable[[], ProcessPoolExecutor]:
    """A function that makes a pool like this one, which has no public way to tell how it was made."""
    names = ("_max_workers", "_mp_context", "_initializer", "_initargs")
    workers, context, initializer, arguments = (getattr(pool, name, None) for name in names)
    return lambda: ProcessPoolExecutor(workers, context, initializer, arguments or ())
