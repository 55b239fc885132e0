"""Studies: points with stable names, every kind of executor, and jobs that raise, die or come back."""

import hashlib
import json
import multiprocessing
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import study_jobs
from foretrain.observation import Observation, RunInfo
from foretrain.storage.url_store import open_store
from foretrain.study import RayExecutor, grid, process_pool, run_study
from foretrain.study.job import Job, JobFailed
from foretrain.study.points import Point, check_points

POINTS = grid(size=[4, 8, 16], data=[100], seed=[0, 1])


def run(train, root, executor=None, points=POINTS, **options):
    return run_study(train, points, executor, root=root, progress=False, **options)


def values(outcome):
    """What the store holds of each run: (step, value, params) of its observations."""
    return {
        name: [(o.counts.steps, o.value, o.counts.params) for o in record.observations]
        for name, record in outcome.read().runs.items()
    }


def expected(points=POINTS):
    """What the store should hold, computed apart from it."""
    return {
        point.run: [
            (step, 3 / point.size + 20 / point.data + 0.1 / step + 0.01 * point.seed, 10 * point.size)
            for step in (1, 2, 3)
        ]
        for point in points
    }


# Points


def test_a_point_keeps_its_name_for_ever():
    point = Point(32, 1000, 1, {"lr": 0.1, "shape": [1, 2]})
    assert point.run == "size-32_data-1000_seed-1_a91069c218a4"
    assert Point(np.int64(32), 1000.0, np.int32(1), {"shape": (1, 2), "lr": 0.1}) == point
    assert Point.from_json(json.loads(json.dumps(point.to_json()))) == point
    text = '{"data":1000,"options":{"lr":0.1,"shape":[1,2]},"seed":1,"size":32}'
    assert point.id == hashlib.sha256(text.encode()).hexdigest()[:12]
    assert len({point, Point(32, 1000, 1), Point(32, 1000, 2), Point(33, 1000, 1)}) == 4
    assert hash(point) == hash(Point.from_json(point.to_json()))


def test_a_grid_is_every_combination_and_options_are_axes():
    points = grid(size=[1, 2], data=[10, 20, 30], seed=range(2), lr=[0.1, 0.2], depth=3)
    assert len(set(points)) == 2 * 3 * 2 * 2
    assert {(p.size, p.data, p.seed, p.options["lr"], p.options["depth"]) for p in points} == {
        (s, d, r, lr, 3) for s in (1, 2) for d in (10, 20, 30) for r in (0, 1) for lr in (0.1, 0.2)
    }


