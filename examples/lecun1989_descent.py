"""Training the network of LeCun et al. 1989 on one example after the other, in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from descent import AdamW, Array, Descent, one_vector
from lecun1989_net import BORDER, OUTSIDE, LeNet1989


class SingleExamples:
    """Training on one example after the other, as in 1989.

    The network is so small that calling torch takes ten times as long as the arithmetic; so this is
    the same network in numpy, with its gradients written out. It trains the parameters of the given network.

    Args:
        network: The network; its parameters are changed in place.
        softmax: Whether the loss is the cross entropy of a softmax; else the mean squared error of tanh
            outputs to targets of 1 and -1.
        adamw: Whether the steps are those of AdamW; else of plain gradient descent.
    """

    def __init__(self, network: LeNet1989, *, softmax: bool = False, adamw: bool = False) -> None:
        self.softmax = softmax
        self.relu = network.activate is torch.relu
        values, views = one_vector(network)
        slopes = np.empty_like(values)
        self.steps = AdamW(values, slopes) if adamw else Descent(values, slopes)
        planes = network.h1.shape[0]
        shapes = {
            **{"h1": (planes, 25), "bias1": (planes, 64), "h2": (3, planes // 3, -1)},
            "bias2": (3, planes // 3, 16),
        }
        places = {name: slopes[part] for name, part in views.items()}
        own = dict(network.named_parameters())
        told = {}
        for name, part in views.items():
            shape = shapes.get(name, tuple(own[name].shape))
            told[name], places[name] = values[part].reshape(shape), places[name].reshape(shape)
        self.w1, self.b1, self.w2, self.b2 = (told[name] for name in ("h1", "bias1", "h2", "bias2"))
        self.w3, self.b3, self.w4, self.b4 = (told[name] for name in ("h3", "bias3", "out", "bias_out"))
        self.slopes = places
        self.pixels = _patches(1, 16)
        # The groups see thirds 0 and 1, 1 and 2, 2 and 0 of the planes: with the first third once more at the
        # end, each sees neighbours, so their patches are cut out once and lie in one another's memory.
        every = _patches(planes, 8).reshape(3, -1)
        self.patches = np.concatenate([every, every[:1]])
        self.places = every.ravel()
        self.columns = np.empty(self.patches.shape, dtype=np.float32)
        rows = 25 * 2 * planes // 3
        third, item = self.columns.strides
        self.seen = np.lib.stride_tricks.as_strided(self.columns, (3, rows, 16), (third, 16 * item, item))
        self.sent = np.empty(every.shape)
        self.image = np.full((20, 20), OUTSIDE, dtype=np.float32)
        self.planes = np.full((planes, 12, 12), OUTSIDE, dtype=np.float32)

    def learn(self, image: Array, label: int, rate: float, kept: Array | None = None) -> None:
        """One step on one image of shape (16, 16).

        Args:
            image: The pixels, from -1 to 1.
            label: The digit.
            rate: The learning rate.
            kept: What the inputs of the hidden layer are multiplied with, shape (units of the second layer,):
                0 where one is dropped. None drops nothing.
        """
        self.image[2:18, 2:18] = image
        columns1 = self.image.ravel().take(self.pixels, mode="clip")
        h1 = self._activate(self.w1 @ columns1 + self.b1)
        self.planes[:, 2:10, 2:10] = h1.reshape(-1, 8, 8)
        self.planes.ravel().take(self.patches, mode="clip", out=self.columns)
        h2 = self._activate(self.w2 @ self.seen + self.b2)
        flat = h2.ravel() if kept is None else h2.ravel() * kept
        h3 = self._activate(self.w3 @ flat + self.b3)
        slopes = self.slopes
        d4, d3, d2, d1 = (slopes[name] for name in ("bias_out", "bias3", "bias2", "bias1"))
        d4[...] = self._slope_of_loss(self.w4 @ h3 + self.b4, label)
        np.multiply(d4 @ self.w4, self._slope(h3), out=d3)
        back = d3 @ self.w3
        if kept is not None:
            back *= kept
        np.multiply(back.reshape(h2.shape), self._slope(h2), out=d2)
        sent = (self.w2.transpose(0, 2, 1) @ d2).reshape(3, 2, -1)
        for third in range(3):
            np.add(sent[third, 0], sent[third - 1, 1], out=self.sent[third])
        found = np.bincount(self.places, self.sent.ravel(), self.planes.size).reshape(self.planes.shape)
        np.multiply(found[:, 2:10, 2:10], self._slope(h1).reshape(-1, 8, 8), out=d1.reshape(-1, 8, 8))
        np.matmul(d1, columns1.T, out=slopes["h1"])
        np.matmul(d2, self.seen.transpose(0, 2, 1), out=slopes["h2"])
        np.multiply(d3[:, None], flat, out=slopes["h3"])
        np.multiply(d4[:, None], h3, out=slopes["out"])
        self.steps.step(rate)

    def _activate(self, z: Array) -> Array:
        return np.maximum(z, 0, out=z) if self.relu else np.tanh(z, out=z)

    def _slope(self, h: Array) -> Array:
        """Of the activation, from what it gave."""
        return np.asarray(h > 0) if self.relu else np.asarray(1 - h * h)

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
