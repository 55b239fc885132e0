"""Scale-time equivalence on handwritten digits: does a small network trained longer replace a larger one?

    python examples/scale_time_study.py [--workers 2] [--picture scale_time.png]

Networks of ten widths are trained by SGD at a constant rate, and by Adam, on the mean squared error of
one-hot digits, as Boopathy and Fiete 2024 (arXiv:2409.05782) did on larger pictures. The runs tell at which
exponent size trades for time, whether one curve of N^kappa t then serves all sizes, what a small network says
of a large one, and what it must not be asked. Linear regression beside it shows double descent, measured and
from its formula. Interrupted, the study goes on where it was when it is run again.

Needs scikit-learn for its digits; matplotlib for the picture.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import foretrain
from double_descent import PARAMS, measure_descent
from foretrain.axes import Counts
from foretrain.observation import Observation
from foretrain.study import StudyOutcome, grid, run_study
from foretrain.study.points import Point
from foretrain.timescale import (
    Equivalence,
    Refusal,
    TimeCurve,
    curves_of,
    measure_equivalence,
    predict_larger,
)
from foretrain.timescale.equivalence import PUBLISHED
from scale_time_net import Trainer, network
from study_command import run_command

STUDY = "scale-time"
WIDTHS = (1, 2, 5, 10, 14, 20, 30, 50, 70, 100)
SMALL_WIDTHS = (5, 10, 20, 50)
SEEDS = (0, 1, 2)
RATES = {"SGD": 0.5, "Adam": 1e-3}
STEPS, EVALUATIONS, BATCH = 40_000, 60, 32
HELD_OUT = 360

Told = Mapping[str, tuple[tuple[TimeCurve, ...], Equivalence]]
"""The curves of each optimizer, and what they say of size and time."""


@lru_cache(maxsize=1)
def read_digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pixels from -1 to 1 and one-hot labels, of 1,437 digits to train on and of 360 held out."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    parts = train_test_split(images / 8 - 1, labels, test_size=HELD_OUT, random_state=0, stratify=labels)
    train, test = (torch.tensor(part, dtype=torch.float32) for part in parts[:2])
    targets = [nn.functional.one_hot(torch.tensor(part), 10).float() for part in parts[2:]]
    return train, targets[0], test, targets[1]


def train(config: dict[str, Any]) -> list[Observation]:
    """Trains one network; `run_study` records what it returns."""
    torch.set_num_threads(1)  # two runs side by side on two cores; and the same sums on every machine
    pixels, targets, test, truth = read_digits()
    torch.manual_seed(config["seed"])
    model = network(pixels.shape[1], config["size"], targets.shape[1])
    params = sum(p.numel() for p in model.parameters())
    rate = RATES[config["optimizer"]]
    trainer = Trainer(model, adam=config["optimizer"] == "Adam")
    x, y = pixels.numpy(), targets.numpy()
    due = set(np.geomspace(1, config["steps"], EVALUATIONS).round().astype(int).tolist())
    told, order = [], np.empty(0, dtype=np.int64)
    for step in range(1, config["steps"] + 1):
        if order.size < BATCH:
            order = torch.randperm(len(x)).numpy()
        batch, order = order[:BATCH], order[BATCH:]
        trainer.learn(x[batch], y[batch], rate)
        if step in due:
            with torch.no_grad():
                error = float(nn.functional.mse_loss(model(test), truth))
            seen = step * BATCH
            counts = Counts(
                samples=seen,
                steps=step,
                epochs=seen / pixels.shape[0],
                params=params,
                flops=6.0 * params * seen,
                unique_samples=min(seen, pixels.shape[0]),
            )
            told.append(Observation(config["run"], "val_loss", error, counts, lr=rate))
    return told


def make_points(*, small: bool = False) -> list[Point]:
    """The points of the study."""
    if small:
        return grid(size=SMALL_WIDTHS, data=[1437], seed=(0,), optimizer="SGD", steps=300)
    return grid(size=WIDTHS, data=[1437], seed=SEEDS, optimizer=list(RATES), steps=STEPS)


def run(root: str | Path, executor: Any = None, *, small: bool = False) -> tuple[StudyOutcome, Told]:
    """Trains what is not trained yet; the curves of each optimizer, and what they say of size and time."""
    points = make_points(small=small)
    outcome = run_study(train, points, executor, root=root, study=STUDY)
    records = outcome.read().runs
    told = {}
    for name in RATES:
        own = [records[p.run] for p in points if p.options["optimizer"] == name and p.run in records]
        if own:
            curves = curves_of(own, optimizer=name)
            told[name] = (curves, measure_equivalence(curves))
    return outcome, told


def predict(curves: Sequence[TimeCurve], known: Equivalence | None) -> tuple[list[float], Counter[str]]:
    """The largest networks read off the smallest: ln predicted / measured, and why it was refused.

    Args:
        curves: Runs of several sizes.
        known: The exponent as measured without the largest, which it is to predict; None takes the published
            one.
    """
    sizes = [curve.params for curve in curves]
    misses, refused = [], Counter[str]()
    for small in (curve for curve in curves if curve.params == min(sizes)):
        for large in (curve for curve in curves if curve.params == max(sizes)):
            for at, error in zip(large.time, large.error, strict=True):
                told = predict_larger(small, large.params, float(at), known)
                if told.refused is None:
                    misses.append(float(np.log(told.error / error)))
                else:
                    refused[told.refused.value] += 1
    return misses, refused


def ask_too_much(told: Told) -> list[tuple[str, Refusal | None]]:
    """Questions that a small network cannot answer, and what the library says to each."""
    curves, found = told["SGD"]
    small = min((c for c in curves if c.params not in found.left_out), key=lambda c: c.params)
    least = min(curves, key=lambda c: c.params)
    large = max(c.params for c in curves)
    questions = {
        "longer than the small one was trained": (small, large, small.time[-1], None),
        f"of one with {least.params:,.0f} parameters, past its capacity": (
            *(least, large),
            *(0.9 * least.time[-1] * (least.params / large) ** PUBLISHED, None),
        ),
        "under a schedule": (replace(small, constant_rate=False), large, small.time[0], None),
    }
    if "Adam" in told:
        adam = next(c for c in told["Adam"][0] if c.params == small.params)
        questions["under Adam, exponent not measured"] = (adam, large, adam.time[0], None)
        questions["under Adam, by the exponent of SGD"] = (adam, large, adam.time[0], found)
    return [(question, predict_larger(*of).refused) for question, of in questions.items()]


def show(told: Told, console: Console) -> None:
    """The exponents, the collapse, predictions of large networks by small ones, and double descent."""
    table = Table(title="What size is worth in time: error = g(N^kappa t)")
    for column in (
        *("optimizer", "kappa (90 %)", "left of the spread", "a size left out: one curve", "time alone"),
        *("additive law", "equivalent"),
    ):
        table.add_column(column, justify="right")
    for name, (_, found) in told.items():
        kappa, fit = found.kappa, found.collapse
        table.add_row(
            *(name, f"{kappa.median:.2f} ({kappa.lower:.2f} to {kappa.upper:.2f})", f"{fit.residual:.3f}"),
            *(f"{fit.held_out:.1%}", f"{fit.time_alone:.1%}", f"{fit.additive:.1%}"),
            "yes" if found.holds else "no",
        )
    console.print(table)
    for name, (curves, found) in told.items():
        sizes = ", ".join(f"{size:,.0f}" for size in found.params)
        console.print(
            f"{name}: sizes compared {sizes}; errors {found.levels[0]:.4f} to {found.levels[-1]:.4f}."
        )
        if found.left_out:
            out = ", ".join(f"{size:,.0f}" for size in found.left_out)
            console.print(f"{name}: {out} parameters never come down to errors the others share: left out.")
        console.print(f"{name}: {found.why}")
        kept = [curve for curve in curves if curve.params not in found.left_out]
        if found.params.size > 4:
            largest = max(curve.params for curve in kept)
            known = measure_equivalence([curve for curve in kept if curve.params != largest])
            console.print(f"{name}: the largest read off the smallest: {_said(*predict(kept, known))}")
            if name == "SGD":
                said = _said(*predict(kept, None))
                console.print(f"{name}: the same with the published exponent 1/3, not measured: {said}")
    for question, refusal in ask_too_much(told) if "SGD" in told else ():
        console.print(f"Asked {question}: {'answered.' if refusal is None else refusal.sentence}")
    samples, measured, formula = measure_descent()
    status = foretrain.forecast(samples, measured, [1000]).status
    peaks = (samples[measured.argmax()], samples[formula.argmax()])
    console.print(
        f"Linear regression with {PARAMS} parameters: the error peaks at {peaks[0]} samples, by the formula "
        f"at {peaks[1]}; what forecast says of that curve: {status.value}."
    )


def _said(misses: list[float], refused: Counter[str]) -> str:
    off = f", off by {np.median(np.abs(misses)):.1%} in the median" if misses else ""
    why = ", ".join(f"{count} {reason}" for reason, count in refused.items())
    return f"{len(misses)} predictions made{off}; refused: {why or 'none'}."


def draw(told: Told, path: Path) -> None:
    """The curves against time, against N^kappa t, and double descent."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        len(told), 3, figsize=(13, 3.9 * len(told)), layout="constrained", squeeze=False
    )
    for (left, middle, _), (name, (curves, found)) in zip(axes, told.items(), strict=True):
        sizes = np.log([curve.params for curve in curves])
        for curve, size in zip(curves, sizes, strict=True):
            colour = pyplot.get_cmap("viridis")((size - sizes.min()) / max(float(np.ptp(sizes)), 1e-9))
            out = curve.params in found.left_out
            style = {"color": colour, "lw": 1, "ls": ":" if out else "-"}
            left.plot(curve.time, curve.error, label=f"{curve.params:,.0f}", **style)
            middle.plot(curve.params**found.kappa.median * curve.time, curve.error, **style)
        left.set(title=f"{name}: {len(set(sizes))} sizes", xlabel="steps t", ylabel="test error (MSE)")
        middle.set(
            title=f"kappa = {found.kappa.median:.2f}, left of the spread {found.collapse.residual:.2f}",
            xlabel="N^kappa t",
        )
        for axis in (left, middle):
            axis.set(xscale="log", yscale="log")
        handles, labels = left.get_legend_handles_labels()
        unique = dict(zip(labels, handles, strict=True))
        left.legend(unique.values(), unique.keys(), title="parameters", fontsize=7)
    samples, measured, formula = measure_descent()
    last = axes[0][2]
    last.plot(samples, measured, "k.", label="least squares, mean of 20")
    last.plot(samples, formula, label="formula")
    last.axvline(PARAMS, color="grey", lw=0.8, ls=":")
    last.set(
        title=f"Linear model, {PARAMS} parameters", xscale="log", yscale="log", xlabel="samples", ylabel="MSE"
    )
    last.legend(loc="center right", fontsize=8)
    for row in axes[1:]:
        row[2].set_axis_off()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


if __name__ == "__main__":
    run_command(__doc__, "scale_time_runs", run, show, draw)