def test_a_configuration_is_flat_json():
    config = Point(8, 100, 2, {"lr": 0.1}).config(root="/r", study="s", tries=2)
    point = Point(8, 100, 2, {"lr": 0.1})
    own = {"point": point.id, "run": point.run, "root": "/r", "study": "s", "tries": 2}
    assert json.loads(json.dumps(config)) == {**own, "size": 8, "data": 100, "seed": 2, "lr": 0.1}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Point(0, 1), "`size` of a point to be a positive number, got 0"),
        (lambda: Point(1, float("nan")), "`data` of a point to be a positive number, got nan"),
        (lambda: Point("8", 1), "`size` of a point to be a positive number, got '8'"),
        (lambda: Point(1, 1, 0.5), "`seed` of a point to be a whole number, got 0.5"),
        (lambda: Point(1, 1, True), "`seed` of a point to be a whole number, got True"),
        (lambda: Point(1, 1, 0, {"root": "x"}), "other names than .*, got root: rename"),
        (lambda: Point(1, 1, 0, {"f": len}), "options of a point that JSON can hold"),
        (lambda: Point(1, 1, 0, {1: 2}), "names of options to be text, got \\[1\\]"),
        (lambda: Point(1, 1, 0, [1]), "`options` of a point to be a mapping by name"),
        (lambda: Point.from_json([1]), "a point as an object with `size` and `data`"),
        (lambda: Point.from_json({"size": 1, "data": 1, "lr": 1}), "got also lr: put what else"),
        (lambda: grid(size=[], data=[1]), "at least one value of `size`, got none"),
        (lambda: check_points([Point(1, 1), Point(1.0, 1)]), "each point once, got .* twice"),
        (lambda: check_points([{"size": 1}]), "Expected points, got"),
    ],
)
def test_what_is_no_point_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": 3}, "`train` to be a function of a configuration, got 3"),
        ({"retries": -1}, "`retries` to be 0 or more, got -1"),
        ({"retries": True}, "`retries` to be 0 or more, got True"),
        ({"executor": 3}, "an executor with a method `submit`, or a function that makes one, got 3"),
        ({"executor": dict}, "an executor with a method `submit`"),
    ],
)
def test_a_launch_refuses_with_the_remedy(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        run(**{"train": study_jobs.train, "root": tmp_path, **options})
    with pytest.raises(ValueError, match="at least 1 worker, got 0"):
        process_pool(0)


# In this process


def test_results_are_in_the_store_and_finished_points_are_not_run_again(tmp_path):
    first = run(study_jobs.train, tmp_path, points=POINTS[:4])
    assert first.complete and [o.state for o in first.outcomes] == ["finished"] * 4
    again = run(study_jobs.train, tmp_path)
    assert [o.state for o in again.outcomes] == ["skipped"] * 4 + ["finished"] * 2
    assert [o.point for o in again.outcomes] == POINTS
    assert values(again) == expected()
    assert study_jobs.begun(tmp_path) == {point.run: 1 for point in POINTS}


def test_a_job_that_is_run_twice_trains_once(tmp_path):
    config = POINTS[0].config(root=str(tmp_path), study="default")
    assert Job(study_jobs.train)(config) == Job(study_jobs.train)({**config, "tries": 2}) == POINTS[0].id
    assert study_jobs.begun(tmp_path) == {POINTS[0].run: 1}


def test_a_job_that_raises_is_recorded_and_tried_again_by_the_next_launch(tmp_path):
    outcome = run(study_jobs.fails_at_size_8, tmp_path)
    assert [o.state for o in outcome.outcomes] == ["finished"] * 2 + ["failed"] * 2 + ["finished"] * 2
    assert not outcome.complete and [o.point.size for o in outcome.unfinished] == [8, 8]
    assert all(
        o.error.rstrip().endswith("RuntimeError: out of paper") and o.tries == 1 for o in outcome.unfinished
    )
    states = {name: record.state for name, record in outcome.read().runs.items()}
    assert states == {p.run: "failed" if p.size == 8 else "finished" for p in POINTS}
    again = run(study_jobs.train, tmp_path)
    assert again.complete and values(again) == expected()


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (study_jobs.exits, "train ended the process with status 3"),
        (study_jobs.raises_oddly, "Odd: no luck"),
        (
            lambda config: None,
            "a finished run .* when train returned, found it missing: give ScalingLawMonitor",
        ),
        (lambda config: 0.5, "train to return observations or None, got 0.5"),
        (lambda config: [], "train to return observations, got none"),
        (lambda config: ["a"], "train to return observations or None"),
    ],
)
def test_what_train_must_do_is_told(tmp_path, train, message):
    (outcome,) = run(train, tmp_path, points=POINTS[:1]).outcomes
    assert outcome.state == "failed"
    assert re.search(message, outcome.error), outcome.error


def test_an_interrupt_leaves_a_study_that_goes_on(tmp_path):
    def interrupted(config):
        if config["size"] == 8:
            raise KeyboardInterrupt
        return study_jobs.train(config)

    with pytest.raises(KeyboardInterrupt):
        run(interrupted, tmp_path)
    again = run(study_jobs.train, tmp_path)
    assert [o.state for o in again.outcomes] == ["skipped"] * 2 + ["finished"] * 4
    assert values(again) == expected()


def test_an_interrupt_that_lightning_made_an_exit_is_still_one(tmp_path):
    def like_lightning(config):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            sys.exit(1)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(like_lightning, tmp_path)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_retried_point_has_only_its_own_observations(tmp_path):
    def half(config):
        store = open_store(config["root"], config["study"])
        store.begin(RunInfo(run=config["run"]))
        store.append(Observation(config["run"], "val_loss", 9.0, study_jobs.observe(config)[1].counts))
        store.close()
        raise RuntimeError("half way")

    assert [o.state for o in run(half, tmp_path, points=POINTS[:1]).outcomes] == ["failed"]
    again = run(study_jobs.train, tmp_path, points=POINTS[:1])
    assert values(again) == expected(POINTS[:1])


def test_a_store_behind_a_url(tmp_path):
    root = f"memory://study-{time.monotonic_ns()}"
    points = POINTS[:2]
    plain = run(lambda config: study_jobs.observe(config), root, points=points)
    assert plain.complete and values(plain) == expected(points)
    assert [o.state for o in run(study_jobs.observe, root, points=points).outcomes] == ["skipped"] * 2


# Threads and processes


def test_threads(tmp_path):
    with ThreadPoolExecutor(3) as pool:
        outcome = run(study_jobs.fails_at_size_8, tmp_path, pool)
        assert [o.state for o in outcome.outcomes] == ["finished"] * 2 + ["failed"] * 2 + ["finished"] * 2
        assert pool.submit(len, "still ours").result() == 10


