"""Running a study: all points of a grid, through any executor; the results come back through the store."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from foretrain.storage.reader import Study, StudyReader
from foretrain.storage.urls import as_root, is_url
from foretrain.study.executors import Executor, Renewable
from foretrain.study.executors import RayExecutor as RayExecutor
from foretrain.study.executors import process_pool as process_pool
from foretrain.study.job import Job, Train, read_states, study_place
from foretrain.study.launch import Launch
from foretrain.study.launch import Outcome as Outcome
from foretrain.study.points import Point, check_points
from foretrain.study.points import grid as grid
from foretrain.study.progress import Show


@dataclass(frozen=True)
class StudyOutcome:
    """What became of a study.

    Attributes:
        outcomes: One for each point, in the order of the points.
        place: Folder of the study in the store, or its URL.
    """

    outcomes: tuple[Outcome, ...]
    place: str

    @property
    def complete(self) -> bool:
        """Whether every point is finished."""
        return not self.unfinished

    @property
    def unfinished(self) -> tuple[Outcome, ...]:
        """The points that failed or died."""
        return tuple(outcome for outcome in self.outcomes if outcome.state in ("failed", "died"))

    def read(self) -> Study:
        """The runs of the study, as the store has them now; also those of other points."""
        return StudyReader(self.place).read()


def run_study(
    train: Train,
    points: Iterable[Point],
    executor: Executor | Callable[[], Executor] | None = None,
    *,
    root: str | os.PathLike[str],
    study: str = "default",
    retries: int = 2,
    progress: bool = True,
) -> StudyOutcome:
    """Trains every point of a study that is not finished yet.

    `train` gets one dictionary, `Point.config`: size, data, seed and options, and `root`, `study` and `run`,
    which it passes on to `ScalingLawMonitor`; or else it returns observations, which are recorded for it. A
    point counts as finished once the store has its run as finished, whatever the executor says, so a study
    that was interrupted goes on when it is run again, and jobs that are run twice do no harm.

    A job that raises is recorded as failed and the study goes on; run again, the study tries it again. A job
    whose process dies is handed over again, `retries` times. A pool of processes that breaks is built anew;
    the points that were in it run alone until it is known which of them breaks it.

    Args:
        train: Trains one point. For other processes a function at the top level of a module.
        points: What to train; see `grid`.
        executor: Anything with `submit(fn, config)` that returns something with `done()` and `result()`: a
            pool of the standard library, loky, a Dask `Client` or its executor, submitit's, `RayExecutor`;
            or a function that makes one, such as `process_pool(4)`, which can then be built anew. By
            default the points are run one by one in this process.
        root: Root of the store, as `ScalingLawMonitor` takes it: a directory or a URL that all workers reach.
        study: Name of the study.
        retries: How often a point whose process died is handed over again.
        progress: Whether a line on a terminal tells how far the study is.

    Returns:
        What became of each point.

    Raises:
        ValueError: If an argument cannot be meant, or a point is there twice.
        RuntimeError: If a pool of processes breaks again and again before any point has ended.
        KeyboardInterrupt: If it is interrupted: run it again to go on.

    Example:
        >>> import tempfile
        >>> from foretrain.axes import Counts
        >>> from foretrain.observation import Observation
        >>> def train(config):
        ...     loss = 3 / config["size"] + 20 / config["data"]
        ...     counts = Counts(samples=config["data"], steps=1, params=config["size"])
        ...     return Observation(config["run"], "val_loss", loss, counts)
        >>> root = tempfile.mkdtemp()
        >>> run_study(train, grid(size=[8, 16], data=[100, 200]), root=root, progress=False).complete
        True
    """
    chosen = check_points(points)
    if not callable(train):
        raise ValueError(f"Expected `train` to be a function of a configuration, got {train!r:.80}.")
    if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
        raise ValueError(f"Expected `retries` to be 0 or more, got {retries!r}.")
    text = as_root(root)
    text = text if is_url(text) else os.path.abspath(text)  # noqa: PTH100 (keeps links as they are)
    states = read_states(text, study, [point.run for point in chosen])
    done = {point for point in chosen if states[point.run] == "finished"}
    launch = Launch(Job(train), Renewable(executor), text, study, retries)
    launch.outcomes = {point: Outcome(point, "skipped") for point in chosen if point in done}
    launch.queue.extend(point for point in chosen if point not in done)
    with Show(len(chosen), enabled=progress) as show:
        launch.run(show)
    return StudyOutcome(tuple(launch.outcomes[point] for point in chosen), study_place(text, study))
