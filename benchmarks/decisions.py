"""Decisions from several sizes: are the intervals true, and what does the advice cost?

Simulated studies: four to six sizes, a factor of 2 to 4 apart, each one learning curve whose data end at 10
to 40 units for each parameter; a seed effect for each run, autocorrelated noise along it, and a truth that is
no Chinchilla law (the two terms join with an exponent other than 1, and bend with both axes). Each study is
asked about models of four times its largest size on four times its largest data, or their compute. "Waste" is
the compute spent beyond what the true optimum needs for the same error. How often the interval of the final
error holds is told for each kind of study apart, and for other distances; with `--exponents prior` the truths
are drawn from the prior that the family has, which is wider than the published laws of language models.

With `--data`, the published runs: what they say of themselves beside the published figures.

    python benchmarks/decisions.py
    python benchmarks/decisions.py --studies 500 --data FOLDER
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from scipy.optimize import brentq, minimize_scalar

from foretrain import fit
from foretrain.decisions import FLOPS_PER_WEIGHT, JointLaw, Planner, compute_multiplier
from foretrain.families.pairs import PRIOR_APART, PRIOR_CENTRE, PRIOR_WIDTH
from foretrain.laws.law import Array

FAR = ((1, 1), (1, 4), (2, 2), (4, 1), (8, 8), (16, 16))
"""Multiples of the largest size and of the most data at which a run's final error is asked about."""

SMALLEST, DATA = 1e7, 2e8  # where the terms of size and of data are drawn
ADVISERS = ("ours", "least squares, one law", "data in proportion to size")
VERDICTS = ("more data or a bigger model", "recipe A or B")
Truth = Callable[[Array, Array], Array]


@dataclass(frozen=True)
class Study:
    """A simulated study.

    Attributes:
        n: Size of each point.
        d: Data of each point.
        y: Its error.
        run_noise: Standard deviation of ln error between seeds.
        point_noise: Standard deviation of ln error along a run.
        step: Each size over the one before.
    """

    n: Array
    d: Array
    y: Array
    run_noise: float
    point_noise: float
    step: float


def draw_truth(rng: np.random.Generator, *, of_prior: bool = False) -> Truth:
    """An error surface near, but not of, the form `E + A N^-alpha + B D^-beta`."""
    alpha, beta = rng.uniform(0.25, 0.45, 2)
    if of_prior:
        middle = PRIOR_CENTRE * np.exp(rng.normal(0, PRIOR_WIDTH))
        apart = np.exp(rng.normal(0, PRIOR_APART) / 2)
        alpha, beta = np.clip([middle * apart, middle / apart], 0.08, 1.2)
    floor, by_size, by_data = rng.uniform(0.3, 2.2), rng.uniform(0.3, 1.5), rng.uniform(0.3, 1.5)
    joined, bend = float(np.exp(rng.normal(0, 0.12))), rng.normal(0, 0.01)

    def truth(n: Array, d: Array) -> Array:
        log_n, log_d = np.log(n / SMALLEST), np.log(d / DATA)
        terms = (by_size * np.exp(-alpha * log_n)) ** (1 / joined)
        terms = terms + (by_data * np.exp(-beta * log_d)) ** (1 / joined)
        return np.asarray(floor + terms**joined * np.exp(bend * log_n * log_d / 4))

    return truth


def draw_study(rng: np.random.Generator, truth: Truth) -> Study:
    """A study of four to six sizes with noise."""
    count, step = int(rng.integers(4, 7)), float(rng.choice([2.0, np.sqrt(8.0), 4.0]))
    sizes = SMALLEST * step ** np.arange(count)
    most = sizes * rng.choice([10.0, 20.0, 40.0]) * np.exp(rng.normal(0, 0.4, count))
    run_noise, point_noise = rng.uniform(0.002, 0.008), rng.uniform(0.002, 0.006)
    related = rng.uniform(0, 0.9)
    n, d, y = [], [], []
    for size, end in zip(sizes, most, strict=True):
        points = int(rng.integers(8, 30))
        seen = end * np.linspace(1 / points, 1, points)
        noise = rng.normal(0, 1, points)
        for i in range(1, points):
            noise[i] = related * noise[i - 1] + np.sqrt(1 - related**2) * noise[i]
        n += [size] * points
        d += list(seen)
        level = truth(np.full(points, size), seen)
        y += list(level * np.exp(run_noise * rng.normal() + point_noise * noise))
    return Study(np.array(n), np.array(d), np.array(y), run_noise, point_noise, step)


def best_size(truth: Truth, compute: float) -> tuple[float, float]:
    """The true best size for a budget, and its error."""
    room = compute / FLOPS_PER_WEIGHT
    middle = 0.5 * float(np.log(room))

    def level(log_n: float) -> float:
        return float(truth(np.exp(log_n), room / np.exp(log_n)))

    found = minimize_scalar(level, bounds=(middle - 10.0, middle + 10.0), method="bounded")
    return float(np.exp(found.x)), float(found.fun)


