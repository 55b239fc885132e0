"""Joint projections over model size and data, on families of runs that others published.

    python benchmarks/joint.py --data FOLDER

The folder holds `gadre2024`, `olmo_ladder`, `porian2024` and `epoch_chinchilla`. Errors are of the logarithm
of the loss, in per cent; coverage is of the held-out runs; width is that of the 90 % interval, in per cent.
The settings of `foretrain.families` were settled on epoch_chinchilla and porian2024; gadre2024 and
olmo_ladder are tests. Peers: the nearest known run, the Chinchilla law fitted with Hoffmann's Huber loss, and
for gadre2024 its authors' own form and starts, fitted by scipy.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.optimize import OptimizeWarning, curve_fit

import foretrain
from foretrain.families.family import family_moments
from foretrain.fitting import fit
from foretrain.frontier import find_optimum, fit_growth

Points = tuple[np.ndarray, np.ndarray, np.ndarray]
Task = tuple[Points, Points]
Point = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]

CONSOLE = Console(width=130)
OLMO = ("0.5xC", "1xC", "2xC", "5xC", "10xC")


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a table."""
    with path.open() as file:
        return list(csv.DictReader(file))


def columns(rows: list[dict[str, str]], *names: str) -> Points:
    """The named columns as numbers."""
    return tuple(np.array([float(row[name]) for row in rows]) for name in names)


def nearest(n: np.ndarray, d: np.ndarray, y: np.ndarray, at_n: np.ndarray, at_d: np.ndarray) -> np.ndarray:
    """The loss of the known run nearest in ln N and ln D: no extrapolation at all."""
    apart = np.log(n[:, None] / at_n) ** 2 + np.log(d[:, None] / at_d) ** 2
    return y[np.argmin(apart, axis=0)]


def huber(n: np.ndarray, d: np.ndarray, y: np.ndarray, at_n: np.ndarray, at_d: np.ndarray) -> np.ndarray:
    """The Chinchilla law, Huber loss with delta 1e-3, all points alike (Hoffmann et al. 2022)."""
    if y.size < 5:
        return np.full(at_n.size, np.nan)
    return fit("chinchilla", np.stack([n, d]), y, huber_delta=1e-3).predict(np.stack([at_n, at_d]))


def gadre(n: np.ndarray, d: np.ndarray, y: np.ndarray, at_n: np.ndarray, at_d: np.ndarray) -> np.ndarray:
    """`E + a N^b + b' 6^(b/2) D^b`, least squares from the authors' 64 starts (Gadre et al. 2024)."""

    def form(x: np.ndarray, a: float, c: float, b: float, e: float) -> np.ndarray:
        return e + a * x[0] ** b + c * 6 ** (b / 2) * x[1] ** b

    best, least = None, np.inf
    scales = (1e2, 1e3, 3e2, 3e3)
    for start in itertools.product(scales, scales, (-0.1, -0.3), (0, 1, 2, 10)):
        try:
            with np.errstate(all="ignore"):
                found, _ = curve_fit(form, np.stack([n, d]), y, p0=start, maxfev=2000)
        except RuntimeError:
            continue
        left = float(((form(np.stack([n, d]), *found) - y) ** 2).sum())
        if left < least:
            best, least = found, left
    return np.full(at_n.size, np.nan) if best is None else form(np.stack([at_n, at_d]), *best)


def scored(tasks: list[Task], peers: dict[str, Point]) -> list[str]:
    """Over tasks that count alike: our error, bias, coverage and width, then the peers' errors."""
    off, told80, told90, width = [], [], [], []
    others = defaultdict(list)
    for known, (at_n, at_d, at_y) in tasks:
        answer = foretrain.forecast_joint(*known, at_n, at_d, levels=(0.8, 0.9))
        off.append(np.log(answer.median / at_y))
        for level, told in ((0.8, told80), (0.9, told90)):
            told.append(np.mean((answer.lower[level] <= at_y) & (at_y <= answer.upper[level])))
        width.append(np.median(np.log(answer.upper[0.9] / answer.lower[0.9])))
        for name, peer in peers.items():
            others[name].append(np.log(peer(*known, at_n, at_d) / at_y))

    def rms(values: list[np.ndarray]) -> str:
        error = 100 * np.sqrt(np.mean([np.mean(v**2) for v in values]))
        return f"{error:.2f}" if np.isfinite(error) else "-"

    bias = f"{100 * np.mean([v.mean() for v in off]):+.2f}"
    ours = [
        rms(off),
        bias,
        f"{np.mean(told80):.2f}",
        f"{np.mean(told90):.2f}",
        f"{100 * np.median(width):.1f}",
    ]
    return ours + [rms(others[name]) for name in peers]


