"""Does a run's own track record tell how wide its later bands should be? Published curves, replayed.

    python benchmarks/track_record.py --data data

Each curve is forecast at twelve times, evenly in the logarithm, at all later ones. When the run gets to a
time the forecasts of it that were made before are scored, and the 90 % bands of later forecasts are widened
or narrowed by how many of them missed, in two ways:

- "level": adaptive conformal inference (Gibbs and Candes 2021): the level of misses alpha that the next bands
  are made for moves by gamma (.1 - misses); kept between .01 and .5.
- "width": quantile tracking (Angelopoulos, Candes and Tibshirani 2023, P control): the logarithm of a factor
  on the bands' logarithmic widths moves by eta (misses - .1).

Coverage is of the next time and of the end of the run, with the width of the band over the unadapted one's
and the interval score in the logarithm (Winkler), lower is better. Runs under a schedule have no earlier
runs.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.special import ndtri

import curves
import foretrain
import schedule_curves
from scores import log_ends, winkler

TIMES, FIRST, LEVEL = 12, 0.1, 0.9
MISSES = 1.0 - LEVEL
PER_GROUP = 2
"""Curves of `olmo_ladder` of one size and schedule length, beyond which the rest is left out."""

Forecasts = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Median, lower and upper end, each of shape (times, times) by when it was made and of when; what came."""


def made_along(
    x: np.ndarray, y: np.ndarray, ask: Callable[[np.ndarray, np.ndarray, np.ndarray], foretrain.Forecast]
) -> Forecasts | None:
    """The forecasts of one curve; None where it has too few points for them."""
    at = np.unique(np.searchsorted(x, np.geomspace(FIRST, 1.0, TIMES + 1) * x[-1], side="right") - 1)
    at = at[at >= 4]
    if at.size < 8:
        return None
    shape = (at.size, at.size)
    median, lower, upper = (np.full(shape, np.nan) for _ in range(3))
    for i, newest in enumerate(at[:-1]):
        told = ask(x[: newest + 1], y[: newest + 1], x[at[i + 1 :]])
        median[i, i + 1 :] = told.median
        lower[i, i + 1 :], upper[i, i + 1 :] = told.lower[LEVEL], told.upper[LEVEL]
    return median, lower, upper, y[at]


def factors(found: Forecasts, rule: str, speed: float) -> np.ndarray:
    """By what the logarithmic bands made at each time are widened, shape (times,), from what came by then."""
    median, lower, upper, came = found
    count = came.size
    factor, alpha = np.ones(count), MISSES
    for now in range(1, count - 1):
        before = slice(0, now)
        # Each forecast of now with the factor that it was told with.
        low = np.log(lower[before, now] / median[before, now]) * factor[before]
        high = np.log(upper[before, now] / median[before, now]) * factor[before]
        off = np.log(came[now] / median[before, now])
        missed = float(((off < low) | (off > high)).mean())
        if rule == "level":
            alpha = float(np.clip(alpha + speed * (MISSES - missed), 0.01, 0.5))
            factor[now] = ndtri(1 - alpha / 2) / ndtri(1 - MISSES / 2)
        else:
            factor[now] = factor[now - 1] * np.exp(speed * (missed - MISSES))
    return factor


def scored(
    found: Sequence[Forecasts], rule: str, speed: float, end: bool
) -> tuple[float, float, float, float]:
    """Coverage with its standard error over curves, width over the unadapted, and interval score."""
    inside, widths, points = [], [], []
    for median, lower, upper, came in found:
        factor = factors((median, lower, upper, came), rule, speed) if rule else np.ones(came.size)
        # The first forecasts have no record yet.
        made = np.arange(2, came.size - 1)
        of = np.full(made.size, came.size - 1) if end else made + 1
        middle, truth = median[made, of], came[of]
        low = middle * (lower[made, of] / middle) ** factor[made]
        high = middle * (upper[made, of] / middle) ** factor[made]
        inside.append(float(((low <= truth) & (truth <= high)).mean()))
        widths.append(float(np.log(factor[made]).mean()))
        ends = log_ends(low, high, middle)
        points.append(float(np.mean(winkler(*ends, np.log(truth), LEVEL))))
    error = float(np.std(inside) / np.sqrt(len(inside)))
    return float(np.mean(inside)), error, float(np.exp(np.mean(widths))), float(np.mean(points))


def _through_schedule(lr: np.ndarray, x: np.ndarray, y: np.ndarray, at: np.ndarray) -> foretrain.Forecast:
    return foretrain.forecast_run(x.astype(int), y, lr, at.astype(int), levels=(LEVEL,))


def gathered(folder: Path, limit: int) -> dict[str, list[Forecasts]]:
    """The forecasts of every curve, by set."""
    found: dict[str, list[Forecasts]] = {}
    for name, runs in schedule_curves.load(folder).items():
        seen: dict[tuple[str, str], int] = {}
        for run in runs:
            group = (run.group, run.schedule)
            seen[group] = seen.get(group, 0) + 1
            after = run.step > run.warmup
            if name == "olmo_ladder" and seen[group] > limit:
                continue

            made = made_along(run.step[after], run.y[after], partial(_through_schedule, run.lr))
            if made is not None:
                found.setdefault(name, []).append(made)
    for curve in curves.load(folder, sets=("alabdulmohsin2022", "lcdb11")):
        x, y = np.concatenate([curve.x, curve.x_far]), np.concatenate([curve.y, curve.y_far])
        order = np.unique(x, return_index=True)[1]
        x, y = x[order], y[order]

        made = made_along(x, y, partial(foretrain.forecast, levels=(LEVEL,)))
        if made is not None:
            found.setdefault(curve.domain, []).append(made)
    return found


def main() -> None:
    """Prints one table for the next time and one for the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("FORETRAIN_DATA", "data")))
    parser.add_argument("--limit", type=int, default=PER_GROUP)
    args = parser.parse_args()
    found = gathered(args.data, args.limit)
    rules = [("", 0.0), ("level", 0.02), ("level", 0.1), ("width", 0.2), ("width", 0.5)]
    console = Console(width=160)
    for end in (False, True):
        title = "the end of the run" if end else "the next time"
        table = Table(title=f"90 % bands of {title}: coverage +- standard error, width, interval score")
        table.add_column("set (curves)")
        for rule, speed in rules:
            table.add_column(f"{rule} {speed:g}" if rule else "as told", justify="right")
        for name, items in found.items():
            cells = [scored(items, rule, speed, end) for rule, speed in rules]
            told = [f"{c:.3f} +- {e:.3f}, {w:.2f}, {s:.4f}" for c, e, w, s in cells]
            table.add_row(f"{name} ({len(items)})", *told)
        console.print(table)


if __name__ == "__main__":
    main()
