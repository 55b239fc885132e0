"""What do thousands of runs cost: to read, to fit their joint law, to analyse one of them, to report on all?

    python benchmarks/many_runs.py                     # 100, 1,000 and 10,000 runs of 100 points
    python benchmarks/many_runs.py --runs 100 1000     # others
    python benchmarks/many_runs.py --report            # with `foretrain report --html`, which takes minutes

Makes studies in a temporary folder: forty sizes, a schedule recorded at every point, runs counted in full;
one run in twenty was stopped, and one in twenty went on in a second process. Lines are those that the store
writes, which is checked on one run. Each study is read by processes of their own, which import foretrain
before the clock is started: cold, after the kernel was asked to forget the files, and warm, both without
what a reader keeps of a study for the next one (`docs/store.md`); then by one that keeps it, and by one that
finds it. Times are processor time, and the wall clock for reading. Reports a failure where 10,000 runs or
fewer take more than 5 s to read by a process that finds it, 2 s to fit, or 1 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from foretrain.axes import Counts
from foretrain.observation import Observation, Plan, RunInfo, ScheduleUpdate
from foretrain.schedule import Schedule
from foretrain.storage.records import (
    encode_header,
    encode_line,
    encode_observation,
    encode_schedule,
    folder_name,
)
from foretrain.store import ObservationStore

POINTS = 100
SIZES = np.geomspace(1e6, 1e9, 40)
CONVENTIONS = {"samples": "batch size", "params": "trainable", "metric": "val_loss"}
MOST = {"found_wall": 5.0, "joint": 2.0, "megabytes": 1000.0}


def told(run: int, first: int, last: int) -> Iterator[tuple[ScheduleUpdate, Observation]]:
    """What a run records at its points from `first` to `last`."""
    rng = np.random.default_rng([run, first])
    n, each = float(SIZES[run % SIZES.size]), 50 * (1 + run % 7)
    end, warmup = each * POINTS, each
    rate = lambda step: 1e-3 * min(step / warmup, (end - step) / (end - warmup))  # noqa: E731
    for point in range(first, last + 1):
        step = each * point
        d = 64.0 * 512 * step
        loss = 1.7 + 400 * n**-0.34 + 410 * d**-0.28
        counts = Counts(
            *(
                64 * step,
                step,
                step / 1000,
                int(d),
                min(64 * step, 64_000),
                int(n),
                int(1.2 * n),
                int(0.9 * n),
            ),
            flops=6 * n * d,
        )
        before = step - each + (point == 1)
        used = Schedule.from_knots([(before, rate(before)), (step, rate(step))], 1e-9)
        plan = Plan(Schedule.from_knots([(step, rate(step)), (end, 0.0)])) if point == first else None
        value = float(loss * np.exp(rng.normal(0.0, 0.004)))
        name = f"run{run:05}"
        time_ = 1.7e9 + 1e3 * run + step
        yield ScheduleUpdate(used, plan), Observation(name, "val_loss", value, counts, rate(step), time=time_)


def attempts(run: int) -> list[tuple[RunInfo, int, str | None]]:
    """A run's attempts: each with its header, its last point and how it ended."""
    info = RunInfo(f"run{run:05}", "many", 1, CONVENTIONS, started=1.7e9 + 1e3 * run)
    if run % 20 == 7:
        return [(info, 60, None)]
    if run % 20 == 13:
        each = 50 * (1 + run % 7)
        again = replace(info, attempt=2, continues={"run": info.run, "step": 40 * each})
        return [(info, 45, None), (again, POINTS, "finished")]
    return [(info, POINTS, "finished")]


def lines(run: int, info: RunInfo, last: int, state: str | None) -> bytes:
    """The file of an attempt, as `ObservationStore` writes it."""
    written, repeat = [encode_header(0, info), b"\n", encode_header(1, info)], 16
    first = 1 if info.continues is None else 41
    items: list[Any] = [item for pair in told(run, first, last) for item in pair]
    for number, item in enumerate([*items, *([state] if state else [])], 2):
        if number >= repeat:
            written.append(encode_header(0, info))
            repeat *= 4
        if isinstance(item, str):
            written.append(encode_line(number, "end", {"state": item}))
        else:
            encode = encode_schedule if isinstance(item, ScheduleUpdate) else encode_observation
            written.append(encode(number, item))
    return b"".join(written)


def check(root: Path) -> None:
    """Whether the store itself writes the same bytes."""
    [(info, last, state)] = attempts(0)
    store = ObservationStore(root, "many")
    store.begin(info)
    for update, observation in told(0, 1, last):
        store.append(observation, update)
    store.finish(str(state))
    [path] = store.study_dir.glob("*/*.jsonl")
    if path.read_bytes() != lines(0, info, last, state):
        sys.exit("The lines are not those of the store: mend `lines`.")


def make(study: Path, runs: int) -> int:
    """Writes a study; its size in bytes."""
    size = 0
    for run in range(runs):
        for info, last, state in attempts(run):
            path = study / folder_name(info.run) / f"{info.attempt:04d}-{run:016x}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            content = lines(run, info, last, state)
            path.write_bytes(content)
            size += len(content)
    os.sync()
    return size


