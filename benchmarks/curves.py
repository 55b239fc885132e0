"""Published learning curves, each cut in two: points to fit on, and later ones to score.

Nothing is downloaded: `--data FOLDER` (or the environment variable FORETRAIN_DATA) names a folder with one
sub-folder per set. A set that is absent is said to be absent, and left out.

- `alabdulmohsin2022`: error against examples seen, Alabdulmohsin et al. 2022 (arXiv:2209.06640). At horizon 2
  the split of its authors; beyond, the whole curve cut at its largest x over the horizon.
- `lcdb11`: error rate of tabular learners against training-set size, LCDB 1.1, with standard errors.
- `double_descent`: Nakkiran et al. 2019 (arXiv:1912.02292), as packed by NSL-PFN with its split.
- `multipowerlaw`: loss against step at a constant learning rate, Luo et al. 2025 (arXiv:2503.12811).
"""

from __future__ import annotations

import ast
import csv
import gzip
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FEWEST = 6
"""A curve with fewer points before its cut is left out."""
SCORED_FROM = 1.5
"""Where a curve is cut by horizon, points beyond its largest x over this are scored."""
LCDB_CURVES = 120
CONSTANT_POINTS = 100
SETS = {
    "alabdulmohsin2022": ("IC", "NMT", "LM", "BB"),
    "lcdb11": ("LCDB",),
    "double_descent": ("double descent",),
    "multipowerlaw": ("constant rate",),
}
"""The domains of each set, in the order of the tables."""


@dataclass(frozen=True)
class Curve:
    """One learning curve, cut in two.

    Attributes:
        domain: What kind of curve it is, one of those in `SETS`.
        group: Curves of one group are not independent: bootstrap by group.
        name: Its name within the set.
        x: Where it is fitted, shape (n,), rising, in the set's unit (examples, steps, parameters).
        y: Its error there, shape (n,), positive.
        y_se: Standard errors of `y`, shape (n,), where the set tells them.
        x_far: Where it is scored, shape (m,), all beyond `x`; repeated rows are kept.
        y_far: Its error there, shape (m,).
    """

    domain: str
    group: str
    name: str
    x: np.ndarray
    y: np.ndarray
    y_se: np.ndarray | None
    x_far: np.ndarray
    y_far: np.ndarray


def cut(x: np.ndarray, horizon: float) -> tuple[np.ndarray, np.ndarray]:
    """Which points of a curve are fitted and which are scored, two masks of shape (n,).

    Fitted: up to the largest x over `horizon`. Scored: beyond the largest x over `SCORED_FROM`, so that every
    horizon is scored on the same points.
    """
    if horizon < SCORED_FROM:
        raise ValueError(
            f"Expected a horizon of at least {SCORED_FROM}, got {horizon}: points would be seen."
        )
    return x <= x.max() / horizon, x > x.max() / SCORED_FROM


def _rows(path: Path) -> list[dict[str, str]]:
    opened = gzip.open(path, "rt") if path.suffix == ".gz" else path.open()
    with opened as file:
        return list(csv.DictReader(file))


def _grouped(rows: Iterable[dict[str, str]], *keys: str) -> dict[tuple[str, ...], list[dict[str, str]]]:
    groups = defaultdict(list)
    for row in rows:
        groups[tuple(row[key] for key in keys)].append(row)
    return dict(sorted(groups.items()))


def _columns(rows: Iterable[dict[str, str]], *names: str) -> np.ndarray:
    """Columns as numbers, sorted by the first; shape (columns, rows)."""
    values = np.array([[float(row[name]) for name in names] for row in rows]).reshape(-1, len(names))
    return values[np.argsort(values[:, 0], kind="stable")].T


def _without_repeats(x: np.ndarray, *others: np.ndarray) -> tuple[np.ndarray, ...]:
    """One point for each x: the last, as in the mapping that the authors of the set fit."""
    last = np.append(np.diff(x) > 0, True)
    return tuple(values[last] for values in (x, *others))


def alabdulmohsin(folder: Path, horizon: float = 2) -> list[Curve]:
    """46 curves; a group is one pair of data set and model, whatever the number of shots."""
    curves = []
    rows = _rows(folder / "alabdulmohsin2022" / "learning_curves.csv")
    for (domain, task, model), points in _grouped(rows, "domain", "task", "model").items():
        near = _without_repeats(*_columns((p for p in points if p["train"] == "1"), "seen", "loss"))
        far = _columns((p for p in points if p["train"] == "0"), "seen", "loss")
        if horizon != 2:
            whole = _without_repeats(*_columns(points, "seen", "loss"))
            fitted, scored = cut(whole[0], horizon)
            if fitted.sum() < FEWEST:
                continue
            near, far = tuple(v[fitted] for v in whole), np.array([v[scored] for v in whole])
        data = ast.literal_eval(task)[0] if domain == "BB" else task.split("_")[0] if domain == "IC" else task
        group = f"{domain}, {data}, {model}"
        curves.append(Curve(domain, group, f"{task}, {model}", *near, None, *far))
    return curves


