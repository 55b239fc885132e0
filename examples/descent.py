"""Steps of gradient descent and AdamW in numpy, for networks so small that torch is slower."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

Array = NDArray[np.float32]


class Descent:
    """Plain gradient descent on a vector of values, by the vector of their slopes."""

    def __init__(self, values: Array, slopes: Array) -> None:
        self.values, self.slopes = values, slopes

    def step(self, rate: float) -> None:
        """Moves the values; the slopes are used up."""
        self.slopes *= np.float32(rate)
        self.values -= self.slopes


class AdamW(Descent):
    """AdamW with the usual constants, in few calls: Loshchilov and Hutter 2019, as torch has it.

    Without decay it is Adam. Both averages are kept without their factors 1 - beta, which enter at the end.
    """

    BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8

    def __init__(self, values: Array, slopes: Array, *, decay: float = 0.01) -> None:
        super().__init__(values, slopes)
        self.decay = decay
        self.mean, self.square = np.zeros_like(values), np.zeros_like(values)
        self.scratch = np.empty_like(values)
        self.done = 0

    def step(self, rate: float) -> None:
        """Moves the values; the slopes are used up."""
        self.done += 1
        mean = (1 - self.BETA1) / (1 - self.BETA1**self.done)
        square = (1 - self.BETA2) / (1 - self.BETA2**self.done)
        self.mean *= np.float32(self.BETA1)
        self.mean += self.slopes
        self.slopes *= self.slopes
        self.square *= np.float32(self.BETA2)
        self.square += self.slopes
        np.sqrt(self.square, out=self.scratch)
        self.scratch += np.float32(self.EPSILON / square**0.5)
        np.divide(self.mean, self.scratch, out=self.scratch)
        self.scratch *= np.float32(rate * mean / square**0.5)
        self.values *= np.float32(1 - rate * self.decay)
        self.values -= self.scratch


def one_vector(network: nn.Module) -> tuple[Array, dict[str, slice]]:
    """All parameters as one vector, which the network then uses, and where each of them is in it."""
    parameters = dict(network.named_parameters())
    values = np.concatenate([parameter.detach().numpy().ravel() for parameter in parameters.values()])
    parts, end = dict[str, slice](), 0
    for name, parameter in parameters.items():
        begin, end = end, end + parameter.numel()
        parts[name] = slice(begin, end)
        parameter.data = torch.from_numpy(values[begin:end]).view(parameter.shape)
    return values, parts
