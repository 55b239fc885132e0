"""Trains in two processes that a flag stops unless no checkpoint can be saved; see test_lightning_flags.py.

Flags are those of a stand-in for the child process. Each process leaves a file on each training.
"""

import importlib
import json
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from foretrain.flags import Flag, FlagKind, Severity
from foretrain.lightning import ScalingLawMonitor, session
from lightning_models import FakeFitter, loader, make_module

EPOCHS = 6


class Flagging(FakeFitter):
    """Tells of two flags from the third validation on."""

    def poll_flags(self):
        known = (
            Flag(FlagKind.SPIKE, 2, "It is a spike.", {}, Severity.WARNING),
            Flag(FlagKind.DIVERGENCE, 3, "It diverges.", {}, Severity.CRITICAL),
        )
        return known if len(self.requests) >= 3 else ()


def train(pl, root, fault):
    called = []

    def on_flag(flag):
        called.append(flag.kind.value)

    monitor = ScalingLawMonitor(run=fault, root=f"{root}/kept", action="stop", on_flag=on_flag)
    trainer = pl.Trainer(
        default_root_dir=f"{root}/{fault}",
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        max_epochs=EPOCHS,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[monitor],
    )
    if fault == "unsaved" and trainer.global_rank == 0:

        def save(*args, **options):
            raise OSError("no space left")

        trainer.strategy.save_checkpoint = save
    if fault == "broken" and trainer.global_rank == 0:

        def broken(*args, **options):
            raise OSError("no records")

        session.Session.keep = broken
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(make_module(pl), loader(), loader())
    said = [str(item.message) for item in caught if "ScalingLawMonitor" in str(item.message)]
    told = {"epochs": trainer.current_epoch, "steps": trainer.global_step, "called": called, "said": said}
    Path(root, f"{fault}_rank{trainer.global_rank}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    session.BackgroundFitter = Flagging
    for each in sys.argv[3:]:
        train(importlib.import_module(sys.argv[1]), sys.argv[2], each)
