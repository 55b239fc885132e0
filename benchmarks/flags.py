"""Flags: how often healthy runs raise one, how many faults are found and how soon, beside other rules.

    python benchmarks/flags.py --data FOLDER [--runs 10] [--seed 1000] [--only TABLE ...]

The folder holds `multipowerlaw`, `olmo_ladder` and `lcdb11`. Settings were chosen on seeds
below 100. Optuna and Lightning are wanted only here: `pip install 'foretrain[flags-peers,lightning]'`.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import os
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.stats import beta

import schedule_curves
from flags_oracle import power
from flags_peers import ALONE, flags_beside, foretrain_flags, pruner
from flags_runs import (
    FAULTS,
    LAWS,
    SCHEDULES,
    STEPS,
    Runs,
    Setting,
    faulty_settings,
    healthy_settings,
    simulate,
)
from foretrain import flag_run
from scores import Sheet

SOON = 0.1
"""A fault counts as found within this share of the run after its onset, if nothing was flagged before."""
STARTS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4)
"""Shares of a published curve at which its replay begins."""
WELL = 3.0
"""A curve of `lcdb11` behaves well if no point lies so many standard errors above an earlier one."""
LIBRARY = 8


def interval(count: int, of: int) -> str:
    """A share in percent with its 95 % interval (Clopper and Pearson 1934)."""
    low = beta.ppf(0.025, count, of - count + 1) if count else 0.0
    high = beta.ppf(0.975, count + 1, of - count) if count < of else 1.0
    return f"{100 * count / of:.2f} ({100 * low:.2f} to {100 * high:.2f})"


def healthy_table(seed: int, runs: int, markdown: bool) -> None:
    """False alarms of simulated healthy runs, by group."""
    groups: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for index, setting in enumerate(healthy_settings(seed)):
        flagged = np.isfinite(foretrain_flags(simulate(seed * 1000 + index, runs, setting))).tolist()
        groups["all", ""] += flagged
        for name in ("n", "schedule", "law", "sd", "rho", "noise", "epochs", "known"):
            groups[name, str(getattr(setting, name))] += flagged
    sheet = Sheet(
        "simulated healthy runs that raise any flag at 1 %, in percent", ("", "", "runs", "flagged")
    )
    for (name, value), flagged in groups.items():
        sheet.add(name, value, str(len(flagged)), interval(sum(flagged), len(flagged)))
    sheet.show(markdown=markdown)


def well_behaved(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Curves of `lcdb11` of at least 20 points that nowhere rise by more than their standard errors allow."""
    curves = defaultdict(list)
    with gzip.open(folder / "lcdb11" / "curves.csv.gz", "rt") as file:
        for row in csv.DictReader(file):
            if row["test"] and row["test_se"] and float(row["test"]) > 0:
                numbers = float(row["n_train"]), float(row["test"]), float(row["test_se"])
                curves[f"{row['dataset']} {row['learner']}"].append(numbers)
    found = {}
    for name, points in curves.items():
        x, y, error = np.array(sorted(points)).T
        if x.size >= 20:
            rise = (y - y[:, None]) / np.sqrt(np.maximum(error**2 + error[:, None] ** 2, 1e-12))
            if np.triu(rise, 1).max() <= WELL:
                found[name] = (x.astype(int), y)
    return found


def published_table(folder: Path, markdown: bool) -> None:
    """False alarms of published curves, with and without what is known beside their validations."""
    sheet = Sheet("published healthy curves that raise any flag at 1 %", ("", "told", "replays", "flagged"))
    for name, runs in schedule_curves.load(folder).items():
        for told in ("validations", "and rates", "and earlier runs"):
            count = flagged = 0
            for run in runs:
                others = schedule_curves.library(run, runs) if told == "and earlier runs" else []
                for start in STARTS:
                    kept = run.step >= start * run.step[-1]
                    if kept.sum() < 20 or (start and others):
                        continue
                    lr = None if told == "validations" else run.lr
                    items = [other.item() for other in others]
                    count += 1
                    flagged += bool(flag_run(run.step[kept], run.y[kept], lr, items))
            sheet.add(name, told, str(count), str(flagged))
    if (folder / "lcdb11").is_dir():
        curves = well_behaved(folder)
        flagged = sum(bool(flag_run(*curve)) for curve in curves.values())
        sheet.add("lcdb11, well behaved", "validations", str(len(curves)), str(flagged))
    sheet.show(markdown=markdown)


