"""Curves past their minimum: how often `foretrain.forecasting.upturn` says so, wrongly and rightly.

    python benchmarks/upturns.py --data FOLDER

The folder holds `olmo_ladder` and `multipowerlaw`, whose runs see their data once: none is past its minimum.
The simulated curves have autocorrelated noise of 1 % of the error; those that rise have their minimum about
half of the way, and end 3 or 9 % above it.
"""

from __future__ import annotations

import argparse
import csv
import os
from pathlib import Path

import numpy as np
from scipy.signal import lfilter

from foretrain.forecasting.upturn import upturn
from scores import Sheet, share

SEEDS = 400


def simulated_table(markdown: bool) -> None:
    """How often simulated curves are called past their minimum."""
    sheet = Sheet(
        f"called past the minimum, share of {SEEDS} simulated curves with noise of 1 %",
        ("evaluations", "rho", "flat", "power law", "flat, heavy tails", "rises by 3 %", "rises by 9 %"),
    )
    for n in (20, 50, 200, 1000):
        for rho in (0.0, 0.3, 0.6):
            x = np.linspace(0.02, 2.0, n)
            falls = np.log(3 + 0.1 / (x + 0.05))
            shapes = [(0 * x, False), (-0.3 * np.log(x), False), (0 * x, True)]
            shapes += [(falls + size * np.maximum(x - 1, 0) ** 2, False) for size in (0.0413, 0.0995)]
            shares = [
                np.mean([upturn(x, np.exp(f + noise(s, n, 0.01, rho, t))).past for s in range(SEEDS)])
                for f, t in shapes
            ]
            sheet.add(str(n), f"{rho:g}", *(share(float(value)) for value in shares))
    sheet.show(markdown=markdown)


def published_table(folder: Path, markdown: bool) -> None:
    """How often published curves are, that see their data once."""
    sheet = Sheet("published runs that see their data once", ("", "curves", "called past their minimum"))
    for name, keys, axis in (
        ("olmo_ladder/val_loss_curves.csv", ("run",), "tokens"),
        ("multipowerlaw/loss_curves.csv", ("model_M", "schedule"), "step"),
    ):
        path = folder / name
        if not path.is_file():
            print(f"no {path}: left out")
            continue
        with path.open() as file:
            rows = list(csv.DictReader(file))
        called = []
        for run in sorted({tuple(row[key] for key in keys) for row in rows}):
            own = [row for row in rows if tuple(row[key] for key in keys) == run]
            for loss in (column for column in rows[0] if column.split("_")[0] == "loss"):
                points = sorted(
                    (float(r[axis]), float(r[loss])) for r in own if r[loss] and float(r[axis]) > 0
                )
                called.append(upturn(*np.array(points).T).past)
        sheet.add(name.split("/")[0], str(len(called)), str(sum(called)))
    sheet.show(markdown=markdown)


def noise(seed: int, n: int, sd: float, rho: float, heavy: bool) -> np.ndarray:
    """A stationary first-order autoregression of standard deviation `sd`; heavy: Student's t3 shocks."""
    rng = np.random.default_rng(seed)
    shocks = rng.standard_t(3, n + 100) / np.sqrt(3) if heavy else rng.normal(size=n + 100)
    return sd * lfilter([np.sqrt(1 - rho**2)], [1, -rho], shocks)[100:]


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    home = os.environ.get("FORETRAIN_DATA")
    parser.add_argument(
        "--data",
        type=Path,
        required=home is None,
        default=home,
        help="folder that holds the sets, one sub-folder each (default: FORETRAIN_DATA)",
    )
    parser.add_argument("--markdown", action="store_true", help="print tables to paste")
    told = parser.parse_args()
    simulated_table(told.markdown)
    published_table(Path(told.data), told.markdown)


if __name__ == "__main__":
    main()