def show(title: str, groups: dict[str, list[Task]], peers: dict[str, Point]) -> None:
    """One table of scores."""
    table = Table(title=title)
    names = ("", "asked", "error", "bias", "80 %", "90 %", "width", *peers)
    for index, name in enumerate(names):
        table.add_column(name, justify="right" if index else "left")
    for name, tasks in groups.items():
        asked = sum(far[2].size for _, far in tasks)
        table.add_row(name, str(asked), *scored(tasks, peers))
    CONSOLE.print(table)


def gadre_tables(folder: Path) -> None:
    """Five small runs against the two largest; then the same question from all runs below a size."""
    rows = rows_of(folder / "runs.csv")
    losses = [name for name in rows[0] if name.startswith("loss_")]
    corpora = sorted({row["train_set"] for row in rows})
    table = Table(title="gadre2024: five small runs, error of each large run in % (90 % interval)")
    for name in ("corpus", "loss", "1.4B at 640 a parameter", "6.9B at 20", "Gadre's form", "nearest run"):
        table.add_column(name)
    groups: dict[str, list[Task]] = {}
    for corpus, loss in itertools.product(corpora, losses):
        own = [row for row in rows if row["train_set"] == corpus and row[loss]]
        size = sorted({float(row["N"]) for row in own})
        near = {(size[k], 1.0) for k in range(4)} | {(size[0], 16.0)}
        far = [(size[4], 32.0), (size[5], 1.0)] if len(size) > 5 else []
        at = {(float(row["N"]), float(row["chinchilla_multiplier"])): row for row in own}
        if not far or not (near | set(far)) <= set(at):
            continue
        known = columns([at[key] for key in near], "N", "D_tokens", loss)
        asked = columns([at[key] for key in far], "N", "D_tokens", loss)
        groups.setdefault(f"{corpus}, five runs, all losses", []).append((known, asked))
        answer = foretrain.forecast_joint(*known, *asked[:2])
        ends = [np.array(v) for v in (answer.median, answer.lower[0.9], answer.upper[0.9])]
        told = [100 * (end / asked[2] - 1) for end in ends]
        cells = [f"{m:+.2f} ({low:+.1f} to {high:+.1f})" for m, low, high in zip(*told, strict=True)]
        others = [100 * (peer(*known, *asked[:2]) / asked[2] - 1) for peer in (gadre, nearest)]
        table.add_row(corpus, loss[5:], *cells, *(f"{a:+.2f}, {b:+.2f}" for a, b in others))
        n, d, y = columns(own, "N", "D_tokens", loss)
        for cut in size[3:5]:
            below = n <= cut
            task = ((n[below], d[below], y[below]), (n[~below], d[~below], y[~below]))
            groups.setdefault(f"{corpus}, all runs up to {cut:.2g}, larger", []).append(task)
    CONSOLE.print(table)
    show(
        "gadre2024: all losses together", groups, {"Gadre's form": gadre, "Huber": huber, "nearest": nearest}
    )


