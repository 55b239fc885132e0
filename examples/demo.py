"""foretrain end to end on real text: four small models predict a larger one, which is then trained.

    python examples/demo.py [--log-dir demo_logs] [--seed 0]

Five byte-level language models of growing size are trained on the Python standard library, one ordinary
Lightning run each, with `ScalingLawMonitor` as their only addition. Before the largest is trained, the law of
the smaller ones says where it will end, and how sure that is. A last run has its learning rate 30 times too
high: it shows as off the curve.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.loggers import TensorBoardLogger
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from foretrain import forecast_joint
from foretrain.lightning import ScalingLawMonitor
from foretrain.report import Report
from foretrain.store import ObservationStore, StudyReader
from stdlib_lm import ByteLM, SourceText

WIDTHS = (24, 40, 64, 96, 168)
BROKEN_WIDTH, BROKEN_FACTOR = 64, 30.0
STEPS, VALIDATE_EVERY = 1300, 65
LEVEL = 0.9


@dataclass(frozen=True)
class Run:
    """One run of the demo: what to train, and what became of it."""

    name: str
    width: int
    learning_rate: float | None = None
    params: int = 0
    tokens: int = 0
    final: float = float("nan")
    report: Report | None = None


@dataclass(frozen=True)
class Prediction:
    """What the smaller runs said of the largest one before it was trained."""

    params: int
    tokens: list[float]
    median: list[float]
    lower: list[float]
    upper: list[float]
    status: str
    naive: float
    written: float


class ShowProgress(Callback):
    """Moves this run's bar on, once per validation."""

    def __init__(self, progress: Progress, task: int) -> None:
        self.progress, self.task = progress, task

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loss = trainer.callback_metrics.get("val_loss")
        told = "" if loss is None else f"val_loss {float(loss):.3f}"
        self.progress.update(self.task, completed=trainer.global_step, loss=told)


def train(run: Run, data: SourceText, log_dir: Path, seed: int, steps: int, progress: Progress) -> Run:
    """One ordinary Lightning run; returns it with what became of it."""
    seed_everything(seed, verbose=False)
    model = ByteLM(run.width, run.learning_rate)
    params = model.size()
    task = progress.add_task(run.name, total=steps, loss=f"{params:,} parameters")
    monitor = ScalingLawMonitor(
        "val_loss",
        length_fn=lambda windows: windows.shape[0] * (windows.shape[1] - 1),  # bytes that are predicted
        model_size=ByteLM.size,
        target_params=[ByteLM(WIDTHS[-1]).size()],
    )
    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        val_check_interval=min(VALIDATE_EVERY, steps),
        check_val_every_n_epoch=None,
        gradient_clip_val=1.0,
        logger=TensorBoardLogger(log_dir, name=run.name, version=""),
        callbacks=[monitor, ShowProgress(progress, task)],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(model, data)
    points = _points(log_dir)[run.name]
    return Run(
        run.name, run.width, run.learning_rate, params, int(points[-1][0]), points[-1][1], monitor.report
    )


def _points(log_dir: Path) -> dict[str, list[tuple[float, float, float]]]:
    """Of every run in the store: (tokens, val_loss, parameters) at each validation."""
    study = StudyReader(ObservationStore(log_dir / "foretrain").study_dir).read()
    return {
        name: [
            (float(o.counts.tokens or 0), o.value, float(o.counts.params or 0)) for o in record.observations
        ]
        for name, record in study.runs.items()
    }


def predict(smaller: Sequence[Run], log_dir: Path) -> Prediction:
    """Where the largest model will be at every validation, from the smaller runs' records alone."""
    curves = _points(log_dir)
    rows = np.array([point for run in smaller for point in curves[run.name]])
    rows = rows[rows[:, 0] >= 0.05 * rows[:, 0].max()]  # past the warm-up of the learning rate
    tokens = np.unique(rows[:, 0])
    size = ByteLM(WIDTHS[-1]).size()
    told = forecast_joint(rows[:, 2], rows[:, 0], rows[:, 1], size, tokens, levels=(LEVEL,))
    prediction = Prediction(
        params=size,
        tokens=tokens.tolist(),
        median=told.median.tolist(),
        lower=told.lower[LEVEL].tolist(),
        upper=told.upper[LEVEL].tolist(),
        status=told.status.value,
        naive=smaller[-1].final,
        written=time.time(),
    )
    (log_dir / "prediction.json").write_text(json.dumps(asdict(prediction), indent=1))
    return prediction


