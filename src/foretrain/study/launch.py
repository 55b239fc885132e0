"""The launch of a study: points handed to an executor, looked at until they have ended, lost ones again."""

from __future__ import annotations

import logging
import pickle
import time
from collections import Counter, deque
from concurrent.futures import BrokenExecutor
from contextlib import suppress
from dataclasses import dataclass

from foretrain.study.executors import Renewable, RunningJob
from foretrain.study.job import Job, JobFailed, read_run
from foretrain.study.points import Point
from foretrain.study.progress import Show

log = logging.getLogger(__name__)

FIRST_LOOK, LONGEST_LOOK = 0.01, 1.0
"""Seconds between two looks at the futures: the first, and, while nothing ends, the longest."""

UNSENDABLE = (pickle.PicklingError, AttributeError, TypeError)
"""What is raised where a job cannot be sent to another process: it will not do better the next time."""


@dataclass(frozen=True)
class Outcome:
    """What became of one point.

    Attributes:
        point: The point.
        state: "finished"; "skipped", as it was finished before; "failed", as `train` raised; or "died", as
            its process did, or it could not be run.
        error: What went wrong, as text; empty where nothing did.
        tries: How often it was handed to the executor.
    """

    point: Point
    state: str
    error: str = ""
    tries: int = 0


class Launch:
    """The points that wait, are under way and have ended.

    Attributes:
        queue: The points that wait.
        flying: The jobs under way, by point.
        outcomes: What became of those that have ended.
    """

    def __init__(self, job: Job, renewable: Renewable, root: str, study: str, retries: int) -> None:
        self._job = job
        self._renewable = renewable
        self._root, self._study = root, study
        self._retries = retries
        self.queue: deque[Point] = deque()
        self.flying: dict[Point, RunningJob] = {}
        self.outcomes: dict[Point, Outcome] = {}
        self._tries: Counter[Point] = Counter()
        self._losses: Counter[Point] = Counter()
        self._suspects: set[Point] = set()  # were in a pool when it broke: run alone, to know which breaks it
        self._worked = False
        self._breaks = 0

    def run(self, show: Show) -> None:
        """Until every point has ended."""
        pause = FIRST_LOOK
        try:
            while self.queue or self.flying:
                self._hand_over()
                states = Counter(outcome.state for outcome in self.outcomes.values())
                show.update(states, len(self.flying))
                if self._collect():
                    pause = FIRST_LOOK
                else:
                    time.sleep(pause)
                    pause = min(2 * pause, LONGEST_LOOK)
            show.update(Counter(outcome.state for outcome in self.outcomes.values()), 0)
        except BaseException:
            for job in self.flying.values():
                with suppress(Exception):  # not every future can be cancelled
                    job.cancel()  # type: ignore[attr-defined]
            raise
        finally:
            self._renewable.shutdown()

    def _hand_over(self) -> None:
        window = self._renewable.window
        while self.queue and (window is None or len(self.flying) < window):
            point = self.queue[0]
            if self.flying and (point in self._suspects or self._suspects & self.flying.keys()):
                return
            self.queue.popleft()
            self._tries[point] += 1
            config = point.config(root=self._root, study=self._study, tries=self._tries[point])
            try:
                self.flying[point] = self._renewable.executor.submit(self._job, config)
            except Exception as error:
                if isinstance(error, BrokenExecutor):
                    self._tries[point] -= 1
                    self.queue.appendleft(point)
                    self._rebuild(error)
                else:
                    self._lose(point, error)
                return

    def _collect(self) -> bool:
        """Takes what has ended; whether anything has."""
        ended = [point for point, job in self.flying.items() if job.done()]
        broken: BrokenExecutor | None = None
        for point in ended:
            try:
                self.flying[point].result()
            except BrokenExecutor as error:
                broken = error
                continue  # all that is under way is lost with it, and is dealt with together
            except Exception as error:
                del self.flying[point]
                if isinstance(error, JobFailed) or JobFailed.__name__ in str(error):
                    self._end(point, "failed", str(error))
                elif isinstance(error, UNSENDABLE):
                    advice = "Give `train` as a function at a module's top level."
                    self._end(point, "died", f"{type(error).__name__}: {error}. {advice}")
                else:
                    self._lose(point, error)
            else:
                del self.flying[point]
                self._check(point)
        if broken is not None:
            self._rebuild(broken)
        return bool(ended)

    def _check(self, point: Point) -> None:
        """The future says that the point has finished: the store must say so, too."""
        state = read_run(point.config(root=self._root, study=self._study)).state
        if state == "finished":
            self._end(point, "finished", "")
        else:
            place = self._root
            why = (
                f"The worker finished it, but here it is {state} under {place}: give a root that both reach."
            )
            self._end(point, "failed", why)

    def _rebuild(self, error: BrokenExecutor) -> None:
        """A process died, and all jobs of its pool with it: builds the pool anew and runs them again."""
        lost = list(self.flying)
        self.flying.clear()
        self._breaks += 1
        if not self._renewable.renew():
            for point in lost or [self.queue.popleft()]:
                self._lose(point, error)
            return
        workers = self._renewable.window or 1
        if not self._worked and self._breaks > (self._retries + 1) * (workers + 1):
            raise RuntimeError(
                f"The pool of processes broke {self._breaks} times before any point had ended ({error}): "
                'start the study under `if __name__ == "__main__":`, and look whether a worker can import '
                "`train` and has memory enough. Points that have finished are kept: run it again to go on."
            )
        if len(lost) == 1:
            self._lose(lost[0], error)
        else:
            self._suspects.update(lost)
            self.queue.extendleft(reversed(lost))

    def _lose(self, point: Point, error: Exception) -> None:
        """The job was lost without having failed: hands it over again, unless that was done often enough."""
        self._losses[point] += 1
        if self._losses[point] > self._retries:
            self._end(point, "died", f"{type(error).__name__}: {error}".strip())
        else:
            log.warning("Lost %s (%s: %s); it is run again.", point.run, type(error).__name__, error)
            self.queue.appendleft(point)

    def _end(self, point: Point, state: str, why: str) -> None:
        self._worked |= state != "died"
        self._suspects.discard(point)
        self.outcomes[point] = Outcome(point, state, why, self._tries[point])
        if why:
            log.warning("%s %s: %s", point.run, state, why.strip().splitlines()[-1])
