"""What published runs tell of a run of which nothing else is known: the table in `foretrain.runs.usual`.

    python benchmarks/usual_runs.py --data FOLDER

Of every set and size: the gain of a full decay and the exponent, fitted to each finished run that has decayed
its rate (median over runs and losses), and how far forecasts of its end from its first 25, 50 and 75 % missed
beyond their variance, as a share of the fall still to come (root mean square), without earlier runs.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from foretrain.runs.curve import RunCurve
from foretrain.runs.model import model_run
from schedule_curves import Run, load

SHARES = (0.25, 0.5, 0.75)


def told(run: Run) -> tuple[float, float]:
    """Gain of a full decay, as a share of the error at its end, and exponent of one finished run."""
    model = model_run(RunCurve.of(run.step, run.y, run.lr))
    gain, exponent = (model.shares @ model.fits.theta[:, i] for i in (3, 2))
    return float(np.exp(gain)), float(np.exp(exponent))


def missed(run: Run) -> list[float]:
    """Of forecasts of the run's end: squared error beyond the variance, over the squared fall."""
    whole, found = RunCurve.of(run.step, run.y, run.lr), []
    for share in SHARES:
        young = whole.until(share * whole.end)
        if young.done.size < 4:
            continue
        model = model_run(young)
        (mean,), (deviation,) = model.log_moments(run.step[-1:])
        fall = float(model.shares @ model.fits.theta[:, 0]) - mean
        variance = deviation**2 - (model.misfit * fall) ** 2
        found.append(min(max((np.log(run.y[-1]) - mean) ** 2 - variance, 0.0) / max(fall**2, 1e-6), 1.0))
    return found


def main() -> None:
    """Prints one row a set and size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the published runs")
    groups: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for name, runs in load(parser.parse_args().data).items():
        for run in runs:
            groups[name, f"{run.n_params / 1e6:.0f}M"].append(run)
    table = Table(title="Published runs, as `foretrain.runs.usual` holds them")
    for column in ("set", "size", "runs", "gain", "exponent", "misfit"):
        table.add_column(column, justify="right")
    for (name, size), runs in groups.items():
        decayed = [told(run) for run in runs if run.lr[-1] < 0.5 * run.lr.max()]
        gain, exponent = np.median(decayed, axis=0)
        excess = float(np.sqrt(np.mean([score for run in runs for score in missed(run)])))
        table.add_row(name, size, str(len(decayed)), f"{gain:.3f}", f"{exponent:.2f}", f"{excess:.2f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
