"""LeCun et al. 1989 revisited: 33 years of recipes on the same small network, and what more data would give.

    python examples/lecun1989_study.py [--workers 2] [--data zip_digits.npz] [--picture lecun1989.png]

The network of 9,760 parameters is trained on 16x16 digits as in 1989, then with what has been learned since,
one step at a time (Karpathy 2022). The first and the last recipe are trained on nested shards of the
training set, too: the law of the shards up to a quarter says what the full set gives, which is then checked,
and what ten times the data would give at the same cost of inference. The last recipe is trained at twice the
width as well. Interrupted, it goes on where it was when it is run again.

Needs a file with the 16x16 zip-code digits (`x_train`, `y_train`, `x_test`, `y_test` as numpy arrays);
without one it takes scikit-learn's 8x8 digits, enlarged, which are not what the paper had. matplotlib for the
picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional

from foretrain.axes import Counts
from foretrain.error_sources import error_change, error_std, two_point_exponent
from foretrain.hestness.law import ErrorLaw, fit_error_law
from foretrain.observation import Observation
from foretrain.shards import nested_shards
from foretrain.study import StudyOutcome, run_study
from foretrain.study.points import Point
from lecun1989_net import LeNet1989, SingleExamples
from study_command import run_command

STUDY = "lecun1989"
SEEDS = (0, 1, 2)
SHARES = (32, 16, 8, 4)
BATCH, RATE, LAST_RATE = 32, 3e-3, 1e-4
LOOKS = 6


@dataclass(frozen=True)
class Recipe:
    """How the network is trained.

    Attributes:
        name: What it adds to the one before.
        passes: Passes over the training set.
        rate: Learning rate of the steps on single examples; None for AdamW on batches of 32.
        softmax: Whether the loss is the cross entropy; else the squared error of tanh outputs.
        shift: Whether images are shifted by up to a pixel each way.
        modern: Whether hidden units are rectified, with dropout of a quarter before the hidden layer.
    """

    name: str
    passes: int
    rate: float | None = None
    softmax: bool = True
    shift: bool = False
    modern: bool = False


LADDER = {
    recipe.name: recipe
    for recipe in (
        Recipe("1989", 23, rate=0.03, softmax=False),
        Recipe("softmax", 23, rate=0.01),
        Recipe("AdamW", 23),
        Recipe("shifts", 30, shift=True),
        Recipe("dropout, ReLU", 40, shift=True, modern=True),
    )
}
FIRST, LAST = "1989", "dropout, ReLU"


@lru_cache(maxsize=1)
def read_digits(path: str | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images of shape (n, 1, 16, 16) from -1 to 1 and labels, to train on and to test with."""
    if path is not None:
        with np.load(path) as arrays:
            parts = [arrays[name] for name in ("x_train", "y_train", "x_test", "y_test")]
        images = [torch.tensor(part / 127.5 - 1, dtype=torch.float32)[:, None] for part in parts[::2]]
        return images[0], torch.tensor(parts[1]).long(), images[1], torch.tensor(parts[3]).long()
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    small = torch.tensor(pixels.reshape(-1, 1, 8, 8) / 8 - 1, dtype=torch.float32)
    x = functional.interpolate(small, size=(16, 16), mode="bilinear")
    y = torch.tensor(labels).long()
    held = nested_shards(len(y), labels=labels, validation=360)
    return x[held.order], y[held.order], x[held.validation], y[held.validation]


def train(config: dict[str, Any]) -> list[Observation]:
    """Trains one point; `run_study` records what it returns."""
    torch.set_num_threads(1)
    x, y, test_x, test_y = read_digits(config["path"])
    shard = nested_shards(len(y), labels=y.numpy()).take(config["data"])
    x, y = x[shard], y[shard]
    recipe = LADDER[config["recipe"]]
    passes = max(1, round(recipe.passes * config["length"]))
    torch.manual_seed(config["seed"])
    network = LeNet1989(relu=recipe.modern, dropout=recipe.modern * 0.25, wide=config["size"])
    params = sum(parameter.numel() for parameter in network.parameters())
    learn = _single_examples if recipe.rate is not None else _batches
    looks = set(np.geomspace(1, passes, LOOKS).round().astype(int).tolist())
    told = list[Observation]()
    for done, (steps, rate) in enumerate(learn(network, x, y, recipe, passes), 1):
        if done in looks:
            error = float((_outputs(network, test_x).argmax(1) != test_y).float().mean())
            counts = Counts(
                samples=done * len(y),
                steps=steps,
                epochs=float(done),
                params=params,
                unique_samples=len(y),
                flops=6.0 * network.connections() * done * len(y),
            )
            told.append(Observation(config["run"], "test_error", error, counts, lr=rate))
    return told


