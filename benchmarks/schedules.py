"""Where will a run with a learning-rate schedule end? `forecast_run` on published curves, beside its peers.

    python benchmarks/schedules.py --data FOLDER [--library | --empty] [--methods ...] [--sets ...]
                                   [--quick] [--details] [--markdown]

The runs and their libraries: `schedule_curves.py`. The methods: `schedule_peers.py`. Each sees the first part
of a run and the rate of every step, and is asked for the last measured loss. Errors are of the loss, in per
cent. The width of an interval is that of ln(upper / lower). "Worse" counts the cases in which a method is
further off than the last value seen. First the laws' own figures: fitted to three schedules, scored on six.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from foretrain.laws.scheduled import MultiPowerLaw
from foretrain.runs.annealing_fit import (
    RatedCurve,
    ScheduledFit,
    fit_linear_annealing,
    fit_momentum,
    fit_multi_power,
    huber,
)
from schedule_curves import SETS, Run, as_trained, library, load
from schedule_peers import ALONE, LEVELS, WITH_LIBRARY, Method, Told
from scores import Sheet, share

FITTED_ON = ("cosine_24000", "constant_24000", "wsdcon_9")
PUBLISHED = {
    "25M": (3.04045406, 0.52468604, 0.50786857, 363.78751622, 2.06560812, 0.58279013, 0.64142257),
    "100M": (2.6514477, 0.60115152, 0.45295811, 437.9464276, 2.13245612, 0.59785199, 0.65523644),
}
"""Parameters of the multi-power law by its authors, who report R2 .9988 and .9983, PredE .0011 and .0014."""
SHARES = {"multipowerlaw": (0.2, 0.5, 0.83), "olmo_ladder": (0.3, 0.6)}
CALIBRATED_AT = (0.25, 0.5, 0.75)
SLOW = ("multi-power law, lent", "multi-power law, lent, level moved", "power law in steps, curve_fit")
QUICK_METRICS = 4
"""With --quick each so-many-th loss of `olmo_ladder` is taken, and the slow methods not there."""


@dataclass(frozen=True)
class Case:
    """One forecast of one run: what was seen, what came, and what each method said."""

    run: Run
    share: float
    truth: float
    last: float
    said: dict[str, Told]
    seconds: dict[str, float]


def ask(runs: Sequence[Run], shares: Iterable[float], methods: dict[str, Method]) -> list[Case]:
    """Every method on every run at every share, behind a progress bar."""
    from rich.progress import track

    cases = []
    for run, seen_share in track([(run, s) for run in runs for s in shares], "forecasts", transient=True):
        seen, lent = run.until(seen_share), library(run, runs)
        said, seconds = {}, {}
        for name, method in methods.items():
            begun = time.process_time()
            told = method(run, seen, lent)
            if told is not None:
                said[name], seconds[name] = told, time.process_time() - begun
        last = float(run.y[seen][-1])
        cases.append(Case(run, seen_share, float(run.y[-1]), last, said, seconds))
    return cases


def errors(name: str, cases: Sequence[Case]) -> np.ndarray:
    """Errors of a method in per cent of the loss, over the cases it answered."""
    return np.array([100 * (case.said[name].median / case.truth - 1) for case in cases if name in case.said])


def worse(name: str, cases: Sequence[Case]) -> int:
    """In how many cases it is further off than the last value."""
    return sum(
        abs(case.said[name].median - case.truth) > abs(case.last - case.truth)
        for case in cases
        if name in case.said
    )


def covered(name: str, cases: Sequence[Case], level: float) -> tuple[float, np.ndarray]:
    """Share of cases inside the interval, and the widths ln(upper / lower); nothing without intervals."""
    ends = [
        (case.said[name].intervals[level], case.truth)
        for case in cases
        if name in case.said and level in case.said[name].intervals
    ]
    inside = [low <= truth <= high for (low, high), truth in ends]
    width = np.array([np.log(high / low) for (low, high), _ in ends])
    return float(np.mean(inside)) if inside else np.nan, width


def accuracy(title: str, cases: Sequence[Case]) -> Sheet:
    """Errors, intervals and cost of every method."""
    columns = ["method", "forecasts", "median error %", "largest %", "worse", "80 % holds", "90 % holds"]
    sheet = Sheet(title, [*columns, "width of 90 %", "largest width", "ms"])
    for name in dict.fromkeys(name for case in cases for name in case.said):
        off = np.abs(errors(name, cases))
        cells = [str(off.size), f"{np.median(off):.2f}", f"{off.max():.2f}", str(worse(name, cases))]
        holds = [covered(name, cases, level) for level in (0.8, 0.9)]
        if np.isnan(holds[1][0]):
            cells += ["-"] * 4
        else:
            width = holds[1][1]
            cells += [share(holds[0][0]), share(holds[1][0]), f"{np.median(width):.4f}", f"{width.max():.4f}"]
        cost = np.median([case.seconds[name] for case in cases if name in case.seconds])
        sheet.add(name, *cells, f"{1000 * cost:.0f}")
    return sheet


def details(title: str, cases: Sequence[Case]) -> Sheet:
    """Signed errors of every case."""
    names = list(dict.fromkeys(name for case in cases for name in case.said))
    sheet = Sheet(f"{title}: errors in %", ["run", "seen", *names])
    for case in cases:
        told = [f"{errors(name, [case])[0]:+.2f}" if name in case.said else "-" for name in names]
        sheet.add(f"{case.run.group} {case.run.name} {case.run.metric}", f"{case.share:.0%}", *told)
    return sheet


def calibration(found: dict[str, list[Case]]) -> Sheet:
    """Coverage at every level and widths of our intervals, by set and progress."""
    columns = ["set", "library", "seen", "runs", *(f"{level:.0%} holds" for level in LEVELS)]
    sheet = Sheet("Calibration", [*columns, "median width of 90 %", "largest", "median error %"])
    pools = found | ({"all": [case for cases in found.values() for case in cases]} if len(found) > 1 else {})
    for name, lent in (("foretrain", "others"), ("foretrain, no library", "none")):
        for label, pool in pools.items():
            for seen_share in CALIBRATED_AT:
                cases = [case for case in pool if case.share == seen_share and name in case.said]
                if not cases:
                    continue
                holds = [covered(name, cases, level) for level in LEVELS]
                width, off = holds[-1][1], np.abs(errors(name, cases))
                cells = [str(len(cases)), *(share(inside) for inside, _ in holds)]
                cells += [f"{np.median(width):.4f}", f"{width.max():.4f}", f"{np.median(off):.2f}"]
                sheet.add(label, lent, f"{seen_share:.0%}", *cells)
    return sheet


def _as_published(parameters: Sequence[float], curves: Sequence[RatedCurve]) -> ScheduledFit:
    law, theta = MultiPowerLaw(), np.array(parameters)
    off = [np.log(law.loss(curve.rates, curve.step, theta) / curve.loss) for curve in curves]
    return ScheduledFit(law, theta, float(huber(np.concatenate(off)).sum()))


def own_figures(runs: Sequence[Run]) -> Sheet:
    """R2 and PredE on six schedules of laws fitted to three, scored as by the multi-power law's authors."""
    columns = ["size", "law", "objective", "R2", "PredE", "seconds"]
    sheet = Sheet("Laws fitted to three schedules, scored on six", columns)
    for size, parameters in PUBLISHED.items():
        own = [run for run in runs if run.group == size]
        lent = [RatedCurve(r.step, r.y, as_trained(r.schedule)) for r in own if r.schedule in FITTED_ON]
        fits = {
            "multi-power, published parameters": partial(_as_published, parameters),
            "multi-power, fitted": fit_multi_power,
            "multi-power, to the minimum": partial(fit_multi_power, to_minimum=True),
            "momentum, fitted": fit_momentum,
            "linear term, fitted": fit_linear_annealing,
        }
        for name, fit in fits.items():
            begun = time.process_time()
            found = fit(lent)
            taken = time.process_time() - begun
            r2, prede = [], []
            for run in (run for run in own if run.schedule not in FITTED_ON):
                off = found.predict(as_trained(run.schedule), run.step) - run.y
                r2.append(1 - (off**2).sum() / ((run.y - run.y.mean()) ** 2).sum())
                prede.append(np.mean(np.abs(off) / run.y))
            cells = [f"{found.objective:.6f}", f"{np.mean(r2):.4f}", f"{np.mean(prede):.5f}", f"{taken:.1f}"]
            sheet.add(size, name, *cells)
    return sheet


