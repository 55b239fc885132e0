"""Row 14, two processes: whatever fails on one of them, nothing hangs and no kept observation is lost."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from distributed_run import BROKEN_HOOKS
from fault_ledger import effort, record
from lightning_models import read_study
from test_lightning_distributed import run_processes

PROMISED = 60
"""Seconds from the fault to the end of both processes."""
START = 120
"""Seconds that two processes may take to start on a busy machine; not part of what is promised."""
LAUNCHERS = {"lightning.pytorch": ("ddp_fork", "ddp"), "pytorch_lightning": ("ddp_fork", "ddp")}
FAULTS = {
    "raise on rank 0 only": {"kind": "raise", "rank": 0},
    "raise on rank 1 only": {"kind": "raise", "rank": 1},
    "kill rank 1": {"kind": "kill", "rank": 1},
}


def starts():
    """Which Lightning and launcher: one of them in the ordinary suite, all four under `make faults`."""
    pairs = [(flavour, launcher) for flavour, launchers in LAUNCHERS.items() for launcher in launchers]
    return pairs[: effort(1, len(pairs))]


def validated(said, rank=0):
    """The steps of the validations that a rank says it ended: their observations were kept before."""
    words = [line.split() for line in said.splitlines() if line.startswith("validated ")]
    return [int(line[2]) for line in words if len(line) == 3 and line[1] == str(rank)]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_one_process_hangs_none_and_loses_nothing(tmp_path, fault):
    injected = lost = hung = 0
    for flavour, launcher in starts():
        root = tmp_path / f"{flavour}-{launcher}"
        root.mkdir()
        scenario = {"name": "run", "strategy": launcher, "interval": 1, "epochs": 50, "monitored": [True]}
        scenario["fault"] = {**FAULTS[fault], "step": 7, "root": str(root)}
        began = time.monotonic()
        try:
            status, said = run_processes(flavour, root, [scenario], START + PROMISED)
        except subprocess.TimeoutExpired as error:
            hung += 1
            said = str(error.output)
        else:
            assert status != 0  # the user's own failure is not hidden
        failed = root / f"failed_on_rank{FAULTS[fault]['rank']}"
        injected += failed.exists()
        if failed.exists() and time.monotonic() - began > PROMISED:
            # What counts is the time since the fault, by the clock of the file that it left.
            hung += time.time() - failed.stat().st_mtime > PROMISED
        run = read_study(root / "foretrain").runs["run"]
        kept = {observation.counts.steps for observation in run.observations}
        lost += len(set(validated(said)) - kept)
        assert kept >= set(range(1, 7))
        assert [o.counts.samples for o in run.observations][:5] == [8, 16, 20, 28, 36]
    record(14, fault, injected, len(starts()), lost=lost, stopped=hung)
    assert (injected, lost, hung) == (len(starts()), 0, 0)


def test_a_monitor_that_fails_on_one_process_stops_none(tmp_path):
    injected = stopped = 0
    for flavour, launcher in starts():
        root = tmp_path / f"{flavour}-{launcher}"
        root.mkdir()
        plain = {"strategy": launcher, "monitored": [True]}
        scenarios = [{**plain, "name": f"run{rank}", "broken_rank": rank} for rank in (0, 1)]
        try:
            status, said = run_processes(flavour, root, scenarios, START + PROMISED)
        except subprocess.TimeoutExpired:
            stopped += 1
            continue
        injected += sum((root / f"failed_on_rank{rank}").exists() for rank in (0, 1))
        finished = [root / f"run{rank}_True_rank{of}.json" for rank in (0, 1) for of in (0, 1)]
        stopped += status != 0 or not all(path.exists() for path in finished)
        # Warnings are rank zero's, one for each hook.
        assert said.count("ScalingLawMonitor failed in") == len(BROKEN_HOOKS)
        (run,) = read_study(root / "foretrain").runs.values()
        assert (run.info.run, [o.counts.samples for o in run.observations]) == ("run1", [20, 40])
    record(14, "monitor fails on one rank only", injected, 2 * len(starts()), stopped=stopped)
    assert (injected, stopped) == (2 * len(starts()), 0)
