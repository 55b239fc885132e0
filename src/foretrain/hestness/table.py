"""What Hestness et al. measured: exponents to compare one's own with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ReferenceExponent:
    """One published learning curve over training data.

    Attributes:
        domain: The task.
        model: The model family.
        metric: What was measured.
        error: Exponent of the error, positive: the error falls like `m^-error`.
        size: Exponent of the best model's parameters, which grow like `m^size`; None where not published.
    """

    domain: str
    model: str
    metric: str
    error: float
    size: float | None = None


REFERENCE_EXPONENTS = (
    ReferenceExponent("machine translation", "LSTM with attention", "token error", 0.128),
    ReferenceExponent("word language model", "LSTM, 2 layers", "cross-entropy", 0.0656, 0.69),
    ReferenceExponent("word language model", "LSTM, 4 layers", "cross-entropy", 0.0656, 0.78),
    ReferenceExponent("character language model", "RHN, SGD", "cross-entropy", 0.0936, 0.78),
    ReferenceExponent("character language model", "RHN, Adam", "cross-entropy", 0.0954, 0.92),
    ReferenceExponent("image classification", "ResNet", "top-1 error", 0.309, 0.573),
    ReferenceExponent("image classification", "ResNet", "top-5 error", 0.488, 0.573),
    ReferenceExponent("image classification", "ResNet", "cross-entropy", 0.350, 0.573),
    ReferenceExponent("speech recognition", "DS2 and attention", "character error", 0.299),
)
"""Hestness et al. 2017, arXiv:1712.00409: best models of growing shards, as published."""


def alike(lower: float, upper: float) -> tuple[ReferenceExponent, ...]:
    """The published learning curves whose exponent of the error lies in an interval."""
    return tuple(known for known in REFERENCE_EXPONENTS if lower <= known.error <= upper)
