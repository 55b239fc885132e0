"""Hestness's method: how the error and the best model's size go with training data, and what a target needs.

References: Hestness et al. 2017, arXiv:1712.00409 (the two laws); Hestness, Ardalani and Diamos 2019,
arXiv:1909.01736 (what a target accuracy needs).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import nnls
from scipy.special import stdtrit

from foretrain.frontier import Growth, fit_growth
from foretrain.hestness.law import MIN_SHARDS, ErrorLaw, Estimate, fit_error_law
from foretrain.hestness.runs import BestModel, Runs, best_models, read_runs
from foretrain.hestness.table import REFERENCE_EXPONENTS as REFERENCE_EXPONENTS
from foretrain.hestness.table import alike as alike
from foretrain.inputs import positive, same_length
from foretrain.laws.law import Array
from foretrain.observation import RunRecord
from foretrain.regions import AT_GUESS

MIN_BRACKETED = 3
"""Fewer shards whose best model lies between the sizes tried leave the growth of the size without doubt."""

FAR = 10.0
"""Beyond so many times the largest model its speed is guesswork."""


@dataclass(frozen=True)
class SizeLaw:
    """`params = k m^exponent`: how the best model's size grows with training examples.

    Attributes:
        growth: The law by regression, with `predict`.
        data: Training examples of the shards it rests on, shape (k,).
        exponent: Its exponent, Hestness's beta_p, with a 90% interval by Student's t.
        spread: Standard deviation of ln params about the law.
    """

    growth: Growth
    data: Array
    exponent: Estimate
    spread: float

    def draws(self, data: Array, seed: int = 2) -> Array:
        """Parameters for so many training examples, one draw for each, shape (n,)."""
        rng = np.random.default_rng(seed)
        freedom = max(self.data.size - 2, 1)
        scale = 1.0 / np.sqrt(rng.chisquare(freedom, data.size) / freedom)
        centre, count = float(np.log(self.data).mean()), self.data.size
        level = rng.standard_normal(data.size) * scale * self.spread / np.sqrt(count)
        slope = rng.standard_normal(data.size) * scale * self.growth.exponent_std
        with np.errstate(over="ignore", invalid="ignore"):
            x = np.log(data) - centre
            middle = np.log(self.growth.coefficient) + self.growth.exponent * centre
            told = np.exp(np.minimum(middle + level + (self.growth.exponent + slope) * x, 700.0))
        return np.where(np.isfinite(data), told, np.inf)


@dataclass(frozen=True)
class Speed:
    """Seconds to train on one example: `overhead + per_param * params`.

    Attributes:
        overhead: Seconds whatever the model's size.
        per_param: Seconds a parameter.
        spread: Standard deviation of the log of the measured seconds about that.
        largest: Parameters of the largest model measured.
    """

    overhead: float
    per_param: float
    spread: float
    largest: float

    def seconds(self, params: Array) -> Array:
        """Seconds for one example, in the shape of params."""
        return np.asarray(self.overhead + self.per_param * params)


@dataclass(frozen=True)
class NextRun:
    """A run that would tell most, and why.

    Attributes:
        params: About so many parameters.
        data: On so many training examples.
        why: What it would tell.
    """

    params: float
    data: float
    why: str


@dataclass(frozen=True)
class HestnessStudy:
    """What a study of sizes and shards says.

    Attributes:
        best: The best model of each shard.
        law: How the error falls with data; None where it cannot be told.
        growth: How the best model's size grows; None where it cannot be told.
        speed: How long an example takes on the machine that trained the runs; None where it is not known.
        passes: Times the data are seen until the lowest error, the median over the runs; NaN without runs.
        doubts: What cannot be told, and why, as sentences.
        next_runs: Runs that would tell it.
        excluded: Why runs were left out, by name.
    """

    best: tuple[BestModel, ...]
    law: ErrorLaw | None
    growth: SizeLaw | None
    speed: Speed | None
    passes: float
    doubts: tuple[str, ...]
    next_runs: tuple[NextRun, ...]
    excluded: dict[str, str]


def analyze_study(
    runs: Mapping[str, RunRecord] | Runs, metric: str = "val_loss", *, guess: float | None = None
) -> HestnessStudy:
    """Fits both laws of Hestness et al. 2017 to the runs of a study.

    Args:
        runs: The runs by name, as the store has them, or what `read_runs` made of them.
        metric: The metric; lower is better.
        guess: The metric of a model that knows only how frequent the classes are. Shards whose error is not
            below nine tenths of it have not learned yet and are left out of the laws.

    Returns:
        The laws, what cannot be told, and what to run next.

    Raises:
        ValueError: If `guess` is not positive.
    """
    if guess is not None and not (np.isfinite(guess) and guess > 0):
        raise ValueError(f"Expected `guess` to be a positive error, got {guess!r}: leave it out if unknown.")
    table = runs if isinstance(runs, Runs) else read_runs(runs, metric)
    if not table.data.size:
        why = "There is no run to learn from: " + (_most_common(table.excluded) or "the study is empty") + "."
        return HestnessStudy((), None, None, None, float("nan"), (why,), (), table.excluded)
    best = best_models(table.data, table.params, table.error)
    learned = tuple(b for b in best if guess is None or b.error < AT_GUESS * guess)
    doubts = []
    if len(learned) < len(best):
        doubts.append(f"{len(best) - len(learned)} shards are still at the error of guessing and left out.")
    law = None
    if len(learned) >= MIN_SHARDS:
        law = fit_error_law([b.data for b in learned], [b.error for b in learned])
        if not law.floor_is_told:
            doubts.append(
                "The shards do not tell whether the error has a floor: far targets have no upper end."
            )
    else:
        doubts.append(f"The error's law needs {MIN_SHARDS} shards above guessing, there are {len(learned)}.")
    growth = fit_size_law(learned)
    if growth is None:
        inside = sum(not b.bound for b in learned)
        doubts.append(
            f"The growth of the model's size needs {MIN_BRACKETED} shards whose best model lies between the "
            f"sizes tried, there are {inside}."
        )
    elif any(b.bound == "largest" for b in learned):
        doubts.append(
            "Where the best model is the largest tried, the shard is left out of the growth of the model's "
            "size: it may be told too small."
        )
    known = np.isfinite(table.seconds)
    speed = measure_speed(table.params[known], table.seconds[known]) if known.any() else None
    return HestnessStudy(
        best=best,
        law=law,
        growth=growth,
        speed=speed,
        passes=float(np.median(table.passes)),
        doubts=tuple(doubts),
        next_runs=_next_runs(best, learned),
        excluded=table.excluded,
    )


def fit_size_law(best: tuple[BestModel, ...]) -> SizeLaw | None:
    """The growth of the best model's size, from the shards where it lies between the sizes tried.

    Each counts by how sure its size is. The standard error is the larger of what that implies and of what the
    scatter about the law does.

    Returns:
        The law; None with fewer than three such shards.
    """
    inside = [b for b in best if not b.bound]
    if len(inside) < MIN_BRACKETED:
        return None
    data, params = np.array([b.data for b in inside]), np.array([b.params for b in inside])
    std = np.array([b.log_params_std for b in inside])
    growth, scatter = fit_growth(data, params, std), fit_growth(data, params)
    if scatter.exponent_std > growth.exponent_std:
        growth = scatter
    across = np.log(data) - np.log(data).mean()
    half = float(stdtrit(len(inside) - 2, 0.95)) * growth.exponent_std
    return SizeLaw(
        growth=growth,
        data=data,
        exponent=Estimate(growth.exponent, growth.exponent - half, growth.exponent + half),
        spread=growth.exponent_std * float(np.sqrt((across**2).sum())),
    )


def measure_speed(params: ArrayLike, seconds: ArrayLike) -> Speed:
    """How the time for one training example goes with the model's size, from runs on one machine.

    Least squares of the relative error, neither part below zero: a small model takes as long as its loop.

    Args:
        params: Parameters of each run, shape (n,). Positive.
        seconds: Seconds an example took, shape (n,). Positive.

    Returns:
        The speed.

    Raises:
        ValueError: If a number is not positive and finite, or the lengths differ.
    """
    p, s = positive("params", params), positive("seconds", seconds)
    same_length(params=p, seconds=s)
    unit = float(p.max())
    (overhead, slope), _ = nnls(np.stack([1.0 / s, p / unit / s], axis=1), np.ones_like(s))
    fitted = np.maximum(overhead + slope * p / unit, 1e-300)
    return Speed(float(overhead), float(slope) / unit, float(np.std(np.log(s / fitted))), unit)


def _next_runs(best: tuple[BestModel, ...], learned: tuple[BestModel, ...]) -> tuple[NextRun, ...]:
    found = []
    for model in best:
        if model.bound == "largest":
            found.append(
                NextRun(2 * model.params, model.data, "the best model may be larger than those tried")
            )
        elif model.bound == "smallest" and model.sizes > 1:
            found.append(NextRun(model.params / 2, model.data, "a smaller model may be as good"))
    if len(learned) < MIN_SHARDS and best:
        top = best[-1]
        found.append(NextRun(top.params, 2 * top.data, "the error's law needs another shard"))
    return tuple(found)


def _most_common(excluded: Mapping[str, str]) -> str:
    reasons = list(excluded.values())
    return max(sorted(set(reasons)), key=reasons.count, default="")
