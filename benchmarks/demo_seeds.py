"""Does the demo's prediction hold? The whole demo over several seeds, prediction against outcome.

    python benchmarks/demo_seeds.py --seeds 0 1 2 3 4

Each seed trains the four smaller models, predicts the largest from them, trains it, and compares. The peer is
the naive guess: the last value of the next smaller model. Takes as long as that many demos.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
import demo


def main() -> None:
    """Prints one row a seed, and the sum."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--steps", type=int, default=demo.STEPS)
    args = parser.parse_args()
    for name in ("lightning.pytorch", "pytorch_lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.simplefilter("ignore")
    console, rows = Console(width=130), []
    for seed in args.seeds:
        begun = time.monotonic()
        with TemporaryDirectory() as folder:
            runs, prediction = demo.run_demo(Path(folder), seed, steps=args.steps, console=console)
        seconds = time.monotonic() - begun
        flagged = [run.name for run in runs if run.report and run.report.flags]
        outcome = next(run.final for run in runs if run.params == prediction.params)
        rows.append((seed, prediction, outcome, flagged, seconds))
        show(rows, console)


def show(rows: list, console: Console) -> None:
    """The table so far."""
    table = Table(title="The largest model of the demo: predicted before it was trained, and what came")
    for column in (
        *("seed", "predicted", "90 % interval", "width", "outcome", "inside"),
        *("error", "naive error", "|ours / naive|", "flagged", "seconds"),
    ):
        table.add_column(column, justify="right")
    inside, narrower, ratios = 0, 0, []
    for seed, told, outcome, flagged, seconds in rows:
        lower, upper, median = told.lower[-1], told.upper[-1], told.median[-1]
        holds, gap = lower <= outcome <= upper, abs(told.naive - outcome)
        inside, narrower = inside + holds, narrower + (upper - lower < gap)
        ratios.append(abs(median - outcome) / gap)
        table.add_row(
            str(seed),
            f"{median:.3f}",
            f"{lower:.3f} to {upper:.3f}",
            f"{upper - lower:.3f}",
            f"{outcome:.3f}",
            "yes" if holds else "NO",
            f"{median - outcome:+.3f}",
            f"{told.naive - outcome:+.3f}",
            f"{ratios[-1]:.2f}",
            ", ".join(flagged),
            f"{seconds:.0f}",
        )
    console.print(table)
    console.print(
        f"Inside: {inside} of {len(rows)}. Interval narrower than the naive guess is wrong: {narrower} of "
        f"{len(rows)}. Error over the naive guess's: median {np.median(ratios):.2f}, "
        f"{min(ratios):.2f} to {max(ratios):.2f}."
    )


if __name__ == "__main__":
    main()
