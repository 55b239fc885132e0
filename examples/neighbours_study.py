"""The named neighbours on published curves, digits and a perceptron.

    python examples/neighbours_study.py --data FOLDER

FOLDER holds `gadre2024/runs.csv`: the runs of Gadre et al. 2024 with their losses and downstream errors
(github.com/mlfoundations/scaling); `alabdulmohsin2022/learning_curves.csv`, the curves of Alabdulmohsin et
al. 2022 (google-research, revisiting_neural_scaling_laws); and `usps/usps_uint8.npz`, the zip-code digits.
Only small linear and kernel classifiers are trained, by scikit-learn; it takes about a minute.
"""

from __future__ import annotations

import argparse
import csv
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from foretrain.compute import compute_burden
from foretrain.downstream import MetricForecast, TaskLaws, fit_task_laws, forecast_metric
from foretrain.error_sources import PolicyCurve, compare_policies
from foretrain.hestness.law import Estimate

SMALL = 1e9
"""Models above are not fitted, but predicted."""

LOSSES = {
    "C4": "loss_c4_val",
    "training text": "loss_paloma_redpajama",
    "German and English": "loss_val_de-en_100",
}
METRICS = {"17 tasks": "err_avg17", "46 tasks": "err_avg46"}

INPUTS, SEEDS = 40, 3
AMOUNTS = (2, 2.5, 3, 4, 5, 6, 7, 8)
"""Examples of the perceptron, in multiples of its inputs."""

SHARDS = (125, 250, 500, 700, 1000, 1400, 2000, 2800, 4000)
PROBE, COUNTED = 1000, 3000
"""Digits of the model that tells how hard the others are, and digits that errors are counted on."""

PART, PLACES = 10.0, 8
"""Tasks are compared over the last decade of their data, at so many places."""

Columns = dict[str, NDArray[np.float64]]


def read(path: Path) -> Columns:
    """The columns of a table that are numbers in every row."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found: Columns = {}
    for name in rows[0]:
        try:
            found[name] = np.array([float(row[name]) for row in rows])
        except ValueError:
            continue
    return found


def downstream(runs: Columns) -> dict[tuple[str, str], MetricForecast]:
    """The errors of the large models from the small ones, by the loss and the tasks, in two steps."""
    small = runs["N"] < SMALL
    n, d = runs["N"], runs["D_tokens"]
    return {
        (loss, tasks): forecast_metric(
            n[small], d[small], runs[loss_name][small], runs[name][small], n[~small], d[~small]
        )
        for loss, loss_name in LOSSES.items()
        for tasks, name in METRICS.items()
    }


def show_downstream(runs: Columns, told: dict[tuple[str, str], MetricForecast], console: Console) -> None:
    """What was foretold of the large models, and what came."""
    large = np.flatnonzero(runs["N"] >= SMALL)
    table = Table(title=f"Downstream error of large models from {int((runs['N'] < SMALL).sum())} small ones")
    columns = ("loss on", "error of", "model", "tokens", "loss foretold", "loss")
    for column in (*columns, "error foretold", "by the loss that came", "error"):
        table.add_column(column, justify="right")
    for (loss, tasks), one in told.items():
        for i, run in enumerate(large):
            table.add_row(
                *(loss, tasks, f"{runs['N'][run] / 1e9:.1f}B", f"{runs['D_tokens'][run] / 1e9:,.0f}B"),
                *(f"{one.loss.median[i]:.2f}", f"{runs[LOSSES[loss]][run]:.2f}"),
                f"{one.median[i]:.3f} ({one.lower[0.9][i]:.3f} to {one.upper[0.9][i]:.3f})",
                _said(one.link.predict(runs[LOSSES[loss]][run])),
                f"{runs[METRICS[tasks]][run]:.3f}",
            )
    console.print(table)


def _said(told: Estimate) -> str:
    return f"{told.median:.3f} ({told.lower:.3f} to {told.upper:.3f})"


def show_burdens(runs: Columns, console: Console) -> None:
    """The compute that half the error takes over all models."""
    for tasks, name in METRICS.items():
        burden = compute_burden(runs["flops_6ND"], runs[name])
        console.print(f"Error of {tasks}: {burden.sentence}")
    burden = compute_burden(runs["flops_6ND"], runs["loss_c4_val"])
    console.print(f"Loss on C4: {burden.sentence}")


def read_tasks(path: Path) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Examples seen and few-shot error by encoder and task, each of shape (2, points)."""
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["domain"] == "IC":
                points = found.setdefault(row["model"], {}).setdefault(row["task"], [])
                points.append((float(row["seen"]), float(row["loss"])))
    return {
        model: {task: np.array(sorted(points)).T for task, points in sorted(tasks.items())}
        for model, tasks in found.items()
    }


def task_laws(tasks: dict[str, NDArray[np.float64]]) -> tuple[float, float, TaskLaws]:
    """The law of each task of one encoder over the last part that all were measured in, and that part."""
    last = min(points[0, -1] for points in tasks.values())
    data = np.geomspace(last / PART, last, PLACES)
    errors = [np.exp(np.interp(np.log(data), *np.log(points))) for points in tasks.values()]
    return data[0], last, fit_task_laws(data, errors, list(tasks))


