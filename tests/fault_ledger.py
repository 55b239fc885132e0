"""What the fault tests injected and what it cost, one JSON line a test; `make faults` prints it."""

import json
import os
from pathlib import Path

LEDGER = "FORETRAIN_FAULTS"
"""Environment variable: the file that takes the lines. Where it is not set, nothing is recorded."""
EFFORT = "FORETRAIN_TEST_EFFORT"
"""Environment variable: `full` for the numbers asked, anything else for what fits the ordinary suite."""


def effort(quick: int, full: int) -> int:
    """How many faults to inject: `quick` in the ordinary suite, `full` under `make faults`."""
    return full if os.environ.get(EFFORT) == "full" else quick


def record(row: int, fault: str, injected: int, asked: int, *, lost: int = 0, stopped: int = 0) -> None:
    """Write down what one test did; call it before the assertions, so that a failure is in the table too.

    Args:
        row: Which failure mode, a number of `fault_table.ROWS`.
        fault: What was injected, in a few words.
        injected: How many faults were injected.
        asked: How many there have to be.
        lost: Acknowledged records that were not read back, or wrong values that were.
        stopped: Trainings, or writers, that a fault ended.
    """
    counts = {"injected": injected, "asked": asked, "lost": lost, "stopped": stopped}
    if asked < 1 or min(counts.values()) < 0:
        raise ValueError(f"Expected counts from 0 and at least one fault asked for, got {counts}")
    path = os.environ.get(LEDGER)
    if path:
        with Path(path).open("a") as file:
            file.write(json.dumps({"row": row, "fault": fault, **counts}) + "\n")
