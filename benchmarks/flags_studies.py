"""Healthy studies of several sizes: how many runs raise a flag beside those that had finished before.

Each study has four to six sizes, a factor of 2 or 4 apart, from one seed or from three, under a cosine or a
constant rate; half of them train larger sizes for longer. The errors are those of `benchmarks/decisions.py`'s
kind: a floor and two power laws, a seed effect for each run, noise that is autocorrelated along it, and what
a decay of the rate gains. Every run is replayed as foretrain does live, beside what was there when it began.

    python benchmarks/flags_studies.py [--studies 200] [--seed 1]
"""

from __future__ import annotations

import argparse
from collections import Counter

import numpy as np
from rich.console import Console
from rich.progress import track

from flags import interval
from foretrain.axes import Counts
from foretrain.observation import Observation, RunInfo, RunRecord
from foretrain.run_flags import FlagBook
from foretrain.schedule import Schedule
from scores import Sheet

SMALLEST, BATCH, WARMUP = 1e6, 32, 50
GAIN = 0.03
"""What a full decay of the rate takes off ln of the error."""

METRIC = "val_loss"


def draw_study(rng: np.random.Generator, seeds: int) -> dict[str, RunRecord]:
    """The runs of a study in the order in which they were trained."""
    alpha, beta = rng.uniform(0.25, 0.45, 2)
    floor, by_size, by_data = rng.uniform(0.3, 2.2), *rng.uniform(0.3, 1.5, 2)
    sizes = SMALLEST * float(rng.choice([2, 4])) ** np.arange(rng.integers(4, 7))
    decays, longer = rng.random() < 0.5, rng.random() < 0.5
    run_noise, point_noise, related = (
        rng.uniform(0.002, 0.008),
        rng.uniform(0.002, 0.006),
        rng.uniform(0, 0.8),
    )
    steps, validations = int(rng.choice([1000, 2000])), int(rng.choice([25, 50, 100]))
    runs: dict[str, RunRecord] = {}
    clock = 0
    for size in sizes:
        total = int(steps * (size / SMALLEST) ** (0.3 if longer else 0.0))
        at = np.linspace(total / validations, total, validations).astype(int)
        lr = np.minimum(np.arange(1, total + 1) / WARMUP, 1.0)
        if decays:
            lr *= 0.55 + 0.45 * np.cos(np.pi * np.arange(total) / total)
        level = floor + by_size * (size / SMALLEST) ** -alpha
        level = (level + by_data * (np.cumsum(lr)[at - 1] / 1000) ** -beta) * np.exp(GAIN * (lr[at - 1] - 1))
        for seed in range(seeds):
            noise = rng.normal(0, 1, at.size)
            for i in range(1, at.size):
                noise[i] = related * noise[i - 1] + np.sqrt(1 - related**2) * noise[i]
            name = f"{size:g} {seed}"
            y = level * np.exp(run_noise * rng.normal() + point_noise * noise)
            observations = tuple(
                Observation(
                    name,
                    METRIC,
                    float(value),
                    Counts(BATCH * int(step), int(step), params=int(size)),
                    lr=float(lr[step - 1]),
                    time=float(clock + step),
                )
                for step, value in zip(at, y, strict=True)
            )
            clock += 2 * total
            info = RunInfo(name, planned=Counts(BATCH * total, total, params=int(size)))
            runs[name] = RunRecord(
                info, observations, "finished", schedule=Schedule.from_rates(lr), schedule_used_until=total
            )
    return runs


def main() -> None:
    """Draws studies, replays their runs and prints how many were flagged."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--markdown", action="store_true", help="print the table to paste")
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    count, flagged, kinds = Counter[int](), Counter[int](), Counter[tuple[int, str]]()
    for number in track(range(args.studies), description="studies", console=Console(stderr=True)):
        seeds = (1, 3)[number % 2]
        runs, book = draw_study(rng, seeds), FlagBook()
        for name in runs:
            raised = {flag.kind.value for flag in book.flags(runs, name, METRIC)}
            count[seeds] += 1
            flagged[seeds] += bool(raised)
            kinds.update((seeds, kind) for kind in raised)
    sheet = Sheet("healthy runs of studies: flagged, %", ("runs of a size", "runs", "flagged", "kinds"))
    for seeds in sorted(count):
        told = ", ".join(f"{kind} {n}" for (of, kind), n in sorted(kinds.items()) if of == seeds)
        sheet.add(str(seeds), str(count[seeds]), interval(flagged[seeds], count[seeds]), told or "-")
    sheet.show(markdown=args.markdown)


if __name__ == "__main__":
    main()