def forget(study: Path) -> None:
    """Asks the kernel to forget what it holds of the files."""
    for path in study.glob("*/*.jsonl"):
        fd = os.open(path, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def measure(study: Path, *, reading_only: bool = False) -> dict[str, float]:
    """One process's figures: reading, an analysis, reading and an analysis after one more line."""
    from foretrain.analysis import Question, Shelf, analyze, joint_report
    from foretrain.reporting.points import run_curve
    from foretrain.store import StudyReader

    found: dict[str, float] = {}

    def timed(name: str, wall: float, used: float) -> None:
        found[f"{name}_wall"], found[name] = time.monotonic() - wall, time.process_time() - used

    wall, used, reader = time.monotonic(), time.process_time(), StudyReader(study)
    runs = reader.read().runs
    timed("read", wall, used)
    if reading_only:
        return found
    shelf, question = Shelf(), Question("run00007", "val_loss", "samples")
    wall, used = time.monotonic(), time.process_time()
    analyze(runs, question, shelf)
    timed("first", wall, used)
    [path] = study.glob("run00007*/*.jsonl")
    before = path.read_bytes()
    update, observation = next(told(7, 61, 61))
    with path.open("ab") as file:
        file.write(encode_schedule(200, update) + encode_observation(201, observation))
    try:
        wall, used = time.monotonic(), time.process_time()
        runs = reader.read().runs
        timed("again", wall, used)
        wall, used = time.monotonic(), time.process_time()
        analyze(runs, question, shelf)
        timed("next", wall, used)
    finally:
        path.write_bytes(before)
    wall, used = time.monotonic(), time.process_time()
    for name in list(runs)[:: max(len(runs) // 10, 1)][:10]:
        analyze(runs, Question(name, "val_loss", "samples"), shelf)
    timed("ten", wall, used)
    found["megabytes_analysis"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    wall, used = time.monotonic(), time.process_time()
    curves = [run_curve(run, "val_loss", "samples")[0] for run in runs.values()]
    timed("curves", wall, used)
    wall, used = time.monotonic(), time.process_time()
    joint_report(curves)
    timed("joint", wall, used)
    found["megabytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return found


def child(study: Path, cache: Path | None, *, reading_only: bool = False) -> dict[str, float]:
    """`measure` in a process of its own, with what readers keep in a folder, or nowhere."""
    command = [sys.executable, __file__, "--measure", str(study), *(["--reading"] if reading_only else [])]
    env = {**os.environ, "XDG_CACHE_HOME": str(cache or os.devnull)}
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=env).stdout
    found: dict[str, float] = json.loads(told)
    return found


def report(study: Path, cache: Path) -> dict[str, float]:
    """What `foretrain report --html` costs: processor time, the wall clock, memory."""
    command = [
        sys.executable,
        "-m",
        "foretrain.cli",
        "report",
        str(study),
        "--html",
        str(study / "page.html"),
    ]
    wall = time.monotonic()
    env = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=env)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit("The report failed.")
    return {
        "wall": time.monotonic() - wall,
        "used": used.ru_utime + used.ru_stime,
        "megabytes": used.ru_maxrss * 1024 / 1e6,
    }


def column(count: int, *, with_report: bool) -> tuple[list[tuple[str, str]], list[str]]:
    """The figures of a study of so many runs with their names, and the limits that are passed."""
    with tempfile.TemporaryDirectory() as root:
        check(Path(root, "checked"))
        study, cache = Path(root, "many"), Path(root, "cache")
        size = make(study, count)
        forget(study)
        cold, warm = (child(study, None, reading_only=True) for _ in range(2))
        time.sleep(2.0)  # files that have just changed are not kept
        child(study, cache, reading_only=True)
        found = child(study, cache)
        told = report(study, cache) if with_report else {}
    seconds = {
        "read cold, wall": cold["read_wall"],
        "read warm, wall": warm["read_wall"],
        "read warm": warm["read"],
        "read by the next process, wall": found["read_wall"],
        "read by the next process": found["read"],
        "curves of all runs": found["curves"],
        "joint law": found["joint"],
        "first analysis": found["first"],
        "read after one more line": found["again"],
        "next analysis of the same run": found["next"],
        "analysis of one of ten other runs": found["ten"] / 10,
    }
    if told:
        seconds |= {"report with its page, wall": told["wall"], "report with its page": told["used"]}
    cells = [("files", f"{size / 1e6:,.1f} MB")]
    cells += [(name, f"{value:.2f} s ({1e6 * value / count:,.0f} us)") for name, value in seconds.items()]
    megabytes = {
        "most memory, analyses": found["megabytes_analysis"],
        "most memory, all curves": found["megabytes"],
        **({"most memory, report": told["megabytes"]} if told else {}),
    }
    cells += [(name, f"{value:,.0f} MB") for name, value in megabytes.items()]
    got = {"found_wall": found["read_wall"], "joint": found["joint"], "megabytes": max(megabytes.values())}
    return cells, [f"{count} runs: {name} {got[name]:.1f}" for name in MOST if got[name] > MOST[name]]


def main() -> None:
    """Prints the table; fails where a limit is passed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="+", default=[100, 1_000, 10_000])
    parser.add_argument("--report", action="store_true", help="also what a report on all of them costs")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--reading", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure, reading_only=args.reading)))
        return
    table = Table(title=f"Studies of runs with {POINTS} points; in brackets for each run")
    table.add_column("")
    columns, failed = [], []
    for count in args.runs:
        cells, passed = column(count, with_report=args.report)
        table.add_column(f"{count:,} runs", justify="right")
        columns.append([value for _, value in cells])
        names = [name for name, _ in cells]
        failed += passed
    for name, *row in zip(names, *columns, strict=True):
        table.add_row(name, *row)
    Console(width=110).print(table)
    if failed:
        sys.exit(f"Over the limits: {'; '.join(failed)}.")


if __name__ == "__main__":
    main()
