"""Arithmetic that stays within floats: saturating powers, and logarithms of sums."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SATURATION = 300.0
"""A power is held between exp(-300) and exp(300), so that squares and products of two stay floats."""


def power(x: Array, exponent: Array) -> Array:
    """`x ** -exponent` for every exponent, shape (m, n); too large or small values saturate."""
    return saturated_exp(-exponent[:, None] * np.log(x))


def saturated_exp(logs: Array) -> Array:
    """`exp(logs)`, held between exp(-300) and exp(300)."""
    return np.asarray(np.exp(np.clip(logs, -SATURATION, SATURATION)))


def softplus(q: Array) -> Array:
    """`ln(1 + exp(q))`, which is positive, at any q; never below exp(-300)."""
    return np.asarray(np.maximum(q, 0.0) + np.log1p(np.exp(-np.minimum(np.abs(q), SATURATION))))


def sigmoid(q: Array) -> Array:
    """`1 / (1 + exp(-q))`, the derivative of `softplus`."""
    return np.asarray(saturated_exp(-softplus(-q)))


def log_sum(first: Array, second: Array) -> Array:
    """`ln(exp(first) + exp(second))`."""
    return np.asarray(second + softplus(first - second))


def safe_log(values: Array) -> Array:
    """The natural logarithm, with zero taken as the smallest number a float can hold well."""
    return np.asarray(np.log(np.maximum(values, 1e-300)))


def ratio(values: Array, unit: Array | float, *, largest: float = 1e300) -> Array:
    """`values / unit`, held between 1 / largest and largest, so that no later power leaves the floats."""
    limit = np.log(largest)
    return np.asarray(np.exp(np.clip(np.log(values) - np.log(unit), -limit, limit)))


def within_decade(x: Array) -> bool:
    """Whether the largest of x is less than ten times the smallest."""
    return bool(np.log(x.max()) - np.log(x.min()) < np.log(10.0) - 1e-9)


def effective_count(weights: Array) -> float:
    """As how many equal ones some weights count (Kish 1965)."""
    return float(weights.sum() ** 2 / (weights**2).sum())
