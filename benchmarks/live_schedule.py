"""Does a run under a cosine schedule see its own end? The demo's model, trained by Lightning, over seeds.

    python benchmarks/live_schedule.py --seeds 0 1 2 3 4 5 6 7 8 9

Each seed is one ordinary Lightning run with the monitor, its rate falling along a cosine. From the monitor's
records alone, its final value is forecast after every validation from 30 % on, as a first run would be (no
earlier runs) and with the runs of this study that were finished before it. The peer is the power law in data,
`foretrain.forecast`, on the same points.
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.loggers import CSVLogger
from rich.console import Console
from rich.table import Table

import foretrain
from foretrain.lightning import ScalingLawMonitor
from foretrain.observation import RunRecord
from foretrain.store import ObservationStore, StudyReader

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
from stdlib_lm import ByteLM, SourceText

LEVEL, FROM = 0.9, 0.3


class CosineLM(ByteLM):
    """The demo's model with a rate that falls to a twentieth along a cosine after warm-up."""

    def __init__(self, width: int, steps: int) -> None:
        super().__init__(width)
        self.steps = steps

    def configure_optimizers(self) -> dict:
        """The demo's optimizer, the cosine instead of a constant rate."""
        found = super().configure_optimizers()
        warmup, steps = self.warmup, self.steps

        def rate(step: int) -> float:
            along = min(max(step + 1 - warmup, 0) / max(steps - warmup, 1), 1.0)
            return min(1.0, (step + 1) / warmup) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * along)))

        scheduler = torch.optim.lr_scheduler.LambdaLR(found["optimizer"], rate)
        return {
            "optimizer": found["optimizer"],
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }


def train(folder: Path, seed: int, width: int, steps: int, data: SourceText) -> None:
    """One run of the study."""
    seed_everything(seed, verbose=False)
    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        val_check_interval=steps // 50,
        check_val_every_n_epoch=None,
        gradient_clip_val=1.0,
        logger=CSVLogger(folder, name=f"seed-{seed}", version=""),
        callbacks=[ScalingLawMonitor("val_loss", model_size=ByteLM.size)],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(CosineLM(width, steps), data)


def measured(record: RunRecord) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Steps, metric, and rate of every step, as the monitor recorded them."""
    step = np.array([o.counts.steps for o in record.observations], dtype=int)
    y = np.array([o.value for o in record.observations])
    if record.schedule is None:
        raise SystemExit(f"Expected a schedule in the record of {record.info.run}, got none.")
    return step, y, record.schedule.rates()


def judged(step: np.ndarray, y: np.ndarray, lr: np.ndarray, library: list[dict]) -> list[tuple[float, ...]]:
    """After each validation: share of the run, log error, and log width of the interval; and the peer's."""
    found = []
    for count in range(2, step.size):
        share = step[count - 1] / step[-1]
        if share < FROM:
            continue
        now = slice(0, count)
        told = foretrain.forecast_run(step[now], y[now], lr, step[-1:], library, levels=(LEVEL,))
        low, high = float(told.lower[LEVEL][0]), float(told.upper[LEVEL][0])
        peer = foretrain.forecast(step[now], y[now], step[-1:], levels=(LEVEL,))
        held = peer.lower[LEVEL][0] <= y[-1] <= peer.upper[LEVEL][0]
        error = math.log(float(told.median[0]) / y[-1])
        found.append((share, error, math.log(high / low), low <= y[-1] <= high, float(held)))
    return found


def main() -> None:
    """Prints one row a seed, alone and in the study."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--steps", type=int, default=1300)
    parser.add_argument("--keep", type=Path, help="log directory to keep, and to go on from")
    args = parser.parse_args()
    for name in ("lightning.pytorch", "pytorch_lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.simplefilter("ignore")
    console, data = Console(width=120), SourceText()
    with TemporaryDirectory() as folder:
        root = args.keep or Path(folder)
        for seed in args.seeds:
            if not (root / f"seed-{seed}").exists():
                train(root, seed, args.width, args.steps, data)
        records = StudyReader(ObservationStore(root / "foretrain").study_dir).read().runs
        curves = [measured(next(r for n, r in records.items() if n == f"seed-{s}")) for s in args.seeds]
    table = Table(title="Final value forecast after every validation from 30 % of the run on")
    for column in ("seed", "earlier runs", "always inside", "share inside", "error at 30/50/70 %"):
        table.add_column(column, justify="right")
    table.add_column("width at 30/50/70 %", justify="right")
    table.add_column("power law in data inside", justify="right")
    sums: dict[str, list[tuple[bool, float]]] = {"alone": [], "in the study": []}
    for index, (seed, curve) in enumerate(zip(args.seeds, curves, strict=True)):
        earlier = [dict(zip(("step", "y", "lr"), other, strict=True)) for other in curves[:index]]
        for name, library in (("alone", []), ("in the study", earlier)):
            if name == "in the study" and not earlier:
                continue
            rows = judged(*curve, library)
            at = [min(rows, key=lambda row: abs(row[0] - place)) for place in (0.3, 0.5, 0.7)]
            inside = float(np.mean([row[3] for row in rows]))
            sums[name].append((inside == 1.0, at[1][2]))
            table.add_row(
                str(seed),
                str(len(library)),
                "yes" if inside == 1.0 else "no",
                f"{inside:.2f}",
                " ".join(f"{100 * row[1]:+.1f}" for row in at) + " %",
                " ".join(f"{100 * row[2]:.1f}" for row in at) + " %",
                f"{np.mean([row[4] for row in rows]):.2f}",
            )
    console.print(table)
    for name, found in sums.items():
        if found:
            held, widths = sum(ok for ok, _ in found), [width for _, width in found]
            console.print(
                f"{name}: {held} of {len(found)} always inside; width at half time "
                f"{100 * np.median(widths):.1f} % (median), {100 * max(widths):.1f} % (largest)"
            )


if __name__ == "__main__":
    main()
