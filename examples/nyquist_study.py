"""Nyquist learners: what is left of an error where neither noise nor the model stands in the way.

    python examples/nyquist_study.py [--workers 2] [--picture nyquist.png]

The thesis of Rosenfeld 2021 (arXiv:2108.07686) looks at learning without noise, with a truth that the model
could hold, and finds errors far above zero that fall as power laws. Three learners, each on more and more
random examples:

- a network taught by another of its kind, whose labels have no noise;
- a network taught a band-limited function on the torus, 9 x 9 frequencies, 81 coefficients;
- least squares among the functions of that band, which 81 examples determine: the Nyquist number.

The library says how fast each error falls, and splits the first by its sources. Interrupted, the study goes
on where it was when it is run again. Needs matplotlib for the picture.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from foretrain.axes import Counts
from foretrain.error_sources import ErrorSources, LearningSpeed, judge_speed, split_error
from foretrain.observation import Observation
from foretrain.study import StudyOutcome, run_study
from foretrain.study.points import Point
from study_command import run_command

STUDY = "nyquist"
LEARNERS = ("taught by its like", "network on a band", "band alone")
BAND = 4
COEFFICIENTS = (2 * BAND + 1) ** 2
INPUTS, STUDENT = 10, 64
STEPS, BATCH, RATE = 4000, 128, 5e-3
TEST = 2000
DATA = tuple(round(64 * 2 ** (i / 2)) for i in range(11))
BAND_DATA = (20, 32, 45, 57, 64, 72, 78, 80, 81, 90, 128, 256)
SEEDS = (0, 1)


def network(inputs: int, width: int) -> nn.Sequential:
    """Two hidden layers of rectified units."""
    return nn.Sequential(
        *(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))
    )


@lru_cache(maxsize=1)
def make_teacher() -> nn.Sequential:
    """A quarter as wide as the students, with drawn weights and biases; always the same one."""
    drawn = torch.Generator().manual_seed(1)
    made = network(INPUTS, STUDENT // 4)
    with torch.no_grad():
        for parameter in made.parameters():
            scale = (2 / parameter.shape[1]) ** 0.5 if parameter.ndim == 2 else 0.5
            parameter.copy_(scale * torch.randn(parameter.shape, generator=drawn))
    return made


@torch.no_grad()
def taught(x: Tensor) -> Tensor:
    """The labels of the teacher."""
    return make_teacher()(x)[:, 0]


def features(x: Tensor) -> Tensor:
    """The functions of the band at points of the unit square, shape (n, 81), of mean square 1."""
    columns = []
    for place in (0, 1):
        angle = 2 * torch.pi * x[:, place : place + 1].double() * torch.arange(1, BAND + 1)
        waves = (2**0.5 * torch.cos(angle), 2**0.5 * torch.sin(angle))
        columns.append(torch.cat([torch.ones(len(x), 1, dtype=torch.double), *waves], dim=1))
    return (columns[0][:, :, None] * columns[1][:, None, :]).flatten(1)


def band_limited(x: Tensor) -> Tensor:
    """A function of the band, always the same one, of variance about 1."""
    coefficients = torch.randn(COEFFICIENTS, generator=torch.Generator().manual_seed(2), dtype=torch.double)
    return features(x) @ coefficients / COEFFICIENTS**0.5


def train(config: dict[str, Any]) -> list[Observation]:
    """Trains one learner on one number of examples; the error is relative to the variance of the labels."""
    torch.set_num_threads(1)
    torch.manual_seed(1000 * config["data"] + config["seed"])  # every run has examples of its own
    by_its_like = config["learner"] == LEARNERS[0]
    draw: Callable[..., Tensor] = torch.randn if by_its_like else torch.rand
    label = taught if by_its_like else band_limited
    inputs = INPUTS if by_its_like else 2
    x, test = draw(config["data"], inputs), draw(TEST, inputs)
    y, truth = label(x), label(test)
    unit = float(truth.double().var())
    if config["learner"] == LEARNERS[2]:
        found = torch.linalg.lstsq(features(x), y[:, None], driver="gelsd").solution[:, 0]
        counts = Counts(config["data"], 1, 1.0, unique_samples=config["data"], params=COEFFICIENTS)
        errors = [_square(features(at) @ found - of) / unit for at, of in ((x, y), (test, truth))]
        return _told(config, counts, *errors)
    model = _fit_network(x if by_its_like else _round(x), y.float(), config)
    counts = Counts(
        samples=config["steps"] * BATCH,
        steps=config["steps"],
        epochs=config["steps"] * BATCH / config["data"],
        unique_samples=config["data"],
        params=sum(p.numel() for p in model.parameters()),
    )
    errors = []
    for at, of in ((x, y), (test, truth)):
        with torch.no_grad():
            said = model(at if by_its_like else _round(at))[:, 0]
        errors.append(_square(said - of) / unit)
    return _told(config, counts, *errors)


def _square(off: Tensor) -> float:
    return float((off.double() ** 2).mean())


def _told(config: dict[str, Any], counts: Counts, train_error: float, error: float) -> list[Observation]:
    """Both errors; a zero is told as the smallest number that has a logarithm here."""
    return [
        Observation(config["run"], name, max(value, 1e-300), counts)
        for name, value in (("train_error", train_error), ("test_error", error))
    ]


def _fit_network(x: Tensor, y: Tensor, config: dict[str, Any]) -> nn.Module:
    """Adam on batches with replacement, its rate falling to zero in a line."""
    model = network(x.shape[1], STUDENT)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)
    for step in range(config["steps"]):
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / config["steps"])
        batch = torch.randint(len(x), (BATCH,))
        loss = nn.functional.mse_loss(model(x[batch])[:, 0], y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def _round(x: Tensor) -> Tensor:
    """Points of the torus as the network sees them: cosine and sine of both angles."""
    angle = 2 * torch.pi * x
    return torch.cat([torch.cos(angle), torch.sin(angle)], dim=1)


def make_points(*, small: bool = False) -> list[Point]:
    """The points of the study; a point's size is that of the hidden layers, or of the band."""
    cells = [(name, STUDENT, data) for name in LEARNERS[:2] for data in DATA]
    cells += [(LEARNERS[2], COEFFICIENTS, data) for data in BAND_DATA]
    steps, seeds = (STEPS, SEEDS) if not small else (60, SEEDS[:1])
    if small:
        cells = [cell for cell in cells if cell[0] == LEARNERS[2] or cell[2] in DATA[::3]]
    return [
        Point(size, data, seed, {"learner": name, "steps": steps})
        for name, size, data in cells
        for seed in seeds
    ]