def _improves(y: np.ndarray, se: np.ndarray) -> bool:
    """Whether the error at the cut is two standard errors of the difference below the first one.

    Looks at nothing but the points that are fitted.
    """
    return bool(y[0] - y[-1] > 2 * np.hypot(se[0], se[-1]))


def lcdb(
    folder: Path,
    horizon: float = 2,
    limit: int = LCDB_CURVES,
    improves: Callable[[np.ndarray, np.ndarray], bool] = _improves,
) -> list[Curve]:
    """Test error against training points; a group is one data set.

    Of learners that improve before the cut, by the rule given of their error there and its standard error,
    `limit` evenly spaced in the order of data set and learner. An error of zero has no logarithm: curves that
    hold one are left out.
    """
    curves = []
    rows = _rows(folder / "lcdb11" / "curves.csv.gz")
    for (data, learner), points in _grouped(rows, "dataset", "learner").items():
        x, y, se = _without_repeats(*_columns(points, "n_train", "test", "test_se"))
        fitted, scored = cut(x, horizon)
        usable = fitted.sum() >= FEWEST and np.isfinite(y).all() and y.min() > 0
        if usable and improves(y[fitted], se[fitted]):
            parts = x[fitted], y[fitted], se[fitted], x[scored], y[scored]
            curves.append(Curve("LCDB", f"LCDB, {data}", f"{data}, {learner}", *parts))
    chosen = np.unique(np.linspace(0, len(curves) - 1, limit).round().astype(int)) if curves else []
    return [curves[i] for i in chosen]


def double_descent(folder: Path, horizon: float = 2) -> list[Curve]:
    """Curves that rise in between, with the split they are published with; nothing at other horizons."""
    curves = []
    if horizon != 2:
        return []
    for (task,), points in _grouped(_rows(folder / "double_descent" / "curves.csv"), "task").items():
        x, y = _without_repeats(*_columns((p for p in points if float(p["context"]) == 1), "x", "y"))
        far = _columns((p for p in points if float(p["context"]) != 1), "x", "y")
        curves.append(Curve("double descent", f"double descent, {task}", task, x, y, None, *far))
    return curves


def constant_rate(folder: Path, horizon: float = 2) -> list[Curve]:
    """Training losses at a constant rate, two sizes by two lengths, thinned; a group is one size.

    Every k-th point is kept, from the first to fit on, with the smallest k that leaves at most
    `CONSTANT_POINTS` points to fit on; the points to score are thinned by the same k.
    """
    curves = []
    rows = _rows(folder / "multipowerlaw" / "loss_curves.csv")
    for (size, schedule), points in _grouped(rows, "model_M", "schedule").items():
        if not schedule.startswith("constant_"):
            continue
        x, y = _without_repeats(*_columns(points, "step", "loss"))
        fitted, scored = cut(x, horizon)
        every = -(-int(fitted.sum()) // CONSTANT_POINTS)
        parts = (x[fitted], y[fitted], None, x[scored], y[scored])
        if fitted.sum() >= FEWEST:
            thin = (part if part is None else part[::every] for part in parts)
            curves.append(Curve("constant rate", f"constant rate, {size}M", f"{size}M, {schedule}", *thin))
    return curves


LOADERS: dict[str, Callable[..., list[Curve]]] = {
    "alabdulmohsin2022": alabdulmohsin,
    "lcdb11": lcdb,
    "double_descent": double_descent,
    "multipowerlaw": constant_rate,
}


def load(folder: Path, horizon: float = 2, sets: Iterable[str] = tuple(SETS)) -> list[Curve]:
    """The curves of those sets that are in the folder, cut at one horizon.

    Raises:
        SystemExit: If none of them is there; the message says what was expected.
    """
    curves = []
    for name in sets:
        if (folder / name).is_dir():
            curves += LOADERS[name](folder, horizon)
        else:
            print(f"no {name} in {folder}: left out")
    if not curves:
        raise SystemExit(f"Expected at least one of {', '.join(sets)} in {folder}: give --data their folder.")
    return curves
