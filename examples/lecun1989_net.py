"""The network of LeCun et al. 1989 for handwritten digits, and training it one example at a time.

LeCun et al. 1989, "Backpropagation applied to handwritten zip code recognition", Neural Computation 1(4), as
Karpathy 2022 reproduced it ("Deep neural nets: 33 years ago and 33 years from now").
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

Array = NDArray[np.float32]
BORDER = 2
OUTSIDE = -1.0
"""Beyond its edge a plane is white."""


class LeNet1989(nn.Module):
    """16x16 pixels, two layers of planes with a bias for each unit, 30 hidden units and 10 outputs.

    Each of the 12 planes of the second layer sees 8 of the 12 of the first. The outputs are before any
    activation: 1989 they went through tanh.

    Args:
        relu: Whether the hidden units are rectified; else they are tanh.
        dropout: Share of the inputs of the hidden layer that are dropped in training.
        wide: Planes and hidden units are so many times as many.
    """

    def __init__(self, *, relu: bool = False, dropout: float = 0.0, wide: int = 1) -> None:
        super().__init__()
        planes, hidden = 12 * wide, 30 * wide
        seen = 2 * planes // 3

        def drawn(*shape: int, fan_in: int) -> nn.Parameter:
            return nn.Parameter((2 * torch.rand(shape) - 1) * 2.4 / fan_in**0.5)

        self.h1 = drawn(planes, 1, 5, 5, fan_in=25)
        self.h2 = drawn(planes, seen, 5, 5, fan_in=25 * seen)
        self.h3 = drawn(hidden, 16 * planes, fan_in=16 * planes)
        self.out = drawn(10, hidden, fan_in=hidden)
        self.bias1 = nn.Parameter(torch.zeros(planes, 8, 8))
        self.bias2 = nn.Parameter(torch.zeros(planes, 4, 4))
        self.bias3 = nn.Parameter(torch.zeros(hidden))
        self.bias_out = nn.Parameter(torch.zeros(10))
        thirds = torch.arange(planes).reshape(3, -1)
        self.sources = torch.cat([thirds[list(pair)].flatten() for pair in ((0, 1), (1, 2), (0, 2))])
        self.activate = torch.relu if relu else torch.tanh
        self.dropout = nn.Dropout(dropout)

    def forward(self, pixels: Tensor) -> Tensor:
        """Outputs for pixels of shape (n, 1, 16, 16) from -1 to 1; shape (n, 10)."""
        x = functional.conv2d(_bordered(pixels), self.h1, stride=2)
        x = self.activate(x + self.bias1)
        x = functional.conv2d(_bordered(x)[:, self.sources], self.h2, stride=2, groups=3)
        x = self.dropout(self.activate(x + self.bias2).flatten(1))
        x = self.activate(functional.linear(x, self.h3, self.bias3))
        return functional.linear(x, self.out, self.bias_out)

    def connections(self) -> int:
        """Connections between units, biases among them; shared weights count once for each use."""
        first = 64 * self.h1.numel() + self.bias1.numel()
        second = 16 * self.h2.numel() + self.bias2.numel()
        last = self.h3.numel() + self.bias3.numel() + self.out.numel() + self.bias_out.numel()
        return first + second + last


def _bordered(x: Tensor) -> Tensor:
    return functional.pad(x, (BORDER,) * 4, value=OUTSIDE)


class SingleExamples:
    """Plain gradient descent on one example after the other, as in 1989, for the network with tanh.

    The network is so small that calling torch takes ten times as long as the arithmetic; so this is
    the same network in numpy, with its gradients written out. It trains the parameters of the given network.

    Args:
        network: A `LeNet1989` of tanh units without dropout; its parameters are changed in place.
        softmax: Whether the loss is the cross entropy of a softmax; else the mean squared error of tanh
            outputs to targets of 1 and -1.
    """

    def __init__(self, network: LeNet1989, *, softmax: bool = False) -> None:
        self.softmax = softmax
        told = {name: parameter.detach().numpy() for name, parameter in network.named_parameters()}
        planes = told["h1"].shape[0]
        self.w1, self.b1 = told["h1"].reshape(planes, 25), told["bias1"].reshape(planes, 64)
        self.w2 = told["h2"].reshape(3, planes // 3, -1)
        self.b2 = told["bias2"].reshape(3, planes // 3, 16)
        self.w3, self.b3, self.w4, self.b4 = told["h3"], told["bias3"], told["out"], told["bias_out"]
        self.parameters = (self.w1, self.b1, self.w2, self.b2, self.w3, self.b3, self.w4, self.b4)
        self.pixels = _patches(1, 16)
        every = _patches(planes, 8).reshape(planes, 25, 16)
        self.patches = every[network.sources.numpy()].reshape(3, -1, 16)
        self.places = self.patches.ravel()
        self.image = np.full((20, 20), OUTSIDE, dtype=np.float32)
        self.planes = np.full((planes, 12, 12), OUTSIDE, dtype=np.float32)

    def learn(self, image: Array, label: int, rate: float) -> None:
        """One step on one image of shape (16, 16)."""
        self.image[2:18, 2:18] = image
        columns1 = self.image.ravel()[self.pixels]
        h1 = np.tanh(self.w1 @ columns1 + self.b1)
        self.planes[:, 2:10, 2:10] = h1.reshape(-1, 8, 8)
        columns2 = self.planes.ravel()[self.patches]
        h2 = np.tanh(self.w2 @ columns2 + self.b2)
        flat = h2.ravel()
        h3 = np.tanh(self.w3 @ flat + self.b3)
        d4 = self._slope_of_loss(self.w4 @ h3 + self.b4, label)
        d3 = (d4 @ self.w4) * (1 - h3 * h3)
        d2 = (d3 @ self.w3).reshape(h2.shape) * (1 - h2 * h2)
        back = np.bincount(self.places, (self.w2.transpose(0, 2, 1) @ d2).ravel(), self.planes.size)
        back = back.reshape(self.planes.shape)[:, 2:10, 2:10].reshape(h1.shape).astype(np.float32)
        d1 = back * (1 - h1 * h1)
        slopes = (
            *(d1 @ columns1.T, d1, d2 @ columns2.transpose(0, 2, 1), d2),
            *(np.outer(d3, flat), d3, np.outer(d4, h3), d4),
        )
        for parameter, slope in zip(self.parameters, slopes, strict=True):
            slope *= rate
            parameter -= slope

    def _slope_of_loss(self, outputs: Array, label: int) -> Array:
        if self.softmax:
            share = np.exp(outputs - outputs.max())
            share /= share.sum()
            share[label] -= 1
            return share
        y = np.tanh(outputs)
        off = y + np.float32(1)
        off[label] -= np.float32(2)
        return np.asarray(off * (1 - y * y) * np.float32(0.2))


def _patches(planes: int, side: int) -> NDArray[np.int64]:
    """Where the 5x5 pixels that each unit sees lie in bordered planes, shape (25 * planes, units)."""
    wide = side + 2 * BORDER
    corner = 2 * np.arange(side // 2)
    units = (corner[:, None] * wide + corner).ravel()
    window = (np.arange(5)[:, None] * wide + np.arange(5)).ravel()
    plane = np.arange(planes) * wide * wide
    found: NDArray[Any] = plane[:, None, None] + window[None, :, None] + units
    return found.reshape(-1, units.size)
