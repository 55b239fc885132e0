"""The faults that foretrain is held to survive: inject all of them, print what they cost.

    python tests/fault_table.py [pytest's arguments]

Runs `tests/test_faults_*.py` at full effort and prints what each test injected. Fails if a test failed, if a
record was lost or a training stopped, if fewer faults were injected than asked for, or if one of the rows
has no fault at all (a skipped test, for example).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from fault_ledger import EFFORT, LEDGER

ROWS = {
    1: "killed while writing",
    2: "unfinished last line",
    3: "flipped bits, zeroed pages",
    4: "hostile or odd lines",
    5: "I/O calls fail",
    6: "directory read-only or missing",
    7: "directory deleted in the run",
    8: "many writers at once",
    9: "resumed and requeued",
    10: "preempted by SIGTERM",
    11: "values that cannot be fitted",
    12: "clock jumps",
    13: "forked and spawned workers",
    14: "failures on one rank",
    15: "the fitter fails",
    16: "huge runs",
    17: "object stores",
}
"""Failure modes by number."""


@dataclass(frozen=True)
class Entry:
    """What one test recorded (`fault_ledger.record`)."""

    row: int
    fault: str
    injected: int
    asked: int
    lost: int
    stopped: int

    @property
    def good(self) -> bool:
        """Whether all that was asked for was injected, and cost nothing."""
        return self.injected >= self.asked and not self.lost and not self.stopped


def read(ledger: Path) -> list[Entry]:
    """The entries of a ledger in the order of their rows."""
    lines = ledger.read_text().splitlines() if ledger.exists() else []
    return sorted((Entry(**json.loads(line)) for line in lines), key=lambda entry: (entry.row, entry.fault))


def failures(entries: list[Entry], rows: dict[int, str]) -> list[str]:
    """One sentence for each entry that is not good, and for each row without an entry."""
    said = []
    for entry in entries:
        if not entry.good:
            cost = f"{entry.lost} records lost, {entry.stopped} stopped"
            said.append(f"Row {entry.row}, {entry.fault}: {entry.injected} of {entry.asked} injected, {cost}")
    filled = {entry.row for entry in entries}
    said += [f"Row {row}, {name}: nothing was injected" for row, name in rows.items() if row not in filled]
    return said


def together(entries: list[Entry]) -> list[Entry]:
    """One entry for what several tests say of one fault, as those of the two names of Lightning do."""
    sums: dict[tuple[int, str, bool], list[int]] = {}
    for entry in entries:
        counts = sums.setdefault((entry.row, entry.fault, entry.good), [0, 0, 0, 0])
        for at, number in enumerate((entry.injected, entry.asked, entry.lost, entry.stopped)):
            counts[at] += number
    return [Entry(row, fault, *counts) for (row, fault, _), counts in sums.items()]


def show(entries: list[Entry], console: Console) -> None:
    """Print the table and its totals."""
    entries = together(entries)
    table = Table(title="Faults injected")
    for name in ("row", "failure", "fault"):
        table.add_column(name, justify="right" if name == "row" else "left")
    for name in ("injected", "asked", "lost", "stopped"):
        table.add_column(name, justify="right")
    for entry in entries:
        numbers = [f"{number:,}" for number in (entry.injected, entry.asked, entry.lost, entry.stopped)]
        style = None if entry.good else "bold red"
        table.add_row(str(entry.row), ROWS.get(entry.row, ""), entry.fault, *numbers, style=style)
    table.add_section()
    totals = (sum(getattr(entry, name) for entry in entries) for name in ("injected", "lost", "stopped"))
    injected, lost, stopped = (f"{total:,}" for total in totals)
    table.add_row("", "all", "", injected, "", lost, stopped)
    console.print(table)


def main(arguments: list[str]) -> int:
    """Run the fault tests at full effort, print the table; the exit status."""
    tests = sorted(str(path) for path in Path(__file__).parent.glob("test_faults_*.py"))
    with tempfile.TemporaryDirectory() as folder:
        ledger = Path(folder) / "ledger.jsonl"
        environment = {**os.environ, LEDGER: str(ledger), EFFORT: "full"}
        command = [sys.executable, "-m", "pytest", *tests, *arguments]
        status = subprocess.run(command, env=environment, check=False).returncode if tests else 1
        entries = read(ledger)
    console = Console(width=None if sys.stdout.isatty() else 130)
    show(entries, console)
    said = failures(entries, ROWS)
    if status:
        said.insert(0, f"The fault tests ended with status {status}; see above")
    for sentence in said:
        console.print(sentence, style="red", highlight=False)
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
