"""Flags on real trainings: healthy runs, twelve faults, and learning rates five times off beside a study.

    python benchmarks/flags_real_runs.py --records FOLDER
    python benchmarks/flags_real.py --records FOLDER

The first trains, for about 40 minutes of one core; this one reads what `ScalingLawMonitor` recorded. Each run
with a fault is judged alone, and beside the healthy ones of the same model, whose schedules differ in part.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from flags_peers import ALONE, pruner
from flags_real_runs import FAULTS, LARGEST, QUARTER, STEPS, WIDTH, Training, planned, trainings
from flags_runs import Runs
from foretrain import flag_run
from foretrain.observation import RunRecord
from foretrain.run_flags import FlagBook
from foretrain.store import StudyReader
from scores import Sheet

SOON = 0.1
METRIC = "val_loss"


def record(records: Path, training: Training) -> RunRecord:
    """What was recorded of a run, under its name here."""
    (study,) = (records / training.name).iterdir()
    (run,) = StudyReader(study).read().runs.values()
    told = tuple(replace(o, run=training.name) for o in run.observations)
    return replace(run, info=replace(run.info, run=training.name), observations=told)


def curve(run: RunRecord) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of a run."""
    told = [(o.counts.steps, o.value) for o in run.observations if o.metric == METRIC]
    step, y = np.array(sorted(told)).T
    return step.astype(int), y


class Records:
    """What was recorded, run by run."""

    def __init__(self, records: Path) -> None:
        self._folder = records
        self._read: dict[str, RunRecord] = {}

    def record(self, training: Training) -> RunRecord:
        """A run as it was recorded."""
        if training.name not in self._read:
            self._read[training.name] = record(self._folder, training)
        return self._read[training.name]

    def __call__(self, training: Training) -> tuple[np.ndarray, np.ndarray]:
        """Steps and values of a run."""
        return curve(self.record(training))

    def there(self, training: Training) -> bool:
        """Whether it was trained."""
        return (self._folder / training.name).is_dir()

    def item(self, training: Training) -> dict[str, np.ndarray]:
        """The run as a member of a library."""
        step, y = self(training)
        return {"step": step, "y": y, "lr": rates(training)}


def rates(training: Training) -> np.ndarray:
    """The planned rate of every step, in units of the good one."""
    return training.factor * planned(training.schedule)


def rules(records: Records, healthy: list[Training]) -> dict[str, Callable[[Training], float]]:
    """Functions of a run to the step of its first alarm, infinite where there is none."""

    def ours(beside: bool) -> Callable[[Training], float]:
        def rule(run: Training) -> float:
            library = [records.item(one) for one in healthy if beside and one.name != run.name]
            flags = flag_run(*records(run), rates(run), library)
            return flags[0].step if flags else np.inf

        return rule

    def alone(of: Callable[[Runs], np.ndarray]) -> Callable[[Training], float]:
        def rule(run: Training) -> float:
            step, y = records(run)
            return float(of(Runs(step, y[None], None, np.array([run.onset])))[0])

        return rule

    def pruned(name: str) -> Callable[[Training], float]:
        def rule(run: Training) -> float:
            step, y = records(run)
            library = [
                records(one)[1] for one in healthy if one.name != run.name and one.schedule == run.schedule
            ]
            return pruner(name, np.array(library), y, step)

        return rule

    return {
        "foretrain": ours(beside=False),
        "foretrain, beside earlier runs": ours(beside=True),
        **{name: alone(of) for name, of in ALONE.items() if name != "foretrain"},
        "MedianPruner": pruned("median"),
        "WilcoxonPruner": pruned("wilcoxon"),
    }


