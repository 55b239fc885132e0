"""The pruning law of Rosenfeld et al. 2021 on handwritten digits: error by density, depth, width and data.

    python examples/pruning_study.py [--workers 2] [--data zip_digits.npz] [--picture pruning.png]

Networks of three depths and three widths, on two shards of the training set, three seeds each, are trained
by Lightning, pruned by magnitude, rewound to an early step and trained again, through twelve densities. Every
training is a run of the store, with its density. One law is fitted to each network, and one to all of them,
in which a network counts by `m = depth^phi width^psi d` and by its error unpruned alone; it is judged on
networks it was not fitted to, and says the smallest network for a target. Interrupted, it goes on with the
networks that are not done when it is run again.

Needs a file with the 16x16 zip-code digits (`x_train`, `y_train`, `x_test`, `y_test` as numpy arrays);
without one it takes scikit-learn's 8x8 digits, enlarged. matplotlib for the picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from foretrain.fitting import Fit, fit
from foretrain.lightning import ScalingLawMonitor
from foretrain.pruning import (
    JointPruningLaw,
    JudgedNetworks,
    PrunedNetwork,
    PruningCurve,
    fit_curves,
    leave_networks_out,
    pruning_curve,
    smallest_for,
)
from foretrain.study import StudyOutcome, grid, run_study
from foretrain.study.points import Point
from pruning_net import METRIC, Rounds, count_weights, prune_network, read_digits, runs_of
from study_command import run_command

STUDY = "pruning"
DEPTHS, WIDTHS, DATA = (1, 2, 4), (16, 32, 64), (512, 2048)
SEEDS = (0, 1, 2)
BATCH, RATE = 128, 3e-3
RISEN = 1.25
"""Errors so many times the unpruned are on the climb."""

MOST = 2048
"""Digits to train on at most: all others are for counting errors."""

Array = np.ndarray[Any, Any]
Cell = tuple[int, int, int]
"""Depth, width and training digits of a network."""


def train(config: dict[str, Any]) -> None:
    """Trains and prunes one network; every training is recorded by its monitor."""
    torch.set_num_threads(1)
    digits = read_digits(config["path"], config["most"])

    def monitor(run: str) -> ScalingLawMonitor:
        return ScalingLawMonitor(
            METRIC, root=config["root"], study=config["study"], run=run, axis="samples", fit=False
        )

    prune_network(config, digits, monitor, batch=BATCH, rate=RATE)


def make_points(path: str | None, *, small: bool = False) -> list[Point]:
    """The points of the study: networks by width, data, seed and depth."""
    if small:
        rounds = {"densities": 6, "kept": 0.3, "steps": 64, "looks": 4, "early": 16}
        shared: dict[str, Any] = {"path": path, "most": 256, "rounds": rounds}
        return grid(size=(4, 8), data=(128, 256), seed=SEEDS[:1], depth=[1], **shared)
    most = MOST if path is not None else MOST // 2
    data = [one * most // MOST for one in DATA]
    return grid(size=WIDTHS, data=data, seed=SEEDS, depth=DEPTHS, path=path, most=most, rounds={})


@dataclass(frozen=True)
class PrunedFamily:
    """What the runs say.

    Attributes:
        curves: Of each network, the mean of its seeds, by depth, width and training digits.
        single: The law of each network, its error unpruned as measured.
        joint: The one law of all.
        judged: What the law of the others says of each network, in the order of the curves.
        wider: Relative deviations of the widest networks from the law of the others; None where there is one
            width.
        luck: Standard deviation between seeds, relative, over all networks, where they are pruned.
        seeds: How many there are.
    """

    curves: Mapping[Cell, PruningCurve]
    single: Mapping[Cell, Fit]
    joint: JointPruningLaw
    judged: JudgedNetworks
    wider: Array | None
    luck: float
    seeds: int

    def deviations(self, cell: Cell) -> tuple[Array, Array]:
        """Relative deviations of a network's own law and of the joint one, where it was pruned."""
        curve = self.curves[cell]
        d, error = curve.density[1:], curve.error[1:]
        by_all = self.joint.predict(curve.depth, curve.width, d, curve.unpruned)
        return np.asarray(self.single[cell].predict(d) / error - 1), np.asarray(by_all / error - 1)