def show_tasks(encoders: dict[str, dict[str, NDArray[np.float64]]], console: Console) -> None:
    """The exponents of each encoder's tasks, and whether one serves all."""
    table = Table(title="Few-shot tasks of one encoder: error by labelled images seen")
    for column in ("encoder", "images", "exponents", "one exponent (90 %)", "p", "misfit: one", "own"):
        table.add_column(column, justify="right")
    for encoder, tasks in encoders.items():
        first, last, laws = task_laws(tasks)
        shared = laws.shared
        table.add_row(
            encoder,
            f"{first:.1e} to {last:.1e}",
            ", ".join(
                f"{task} {one.median:.2f}" for task, one in zip(laws.tasks, laws.exponents, strict=True)
            ),
            f"{shared.median:.2f} ({shared.lower:.2f} to {shared.upper:.2f})",
            f"{laws.p_same:.0e}",
            *(f"{100 * misfit:.1f} %" for misfit in (laws.misfit, laws.misfit_own)),
        )
    console.print(table)


def perceptrons() -> tuple[PolicyCurve, ...]:
    """A teacher's labels learned from a random sample, and from the hardest of a pool.

    Hardest are those nearest to the teacher's boundary, of a pool that doubles with each further multiple of
    the inputs. The error is the angle between student and teacher, over pi.
    """
    from sklearn.svm import LinearSVC

    rows = []
    for amount in AMOUNTS:
        for seed in range(SEEDS):
            rng = np.random.default_rng([int(10 * amount), seed])
            teacher = rng.normal(size=INPUTS)
            teacher /= np.linalg.norm(teacher)
            size = int(amount * INPUTS)
            for policy, pool in (("none", size), ("hardest of a pool", int(2**amount * INPUTS))):
                x = rng.normal(size=(pool, INPUTS))
                x = x[np.argsort(np.abs(x @ teacher))[:size]]
                scale = np.abs(x @ teacher).max()
                student = LinearSVC(C=1e4, loss="hinge", fit_intercept=False, max_iter=3000, random_state=0)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # it need not converge further than this
                    found = student.fit(x / scale, np.sign(x @ teacher)).coef_[0]
                cosine = np.clip(found @ teacher / np.linalg.norm(found), -1, 1)
                rows.append((size, np.arccos(cosine) / np.pi, policy))
    return _compared(rows)


def digits(path: Path) -> tuple[PolicyCurve, ...]:
    """A kernel classifier on a random sample, and on the digits that another one finds hardest or easiest."""
    from sklearn.svm import SVC

    with np.load(path) as data:
        x = np.concatenate([data["x_train"], data["x_test"]]).reshape(-1, 256) / 255.0
        y = np.concatenate([data["y_train"], data["y_test"]])
    order = np.random.default_rng(1).permutation(y.size)
    counted, probing, rest = np.split(order, [COUNTED, COUNTED + PROBE])
    probe = SVC(C=5, gamma=0.02).fit(x[probing], y[probing])
    scores = np.sort(probe.decision_function(x[rest]), axis=1)
    ranks = np.argsort(scores[:, -1] - scores[:, -2])
    sampled = np.random.default_rng(2).permutation(rest.size)
    rows = []
    for size in SHARDS:
        chosen = {"none": sampled[:size], "hardest": ranks[:size], "easiest": ranks[-size:]}
        for policy, index in chosen.items():
            learner = SVC(C=5, gamma=0.02).fit(x[rest[index]], y[rest[index]])
            rows.append((size, 1 - learner.score(x[counted], y[counted]), policy))
    return _compared(rows)


def _compared(rows: list[tuple[float, float, str]]) -> tuple[PolicyCurve, ...]:
    data, error, policies = zip(*rows, strict=True)
    return compare_policies(data, error, policies)


def show_policies(title: str, curves: tuple[PolicyCurve, ...], console: Console) -> None:
    """Errors by policy, how fast they fall, and what a policy is worth."""
    table = Table(title=title)
    for column in ("policy", "examples", "errors", "exponent (90 %)", "verdict", "worth (90 %)"):
        table.add_column(column, justify="right")
    for one in curves:
        exponent, worth = one.speed.exponent, one.worth
        table.add_row(
            one.policy,
            f"{one.data[0]:,.0f} to {one.data[-1]:,.0f}",
            ", ".join(f"{error:.3g}" for error in one.error),
            f"{exponent.median:.2f} ({exponent.lower:.2f} to {exponent.upper:.2f})",
            one.speed.verdict.value,
            "-" if worth is None else f"{worth.median:.2g} ({worth.lower:.2g} to {worth.upper:.2g})",
        )
    console.print(table)


def main() -> None:
    """Reads the folder and prints what each neighbour says of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of published curves")
    folder = parser.parse_args().data
    console = Console()
    console = console if console.is_terminal else Console(width=140)
    runs = read(folder / "gadre2024" / "runs.csv")
    show_downstream(runs, downstream(runs), console)
    show_burdens(runs, console)
    show_tasks(read_tasks(folder / "alabdulmohsin2022" / "learning_curves.csv"), console)
    show_policies("Data selection: a perceptron taught by another", perceptrons(), console)
    show_policies("Data selection: zip-code digits", digits(folder / "usps" / "usps_uint8.npz"), console)


if __name__ == "__main__":
    main()
