"""The joint law of Rosenfeld et al. 2020 on handwritten digits: error by model size and data together.

    python examples/rosenfeld_study.py [--workers 2] [--data zip_digits.npz] [--picture rosenfeld.png]

Networks of one hidden layer, at shares of the full width and of the full training set in powers of two. Each
of eight seeds splits all digits anew into those to train on and those to count errors with, so that the mean
of the seeds has neither the luck of a shard nor that of a test set. The law
`e0 t / sqrt(t^2 + eta^2), t = D^-alpha + b N^-beta + c` is judged as in the paper: by 10-fold
cross-validation, and by extrapolation from a quarter of each axis. Interrupted, it goes on where it was when
it is run again.

Needs scikit-learn for its digits, or a file with the 16x16 zip-code digits (`x_train`, `y_train`, `x_test`,
`y_test` as numpy arrays); matplotlib for the picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from foretrain.axes import Counts
from foretrain.cross_validation import Deviations, cross_validate, extrapolate
from foretrain.fitting import Fit, fit
from foretrain.observation import Observation
from foretrain.shards import nested_shards
from foretrain.study import StudyOutcome, grid, run_study
from foretrain.study.points import Point
from study_command import run_command

STUDY = "rosenfeld"
WIDTH, HALVINGS = 512, 6
DATA_HALVINGS = 5
SEEDS = tuple(range(8))
STEPS, BATCH, RATE = 3000, 32, 3e-3
SHARE_HELD_OUT = 0.5
"""Digits are told apart with few errors: half of them are for counting these."""


@lru_cache(maxsize=1)
def read_digits(path: str | None) -> tuple[Tensor, Tensor]:
    """Pixels from -1 to 1, shape (n, pixels), and labels, of all digits there are."""
    if path is None:
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        images = images / 8 - 1
    else:
        with np.load(path) as arrays:
            images = np.concatenate([arrays["x_train"], arrays["x_test"]]) / 127.5 - 1
            labels = np.concatenate([arrays["y_train"], arrays["y_test"]])
    return torch.tensor(images, dtype=torch.float32).flatten(1), torch.tensor(labels.astype(np.int64))


@lru_cache(maxsize=len(SEEDS))
def split_digits(path: str | None, seed: int) -> tuple[Tensor, Tensor]:
    """Which digits a seed trains on, a power of two of them, and which it counts errors with.

    The beginnings of the first are nested shards.
    """
    labels = read_digits(path)[1].numpy()
    split = nested_shards(len(labels), labels=labels, validation=SHARE_HELD_OUT, seed=seed)
    whole = 2 ** (len(split.order).bit_length() - 1)  # its halves are whole numbers
    return torch.tensor(split.order[:whole]), torch.tensor(split.validation)


def train(config: dict[str, Any]) -> Observation:
    """Trains one network; `run_study` records what it returns."""
    torch.set_num_threads(1)
    pixels, labels = read_digits(config["path"])
    shard, held_out = split_digits(config["path"], config["seed"])
    x, y = (of[shard[: config["data"]]] for of in (pixels, labels))
    torch.manual_seed(config["seed"])
    model = nn.Sequential(nn.Linear(x.shape[1], config["size"]), nn.ReLU(), nn.Linear(config["size"], 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)
    for step in range(config["steps"]):
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / config["steps"])
        batch = torch.randint(len(y), (BATCH,))
        loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        error = float((model(pixels[held_out]).argmax(1) != labels[held_out]).float().mean())
    counts = Counts(
        samples=config["steps"] * BATCH,
        steps=config["steps"],
        epochs=config["steps"] * BATCH / len(y),
        unique_samples=len(y),
        params=sum(p.numel() for p in model.parameters()),
    )
    return Observation(config["run"], "test_error", error, counts)


def make_points(path: str | None, *, small: bool = False) -> list[Point]:
    """The points of the study."""
    whole = len(split_digits(path, SEEDS[0])[0])
    widths = [WIDTH >> i for i in range(HALVINGS + 1)]
    data = [whole >> i for i in range(DATA_HALVINGS + 1)]
    if small:
        return grid(size=widths[::2], data=data[:3], seed=SEEDS[:1], steps=60, path=path)
    return grid(size=widths, data=data, seed=SEEDS, steps=STEPS, path=path)


@dataclass(frozen=True)
class JointLaw:
    """What the runs say.

    Attributes:
        shares: Share of the full parameters and of the full data, shape (2, n).
        error: Mean error over the seeds, shape (n,).
        seeds: Seeds at each place.
        luck: Standard deviation between seeds, relative, over all places.
        law: The law through all points.
        folds: How far it is off in cross-validation.
        ahead: How far the law of a quarter of each axis is off the rest.
        faultless: How many places are left out, since no run there made an error.
    """

    shares: np.ndarray[Any, Any]
    error: np.ndarray[Any, Any]
    seeds: int
    luck: float
    law: Fit
    folds: Deviations
    ahead: Deviations | None
    faultless: int


def run(
    root: str | Path, executor: Any = None, *, path: str | None = None, small: bool = False
) -> tuple[StudyOutcome, JointLaw]:
    """Trains what is not trained yet, and says what the law makes of it."""
    points = make_points(path, small=small)
    outcome = run_study(train, points, executor, root=root, study=STUDY)
    records, cells = outcome.read().runs, dict[tuple[int, int], list[float]]()
    for point in points:
        if point.run in records and records[point.run].state == "finished":
            last = records[point.run].observations[-1]
            place = (int(last.counts.params or 0), int(last.counts.unique_samples or 0))
            cells.setdefault(place, []).append(last.value)
    faultless = [place for place, seeds in cells.items() if not any(seeds)]
    for place in faultless:  # no error is no number of which a law could be off by a share
        del cells[place]
    shares = np.array(list(cells), dtype=float).T
    shares /= shares.max(axis=1, keepdims=True)
    error = np.array([np.mean(seeds) for seeds in cells.values()])
    spread = [np.var(seeds, ddof=1) / np.mean(seeds) ** 2 for seeds in cells.values() if len(seeds) > 1]
    labels = read_digits(path)[1]
    known = {"e0": 1 - float(torch.bincount(labels).max()) / len(labels)}
    corner = (shares <= 0.26).all(axis=0)  # parameters grow a little slower than the width
    return outcome, JointLaw(
        shares=shares,
        error=error,
        seeds=min(len(seeds) for seeds in cells.values()),
        luck=float(np.sqrt(np.mean(spread))) if spread else float("nan"),
        law=fit("rosenfeld", shares, error, fixed=known),
        folds=cross_validate("rosenfeld", shares, error, folds=2 if small else 10, fixed=known),
        ahead=extrapolate("rosenfeld", shares, error, corner, fixed=known) if corner.sum() > 5 else None,
        faultless=len(faultless),
    )


def show(told: JointLaw, console: Console) -> None:
    """The law, and how far it is off what it has not seen."""
    table = Table(title="Relative deviation, predicted over measured less one")
    for column in ("", "points", "mean", "standard deviation"):
        table.add_column(column, justify="right")
    rows = [("10-fold cross-validation", told.folds)]
    rows += [] if told.ahead is None else [("from a quarter of each axis", told.ahead)]
    for name, off in rows:
        table.add_row(name, str(off.relative.size), f"{off.mean:+.1%}", f"{off.std:.1%}")
    console.print(table)
    law = ", ".join(f"{name} = {value:.3g}" for name, value in told.law.parameters.items())
    console.print(f"Law of all {told.error.size} points, for shares of the full model and data: {law}.")
    if told.faultless:
        console.print(f"{told.faultless} places are left out: no run made an error there.")
    if told.seeds > 1:
        console.print(
            f"Seeds differ by {told.luck:.1%} of the error; the mean of {told.seeds} that is fitted is off "
            f"by {told.luck / told.seeds**0.5:.1%}."
        )


def draw(told: JointLaw, path: Path) -> None:
    """The errors with the law's curves, and predictions against what was measured."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    params, data = told.shares
    along = np.geomspace(data.min(), 1, 40)
    sizes = np.unique(params)
    for size, colour in zip(sizes, pyplot.get_cmap("viridis")(np.linspace(0, 1, sizes.size)), strict=True):
        own = params == size
        left.plot(data[own], told.error[own], "o", ms=4, color=colour)
        curve = told.law.predict(np.stack([np.full_like(along, size), along]))
        left.plot(along, curve, color=colour, lw=1, label=f"{size:.3f}")
    left.set(xscale="log", yscale="log", xlabel="share of the training set", ylabel="test error")
    left.legend(title="share of parameters", fontsize=7)
    right.plot(told.error, told.folds.predicted, ".", label="10-fold cross-validation")
    if told.ahead is not None:
        measured = told.error[told.ahead.judged]
        right.plot(measured, told.ahead.predicted, "x", ms=5, label="from a quarter of each axis")
    ends = [told.error.min(), told.error.max()]
    right.plot(ends, ends, color="grey", lw=0.8)
    right.set(xscale="log", yscale="log", xlabel="measured error", ylabel="predicted error")
    right.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


if __name__ == "__main__":
    data = "the zip-code digits as an .npz file; by default scikit-learn's"
    run_command(__doc__, "rosenfeld_runs", run, show, draw, data=data)