def main() -> None:
    """Prints the laws' own figures, then accuracy by set and share, then calibration."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    home = os.environ.get("FORETRAIN_DATA")
    parser.add_argument(
        "--data",
        type=Path,
        required=home is None,
        default=home,
        help="folder that holds the sets, one sub-folder each (default: FORETRAIN_DATA)",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--library", action="store_true", help="only methods that borrow from other runs")
    which.add_argument("--empty", action="store_true", help="only methods that do not")
    every = WITH_LIBRARY | ALONE
    parser.add_argument(
        "--methods", nargs="+", choices=every, default=list(every), metavar="METHOD", help="; ".join(every)
    )
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS), help="sets to take")
    parser.add_argument("--quick", action="store_true", help="of olmo_ladder only some losses and methods")
    parser.add_argument("--details", action="store_true", help="the error of every forecast, too")
    parser.add_argument("--markdown", action="store_true", help="print tables to paste")
    told = parser.parse_args()
    offered = ({} if told.empty else WITH_LIBRARY) | ({} if told.library else ALONE)
    methods = {name: method for name, method in offered.items() if name in told.methods}
    sets = load(Path(told.data), told.sets)
    if "multipowerlaw" in sets:
        own_figures(sets["multipowerlaw"]).show(markdown=told.markdown)
    calibrated = {}
    for name, runs in sets.items():
        used = methods
        if told.quick and name == "olmo_ladder":
            kept = sorted({run.metric for run in runs})[::QUICK_METRICS]
            runs = [run for run in runs if run.metric in kept]
            used = {key: method for key, method in methods.items() if key not in SLOW}
        cases = ask(runs, SHARES[name], used)
        for seen_share in SHARES[name]:
            some = [case for case in cases if case.share == seen_share]
            accuracy(f"{name}, {seen_share:.0%} of the run seen", some).show(markdown=told.markdown)
        if told.details:
            details(name, cases).show(markdown=told.markdown)
        mine = {key: method for key, method in methods.items() if key.startswith("foretrain")}
        calibrated[name] = ask(runs, CALIBRATED_AT, mine) if mine else []
    if any(calibrated.values()):
        calibration(calibrated).show(markdown=told.markdown)


if __name__ == "__main__":
    main()