def olmo_tasks(folder: Path) -> dict[str, list[Task]]:
    """Two sizes: finals from finals; and what points from the middle of a decaying schedule do to that."""
    runs = defaultdict(list)
    for row in rows_of(folder / "val_loss_curves.csv"):
        runs[row["run"]].append(row)
    small, large = ([f"{size}-{k}" for k in OLMO] for size in ("190M", "370M"))
    designs = {
        "370M-10x from 190M (5), 370M (.5 to 5)": (small + large[:4], [], large[4:]),
        "370M-10x from 190M (5), 370M (.5 to 2)": (small + large[:3], [], large[4:]),
        "370M (4) from 190M (5), 370M-1x": (small + large[1:2], [], large[:1] + large[2:]),
        "370M (5) from 190M (5) alone": (small, [], large),
        "190M-10x from 190M (.5 to 5)": (small[:4], [], small[4:]),
        "MIXED: the first, with half of the 370M-10x curve": (small + large[:4], large[4:], large[4:]),
        "MIXED: 190M (5), half of the 370M-10x curve": (small, large[4:], large[4:]),
        "UNFINISHED: half of the 10x curves alone": ([], [small[4], large[4]], large[4:]),
    }
    losses = [name for name in runs[small[0]][0] if name.startswith("loss_")]
    groups: dict[str, list[Task]] = defaultdict(list)
    for loss in losses:
        for name, (finals, halves, asked) in designs.items():
            rows = [runs[run][-1] for run in finals]
            for run in halves:
                end = float(runs[run][-1]["tokens"])
                rows += [row for row in runs[run] if 0.05 * end <= float(row["tokens"]) <= 0.5 * end]
            far = columns([runs[run][-1] for run in asked], "N", "tokens", loss)
            groups[name].append((columns(rows, "N", "tokens", loss), far))
    return groups


def setting(row: dict[str, str]) -> tuple[str, ...]:
    """What distinguishes the experiments of porian2024."""
    return tuple(row[k] for k in ("file", "hparams", "warmup", "decay", "param_count", "val"))


def porian_table(folder: Path) -> None:
    """The published exponents, and the optima found anew from the points."""
    pairs, points = defaultdict(list), defaultdict(list)
    for row in rows_of(folder / "optimal_pairs.csv"):
        if row["n"]:
            pairs[setting(row)].append(row)
    for row in rows_of(folder / "isoflop_points.csv"):
        points[setting(row), float(row["flops"])].append(row)
    table = Table(title="porian2024: exponent of the compute-optimal size, and the optima found anew")
    heads = ("setting", "weighted", "published", "basic", "published", "optima", "|ln n - published|")
    for name in (*heads, "largest", "within its std", "std / published", "exponent anew"):
        table.add_column(name)
    for row in rows_of(folder / "published_fit_results.csv"):
        known = pairs[setting(row)]
        c, n, std = columns(known, "flops", "n", "n_star_std")
        found = []
        for budget in c:
            at = columns(points[setting(row), budget], "N", "loss")
            found.append(find_optimum(*at, log_noise=0.002, replicates=200))
        off = np.abs(np.log([o.n for o in found]) - np.log(n))
        own = np.array([o.log_n_std for o in found])
        table.add_row(
            " ".join(setting(row)[1:5]),
            f"{fit_growth(c, n, std).exponent:.4f}",
            f"{float(row['weighted_n_exponent']):.4f}",
            f"{fit_growth(c, n).exponent:.4f}",
            f"{float(row['basic_n_exponent']):.4f}",
            f"{sum(o.inside for o in found)} of {c.size}",
            f"{np.median(off):.3f}",
            f"{off.max():.3f}",
            f"{np.mean(off < std):.2f}",
            f"{np.median(own / std):.2f}",
            f"{fit_growth(c, [o.n for o in found], own).exponent:.4f}",
        )
    CONSOLE.print(table)


def larger_tasks(folder: Path) -> dict[str, list[Task]]:
    """Fitted below a size, asked above it; and five runs along a ridge, drawn at random."""
    rows = [
        r for r in rows_of(folder / "epoch_chinchilla/chinchilla_runs.csv") if r["excluded_outlier"] == "0"
    ]
    n, d, y = columns(rows, "N", "D", "loss")
    groups: dict[str, list[Task]] = defaultdict(list)
    for cut in (2.5e8, 5e8, 1e9, 2e9, 4e9):
        small = n < cut
        task = ((n[small], d[small], y[small]), (n[~small], d[~small], y[~small]))
        groups[f"epoch_chinchilla below {cut:.2g}"].append(task)
    groups["epoch_chinchilla, five runs (60 draws)"] = list(_fives(n, d, y))
    for points in porian_points(folder).values():
        n, d, y = points
        sizes = np.unique(n)
        for count in (5, 7, 9, 11):
            small = n <= sizes[count - 1]
            task = ((n[small], d[small], y[small]), (n[~small], d[~small], y[~small]))
            groups[f"porian2024, {count} smallest sizes"].append(task)
    return groups


