"""Row 9: a study through Dask, one of whose workers is killed in the middle of a training."""

import sys
from pathlib import Path

import numpy as np
import pytest

from fault_ledger import effort, record
from test_study_example import EXAMPLES, hestness_study, write_digits


def results(outcome):
    return {
        name: [
            (o.counts.steps, o.counts.params, o.counts.unique_samples, o.value) for o in record.observations
        ]
        for name, record in outcome.read().runs.items()
    }


def _die_at_first(folder):
    """Lets the process that trains the second point be killed once, in the middle of it."""
    import os
    import signal

    sys.path.insert(0, folder)
    import hestness_study as study

    train = study.Network.training_step

    def step(self, batch, index):
        marker = Path(os.environ["FORETRAIN_DIED"])
        if self.global_step == 30 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return train(self, batch, index)

    study.Network.training_step = step


@pytest.mark.skipif(not effort(0, 1), reason="takes half a minute: `make faults` runs it")
def test_a_study_whose_worker_is_killed_says_the_same(tmp_path, monkeypatch):
    distributed = pytest.importorskip(
        "distributed", reason="dask is missing: pip install 'dask[distributed]'"
    )
    digits = write_digits(tmp_path)
    monkeypatch.setenv("FORETRAIN_DIED", str(tmp_path / "died"))
    plain, study = hestness_study.run(tmp_path / "plain", path=digits, small=True)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.register_worker_callbacks(setup=lambda: _die_at_first(EXAMPLES))
        outcome, same = hestness_study.run(tmp_path / "dask", client, path=digits, small=True)
    killed, wanted, got = (tmp_path / "died").exists(), results(plain), results(outcome)
    lost = sum(got.get(name) != told for name, told in wanted.items())
    fault = "SIGKILL of a Dask worker in a study, its jobs run again"
    record(9, fault, int(killed), 1, lost=lost, stopped=int(not outcome.complete))
    assert killed and outcome.complete and got == wanted
    assert same.best == study.best
    assert np.array_equal(same.law.draws, study.law.draws)
