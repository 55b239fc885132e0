"""Recipes from 1989 to 2022 for the network of LeCun et al. 1989, and training it by one of them.

Karpathy 2022, "Deep neural nets: 33 years ago and 33 years from now": each recipe adds to the one before; all
train on one example at a time, in a fixed order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from foretrain.axes import Counts
from foretrain.observation import Observation
from foretrain.shards import nested_shards
from lecun1989_descent import Array, SingleExamples
from lecun1989_net import OUTSIDE, LeNet1989

LOOKS = 12
DROPPED = 0.25


@dataclass(frozen=True)
class Recipe:
    """How the network is trained.

    Attributes:
        name: What it adds to the one before.
        passes: Passes over the training set.
        rate: Learning rate of the first step.
        last_rate: Of the last step; the rate goes down in a line.
        softmax: Whether the loss is the cross entropy; else the squared error of tanh outputs.
        adamw: Whether the steps are those of AdamW; else of plain gradient descent.
        shift: Whether images are shifted by up to a pixel each way.
        modern: Whether hidden units are rectified, with dropout of a quarter before the hidden layer.
    """

    name: str
    passes: int
    rate: float
    last_rate: float
    softmax: bool = True
    adamw: bool = True
    shift: bool = False
    modern: bool = False


LADDER = {
    recipe.name: recipe
    for recipe in (
        Recipe("1989", 23, 0.03, 0.03, softmax=False, adamw=False),
        Recipe("softmax", 23, 0.01, 0.01, adamw=False),
        Recipe("AdamW", 46, 3e-4, 1e-4),
        Recipe("shifts", 60, 3e-4, 1e-4, shift=True),
        Recipe("dropout, ReLU", 80, 3e-4, 1e-4, shift=True, modern=True),
    )
}
FIRST, LAST = "1989", "dropout, ReLU"


@lru_cache(maxsize=1)
def read_digits(path: str | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images of shape (n, 1, 16, 16) from -1 to 1 and labels, to train on and to test with."""
    if path is not None:
        with np.load(path) as arrays:
            parts = [arrays[name] for name in ("x_train", "y_train", "x_test", "y_test")]
        images = [torch.tensor(part / 127.5 - 1, dtype=torch.float32)[:, None] for part in parts[::2]]
        return images[0], torch.tensor(parts[1]).long(), images[1], torch.tensor(parts[3]).long()
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    small = torch.tensor(pixels.reshape(-1, 1, 8, 8) / 8 - 1, dtype=torch.float32)
    x = functional.interpolate(small, size=(16, 16), mode="bilinear")
    y = torch.tensor(labels).long()
    held = nested_shards(len(y), labels=labels, validation=360)
    return x[held.order], y[held.order], x[held.validation], y[held.validation]


def train(config: dict[str, Any]) -> list[Observation]:
    """Trains one point; `run_study` records what it returns."""
    torch.set_num_threads(1)
    # The averages of a unit at rest fade to numbers so small that each operation on them takes many times as
    # long.
    torch.set_flush_denormal(True)
    try:
        return _train(config)
    finally:
        torch.set_flush_denormal(False)


def _train(config: dict[str, Any]) -> list[Observation]:
    x, y, test_x, test_y = read_digits(config["path"])
    shard = nested_shards(len(y), labels=y.numpy(), seed=config["seed"]).take(config["data"])
    images, labels = x[shard, 0].numpy(), y[shard].tolist()
    recipe = LADDER[config["recipe"]]
    passes = max(1, round(recipe.passes * config["length"]))
    torch.manual_seed(config["seed"])
    network = LeNet1989(relu=recipe.modern, wide=config["size"])
    trainer = SingleExamples(network, softmax=recipe.softmax, adamw=recipe.adamw)
    params = sum(parameter.numel() for parameter in network.parameters())
    rates = np.linspace(recipe.rate, recipe.last_rate, passes * len(labels)).reshape(passes, -1)
    looks = set(np.geomspace(1, passes, LOOKS).round().astype(int).tolist())
    rng, told = np.random.default_rng(config["seed"]), list[Observation]()
    for done in range(1, passes + 1):
        shown = shifted(images, rng) if recipe.shift else images
        kept = _dropout(len(labels), network, rng) if recipe.modern else [None] * len(labels)
        for example in zip(shown, labels, rates[done - 1].tolist(), kept, strict=True):
            trainer.learn(*example)
        if done in looks:
            with torch.no_grad():
                error = float((network(test_x).argmax(1) != test_y).float().mean())
            counts = Counts(
                samples=done * len(labels),
                steps=done * len(labels),
                epochs=float(done),
                params=params,
                unique_samples=len(labels),
                flops=6.0 * network.connections() * done * len(labels),
            )
            rate = float(rates[done - 1, -1])
            told.append(Observation(config["run"], "test_error", error, counts, lr=rate))
    return told


def shifted(images: Array, rng: np.random.Generator) -> Array:
    """Images of shape (n, 16, 16), each moved by -1, 0 or 1 pixels each way; what comes in is white."""
    wide = np.pad(images, ((0, 0), (1, 1), (1, 1)), constant_values=OUTSIDE)
    windows = np.lib.stride_tricks.sliding_window_view(wide, (16, 16), axis=(1, 2))
    across, down = rng.integers(0, 3, (2, len(images)))
    return np.asarray(windows[np.arange(len(images)), down, across])


def _dropout(n: int, network: LeNet1989, rng: np.random.Generator) -> Array:
    """What the inputs of the hidden layer are multiplied with, for each of n examples."""
    kept = rng.random((n, network.h3.shape[1]), dtype=np.float32) >= DROPPED
    return kept.astype(np.float32) / np.float32(1 - DROPPED)
