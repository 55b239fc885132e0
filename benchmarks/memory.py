"""How much memory do a million observations take, in the training process and in the one that fits?

    python benchmarks/memory.py                            # 1e6 observations, some minutes
    python benchmarks/memory.py --observations 10000000    # 1e7, and a record file of 2.5 GB
    python benchmarks/memory.py --validations 20000        # of a real Trainer, too

The store and the fitter of one run, as `ScalingLawMonitor` uses them: every observation is appended, and a
report is asked for whenever the last one has come. Then, as after a resume, a new fitter is asked about the
whole record, and must answer within the time limit that it has in a training. Memory is resident memory;
what it has grown by is counted from the first report on, when everything is imported and each part has been
used once. Fails if it grew by 50 MB or more.

With --validations, a Trainer with the callback and one without validate after every step, each in a process
of its own; the difference between what the two grow by is the callback's.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from foretrain.axes import Counts
from foretrain.fitter import BackgroundFitter
from foretrain.observation import Observation, RunInfo
from foretrain.store import ObservationStore

MOST_MB = 50.0
FIRST = 1_000
"""Observations before the first report."""
PATIENCE = 3600.0


def memory(pid: int | str = "self") -> tuple[float, float]:
    """Resident memory of a process, now and at most so far, in MB."""
    told = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    now, most = (int(told[name].split()[0]) * 1024 / 1e6 for name in ("VmRSS", "VmHWM"))
    return now, most


def observed(step: int) -> Observation:
    """A loss on its way down, with everything counted that a run counts."""
    counts = Counts(
        samples=64 * step,
        steps=step,
        epochs=step / 1000,
        tokens=64 * 512 * step,
        unique_samples=min(64 * step, 64_000),
        params=124_000_000,
        params_total=163_000_000,
        flops=6.0 * 124e6 * 64 * 512 * step,
    )
    value = 2.0 + 8.0 / (step + 20.0) ** 0.4
    return Observation("run", "val_loss", value, counts, lr=3e-4, time=1.7e9 + step)


def request(store: ObservationStore) -> dict[str, object]:
    """What the monitor asks."""
    question = {"run": "run", "metric": "val_loss", "axis": "samples"}
    return {"study_dir": str(store.study_dir), "run": "run", "question": question}


def child_of(fitter: BackgroundFitter) -> int:
    """The fitting process."""
    assert fitter._child is not None, fitter.fault
    return fitter._child._process.pid


def answered(fitter: BackgroundFitter, store: ObservationStore) -> float:
    """Asks, and waits for the report; the seconds that it took."""
    begun = time.monotonic()
    fitter.submit(request(store))
    report = fitter.wait(PATIENCE)
    if report is None or fitter.fault:
        sys.exit(f"No report came: {fitter.fault}")
    return time.monotonic() - begun


def run_store(count: int, console: Console) -> float:
    """Records and fits so many observations, then reads them anew; the most that a process grew by, in MB."""
    table = Table(title=f"{count:,} observations of one run")
    for name in ("process", "MB after the first report", "most MB", "growth in MB", "seconds"):
        table.add_column(name, justify="left" if name == "process" else "right")
    worst = 0.0

    def add(name: str, before: float, most: float, seconds: float) -> None:
        nonlocal worst
        worst = max(worst, most - before)
        table.add_row(name, f"{before:.1f}", f"{most:.1f}", f"{most - before:+.1f}", f"{seconds:.1f}")

    with tempfile.TemporaryDirectory() as root:
        store, fitter = ObservationStore(root), BackgroundFitter(share=1.0)
        store.begin(RunInfo("run", conventions={"samples": "batch size", "params": "trainable"}))
        for step in range(1, FIRST + 1):
            store.append(observed(step))
        answered(fitter, store)
        (before, _), (child_before, _), begun = memory(), memory(child_of(fitter)), time.monotonic()
        most = before
        for step in range(FIRST + 1, count + 1):
            if not store.append(observed(step)):
                sys.exit(f"An observation was not written: {store.fault}")
            if step % 1_000 == 0:
                fitter.poll()
                if not fitter.pending:
                    fitter.submit(request(store))
                most = max(most, memory()[0])
        answered(fitter, store)
        seconds = time.monotonic() - begun
        add("training, store and fitter", before, max(most, memory()[0]), seconds)
        add("fitting, as the record grows", child_before, memory(child_of(fitter))[1], seconds)
        fitter.close()
        fresh = BackgroundFitter(share=1.0)
        with tempfile.TemporaryDirectory() as other:
            small = ObservationStore(other)
            small.begin(RunInfo("run"))
            for step in range(1, FIRST + 1):
                small.append(observed(step))
            answered(fresh, small)
        child_before, _ = memory(child_of(fresh))
        seconds = answered(fresh, store)
        add("fitting, after a resume", child_before, memory(child_of(fresh))[1], seconds)
        fresh.close()
        store.close()
    console.print(table)
    return worst


def train(validations: int, *, monitored: bool) -> None:
    """Trains with a validation after every step, and prints what this process grew by, in MB."""
    import torch
    from lightning.pytorch import Callback, LightningModule, Trainer
    from torch.utils.data import DataLoader, TensorDataset

    from foretrain.lightning import ScalingLawMonitor

    class Model(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 1)

        def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
            return self.layer(batch[0]).square().mean()

        def validation_step(self, batch: list[torch.Tensor], index: int) -> None:
            self.log("val_loss", self.layer(batch[0]).square().mean() + 1.0)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=1e-3)

    class Look(Callback):
        seen, before, most = 0, 0.0, 0.0

        def on_validation_end(self, trainer: object, module: object) -> None:
            self.seen += 1
            if self.seen == FIRST:
                self.before = memory()[0]
            elif self.seen > FIRST and self.seen % 100 == 0:
                self.most = max(self.most, memory()[0])

    look = Look()
    data = TensorDataset(torch.randn(1_000, 4))
    with tempfile.TemporaryDirectory() as root:
        trainer = Trainer(
            max_steps=validations,
            val_check_interval=1,
            limit_val_batches=1,
            num_sanity_val_steps=0,
            logger=False,
            default_root_dir=root,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[*([ScalingLawMonitor(root=root)] if monitored else []), look],
        )
        trainer.fit(Model(), DataLoader(data, batch_size=1), DataLoader(data, batch_size=8))
    print(f"{look.before} {look.most}")


def run_trainer(validations: int, console: Console) -> float:
    """What the callback makes a training process grow by, in MB."""
    table = Table(title=f"{validations:,} validations of a Trainer")
    for name in ("callbacks", f"MB after {FIRST:,}", "most MB", "growth in MB"):
        table.add_column(name, justify="left" if name == "callbacks" else "right")
    grown = []
    for monitored, name in ((False, "none"), (True, "ScalingLawMonitor")):
        command = [sys.executable, __file__, "--train", str(validations), *(["--monitored"] * monitored)]
        told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ).stdout
        before, most = map(float, told.split()[-2:])
        grown.append(most - before)
        table.add_row(name, f"{before:.1f}", f"{most:.1f}", f"{grown[-1]:+.1f}")
    console.print(table)
    return grown[1] - grown[0]


def main() -> None:
    """Measures, prints, and fails where it is too much."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--observations", type=int, default=1_000_000)
    parser.add_argument("--validations", type=int, default=0, help="of a real Trainer; 0 for none")
    parser.add_argument("--train", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--monitored", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        train(options.train, monitored=options.monitored)
        return
    if options.observations <= FIRST:
        parser.error(f"expected more than {FIRST} observations, got {options.observations}")
    console = Console(width=None if sys.stdout.isatty() else 110)
    worst = run_store(options.observations, console)
    if options.validations:
        worst = max(worst, run_trainer(options.validations, console))
    console.print(f"The most that a process grew by: {worst:.1f} MB; less than {MOST_MB:g} MB are asked for.")
    sys.exit(worst >= MOST_MB)


if __name__ == "__main__":
    main()
