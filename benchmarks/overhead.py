"""What ScalingLawMonitor costs a training run, beside Lightning's own callbacks.

Every round trains the same model on the same data once with each set of callbacks, in turn, in one process;
the order rotates. A training step is padded with real work, matrix products, to the length asked for, and
validation comes every 50 steps. Compared are steps per second up to the last validation, with all that
validations, logging and the fitting process cost, as ratios within a round: what disturbs a whole round falls
out. The interval is a bootstrap of the median ratio over the rounds. "Nothing again" is the same as nothing,
and shows the noise. What a callback does once, at the end of a fit, is a column of its own.

    python benchmarks/overhead.py                       # 10 ms steps
    python benchmarks/overhead.py --step-ms 1 10 100
    python benchmarks/overhead.py --quick               # does it run at all
"""

from __future__ import annotations

import argparse
import importlib
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn
from torch.utils.data import DataLoader, TensorDataset

from foretrain.lightning import ScalingLawMonitor

VALIDATE_EVERY = 50
BATCH = 8
WIDTH = 32
LOGGERS = ("lightning", "lightning.pytorch", "lightning.fabric", "pytorch_lightning")
PAD = 192  # rows of the square matrices whose products fill a step


@dataclass(frozen=True)
class Outcome:
    """One training run.

    Attributes:
        wall: Seconds from the second training step to the end of the last validation.
        cpu: Seconds that the training thread computed in that time.
        end: Seconds from there to the end of training.
        weights: The weights at the end.
    """

    wall: float
    cpu: float
    end: float
    weights: list[Any]


def time_products(count: int) -> float:
    """Seconds that a number of padding products takes, the least of a few tries."""
    matrix = torch.full((PAD, PAD), 1.0 / PAD)
    tries = []
    for _ in range(7):
        start = time.perf_counter()
        for _ in range(count):
            matrix = matrix @ matrix
        tries.append(time.perf_counter() - start)
    return min(tries)


def make_module(pl: Any, products: int) -> Any:
    """A small regression with dropout, whose training step also does the padding."""

    class Module(pl.LightningModule):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = torch.nn.Sequential(torch.nn.Dropout(0.1), torch.nn.Linear(WIDTH, 1))
            self.began: tuple[float, float] | None = None
            self.ended = (0.0, 0.0)
            self.closed = 0.0
            self.pad = torch.full((PAD, PAD), 1.0 / PAD)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if self.began is None and self.global_step == 1:
                self.began = (time.perf_counter(), time.thread_time())
            for _ in range(products):
                self.pad = self.pad @ self.pad
            return torch.nn.functional.mse_loss(self.net(batch[0]), batch[1])

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val_loss", torch.nn.functional.mse_loss(self.net(batch[0]), batch[1]))

        # The module's hooks come after those of the callbacks, so what these do is included.

        def on_validation_end(self) -> None:
            self.ended = (time.perf_counter(), time.thread_time())

        def on_train_end(self) -> None:
            self.closed = time.perf_counter()

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), 0.01)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1000)]

    return Module()


def variants(pl: Any) -> dict[str, Callable[[], list[Any]]]:
    """The callbacks that are compared, by name."""
    # `final_wait` is a choice of the user about the end of a run, not a cost per step.
    return {
        "nothing": list,
        "nothing again": list,
        "an empty callback": lambda: [pl.Callback()],
        "ScalingLawMonitor": lambda: [ScalingLawMonitor(final_wait=0)],
        "LearningRateMonitor": lambda: [pl.callbacks.LearningRateMonitor(logging_interval="step")],
        "ThroughputMonitor": lambda: [
            pl.callbacks.ThroughputMonitor(batch_size_fn=lambda batch: batch[0].size(0))
        ],
    }


