"""LeCun et al. 1989 revisited: 33 years of recipes on the same small network, and what more data would give.

    python examples/lecun1989_study.py [--workers 2] [--data zip_digits.npz] [--picture lecun1989.png]

The network of 9,760 parameters is trained on 16x16 digits as in 1989, then with what has been learned since,
one step at a time (Karpathy 2022). The first and the last recipe are trained on nested shards of the
training set, too, which every seed draws anew: the law of the shards up to a quarter says what the full set
gives, which is then checked, and what ten times the data would give at the same cost of inference. The last
recipe is trained at four widths on a sixteenth, too: their law says what a larger model would give there.
Interrupted, it goes on where it was when it is run again.

Needs a file with the 16x16 zip-code digits (`x_train`, `y_train`, `x_test`, `y_test` as numpy arrays);
without one it takes scikit-learn's 8x8 digits, enlarged, which are not what the paper had. matplotlib for the
picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from foretrain.error_sources import error_change, error_std, two_point_exponent
from foretrain.hestness.law import ErrorLaw, fit_error_law
from foretrain.study import StudyOutcome, run_study
from foretrain.study.points import Point
from lecun1989_recipes import FIRST, LADDER, LAST, read_digits, train
from study_command import run_command

STUDY = "lecun1989"
SEEDS, FEW_SEEDS, MORE_SEEDS = (0, 1, 2), (0, 1), (0, 1, 2, 3, 4)
SHARES = (32, 16, 8, 4)
WIDTHS, SIZED_ON = (0.25, 0.5, 1, 2), 16
"""Widths whose law is fitted, and the share of the training set that they have."""


def make_points(path: str | None, *, small: bool = False) -> list[Point]:
    """The points of the study: the ladder, shards of its ends, and the last recipe at other widths.

    The longest come first, so that no worker is left with one at the end.
    """
    whole = len(read_digits(path)[1])
    if small:
        shared: dict[str, Any] = {"path": path, "length": 0.05}
        cells = [(1, whole // share, FIRST) for share in (*SHARES, 1)] + [(1, whole, LAST)]
        cells += [(width, whole // SIZED_ON, LAST) for width in WIDTHS]
        return [Point(wide, data, 0, {"recipe": recipe, **shared}) for wide, data, recipe in cells]
    planned = [(1, whole, name, SEEDS) for name in (LAST, "shifts")]
    planned += [(1, whole, "AdamW", FEW_SEEDS), (1, whole // SHARES[-1], LAST, SEEDS)]
    planned += [(1, whole, FIRST, SEEDS), (1, whole, "softmax", FEW_SEEDS)]
    planned += [(1, whole // share, LAST, SEEDS) for share in SHARES[:-1]]
    planned += [(wide, whole // SIZED_ON, LAST, SEEDS) for wide in WIDTHS if wide != 1]
    planned += [(1, whole // share, FIRST, MORE_SEEDS) for share in reversed(SHARES)]
    return [
        Point(wide, data, seed, {"recipe": recipe, "path": path, "length": 1})
        for wide, data, recipe, seeds in planned
        for seed in seeds
    ]


@dataclass(frozen=True)
class Revisited:
    """What the runs say.

    Attributes:
        errors: Test errors of the last pass, by width, shard and recipe, one for each seed.
        params: Parameters of each width.
        laws: Of the first and the last recipe by data, from the shards up to a quarter; missing where there
            are few.
        sizes: Of the last recipe by parameters, on a sixteenth of the data; None where there are few.
        whole: Training examples in all.
        items: Test examples.
        digits: Which digits these are.
    """

    errors: Mapping[tuple[float, int, str], tuple[float, ...]]
    params: Mapping[float, int]
    laws: Mapping[str, ErrorLaw]
    sizes: ErrorLaw | None
    whole: int
    items: int
    digits: str


def run(
    root: str | Path, executor: Any = None, *, path: str | None = None, small: bool = False
) -> tuple[StudyOutcome, Revisited]:
    """Trains what is not trained yet, and says what all runs tell together."""
    points = make_points(path, small=small)
    outcome = run_study(train, points, executor, root=root, study=STUDY)
    records, params = outcome.read().runs, dict[float, int]()
    errors = dict[tuple[float, int, str], tuple[float, ...]]()
    for point in points:
        if point.run in records and records[point.run].state == "finished":
            cell = (point.size, int(point.data), point.options["recipe"])
            last = records[point.run].observations[-1]  # not the lowest: the test set chooses nothing
            errors[cell] = (*errors.get(cell, ()), last.value)
            params[point.size] = int(last.counts.params or 0)
    _, labels, _, test_labels = read_digits(path)
    whole = len(labels)
    laws = {name: _law(_shards(errors, name, whole // 4)) for name in (FIRST, LAST)}
    on_a_sixteenth = {
        params[wide]: float(np.median(seeds))
        for (wide, data, recipe), seeds in errors.items()
        if (data, recipe) == (whole // SIZED_ON, LAST)
    }
    return outcome, Revisited(
        errors=errors,
        params=params,
        laws={name: law for name, law in laws.items() if law is not None},
        sizes=_law(on_a_sixteenth),
        whole=whole,
        items=len(test_labels),
        digits="digits of " + ("scikit-learn, enlarged to 16x16" if path is None else Path(path).name),
    )


def _shards(
    errors: Mapping[tuple[float, int, str], tuple[float, ...]], name: str, largest: int
) -> dict[int, float]:
    """Median of the seeds' errors of one recipe by the size of its shard."""
    shards = {data: seeds for (wide, data, recipe), seeds in errors.items() if (wide, recipe) == (1, name)}
    return {data: float(np.median(seeds)) for data, seeds in sorted(shards.items()) if data <= largest}


