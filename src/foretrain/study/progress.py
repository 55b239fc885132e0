"""How far a study is, as one line on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class Show:
    """A progress bar over the points of a study; nothing where the output is no terminal.

    Args:
        total: How many points there are.
        enabled: Whether it shows at all.
        console: Where; standard error by default, so that output can be piped.
    """

    def __init__(self, total: int, *, enabled: bool = True, console: Console | None = None) -> None:
        console = console or Console(stderr=True)
        self._bar = Progress(
            TextColumn("study"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[told]}"),
            console=console,
            disable=not (enabled and console.is_terminal),
        )
        self._task = self._bar.add_task("study", total=total, told="")

    def __enter__(self) -> Show:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def update(self, states: Mapping[str, int], running: int) -> None:
        """Tells how many points have ended, by state, and how many are under way."""
        told = [f"{running} running"] if running else []
        told += [f"{number} {state}" for state, number in sorted(states.items()) if state != "finished"]
        self._bar.update(self._task, completed=sum(states.values()), told=", ".join(told))
