"""Published loss curves with the learning rate of every step, and which runs may tell of which.

Nothing is downloaded: `--data FOLDER` (or the environment variable FORETRAIN_DATA) names a folder with one
sub-folder per set. A set that is absent is said to be absent, and left out.

- `multipowerlaw`: 25M and 100M parameters under nine schedules each, Luo et al. 2025 (arXiv:2503.12811). The
  library of a run: the other schedules of its size that are constant or at most 33,000 steps long. The WSD
  runs branch off the constant one, so a library may hold the points of a run's first part.
- `olmo_ladder`: 190M and 370M parameters, cosine schedules of five lengths each, one run twice, eleven
  validation losses, Bhagia et al. 2024 (arXiv:2412.04403). The library of a run: the other lengths of its
  size, same loss; a rerun of the same length is left out with it.

The sets tell the rate where a loss was measured; in between it is put on straight lines, the warm-up on one
from zero. Between two records of which the rate jumps, it is held at the later one's.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

WARMUP, PEAK, LOWEST = 2160, 3e-4, 3e-5
"""Of `multipowerlaw`: steps of linear warm-up, all before the first record; highest and lowest rate."""
JUMP = 0.25
"""A rate that changes by more than this share between two records has jumped."""
LONGEST_LENT = 33_000
"""Steps of a run that is no constant one and may yet be in a library of `multipowerlaw`."""
SETS = ("multipowerlaw", "olmo_ladder")


@dataclass(frozen=True)
class Run:
    """One loss curve of one finished run.

    Attributes:
        group: Size, such as "25M": runs of one group and metric may tell of each other.
        metric: What was measured.
        schedule: Name of the schedule or length; runs of one schedule and group are repeats.
        name: Name of the run.
        n_params: Its model size.
        step: After which steps the metric was measured, shape (n,), rising.
        y: The metric there, shape (n,).
        lr: Rate of every step from the first to the last measured, shape (step[-1],).
        warmup: How many steps the warm-up has.
        cosine: Whether the rate falls along a cosine.
        lent: Whether it may be in a library.
    """

    group: str
    metric: str
    schedule: str
    name: str
    n_params: float
    step: np.ndarray
    y: np.ndarray
    lr: np.ndarray
    warmup: int
    cosine: bool
    lent: bool = True

    def until(self, share: float) -> np.ndarray:
        """Which points lie in that first share of the run, a mask of shape (n,)."""
        return self.step <= share * self.step[-1]

    def item(self) -> dict[str, object]:
        """The run as `forecast_run` takes it in a library."""
        return {"step": self.step, "y": self.y, "lr": self.lr, "n_params": self.n_params}


def library(run: Run, runs: Iterable[Run]) -> list[Run]:
    """The runs that may tell of one: same group and metric, lent, and no repeat of it."""
    return [
        other
        for other in runs
        if other.lent
        and (other.group, other.metric) == (run.group, run.metric)
        and other.schedule != run.schedule
    ]


def rate_of_every_step(step: np.ndarray, lr: np.ndarray, warmup: int, peak: float) -> np.ndarray:
    """The rates of steps 1 to the last record, from those at the records, shape (step[-1],).

    Args:
        step: Records, shape (n,), rising whole numbers.
        lr: Rates there, shape (n,).
        warmup: The step at which a straight line from zero reaches the peak.
        peak: The highest rate.
    """
    after = step > warmup
    at = np.concatenate([[0, warmup], step[after]]).astype(float)
    rate = np.concatenate([[0.0, peak], lr[after]])
    wanted = np.arange(1, int(step[-1]) + 1)
    found = np.interp(wanted, at, rate)
    for i in np.flatnonzero(np.abs(np.diff(rate[1:])) > JUMP * rate[1:-1]) + 1:
        found[(wanted > at[i]) & (wanted <= at[i + 1])] = rate[i + 1]
    return found


def warmup_of(records: Sequence[tuple[np.ndarray, np.ndarray]], peak: float) -> int:
    """Steps of a linear warm-up from zero, from the records of runs that share it.

    The steepest line from zero to any first record: one past the warm-up gives a flatter one.

    Args:
        records: Steps and rates of each run, each of shape (n,).
        peak: The highest rate.
    """
    return round(min(peak * step[0] / lr[0] for step, lr in records))


def as_trained(schedule: str) -> np.ndarray:
    """The rate of every step of a schedule of `multipowerlaw` by its formula, as its authors' fits take it.

    Their first index is step 0, with a rate of 0; ours is step 1.
    """
    kind, *numbers = schedule.split("_")
    total = 16_000 if kind == "wsdcon" else int(numbers[-1])
    step = np.arange(WARMUP, total)
    if kind == "cosine":
        after = LOWEST + 0.5 * (PEAK - LOWEST) * (1 + np.cos(np.pi * (step - WARMUP) / (total - WARMUP)))
    elif kind == "wsdcon":
        after = np.where(step < 8000, PEAK, 1e-5 * int(numbers[0]))
    else:
        begin = total if kind == "constant" else int(numbers[0])
        done = np.clip((step - begin) / max(total - begin, 1), 0, 1)
        after = PEAK ** (1 - done) * LOWEST**done if kind == "wsd" else PEAK + (LOWEST - PEAK) * done
    return np.concatenate([np.linspace(0, PEAK, WARMUP), after])[1:]


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def _grouped(rows: Iterable[dict[str, str]], *keys: str) -> dict[tuple[str, ...], list[dict[str, str]]]:
    groups = defaultdict(list)
    for row in rows:
        groups[tuple(row[key] for key in keys)].append(row)
    return dict(sorted(groups.items()))


def _column(rows: Iterable[dict[str, str]], name: str) -> np.ndarray:
    return np.array([float(row[name]) for row in rows])


def multipowerlaw(folder: Path) -> list[Run]:
    """18 runs: two sizes under nine schedules."""
    runs = []
    groups = _grouped(_rows(folder / "multipowerlaw" / "loss_curves.csv"), "model_M", "schedule")
    for (size, schedule), rows in groups.items():
        step, lr = _column(rows, "step").astype(int), _column(rows, "lr")
        runs.append(
            Run(
                group=f"{size}M",
                metric="loss",
                schedule=schedule,
                name=schedule,
                n_params=1e6 * float(size),
                step=step,
                y=_column(rows, "loss"),
                lr=rate_of_every_step(step, lr, WARMUP, lr.max()),
                warmup=WARMUP,
                cosine=schedule.startswith("cosine"),
                lent=schedule.startswith("constant") or step[-1] <= LONGEST_LENT,
            )
        )
    return runs


def olmo_ladder(folder: Path) -> list[Run]:
    """132 curves: two sizes, five lengths and a rerun of one, eleven losses."""
    groups = _grouped(_rows(folder / "olmo_ladder" / "val_loss_curves.csv"), "size", "run")
    records = {key: (_column(rows, "step").astype(int), _column(rows, "lr")) for key, rows in groups.items()}
    runs = []
    for (size, name), rows in groups.items():
        peak = float(rows[0]["lr_peak"])
        warmup = warmup_of([record for (of, _), record in records.items() if of == size], peak)
        step, lr = records[size, name]
        rates = rate_of_every_step(step, lr, warmup, peak)
        for metric in (column for column in rows[0] if column.startswith("loss_")):
            runs.append(
                Run(
                    group=size,
                    metric=metric.removeprefix("loss_"),
                    schedule=name.removesuffix("-rerun"),
                    name=name,
                    n_params=float(rows[0]["N"]),
                    step=step,
                    y=_column(rows, metric),
                    lr=rates,
                    warmup=warmup,
                    cosine=True,
                )
            )
    return runs


LOADERS = {"multipowerlaw": multipowerlaw, "olmo_ladder": olmo_ladder}


def load(folder: Path, sets: Sequence[str] = SETS) -> dict[str, list[Run]]:
    """The runs of each set that is in the folder.

    Raises:
        SystemExit: If none of them is there; the message says what was expected.
    """
    found = {}
    for name in sets:
        if (folder / name).is_dir():
            found[name] = LOADERS[name](folder)
        else:
            print(f"no {name} in {folder}: left out")
    if not found:
        raise SystemExit(f"Expected at least one of {', '.join(sets)} in {folder}: give --data their folder.")
    return found
