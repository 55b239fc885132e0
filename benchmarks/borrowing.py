"""What a new run of a size not seen before shows: its own points, its family's law, and both together.

Simulated studies (`borrowing_studies.py`) are analysed as a monitor would, when the new run has taken 2 % to
75 % of its steps. What came is its last validation. Four projections of the planned end are scored:

- own points: the run as if it were alone;
- and schedule: with what earlier runs tell of their learning-rate schedules, but not the level they came to;
- family: the law of the finished runs' ends, at this size and data;
- projection: what the report says, which joins the last two.

Then the same of runs whose recipe is bad, so that their error is raised: there the family is wrong, and a
projection that follows it hides what is amiss.

With `--data`, the runs of Gadre et al. 2024, of which only the ends are published: each of the three largest
sizes from the smaller ones, before its first validation. The OLMo ladder and the runs of Luo et al. 2025 have
two sizes: too few for a family, but runs of the smaller tell of the schedule of the larger.

    python benchmarks/borrowing.py
    python benchmarks/borrowing.py --studies 500 --jobs 16 --data FOLDER
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from borrowing_studies import METRIC, NEW, Trained, draw
from foretrain.analysis import Question, Shelf, analyze
from foretrain.families.relatives import Relatives
from foretrain.forecasting.uncertainty import quantile_factor
from foretrain.report import NamedProjection
from foretrain.reporting.comparison import RunCurve
from foretrain.reporting.entering import DECAYED
from foretrain.reporting.findings import Entering
from foretrain.reporting.points import run_curve
from foretrain.runs.projection import forecast_run
from schedule_curves import load

SHARES = (0.02, 0.05, 0.1, 0.25, 0.5, 0.75)
FORECASTS = ("own points", "and schedule", "family", "projection")
BAD = 0.04
"""By how much the log error of a bad run is raised."""
NINETY = quantile_factor(0.9)

Score = tuple[float, float]
"""Log error of the median, and half the log width of the 90 % interval."""


def judge(study: Trained) -> list[tuple[float, dict[str, Score], float, bool]]:
    """The scores of one study at each share, what the family counted, and whether something was amiss."""
    question, shelf = Question("new", metric=METRIC), Shelf()
    whole = run_curve(study.new, METRIC, question.axis)[0]
    others = [run_curve(run, METRIC, question.axis)[0] for run in study.runs.values()]
    rates = study.new.schedule
    relatives = Relatives.of(whole, others, rates.values[-1] / rates.peak)
    came = float(np.log(study.new.observations[-1].value))
    mean, scale = relatives.moments(np.array([whole.points[-1][0]]))
    family = float(mean[0]) - came, NINETY * float(scale[0])

    def score(told: NamedProjection) -> Score:
        return float(np.log(told.median)) - came, float(np.log(told.upper["0.9"] / told.median))

    found = []
    for share in SHARES:
        young = study.young(share)
        report = analyze({**study.runs, "new": young}, question, shelf)
        (end,) = (p for p in report.projections if p.name == "planned end")
        (single,) = (p for p in analyze({"new": young}, question).projections if p.name == "planned end")
        lent = report.borrowing
        scores = {
            "own points": score(single),
            "and schedule": score(end if lent is None else lent.own),
            "family": family,
            "projection": score(end),
        }
        said = ("further apart", "study's other runs predict")
        amiss = bool(report.flags) or any(words in doubt for words in said for doubt in report.doubts)
        found.append((share, scores, 0.0 if lent is None else lent.share, amiss))
    return found


def one(bad: float, seed: int, index: int) -> tuple[str, list[tuple[float, dict[str, Score], float, bool]]]:
    """One study and how its new run's size lies to the others."""
    study = draw(np.random.default_rng([seed, index]), bad=bad)
    return f"{study.place}, {study.schedule}", judge(study)


def simulate(studies: int, seed: int, jobs: int, bad: float, console: Console) -> None:
    """Runs the simulated studies and prints the tables."""
    with ProcessPoolExecutor(jobs) as pool:
        done = pool.map(partial(one, bad, seed), range(studies))
        told = list(track(done, total=studies, description="studies", console=console))
    what = f", the new run's error raised by {bad:g}" if bad else ""
    print(f"\n{studies} simulated studies{what}")
    table(told)
    if not bad:
        for place in (*NEW, "cosine", "wsd", "constant"):
            print(f"\n{place}")
            table([(kind, rows) for kind, rows in told if place in kind])


