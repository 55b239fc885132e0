"""Studies of several sizes: healthy runs that raise a flag, and wrong learning rates at a new size.

Each study has four to six sizes, a factor of 2 or 4 apart, from one seed or from three, under a cosine or a
constant rate; half of them train larger sizes for longer, a quarter in larger batches. `FORMS` says by which
law of size and data their errors fall: the joint law that foretrain fits, and others that it does not. Sizes
are trained from the smallest up, or, in half of the studies, in an order that is drawn. Runs of one size
differ by .2 to 2 % as seeds do, have noise that is autocorrelated along them, and what a decay of the rate
gains. Every run is replayed as foretrain does live, beside what was there when it began.

A wrong rate is that of the first run of a size of which there is none yet, beside healthy runs of three other
sizes or more: a fifth, so that only a fifth of the training is done in as many steps, or five times the good
one, which leaves the error too high from the start.

    python benchmarks/flags_studies.py [--studies 200] [--seed 1]
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.progress import track

from flags import interval
from foretrain.axes import Counts
from foretrain.flags import Flag
from foretrain.observation import Observation, RunInfo, RunRecord
from foretrain.run_flags import FlagBook
from foretrain.schedule import Schedule
from scores import Sheet

SMALLEST, BATCH, WARMUP = 1e6, 32, 50
GAIN = 0.03
"""What a full decay of the rate takes off ln of the error."""
DIFFER = (0.002, 0.005, 0.01, 0.02)
"""Of language models .0004 to .01 (Muennighoff et al. 2023); of the demo's small ones .01 to .02."""
LEAST = 3
"""Other sizes from which on their law is asked."""
SOON = 0.25
METRIC = "val_loss"


@dataclass(frozen=True)
class Family:
    """The numbers of a law of size and data: exponents, floor and factors."""

    alpha: float
    beta: float
    floor: float
    by_size: float
    by_data: float


def _joint(law: Family, n: float, d: np.ndarray) -> np.ndarray:
    return law.floor + law.by_size * n**-law.alpha + law.by_data * d**-law.beta


def _kaplan(law: Family, n: float, d: np.ndarray) -> np.ndarray:
    size, data = (by ** (1 / law.beta) for by in (law.by_size, law.by_data))
    return 0.3 * law.floor + (size * n ** (-law.alpha / law.beta) + data / d) ** law.beta


def _product(law: Family, n: float, d: np.ndarray) -> np.ndarray:
    return (law.floor + law.by_size) * n ** (-0.3 * law.alpha) * (1.0 + law.by_data * d**-law.beta)


def _faster(law: Family, n: float, d: np.ndarray) -> np.ndarray:
    return law.floor + law.by_size * n**-law.alpha + law.by_data * d ** -(law.beta * n**0.03)


def _bends(law: Family, n: float, d: np.ndarray) -> np.ndarray:
    bent = (1.0 + (n / 8.0) ** 2) ** (-0.25 * law.alpha)
    return law.floor + law.by_size * n ** (-0.5 * law.alpha) * bent + law.by_data * d**-law.beta


FORMS: dict[str, Callable[[Family, float, np.ndarray], np.ndarray]] = {
    "joint law": _joint,
    "Kaplan et al.'s": _kaplan,
    "a product, no floor": _product,
    "larger ones learn faster": _faster,
    "exponent of size doubles": _bends,
}
"""Error at a size, over the smallest, and at data, in thousands of steps of the smallest size's batch."""


@dataclass(frozen=True)
class Wrong:
    """What a wrong rate does.

    Attributes:
        factor: The rate over the good one.
        slower: The training done in a step over that at the good rate.
        above: By how much ln of the error lies too high.
    """

    factor: float
    slower: float = 1.0
    above: float = 0.0


WRONG = {
    "a fifth": Wrong(0.2, slower=0.2),
    "5 times, 5 % above": Wrong(5.0, above=0.05),
    "5 times, 10 % above": Wrong(5.0, above=0.1),
    "5 times, 20 % above": Wrong(5.0, above=0.2),
}