def found_in(runs: Runs, first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which faults were found soon, and the delays as shares of the run (infinite: none); both shape (R,)."""
    delay = np.where(first > runs.onset, first - runs.onset, np.inf) / STEPS
    return delay <= SOON, delay


def faults_table(seed: int, runs: int, markdown: bool) -> None:
    """Faults found within a tenth of the run, by each rule, and its alarms on healthy runs."""
    sheet = Sheet(
        f"faults found within {SOON:.0%} of the run, in percent, and healthy runs with an alarm",
        ("", *(name for name in ALONE)),
    )
    late = Sheet(
        "foretrain: delays",
        (
            *("", "runs", "before the onset, %", "found in 10 %", "50 validations", "200 validations"),
            *("in 20 %", "median delay", "90 %"),
        ),
    )
    for fault in [None, *FAULTS]:
        cells: list[str] = []
        for rule in ALONE.values():
            soon, delays, before, many = [], [], [], []
            for index, setting in enumerate(faulty_settings(seed)):
                group = simulate(seed * 1000 + index, runs, setting, fault)
                first = rule(group)
                found, delay = found_in(group, first)
                soon.append(np.isfinite(first) if fault is None else found)
                delays.append(delay)
                before.append(first <= group.onset)
                many += [setting.n] * runs
            told, delay = np.concatenate(soon), np.concatenate(delays)
            cells.append(f"{100 * told.mean():.1f}")
            if fault and rule is foretrain_flags:
                hit = np.sort(delay[np.isfinite(delay)])
                late.add(
                    fault,
                    str(told.size),
                    f"{100 * np.mean(np.concatenate(before)):.1f}",
                    interval(int(told.sum()), told.size),
                    *(f"{100 * told[np.array(many) == n].mean():.1f}" for n in (50, 200)),
                    f"{100 * np.mean(delay <= 2 * SOON):.1f}",
                    *(f"{100 * np.quantile(hit, q):.1f} %" for q in (0.5, 0.9)),
                )
        sheet.add(fault or "healthy", *cells)
    sheet.show(markdown=markdown)
    late.show(markdown=markdown)


def attainable_table(seed: int, runs: int, markdown: bool) -> None:
    """Faults found alone, beside earlier runs, and by oracles, each within a tenth of the run."""
    sheet = Sheet(
        f"faults found within {SOON:.0%} of the run, in percent, and the most that could be",
        (
            "",
            "runs",
            "alone",
            f"beside {LIBRARY} earlier runs",
            "noise .2 %",
            ".5 %",
            "1 %",
            "oracle that forecasts",
            "oracle that knows the curve",
        ),
    )
    for fault in [None, *FAULTS]:
        alone: list[bool] = []
        beside: list[bool] = []
        noise: list[float] = []
        oracles: list[np.ndarray] = []
        for index, setting in enumerate(faulty_settings(seed)):
            at = seed * 1000 + index
            group = simulate(at, runs, setting, fault)
            first = foretrain_flags(group)
            alone += (np.isfinite(first) if fault is None else found_in(group, first)[0]).tolist()
            group = simulate(at, LIBRARY + runs, setting, fault, alike=True, sound=LIBRARY)
            first = flags_beside(group, LIBRARY)
            own = replace(group, y=group.y[LIBRARY:], onset=group.onset[LIBRARY:])
            beside += (np.isfinite(first) if fault is None else found_in(own, first)[0]).tolist()
            noise += [setting.sd] * runs
            if fault:
                oracles.append(power(at, runs, setting, fault))
        by_noise = [np.array(beside)[np.isclose(noise, sd)].mean() for sd in (0.002, 0.005, 0.01)]
        most = np.concatenate(oracles, axis=1).mean(axis=1) if fault else []
        shares = [np.mean(alone), np.mean(beside), *by_noise, *most]
        cells = [f"{100 * share:.1f}" for share in shares] + ["-"] * (0 if fault else 2)
        sheet.add(fault or "healthy", str(len(alone)), *cells)
    sheet.show(markdown=markdown)


def family_table(seed: int, runs: int, markdown: bool) -> None:
    """Runs of one recipe whose error lies too high from the start, beside earlier runs of it."""
    sheet = Sheet(
        f"beside {LIBRARY} earlier runs: flagged before 25 % of the run; healthy: ever, in percent",
        ("level above", "runs", "foretrain", "MedianPruner", "WilcoxonPruner"),
    )
    rng = np.random.default_rng(seed)
    for above in (0.0, 0.05, 0.1, 0.2):
        until = np.inf if above == 0 else 0.25 * STEPS
        found: dict[str, list[bool]] = defaultdict(list)
        for index in range(runs):
            setting = Setting(
                int(rng.choice([20, 50, 100])),
                str(rng.choice(SCHEDULES)),
                str(rng.choice(LAWS)),
                float(rng.choice([0.002, 0.005, 0.01])),
                float(rng.choice([0.0, 0.3, 0.6])),
            )
            group = simulate(seed * 1000 + index, LIBRARY + 1, setting, alike=True, above=above)
            library = [{"step": group.step, "y": y, "lr": group.lr} for y in group.y[:-1]]
            flags = flag_run(group.step, group.y[-1], group.lr, library)
            found["foretrain"].append(any(flag.step <= until for flag in flags))
            for name in ("median", "wilcoxon"):
                found[name].append(pruner(name, group.y[:-1], group.y[-1], group.step) <= min(until, STEPS))
        told = [interval(sum(found[name]), runs) for name in ("foretrain", "median", "wilcoxon")]
        sheet.add("healthy" if above == 0 else f"{above:.0%}", str(runs), *told)
    sheet.show(markdown=markdown)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    home = os.environ.get("FORETRAIN_DATA")
    parser.add_argument("--data", type=Path, required=home is None, default=home, help="folder of the sets")
    parser.add_argument("--runs", type=int, default=10, help="runs of each setting")
    parser.add_argument("--seed", type=int, default=1000)
    tables = ("healthy", "published", "faults", "attainable", "family")
    parser.add_argument("--only", nargs="+", choices=tables, default=tables, help="tables to print")
    parser.add_argument("--markdown", action="store_true", help="print tables to paste")
    told = parser.parse_args()
    if "healthy" in told.only:
        healthy_table(told.seed, told.runs, told.markdown)
    if "published" in told.only:
        published_table(Path(told.data), told.markdown)
    if "faults" in told.only:
        faults_table(told.seed, told.runs, told.markdown)
    if "attainable" in told.only:
        attainable_table(told.seed, told.runs, told.markdown)
    if "family" in told.only:
        family_table(told.seed, 20 * told.runs, told.markdown)


if __name__ == "__main__":
    main()