def run(
    root: str | Path, executor: Any = None, *, path: str | None = None, small: bool = False
) -> tuple[StudyOutcome, PrunedFamily]:
    """Trains what is not trained yet, and says what the law makes of it."""
    points = make_points(path, small=small)
    outcome = run_study(train, points, executor, root=root, study=STUDY)
    records, seeds = outcome.read().runs, dict[Cell, list[list[Any]]]()
    for point in points:
        names = runs_of(point.run, Rounds(**point.options["rounds"]))
        if all(name in records and records[name].state == "finished" for name in names):
            cell = (int(point.options["depth"]), int(point.size), int(point.data))
            seeds.setdefault(cell, []).append([records[name] for name in names])
    digits = read_digits(path, points[0].options["most"])
    curves, spread = dict[Cell, PruningCurve](), list[Array]()
    for (depth, width, data), found in seeds.items():
        weights = count_weights(digits[0].shape[1], width, depth)
        shape: dict[str, Any] = {"depth": depth, "width": width, "weights": weights}
        each = [pruning_curve(one, METRIC, **shape).error[1:] for one in found]
        curves[depth, width, data] = pruning_curve(
            [record for one in found for record in one], METRIC, **shape
        )
        spread.append(np.array(each))
    return outcome, PrunedFamily(
        curves=curves,
        single={
            cell: fit("pruning", curve.density, curve.error, fixed={"e_np": curve.unpruned})
            for cell, curve in curves.items()
        },
        joint=fit_curves(list(curves.values())),
        judged=leave_networks_out(list(curves.values())),
        wider=_widen(list(curves.values())),
        luck=spread_of_seeds(spread),
        seeds=min(map(len, seeds.values())),
    )


def spread_of_seeds(errors: Sequence[Array]) -> float:
    """Standard deviation between seeds, relative to their mean; NaN of one seed.

    Args:
        errors: Of each network, shape (seeds, densities).
    """
    several = [one for one in errors if len(one) > 1]
    if not several:
        return float("nan")
    return float(np.sqrt(np.mean([one.var(axis=0, ddof=1) / one.mean(axis=0) ** 2 for one in several])))


def _widen(curves: Sequence[PruningCurve]) -> Array | None:
    widest = max(curve.width for curve in curves)
    if all(curve.width == widest for curve in curves):
        return None
    law = fit_curves([curve for curve in curves if curve.width < widest])
    off = [
        law.predict(curve.depth, curve.width, curve.density[1:], curve.unpruned) / curve.error[1:] - 1
        for curve in curves
        if curve.width == widest
    ]
    return np.concatenate(off)


def read_off(told: PrunedFamily) -> Array:
    """Weights left for a target, foretold over measured, of networks that the law was not fitted to.

    The targets are 1.25, 1.5, 2 and 3 times the error unpruned, where the network was pruned as far.
    """
    ratios = []
    for law, curve in zip(told.judged.laws, told.curves.values(), strict=True):
        for times in (1.25, 1.5, 2.0, 3.0):
            target = times * curve.unpruned
            if target < curve.error.max():
                foretold = law.density_for(target, curve.depth, curve.width, curve.unpruned)
                # Where by the law not even the whole network has it, nothing may be pruned.
                ratios.append(np.nan_to_num(foretold, nan=1.0) / curve.density_for(target))
    return np.array(ratios)


def show(told: PrunedFamily, console: Console) -> None:
    """How far the laws are off, what the joint one holds, and the smallest network for a target."""
    own, joint = (np.concatenate(off) for off in zip(*map(told.deviations, told.curves), strict=True))
    risen = np.concatenate([curve.error[1:] > RISEN * curve.unpruned for curve in told.curves.values()])
    others = np.concatenate(told.judged.relative)
    table = Table(title="Predicted error over measured, less one")
    for column in ("", "points", "mean", "standard deviation"):
        table.add_column(column, justify="right")
    rows = [
        ("a law for each network", own),
        ("one law for all", joint),
        ("one law, of the other networks", others),
    ]
    if risen.any():
        rows.append((f"the same, errors above {RISEN:g} times the unpruned", others[risen]))
    if told.wider is not None:
        rows.append(("one law, of the narrower networks, for the widest", told.wider))
    for name, off in rows:
        table.add_row(name, str(off.size), f"{off.mean():+.1%}", f"{off.std():.1%}")
    console.print(table)
    law = told.joint
    phi, psi = ([getattr(one, name) for one in told.judged.laws] for name in ("phi", "psi"))
    console.print(
        f"One law of {len(told.curves)} networks: e_up = {law.upper:.3g}, gamma = {law.gamma:.3g}, p = "
        f"{law.p:.3g}, phi = {law.phi:.2f} ({min(phi):.2f} to {max(phi):.2f} as a network is left out), "
        f"psi = {law.psi:.2f} ({min(psi):.2f} to {max(psi):.2f})."
    )
    gammas = dict[int, list[float]]()
    for cell, single in told.single.items():
        gammas.setdefault(cell[1], []).append(single.parameters["gamma"])
    ranges = ", ".join(f"{min(of):.2f} to {max(of):.2f} of width {width}" for width, of in gammas.items())
    console.print(f"In the laws of single networks gamma is {ranges}.")
    if np.isfinite(told.luck):
        by_luck = told.luck / told.seeds**0.5
        rest = max(others.std() ** 2 - by_luck**2, 0.0) ** 0.5
        console.print(
            f"Seeds differ by {told.luck:.1%} of the error, so the mean of {told.seeds}, which is fitted, is "
            f"off by {by_luck:.1%} by luck; without it the law of the other networks would be off by "
            f"{rest:.1%}."
        )
    ratios = read_off(told)
    if ratios.size:
        console.print(
            f"Weights left for a target, by the law of the other networks over those measured, {ratios.size} "
            f"targets: median {np.median(ratios):.2f}, within 25 % in {np.mean(abs(ratios - 1) < 0.25):.0%}."
        )
    for data in sorted({cell[2] for cell in told.curves}):
        for times in (1.2, 2.0):
            _show_smallest(
                [curve for cell, curve in told.curves.items() if cell[2] == data], law, times, data, console
            )


