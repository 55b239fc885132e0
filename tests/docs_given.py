"""What a reader of the docs has before the code of a page runs: a model, data, logs of past runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch.utils.data import DataLoader, TensorDataset

from foretrain.axes import Counts
from foretrain.observation import Observation, RunInfo
from foretrain.store import ObservationStore
from test_cli_plan_runs import keep
from test_decisions_study import SIZES, run

MY_PROJECT = """
from docs_given import Data, Model

def make_model(width, seed):
    return Model(width)

def make_data(examples):
    return Data(examples)
"""


class Model(LightningModule):
    """A user's model; it brings its own data."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.ReLU(), torch.nn.Linear(width, 1))

    def _loss(self, batch: Any) -> Any:
        return torch.nn.functional.mse_loss(self.net(batch[0]), batch[1])

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self._loss(batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self._loss(batch))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.05)

    def train_dataloader(self) -> Any:
        return DataLoader(Numbers(80), 4)

    def val_dataloader(self) -> Any:
        return DataLoader(Numbers(80), 80)


class Numbers(TensorDataset):
    """Examples with labels."""

    def __init__(self, count: int) -> None:
        x = torch.randn(count, 4, generator=torch.Generator().manual_seed(count))
        super().__init__(x, x[:, :1] ** 2)
        self.targets = (x[:, 0] > 0).long().tolist()


class Data(LightningDataModule):
    """So many examples, in four batches an epoch."""

    def __init__(self, examples: int) -> None:
        super().__init__()
        self.examples = examples

    def train_dataloader(self) -> Any:
        return DataLoader(Numbers(self.examples), self.examples // 4)

    def val_dataloader(self) -> Any:
        return DataLoader(Numbers(500), 500)


def logged_runs(place: Path) -> None:
    """Runs of three sizes whose monitor kept records beside the folder of their logs."""
    for n in SIZES[:3]:
        name = f"{place.name}/n{n:.0e}"
        keep(place.parent, run(name, n, 2000))
        (place.parent / name).mkdir(parents=True)


def demo_runs(place: Path) -> None:
    """Two runs in a folder that holds their records, too."""
    for n in SIZES[:2]:
        keep(place, run(f"n{n:.0e}", n, 500))


def recipe_runs(place: Path) -> None:
    """Runs of two recipes."""
    for recipe in ("wide", "narrow"):
        keep(place, run(f"{recipe}-1", SIZES[0], 500))


def csv_logs(place: Path) -> None:
    """Logs of Lightning's CSVLogger, of runs without a monitor."""
    folder = place / "lightning_logs" / "version_0"
    folder.mkdir(parents=True)
    rows = "".join(f"{epoch},{50 * epoch + 49},{2 + 3 / (epoch + 1)}\n" for epoch in range(12))
    (folder / "metrics.csv").write_text(f"epoch,step,val_loss\n{rows}")
    (folder / "hparams.yaml").write_text("n_params: 1000\n")


def traded_runs(place: Path) -> None:
    """A study whose error is one curve of `N^(1/3)` times the step, at constant rates."""
    steps = np.unique(np.geomspace(10, 20_000, 40).astype(int))
    for n in (1e2, 4e2, 1.6e3, 6.4e3, 2.56e4):
        store = ObservationStore(place, "scale-time")
        info = store.begin(RunInfo(run=f"n{n:g}", study="scale-time"))
        for step in map(int, steps):
            error = 0.9 / (1 + 0.002 * n ** (1 / 3) * step) ** 0.5
            counts = Counts(samples=32 * step, steps=step, params=int(n))
            store.append(Observation(info.run, "val_loss", error, counts, lr=0.1))
        store.finish("finished")
        store.close()


FOLDERS: dict[str, Callable[[Path], None]] = {
    "lightning_logs": logged_runs,
    "demo_logs": demo_runs,
    "LOG_DIR": recipe_runs,
    "old_logs": csv_logs,
    "logs": csv_logs,
    "scale_time_runs": traded_runs,
}
"""Made in a page's folder where the page speaks of them."""

NAMES: dict[str, Callable[[], Any]] = {
    "model": Model,
    "trainer": lambda: Trainer(max_epochs=1, logger=False),
    "train_set": lambda: Numbers(2048),
    "val_set": lambda: Numbers(64),
}
"""Given where a page uses them and says in words what they are."""
