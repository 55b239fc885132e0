"""What a study has cost: the sums of the record files, and what of them was lost to resumed stretches."""

import importlib
import json
import random
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from foretrain.axes import Counts
from foretrain.cli import main
from foretrain.compute import compute_burden, compute_record, totals
from foretrain.observation import Observation, RunInfo
from foretrain.storage.reader import record_files
from foretrain.storage.record_file import Recording
from foretrain.store import ObservationStore

sys.path.insert(0, str(Path(__file__).parent))

STEP = 1e9  # FLOPs of one


def record(root, run, steps, *, continues=None, params=100, state=None, metric="val_loss", step=STEP, **more):
    """What a process records that validates at these steps; its clock reads the steps."""
    store = ObservationStore(root / "foretrain", "study")
    rules = {"flops": "6 * params * tokens", "params": "trainable", **more.pop("rules", {})}
    value = more.pop("value", 1.0)
    store.begin(RunInfo(run, "study", conventions=rules, continues=continues, **more))
    for at in steps:
        flops = None if step is None else at * step
        store.append(
            Observation(run, metric, value, Counts(at, at, params=params, flops=flops), time=float(at))
        )
    if state:
        store.finish(state)
    store.close()
    return store.study_dir


def read(folder):
    attempts = []
    for _, files in sorted(record_files(Path(folder)).items()):
        recording = Recording()
        recording.update(files)
        attempts.append(recording.read())
    return {run.run: run for run in compute_record(attempts)}


def steps_of(run):
    """Spent, kept, inherited and lost, in steps."""
    return tuple(round(value / STEP, 6) for value in (run.spent, run.kept, run.inherited, run.lost))


def at(step, run="a"):
    return {"run": run, "step": step}


def test_what_is_trained_again_is_lost(tmp_path):
    record(tmp_path, "a", range(10, 91, 10))
    record(tmp_path, "a", range(70, 121, 10), continues=at(65))  # between two validations
    folder = record(tmp_path, "a", range(110, 201, 10), continues=at(100), state="finished")
    run = read(folder)["a"]
    assert steps_of(run) == (200 + 25 + 20, 200, 0, 25 + 20)
    assert (run.attempts, run.state, run.params, run.rule) == (3, "finished", 100, "6 * params * tokens")


def test_a_checkpoint_beyond_the_last_validation_loses_nothing(tmp_path):
    record(tmp_path, "a", [10, 20])
    assert steps_of(read(record(tmp_path, "a", [30, 40], continues=at(25)))["a"]) == (40, 40, 0, 0)


def test_a_start_from_scratch_loses_all_before(tmp_path):
    record(tmp_path, "a", [10, 20, 30], state="failed")
    assert steps_of(read(record(tmp_path, "a", [10, 20], continues=at(0)))["a"]) == (50, 20, 0, 30)
    record(tmp_path, "b", [10, 20, 30])
    assert steps_of(read(record(tmp_path, "b", [21, 40]))["b"]) == (50, 40, 0, 10)  # it does not say


def test_what_another_run_has_trained_is_inherited_and_counts_once(tmp_path):
    record(tmp_path, "a", range(10, 101, 10), state="finished")
    record(tmp_path, "b", [70, 80, 90], continues=at(65))
    folder = record(tmp_path, "b", [80, 120], continues=at(75, "b"), state="finished")
    runs = read(folder)
    assert steps_of(runs["a"]) == (100, 100, 0, 0)
    assert steps_of(runs["b"]) == (120 - 65 + 15, 120, 65, 15)
    assert totals(runs.values(), lambda run: run.params)[100].spent == (100 + 70) * STEP
    # What it goes on from lies beyond what the other has recorded: that is counted here.
    assert steps_of(read(record(tmp_path, "c", [130], continues=at(110)))["c"]) == (30, 130, 100, 0)


def test_a_process_that_recorded_nothing_counts_for_nothing(tmp_path):
    record(tmp_path, "a", [10, 20, 30])
    record(tmp_path, "a", [], continues=at(5))
    folder = record(tmp_path, "a", [30, 40], continues=at(25), state="failed")
    assert steps_of(read(folder)["a"]) == (45, 40, 0, 5)
    assert read(record(tmp_path, "b", [10], step=None))["b"].kept is None
    assert read(record(tmp_path, "c", [], state="failed"))["c"].spent == 0


@pytest.mark.parametrize("clock", [True, False])
def test_two_monitors_of_one_process_count_once(tmp_path, clock):
    clocks = [5.0, 5.1, 29.0, 29.1] if clock else [None] * 4
    for started, metric in zip(clocks, ("val_loss", "val_error") * 2, strict=True):
        first = started in clocks[:2] if clock else len(list(tmp_path.rglob("*.jsonl"))) < 2
        steps, past = ([10, 20, 30], None) if first else ([30, 40], at(20))
        folder = record(tmp_path, "a", steps, metric=metric, continues=past, started=started)
    assert steps_of(read(folder)["a"]) == (50, 40, 0, 10)


