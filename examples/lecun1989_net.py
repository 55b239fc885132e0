"""The network of LeCun et al. 1989 for handwritten digits.

LeCun et al. 1989, "Backpropagation applied to handwritten zip code recognition", Neural Computation 1(4), as
Karpathy 2022 reproduced it ("Deep neural nets: 33 years ago and 33 years from now").
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

BORDER = 2
OUTSIDE = -1.0
"""Beyond its edge a plane is white."""


class LeNet1989(nn.Module):
    """16x16 pixels, two layers of planes with a bias for each unit, 30 hidden units and 10 outputs.

    Each of the 12 planes of the second layer sees 8 of the 12 of the first. The outputs are before any
    activation: 1989 they went through tanh.

    Args:
        relu: Whether the hidden units are rectified; else they are tanh.
        wide: Planes and hidden units are so many times as many; a multiple of a quarter.
    """

    def __init__(self, *, relu: bool = False, wide: float = 1) -> None:
        super().__init__()
        planes, hidden = round(12 * wide), round(30 * wide)
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
        self.sources = torch.cat([thirds[list(pair)].flatten() for pair in ((0, 1), (1, 2), (2, 0))])
        self.activate = torch.relu if relu else torch.tanh

    def forward(self, pixels: Tensor, kept: Tensor | float = 1.0) -> Tensor:
        """Outputs for pixels of shape (n, 1, 16, 16) from -1 to 1; shape (n, 10).

        The inputs of the hidden layer are multiplied with `kept`, 0 where one is dropped.
        """
        x = functional.conv2d(_bordered(pixels), self.h1, stride=2)
        x = self.activate(x + self.bias1)
        x = functional.conv2d(_bordered(x)[:, self.sources], self.h2, stride=2, groups=3)
        x = self.activate(x + self.bias2).flatten(1) * kept
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
