"""What a study has cost: the training FLOPs of its runs, and what of them was lost to resumed stretches."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from foretrain.conventions import Signature, signature
from foretrain.observation import Observation
from foretrain.storage.attempts import Attempt

NO_RULE = "not recorded"

Curve = dict[int, float]
"""FLOPs by optimizer step."""

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class RunCompute:
    """The training compute of one run, as far as it was recorded: from its start to its newest observation.

    Attributes:
        study: Name of the study.
        run: Name of the run.
        params: Size of the model; None where unknown.
        rule: How FLOPs were counted.
        counted: All conventions that must agree before runs are compared.
        state: "running", "finished" or "failed", as its newest attempt says.
        attempts: Processes that trained it.
        kept: FLOPs behind its newest weights; None where FLOPs were not recorded.
        inherited: FLOPs of those that another run trained, which this one goes on from.
        lost: FLOPs beyond the checkpoints from which it was resumed, trained again or given up.
    """

    study: str
    run: str
    params: int | None
    rule: str
    counted: Signature
    state: str
    attempts: int
    kept: float | None
    inherited: float = 0.0
    lost: float = 0.0

    @property
    def spent(self) -> float:
        """FLOPs that its own processes computed; 0 where none were recorded."""
        return 0.0 if self.kept is None else max(self.kept - self.inherited, 0.0) + self.lost


@dataclass(frozen=True)
class Totals:
    """The training compute of several runs.

    Attributes:
        runs: How many.
        unknown: Of how many of them no FLOPs were recorded: the sums are without them.
        spent: FLOPs that their processes computed.
        lost: Of these, what was lost to resumed stretches.
        unfinished: Of these, what runs took that failed or have not ended.
    """

    runs: int
    unknown: int
    spent: float
    lost: float
    unfinished: float


@dataclass
class _Process:
    """The attempts of one process."""

    attempts: list[Attempt]

    @property
    def continued(self) -> str | None:
        """The run that it goes on from."""
        continues = self.attempts[0].info.continues
        return None if continues is None else str(continues["run"])

    @property
    def start(self) -> float | None:
        """The step that it goes on from."""
        continues = self.attempts[0].info.continues
        return None if continues is None else float(continues["step"])

    @property
    def points(self) -> Curve:
        """What they tell of FLOPs."""
        return _curve(self.attempts)

    def is_beside(self, other: Attempt) -> bool:
        """Whether an attempt is of this process, by another monitor.

        What two monitors of one process tell of FLOPs is what one that was resumed from the same checkpoint
        would tell, too. So the clock decides here, and where there is none, whether the metrics differ.
        """
        if other.info.continues != self.attempts[0].info.continues:
            return False
        times = [o.time for one in self.attempts for o in _observations(one) if o.time is not None]
        if times and other.info.started is not None:
            return other.info.started <= max(times)
        metrics = {metric for one in self.attempts for metric in one.points}
        return bool(metrics) and not metrics & set(other.points)


def compute_record(attempts: Iterable[Attempt]) -> tuple[RunCompute, ...]:
    """The compute of each run, from what its processes recorded.

    FLOPs are counted from the start of a run and go on through its checkpoints. Where a process resumes at a
    step below what was recorded, the stretch between was trained for nothing; its FLOPs are read off the line
    through the observations around that step. A run that goes on from another one inherits what that one had
    computed by then, so sums over runs count everything once. What a process computed after its last
    observation is in no record, unless a later one goes on from there: the sums are at least what was spent.

    Args:
        attempts: Of one study, in any order.

    Returns:
        The runs in order of their names.
    """
    runs: dict[str, list[Attempt]] = {}
    for attempt in sorted(attempts, key=lambda one: (one.info.attempt, one.info.started or 0.0)):
        runs.setdefault(attempt.info.run, []).append(attempt)
    curves = {run: _curve(own) for run, own in runs.items()}
    return tuple(_run(run, own, curves) for run, own in sorted(runs.items()))


def totals(runs: Iterable[RunCompute], key: Callable[[RunCompute], Key]) -> dict[Key, Totals]:
    """Sums over the runs that `key` gives the same of, such as their size; in order of first appearance."""
    groups: dict[Key, list[RunCompute]] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    return {
        name: Totals(
            runs=len(own),
            unknown=sum(run.kept is None for run in own),
            spent=sum(run.spent for run in own),
            lost=sum(run.lost for run in own),
            unfinished=sum(run.spent for run in own if run.state != "finished"),
        )
        for name, own in groups.items()
    }


def _run(run: str, attempts: Sequence[Attempt], curves: Mapping[str, Curve]) -> RunCompute:
    line: Curve = {}
    inherited = lost = 0.0
    for process in _processes(attempts):
        points = process.points
        if not points:
            continue  # where it went on from is where its own weights would have been
        start = min(points) - 1 if process.start is None else process.start
        past, own = line, inherited
        if start <= 0:
            past, own = {}, 0.0
        elif process.continued not in (None, run):
            past = curves.get(str(process.continued), {})
            own = _flops_at(past, start)
        if past is line:
            lost += max(_last(line) - _flops_at(line, start), 0.0)
        else:
            lost += max(_last(line) - inherited, 0.0)
        line = {step: flops for step, flops in past.items() if step <= start} | points
        inherited = own
    newest = attempts[-1]
    sizes = [o for one in attempts for o in _observations(one) if o.counts.params is not None]
    params = max(sizes, key=lambda o: (o.attempt, o.counts.steps)).counts.params if sizes else None
    return RunCompute(
        study=newest.info.study,
        run=run,
        params=params,
        rule=newest.info.conventions.get("flops", NO_RULE),
        counted=signature(newest.info.conventions),
        state=newest.state,
        attempts=len(attempts),
        kept=_last(line) if line else None,
        inherited=inherited if line else 0.0,
        lost=lost,
    )


def _processes(attempts: Sequence[Attempt]) -> list[_Process]:
    """One after another; the attempts that several monitors of one process made are one."""
    processes: list[_Process] = []
    for attempt in attempts:
        if processes and processes[-1].is_beside(attempt):
            processes[-1].attempts.append(attempt)
        else:
            processes.append(_Process([attempt]))
    return processes


def _curve(attempts: Iterable[Attempt]) -> Curve:
    """What attempts tell; of several the newest counts."""
    return {
        int(o.counts.steps): float(o.counts.flops)
        for attempt in attempts
        for o in _observations(attempt)
        if o.counts.flops is not None
    }


def _flops_at(curve: Curve, step: float) -> float:
    """FLOPs at a step, on the line through those recorded, from zero on and to the last."""
    known = sorted(({0: 0.0} | curve).items())
    return float(np.interp(step, [at for at, _ in known], [flops for _, flops in known]))


def _last(curve: Curve) -> float:
    return curve[max(curve)] if curve else 0.0


def _observations(attempt: Attempt) -> Iterator[Observation]:
    for points in attempt.points.values():
        yield from points.values()