@dataclass(frozen=True)
class Study:
    """One study.

    Attributes:
        form: One of `FORMS`.
        seeds: Runs of each size.
        differ: Standard deviation by which they differ in ln of the error.
        upwards: Whether the sizes were trained from the smallest up.
        runs: In the order in which they were trained, by name.
        params: Of each.
        wrong: The same runs at a wrong rate, by name in `WRONG`.
    """

    form: str
    seeds: int
    differ: float
    upwards: bool
    runs: dict[str, RunRecord]
    params: dict[str, float]
    wrong: dict[str, dict[str, RunRecord]]

    def sizes_before(self, name: str) -> set[float]:
        """Sizes that were trained before a run."""
        names = list(self.runs)
        return {self.params[one] for one in names[: names.index(name)]}


def draw_study(rng: np.random.Generator, seeds: int, form: str = "joint law") -> Study:
    """A study, each of whose runs was trained at the good rate."""
    alpha, beta = rng.uniform(0.25, 0.45, 2)
    law = Family(alpha, beta, rng.uniform(0.3, 2.2), *rng.uniform(0.3, 1.5, 2))
    sizes = SMALLEST * float(rng.choice([2, 4])) ** np.arange(rng.integers(4, 7))
    decays, longer, batches = rng.random() < 0.5, rng.random() < 0.5, rng.random() < 0.25
    differ = float(rng.choice(DIFFER))
    point_noise, related = rng.uniform(0.002, 0.006), rng.uniform(0, 0.8)
    steps, validations = int(rng.choice([1000, 2000])), int(rng.choice([25, 50, 100]))
    study = Study(form, seeds, differ, bool(rng.random() < 0.5), {}, {}, {name: {} for name in WRONG})
    clock = 0
    for size in sizes if study.upwards else rng.permutation(sizes):
        total = int(steps * (size / SMALLEST) ** (0.3 if longer else 0.0))
        batch = int(BATCH * (size / SMALLEST) ** (0.25 if batches else 0.0))
        at = np.linspace(total / validations, total, validations).astype(int)
        lr = np.minimum(np.arange(1, total + 1) / WARMUP, 1.0)
        if decays:
            lr *= 0.55 + 0.45 * np.cos(np.pi * np.arange(total) / total)
        data = np.cumsum(lr)[at - 1] / 1000 * batch / BATCH
        for seed in range(seeds):
            noise = rng.normal(0, 1, at.size)
            for i in range(1, at.size):
                noise[i] = related * noise[i - 1] + np.sqrt(1 - related**2) * noise[i]
            name = f"{size:g} {seed}"
            off = differ * rng.normal() + point_noise * noise
            for what, wrong in {"": Wrong(1.0), **WRONG}.items():
                level = FORMS[form](law, size / SMALLEST, wrong.slower * data)
                y = level * np.exp(GAIN * (lr[at - 1] - 1) + off + wrong.above)
                record = _record(name, y, at, wrong.factor * lr, int(size), batch, clock)
                (study.wrong[what] if what else study.runs)[name] = record
            study.params[name] = float(size)
            clock += 2 * total
    return study


def _record(
    name: str, y: np.ndarray, at: np.ndarray, lr: np.ndarray, params: int, batch: int, clock: int
) -> RunRecord:
    """A finished run as it is read from its records."""
    observations = tuple(
        Observation(
            name,
            METRIC,
            float(value),
            Counts(batch * int(step), int(step), params=params),
            lr=float(lr[step - 1]),
            time=float(clock + step),
        )
        for step, value in zip(at, y, strict=True)
    )
    info = RunInfo(name, planned=Counts(batch * lr.size, lr.size, params=params))
    return RunRecord(
        info, observations, "finished", schedule=Schedule.from_rates(lr), schedule_used_until=lr.size
    )


