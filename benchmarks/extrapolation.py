"""How far off, and how sure of itself, is `forecast` on published learning curves? Beside its peers.

    python benchmarks/extrapolation.py --data FOLDER

The curves are those of Alabdulmohsin et al. 2022 (arXiv:2209.06640): fitted on the points marked for
training, scored on the others (about twice as far). Peers, on the same points: their own estimator M4, as
recomputed by its authors' code and stored beside the curves; the last value; and what most notebooks do, a
residual bootstrap around scipy's `curve_fit` of a power law with offset, from many starts. RMSLE is the root
mean square of ln(forecast / truth) over a curve's held-out points.
"""

from __future__ import annotations

import argparse
import csv
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.optimize import OptimizeWarning, curve_fit

import foretrain

LEVELS = (0.8, 0.9)
Answer = tuple[np.ndarray, dict[float, tuple[np.ndarray, np.ndarray]]]


@dataclass(frozen=True)
class Curve:
    """One learning curve, split as its authors split it; M4's error on it, where they tell one."""

    domain: str
    x: np.ndarray
    y: np.ndarray
    x_far: np.ndarray
    y_far: np.ndarray
    m4: float


def read_curves(folder: Path) -> list[Curve]:
    """The curves, each with M4's RMSLE."""
    rows, m4 = defaultdict(list), {}
    with (folder / "learning_curves.csv").open() as file:
        for row in csv.DictReader(file):
            rows[row["domain"], row["task"], row["model"]].append(row)
    with (folder / "m1_m4_recomputed.csv").open() as file:
        for row in csv.DictReader(file):
            if row["estimator"] == "M4":
                m4[row["domain"], row["task"], row["model"]] = float(row["rmsle"])
    curves = []
    for key, points in sorted(rows.items()):
        near = sorted({(float(r["seen"]), float(r["loss"])) for r in points if r["train"] == "1"})
        far = [(float(r["seen"]), float(r["loss"])) for r in points if r["train"] == "0"]
        x, y = np.array(list(dict(near).items())).T
        curves.append(Curve(key[0], x, y, *np.array(far).T, m4[key]))
    return curves


def ours(x: np.ndarray, y: np.ndarray, at: np.ndarray) -> Answer:
    """`foretrain.forecast`."""
    result = foretrain.forecast(x, y, at, levels=LEVELS)
    return result.median, {level: (result.lower[level], result.upper[level]) for level in LEVELS}


def last_value(x: np.ndarray, y: np.ndarray, at: np.ndarray) -> Answer:
    """No extrapolation at all."""
    return np.full(at.shape, y[-1]), {}


def bootstrap(x: np.ndarray, y: np.ndarray, at: np.ndarray, draws: int = 200) -> Answer:
    """A power law with offset by `curve_fit` from 20 starts; residuals drawn anew around it, and as noise."""
    rng = np.random.default_rng(0)
    u, far = x / x.max(), at / x.max()

    def law(u: np.ndarray, e: float, a: float, b: float) -> np.ndarray:
        return e + a * u**-b

    def refit(values: np.ndarray, start: list[float]) -> np.ndarray | None:
        try:
            return curve_fit(law, u, values, p0=start, bounds=([0, 0, 0.01], [y.max(), np.inf, 3]))[0]
        except (RuntimeError, ValueError):
            return None

    fits = [
        refit(y, [rng.uniform(0, y.min()), rng.uniform(0.01, 1), rng.uniform(0.05, 2)]) for _ in range(20)
    ]
    best = min((p for p in fits if p is not None), key=lambda p: float(((law(u, *p) - y) ** 2).sum()))
    fitted = law(u, *best)
    residuals, drawn = y - fitted, []
    for _ in range(draws):
        again = refit(fitted + rng.choice(residuals, y.size), list(np.clip(best, [1e-9, 1e-9, 0.011], None)))
        if again is not None:
            drawn.append(law(far, *again) + rng.choice(residuals, far.size))
    cloud = np.array(drawn)
    intervals = {
        level: tuple(np.quantile(cloud, [0.5 - level / 2, 0.5 + level / 2], axis=0)) for level in LEVELS
    }
    return law(far, *best), intervals