def run_demo(
    log_dir: Path, seed: int, *, steps: int = STEPS, console: Console
) -> tuple[list[Run], Prediction]:
    """Trains the smaller models, predicts the largest, trains it, and last trains the broken run."""
    data = SourceText()
    console.print(
        f"Training text: {len(data.train.windows) * 65 / 1e6:.1f} MB of Python source, "
        f"{len(data.train):,} windows; validation on {len(data.validation)} windows of other files."
    )
    columns = (
        TextColumn("{task.description:<22}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[loss]}"),
    )
    runs = []
    with Progress(*columns, console=console) as progress:
        for width in WIDTHS[:-1]:
            runs.append(train(Run(f"width-{width}", width), data, log_dir, seed, steps, progress))
        prediction = predict(runs, log_dir)
        progress.console.print(_before(prediction, log_dir))
        runs.append(train(Run(f"width-{WIDTHS[-1]}", WIDTHS[-1]), data, log_dir, seed, steps, progress))
        rate = BROKEN_FACTOR * ByteLM(BROKEN_WIDTH).learning_rate
        broken = Run(f"width-{BROKEN_WIDTH}-lr-x30", BROKEN_WIDTH, rate)
        runs.append(train(broken, data, log_dir, seed, steps, progress))
    return runs, prediction


def _before(prediction: Prediction, log_dir: Path) -> str:
    return (
        f"\n[bold]Before the largest model is trained[/bold], the law of the four smaller ones says: "
        f"{prediction.params:,} parameters will end at {prediction.median[-1]:.3f} "
        f"(90 %: {prediction.lower[-1]:.3f} to {prediction.upper[-1]:.3f}); status: {prediction.status}. "
        f"Written to {log_dir / 'prediction.json'}.\n"
    )


def show(runs: Sequence[Run], prediction: Prediction, console: Console) -> None:
    """Prediction against outcome, and all runs."""
    outcome = next(run.final for run in runs if run.params == prediction.params)
    lower, upper = prediction.lower[-1], prediction.upper[-1]
    inside = lower <= outcome <= upper
    table = Table(title="The largest model: predicted before it was trained, and what came")
    for column in ("", "val_loss (nats a byte)"):
        table.add_column(column)
    table.add_row("predicted", f"{prediction.median[-1]:.3f}")
    table.add_row("90 % interval", f"{lower:.3f} to {upper:.3f} (width {upper - lower:.3f})")
    table.add_row("outcome", f"{outcome:.3f}, {'inside' if inside else 'OUTSIDE'} the interval")
    table.add_row(
        "naive guess",
        f"{prediction.naive:.3f}, off by {abs(prediction.naive - outcome):.3f} (last smaller model)",
    )
    console.print(table)

    table = Table(title="All runs")
    for column in ("run", "parameters", "tokens", "val_loss", "at 10x the data (90 %)", "status"):
        table.add_column(column, justify="left" if column in ("run", "status") else "right")
    for run in runs:
        ten = next((p for p in run.report.projections if p.name == "10x"), None) if run.report else None
        told = f"{ten.median:.2f} ({ten.lower['0.9']:.2f} to {ten.upper['0.9']:.2f})" if ten else "-"
        flags = "; ".join(flag.kind.value for flag in run.report.flags) if run.report else ""
        status = f"[red]off the curve: {flags}[/red]" if flags else run.report.status if run.report else "-"
        table.add_row(run.name, f"{run.params:,}", f"{run.tokens:,}", f"{run.final:.3f}", told, status)
    console.print(table)


def main() -> None:
    """Runs the demo and says what to open."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--log-dir", type=Path, default=Path("demo_logs"))
    parser.add_argument("--seed", type=int, default=0, help="of initial weights and data order")
    parser.add_argument("--steps", type=int, default=STEPS, help="optimizer steps of every run")
    args = parser.parse_args()
    for name in ("lightning.pytorch", "pytorch_lightning"):  # the progress display says it all
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    console = Console()
    if not console.is_terminal:
        console = Console(width=120)
    if (args.log_dir / "foretrain").is_dir():
        console.print(f"Replacing the earlier demo in {args.log_dir}.")
        shutil.rmtree(args.log_dir)
    args.log_dir.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    runs, prediction = run_demo(args.log_dir, args.seed, steps=args.steps, console=console)
    show(runs, prediction, console)
    console.print(f"\nTook {time.monotonic() - begun:.0f} s. Now open the Scaling tab:\n")
    console.print(f"  .venv/bin/tensorboard --logdir {args.log_dir}", highlight=False)
    console.print("  http://localhost:6006/#foretrain\n", highlight=False)


if __name__ == "__main__":
    main()
