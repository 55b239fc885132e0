"""Repeated data: runs of many epochs from runs of at most four, and which runs over-fit.

    python benchmarks/repeated.py --data FOLDER

The folder holds `datablations` (Muennighoff et al. 2023). Errors are root mean squares of
ln(predicted / measured). A cell is all runs alike in parameters, data seen and unique data, at the mean of
their logarithms. Runs on deduplicated data are another selection and are left out, but in the column that
says so. Everything that is fitted is fitted to the cells of at most four epochs; where the table says so,
also to longer runs of the other groups, never to those of the group asked about. The form of the law
`memorization` was settled while looking at all cells; its two constants are of the literature, but were
looked up when fits to all cells had shown their size. The rows that leave groups out rest on neither.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from foretrain.families.repeated import best_epochs, past_best
from foretrain.families.repeated_model import CAPACITY, REPEATS, RepeatedModel, model_repeated
from foretrain.fitting import Fit, fit
from foretrain.laws import LAWS
from foretrain.projection import Forecast
from foretrain.status import FitStatus
from scores import Sheet, coverage, rmsle, share, short

FEW = 4.0
"""Epochs up to which runs are known."""

GUESS = float(np.log(50257))
"""Loss of guessing: the runs' tokenizer has so many tokens."""

TIED = {"E": np.exp(0.6254804), "A": np.exp(6.255414), "B": np.exp(7.3049974), "alpha": 0.3526596}
UNTIED = {"E": np.exp(0.6303), "A": np.exp(5.9577), "B": np.exp(7.9145), "alpha": 0.3348, "beta": 0.3829}
DECAY = {"R_D": 15.387756, "R_N": 5.309743}
"""The published constants, as in the authors' code."""

RATES = (15.4, 70.0, REPEATS, 300.0)
"""Repeats that are tried beside those of the literature; the first is R_D."""

LEVELS = (0.8, 0.9)

Predict = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Runs:
    """Finished runs.

    Attributes:
        x: Parameters, data seen and unique data, shape (3, m).
        y: Final validation loss in nats, shape (m,).
    """

    x: np.ndarray
    y: np.ndarray

    @property
    def epochs(self) -> np.ndarray:
        """Data seen over unique data, shape (m,)."""
        return self.x[1] / self.x[2]

    def take(self, where: np.ndarray) -> Runs:
        """Some of them."""
        return Runs(self.x[:, where], self.y[where])

    def cells(self) -> Runs:
        """One for each place, at the mean of the logarithms."""
        x, member = np.unique(self.x, axis=1, return_inverse=True)
        member = member.ravel()
        return Runs(x, np.exp(np.bincount(member, weights=np.log(self.y)) / np.bincount(member)))


def together(one: Runs, other: Runs) -> Runs:
    """Both."""
    return Runs(np.concatenate([one.x, other.x], axis=1), np.concatenate([one.y, other.y]))


def load(folder: Path, *, dedup: str) -> Runs:
    """The published runs with a loss, on deduplicated data ("1") or not ("0")."""
    path = folder / "datablations" / "data_constrained_runs.csv"
    if not path.is_file():
        raise SystemExit(f"Expected {path}: give --data, or set FORETRAIN_DATA, to a folder that has it.")
    with path.open() as file:
        rows = [row for row in csv.DictReader(file) if row["val_loss"] and row["dedup"] == dedup]
    names = ("N", "D_tokens", "U_unique_tokens", "val_loss")
    n, d, u, y = (np.array([float(row[name]) for row in rows]) for name in names)
    return Runs(np.stack([n, d, u]), y)


def published(x: np.ndarray, constants: dict[str, float] = TIED, *, effective: bool = True) -> np.ndarray:
    """The published law; without effective amounts it is Chinchilla's in all that was seen."""
    whole = {"beta": constants["alpha"], **constants, **DECAY}
    law = LAWS["repeated_data" if effective else "chinchilla"]
    theta = np.array([whole[parameter.name] for parameter in law.parameters])
    return law.value(x[: law.n_axes], theta)


def known_to(runs: Runs) -> Runs:
    """The cells of at most four epochs."""
    return runs.take(runs.epochs <= FEW).cells()


def model_of(runs: Runs) -> RepeatedModel:
    """Our model of some runs."""
    return model_repeated(*runs.x, runs.y, random_guess=GUESS)


def nearest(known: Runs) -> Predict:
    """The loss of the known cell nearest in the three logarithms: no law at all."""

    def predict(x: np.ndarray) -> np.ndarray:
        apart = ((np.log(known.x)[:, :, None] - np.log(x)[:, None]) ** 2).sum(axis=0)
        return known.y[np.argmin(apart, axis=0)]

    return predict


