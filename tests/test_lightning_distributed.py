"""Two real processes: what is counted equals what both trained on, and nothing is communicated for it.

Each process writes down the samples it was handed; the truth is put together from both, here.
"""

import importlib
import importlib.metadata
import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import distributed_run
from lightning_models import FLAVOURS, read_study

SECONDS = 180
"""Some ten times what a start of two processes takes; a hang fails the test instead of the suite."""


def run_processes(flavour, root, scenarios, seconds=SECONDS):
    """Runs scenarios in two processes; as `run_command`."""
    return run_command([distributed_run.__file__, flavour, str(root), json.dumps(scenarios)], seconds)


def run_command(arguments, seconds=SECONDS):
    """Runs a Python file that starts processes, and gives the exit status and what was printed.

    Raises:
        subprocess.TimeoutExpired: If a process still runs then; all that were started are killed.
    """
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=seconds)
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait(10)
    return process.returncode, said


class Ranks:
    """What two processes wrote down in one scenario, and what the monitor recorded of it."""

    def __init__(self, root, name):
        self.plain, self.watched = (
            [json.loads((root / f"{name}_{watched}_rank{rank}.json").read_text()) for rank in (0, 1)]
            for watched in (False, True)
        )
        self.record = read_study(root / "foretrain").runs[name]

    def counted(self, name):
        return [getattr(observation.counts, name) for observation in self.record.observations]

    def seen(self, name):
        """What each process had seen by each validation: one list a process."""
        return [[validation[name] for validation in rank["validated"]] for rank in self.watched]

    def total(self, name):
        return [sum(ranks) for ranks in zip(*self.seen(name), strict=True)]

    @property
    def distinct(self):
        return [len({*one, *other}) for one, other in zip(*self.seen("indices"), strict=True)]


# name -> what it trains on: 20 samples in batches of 4 unless said, two epochs.
SCENARIOS = {
    "even": {},
    "padded": {"samples": 17, "interval": 1, "save": True},
    "texts": {"texts": True, "interval": 2},
    "stream": {"stream": True},
    "undivided": {"sampler": False, "interval": 2},
    "synchronized": {"sync_dist": True},
}
LAUNCHERS = {"lightning.pytorch": "ddp", "pytorch_lightning": "ddp_fork"}
# Forked processes are started anew for every fit: there only what could differ between launchers.
TRAINED = {"lightning.pytorch": tuple(SCENARIOS), "pytorch_lightning": ("padded", "texts")}


@pytest.fixture(scope="module", params=FLAVOURS)
def trained(request, tmp_path_factory):
    """Its scenarios in one start of two processes, for each Lightning by another launcher."""
    flavour = request.param
    root = tmp_path_factory.mktemp("ranks")
    strategy = LAUNCHERS[flavour]
    scenarios = [{"name": name, "strategy": strategy, **SCENARIOS[name]} for name in TRAINED[flavour]]
    status, said = run_processes(flavour, root, scenarios)
    assert status == 0, said[-3000:]
    return flavour, root, said


@pytest.fixture
def ranks(trained):
    """Scenario -> what came of it."""
    return {name: Ranks(trained[1], name) for name in TRAINED[trained[0]]}


def test_samples_and_steps_are_those_of_both_processes(ranks):
    for name, run in ranks.items():
        assert run.counted("samples") == run.total("samples")
        assert run.counted("steps") == run.seen("steps")[0] == run.seen("steps")[1]
        assert len(run.counted("samples")) >= 2
        planned = run.record.info.planned
        if name == "stream":  # has no length
            assert planned is None
        else:
            assert planned.samples == sum(rank["end"]["samples"] for rank in run.watched)
            assert planned.steps == run.watched[0]["end"]["steps"]


def test_distinct_samples_are_those_of_both_processes_or_unknown(ranks):
    for name, run in ranks.items():
        known = name in ("even", "padded", "texts", "synchronized")
        if not known:
            assert run.distinct[0] < run.total("samples")[0]  # both processes were handed the same samples
        assert run.counted("unique_samples") == (run.distinct if known else [None] * len(run.distinct))


def test_a_padded_sample_is_counted_but_is_not_new(trained):
    run = Ranks(trained[1], "padded")
    # Of 17 each process is handed 9, in batches of 4, 4 and 1.
    assert run.counted("samples") == [8, 16, 18, 26, 34, 36]
    assert run.counted("unique_samples")[-1] == 17


