"""Packages that others publish, where they are installed."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from peers.answer import LEVELS, Answer

FOOTNOTE = (
    "Not in the tables: `chinchilla` and `vpnls` fit the joint law of model size and data only, "
    "so they have no answer on a single curve."
)
DRAWS = 200
COLUMN = "dataset_size__n_examples"


def add_path(folder: Path | None) -> None:
    """Lets packages be imported from a folder outside the environment (`pip install --target FOLDER`)."""
    if folder is None:
        return
    if not folder.is_dir():
        raise SystemExit(f"Expected --peers-path to be a folder of installed packages, got {folder}.")
    sys.path.append(str(folder))


def missing(name: str) -> str | None:
    """The package that a method needs and that is not installed."""
    for package in ("simple_scaling_laws", "polars"):
        if name.startswith("simple-scaling-laws") and find_spec(package) is None:
            return package.replace("_", "-")
    return None


def simple_scaling_laws(law: str) -> Callable[[np.ndarray, np.ndarray, np.ndarray], Answer]:
    """`simple-scaling-laws` with one of its laws: 200 draws; quantiles of a new run, noise included.

    It is made for repeated runs; each point is told to it as a run of its own.
    """

    def method(x: np.ndarray, y: np.ndarray, at: np.ndarray) -> Answer:
        import polars
        from simple_scaling_laws import fit

        runs = [f"run {i}" for i in range(x.size)]
        table = polars.DataFrame({"training_run_id": runs, COLUMN: x, "test_loss__error": y})
        tails = [(1 - level) / 2 for level in LEVELS]
        quantiles = sorted([*tails, 0.5, *(1 - tail for tail in tails)])
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            model = fit(table, law=law, n_draws=DRAWS, seed=0)
            said = model.predict({COLUMN: at.tolist()}, kind="new-run", quantiles=quantiles)
        told = [said[name].to_numpy() for name in said.columns if name.startswith("test_loss__error__")]
        if len(told) != len(quantiles):
            raise RuntimeError(f"Expected {len(quantiles)} quantiles, got columns {said.columns}.")
        rows = np.sort(np.array(told), axis=0)
        found = {}
        for level, tail in zip(LEVELS, tails, strict=True):
            i = quantiles.index(tail)
            found[level] = (rows[i], rows[len(quantiles) - 1 - i])
        return rows[quantiles.index(0.5)], found

    return method