def studies(count: int, seed: int) -> list[Study]:
    """As many studies, of one seed and of three in turn, of one form after the other."""
    rng = np.random.default_rng(seed)
    forms = list(FORMS)
    return [draw_study(rng, (1, 3)[k % 2], forms[k // 2 % len(forms)]) for k in range(count)]


def of_sizes(flag: Flag) -> bool:
    """Whether a flag is told by the law of other sizes."""
    return "sizes" in flag.evidence


def healthy_table(drawn: list[Study], markdown: bool) -> None:
    """False alarms by group, and how many of them the law of other sizes raised."""
    groups: dict[tuple[str, str], list[tuple[bool, bool]]] = defaultdict(list)
    kinds = Counter[str]()
    for study in track(drawn, description="healthy", console=Console(stderr=True)):
        book = FlagBook()
        for name in study.runs:
            flags = book.flags(study.runs, name, METRIC)
            kinds.update({flag.kind.value for flag in flags})
            before = study.sizes_before(name)
            told = len(before - {study.params[name]}) >= LEAST
            size = "new" if study.params[name] not in before else "known"
            found = bool(flags), any(of_sizes(flag) for flag in flags)
            groups["all", ""].append(found)
            groups["runs of a size", str(study.seeds)].append(found)
            groups["law", study.form].append(found)
            groups["runs differ by", f"{study.differ:.1%}"].append(found)
            groups["sizes", "upwards" if study.upwards else "in any order"].append(found)
            groups[f"beside {LEAST} other sizes and more", size if told else "not yet"].append(found)
    sheet = Sheet(
        "healthy runs of studies: flagged, %", ("", "", "runs", "flagged", "by the law of other sizes")
    )
    for group, found in sorted(groups.items()):
        flagged, by_law = np.sum(found, axis=0)
        sheet.add(*group, str(len(found)), interval(int(flagged), len(found)), str(int(by_law)))
    sheet.show(markdown=markdown)
    print("kinds:", ", ".join(f"{kind} {n}" for kind, n in sorted(kinds.items())) or "none")


def wrong_table(drawn: list[Study], markdown: bool) -> None:
    """Wrong rates at a new size, beside healthy runs of at least three other sizes."""
    first: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for study in track(drawn, description="wrong rates", console=Console(stderr=True)):
        book = FlagBook()
        for name in study.runs:
            before = study.sizes_before(name)
            if len(before) < LEAST or study.params[name] in before:
                continue
            for what in WRONG:
                record = study.wrong[what][name]
                flags = book.flags({**study.runs, name: record}, name, METRIC)
                end = record.observations[-1].counts.steps
                soonest = [
                    min((flag.step / end for flag in flags if told(flag)), default=np.inf)
                    for told in (of_sizes, lambda flag: True)
                ]
                where = (
                    "smaller than all others" if study.params[name] < min(before) else "larger, or between"
                )
                first[where, what].append((soonest[0], soonest[1]))
    sheet = Sheet(
        f"a wrong rate at a new size: flagged before {SOON:.0%} of the run, %",
        ("size", "rate", "runs", "flagged", "by the law of other sizes", "ever", "when, median", "90 %"),
    )
    for (where, what), steps in sorted(first.items(), key=lambda item: item[0][0]):
        by_law, by_any = np.transpose(steps)
        hit = np.sort(by_any[np.isfinite(by_any)])
        sheet.add(
            where,
            what,
            str(len(steps)),
            interval(int((by_any <= SOON).sum()), len(steps)),
            f"{100 * np.mean(by_law <= SOON):.1f}",
            f"{100 * np.isfinite(by_any).mean():.1f}",
            *(f"{100 * np.quantile(hit, q):.0f} %" if hit.size else "-" for q in (0.5, 0.9)),
        )
    sheet.show(markdown=markdown)


def main() -> None:
    """Draws studies, replays their runs and prints how many were flagged."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=("healthy", "wrong"), default=("healthy", "wrong"))
    parser.add_argument("--markdown", action="store_true", help="print the tables to paste")
    args = parser.parse_args()
    drawn = studies(args.studies, args.seed)
    if "healthy" in args.only:
        healthy_table(drawn, args.markdown)
    if "wrong" in args.only:
        wrong_table(drawn, args.markdown)


if __name__ == "__main__":
    main()