def by_law(name: str, known: Runs, **fixed: float) -> Predict:
    """A law fitted to the known cells by `foretrain.fit`."""
    return fit(name, known.x, known.y, fixed=fixed).predict


def reference_table(runs: Runs, markdown: bool) -> None:
    """What the published law leaves on the runs of at most four epochs, by what is taken for it."""
    few = runs.take(runs.epochs <= FEW)
    sheet = Sheet(
        f"the published law on the {few.y.size} runs of at most four epochs",
        ("what is taken for it", "error"),
    )
    for told, constants in (("alpha = beta", TIED), ("alpha and beta apart", UNTIED)):
        for amounts, effective in (("effective N and D", True), ("N and D as they are", False)):
            error = rmsle(published(few.x, constants, effective=effective), few.y)
            sheet.add(f"constants with {told}, {amounts}", short(error))
    sheet.show(markdown=markdown)


def grouped(runs: Runs, axis: int) -> Forecast:
    """The forecast of each cell beyond four epochs, the longer runs of its group left out."""
    known, far = runs.take(runs.epochs <= FEW), runs.take(runs.epochs > FEW)
    cells = far.cells()
    told = np.zeros((1 + 2 * len(LEVELS), cells.y.size))
    for name in np.unique(cells.x[axis]):
        others, own = far.take(far.x[axis] != name), cells.x[axis] == name
        answer = model_of(together(known, others)).forecast(*cells.x[:, own], levels=LEVELS)
        told[:, own] = [answer.median, *answer.lower.values(), *answer.upper.values()]
    lower, upper = told[1 : 1 + len(LEVELS)], told[1 + len(LEVELS) :]
    ends = (dict(zip(LEVELS, part, strict=True)) for part in (lower, upper))
    return Forecast(told[0], *ends, status=FitStatus.OK)


def learned(runs: Runs, axis: int) -> np.ndarray:
    """The same without the literature: both constants from the other groups alone, then the known cells."""
    known, far = known_to(runs), runs.take(runs.epochs > FEW).cells()
    median = np.zeros(far.y.size)
    for name in np.unique(far.x[axis]):
        own = far.x[axis] == name
        both = together(known, far.take(~own))
        constants = fit("memorization", both.x, both.y, fixed={"L0": GUESS}).parameters
        given = {parameter: constants[parameter] for parameter in ("L0", "M", "R_M")}
        median[own] = by_law("memorization", known, **given)(far.x[:, own])
    return median


def intervals(answer: Forecast, y: np.ndarray) -> list[str]:
    """Coverage of the nominal 80 and 90 %, and the median width of the latter."""
    held = [share(coverage(answer.lower[level], answer.upper[level], y)) for level in LEVELS]
    return [*held, share(float(np.median(np.log(answer.upper[0.9] / answer.lower[0.9]))))]


def final_table(runs: Runs, dedup: Runs, markdown: bool) -> None:
    """The finals of the runs beyond four epochs."""
    known, far = known_to(runs), runs.take(runs.epochs > FEW)
    cells = far.cells()
    every = together(cells, dedup.cells())
    rose = risen(runs.cells(), cells)
    base = rmsle(published(cells.x), cells.y)
    sheet = Sheet(
        f"final loss beyond four epochs, from {known.y.size} cells of at most four",
        (
            *("", f"{cells.y.size} cells", "ratio", f"{rose.sum()} that rose", "the others", "bias"),
            *(f"{far.y.size} runs", "with dedup.", "80 %", "90 %", "width"),
        ),
    )

    def row(name: str, median: np.ndarray, *rest: str) -> None:
        off = [rmsle(median, cells.y), rmsle(median, cells.y) / base]
        off += [rmsle(median[part], cells.y[part]) for part in (rose, ~rose)]
        sheet.add(name, *map(short, off), f"{float(np.log(median / cells.y).mean()):+.3f}", *rest)

    def law(name: str, predict: Predict, told: Sequence[str] = ("-", "-", "-")) -> None:
        other = (short(rmsle(predict(some.x), some.y)) for some in (far, every))
        row(name, predict(cells.x), *other, *told)

    law("published law, published constants", published)
    law("nearest known cell", nearest(known))
    law("published law refitted, R_D and R_N published", by_law("repeated_data", known, **DECAY))
    law("lovelace refitted", by_law("lovelace", known))
    given = {"L0": GUESS, "M": CAPACITY, "R_M": REPEATS}
    law("memorization, constants of the literature", by_law("memorization", known, **given))
    model = model_of(known)
    told = intervals(model.forecast(*cells.x, levels=LEVELS), cells.y)
    law("**model_repeated**", lambda x: model.forecast(*x).median, told)
    for told_by, axis in (("unique data", 2), ("size", 0)):
        answer = grouped(runs, axis)
        held = intervals(answer, cells.y)
        row(f"and with longer runs, of other groups by {told_by}", answer.median, "-", "-", *held)
        alone = f"constants from longer runs, of other groups by {told_by}, alone"
        row(alone, learned(runs, axis), *"-----")
    sheet.show(markdown=markdown)


