"""A small model, a Trainer and stand-ins that the tests of the Lightning callback share."""

import importlib
import sys
from pathlib import Path
from typing import ClassVar

import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from foretrain.lightning import session
from foretrain.report import NamedProjection, Report
from foretrain.store import ObservationStore, StudyReader

FLAVOURS = ("lightning.pytorch", "pytorch_lightning")


class Texts(Dataset):
    """Dictionaries as tokenizers make them: 20 texts of 8 positions, of which the i-th has 1 + i % 8 real."""

    def __len__(self):
        return 20

    def __getitem__(self, index):
        return {
            "input_ids": torch.full((8,), index),
            "attention_mask": (torch.arange(8) < 1 + index % 8).long(),
            "x": torch.full((4,), float(index)),
        }


def points(n=20):
    x = torch.randn(n, 4, generator=torch.Generator().manual_seed(1))
    return TensorDataset(x, x.sum(1, keepdim=True))


def loader(data=None, batch_size=4, **options):
    return DataLoader(points() if data is None else data, batch_size, **options)


def make_module(pl, *, values=None, name="val_loss", manual=0, rates=None, width=4):
    """A dropout regression. It logs its loss, or `values` in turn where they are given; None logs nothing."""

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = not manual
            self.net = torch.nn.Sequential(torch.nn.Dropout(0.2), torch.nn.Linear(width, 1))
            self.validations = 0

        def loss(self, batch):
            x = batch["x"] if isinstance(batch, dict) else batch[0]
            y = x.sum(1, keepdim=True)
            return ((self.net(x) - y) ** 2).mean()

        def training_step(self, batch, batch_idx):
            loss = self.loss(batch)
            if not manual:
                return loss
            for optimizer in self.optimizers():
                optimizer.zero_grad()
                self.manual_backward(loss, retain_graph=True)
                optimizer.step()
            return None

        def validation_step(self, batch, batch_idx):
            if values is None:
                self.log(name, self.loss(batch))

        def on_validation_epoch_end(self):
            if values is None or self.trainer.sanity_checking:
                return
            value = values[self.validations % len(values)]
            self.validations += 1
            if value is not None:
                self.log(name, value)

        def configure_optimizers(self):
            if manual:
                return [torch.optim.SGD(self.parameters(), 0.001) for _ in range(manual)]
            optimizer = torch.optim.SGD(self.parameters(), 1.0 if rates else 0.01)
            if rates is None:
                return optimizer
            schedule = torch.optim.lr_scheduler.LambdaLR(
                optimizer, lambda step: rates[min(step, len(rates) - 1)]
            )
            return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    return Module()


def make_trainer(pl, root, monitor=None, **options):
    defaults = {
        "default_root_dir": str(root),
        "max_epochs": 1,
        "accelerator": "cpu",
        "devices": 1,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "logger": False,
        "num_sanity_val_steps": 0,
    }
    return pl.Trainer(callbacks=[] if monitor is None else monitor, **{**defaults, **options})


def make_witness(pl):
    """A callback that counts on its own: samples and steps trained on by the end of each validation."""

    class Witness(pl.Callback):
        def __init__(self):
            self.samples = 0
            self.validated = []

        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            self.samples += len(batch["x"] if isinstance(batch, dict) else batch[0])

        def on_validation_end(self, trainer, module):
            if not trainer.sanity_checking:
                self.validated.append((self.samples, trainer.global_step))

    return Witness()


def read_study(root, study="default"):
    return StudyReader(ObservationStore(root, study=study).study_dir).read()


def only_run(root):
    (run,) = read_study(Path(root, "foretrain")).runs.values()
    return run


def a_report(request, *, value=0.5, **changes):
    """A report as the analysis might give on a request."""
    question = request["question"]
    names = [("2x", 2e3), ("10x", 1e4), ("100x", 1e5), ("planned end", 4e3)]
    projections = tuple(
        NamedProjection(name, 5.0, x, value, {"0.9": value - 0.1}, {"0.9": value + 0.1}) for name, x in names
    )
    return Report(
        **{
            "run": question["run"],
            "metric": question["metric"],
            "axis": question["axis"],
            "step": 1,
            "status": "ok",
            "points": ((1e3, 0.7),),
            "planned": 4e3,
            "projections": projections,
            **changes,
        }
    )


class FakeFitter:
    """Answers each request with `a_report`, after a few polls."""

    made: ClassVar = []
    delay: ClassVar = 0
    changes: ClassVar = {}

    def __init__(self):
        self.requests, self.closed, self.polls, self._left = [], 0, 0, None
        self.fault, self.stale, self.flags = None, False, None
        type(self).made.append(self)

    @property
    def pending(self):
        return self._left is not None

    @property
    def due(self):
        return self._left is not None

    def submit(self, request, *, glance=False):
        self.requests.append(request)
        self._left = type(self).delay

    def poll(self):
        self.polls += 1
        if self._left is None:
            return None
        self._left -= 1
        if self._left >= 0:
            return None
        self._left = None
        report = a_report(self.requests[-1], **type(self).changes)
        self.flags = report.flags
        return report

    def poll_flags(self):
        flags, self.flags = self.flags, None
        return flags

    def wait(self, timeout, *, give_up=None):
        self._left = 0 if self._left is not None else None
        return self.poll()

    def close(self):
        self.closed += 1


def use_fake_fitter(monkeypatch, **settings):
    """Puts a stand-in for the background fitter in place, and gives its class."""
    fake = type("Fake", (FakeFitter,), {"made": [], "delay": 0, "changes": {}, **settings})
    monkeypatch.setattr(session, "BackgroundFitter", fake)
    return fake


def train_for_long(flavour, root):
    """A run that does not end by itself, for a test that kills it; it says what is kept."""
    from foretrain.lightning import ScalingLawMonitor

    pl = importlib.import_module(flavour)

    class Said(pl.Callback):
        def on_validation_end(self, trainer, module):
            print("kept", trainer.global_step, flush=True)

    trainer = make_trainer(pl, root, [ScalingLawMonitor(fit=False), Said()], max_epochs=100_000)
    trainer.fit(make_module(pl), loader(), loader())


if __name__ == "__main__":
    train_for_long(*sys.argv[1:])