def waste(truth: Truth, compute: float, n: float) -> float:
    """Compute spent on a model of size n over what its error costs at the best size, minus 1."""
    n = float(np.clip(n, 1e4, compute / FLOPS_PER_WEIGHT / 1e4))
    got = float(truth(n, compute / FLOPS_PER_WEIGHT / n))
    if got <= best_size(truth, compute)[1]:
        return 0.0
    return compute / compute_needed(truth, got) - 1


def compute_needed(truth: Truth, error: float) -> float:
    """The least compute for an error, infinite where the floor forbids it."""

    def above(log_compute: float) -> float:
        return best_size(truth, float(np.exp(log_compute)))[1] - error

    low, high = np.log(FLOPS_PER_WEIGHT * SMALLEST * DATA) - 12.0, 100.0
    return float(np.exp(brentq(above, low, high))) if above(high) < 0.0 else np.inf


def simulate(studies: int, seed: int, console: Console, *, of_prior: bool = False) -> None:
    """Runs the simulated studies and prints the tables."""
    rng = np.random.default_rng(seed)
    inside: dict[str, list[bool]] = {}
    spread: dict[str, list[float]] = {}
    wasted: dict[str, list[float]] = {
        "ours": [],
        "least squares, one law": [],
        "data in proportion to size": [],
    }
    verdicts: dict[str, list[int]] = {"more data or a bigger model": [], "recipe A or B": []}
    seconds = []
    kinds: dict[str, list[bool]] = {}

    def judge(name: str, lower: float, upper: float, truth: float) -> None:
        inside.setdefault(name, []).append(bool(lower <= truth <= upper))
        spread.setdefault(name, []).append(float(np.log(upper / lower)) if np.isfinite(upper) else np.inf)

    for number in track(range(studies), description="studies", console=console):
        truth = draw_truth(rng, of_prior=of_prior)
        study = draw_study(rng, truth)
        largest, most = float(study.n.max()), float(study.d.max())
        start = time.process_time()
        planner = Planner(study.n, study.d, study.y)
        compute = FLOPS_PER_WEIGHT * 16 * largest * most
        advice = planner.optimum(compute)
        seconds.append(time.process_time() - start)
        best_n, best = best_size(truth, compute)
        judge("best size for 16x compute", advice.size.lower[0.9], advice.size.upper[0.9], best_n)
        final = planner.final_loss(4 * largest, 4 * most)
        outcome = float(truth(4 * largest, 4 * most))
        outcome *= float(np.exp(study.run_noise * rng.normal() + study.point_noise * rng.normal()))
        for level in (0.8, 0.9):
            name = f"final error at 4x size, 4x data, {100 * level:.0f}%"
            judge(name, float(final.lower[level]), float(final.upper[level]), outcome)
        held = bool(final.lower[0.9] <= outcome <= final.upper[0.9])
        for kind in kinds_of(study):
            kinds.setdefault(kind, []).append(held)
        at = np.array(FAR) * np.array([[largest, most]])
        again = planner.final_loss(at[:, 0], at[:, 1])
        # Other luck than the rest's, which thus stays as it was.
        luck = np.random.default_rng([seed, number]).normal(size=(2, len(FAR)))
        ends = truth(*at.T) * np.exp(study.run_noise * luck[0] + study.point_noise * luck[1])
        for (n_times, d_times), low, high, end in zip(
            FAR, again.lower[0.9], again.upper[0.9], ends, strict=True
        ):
            judge(f"final error at {n_times}x size, {d_times}x data", float(low), float(high), float(end))
        needed = planner.data_needed(float(truth(4 * largest, 2 * most)), 4 * largest)
        judge("data for an error, at 4x size", needed.lower[0.9], needed.upper[0.9], 2 * most)
        size = planner.size_needed(float(truth(2 * largest, 4 * most)), 4 * most)
        judge("size for an error, at 4x data", size.lower[0.9], size.upper[0.9], 2 * largest)
        wasted[ADVISERS[0]].append(waste(truth, compute, advice.size.median))
        law = fit("chinchilla", np.stack([study.n, study.d]), study.y).parameters
        plain = JointLaw(law["E"], law["A"], law["alpha"], law["B"], law["beta"])
        wasted[ADVISERS[1]].append(waste(truth, compute, float(plain.optimum(compute)[0])))
        ends = [study.d[study.n == s].max() / s for s in np.unique(study.n)]
        usual = float(np.sqrt(compute / FLOPS_PER_WEIGHT / statistics.median(ends)))
        wasted[ADVISERS[2]].append(waste(truth, compute, usual))
        near = 1 + 1e-4
        more = float(truth(largest, most * near)) < float(truth(largest * near, most))
        verdict = planner.more_data_or_bigger_model(largest, most).verdict
        verdicts[VERDICTS[0]].append(right(verdict, "more data", "a bigger model", more))
        gain = float(np.exp(rng.normal(0, 0.05)))
        of_run = np.unique(study.n, return_inverse=True)[1]
        noise = (
            study.run_noise * np.random.default_rng([seed, number, 1]).normal(size=of_run.max() + 1)[of_run]
        )
        noise += study.point_noise * rng.normal(size=study.y.size)
        other = Planner(study.n, study.d, truth(study.n, study.d) / gain * np.exp(noise))
        choice = compute_multiplier(other, planner, compute, ("B", "A"))
        verdicts[VERDICTS[1]].append(right(choice.verdict, "B", "A", gain > 1))
        as_good = compute_needed(truth, best / gain)
        judge("compute of A over B's", choice.answer.lower[0.9], choice.answer.upper[0.9], as_good / compute)
    spent = 1e3 * statistics.median(seconds)
    print(f"\n{studies} simulated studies, {spent:.0f} ms of processor time for a plan")
    print(f"{'90% interval (80% where said) of':44}{'holds':>8}{'spans, median':>16}")
    for name, hits in inside.items():
        print(f"{name:44}{np.mean(hits):8.3f}{np.exp(np.median(spread[name])):15.2f}x")
    print(f"\n{'90% interval of the final error at 4x':44}{'holds':>8}{'studies':>16}")
    for name, hits in sorted(kinds.items()):
        print(f"{name:44}{np.mean(hits):8.3f}{len(hits):16d}")
    print(f"\n{'compute wasted by the size chosen':44}{'median':>8}{'75%':>8}{'90%':>8}")
    for name, values in wasted.items():
        told = "".join(f"{100 * v:7.1f}%" for v in np.quantile(values, [0.5, 0.75, 0.9]))
        print(f"{name:44}{told}")
    print(f"\n{'verdicts':44}{'right':>8}{'wrong':>8}{'cannot tell':>13}")
    for name, codes in verdicts.items():
        shares = [float(np.mean(np.array(codes) == code)) for code in (1, -1, 0)]
        print(f"{name:44}{shares[0]:8.3f}{shares[1]:8.3f}{shares[2]:13.3f}")