def _single_examples(
    network: LeNet1989, x: Tensor, y: Tensor, recipe: Recipe, passes: int
) -> Iterator[tuple[int, Any]]:
    """One example after the other, in a fixed order."""
    trainer = SingleExamples(network, softmax=recipe.softmax)
    images, labels, rate = x[:, 0].numpy(), y.tolist(), np.float32(recipe.rate or 0.0)
    for done in range(passes):
        for image, label in zip(images, labels, strict=True):
            trainer.learn(image, label, rate)
        yield (done + 1) * len(labels), recipe.rate


def _batches(
    network: LeNet1989, x: Tensor, y: Tensor, recipe: Recipe, passes: int
) -> Iterator[tuple[int, Any]]:
    """AdamW on shuffled batches, its rate going down in a line."""
    steps_a_pass = -(-len(y) // BATCH)
    total = steps_a_pass * passes
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE)
    step = 0
    for _ in range(passes):
        network.train()
        order = torch.randperm(len(y))
        shown = _shifted(x) if recipe.shift else x
        for batch in order.split(BATCH):
            rate = RATE + (LAST_RATE - RATE) * step / max(total - 1, 1)
            optimizer.param_groups[0]["lr"] = rate
            loss = functional.cross_entropy(network(shown[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
        network.eval()
        yield step, rate


def _shifted(x: Tensor) -> Tensor:
    """Every image moved by -1, 0 or 1 pixels each way; what comes in is white."""
    wide = functional.pad(x, (1, 1, 1, 1), value=-1.0)
    across, down = torch.randint(0, 3, (2, len(x)))
    rows, places = torch.arange(16) + down[:, None], torch.arange(16) + across[:, None]
    return wide[torch.arange(len(x))[:, None, None], 0, rows[:, :, None], places[:, None, :]][:, None]


@torch.no_grad()
def _outputs(network: LeNet1989, x: Tensor) -> Tensor:
    return network(x)


def make_points(path: str | None, *, small: bool = False) -> list[Point]:
    """The points of the study: the ladder, shards of its ends, and the last recipe at twice the width."""
    whole = len(read_digits(path)[1])
    if small:
        shared: dict[str, Any] = {"path": path, "length": 0.05}
        cells = [(1, whole // share, FIRST) for share in (*SHARES, 1)] + [(1, whole, LAST)]
        return [Point(wide, data, 0, {"recipe": recipe, **shared}) for wide, data, recipe in cells]
    cells = [(1, whole, name) for name in (FIRST, LAST)]
    cells += [(1, whole // share, name) for name in (FIRST, LAST) for share in SHARES]
    cells += [(1, whole, name) for name in LADDER if name not in (FIRST, LAST)] + [(2, whole, LAST)]
    shared = {"path": path, "length": 1}
    return [
        Point(wide, data, seed, {"recipe": recipe, **shared})
        for wide, data, recipe in cells
        for seed in SEEDS
    ]


@dataclass(frozen=True)
class Revisited:
    """What the runs say.

    Attributes:
        errors: Test errors of the last pass, by width, shard and recipe, one for each seed.
        laws: Of the first and the last recipe, from the shards up to a quarter; missing where there are few.
        whole: Training examples in all.
        items: Test examples.
    """

    errors: Mapping[tuple[int, int, str], tuple[float, ...]]
    laws: Mapping[str, ErrorLaw]
    whole: int
    items: int


def run(
    root: str | Path, executor: Any = None, *, path: str | None = None, small: bool = False
) -> tuple[StudyOutcome, Revisited]:
    """Trains what is not trained yet, and says what all runs tell together."""
    points = make_points(path, small=small)
    outcome = run_study(train, points, executor, root=root, study=STUDY)
    records, errors = outcome.read().runs, dict[tuple[int, int, str], tuple[float, ...]]()
    for point in points:
        if point.run in records and records[point.run].state == "finished":
            cell = (int(point.size), int(point.data), point.options["recipe"])
            last = records[point.run].observations[-1].value  # not the lowest: the test set chooses nothing
            errors[cell] = (*errors.get(cell, ()), last)
    _, labels, _, test_labels = read_digits(path)
    laws = {}
    for name in (FIRST, LAST):
        shards = {d: seeds for (w, d, recipe), seeds in errors.items() if (w, recipe) == (1, name)}
        known = {data: float(np.median(seeds)) for data, seeds in shards.items() if data <= len(labels) // 4}
        if len(known) >= 4:
            laws[name] = fit_error_law(list(known), list(known.values()))
    return outcome, Revisited(errors, laws, len(labels), len(test_labels))


def _rungs(told: Revisited) -> list[tuple[int, str, tuple[float, ...]]]:
    """Width, recipe and errors of what was trained on all the data, in the order of the ladder."""
    order = list(LADDER)
    rungs = [(w, name, seeds) for (w, data, name), seeds in told.errors.items() if data == told.whole]
    return sorted(rungs, key=lambda rung: (rung[0], order.index(rung[1])))


def show(told: Revisited, console: Console) -> None:
    """The ladder, the laws and what they held, ten times the data, and the larger model."""
    whole, items = told.whole, told.items
    table = Table(title=f"Test error on {items:,} digits after training on {whole:,}")
    for column in ("recipe", "mean error", "seeds", "luck of the test set", "less than 1989 (90 %)"):
        table.add_column(column, justify="right")
    base = told.errors.get((1, whole, FIRST), ())
    for wide, name, seeds in _rungs(told):
        mean = float(np.mean(seeds))
        change = error_change(base, seeds, items)
        table.add_row(
            *(name if wide == 1 else f"{name}, {wide} times as wide", f"{mean:.2%}"),
            *(", ".join(f"{seed:.2%}" for seed in seeds), f"+- {error_std(mean, items):.2%}"),
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
        shards = {d: seeds for (w, d, recipe), seeds in told.errors.items() if (w, recipe) == (1, name)}
        law = fit_error_law(list(shards), [float(np.median(seeds)) for seeds in shards.values()])
        more = law.predict(10.0 * whole)
        console.print(
            f"{name}: ten times the data would give {more.median:.2%} ({more.lower:.2%} to {more.upper:.2%}) "
            "at the same cost of inference, by the law of all shards."
        )
    wide = told.errors.get((2, whole, LAST))
    if wide:
        gain = error_change(told.errors[1, whole, LAST], wide, items)
        console.print(
            f"{LAST}: twice the width gives {gain.median:.0%} fewer errors ({gain.lower:.0%} to "
            f"{gain.upper:.0%}) on the same data; two widths tell no law of size."
        )
    base, modern = (
        two_point_exponent([7291, 50000], pair, 2007) for pair in ((0.0409, 0.0274), (0.0159, 0.0125))
    )
    console.print(
        f"Published, from 7,291 to 50,000 digits: exponents {base.exponent:.3f} +- {base.std:.3f} (1989) "
        f"and {modern.exponent:.3f} +- {modern.std:.3f} (modern): were they the same, a difference as large "
        f"would come in {base.p_same(modern):.0%} of such test sets."
    )


def draw(told: Revisited, path: Path) -> None:
    """The ladder, and the laws with what came."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    full = _rungs(told)
    for place, (_, _, seeds) in enumerate(full):
        mean = float(np.mean(seeds))
        left.bar(place, mean, color="#9db4c8")
        left.errorbar(place, mean, 1.645 * error_std(mean, told.items), color="k", capsize=3)
        left.plot([place] * len(seeds), seeds, "k.", ms=4)
    left.set_xticks(range(len(full)), [name if w == 1 else f"x{w} wide" for w, name, _ in full], fontsize=8)
    left.set(ylabel="test error", title="33 years of recipes, one step at a time")
    for name, law in told.laws.items():
        shards = {d: float(np.median(s)) for (w, d, n), s in told.errors.items() if n == name and w == 1}
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
