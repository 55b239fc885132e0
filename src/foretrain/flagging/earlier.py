"""Which runs of a study a run may be compared with."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from foretrain.conventions import signature
from foretrain.observation import Observation, RunRecord

FEWEST = 8
"""Validations of an earlier run, at least."""

ALIKE_DATA = 1.1
"""Runs whose data for each step differ by more than this factor are not of one recipe."""


def kept(observation: Observation) -> float:
    """Share of the parameters that pruning left."""
    density = observation.counts.density
    return 1.0 if density is None else density


def earlier_runs(
    runs: Mapping[str, RunRecord], record: RunRecord, metric: str, within: float = ALIKE_DATA
) -> Iterator[RunRecord]:
    """The study's runs that a run may be compared with: the nearest in size, of those the newest first.

    They have finished before the first validation of the run, by the clocks of their machines, were counted
    by the same conventions, take as much data in a step, are pruned to the same density if at all, and share
    no past with it. Runs whose times are not known count as earlier.

    Args:
        runs: The study's runs by name.
        record: The run.
        metric: Name of the metric.
        within: Factor by which the data of a step may differ, where they are known.
    """
    own = _Measured.of(record, metric)
    if own is None:
        return
    counted = signature(record.info.conventions)
    found: list[tuple[float, float, str]] = []
    for name, other in runs.items():
        if other.state != "finished" or name == record.info.run:
            continue
        if name in record.past or record.info.run in other.past or other.past.keys() & record.past.keys():
            continue
        if signature(other.info.conventions) != counted:
            continue
        theirs = _Measured.of(other, metric)
        if theirs is None or theirs.count < FEWEST or not theirs.alike(own, within):
            continue
        if theirs.until is not None and own.since is not None and not theirs.until < own.since:
            continue
        found.append((theirs.apart(own), -(theirs.until or 0.0), name))
    for _, _, name in sorted(found):
        yield runs[name]


@dataclass(frozen=True)
class _Measured:
    """When a run was measured, and how it was counted at its newest observation."""

    count: int
    since: float | None
    until: float | None
    params: float | None
    data_per_step: float
    kept: float

    @classmethod
    def of(cls, record: RunRecord, metric: str) -> _Measured | None:
        told = [o for o in record.observations if o.metric == metric and o.counts.steps > 0]
        if not told:
            return None
        counts = told[-1].counts
        data = float(counts.samples or 0) / counts.steps
        return cls(len(told), told[0].time, told[-1].time, params_of(record), data, kept(told[-1]))

    def alike(self, other: _Measured, within: float) -> bool:
        if self.kept != other.kept:
            return False
        if not self.data_per_step or not other.data_per_step:
            return True
        return abs(math.log(self.data_per_step / other.data_per_step)) <= math.log(within)

    def apart(self, other: _Measured) -> float:
        return abs(math.log(self.params / other.params)) if self.params and other.params else 0.0


def params_of(record: RunRecord) -> float | None:
    """Size of a run's model, by its last observation; None where that is not known."""
    counts = record.observations[-1].counts if record.observations else None
    return None if counts is None or not counts.params else float(counts.params)


def data_per_step(record: RunRecord, metric: str) -> float:
    """Examples that a run took in a step until it was first measured; 1 where that is not known."""
    told = (o.counts for o in record.observations if o.metric == metric and o.counts.steps > 0)
    counts = next(told, None)
    return float(counts.samples) / counts.steps if counts is not None and counts.samples else 1.0
