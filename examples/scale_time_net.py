"""The networks of the scale-time study, and training them on the mean squared error, in numpy."""

from __future__ import annotations

import numpy as np
from torch import nn

from descent import AdamW, Array, Descent, one_vector


def network(inputs: int, width: int, outputs: int) -> nn.Sequential:
    """Two hidden layers of tanh units, as torch draws them."""
    return nn.Sequential(
        *(nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, outputs))
    )


class Trainer:
    """Trains a network of two hidden layers on batches, with its gradients written out.

    The networks are so small that calling torch takes several times as long as the arithmetic.

    Args:
        model: What `network` makes; its parameters are changed in place.
        adam: Whether the steps are those of Adam; else of plain gradient descent.
    """

    def __init__(self, model: nn.Sequential, *, adam: bool = False) -> None:
        values, parts = one_vector(model)
        slopes = np.empty_like(values)
        self.steps = AdamW(values, slopes, decay=0.0) if adam else Descent(values, slopes)
        shapes = [tuple(parameter.shape) for parameter in model.parameters()]
        self.w1, self.b1, self.w2, self.b2, self.w3, self.b3 = (
            values[part].reshape(shape) for part, shape in zip(parts.values(), shapes, strict=True)
        )
        self.slopes = tuple(
            slopes[part].reshape(shape) for part, shape in zip(parts.values(), shapes, strict=True)
        )

    def learn(self, x: Array, targets: Array, rate: float) -> None:
        """One step on a batch of inputs, shape (n, inputs), and targets, shape (n, outputs)."""
        h1 = np.tanh(x @ self.w1.T + self.b1)
        h2 = np.tanh(h1 @ self.w2.T + self.b2)
        d3 = (h2 @ self.w3.T + self.b3 - targets) * np.float32(2 / targets.size)
        d2 = (d3 @ self.w3) * (1 - h2 * h2)
        d1 = (d2 @ self.w2) * (1 - h1 * h1)
        w1, b1, w2, b2, w3, b3 = self.slopes
        for seen, off, weights, biases in ((x, d1, w1, b1), (h1, d2, w2, b2), (h2, d3, w3, b3)):
            np.matmul(off.T, seen, out=weights)
            off.sum(axis=0, out=biases)
        self.steps.step(rate)