def faults_table(records: Records, markdown: bool) -> None:
    """Faults found within a tenth of the run by each rule, its alarms on healthy runs, and our delays."""
    groups = trainings()
    healthy = [run for run in groups["healthy"] if records.there(run)]
    others = rules(records, healthy)
    sheet = Sheet(
        f"real trainings: faults found within {SOON:.0%} of the run, and healthy runs with an alarm",
        ("", "runs", *others),
    )
    first = {name: [rule(run) for run in healthy] for name, rule in others.items()}
    alarms = [str(int(np.isfinite(steps).sum())) for steps in first.values()]
    sheet.add("healthy", str(len(healthy)), *alarms)
    late = Sheet(
        "real trainings: delays after the onset, as shares of the run; -: not found, early: before it",
        ("", "alone", "beside earlier runs", "what it did, %"),
    )
    total = dict.fromkeys(others, 0)
    count = 0
    for fault in FAULTS:
        runs = [run for run in groups["faults"] if run.fault == fault and records.there(run)]
        count += len(runs)
        found = {}
        for name, rule in others.items():
            found[name] = np.array([rule(run) - run.onset for run in runs]) / STEPS
            total[name] += int(((found[name] > 0) & (found[name] <= SOON)).sum())
        soon = [str(int(((delay > 0) & (delay <= SOON)).sum())) for delay in found.values()]
        sheet.add(fault, str(len(runs)), *soon)
        did = [effect(records, run, healthy) for run in runs]
        ours = [", ".join(map(share, found[name])) for name in list(others)[:2]]
        late.add(fault, *ours, ", ".join(f"{100 * one:+.1f}" for one in did))
    sheet.add("all faults", str(count), *map(str, total.values()))
    sheet.show(markdown=markdown)
    late.show(markdown=markdown)


def share(delay: float) -> str:
    """A delay in percent of the run."""
    if delay <= 0:
        return "early"
    return f"{100 * delay:.0f} %" if np.isfinite(delay) else "-"


def effect(records: Records, run: Training, healthy: list[Training]) -> float:
    """By how much ln y has changed a tenth of the run after the onset, against healthy runs of its schedule.

    The mean of the last five validations, less that of the ten before the onset.
    """
    step, y = records(run)
    at, end = np.searchsorted(step, [run.onset, run.onset + SOON * STEPS], side="right")
    others = [np.log(records(one)[1]) for one in healthy if one.schedule == run.schedule]
    apart = np.log(y) - np.mean(others, axis=0)
    return float(apart[end - 5 : end].mean() - apart[at - 10 : at].mean())


def family_table(records: Records, markdown: bool) -> None:
    """Learning rates five times off, beside earlier runs of the same size, or of other sizes."""
    trained = [run for run in trainings()["study"] if records.there(run)]
    alike = [run for run in trainings()["healthy"] if run.schedule == "constant" and records.there(run)]
    sizes = [run for run in trained if run.name.startswith("study")]
    sheet = Sheet(
        f"beside a study: flagged before {QUARTER / STEPS:.0%} of the run; good rates: flagged at all",
        (
            *("", "earlier runs", "runs", "foretrain", "by the family", "of these by the law of sizes"),
            *("when, median", "MedianPruner", "WilcoxonPruner"),
        ),
    )
    for width, library in ((WIDTH, alike), (LARGEST, sizes)):
        for factor in (1.0, 5.0, 0.2):
            runs = [r for r in trained if r.width == width and r.factor == factor and r not in library]
            if not runs or len(library) < 2:
                continue
            until = np.inf if factor == 1.0 else QUARTER
            ours = family = law = 0
            steps = []
            peers = {"median": 0, "wilcoxon": 0}
            for run in runs:
                study = {one.name: records.record(one) for one in [*library, run]}
                step, y = records(run)
                flags = [f for f in FlagBook().flags(study, run.name, METRIC) if f.step <= until]
                ours += bool(flags)
                family += any(f.kind.value == "above_family" for f in flags)
                law += any("sizes" in f.evidence for f in flags)
                steps += [f.step for f in flags[:1]]
                finished = np.array([records(one)[1] for one in library])
                for name in peers:
                    peers[name] += pruner(name, finished, y, step) <= min(until, STEPS)
            rate = {1.0: "good rate", 5.0: "5 times that", 0.2: "a fifth"}[factor]
            told = f"{len(library)} of width {', '.join(sorted({str(one.width) for one in library}))}"
            upto = "" if runs[0].steps == STEPS or factor != 1.0 else ", a quarter of the run"
            sheet.add(
                f"width {width}, {rate}{upto}",
                told,
                str(len(runs)),
                *map(str, (ours, family, law)),
                f"step {np.median(steps):.0f}" if steps else "-",
                *map(str, peers.values()),
            )
    sheet.show(markdown=markdown)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=Path, required=True, help="folder of the runs' records")
    parser.add_argument("--markdown", action="store_true", help="print tables to paste")
    told = parser.parse_args()
    records = Records(told.records)
    faults_table(records, told.markdown)
    family_table(records, told.markdown)


if __name__ == "__main__":
    main()
