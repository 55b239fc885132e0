"""What a target accuracy needs: data, model and time, by the procedure of Hestness et al. 2019.

With `error(m) = A m^-alpha` and `params = k m^beta`, a target error e needs `m = (e / A)^(-1 / alpha)`
training examples and `k m^beta` parameters (Hestness, Ardalani and Diamos 2019, arXiv:1909.01736). Here each
of them is asked of every draw of the laws, so that it has an interval.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foretrain.hestness import FAR, HestnessStudy
from foretrain.hestness.law import Estimate


@dataclass(frozen=True)
class Target:
    """What a target error needs.

    Attributes:
        error: The target, in the metric's unit.
        reachable: Probability that any amount of data reaches it, by the law.
        data: Training examples it needs; an end is infinite where it cannot be told.
        data_scale: The same, over those of the largest shard.
        params: Parameters of the best model then; None where the growth of the size is not known.
        seconds: How long training takes on the machine that trained the runs; None where that is not known.
        doubts: What is in doubt, as sentences.
    """

    error: float
    reachable: float
    data: Estimate
    data_scale: Estimate
    params: Estimate | None
    seconds: Estimate | None
    doubts: tuple[str, ...]

    @property
    def told(self) -> bool:
        """Whether the data needed can be told: both ends of the interval are finite."""
        return bool(np.isfinite(self.data.upper))


def required_data(error: float, coefficient: float, exponent: float) -> float:
    """Training examples at which `A m^-alpha` is this error: the closed form.

    Raises:
        ValueError: If a number is not positive and finite.

    Example:
        >>> round(required_data(0.05, 15.0, 0.309) / 1.3e6)  # ImageNet's top-1 error, as published: 81
        80
    """
    if not all(np.isfinite(value) and value > 0 for value in (error, coefficient, exponent)):
        raise ValueError(
            f"Expected positive numbers, got error {error}, coefficient {coefficient}, exponent {exponent}."
        )
    with np.errstate(over="ignore"):
        return float(np.exp(np.log(coefficient / error) / exponent))


def project_target(study: HestnessStudy, error: float, *, level: float = 0.9) -> Target:
    """Says what a target error needs in data, model size and time, or that it cannot be told.

    Args:
        study: What the runs say.
        error: The target, in the metric's unit.
        level: Nominal level of the intervals.

    Returns:
        What it needs.

    Raises:
        ValueError: If the target is not positive and finite, the level is not between 0 and 1, or the study
            has no law of the error: its `doubts` say why, its `next_runs` what would help.
    """
    if not (np.isfinite(error) and error > 0):
        raise ValueError(f"Expected a target error that is positive and finite, got {error!r}.")
    if not 0 < level < 1:
        raise ValueError(f"Expected `level` between 0 and 1, such as 0.9, got {level!r}.")
    if study.law is None:
        raise ValueError(
            f"Expected a study that tells how the error falls with data. {' '.join(study.doubts)}"
        )
    draws = study.law.data_for(error)
    top = float(study.law.data[-1])
    reachable = float(np.isfinite(draws).mean())
    data = Estimate.of(draws, level)
    doubts = []
    if not np.isfinite(data.upper):
        doubts.append(
            f"Whether data alone reach {error:g} cannot be told: by {1 - reachable:.0%} of the laws that fit "
            f"they do not. Train on more data than {top:,.0f} examples, or on smaller shards, first."
        )
    elif data.upper > 100 * max(data.lower, top):
        doubts.append("The data needed are told to no better than a factor of a hundred.")
    if error >= study.law.error.min():
        doubts.append("The target is no lower than what was measured.")
    params, sizes = None, None
    if study.growth is not None:
        sizes = study.growth.draws(draws)
        params = Estimate.of(sizes, level)
    seconds = None
    if study.speed is not None and sizes is not None and np.isfinite(study.passes):
        noise = np.exp(np.random.default_rng(3).standard_normal(draws.size) * study.speed.spread)
        with np.errstate(over="ignore", invalid="ignore"):
            taken = study.passes * draws * study.speed.seconds(sizes) * noise
        seconds = Estimate.of(np.where(np.isfinite(draws), taken, np.inf), level)
        if params is not None and params.median > FAR * study.speed.largest:
            doubts.append(f"The time is for models beyond {FAR:g} times the largest that was timed.")
        if study.speed.per_param == 0:
            doubts.append("The models that were timed are too small for their size to show in the time.")
    scale = Estimate(data.median / top, data.lower / top, data.upper / top)
    return Target(error, reachable, data, scale, params, seconds, tuple(doubts))
