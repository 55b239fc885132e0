"""May points on the way of a decaying learning rate enter a law of several runs, corrected for the schedule?

A point of a run whose rate has not come down is no final error. The law of the run through its schedule says
what it would have been had the same schedule ended there: the point is moved by the difference between the
two, and how surely that is known comes with it.

On the simulated studies of `borrowing_studies.py` (those whose rates decay) the joint law is asked where one
more run ends, of a size as large, twice and four times as large as the known ones, at its usual data and at
four times those. The law rests on the finished runs' ends alone; on ends and points at a third, half and
two thirds of each run as measured; or on ends and the same points corrected. Median and mean error
of the logarithm, the share of nominal 90 % intervals that hold what came, and their half width in the median.

With `--data`, the runs of Luo et al. 2025 and Bhagia et al. 2024: points of a long cosine, where a shorter
one of the same size ended, as measured and corrected, against that end. (Both sets have two sizes: too few
for a joint law.)

    python benchmarks/mid_run_points.py --studies 100 --data FOLDER
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from borrowing_studies import METRIC, NEW, Trained, draw
from foretrain.families.family import family_moments
from foretrain.families.model import T_SCALE
from foretrain.families.relatives import DEPARTS
from foretrain.forecasting.uncertainty import quantile_factor
from foretrain.reporting.earlier import Shelf, earlier_runs
from foretrain.runs.annealing import MEMORIES, RatePath
from foretrain.runs.course import LongPath, follow, stretch
from foretrain.runs.curve import RunCurve
from foretrain.runs.fit import law
from foretrain.runs.model import RunModel, model_run
from schedule_curves import Run, load

SHARES = (1 / 3, 1 / 2, 2 / 3)
ARMS = ("ends", "and as measured", "and corrected")
NINETY = quantile_factor(0.9)


def correction(model: RunModel, step: int, path: RatePath, end: int) -> tuple[float, float]:
    """By how much the log error would differ had another schedule ended there, and the standard deviation.

    Args:
        model: The law of the run.
        step: After which of its steps the point was measured.
        path: The other schedule.
        end: Its last step.
    """
    places = []
    for along, at in ((model.path, step), (path, end)):
        steps = np.array([at])
        z = np.log(along.done(steps) / model.reference)
        annealed = np.stack([along.annealed(steps, memory) for memory in MEMORIES])[model.memories]
        places.append(law(model.fits.theta, z, annealed))
    moved = (places[1][0] - places[0][0])[:, 0]
    slopes = (places[1][1] - places[0][1])[:, 0]
    variance = np.einsum("mi,mij,mj->m", slopes, model.fits.spread, slopes)
    mean = float(model.shares @ moved)
    known = float(model.shares @ (variance + (moved - mean) ** 2)) + (model.misfit * mean) ** 2
    return mean, float(np.sqrt(known))


def points(study: Trained, arm: str) -> np.ndarray:
    """Size, data, error and deviation of the correction of the known runs' points, shape (4, k)."""
    rows, shelf = [], Shelf()
    for name, record in study.runs.items():
        ends = record.observations
        rows.append((ends[-1].counts.params, ends[-1].counts.samples, ends[-1].value, 0.0))
        if arm == "ends":
            continue
        course = follow(record, METRIC, "samples")
        model = None
        if arm == "and corrected":
            others = [other for key, other in study.runs.items() if key != name]
            lent = earlier_runs(course, record, others, METRIC, "samples", shelf)
            model = model_run(course.points, [other.points for other in lent])
        for share in SHARES:
            point = ends[round(share * len(ends)) - 1]
            value, deviation = point.value, 0.0
            if model is not None:
                path = LongPath.along(stretch(course.schedule, point.counts.steps), course.unit)
                at = int(course.in_units(np.array([point.counts.steps]))[0])
                moved, deviation = correction(model, at, path, path.rates.size)
                value *= float(np.exp(moved))
            rows.append((point.counts.params, point.counts.samples, value, deviation))
    return np.array(rows, dtype=float).T


def simulate(studies: int, seed: int, console: Console) -> None:
    """Runs the simulated studies and prints the table."""
    told = defaultdict(list)
    for index in track(range(studies), description="studies", console=console):
        for longer in (1.0, 4.0):
            study = draw(np.random.default_rng([seed, index]), longer=longer)
            if study.schedule == "constant":
                continue
            last = study.new.observations[-1]
            at = np.array([[last.counts.params], [last.counts.samples]], dtype=float)
            for arm in ARMS:
                n, d, y, deviation = points(study, arm)
                (mean, scale), _ = family_moments(n, d, y, *at)
                if deviation.any():
                    # One law of annealing corrects all, so its error is common to all.
                    (other, _), _ = family_moments(n, d, y * np.exp(deviation), *at)
                    scale = np.hypot(scale, T_SCALE * (other - mean))
                off = float(mean[0] - np.log(last.value))
                half = NINETY * float(np.hypot(scale[0], DEPARTS))
                told[longer, study.place, arm].append((off, half))
    print(f"{'new run':>16}{'data':>6}{'studies':>9}" + "".join(f"{arm:>35}" for arm in ARMS))
    for longer in (1.0, 4.0):
        for place in NEW:
            line = f"{place:>16}{longer:>5g}x{len(told[longer, place, ARMS[0]]):>9}"
            for arm in ARMS:
                off, half = np.array(told[longer, place, arm]).T
                inside = np.mean(np.abs(off) <= half)
                line += f"{np.median(np.abs(off)):12.4f}{off.mean():+9.4f}{inside:6.2f}{np.median(half):8.4f}"
            print(line)


def published(runs: Sequence[Run], name: str) -> None:
    """Points of long runs where shorter ones of their size ended, as measured and corrected."""
    rows = []
    for long in runs:
        if not long.cosine:
            continue
        model = None
        for short in runs:
            same = (short.group, short.metric) == (long.group, long.metric)
            if not (short.cosine and same) or short.step[-1] >= 0.9 * long.step[-1]:
                continue
            near = int(np.argmin(np.abs(np.log(long.step / short.step[-1]))))
            if abs(np.log(long.step[near] / short.step[-1])) > 0.05:
                continue
            model = model or model_run(RunCurve.of(long.step, long.y, long.lr))
            moved, deviation = correction(
                model, int(long.step[near]), RatePath.of(short.lr), int(short.step[-1])
            )
            off = float(np.log(long.y[near] / short.y[-1]))
            rows.append((off, off + moved, deviation))
    measured, corrected, deviation = np.array(rows).T
    off = np.abs(corrected)
    print(
        f"{name}: {len(rows)} points; median error as measured {np.median(np.abs(measured)):.4f}, corrected "
        f"{np.median(off):.4f} (bias {measured.mean():+.4f}, {corrected.mean():+.4f}); stated standard "
        f"deviation {np.median(deviation):.4f}, within 1.64 of them {np.mean(off <= 1.64 * deviation):.2f}"
    )


def main(arguments: list[str] | None = None) -> None:
    """Parses the command line and measures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, help="folder of the published curves")
    options = parser.parse_args(arguments)
    simulate(options.studies, options.seed, Console(stderr=True))
    if options.data:
        for name, runs in load(options.data).items():
            published(runs, name)


if __name__ == "__main__":
    main()