def kinds_of(study: Study) -> Iterator[str]:
    """What kind of study it is: how many sizes, how far apart, and whether its noise is high."""
    yield f"{np.unique(study.n).size} sizes"
    yield f"sizes {study.step:.1f}x apart"
    yield f"seeds differ by {'less' if study.run_noise < 0.005 else 'more'} than .005"
    yield f"points scatter by {'less' if study.point_noise < 0.004 else 'more'} than .004"


def right(verdict: str, first: str, second: str, truth: bool) -> int:
    """1 for a right verdict, -1 for a wrong one, 0 for none."""
    if verdict not in (first, second):
        return 0
    return 1 if (verdict == first) == truth else -1


def published(data: Path) -> None:
    """What published runs say of the best size, beside the published figures."""
    runs = read(data / "epoch_chinchilla" / "chinchilla_runs.csv", ("N", "D", "loss"))
    runs = runs[:, np.argsort(runs[2])[: runs.shape[1] - 5]]
    planner = Planner(*runs)
    law = JointLaw(1.8172, 477.83, 0.34731, 2143.4, 0.36717)
    print("\nepoch_chinchilla: best size in billions, beside Besiroglu et al. 2024")
    for compute in (1e20, 1e21, 1e22, 5.76e23):
        size = planner.optimum(compute).size
        theirs = float(law.optimum(compute)[0])
        print(
            f"  {compute:8.3g} FLOPs: {size.median / 1e9:7.2f} [{size.lower[0.9] / 1e9:.2f}, "
            f"{size.upper[0.9] / 1e9:.2f}]{theirs / 1e9:9.2f}"
        )
    print(f"  {planner.more_data_or_bigger_model(280e9, 300e9).sentence}")


def read(path: Path, columns: tuple[str, ...]) -> Array:
    """Columns of a table as numbers, shape (columns, rows)."""
    with path.open() as file:
        return np.array([[float(row[name]) for name in columns] for row in csv.DictReader(file)]).T


def main(arguments: list[str] | None = None) -> None:
    """Parses the command line and measures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--exponents", choices=("usual", "prior"), default="usual")
    parser.add_argument("--data", type=Path, help="folder of the published curves")
    options = parser.parse_args(arguments)
    simulate(options.studies, options.seed, Console(stderr=True), of_prior=options.exponents == "prior")
    if options.data:
        published(options.data)


if __name__ == "__main__":
    main()