def test_a_pool_whose_worker_is_killed_is_built_anew(tmp_path):
    outcome = run(study_jobs.dies_once, tmp_path, process_pool(2))
    assert outcome.complete and values(outcome) == expected()
    killed = next(o for o in outcome.outcomes if (o.point.size, o.point.seed) == (8, 0))
    assert killed.tries >= 2 and Path(tmp_path, "died").exists()
    for other in outcome.outcomes:
        assert other.tries <= 3
    assert sum(study_jobs.begun(tmp_path).values()) <= len(POINTS) + 3


def test_one_point_that_always_kills_its_worker_takes_no_other_with_it(tmp_path):
    pool = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))
    points = grid(size=[4, 8, 16], data=[100])
    outcome = run(study_jobs.always_dies_at_size_8, tmp_path, pool, points, retries=1)
    assert [o.state for o in outcome.outcomes] == ["finished", "died", "finished"]
    assert "BrokenProcessPool" in outcome.outcomes[1].error
    pool.shutdown(wait=False)


def test_a_pool_that_never_works_is_given_up_with_advice(tmp_path):
    with pytest.raises(
        RuntimeError, match=r"broke 3 times before any point had ended .*__main__.*run it again"
    ):
        run(study_jobs.dies, tmp_path, process_pool(1), grid(size=range(1, 9), data=[1]), retries=0)


def test_what_cannot_be_sent_to_a_process_is_told_once(tmp_path):
    (outcome,) = run(lambda config: None, tmp_path, process_pool(1), POINTS[:1]).outcomes
    assert outcome.state == "died" and outcome.tries == 1
    assert "Give `train` as a function at a module's top level" in outcome.error


def test_an_interrupted_launch_goes_on_in_the_next_process(tmp_path):
    code = (
        "import signal, sys; sys.path.insert(0, 'tests'); import study_jobs\n"
        "from foretrain.study import grid, process_pool, run_study\n"
        # A suite in the background has interrupts ignored, and what it starts inherits that.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "if __name__ == '__main__':\n"
        "    points = grid(size=[4, 8, 16], data=[100], seed=[0, 1], seconds=0.2)\n"
        f"    run_study(study_jobs.train, points, process_pool(1), root={str(tmp_path)!r}, progress=False)\n"
    )
    script = tmp_path / "launch.py"
    script.write_text(code)
    launch = subprocess.Popen(
        [sys.executable, str(script)], cwd=Path(__file__).parent.parent, stderr=subprocess.PIPE
    )
    until = time.monotonic() + 60
    while time.monotonic() < until and len(study_jobs.begun(tmp_path)) < 2:
        time.sleep(0.02)
    launch.send_signal(signal.SIGINT)
    _, told = launch.communicate(timeout=60)
    assert b"KeyboardInterrupt" in told and launch.returncode != 0
    points = grid(size=[4, 8, 16], data=[100], seed=[0, 1], seconds=0.2)
    again = run(study_jobs.train, tmp_path, points=points)
    skipped = [o.state for o in again.outcomes].count("skipped")
    assert again.complete and 1 <= skipped < 6
    assert values(again) == expected(points)


def test_workers_end_with_a_launch_that_is_killed(tmp_path):
    code = (
        "import time; from pathlib import Path\n"
        "from foretrain.study import grid, process_pool, run_study\n"
        "def train(config):\n"
        "    while True:\n"
        f"        Path({str(tmp_path)!r}, 'alive').write_text(str(time.monotonic()))\n"
        "        time.sleep(0.02)\n"
        "if __name__ == '__main__':\n"
        "    points = grid(size=[4], data=[100])\n"
        f"    run_study(train, points, process_pool(1), root={str(tmp_path / 'runs')!r}, progress=False)\n"
    )
    script, alive = tmp_path / "launch.py", tmp_path / "alive"
    script.write_text(code)
    launch = subprocess.Popen([sys.executable, str(script)])
    until = time.monotonic() + 60
    while time.monotonic() < until and not alive.exists():
        time.sleep(0.02)
    launch.kill()
    launch.wait(timeout=60)
    told = None
    while time.monotonic() < until and told != (told := alive.read_text()):
        time.sleep(1.0)
    time.sleep(1.0)
    assert alive.read_text() == told


# Futures that are not the standard library's


class Remote:
    """A future of an executor far away: lost `losses` times, then run."""

    def __init__(self, call, losses):
        self.call, self.losses, self.cancelled = call, losses, False

    def done(self):
        return True

    def result(self):
        if self.losses:
            raise ConnectionError("the worker is gone")
        return self.call()


