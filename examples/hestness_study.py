"""Hestness's study on handwritten digits: how the error and the best model's size go with training data.

    python examples/hestness_study.py [--workers 2] [--data zip_digits.npz] [--picture laws.png]

Small networks of six sizes are trained on nested shards of the training set, each from three seeds, with
ordinary Lightning runs and `ScalingLawMonitor`. Their records give two laws with intervals, and what half the
error would need. Interrupted, it goes on where it was when it is run again.

Needs scikit-learn for its digits, or a file with the 16x16 zip-code digits (`x_train`, `y_train`, `x_test`,
`y_test` as numpy arrays); matplotlib for the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from foretrain.hestness import HestnessStudy, alike, analyze_study
from foretrain.hestness.law import Estimate
from foretrain.hestness.target import project_target
from foretrain.lightning import NestedShards, ScalingLawMonitor
from foretrain.study import StudyOutcome, grid, run_study
from foretrain.study.points import Point
from study_command import be_quiet, run_command

STUDY = "digits"
WIDTHS = (6, 18, 54, 162, 486, 1458)
SHARDS = 5
SEEDS = (0, 1, 2)
STEPS, VALIDATE_EVERY, BATCH = 600, 20, 32
HELD_OUT = 360


class Digits:
    """Digits as vectors from -1 to 1, and what to validate on: examples to hold out, or a set of its own."""

    def __init__(self, path: str | None) -> None:
        if path is None:
            from sklearn.datasets import load_digits

            images, labels = load_digits(return_X_y=True)
            self.train, self.labels = _dataset(images / 8 - 1, labels), labels
            self.validation: Any = HELD_OUT
        else:
            with np.load(path) as arrays:
                rows = {name: arrays[name] for name in ("x_train", "y_train", "x_test", "y_test")}
            self.train = _dataset(rows["x_train"] / 127.5 - 1, rows["y_train"])
            self.labels = rows["y_train"]
            self.validation = _dataset(rows["x_test"] / 127.5 - 1, rows["y_test"])

    def shard(self, size: int) -> NestedShards:
        """The data module of one shard."""
        return NestedShards(
            self.train, size, validation=self.validation, labels=self.labels, batch_size=BATCH
        )


def _dataset(images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> TensorDataset:
    pixels = torch.tensor(images, dtype=torch.float32).flatten(1)
    return TensorDataset(pixels, torch.tensor(labels.astype(np.int64)))


@lru_cache(maxsize=1)
def read_digits(path: str | None) -> Digits:
    """The digits, read once in each process."""
    return Digits(path)


class Network(LightningModule):
    """One hidden layer; its width is the size of the model."""

    def __init__(self, pixels: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(pixels, width), nn.ReLU(), nn.Linear(width, 10))

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        return nn.functional.cross_entropy(self.layers(batch[0]), batch[1])

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        scores = self.layers(batch[0])
        self.log("val_loss", nn.functional.cross_entropy(scores, batch[1]), batch_size=len(batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-2)


def train(config: dict[str, Any]) -> None:
    """Trains one point of the study; its results are in the store."""
    be_quiet()
    torch.set_num_threads(1)  # two runs side by side on two cores; and the same sums on every machine
    digits = read_digits(config.get("path"))
    seed_everything(config["seed"], verbose=False)
    data = digits.shard(config["data"])
    monitor = ScalingLawMonitor(
        "val_loss", root=config["root"], study=config["study"], run=config["run"], fit=False
    )
    trainer = Trainer(
        accelerator="cpu",
        max_steps=config["steps"],
        val_check_interval=VALIDATE_EVERY,
        check_val_every_n_epoch=None,
        callbacks=[monitor],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(Network(digits.train.tensors[0].shape[1], config["size"]), data)


def make_points(path: str | None, *, small: bool = False) -> list[Point]:
    """The points of the study."""
    sizes = read_digits(path).shard(1).sizes[-SHARDS:]
    options = {"steps": 60 if small else STEPS, **({} if path is None else {"path": path})}
    if small:
        return grid(size=WIDTHS[:3], data=sizes[:4], seed=(0,), **options)
    return grid(size=WIDTHS, data=sizes, seed=SEEDS, **options)


def run(
    root: str | Path, executor: Any = None, *, path: str | None = None, small: bool = False
) -> tuple[StudyOutcome, HestnessStudy]:
    """Trains what is not trained yet, and says what all runs tell together."""
    points = make_points(path, small=small)
    outcome = run_study(train, points, executor, root=root, study=STUDY)
    names = {point.run for point in points}
    runs = {name: record for name, record in outcome.read().runs.items() if name in names}
    return outcome, analyze_study(runs, "val_loss", guess=float(np.log(10)))


def show(study: HestnessStudy, console: Console) -> None:
    """The two laws, what they are compared with, and what half the error needs."""
    table = Table(title="Best model of each shard")
    for column in ("training examples", "validation loss", "parameters", ""):
        table.add_column(column, justify="right")
    for best in study.best:
        table.add_row(f"{best.data:,.0f}", f"{best.error:.4f}", f"{best.params:,.0f}", best.bound)
    console.print(table)
    if study.law is not None:
        law, told = study.law, study.law.parameter("alpha")
        console.print(
            f"Error: {law.coefficient:.3g} m^-{law.exponent:.3f}, off by {law.misfit:.1%}; with a floor "
            f"allowed the exponent is {_said(told, '.2f')} and the floor {_said(law.parameter('E'), '.3f')}."
        )
        known = alike(told.lower, told.upper)
        console.print("Published exponents in that interval: " + (_names(known) or "none") + ".")
        _show_target(study, float(law.error.min()) / 2, console)
    if study.growth is not None:
        growth = study.growth
        console.print(
            f"Best size: {growth.growth.coefficient:.3g} m^p parameters, p = {_said(growth.exponent, '.2f')}."
        )
    for sentence in study.doubts:
        console.print(f"Cannot tell: {sentence}")
    for run in study.next_runs:
        console.print(f"Run next: {run.params:,.0f} parameters on {run.data:,.0f} examples; {run.why}.")


def _show_target(study: HestnessStudy, error: float, console: Console) -> None:
    target = project_target(study, error)
    console.print(
        f"Half the error, {error:.4f}, needs {_said(target.data_scale, '.1f')} times the training set."
    )
    if target.seconds is not None:
        console.print(f"Training that model takes {_said(target.seconds, '.0f')} s on this machine.")
    for sentence in target.doubts:
        console.print(f"Cannot tell: {sentence}")


def _said(told: Estimate, form: str) -> str:
    return f"{told.median:{form}} ({told.lower:{form}} to {told.upper:{form}})"


def _names(known: Sequence[Any]) -> str:
    return ", ".join(f"{one.domain} ({one.metric}, {one.error})" for one in known)


def draw(study: HestnessStudy, rows: Sequence[tuple[float, float, float]], path: Path) -> None:
    """Both laws as a picture: all runs, the best model of each shard, and 90 % bands.

    Args:
        study: What the runs say.
        rows: Of every run: examples, parameters, error.
        path: Where the picture goes.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    data, params, error = np.array(rows).T
    best = study.best
    marks = left.scatter(data, error, c=params, s=9, alpha=0.5, norm="log", cmap="viridis")
    figure.colorbar(marks, ax=left, label="parameters")
    left.plot(
        [b.data for b in best], [b.error for b in best], "ko", ms=6, mfc="none", label="best of each shard"
    )
    ahead = np.geomspace(data.min(), 8 * data.max(), 60)
    if study.law is not None:
        told = [study.law.predict(float(m)) for m in ahead]
        left.fill_between(ahead, [t.lower for t in told], [t.upper for t in told], alpha=0.2, lw=0)
        left.plot(ahead, [t.median for t in told], label=f"exponent {study.law.exponent:.2f}")
    left.set(xscale="log", yscale="log", xlabel="training examples", ylabel="validation loss (nats)")
    left.legend()
    inside, edge = [b for b in best if not b.bound], [b for b in best if b.bound]
    for group, style in ((inside, {"fmt": "ko"}), (edge, {"fmt": "k^", "mfc": "none"})):
        if group:
            factor = np.exp([1.645 * b.log_params_std for b in group])
            sizes = np.array([b.params for b in group])
            spread = np.stack([sizes - sizes / factor, sizes * factor - sizes])
            label = "best size" if group is inside else "at an end of the sizes tried"
            right.errorbar(
                [b.data for b in group], [b.params for b in group], spread, capsize=2, label=label, **style
            )
    if study.growth is not None:
        drawn = np.array(
            [np.quantile(study.growth.draws(np.full(2000, m)), [0.05, 0.5, 0.95]) for m in ahead]
        ).T
        right.fill_between(ahead, drawn[0], drawn[2], alpha=0.2, lw=0)
        right.plot(ahead, drawn[1], label=f"exponent {study.growth.exponent.median:.2f}")
        right.set_ylim(params.min() / 2, params.max() * 8)
    right.set(xscale="log", yscale="log", xlabel="training examples", ylabel="parameters of the best model")
    right.legend()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _rows(outcome: Any) -> list[tuple[float, float, float]]:
    """Examples, parameters and least error of every finished run."""
    return [
        (
            float(last.counts.unique_samples or 0),
            float(last.counts.params or 0),
            min(o.value for o in run.observations),
        )
        for run in outcome.read().runs.values()
        if run.state == "finished" and (last := run.observations[-1])
    ]


def _run_for_picture(root: Path, executor: Any, **options: Any) -> tuple[Any, tuple[Any, Any]]:
    outcome, study = run(root, executor, **options)
    return outcome, (study, _rows(outcome))


if __name__ == "__main__":
    run_command(
        __doc__,
        "hestness_runs",
        _run_for_picture,
        lambda told, console: show(told[0], console),
        lambda told, path: draw(*told, path),
        data="the zip-code digits as an .npz file; by default scikit-learn's digits",
    )
