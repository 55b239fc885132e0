"""Runs whose training data was selected by different policies: a curve each, and what a policy is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from foretrain.error_sources.decomposition import medians_by_data
from foretrain.error_sources.speed import LearningSpeed, judge_speed
from foretrain.hestness.law import MIN_SHARDS, ErrorLaw, Estimate, fit_error_law
from foretrain.inputs import positive, same_length
from foretrain.laws.law import Array

UNSELECTED = "none"
"""The policy of runs whose data was not selected: a random sample."""


@dataclass(frozen=True, eq=False)
class PolicyCurve:
    """The errors of the runs of one policy.

    Attributes:
        policy: Its name.
        data: Amounts of data of its runs, shape (k,), ascending.
        error: Median error at each, shape (k,).
        speed: How fast they fall.
        worth: How many times its data the baseline needs for the same error, at its largest amount, with a
            90% interval; infinite where the baseline never comes there. None for the baseline itself, and
            where the baseline has too few amounts of data for a law.
    """

    policy: str
    data: Array
    error: Array
    speed: LearningSpeed
    worth: Estimate | None


def compare_policies(
    data: ArrayLike, error: ArrayLike, policies: Sequence[str], *, baseline: str = UNSELECTED
) -> tuple[PolicyCurve, ...]:
    """Tells how fast errors fall under each policy of selecting data, and what it is worth beside a baseline.

    Runs of different policies are never put into one curve: a selected sample is not a random one of its
    size. With data selected well, errors can fall faster than any power law; then a power law through them
    would promise too little, and `speed` says so. What a policy is worth is read off the law of the
    baseline's errors.

    Args:
        data: Training examples of each run after selection, shape (n,). Positive.
        error: Error of each on data that was not selected, shape (n,). Positive.
        policies: The policy of each, length n.
        baseline: The one that the others are compared with.

    Returns:
        The policies, the baseline first, then in order of their names.

    Raises:
        ValueError: If a number is not positive and finite, the lengths differ, or no run has the baseline.

    References:
        Sorscher et al. 2022, arXiv:2206.14486. The verdict and the comparison are ours.
    """
    m, e = positive("data", data), positive("error", error)
    tags = np.array([str(policy) for policy in policies])
    same_length(data=m, error=e, policies=tags)
    names = sorted(set(tags.tolist()) - {baseline})
    if not (tags == baseline).any():
        raise ValueError(
            f"Expected runs of the baseline {baseline!r}, got {', '.join(names)}: pass one of them as "
            "`baseline`."
        )
    sizes, medians = medians_by_data(m[tags == baseline], e[tags == baseline])
    law = fit_error_law(sizes, medians) if sizes.size >= MIN_SHARDS else None
    curves = [
        PolicyCurve(baseline, sizes, medians, judge_speed(m[tags == baseline], e[tags == baseline]), None)
    ]
    for name in names:
        own = tags == name
        sizes, medians = medians_by_data(m[own], e[own])
        worth = None if law is None else _worth(law, float(sizes[-1]), float(medians[-1]))
        curves.append(PolicyCurve(name, sizes, medians, judge_speed(m[own], e[own]), worth))
    return tuple(curves)


def _worth(law: ErrorLaw, data: float, error: float) -> Estimate:
    """The luck of the policy's own last measurement is taken to be that of the baseline's."""
    luck = np.random.default_rng(2).standard_normal(law.noise.size) * law.noise
    return Estimate.of(law.data_for(error * np.exp(luck)) / data, 0.9)