def _law(medians: Mapping[int, float]) -> ErrorLaw | None:
    """The law of errors, where none is zero and there are enough."""
    enough = len(medians) >= 4 and all(error > 0 for error in medians.values())
    return fit_error_law(list(medians), list(medians.values())) if enough else None


def _rungs(told: Revisited) -> list[tuple[str, tuple[float, ...]]]:
    """Recipe and errors of what was trained on all the data, in the order of the ladder."""
    cells = [(name, told.errors.get((1, told.whole, name), ())) for name in LADDER]
    return [(name, seeds) for name, seeds in cells if seeds]


def show(told: Revisited, console: Console) -> None:
    """The ladder, the laws and what they held, ten times the data, and the larger model."""
    whole, items = told.whole, told.items
    table = Table(title=f"Test error on {items:,} {told.digits}, after training on {whole:,}")
    for column in ("recipe", "mean error", "seeds", "luck of the test set", "less than 1989 (90 %)"):
        table.add_column(column, justify="right")
    base = told.errors.get((1, whole, FIRST), ())
    for name, seeds in _rungs(told):
        mean = float(np.mean(seeds))
        change = error_change(base, seeds, items)
        table.add_row(
            *(name, f"{mean:.2%}", ", ".join(f"{seed:.2%}" for seed in seeds)),
            f"+- {error_std(mean, items):.2%}",
            f"{change.median:.0%} ({change.lower:.0%} to {change.upper:.0%})" if name != FIRST else "",
        )
    console.print(table)
    for name, law in told.laws.items():
        ahead, alpha = law.predict(float(whole)), law.parameter("alpha")
        came = float(np.median(told.errors[1, whole, name]))
        held = "holds" if ahead.lower <= came <= ahead.upper else "does not hold"
        console.print(
            f"{name}: from {len(law.data)} shards up to {law.data[-1]:,.0f}, exponent {alpha.median:.2f} "
            f"({alpha.lower:.2f} to {alpha.upper:.2f}); foreseen at {whole:,}: {ahead.median:.2%} "
            f"({ahead.lower:.2%} to {ahead.upper:.2%}), came {came:.2%}: the interval {held} it."
        )
    for name in told.laws:
        law = _law(_shards(told.errors, name, whole))
        if law is not None:
            more = law.predict(10.0 * whole)
            console.print(
                f"{name}: ten times the data would give {more.median:.2%} ({more.lower:.2%} to "
                f"{more.upper:.2%}) at the same cost of inference, by the law of all shards."
            )
    _show_sizes(told, console)
    base, modern = (
        two_point_exponent([7291, 50000], pair, 2007) for pair in ((0.0409, 0.0274), (0.0159, 0.0125))
    )
    console.print(
        f"Published, from 7,291 to 50,000 digits: exponents {base.exponent:.3f} +- {base.std:.3f} (1989) "
        f"and {modern.exponent:.3f} +- {modern.std:.3f} (modern): were they the same, a difference as large "
        f"would come in {base.p_same(modern):.0%} of such test sets."
    )


def _show_sizes(told: Revisited, console: Console) -> None:
    """What a larger model would give, by the law of sizes."""
    if told.sizes is not None:
        law, most = told.sizes, 10.0 * told.params[1]
        alpha, larger = law.parameter("alpha"), law.predict(most)
        measured = ", ".join(
            f"{error:.2%} of {size:,.0f}" for size, error in zip(law.data, law.error, strict=True)
        )
        console.print(
            f"{LAST}, on {told.whole // SIZED_ON:,} digits: errors {measured} parameters; exponent of size "
            f"{alpha.median:.2f} ({alpha.lower:.2f} to {alpha.upper:.2f}); ten times the network of 1989 "
            f"would give {larger.median:.2%} ({larger.lower:.2%} to {larger.upper:.2%})."
        )


def draw(told: Revisited, path: Path) -> None:
    """The ladder, and the laws with what came."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    full = _rungs(told)
    for place, (_, seeds) in enumerate(full):
        mean = float(np.mean(seeds))
        left.bar(place, mean, color="#9db4c8")
        left.errorbar(place, mean, 1.645 * error_std(mean, told.items), color="k", capsize=3)
        left.plot([place] * len(seeds), seeds, "k.", ms=4)
    left.set_xticks(range(len(full)), [name for name, _ in full], fontsize=8)
    left.set(ylabel="test error", title="33 years of recipes, one step at a time")
    for name, law in told.laws.items():
        shards = _shards(told.errors, name, told.whole)
        ahead = np.geomspace(law.data.min(), 10 * told.whole, 50)
        bands = [law.predict(float(m)) for m in ahead]
        (line,) = right.plot(ahead, [b.median for b in bands], label=f"law of {name}, up to a quarter")
        lower, upper = ([getattr(band, end) for band in bands] for end in ("lower", "upper"))
        right.fill_between(ahead, lower, upper, alpha=0.15, lw=0, color=line.get_color())
        right.plot(list(shards), list(shards.values()), "o", mfc="none", color=line.get_color())
    right.set(xscale="log", yscale="log", xlabel="training digits", ylabel="test error", ylim=(3e-3, 0.6))
    if told.laws:
        right.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


if __name__ == "__main__":
    run_command(
        __doc__,
        "lecun1989_runs",
        run,
        show,
        draw,
        data="the zip-code digits as an .npz file; by default scikit-learn's, enlarged",
    )