def table(told: list[tuple[str, list[tuple[float, dict[str, Score], float, bool]]]]) -> None:
    """Median error, share inside, and width of the 90 % intervals, at each share of the run."""
    columns = "".join(f"{name:>26}" for name in FORECASTS)
    print(f"{'share of the run':>18}{columns}{'family counts':>16}{'amiss':>8}")
    by_share = defaultdict(list)
    for _, rows in told:
        for row in rows:
            by_share[row[0]].append(row)
    for share, rows in by_share.items():
        line = f"{share:>18g}"
        for name in FORECASTS:
            off, half = np.array([row[1][name] for row in rows]).T
            inside = float(np.mean(np.abs(off) <= half))
            line += f"{np.median(np.abs(off)):12.4f}{inside:6.3f}{np.median(half):8.4f}"
        counts, amiss = np.median([row[2] for row in rows]), np.mean([row[3] for row in rows])
        print(f"{line}{counts:16.2f}{amiss:8.3f}")


def gadre(path: Path) -> None:
    """Each of the three largest sizes from the runs of smaller ones, at its own data."""
    runs = []
    with path.open() as file:
        for row in csv.DictReader(file):
            if row["train_set"] == "rpj":
                point = float(row["D_tokens"]), float(row["loss_c4_val"])
                ends = Entering({DECAYED: (point[0], point[0])}, rates_unknown=True)
                runs.append(RunCurve(row["name"], float(row["N"]), (point,), finished=True, entering=ends))
    print(f"\nGadre et al. 2024, RedPajama, C4 loss: {len(runs)} runs, sizes from the smaller ones")
    print(
        f"{'parameters':>14}{'runs':>6}{'from':>6}{'median error':>14}{'largest':>9}{'inside':>8}{'width':>8}"
    )
    for size in sorted({run.params for run in runs})[3:]:
        before, now = [r for r in runs if r.params < size], [r for r in runs if r.params == size]
        relatives = Relatives.of(now[0], before, None)
        mean, scale = relatives.moments(np.array([run.points[0][0] for run in now]))
        off = np.abs(np.log([run.points[0][1] for run in now]) - mean)
        inside = int((off <= NINETY * scale).sum())
        print(
            f"{size:14.4g}{len(now):14d}{len(before):14d}{np.median(off):14.4f}{off.max():14.4f}"
            f"{inside:14d}{np.median(NINETY * scale):14.4f}"
        )


def across_sizes(folder: Path) -> None:
    """Ends of the larger runs of each published set, with the smaller ones as earlier runs."""
    print(
        "\nRuns of the larger size, from those of the smaller: median error, root mean square, inside, width"
    )
    for name, runs in load(folder).items():
        runs = [run for run in runs if not run.name.endswith("rerun")]
        largest = max(run.n_params for run in runs)
        for share in (0.1, 0.25, 0.5):
            told = defaultdict(list)
            for run in runs:
                seen = run.until(share)
                if run.n_params < largest or seen.sum() < 4:
                    continue
                lent = [o.item() for o in runs if o.n_params < largest and o.metric == run.metric]
                young = run.step[seen], run.y[seen], run.lr, run.step[-1:]
                for how, library, size in (
                    ("alone", (), None),
                    ("sizes not told", lent, None),
                    ("sizes told", lent, run.n_params),
                ):
                    end = forecast_run(*young, library, n_params=size)
                    off = float(np.log(end.median[0] / run.y[-1]))
                    told[how].append((off, float(np.log(end.upper[0.9][0] / end.median[0]))))
            for how, rows in told.items():
                off, half = np.array(rows).T
                inside = np.mean(np.abs(off) <= half)
                print(
                    f"{name:>14}{share:>6g}{how:>16}{len(rows):>5}{np.median(np.abs(off)):9.4f}"
                    f"{np.sqrt(np.mean(off**2)):9.4f}{inside:7.2f}{np.median(half):9.4f}"
                )


def main(arguments: list[str] | None = None) -> None:
    """Parses the command line and measures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", type=int, default=500)
    parser.add_argument("--bad", type=int, default=200, help="studies whose new run has a bad recipe")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--data", type=Path, help="folder of the published curves")
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    simulate(options.studies, options.seed, options.jobs, 0.0, console)
    simulate(options.bad, options.seed + 1, options.jobs, BAD, console)
    if options.data:
        gadre(options.data / "gadre2024" / "runs.csv")
        across_sizes(options.data)


if __name__ == "__main__":
    main()