METHODS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], Answer]] = {
    "foretrain": ours,
    "curve_fit + bootstrap": bootstrap,
    "last value": last_value,
}


def main() -> None:
    """Prints accuracy and coverage by domain."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder that holds alabdulmohsin2022")
    folder = parser.parse_args().data / "alabdulmohsin2022"
    if not folder.is_dir():
        raise SystemExit(f"Expected {folder}: give --data the folder of published curves.")
    warnings.simplefilter("ignore", OptimizeWarning)
    curves = read_curves(folder)
    errors, covered, widths, spent = (defaultdict(lambda: defaultdict(list)) for _ in range(4))
    for curve in track(curves, "curves"):
        errors["M4 (its authors')"][curve.domain].append(curve.m4)
        for name, method in METHODS.items():
            begun = time.process_time()
            median, intervals = method(curve.x, curve.y, curve.x_far)
            spent[name][curve.domain].append(time.process_time() - begun)
            errors[name][curve.domain].append(float(np.sqrt(np.mean(np.log(median / curve.y_far) ** 2))))
            for level, (lower, upper) in intervals.items():
                inside = (lower <= curve.y_far) & (curve.y_far <= upper)
                covered[name, level][curve.domain].append(float(inside.mean()))
                if level == 0.9:
                    width = np.log(upper / np.maximum(lower, 1e-9))
                    widths[name][curve.domain].append(float(np.median(width)))
    show(curves, errors, covered, widths, spent)


def show(curves: list[Curve], errors: dict, covered: dict, widths: dict, spent: dict) -> None:
    """The tables."""
    console, domains = Console(), sorted({curve.domain for curve in curves})
    names = ["foretrain", "M4 (its authors')", "curve_fit + bootstrap", "last value"]
    table = Table(title="RMSLE on held-out points: mean over curves (median)")
    for column in ("domain", "curves", *names):
        table.add_column(column, justify="right")
    for domain in domains:
        told = [f"{np.mean(errors[n][domain]):.4f} ({np.median(errors[n][domain]):.4f})" for n in names]
        table.add_row(domain, str(len(errors["foretrain"][domain])), *told)
    console.print(table)

    rng = np.random.default_rng(0)
    pooled = {name: np.array([e for d in domains for e in errors[name][d]]) for name in names}
    for name in names[1:]:
        drawn = rng.integers(0, len(curves), (4000, len(curves)))
        ratios = pooled["foretrain"][drawn].mean(axis=1) / pooled[name][drawn].mean(axis=1)
        low, high = np.quantile(ratios, [0.025, 0.975])
        ratio = pooled["foretrain"].mean() / pooled[name].mean()
        wins = float((pooled["foretrain"] < pooled[name]).mean())
        console.print(
            f"foretrain / {name}: {ratio:.2f} (95 % over curves {low:.2f} to {high:.2f}), "
            f"better on {wins:.0%}"
        )

    table = Table(title="Coverage of held-out points, and width of the 90 % interval (median, log scale)")
    for column in ("domain", *(f"{n}: {w}" for n in names[::2] for w in ("80 %", "90 %", "width"))):
        table.add_column(column, justify="right")
    for domain in domains:
        told = []
        for name in names[::2]:
            told += [f"{np.mean(covered[name, level][domain]):.2f}" for level in LEVELS]
            told.append(f"{np.median(widths[name][domain]):.3f}")
        table.add_row(domain, *told)
    console.print(table)
    for name in METHODS:
        seconds = [s for d in domains for s in spent[name][d]]
        console.print(f"{name}: median {1000 * np.median(seconds):.1f} ms of processor time a curve")


if __name__ == "__main__":
    main()
