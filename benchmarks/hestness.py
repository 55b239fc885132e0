"""How often the intervals of the generalization-error law hold what comes, in simulated studies.

    python benchmarks/hestness.py [--trials 200]

A study has 4 to 8 shards, each twice the one before; its errors follow `E + A m^-alpha` with a floor E
of 0, 30 or 60 % of the last error and log-normal noise of 2 or 8 %. Asked are a new measurement at 4 and
at 16 times the data, the exponent, and the data needed for the error at 4 times the data.
"""

from __future__ import annotations

import argparse
import itertools

import numpy as np
from rich.console import Console
from rich.table import Table

from foretrain.hestness.law import Estimate, fit_error_law

SHARDS, FLOORS, NOISES = (4, 5, 6, 8), (0.0, 0.3, 0.6), (0.02, 0.08)
ASKED = ("at 4x", "at 16x", "exponent", "data for target")


def trial(rng: np.random.Generator, shards: int, floor: float, noise: float) -> list[bool]:
    """Whether each 90 % interval of one simulated study holds what it is about."""
    data = 1000.0 * 2.0 ** np.arange(shards)
    exponent = rng.uniform(0.15, 0.5)

    def truth(m: float | np.ndarray) -> float | np.ndarray:
        return floor / (1 - floor) + (m / data[-1]) ** -exponent

    law = fit_error_law(data, truth(data) * np.exp(rng.normal(0, noise, shards)))
    far = [4 * data[-1], 16 * data[-1]]
    came = [truth(m) * np.exp(rng.normal(0, noise)) for m in far]
    told = [law.predict(m) for m in far]
    told += [law.parameter("alpha"), Estimate.of(law.data_for(truth(far[0])), 0.9)]
    return [t.lower <= value <= t.upper for t, value in zip(told, [*came, exponent, far[0]], strict=True)]


def main() -> None:
    """Prints the share of intervals that held, by kind of study."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=200)
    trials = parser.parse_args().trials
    rng = np.random.default_rng(0)
    table = Table(title=f"90 % intervals that held, of {trials} studies each")
    for column in ("shards", "floor", "noise", *ASKED):
        table.add_column(column, justify="right")
    shares = []
    for shards, floor, noise in itertools.product(SHARDS, FLOORS, NOISES):
        held = np.mean([trial(rng, shards, floor, noise) for _ in range(trials)], axis=0)
        shares.append(held)
        table.add_row(str(shards), f"{floor:g}", f"{noise:g}", *(f"{share:.1%}" for share in held))
    table.add_row("all", "", "", *(f"{share:.1%}" for share in np.mean(shares, axis=0)))
    Console().print(table)
    print(f"{np.min(shares):.1%} to {np.max(shares):.1%}, on average {np.mean(shares):.1%}")


if __name__ == "__main__":
    main()