Runs = dict[str, tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]
Told = tuple[Runs, dict[str, LearningSpeed], ErrorSources]


def run(root: str | Path, executor: Any = None, *, small: bool = False) -> tuple[StudyOutcome, Told]:
    """Trains what is not trained yet; each learner's errors and verdict, and the sources of the first."""
    points = make_points(small=small)
    outcome = run_study(train, points, executor, root=root, study=STUDY)
    records = outcome.read().runs
    rows: dict[str, list[tuple[float, float, float]]] = {name: [] for name in LEARNERS}
    for point in points:
        if point.run in records and records[point.run].state == "finished":
            last = {o.metric: o.value for o in records[point.run].observations}
            rows[point.options["learner"]].append((point.data, last["test_error"], last["train_error"]))
    table = {name: np.array(row) for name, row in rows.items()}
    runs = {name: (row[:, 0], row[:, 1]) for name, row in table.items()}
    first = table[LEARNERS[0]]
    trained = float(np.median(first[first[:, 0] == first[:, 0].max(), 2]))
    sources = split_error(first[:, 0], first[:, 1], noise=0.0, realizability=0.0, train_error=trained)
    return outcome, (runs, {name: judge_speed(*pair) for name, pair in runs.items()}, sources)


def show(told: Told, console: Console) -> None:
    """How fast each error falls, in the library's words, and what the first is made of."""
    runs, speeds, sources = told
    table = Table(title="Error relative to the variance of the labels")
    for column in ("learner", "examples", "error there", "exponent (90 %)", "bend (90 %)", "verdict"):
        table.add_column(column, justify="right")
    for name, (data, error) in runs.items():
        at = [float(np.median(error[data == size])) for size in (data.min(), data.max())]
        speed = speeds[name]
        table.add_row(
            *(name, f"{data.min():,.0f} to {data.max():,.0f}", f"{at[0]:.2g} to {at[1]:.2g}"),
            *(_said(speed.exponent), _said(speed.bend), speed.verdict.value),
        )
    console.print(table)
    for name, speed in speeds.items():
        console.print(f"{name}: {speed.verdict.sentence}")
        if speed.zero_from is not None:
            console.print(
                f"{name}: zero, to a millionth of its largest, from {speed.zero_from:,.0f} examples on, and "
                f"not at {speed.before_zero:,.0f}; the Nyquist number is {COEFFICIENTS}."
            )
    rest = "not told" if sources.uncertainty is None else f"{sources.uncertainty.median:.2g}"
    console.print(
        f"{LEARNERS[0]}, {sources.data:,.0f} examples: error {sources.total:.2g} = noise {sources.noise:.2g} "
        f"+ realizability {sources.realizability:.2g} + deficiency of at least {sources.deficiency:.2g} "
        f"+ uncertainty {rest}."
    )
    for sentence in sources.missing:
        console.print(f"Cannot tell: {sentence}")


def _said(told: Any) -> str:
    return f"{told.median:.2f} ({told.lower:.2f} to {told.upper:.2f})"


def draw(told: Told, path: Path) -> None:
    """The three errors against the number of examples."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(7, 4.4), layout="constrained")
    for name, (data, error) in told[0].items():
        sizes = np.unique(data)
        (line,) = axis.plot(sizes, [np.median(error[data == size]) for size in sizes], label=name)
        axis.plot(data, error, ".", ms=4, color=line.get_color())
    axis.axvline(COEFFICIENTS, color="grey", lw=0.8, ls=":", label="Nyquist number")
    axis.set(xscale="log", yscale="log", xlabel="training examples", ylabel="error / variance of the labels")
    axis.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


if __name__ == "__main__":
    run_command(__doc__, "nyquist_runs", run, show, draw)
