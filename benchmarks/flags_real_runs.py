"""Real trainings of the demo's model: healthy ones, ones with a fault from some step on, and a study.

    python benchmarks/flags_real_runs.py --records FOLDER [--only faults healthy study]

Each is an ordinary Lightning run with `ScalingLawMonitor`, which records it; runs that are there already are
not trained again. What each fault does stands at its function.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from torch import Tensor
from torch.utils.data import DataLoader

from foretrain.lightning import ScalingLawMonitor

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
from stdlib_lm import ByteLM, SourceText

STEPS, EVERY, WARMUP = 1200, 12, 60
WIDTH = 24
SCHEDULES = ("constant", "cosine", "wsd")
STUDY_WIDTHS, LARGEST = (16, 24, 32, 40), 48
QUARTER = 300
SEEDS = 10


def planned(schedule: str) -> np.ndarray:
    """The rate of every step as a share of the largest, shape (STEPS,)."""
    at = np.arange(1, STEPS + 1)
    done = at / STEPS
    shape = {
        "constant": np.ones(STEPS),
        "cosine": 0.55 + 0.45 * np.cos(np.pi * done),
        "wsd": np.clip((1.0 - done) / 0.2, 0.02, 1.0),
    }[schedule]
    return shape * np.minimum(1.0, at / WARMUP)


@dataclass(frozen=True)
class Training:
    """One run to train.

    Attributes:
        name: Of its records.
        seed: Of weights, data order and the fault.
        schedule: One of `SCHEDULES`.
        fault: One of `FAULTS`, or None.
        width: Of the model.
        factor: Its learning rate over the good one.
        steps: After so many it is stopped, of the planned `STEPS`.
    """

    name: str
    seed: int
    schedule: str = "constant"
    fault: str | None = None
    width: int = WIDTH
    factor: float = 1.0
    steps: int = STEPS

    @property
    def onset(self) -> int:
        """Last step without the fault, between .3 and .8 of the run, at a validation; `STEPS` without one."""
        if self.fault is None:
            return STEPS
        rng = np.random.default_rng([self.seed, list(FAULTS).index(self.fault)])
        return int(rng.uniform(0.3, 0.8) * STEPS / EVERY) * EVERY


def trainings() -> dict[str, list[Training]]:
    """All runs: by table."""
    faults = [
        Training(f"{fault.replace('/', 'by ')} {seed}", seed, SCHEDULES[seed % 3], fault)
        for seed in range(3)
        for fault in FAULTS
    ]
    healthy = [
        Training(f"{schedule} {seed}", 100 + seed, schedule) for seed in range(4) for schedule in SCHEDULES
    ]
    study = [
        Training(
            f"{width} {name.replace('/', 'by ')} {seed}", 300 + seed, width=width, factor=factor, steps=steps
        )
        for width, name, factor, steps in (
            (WIDTH, "x5", 5.0, QUARTER),
            (WIDTH, "/5", 0.2, QUARTER),
            (WIDTH, "good", 1.0, STEPS),
            (LARGEST, "x5", 5.0, QUARTER),
            (LARGEST, "/5", 0.2, QUARTER),
            (LARGEST, "good", 1.0, QUARTER),
        )
        for seed in range(SEEDS)
    ]
    smaller = [Training(f"study {width}", 200, width=width) for width in STUDY_WIDTHS]
    study[3 * SEEDS : 3 * SEEDS] = smaller
    return {"faults": faults, "healthy": healthy, "study": study}


class Learner(ByteLM):
    """The demo's model with weight decay and a schedule; `batches` and `targets` are what a fault changes."""

    def __init__(self, training: Training) -> None:
        super().__init__(training.width, training.factor * 0.09 / training.width**0.75)
        self.rates = planned(training.schedule)
        self.batches: Callable[[Tensor], Tensor] = lambda batch: batch
        self.corrupted = 0.0

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """The demo's, with what a fault makes of batch and targets."""
        windows = self.batches(batch).long()
        targets = windows[:, 1:]
        if self.corrupted:
            wrong = torch.rand(targets.shape) < self.corrupted
            targets = torch.where(wrong, torch.randint(0, 128, targets.shape), targets)
        x = self.byte(windows[:, :-1]) + self.place.weight
        logits = self.next_byte(self.norm(self.block(x)))
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    def configure_optimizers(self) -> dict:
        """AdamW with weight decay, under the planned schedule."""
        optimizer = torch.optim.AdamW(
            self.parameters(), self.learning_rate, betas=(0.9, 0.95), weight_decay=0.1
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: float(self.rates[min(step, STEPS - 1)])
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


Fault = Callable[[Trainer, Learner, SourceText, np.random.Generator], None]


def _rate(
    factor: float, trainer: Trainer, model: Learner, data: SourceText, rng: np.random.Generator
) -> None:
    """The learning rate is that many times the planned one."""
    scheduler = trainer.lr_scheduler_configs[0].scheduler
    scheduler.base_lrs = [factor * rate for rate in scheduler.base_lrs]
    for group in trainer.optimizers[0].param_groups:
        group["lr"] *= factor


def _labels(trainer: Trainer, model: Learner, data: SourceText, rng: np.random.Generator) -> None:
    """Of the bytes to be predicted 10 to 30 % are random ones."""
    model.corrupted = float(rng.uniform(0.1, 0.3))


def _order(trainer: Trainer, model: Learner, data: SourceText, rng: np.random.Generator) -> None:
    """The data are no longer shuffled: batches are neighbouring windows of one file after the other."""
    windows, at = data.train.windows, int(rng.integers(len(data.train) // 2))

    def following(batch: Tensor) -> Tensor:
        nonlocal at
        at += len(batch)
        return windows[at : at + len(batch)]

    model.batches = following


def _optimizer(trainer: Trainer, model: Learner, data: SourceText, rng: np.random.Generator) -> None:
    """AdamW's moments and its count of steps are lost."""
    trainer.optimizers[0].state.clear()


def _decay(trainer: Trainer, model: Learner, data: SourceText, rng: np.random.Generator) -> None:
    """Weight decay is missing."""
    for group in trainer.optimizers[0].param_groups:
        group["weight_decay"] = 0.0


def _frozen(trainer: Trainer, model: Learner, data: SourceText, rng: np.random.Generator) -> None:
    """The transformer's block learns no more; the tables and the head do."""
    model.block.requires_grad_(False)


def _few(trainer: Trainer, model: Learner, data: SourceText, rng: np.random.Generator) -> None:
    """All training data are the same 64 windows."""
    few = data.train.windows[torch.from_numpy(rng.choice(len(data.train), 64, replace=False))]
    model.batches = lambda batch: few[torch.randint(0, len(few), (len(batch),))]


def _upper(trainer: Trainer, model: Learner, data: SourceText, rng: np.random.Generator) -> None:
    """The training text comes in capitals."""
    model.batches = lambda batch: torch.where((batch >= 97) & (batch <= 122), batch - 32, batch)


def _leak(trainer: Trainer, model: Learner, data: SourceText, rng: np.random.Generator) -> None:
    """Half of each batch is from the validation's windows."""
    leaked = data.validation.windows

    def half(batch: Tensor) -> Tensor:
        drawn = leaked[torch.randint(0, len(leaked), (len(batch) // 2,))]
        return torch.cat([batch[: len(batch) - len(drawn)], drawn])

    model.batches = half


def _small(trainer: Trainer, model: Learner, data: SourceText, rng: np.random.Generator) -> None:
    """Batches of two windows in place of 32."""
    model.batches = lambda batch: batch[:2]


FAULTS: dict[str, Fault] = {
    "rate x30": partial(_rate, 30.0),
    "rate x10": partial(_rate, 10.0),
    "rate /10": partial(_rate, 0.1),
    "labels corrupted": _labels,
    "data order broken": _order,
    "optimizer state lost": _optimizer,
    "weight decay missing": _decay,
    "layer frozen": _frozen,
    "over-fitting": _few,
    "text in capitals": _upper,
    "validation leaked": _leak,
    "batch size /16": _small,
}


class Inject(Callback):
    """Makes the fault before the first batch after the onset."""

    def __init__(self, training: Training, data: SourceText) -> None:
        self.training, self.data = training, data

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Tensor, batch_idx: int
    ) -> None:
        """Once, at the onset."""
        if trainer.global_step == self.training.onset and self.training.fault is not None:
            rng = np.random.default_rng([self.training.seed, 1])
            FAULTS[self.training.fault](trainer, pl_module, self.data, rng)


def train(training: Training, data: SourceText, records: Path) -> None:
    """One run; its records are there when it has ended."""
    seed_everything(training.seed, verbose=False)
    model = Learner(training)
    working = records / "working"
    shutil.rmtree(working, ignore_errors=True)
    monitor = ScalingLawMonitor(
        run=training.name,
        root=working,
        fit=False,
        length_fn=lambda windows: windows.shape[0] * (windows.shape[1] - 1),
        model_size=ByteLM.size,
    )
    trainer = Trainer(
        accelerator="cpu",
        max_steps=training.steps,
        val_check_interval=EVERY,
        check_val_every_n_epoch=None,
        gradient_clip_val=1.0,
        logger=False,
        callbacks=[monitor, Inject(training, data)],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(
        model, DataLoader(data.train, 32, shuffle=True, collate_fn=torch.as_tensor), data.val_dataloader()
    )
    shutil.move(working, records / training.name)


def main() -> None:
    """Trains what is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=Path, required=True, help="folder of the runs' records")
    parser.add_argument("--only", nargs="+", choices=list(trainings()), default=list(trainings()))
    told = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    told.records.mkdir(parents=True, exist_ok=True)
    data = SourceText(validation_windows=256)
    for training in (training for name in told.only for training in trainings()[name]):
        if not (told.records / training.name).is_dir():
            train(training, data, told.records)
            print(training.name, flush=True)


if __name__ == "__main__":
    main()