def _show_smallest(
    curves: Sequence[PruningCurve], law: JointPruningLaw, times: float, data: int, console: Console
) -> None:
    """Which network to prune for some times the lowest error, how far, and what was measured of it."""
    target = times * min(curve.unpruned for curve in curves)
    networks = [curve.network for curve in curves]
    found = smallest_for(law, networks, target) if target < law.upper else None
    if found is None:
        return
    network, density = found
    needed = [curve.density_for(target) * curve.weights for curve in curves]
    best, own = int(np.nanargmin(needed)), needed[networks.index(network)]
    console.print(
        f"{data:,} digits, error {target:.1%}: by the law fewest weights in {_shape(network)} pruned to "
        f"{density:.1%}, {density * network.params:,.0f} weights ({own:,.0f} as measured); the fewest "
        f"measured are {needed[best]:,.0f} in {_shape(networks[best])}."
    )


def _shape(network: PrunedNetwork) -> str:
    return f"{network.depth:.0f} x {network.width:.0f}"


def draw(told: PrunedFamily, path: Path) -> None:
    """The errors against density and against m, with the law, and foretold against measured."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(13.5, 4.2), layout="constrained")
    law = told.joint
    colours = pyplot.get_cmap("viridis")(np.linspace(0, 0.95, len(told.curves)))
    ordered = sorted(told.curves, key=lambda cell: float(law.invariant(cell[0], cell[1], 1.0)))
    for cell, colour in zip(ordered, colours, strict=True):
        curve = told.curves[cell]
        along = np.geomspace(curve.density[-1], 1, 100)
        said = law.predict(curve.depth, curve.width, along, curve.unpruned)
        label = f"{cell[0]} x {cell[1]}, {cell[2]:,}"
        axes[0].plot(curve.density, curve.error, "o", ms=3.5, color=colour, label=label)
        axes[0].plot(along, said, lw=0.8, color=colour)
        m = law.invariant(curve.depth, curve.width, curve.density)
        axes[1].plot(m, curve.error / curve.unpruned, "o-", ms=3, lw=0.6, color=colour)
    for curve, off in zip(told.curves.values(), told.judged.relative, strict=True):
        axes[2].plot(curve.error[1:], (1 + off) * curve.error[1:], ".", ms=4, color="tab:blue")
    errors = np.concatenate([curve.error for curve in told.curves.values()])
    axes[2].plot([errors.min(), errors.max()], [errors.min(), errors.max()], color="grey", lw=0.8)
    marks = [mark for mark in (0.05, 0.1, 0.2, 0.4, 0.8) if errors.min() <= mark <= errors.max()]
    axes[0].set(xlabel="share of weights kept", ylabel="test error", title="one law for all networks")
    axes[0].legend(title="depth x width, digits", fontsize=6, ncols=2)
    axes[1].set(
        xlabel=f"m = depth^{law.phi:.2f} width^{law.psi:.2f} density", ylabel="test error / error unpruned"
    )
    axes[2].set(xlabel="measured error", ylabel="error by the law of the other networks")
    for axis in axes:
        axis.set(xscale="log", yscale="log")
    for axis in (axes[0].yaxis, axes[2].xaxis, axes[2].yaxis):
        axis.set_minor_formatter("")
        axis.set_ticks(marks, [f"{mark:.0%}" for mark in marks])
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


if __name__ == "__main__":
    data = "the zip-code digits as an .npz file; by default scikit-learn's, enlarged"
    run_command(__doc__, "pruning_runs", run, show, draw, data=data)