def make_loader(steps: int) -> Any:
    """Data for one pass of so many steps."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(BATCH * steps, WIDTH, generator=generator)
    y = x.sum(1, keepdim=True) + 0.1 * torch.randn(len(x), 1, generator=generator)
    return DataLoader(TensorDataset(x, y), BATCH, shuffle=True)


def make_trainer(pl: Any, root: str, callbacks: list[Any], steps: int) -> Any:
    """A Trainer as in daily use, but without a progress bar and checkpoints."""
    return pl.Trainer(
        default_root_dir=root,
        logger=pl.loggers.CSVLogger(root),
        callbacks=callbacks,
        max_steps=steps,
        val_check_interval=VALIDATE_EVERY,
        log_every_n_steps=VALIDATE_EVERY,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
    )


def train(pl: Any, callbacks: list[Any], steps: int, products: int) -> Outcome:
    """Trains once, from the same seed as every other time."""
    pl.seed_everything(7)
    module = make_module(pl, products)
    with tempfile.TemporaryDirectory() as root:
        make_trainer(pl, root, callbacks, steps).fit(module, make_loader(steps), make_loader(2))
    began = module.began
    return Outcome(
        wall=module.ended[0] - began[0],
        cpu=module.ended[1] - began[1],
        end=module.closed - module.ended[0],
        weights=[parameter.tolist() for parameter in module.parameters()],
    )


def hook_costs(pl: Any, calls: int) -> dict[str, tuple[float, float]]:
    """Microseconds of our own per-batch hooks, median and least over blocks, by kind of batch."""
    ids = torch.ones(BATCH, 128, dtype=torch.long)
    batches = {
        "a tensor": ids,
        "a pair": [ids, ids],
        "input_ids": {"input_ids": ids},
        "input_ids and attention_mask": {"input_ids": ids, "attention_mask": ids},
    }
    found: dict[str, tuple[float, float]] = {}

    class Probe(pl.Callback):  # type: ignore[name-defined, misc]
        def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
            for kind, batch in batches.items():
                monitor._counter.start()
                blocks = []
                for _ in range(21):
                    start = time.perf_counter()
                    for _ in range(calls):
                        monitor.on_train_batch_end(trainer, module, None, batch, 0)
                    blocks.append((time.perf_counter() - start) / calls * 1e6)
                found[f"on_train_batch_end, {kind}"] = (statistics.median(blocks), min(blocks))
            optimizer = trainer.optimizers[0]
            blocks = []
            for _ in range(21):
                start = time.perf_counter()
                for _ in range(calls):
                    monitor.on_before_optimizer_step(trainer, module, optimizer)
                blocks.append((time.perf_counter() - start) / calls * 1e6)
            found["on_before_optimizer_step"] = (statistics.median(blocks), min(blocks))

    monitor = ScalingLawMonitor(fit=False)
    with tempfile.TemporaryDirectory() as root:
        trainer = make_trainer(pl, root, [monitor, Probe()], 1)
        trainer.fit(make_module(pl, 0), make_loader(VALIDATE_EVERY), make_loader(2))
    return found


def interval(ratios: list[float], *, draws: int = 4000) -> tuple[float, float, float]:
    """The median ratio, and a bootstrap interval of it that holds 95 %."""
    values = np.asarray(ratios)
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(values, (draws, len(values))), axis=1)
    lower, upper = np.quantile(medians, [0.025, 0.975])
    return float(np.median(values)), float(lower), float(upper)


def compare(pl: Any, step_ms: float, steps: int, rounds: int, console: Console) -> None:
    """Runs all rounds for one length of step, and prints the table."""
    one = max(time_products(50) / 50, 1e-9)
    products = max(1, round(step_ms / 1e3 / one))
    names = list(variants(pl))
    outcomes: dict[str, list[Outcome]] = {name: [] for name in names}
    columns = (
        *Progress.get_default_columns()[:2],
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(f"{step_ms:g} ms steps", total=rounds * len(names))
        train(pl, [], min(steps, VALIDATE_EVERY), products)  # the first run pays for imports and caches
        for number in range(rounds):
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:
                progress.update(task, description=f"{step_ms:g} ms steps: {name}")
                outcomes[name].append(train(pl, variants(pl)[name](), steps, products))
                progress.advance(task)
    none = outcomes["nothing"]
    print(f"\nSteps of about {step_ms:g} ms, {steps} in a run, {rounds} rounds")
    print(row("", "ms/step", "speed / nothing", "95 % interval", "CPU / nothing", "end, ms", "weights"))
    for name in names:
        runs = outcomes[name]
        speed, lower, upper = interval([a.wall / b.wall for a, b in zip(none, runs, strict=True)])
        cpu = statistics.median(b.cpu / a.cpu for a, b in zip(none, runs, strict=True))
        each = 1e3 * statistics.median(run.wall for run in runs) / (steps - 1)
        end = 1e3 * statistics.median(run.end for run in runs)
        same = "identical" if all(run.weights == none[0].weights for run in runs) else "DIFFERENT"
        span = f"{lower:.4f} - {upper:.4f}"
        print(row(name, f"{each:.3f}", f"{speed:.4f}", span, f"{cpu:.4f}", f"{end:.1f}", same))


def row(name: str, *cells: str) -> str:
    """A line of the table."""
    widths = (9, 17, 18, 15, 9, 11)
    return f"{name:20}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))


def main(arguments: list[str] | None = None) -> None:
    """Parses the command line and measures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--step-ms", type=float, nargs="+", default=[10.0], help="length of a training step")
    parser.add_argument("--steps", type=int, default=600, help="steps in a run")
    parser.add_argument("--rounds", type=int, default=10, help="runs with each set of callbacks")
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch")
    parser.add_argument(
        "--flavour", default="lightning.pytorch", choices=["lightning.pytorch", "pytorch_lightning"]
    )
    parser.add_argument("--quick", action="store_true", help="a short run that measures nothing of use")
    options = parser.parse_args(arguments)
    if options.quick:
        options.step_ms, options.steps, options.rounds = [0.2], VALIDATE_EVERY, 2
    options.steps = max(1, round(options.steps / VALIDATE_EVERY)) * VALIDATE_EVERY  # ends with a validation
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore")
    pl = importlib.import_module(options.flavour)
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    console = Console(stderr=True)
    for step_ms in options.step_ms:
        compare(pl, step_ms, options.steps, options.rounds, console)
    print(f"\n{'own time of a hook, microseconds':46}{'median':>9}{'least':>9}")
    for hook, (median, least) in hook_costs(pl, 100 if options.quick else 2000).items():
        print(f"{hook:46}{median:9.2f}{least:9.2f}")


if __name__ == "__main__":
    main()