def test_one_that_is_resumed_twice_from_one_checkpoint_is_told_by_the_clock(tmp_path):
    record(tmp_path, "a", [10, 20], started=1.0)
    record(tmp_path, "a", [20, 30], continues=at(15), started=25.0)
    folder = record(tmp_path, "a", [20, 30, 40], continues=at(15), started=50.0)
    assert steps_of(read(folder)["a"]) == (40 + 5 + 15, 40, 0, 5 + 15)


@pytest.mark.parametrize("seed", range(3))
def test_random_kills_cost_what_was_trained(tmp_path, seed):
    """A training that validates every step, so that all of it is recorded."""
    rng = random.Random(seed)
    trained, weights, past = 0, 0, None
    while weights < 60:
        last = min(weights + rng.randint(1, 25), 60)
        record(tmp_path, "a", range(weights + 1, last + 1), continues=past, started=float(trained))
        trained += last - weights
        weights = last if last == 60 else rng.randint(max(last - 8, 0), last)
        past = at(weights)
    (folder,) = (tmp_path / "foretrain").iterdir()
    assert steps_of(read(folder)["a"]) == (trained, 60, 0, trained - 60)


def study(root):
    record(root, "wide-1", [10, 20], params=400, state="finished")
    record(root, "wide-2", [10, 20, 30], params=400)
    record(root, "wide-2", [25, 40], params=400, continues=at(20, "wide-2"), state="failed")
    record(root, "narrow-1", [10, 20], params=100, state="finished", rules={"flops": "measured"})
    return record(root, "narrow-2", [10], params=100, state="finished", step=None)


def test_the_command_sums_up_by_run_size_and_recipe(tmp_path, capsys):
    folder = study(tmp_path)
    command = ["store", "compute", str(tmp_path), "--recipe", "wide-*"]
    assert main([*command, "--json"]) == 1  # one recorded no FLOPs
    out, err = capsys.readouterr()
    *rows, sums = [json.loads(line) for line in out.splitlines()]
    assert [(row["run"], row["recipe"]) for row in rows] == [
        *((name, "other runs") for name in ("narrow-1", "narrow-2")),
        *((name, "wide-*") for name in ("wide-1", "wide-2")),
    ]
    assert [row["spent"] for row in rows] == [20 * STEP, 0, 20 * STEP, 50 * STEP]
    assert sums["total"] == {
        "runs": 4,
        "unknown": 1,
        "spent": 90 * STEP,
        "lost": 10 * STEP,
        "unfinished": 50 * STEP,
    }
    assert [(size["params"], size["spent"]) for size in sums["sizes"]] == [(100, 20 * STEP), (400, 70 * STEP)]
    assert {one["recipe"]: one["spent"] for one in sums["recipes"]} == {
        "other runs": 20 * STEP,
        "wide-*": 70 * STEP,
    }
    assert {one["rule"]: one["runs"] for one in sums["rules"]} == {"measured": 1, "6 * params * tokens": 3}
    assert err == "study: 1 runs recorded no FLOPs; the sums are without them.\n"
    assert main(command) == 1
    out, err = capsys.readouterr()
    told = (
        "study: 9e+10 FLOPs in 4 runs, of which 11.1% were lost to resumed stretches; 5e+10 are of runs that"
    )
    assert told in " ".join(out.split())
    assert "counted by different rules" in err and "measured: 1 runs" in err
    (path,) = folder.glob("wide-1*/*.jsonl")
    path.write_bytes(path.read_bytes().replace(b'"flops":20000000000.0', b'"flops":90000000000.0'))
    main(command)
    assert "study: 1 damaged lines were passed over, so the sums may miss" in capsys.readouterr().err


def test_without_a_recipe_runs_are_summed_up_by_how_they_were_counted(tmp_path, capsys):
    study(tmp_path)
    main(["store", "compute", str(tmp_path), "--json"])
    sums = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {one["recipe"]: one["runs"] for one in sums["recipes"]} == {
        "flops: 6 * params * tokens": 3,
        "flops: measured": 1,
    }


def test_no_records_and_sound_ones_are_told_by_the_exit_code(tmp_path, capsys):
    assert main(["store", "compute", str(tmp_path)]) == 1
    assert f"No records under {tmp_path}: expected a log_dir" in capsys.readouterr().err
    record(tmp_path, "a", [10], state="finished")
    assert main(["store", "compute", str(tmp_path)]) == 0
    assert "by recipe" not in capsys.readouterr().out


def test_a_lightning_training_that_is_resumed(tmp_path):
    pytest.importorskip("lightning")
    from foretrain.lightning import ScalingLawMonitor
    from lightning_models import points
    from resume_run import BATCH, EPOCH, EVERY, Attempt, make

    pl = importlib.import_module("lightning.pytorch")
    from lightning_models import loader

    last = tmp_path / "ckpt" / "last.ckpt"
    for steps, resume in ((13, None), (40, last)):  # a checkpoint every 7 steps, a validation every 4
        attempt = Attempt(pl.__name__, str(tmp_path), steps, save=7)
        trainer, module = make(pl, attempt, ScalingLawMonitor(fit=False, run="mine"))
        data = points(BATCH * EPOCH)
        trainer.fit(module, loader(data, shuffle=True), loader(data), ckpt_path=resume)
    (folder,) = next(tmp_path.rglob("foretrain")).iterdir()
    run = read(folder)["mine"]
    each = 6 * run.params * BATCH
    assert EVERY == 4 and (run.attempts, run.state) == (2, "finished")
    assert (run.kept, run.lost) == (40 * each, pytest.approx((12 - 7) * each))