def counted_tasks(folder: Path) -> dict[str, list[Task]]:
    """The next larger sizes from four, by what counts as a parameter: with the head or without."""
    groups: dict[str, list[Task]] = defaultdict(list)
    for key, (n, d, y) in porian_points(folder).items():
        sizes = np.unique(n)
        for first in range(sizes.size - 4):
            known = np.isin(n, sizes[first : first + 4])
            ratio = n / sizes[first + 3]
            asked = (ratio > 1.6) & (ratio < 4.5) & (d < 1.05 * d[known].max()) & (d > 0.1 * d[known].max())
            if known.sum() >= 8 and asked.any():
                task = ((n[known], d[known], y[known]), (n[asked], d[asked], y[asked]))
                groups[" ".join(key[1:5])].append(task)
    return groups


def _fives(n: np.ndarray, d: np.ndarray, y: np.ndarray) -> Iterator[Task]:
    """Four runs near 20 tokens a parameter, one of the smallest size far above; larger runs."""
    rng = np.random.default_rng(7)
    made, each = 0, d / n
    ridge = np.flatnonzero((n < 1.2e9) & (each > 8) & (each < 50))
    while made < 60:
        pick = rng.choice(ridge, 4, replace=False)
        least = pick[np.argmin(n[pick])]
        over = np.flatnonzero((np.abs(np.log(n / n[least])) < 0.02) & (each > 3 * each[least]))
        gaps = np.diff(np.sort(np.log(n[pick])))
        far = np.flatnonzero(n > 2 * n[pick].max())
        if gaps.sum() < 1.2 or gaps.min() < 0.15 or not over.size or far.size < 3:
            continue
        made += 1
        known = np.append(pick, over[np.argmax(each[over])])
        sizes = np.append(n[pick], n[least])
        asked = rng.choice(far, min(6, far.size), replace=False)
        yield (sizes, d[known], y[known]), (n[asked], d[asked], y[asked])


def porian_points(folder: Path) -> dict[tuple[str, ...], Points]:
    """The points with at least three tokens a parameter, by setting."""
    groups = defaultdict(list)
    for row in rows_of(folder / "porian2024/isoflop_points.csv"):
        if float(row["tokens"]) >= 3 * float(row["N"]):
            groups[setting(row)].append(row)
    return {key: columns(rows, "N", "tokens", "loss") for key, rows in groups.items()}


def timing() -> None:
    """Processor time of one answer for 60 sizes of 20 points."""
    rng = np.random.default_rng(0)
    n = np.repeat(np.geomspace(1e6, 1e9, 60), 20)
    shared = np.tile(np.geomspace(1e8, 1e10, 20), 60)
    own = (np.geomspace(1e6, 1e9, 60)[:, None] * np.geomspace(1, 20, 20)).ravel() * rng.uniform(
        0.9, 1.1, 1200
    )
    grid = np.geomspace(1e6, 1e11, 66)
    for name, d in (("the same D in all", shared), ("D of each its own", own)):
        y = (1.7 + 400 * n**-0.34 + 400 * d**-0.28) * np.exp(rng.normal(0, 0.003, n.size))
        for what, at in (("one larger size", grid[-1:]), ("66 sizes, from the smallest", grid)):
            spent = []
            for _ in range(3):
                begun = time.process_time()
                family_moments(n, d, y, at, np.full(at.size, d.max()))
                spent.append(time.process_time() - begun)
            CONSOLE.print(f"60 sizes x 20 points, {name}, {what}: {min(spent):.2f} s of processor time")


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the published runs")
    folder = parser.parse_args().data
    for name in ("gadre2024", "olmo_ladder", "porian2024", "epoch_chinchilla"):
        if not (folder / name).is_dir():
            raise SystemExit(f"Expected {folder / name}: give --data the folder of published runs.")
    warnings.simplefilter("ignore", OptimizeWarning)
    both = {"Huber": huber, "nearest": nearest}
    gadre_tables(folder / "gadre2024")
    show("olmo_ladder: two sizes, eleven losses", olmo_tasks(folder / "olmo_ladder"), both)
    porian_table(folder / "porian2024")
    show("Larger sizes from smaller ones", larger_tasks(folder), both)
    title = "porian2024: the next sizes from four; last word: what counts as a parameter (kaplan: no head)"
    show(title, counted_tasks(folder), both)
    timing()


if __name__ == "__main__":
    main()
