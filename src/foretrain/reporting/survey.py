"""Which runs of a study an analysis of one of them looks at: all of a few, some of thousands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from foretrain.conventions import Signature, signature
from foretrain.laws.law import Array
from foretrain.observation import RunRecord
from foretrain.reporting.comparison import MAX_CURVES, RunCurve, resumed_as

MOST_NEAREST = 64
"""Of more runs than `comparison.MAX_CURVES`, so many may tell of a run's schedule."""


@dataclass(frozen=True)
class Chosen:
    """The runs that an analysis looks at.

    Attributes:
        runs: Names of those that say together how the error falls with size and data, in the study's order.
        nearest: Names of those that may tell of the run's schedule.
        left_out: How many were counted by other conventions.
    """

    runs: tuple[str, ...]
    nearest: tuple[str, ...]
    left_out: int


@dataclass(frozen=True)
class _Alike:
    """Runs that were counted alike.

    Attributes:
        count: How many there are.
        names: Of those that no other run stands for, in the study's order.
        sizes: Logarithms of their sizes, shape (n,).
        ages: When they began, later ones first, shape (n,).
        evenly: Names of some of them, evenly over the sizes, the largest among them.
    """

    count: int
    names: tuple[str, ...]
    sizes: Array
    ages: Array
    evenly: tuple[str, ...]


class Survey:
    """What is known of all runs of a study without looking at their observations, but the newest.

    Made once for a study of thousands of runs, it chooses for each run in a time that hardly grows with
    their number.

    Args:
        runs: The study's runs by name.
        metric: Name of the metric.
        curve: The curve of a run; called for those that go on from others only.
    """

    def __init__(
        self, runs: Mapping[str, RunRecord], metric: str, curve: Callable[[RunRecord], RunCurve]
    ) -> None:
        self._counted: dict[str, Signature] = {}
        groups: dict[Signature, list[tuple[str, float, float]]] = {}
        pasts = {other for run in runs.values() for other in run.past}
        linked: dict[Signature, list[RunCurve]] = {}
        for name, run in runs.items():
            counted = self._counted[name] = signature(run.info.conventions)
            newest = run.newest(metric)
            if newest is None or not newest.counts.params or newest.counts.pruned:
                continue
            size = float(np.log(float(newest.counts.params)))
            groups.setdefault(counted, []).append((name, size, -(run.info.started or 0.0)))
            if run.past or name in pasts:
                linked.setdefault(counted, []).append(curve(run))
        self._total = sum(map(len, groups.values()))
        self._groups = {
            counted: _alike(found, resumed_as(linked.get(counted, []))) for counted, found in groups.items()
        }

    def choose(self, run: str, size: float) -> Chosen:
        """The runs to look at for one of them.

        Args:
            run: Its name.
            size: Its trainable parameters, 0 where unknown.
        """
        group = self._groups.get(self._counted[run])
        if group is None:
            return Chosen((), (), self._total)
        off = np.abs(group.sizes - np.log(size)) if size > 0 else np.zeros(len(group.names))
        nearest = np.lexsort((group.ages, off))[:MOST_NEAREST]
        return Chosen(group.evenly, tuple(group.names[i] for i in nearest), self._total - group.count)


def _alike(found: Sequence[tuple[str, float, float]], resumed: Mapping[str, str]) -> _Alike:
    kept = [row for row in found if row[0] not in resumed]
    sizes, ages = np.array([size for _, size, _ in kept]), np.array([age for _, _, age in kept])
    # Two runs that stand for each other do not exist, so that there is at least one.
    places = np.argsort(sizes, kind="stable")[np.linspace(0, len(kept) - 1, MAX_CURVES).astype(int)]
    evenly = tuple(kept[i][0] for i in np.unique(places))
    return _Alike(len(found), tuple(name for name, _, _ in kept), sizes, ages, evenly)