# The compute burden


def models(n=60, slope=-0.082, noise=0.05, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.uniform(8, 12, n)
    return 10**x, 10 ** (-0.629 + slope * (x - 9) + rng.normal(0, noise, n))


def test_the_burden_is_the_regression_of_the_logarithms():
    compute, error = models()
    told = compute_burden(compute, error)
    line = stats.linregress(np.log10(compute), np.log10(error))
    half = stats.t.ppf(0.95, 58) * line.stderr
    assert told.exponent.median == pytest.approx(-1 / line.slope)
    ends = (-1 / (line.slope - half), -1 / (line.slope + half))
    assert (told.exponent.lower, told.exponent.upper) == pytest.approx(ends)
    assert told.halving.median == pytest.approx(2**told.exponent.median)
    assert (told.r_squared, told.models) == (pytest.approx(line.rvalue**2), 60)
    at = 10 ** ((np.log10(0.1) - line.intercept) / line.slope)
    assert told.compute_for(0.1).median == pytest.approx(at, rel=0.1)
    assert f"Half the error takes {told.halving.median:.3g} times" in told.sentence
    assert "not what more compute would do for one recipe" in told.sentence


def test_the_compute_for_an_error_is_held_as_often_as_is_said():
    held = 0
    for seed in range(200):
        told = compute_burden(*models(n=20, seed=seed)).compute_for(0.1)
        held += told.lower < 10 ** (9 + (np.log10(0.1) + 0.629) / -0.082) < told.upper
    assert 0.85 < held / 200 < 0.95


def test_the_published_burden_of_imagenet():
    """Slope -.082 and R2 .712 over as many models as its interval tells give the interval published."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=80)
    x -= x.mean()
    off = rng.normal(size=80)
    off -= off.mean() + x * (off @ x) / (x @ x)
    off *= np.sqrt((1 - 0.712) / 0.712 * 0.082**2 * (x @ x) / (off @ off))
    told = compute_burden(10 ** (9 + x), 10 ** (-0.629 - 0.082 * x + off), level=0.95)
    assert told.r_squared == pytest.approx(0.712)
    assert told.exponent.median == pytest.approx(12.1, abs=0.15)
    assert (told.exponent.lower, told.exponent.upper) == pytest.approx((10.6, 14.1), abs=0.25)
    assert 2**12.1 == pytest.approx(4400, rel=0.01)


def test_an_error_that_does_not_fall_has_no_burden():
    compute, error = models(slope=0.0, noise=0.3, seed=1)
    told = compute_burden(compute, error)
    assert told.exponent.upper == told.halving.upper == float("inf")
    rising = compute_burden(compute, compute**0.1)
    assert "does not fall with compute over 60 models" in rising.sentence
    assert rising.compute_for(1e-3).lower == float("inf")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: compute_burden([1, 2, 3], [1] * 3),
            "at least 4 models with different.* got 3 with 3",
        ),
        (lambda: compute_burden([2] * 5, [1] * 5), "got 5 with 1 amounts of it"),
        (
            lambda: compute_burden([1, 2, 3, 0], [1] * 4),
            "`compute` to hold positive.* got 0.0",
        ),
        (lambda: compute_burden([1, 2, 3, 4], [1] * 4, level=90), "`level` between 0 and 1, got 90"),
        (
            lambda: compute_burden(*models()).compute_for(0),
            "`error` to hold positive.* got 0.0",
        ),
    ],
)
def test_a_burden_that_makes_no_sense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_command_tells_the_burden_of_a_study(tmp_path, capsys):
    for place, (flops, error) in enumerate([(1e9, 0.31), (1e10, 0.25), (1e11, 0.205), (1e12, 0.171)]):
        record(tmp_path, f"r{place}", [1], step=flops, value=error, state="finished")
    record(tmp_path, "bad", [1], step=1e9, value=9.0, state="failed")
    assert main(["store", "compute", str(tmp_path), "--burden", "val_loss", "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])["burden"]
    line = stats.linregress([9, 10, 11, 12], np.log10([0.31, 0.25, 0.205, 0.171]))
    assert told["halving"]["median"] == pytest.approx(2 ** (-1 / line.slope))
    assert main(["store", "compute", str(tmp_path), "--burden", "val_loss"]) == 0
    assert "This is a cross-section" in capsys.readouterr().out
    assert main(["store", "compute", str(tmp_path), "--burden", "val_acc"]) == 1
    assert "No compute burden of 'val_acc' over 0 finished runs" in capsys.readouterr().err
