"""Does Hestness's study on digits say the same through Dask, one of whose two workers is killed?

    python benchmarks/hestness_dask.py [--data zip_digits.npz] [--small]

Runs `examples/hestness_study.py` whole, first in a pool of two processes, then on a local Dask cluster of two
workers, one of which is killed with SIGKILL in the middle of a training. Prints the time of each, compares
every observation of every run and both laws, and reports a failure if anything differs. Needs
`dask[distributed]`.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import distributed
from rich.console import Console

EXAMPLES = str(Path(__file__).resolve().parent.parent / "examples")
sys.path.insert(0, EXAMPLES)
import hestness_study  # noqa: E402
from foretrain.study import process_pool  # noqa: E402

MARKER = "FORETRAIN_BENCHMARK_DIED"


def die_once(step: int) -> None:
    """Has the first worker that reaches this step in a training be killed; runs in every worker."""
    import os
    import signal

    sys.path.insert(0, EXAMPLES)
    import hestness_study as study

    train = study.Network.training_step

    def training_step(self: Any, batch: Any, index: int) -> Any:
        if self.global_step == step:
            try:
                os.close(os.open(os.environ[MARKER], os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        return train(self, batch, index)

    study.Network.training_step = training_step


def observations(outcome: Any) -> dict[str, list[tuple[Any, ...]]]:
    """What each run counted and measured."""
    return {
        name: [(o.counts.steps, o.counts.params, o.counts.unique_samples, o.value) for o in run.observations]
        for name, run in outcome.read().runs.items()
    }


def said(study: Any) -> tuple[Any, ...]:
    """What a study says, to the last bit."""
    law = None if study.law is None else study.law.draws.tobytes()
    return study.best, law, None if study.growth is None else study.growth.growth


def main() -> int:
    """Runs the study twice and compares."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="the zip-code digits; by default scikit-learn's")
    parser.add_argument("--small", action="store_true", help="a few short runs, to see that it works")
    args = parser.parse_args()
    path = None if args.data is None else str(Path(args.data).absolute())
    console = Console(width=120)
    with tempfile.TemporaryDirectory() as root:
        begun = time.monotonic()
        plain, study = hestness_study.run(f"{root}/pool", process_pool(2), path=path, small=args.small)
        pool = time.monotonic() - begun
        hestness_study.show(study, console)
        os.environ[MARKER] = f"{root}/died"
        begun = time.monotonic()
        with (
            distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
            distributed.Client(cluster) as client,
        ):
            client.register_worker_callbacks(setup=lambda: die_once(30))
            through_dask, same = hestness_study.run(f"{root}/dask", client, path=path, small=args.small)
        dask = time.monotonic() - begun
        killed = Path(os.environ[MARKER]).exists()
        wanted, got = observations(plain), observations(through_dask)
        unlike = sorted(name for name in wanted.keys() | got.keys() if wanted.get(name) != got.get(name))
        alike = said(study) == said(same)
    console.print(
        f"{len(wanted)} runs: {pool:.0f} s in a pool of two processes, {dask:.0f} s on two Dask workers, "
        f"{'one' if killed else 'NONE'} of which was killed; {len(unlike)} runs differ, "
        f"the laws {'are the same to the last bit' if alike else 'DIFFER'}."
    )
    return 0 if killed and alike and not unlike and plain.complete and through_dask.complete else 1


if __name__ == "__main__":
    sys.exit(main())
