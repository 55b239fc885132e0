"""How often the link from a loss to a downstream metric holds what it says, on simulated tasks.

    python benchmarks/downstream.py

Each task is a sigmoid of the loss with normal noise, measured on models of random losses between 1.8 and 3.5;
its slope, middle and best accuracy are drawn, too. Then accuracies at lower losses are foretold. A minute.
"""

from __future__ import annotations

import argparse

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from foretrain.downstream import LinkDoubt, fit_link

CHANCE, NOISE, LOW, HIGH = 0.25, 0.01, 1.8, 3.5
ASKED = (1.7, 1.6, 1.4)


def main() -> None:
    """Prints the shares held, and how often tasks are called unrelated to the loss."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=60)
    parser.add_argument("--models", type=int, default=20)
    args = parser.parse_args()
    held = np.zeros(len(ASKED))
    width = np.zeros(len(ASKED))
    unrelated = {"sigmoids": 0, "tasks at chance": 0}
    for seed in track(range(args.tasks), "Fitting", console=Console(stderr=True)):
        rng = np.random.default_rng(seed)
        loss = rng.uniform(LOW, HIGH, args.models)
        slope, middle, best = rng.uniform(2, 6), rng.uniform(1.4, 2.4), rng.uniform(0.7, 1)

        def truth(at: np.ndarray, slope: float = slope, middle: float = middle, best: float = best):
            return best + (CHANCE - best) / (1 + np.exp(-slope * (at - middle)))

        noise = rng.normal(0, NOISE, args.models)
        link = fit_link(loss, np.clip(truth(loss) + noise, 0, 1), chance=CHANCE if seed % 2 else None)
        unrelated["sigmoids"] += LinkDoubt.UNRELATED in link.doubts
        unrelated["tasks at chance"] += LinkDoubt.UNRELATED in fit_link(loss, CHANCE + noise).doubts
        for place, at in enumerate(ASKED):
            came, told = float(np.clip(truth(np.array(at)) + rng.normal(0, NOISE), 0, 1)), link.predict(at)
            held[place] += told.lower <= came <= told.upper
            width[place] += told.upper - told.lower
    table = Table(title=f"{args.tasks} tasks of {args.models} models: 90 % intervals")
    for column in ("loss", "held", "mean width"):
        table.add_column(column, justify="right")
    for at, share, wide in zip(ASKED, held / args.tasks, width / args.tasks, strict=True):
        table.add_row(f"{at:g}", f"{share:.2f}", f"{wide:.3f}")
    console = Console()
    console.print(table)
    for name, count in unrelated.items():
        console.print(f"{name}: {count} of {args.tasks} are called unrelated to the loss.")


if __name__ == "__main__":
    main()
