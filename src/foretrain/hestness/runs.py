"""The runs of a study as Hestness's method takes them: one error a run, and the best model of each shard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from foretrain.frontier import NARROWEST
from foretrain.inputs import positive, same_length
from foretrain.laws.law import Array
from foretrain.observation import Observation, RunRecord

RESAMPLES = 400
"""How often the seeds are drawn anew to tell how sure the choice of a model is."""

DESCRIPTIVE = frozenset({"schedule", "metric"})
"""Conventions that may differ between runs that are compared: they count nothing."""


@dataclass(frozen=True)
class Runs:
    """One number a run.

    Attributes:
        data: Distinct training examples of each run, shape (n,).
        params: Its parameters, shape (n,).
        error: Its lowest validation error, shape (n,), in the metric's unit.
        seconds: Seconds a training example took, validation included, shape (n,); NaN where unknown.
        passes: Times that the data were seen until the lowest error, shape (n,).
        excluded: Why other runs were left out, by name.
    """

    data: Array
    params: Array
    error: Array
    seconds: Array
    passes: Array
    excluded: dict[str, str]


@dataclass(frozen=True)
class BestModel:
    """The best model of one shard.

    Attributes:
        data: Training examples of the shard.
        error: The lowest median error over the seeds of a size, in the metric's unit.
        params: Of the smallest model whose error is not told from the lowest: within a standard error of it.
        log_params_std: Standard deviation of ln params when the seeds are drawn anew, at least a third of the
            step between sizes; NaN where there is one size.
        bound: "largest" or "smallest" where `params` is at an end of the sizes tried, so that the best may
            lie beyond; else empty.
        sizes: How many sizes were tried.
        seeds: The fewest seeds of a size.
    """

    data: float
    error: float
    params: float
    log_params_std: float
    bound: str
    sizes: int
    seeds: int


def read_runs(runs: Mapping[str, RunRecord], metric: str) -> Runs:
    """One number from each finished run of a study: the lowest value of its metric over training.

    The amount of data is the number of distinct examples, so runs on shards of any number of epochs are
    compared. Runs that were counted by other conventions than most are left out.

    Args:
        runs: The runs by name, as the store has them.
        metric: Name of the metric; an error or a loss, lower is better.

    Returns:
        The runs, and why others were left out.
    """
    excluded: dict[str, str] = {}
    kept: list[tuple[RunRecord, list[Observation]]] = []
    for name, record in runs.items():
        seen = [o for o in record.observations if o.metric == metric and np.isfinite(o.value)]
        reason = _reason(record, seen, metric)
        if reason:
            excluded[name] = reason
        else:
            kept.append((record, seen))
    signatures = [_signature(record) for record, _ in kept]
    usual = max(sorted(set(signatures)), key=signatures.count, default=())
    rows = []
    for (record, seen), signature in zip(kept, signatures, strict=True):
        if signature != usual:
            odd = ", ".join(sorted({name for name, _ in set(signature) ^ set(usual)}))
            excluded[record.info.run] = f"counted by other conventions ({odd}) than most runs"
        else:
            rows.append(_row(seen))
    table = np.array(rows, dtype=float).reshape(-1, 5).T
    data, params, error, seconds, passes = table
    return Runs(data, params, error, seconds, passes, excluded)


def _reason(record: RunRecord, seen: Sequence[Observation], metric: str) -> str:
    if record.state != "finished":
        return f"not finished ({record.state})"
    if not seen:
        return f"no finite {metric}"
    if not min(o.value for o in seen) > 0:
        return f"{metric} is not positive: it has no logarithm"
    if not seen[-1].counts.params:
        return "parameters are not counted"
    if not seen[-1].counts.unique_samples:
        return "distinct training examples are not counted"
    return ""


def _signature(record: RunRecord) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(item for item in record.info.conventions.items() if item[0] not in DESCRIPTIVE))


def _row(seen: Sequence[Observation]) -> tuple[float, float, float, float, float]:
    """Data, parameters, error, seconds a sample, and passes over the data until the lowest error."""
    best, first, last = min(seen, key=lambda o: o.value), seen[0], seen[-1]
    data, seconds = float(last.counts.unique_samples or 0), float("nan")
    samples = last.counts.samples - first.counts.samples
    # Clocks differ between processes: only one attempt's own is asked.
    if samples > 0 and first.attempt == last.attempt and first.time is not None and last.time is not None:
        taken = last.time - first.time
        seconds = taken / samples if taken > 0 else seconds
    return data, float(last.counts.params or 0), best.value, seconds, best.counts.samples / data


def best_models(
    data: ArrayLike, params: ArrayLike, error: ArrayLike, *, seed: int = 0
) -> tuple[BestModel, ...]:
    """Finds the best model of each shard over sizes and seeds.

    Of the seeds of one size the median error counts, and the lowest median over sizes is the shard's error
    (Hestness et al. 2017). Larger models are often as good: the model's size is that of the smallest one
    whose median is within one standard error of the lowest (Breiman et al. 1984, section 3.4.3), the standard
    error of a median of so many seeds, from the spread of log errors over the seeds of all cells together.

    Args:
        data: Training examples of each run's shard, shape (n,). Positive.
        params: Parameters of each run, shape (n,). Positive.
        error: Lowest validation error of each run, shape (n,). Positive.
        seed: Of the draws that tell how sure the choice is.

    Returns:
        One for each shard, ascending in data.

    Raises:
        ValueError: If a number is not positive and finite, or the lengths differ.
    """
    d, p, y = positive("data", data), positive("params", params), positive("error", error)
    same_length(data=d, params=p, error=y)
    spread = _spread(d, p, np.log(y))
    rng = np.random.default_rng(seed)
    return tuple(_best(size, p[d == size], np.log(y[d == size]), spread, rng) for size in np.unique(d))


def _spread(d: Array, p: Array, log_y: Array) -> float:
    """Standard deviation of the log error between seeds, of all cells together; 0 where no cell has two."""
    squares, freedom = 0.0, 0
    for size in np.unique(d):
        for params in np.unique(p[d == size]):
            cell = log_y[(d == size) & (p == params)]
            squares += float(((cell - cell.mean()) ** 2).sum())
            freedom += cell.size - 1
    return float(np.sqrt(squares / freedom)) if freedom else 0.0


def _best(size: float, p: Array, log_y: Array, spread: float, rng: np.random.Generator) -> BestModel:
    sizes = np.unique(p)
    cells = [log_y[p == params] for params in sizes]
    seeds = min(cell.size for cell in cells)
    medians = np.array([[np.median(cell)] for cell in cells])
    # The variance of a median of many is pi/2 that of the mean; of one or two it is the mean.
    errors = np.array([spread * np.sqrt((np.pi / 2 if cell.size > 2 else 1.0) / cell.size) for cell in cells])
    (chosen,) = _smallest_as_good(medians, errors)
    drawn = np.array([np.median(rng.choice(cell, (RESAMPLES, cell.size)), axis=1) for cell in cells])
    if seeds == 1:  # a single seed drawn anew is the same seed: its noise is that of all cells
        drawn = medians + errors[:, None] * rng.standard_normal((sizes.size, RESAMPLES))
    again = np.log(sizes)[_smallest_as_good(drawn, errors)]
    deviation = float("nan")
    if sizes.size > 1:
        deviation = max(float(again.std()), NARROWEST * float(np.ptp(np.log(sizes))) / (sizes.size - 1))
    ends = {0: "smallest", sizes.size - 1: "largest"}
    return BestModel(
        data=float(size),
        error=float(np.exp(medians.min())),
        params=float(sizes[chosen]),
        log_params_std=deviation,
        bound=ends.get(int(chosen), ""),
        sizes=int(sizes.size),
        seeds=int(seeds),
    )


def _smallest_as_good(medians: Array, errors: Array) -> NDArray[np.intp]:
    """Of each column the first row that is within one standard error of the lowest, shape (r,)."""
    lowest = np.argmin(medians, axis=0)
    limit = medians.min(axis=0) + errors[lowest]
    return np.asarray(np.argmax(medians <= limit, axis=0))
