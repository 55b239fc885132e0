"""Digits that no network tells without errors, for the small versions of studies."""

import numpy as np


def write_noisy_digits(folder, count, train, noise):
    """A file as the studies take it, of which the first `train` digits are to train on; its path."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 10
    images = rng.integers(0, 256, (10, 16, 16))[labels] + rng.normal(0, noise, (count, 16, 16))
    images = np.clip(images, 0, 255).astype(np.uint8)
    path = str(folder / "digits.npz")
    parts = {"x_train": images[:train], "x_test": images[train:]}
    np.savez(path, y_train=labels[:train], y_test=labels[train:], **parts)
    return path