class Far:
    """An executor that loses the first `losses` jobs of every point."""

    def __init__(self, losses):
        self.losses, self.configs = losses, []

    def submit(self, fn, config):
        self.configs.append(config)
        return Remote(lambda: fn(config), config["tries"] <= self.losses)


@pytest.mark.parametrize(("losses", "state"), [(2, "finished"), (3, "died")])
def test_a_lost_job_is_handed_over_again_so_often(tmp_path, losses, state):
    far = Far(losses)
    outcome = run(study_jobs.train, tmp_path, far, POINTS[:2])
    assert [o.state for o in outcome.outcomes] == [state] * 2
    assert [o.tries for o in outcome.outcomes] == [3, 3]
    assert (
        len({json.dumps(config, sort_keys=True) for config in far.configs}) == 6
    )  # never the same call twice
    if state == "died":
        assert outcome.outcomes[0].error == "ConnectionError: the worker is gone"


def test_an_executor_that_refuses_jobs_ends_the_study(tmp_path):
    class Closed:
        def submit(self, fn, config):
            raise OSError("closed")

    outcome = run(study_jobs.train, tmp_path, Closed(), POINTS[:2])
    assert [(o.state, o.error) for o in outcome.outcomes] == [("died", "OSError: closed")] * 2


def test_a_worker_that_writes_elsewhere_is_told(tmp_path):
    class Elsewhere:
        def submit(self, fn, config):
            return Remote(lambda: fn({**config, "root": str(tmp_path / "elsewhere")}), 0)

    (outcome,) = run(study_jobs.train, tmp_path / "here", Elsewhere(), POINTS[:1]).outcomes
    assert outcome.state == "failed"
    assert "The worker finished it, but here it is missing" in outcome.error


def test_the_shim_for_ray(tmp_path):
    class Wrapped(Exception):
        cause = None

    class Remotely:
        def __init__(self, function):
            self.function, self.asked = function, {}

        def options(self, **asked):
            self.asked = asked
            return self

        def remote(self, *args):
            pool = ThreadPoolExecutor(1)
            return pool.submit(self.function, *args)

    class FakeRay:
        """What the shim uses of Ray, in threads."""

        made = None

        def remote(self, function):
            self.made = Remotely(function)
            return self.made

        def wait(self, references, timeout):
            assert timeout == 0
            return [r for r in references if r.done()], [r for r in references if not r.done()]

        def get(self, reference):
            try:
                return reference.result()
            except Exception as error:
                wrapped = Wrapped(str(error))
                wrapped.cause = error
                raise wrapped from error

    ray = FakeRay()
    outcome = run(study_jobs.fails_at_size_8, tmp_path, RayExecutor(ray, num_cpus=1))
    assert ray.made.asked == {"num_cpus": 1}
    assert [o.state for o in outcome.outcomes] == ["finished"] * 2 + ["failed"] * 2 + ["finished"] * 2


# Executors of others, where they are installed


def test_dask_with_a_killed_worker_gives_what_one_process_gives(tmp_path):
    distributed = pytest.importorskip(
        "distributed", reason="dask is not installed: pip install 'dask[distributed]'"
    )
    plain = run(study_jobs.train, tmp_path / "plain")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.run(_import_from, str(Path(__file__).parent))
        outcome = run(study_jobs.dies_once, tmp_path / "dask", client)
        again = run(study_jobs.train, tmp_path / "dask2", client.get_executor())
    assert outcome.complete and again.complete and Path(tmp_path, "dask", "died").exists()
    assert values(outcome) == values(again) == values(plain) == expected()


def _import_from(folder):
    sys.path.insert(0, folder)


def test_submitit(tmp_path):
    submitit = pytest.importorskip("submitit", reason="submitit is not installed: pip install submitit")
    executor = submitit.LocalExecutor(folder=str(tmp_path / "jobs"))
    points = grid(size=[4, 8], data=[100])
    environment = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", environment)
        outcome = run(study_jobs.fails_at_size_8, tmp_path, executor, points)
    assert [o.state for o in outcome.outcomes] == ["finished", "failed"]
    assert "out of paper" in outcome.outcomes[1].error and outcome.outcomes[1].tries == 1


def test_loky(tmp_path):
    loky = pytest.importorskip("loky", reason="loky is not installed: pip install loky")
    outcome = run(study_jobs.dies_once, tmp_path, lambda: loky.ProcessPoolExecutor(2), POINTS[:4])
    assert outcome.complete and values(outcome) == expected(POINTS[:4])


def test_a_failure_travels_as_text():
    assert pickle.loads(pickle.dumps(JobFailed("why"))).args == ("why",)
