"""The labelled-data law of several tasks of one encoder: whether one exponent serves them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import fdtrc, stdtrit

from foretrain.hestness.law import Estimate
from foretrain.inputs import positive
from foretrain.laws.law import Array

MIN_AMOUNTS, MIN_TASKS = 4, 2

EXACT = 1e-24
"""Variance of the log error below which only rounding is left."""

FALSE_ALARMS = 0.01
"""Rate at which tasks of one exponent are told to have several, where the noise is normal."""


@dataclass(frozen=True)
class TaskLaws:
    """`error_t(m) = A_t m^-alpha_t` of several tasks, from encoders trained on m labelled examples.

    Attributes:
        tasks: Their names.
        shared: The exponent that serves all of them best, with a 90% interval.
        exponents: Each task's own, likewise.
        p_same: Probability of exponents as different as these, if they are the same.
        spread: Standard deviation of the tasks' exponents beyond the luck of their fits; 0 where that
            explains them.
        misfit: Root mean square log deviation of the errors from one exponent, with an A of each task.
        misfit_own: The same with exponents of their own.
    """

    tasks: tuple[str, ...]
    shared: Estimate
    exponents: tuple[Estimate, ...]
    p_same: float
    spread: float
    misfit: float
    misfit_own: float

    @property
    def is_shared(self) -> bool:
        """Whether nothing speaks against one exponent, at the 1% level."""
        return self.p_same > FALSE_ALARMS


def fit_task_laws(data: ArrayLike, errors: ArrayLike, tasks: Sequence[str] | None = None) -> TaskLaws:
    """Fits a power law of labelled data to each of several tasks, and tests whether they share the exponent.

    All tasks are measured on the same encoders, so an encoder that came out well is good at all of them: what
    an encoder has in common with itself is an effect of its own, and says nothing of differences between
    tasks. Those are tested on what is left, by the F test of equal slopes in logarithms. The shared exponent
    is the slope of the tasks' mean log error; the encoders are the independent units of its interval.

    Args:
        data: Labelled examples that each encoder was trained on, shape (k,), in any order. Positive. Encoders
            should have been trained apart: checkpoints of one training share more than is allowed for.
        errors: Error of each task with each encoder, shape (tasks, k). Positive.
        tasks: Names of the tasks; their numbers if None.

    Returns:
        The laws.

    Raises:
        ValueError: If a number is not positive and finite, the shapes differ, or there are fewer than two
            tasks or four different amounts of data.

    References:
        Walmsley et al. 2024, arXiv:2404.02973 (one law in labelled images for all questions). The test is
        ours.

    Example:
        >>> laws = fit_task_laws([100, 200, 400, 800], [[0.4, 0.31, 0.2, 0.155], [0.2, 0.15, 0.11, 0.075]])
        >>> f"{laws.shared.median:.2f} {laws.is_shared}"
        '0.47 True'
    """
    m, e = positive("data", data), positive("errors", errors)
    if m.ndim != 1 or e.ndim != 2 or e.shape[1] != m.size:
        raise ValueError(
            f"Expected `errors` with a row for each task and a column for each of {m.size} encoders, got "
            f"shape {e.shape}."
        )
    if e.shape[0] < MIN_TASKS or np.unique(m).size < MIN_AMOUNTS:
        raise ValueError(
            f"Expected at least {MIN_TASKS} tasks and {MIN_AMOUNTS} amounts of data, got {e.shape[0]} and "
            f"{np.unique(m).size}: train encoders on more shards."
        )
    names = tuple(str(i) for i in range(e.shape[0])) if tasks is None else tuple(tasks)
    if len(names) != e.shape[0]:
        raise ValueError(f"Expected {e.shape[0]} names of tasks, got {len(names)}.")
    x = np.log(m) - np.log(m).mean()
    y = np.log(e)
    sum_x = float(x @ x)
    own, left_own = _slopes(x, y)
    mean, left_mean = _slopes(x, y.mean(axis=0)[None])
    apart = own - mean
    _, left = _slopes(x, y - y.mean(axis=0))
    freedom = m.size - 2
    variance = max(float((left**2).sum()) / ((e.shape[0] - 1) * freedom), EXACT)
    between = sum_x * float((apart**2).sum()) / (e.shape[0] - 1)
    f = between / variance
    together = y - y.mean(axis=1, keepdims=True) - mean * x
    return TaskLaws(
        tasks=names,
        shared=_estimate(float(mean[0, 0]), left_mean[0], sum_x, freedom),
        exponents=tuple(
            _estimate(float(slope), rest, sum_x, freedom)
            for slope, rest in zip(own[:, 0], left_own, strict=True)
        ),
        p_same=float(fdtrc(e.shape[0] - 1, (e.shape[0] - 1) * freedom, f)),
        spread=float(np.sqrt(max(between - variance, 0.0) / sum_x)),
        misfit=float(np.sqrt((together**2).mean())),
        misfit_own=float(np.sqrt((left_own**2).mean())),
    )


def _slopes(x: Array, y: Array) -> tuple[Array, Array]:
    """Least-squares slopes of rows y on x, which is centred, shape (rows, 1); and what is left of them."""
    centred = y - y.mean(axis=1, keepdims=True)
    slope = (centred @ x / (x @ x))[:, None]
    return slope, centred - slope * x


def _estimate(slope: float, left: Array, sum_x: float, freedom: int) -> Estimate:
    half = float(stdtrit(freedom, 0.95)) * float(np.sqrt(left @ left / freedom / sum_x))
    return Estimate(-slope, -slope - half, -slope + half)
