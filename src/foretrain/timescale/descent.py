"""Test error of a linear model in training: over-fitting, and the peak where samples meet parameters."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from foretrain.inputs import positive
from foretrain.laws.law import Array

NODES = 4096
"""The spectrum is summed at so many places."""


def double_descent_error(
    time: ArrayLike, samples: float, params: float, *, noise: float = 0.1, signal: float = 1.0
) -> Array:
    """Expected test error of a linear model under gradient flow from zero, in the limit of large sizes.

    The teacher is linear, too: `y = w.x + e` with `x` standard normal of as many dimensions as the student
    has parameters, `|w|^2 = signal`, and `e` of variance `noise`. Gradient flow on half the mean square over
    n samples takes each eigenvalue `s` of the samples' covariance down by `exp(-s t)`; the eigenvalues follow
    Marchenko and Pastur's distribution of ratio `g = params / samples`:

    `E(t) = noise + signal <exp(-2 s t)> + noise g <(1 - exp(-s t))^2 / s>`

    With weak noise it falls, with strong noise it falls and rises again; after long training it peaks where
    samples meet parameters, and below as many samples as parameters a part of the signal stays unlearned.
    Scale-time equivalence replaces `t` by `(params / params_0) t`. A surrogate for tests and for pictures:
    networks are not linear, so it projects nothing.

    Args:
        time: Training time, shape (n,), in units of one over the mean eigenvalue. Positive; may be large.
        samples: Training samples. Positive.
        params: Parameters. Positive.
        noise: Variance of the labels' noise, in squared units of the label. Not negative.
        signal: Variance of the noiseless label, likewise.

    Returns:
        The mean squared error on new samples with noisy labels, shape (n,), in squared units of the label.

    Raises:
        ValueError: If time, samples or params is not positive and finite, or a variance is negative.

    References:
        Advani and Saxe 2017, arXiv:1710.03667 (generalization of linear networks at high dimension);
        Boopathy and Fiete 2024, arXiv:2409.05782, build on it, as their abstract and reviews tell.
    """
    t = np.atleast_1d(positive("time", time))
    ratio = float(positive("params", params)) / float(positive("samples", samples))
    if not (noise >= 0 and signal >= 0 and np.isfinite(noise + signal)):
        raise ValueError(
            f"Expected `noise` and `signal` to be variances of 0 or more, got {noise} and {signal}."
        )
    # Dense towards the smallest eigenvalues, which are what is left to learn after a long time.
    share = (np.arange(NODES) + 0.5) / NODES
    angle = np.pi * share**3
    eigenvalue = (1.0 - np.sqrt(ratio)) ** 2 + 4.0 * np.sqrt(ratio) * np.sin(angle / 2) ** 2
    mass = 2.0 * np.sin(angle) ** 2 / eigenvalue * 3.0 * share**2 / NODES
    decay = np.outer(t, eigenvalue)
    kept = np.exp(-np.minimum(decay, 700.0))
    learned = -np.expm1(-np.minimum(decay, 700.0))
    empty = max(0.0, 1.0 - 1.0 / ratio)  # directions that no sample shows
    unlearned = kept**2 @ mass + empty
    return np.asarray(noise + signal * unlearned + noise * ratio * (learned**2 @ (mass / eigenvalue)))