def test_tokens_are_those_of_rank_zero_times_the_processes(trained):
    """An estimate, since the other processes are not asked: the docs say so."""
    run = Ranks(trained[1], "texts")
    assert run.counted("tokens") == [2 * tokens for tokens in run.seen("tokens")[0]]
    assert run.counted("tokens") != run.total("tokens")
    # Of texts of 1 to 8 tokens; a whole epoch is what both processes draw at random from 20 of them.
    assert run.counted("tokens")[-1] == pytest.approx(run.total("tokens")[-1], rel=0.25)


def test_values_are_those_of_rank_zero_unless_the_module_synchronizes(ranks):
    for name, run in ranks.items():
        of_zero, of_one = run.seen("value")
        values = [observation.value for observation in run.record.observations]
        assert values == of_zero
        assert values == [(1.5 if name == "synchronized" else 1.0) + 0.25 * i for i in range(len(values))]
        assert (of_zero == of_one) == (name == "synchronized")


def test_no_collective_is_called_for_the_monitor(ranks):
    for name, run in ranks.items():
        for watched, plain in zip(run.watched, run.plain, strict=True):
            assert watched["calls"] == plain["calls"]
            if name in ("padded", "synchronized"):  # Lightning itself calls some, so they are seen
                assert sum(watched["calls"].values()) > 0
            assert watched["validated"] == plain["validated"]


def test_the_number_of_processes_is_said_once_a_run(trained):
    flavour, _, said = trained
    assert said.count("times 2 processes") == len(TRAINED[flavour])
    assert "ScalingLawMonitor failed" not in said


def test_one_process_goes_on_where_two_had_been(trained, tmp_path):
    flavour, root, _ = trained
    pl = importlib.import_module(flavour)
    before = Ranks(root, "padded")
    path = root / "padded_True" / "last.ckpt"
    scenario = {"name": "alone", "samples": 17, "strategy": "auto", "epochs": 4, "ckpt_path": str(path)}
    counts = dict.fromkeys(distributed_run.COLLECTIVES, 0)
    distributed_run.train(pl, tmp_path, scenario, counts, monitored=True, devices=1)
    (told,) = (json.loads(file.read_text()) for file in tmp_path.glob("alone_True_rank*.json"))
    record = read_study(tmp_path / "foretrain").runs["alone"]
    first = sum(rank["end"]["samples"] for rank in before.watched)
    assert first == 36
    samples = [observation.counts.samples for observation in record.observations]
    assert samples == [first + validation["samples"] for validation in told["validated"]]
    assert len(samples) >= 2 and samples[0] > first
    # Two processes had each seen half of what one goes on with; there are 17 samples in all.
    assert {o.counts.unique_samples for o in record.observations} <= {17, None}
    assert record.info.continues["step"] == before.counted("steps")[-1]


def shards_here():
    """Whether this Lightning can cut a model over processes."""
    version = tuple(int(part) for part in importlib.metadata.version("lightning").split(".")[:2])
    return version >= (2, 4) and importlib.util.find_spec("torch.distributed._composable.fsdp") is not None


@pytest.mark.skipif(not shards_here(), reason="ModelParallelStrategy came with Lightning 2.4")
def test_a_model_cut_over_two_processes_is_counted_whole(tmp_path):
    meshes = {"data": (2, 1), "tensor": (1, 2)}
    scenarios = [
        {"name": name, "strategy": "model_parallel", "mesh": mesh, "monitored": [True]}
        for name, mesh in meshes.items()
    ]
    status, said = run_processes("lightning.pytorch", tmp_path, scenarios)
    assert status == 0, said[-3000:]
    assert distributed_run.PARAMETERS == sum(p.numel() for p in distributed_run.build().parameters())
    runs = read_study(tmp_path / "foretrain").runs
    for name, (data, _) in meshes.items():
        seen = [
            json.loads((tmp_path / f"{name}_True_rank{rank}.json").read_text())["validated"]
            for rank in (0, 1)
        ]
        counts = [observation.counts for observation in runs[name].observations]
        assert [count.params for count in counts] == [distributed_run.PARAMETERS] * 2
        assert [count.params_total for count in counts] == [distributed_run.PARAMETERS] * 2
        # Processes that share a model train on the same samples, which are then not counted twice.
        drawn = seen if data == 2 else seen[:1]
        assert [c.samples for c in counts] == [
            sum(v["samples"] for v in at) for at in zip(*drawn, strict=True)
        ]
        if data == 1:
            assert [v["indices"] for v in seen[0]] == [v["indices"] for v in seen[1]]
