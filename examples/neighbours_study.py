"""The named neighbours on published curves: from loss to a downstream metric.

    python examples/neighbours_study.py --data FOLDER

FOLDER holds `gadre2024/runs.csv`: the runs of Gadre et al. 2024 with their losses and downstream errors
(github.com/mlfoundations/scaling). Nothing is trained; it takes under a minute.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from foretrain.downstream import MetricForecast, forecast_metric
from foretrain.hestness.law import Estimate

SMALL = 1e9
"""Models above are not fitted, but predicted."""

LOSSES = {
    "C4": "loss_c4_val",
    "training text": "loss_paloma_redpajama",
    "German and English": "loss_val_de-en_100",
}
METRICS = {"17 tasks": "err_avg17", "46 tasks": "err_avg46"}

Columns = dict[str, NDArray[np.float64]]


def read(path: Path) -> Columns:
    """The columns of a table that are numbers in every row."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found: Columns = {}
    for name in rows[0]:
        try:
            found[name] = np.array([float(row[name]) for row in rows])
        except ValueError:
            continue
    return found


def downstream(runs: Columns) -> dict[tuple[str, str], MetricForecast]:
    """The errors of the large models from the small ones, by the loss and the tasks, in two steps."""
    small = runs["N"] < SMALL
    n, d = runs["N"], runs["D_tokens"]
    return {
        (loss, tasks): forecast_metric(
            n[small], d[small], runs[loss_name][small], runs[name][small], n[~small], d[~small]
        )
        for loss, loss_name in LOSSES.items()
        for tasks, name in METRICS.items()
    }


def show_downstream(runs: Columns, told: dict[tuple[str, str], MetricForecast], console: Console) -> None:
    """What was foretold of the large models, and what came."""
    large = np.flatnonzero(runs["N"] >= SMALL)
    table = Table(title=f"Downstream error of large models from {int((runs['N'] < SMALL).sum())} small ones")
    columns = ("loss on", "error of", "model", "tokens", "loss foretold", "loss")
    for column in (*columns, "error foretold", "by the loss that came", "error"):
        table.add_column(column, justify="right")
    for (loss, tasks), one in told.items():
        for i, run in enumerate(large):
            table.add_row(
                *(loss, tasks, f"{runs['N'][run] / 1e9:.1f}B", f"{runs['D_tokens'][run] / 1e9:,.0f}B"),
                *(f"{one.loss.median[i]:.2f}", f"{runs[LOSSES[loss]][run]:.2f}"),
                f"{one.median[i]:.3f} ({one.lower[0.9][i]:.3f} to {one.upper[0.9][i]:.3f})",
                _said(one.link.predict(runs[LOSSES[loss]][run])),
                f"{runs[METRICS[tasks]][run]:.3f}",
            )
    console.print(table)


def _said(told: Estimate) -> str:
    return f"{told.median:.3f} ({told.lower:.3f} to {told.upper:.3f})"


def main() -> None:
    """Reads the folder and prints what each neighbour says of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of published curves")
    folder = parser.parse_args().data
    console = Console()
    console = console if console.is_terminal else Console(width=140)
    runs = read(folder / "gadre2024" / "runs.csv")
    show_downstream(runs, downstream(runs), console)


if __name__ == "__main__":
    main()