def constants_table(runs: Runs, markdown: bool) -> None:
    """What other constants would have done, with the base fitted to the same cells."""
    known, cells = known_to(runs), runs.take(runs.epochs > FEW).cells()
    sheet = Sheet(
        "error by the two constants, held fixed", ("nats a parameter", *(f"R_M {v:.0f}" for v in RATES))
    )
    for capacity in (0.5, 1.0, CAPACITY, 2.0, 3.6 * np.log(2.0)):
        cells_of = []
        for rate in RATES:
            predict = by_law("memorization", known, L0=GUESS, M=capacity, R_M=rate)
            cells_of.append(short(rmsle(predict(cells.x), cells.y)))
        sheet.add(f"{capacity:.2f}", *cells_of)
    sheet.show(markdown=markdown)


def risen(runs: Runs, cells: Runs, margin: float = 0.0) -> np.ndarray:
    """Which cells ended more than a margin above a shorter run of the same size and unique data."""
    return np.array([rise(runs, x, y) > margin for x, y in zip(cells.x.T, cells.y, strict=True)])


def rise(runs: Runs, x: np.ndarray, y: float) -> float:
    """How far a run ended above the best shorter one of the same size and unique data; nan without one."""
    shorter = (runs.x[0] == x[0]) & (runs.x[2] == x[2]) & (runs.x[1] < x[1])
    return float(y - runs.y[shorter].min()) if shorter.any() else float("nan")


def overfit_table(runs: Runs, markdown: bool) -> None:
    """Of the cells with a shorter one beside them, which are told to have ended higher."""
    known, every = known_to(runs), runs.cells()
    cells = every.take(every.epochs > FEW)
    sheet = Sheet(
        "runs that ended higher than a shorter one of the same size and data",
        ("", "margin", "higher", "recognised", "not higher", "false alarms", "past their best, by the law"),
    )
    laws: dict[str, Fit | None] = {
        "model_repeated": model_of(known).fit,
        "lovelace refitted": fit("lovelace", known.x, known.y),
        "published law": None,
    }
    for margin in (0.0, 0.01, 0.026):
        true = np.array([rise(every, x, y) for x, y in zip(cells.x.T, cells.y, strict=True)])
        asked = np.abs(np.nan_to_num(true)) > margin
        for name, law in laws.items():
            predict = published if law is None else law.predict
            whole = Runs(every.x, predict(every.x))
            told = np.array([rise(whole, x, predict(x[:, None])[0]) for x in cells.x.T]) > 0
            higher = asked & (true > 0)
            lower = asked & (true < 0)
            past = np.zeros(cells.y.size, dtype=bool) if law is None else past_best(law, *cells.x)
            sheet.add(
                name,
                f"{margin:g}",
                str(higher.sum()),
                str((told & higher).sum()),
                str(lower.sum()),
                str((told & lower).sum()),
                f"{(past & higher).sum()} and {(past & lower).sum()}",
            )
    sheet.show(markdown=markdown)


def best_table(runs: Runs, markdown: bool) -> None:
    """Where several lengths were trained and one in between is best: the law's best number of epochs."""
    law, every = model_of(known_to(runs)).fit, runs.cells()
    sheet = Sheet(
        "the best number of epochs, where a length in between was best",
        ("parameters, unique data", "neighbours of the best", "best", "by the law", "loss", "by the law"),
    )
    for n, u in sorted({(n, u) for n, _, u in every.x.T}):
        own = every.take((every.x[0] == n) & (every.x[2] == u))
        order = np.argsort(own.epochs)
        epochs, y = own.epochs[order], own.y[order]
        i = int(np.argmin(y))
        if 0 < i < y.size - 1:
            told = best_epochs(law, n, u, most=epochs[-1])
            between = f"{epochs[i - 1]:.0f} to {epochs[i + 1]:.0f}"
            sheet.add(
                f"{n / 1e6:.0f}M, {u / 1e6:.0f}M",
                between,
                f"{epochs[i]:.0f}",
                f"{float(told.epochs):.0f}",
                f"{y[i]:.3f}",
                f"{float(told.loss):.3f}",
            )
    sheet.show(markdown=markdown)


def main() -> None:
    """Prints all tables."""
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
    folder, markdown = Path(told.data), told.markdown
    runs, dedup = load(folder, dedup="0"), load(folder, dedup="1")
    reference_table(runs, markdown)
    final_table(runs, dedup, markdown)
    constants_table(runs, markdown)
    overfit_table(runs, markdown)
    best_table(runs, markdown)


if __name__ == "__main__":
    main()
