"""An error split by its sources, as far as runs tell them; and which run would tell the rest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from foretrain.hestness.law import ErrorLaw, Estimate, fit_error_law
from foretrain.inputs import positive, same_length
from foretrain.laws.law import Array


@dataclass(frozen=True)
class ErrorSources:
    """The error at the most data, split by its sources. Each part has a 90% interval; None is not identified.

    Attributes:
        data: Training examples it is split at.
        total: The error there: median over its runs.
        noise: What no learner can know of a label.
        realizability: What the best member of the model family is off by, beyond the noise.
        deficiency: What training has left that it need not: the error on its own training examples beyond
            noise and realizability, so a lower bound of the whole deficiency.
        uncertainty: The rest: what so many examples leave open, for this learner.
        floor: What the law of the errors says is left with any amount of data; None with too few amounts.
        unexplained: What of the floor the noise and realizability given do not explain; None where one of
            them is not given.
        missing: What is not identified, and which run or measurement would identify it, as sentences.
    """

    data: float
    total: float
    noise: float | None
    realizability: float | None
    deficiency: float | None
    uncertainty: Estimate | None
    floor: Estimate | None
    unexplained: Estimate | None
    missing: tuple[str, ...]


def split_error(
    data: ArrayLike,
    error: ArrayLike,
    *,
    noise: float | None = None,
    realizability: float | None = None,
    train_error: float | None = None,
) -> ErrorSources:
    """Splits the error of a learner by its sources: noise, realizability, learning deficiency, uncertainty.

    The parts add up to the error. Noise and realizability cannot be read off errors of one learner: they are
    given (zero where a teacher of the family made the labels), or told together with the rest by the floor of
    the errors' law. The error on the training examples says how much training has left undone.

    Args:
        data: Training examples of each run, shape (n,), in any order. Positive.
        error: Error of each run on new examples, shape (n,). Positive.
        noise: Error of the best prediction there is: zero without noise in the labels.
        realizability: Error of the family's best member, beyond the noise; zero if the family has the truth.
        train_error: Error on the training examples at the most data, in the same unit.

    Returns:
        The parts, and what would identify those that are not.

    Raises:
        ValueError: If a number is not positive and finite, the lengths differ, or a part given is negative or
            larger than the error.

    References:
        Rosenfeld 2021, arXiv:2108.07686, as its abstract tells; the thesis could not be read, so its own
        procedure may differ.
    """
    m, e = positive("data", data), positive("error", error)
    same_length(data=m, error=e)
    sizes, medians = medians_by_data(m, e)
    total = float(medians[-1])
    for name, value in (("noise", noise), ("realizability", realizability)):
        if value is not None and not 0 <= value <= total:
            raise ValueError(
                f"Expected `{name}` between 0 and the error {total:.4g} at the most data, got {value}: it is "
                "a part of that error."
            )
    if train_error is not None and not (np.isfinite(train_error) and train_error >= 0):
        raise ValueError(f"Expected `train_error` to be 0 or more, got {train_error}.")
    law = fit_error_law(sizes, medians) if sizes.size >= 4 else None
    floors = None if law is None else law.draws[:, 0]
    known = None if noise is None or realizability is None else noise + realizability
    deficiency = None
    if train_error is not None and known is not None:
        deficiency = min(max(train_error - known, 0.0), max(total - known, 0.0))
    return ErrorSources(
        data=float(sizes[-1]),
        total=total,
        noise=noise,
        realizability=realizability,
        deficiency=deficiency,
        uncertainty=_uncertainty(law, total, known, deficiency),
        floor=None if floors is None else Estimate.of(floors, 0.9),
        unexplained=None
        if floors is None or known is None
        else Estimate.of(np.maximum(floors - known, 0.0), 0.9),
        missing=_missing(law, noise, realizability, train_error),
    )


def medians_by_data(data: Array, error: Array) -> tuple[Array, Array]:
    """The amounts of data of some runs, ascending, and the median error at each."""
    sizes = np.unique(data)
    return sizes, np.array([float(np.median(error[data == size])) for size in sizes])


def _uncertainty(
    law: ErrorLaw | None, total: float, known: float | None, deficiency: float | None
) -> Estimate | None:
    """What is left of the error, with the luck of its measurement."""
    if law is None or known is None or deficiency is None:
        return None
    luck: Array = np.exp(np.random.default_rng(3).standard_normal(law.noise.size) * law.noise)
    return Estimate.of(np.maximum(total * luck - known - deficiency, 0.0), 0.9)


def _missing(
    law: ErrorLaw | None, noise: float | None, realizability: float | None, train_error: float | None
) -> tuple[str, ...]:
    told = []
    if noise is None:
        told.append("Noise: have some examples labelled twice, or give the error of the best prediction.")
    if realizability is None:
        told.append(
            "Realizability: train a larger model on the same data; if its floor is no lower, there is none."
        )
    if train_error is None:
        told.append("Deficiency: measure the error on the training examples, or train longer.")
    if law is None:
        told.append("The floor and the luck of a run: train on at least four amounts of data.")
    elif not law.floor_is_told:
        told.append("The floor: the errors allow for none; train on several times the data.")
    return tuple(told)
