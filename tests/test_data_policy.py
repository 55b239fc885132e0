"""Runs whose data was selected: the tag of the policy, never pooled, and how fast each one's errors fall."""

import importlib
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from foretrain.analysis import Question, analyze
from foretrain.axes import Counts
from foretrain.cli import main
from foretrain.error_sources import Verdict, compare_policies
from foretrain.hestness import read_runs
from foretrain.importers import Declared
from foretrain.observation import Observation, RunInfo, RunRecord
from foretrain.store import StudyReader
from foretrain.study import Point, run_study

sys.path.insert(0, str(Path(__file__).parent))
CONVENTIONS = {"params": "trainable", "samples": "first tensor"}


def record(run, n, policy=None):
    """A run whose error with selected data is half that of the others."""
    noise = np.random.default_rng(int(n))
    told = []
    for d in np.geomspace(1e5, 3e7, 20).astype(int).tolist():
        error = (
            (1.5 + 60 * n**-0.3 + 80 * d**-0.3) * (0.5 if policy else 1) * math.exp(noise.normal(0, 0.002))
        )
        counts = Counts(samples=d, unique_samples=d, steps=d // 100, params=int(n))
        told.append(Observation(run, "val_loss", error, counts, lr=1e-3))
    tag = {"data_policy": policy} if policy else {}
    return RunRecord(RunInfo(run, conventions=CONVENTIONS | tag), tuple(told), "finished")


def test_runs_of_another_policy_are_in_no_law_of_the_study():
    sizes = {f"all-{n:.0e}": record(f"all-{n:.0e}", n) for n in (1e6, 3e6, 1e7, 3e7)}
    mixed = sizes | {f"hard-{n:.0e}": record(f"hard-{n:.0e}", n, "hardest half") for n in (2e6, 6e6, 2e7)}
    alone, beside = (analyze(runs, Question("all-3e+07", target_params=(1e8,))) for runs in (sizes, mixed))
    assert beside.joint.runs == alone.joint.runs == tuple(sizes)
    assert beside.joint.projections == alone.joint.projections
    assert "3 runs counted by other conventions were left out" in beside.joint.sentence
    own = analyze(mixed, Question("hard-2e+07", target_params=(1e8,)))
    assert own.joint.runs == ("hard-2e+06", "hard-6e+06", "hard-2e+07")
    kept = read_runs(mixed, "val_loss")
    assert len(kept.error) == 4
    assert kept.excluded["hard-2e+06"] == "counted by other conventions (data_policy) than most runs"


def test_two_policies_are_not_one():
    runs = {f"{p}-{n:.0e}": record(f"{p}-{n:.0e}", n, p) for p in ("hard", "easy") for n in (1e6, 3e6, 1e7)}
    report = analyze(runs, Question("hard-1e+07"))
    assert report.joint.runs == ("hard-1e+06", "hard-3e+06", "hard-1e+07")


def test_a_monitor_records_the_policy(tmp_path):
    pytest.importorskip("lightning")
    from foretrain.lightning import ScalingLawMonitor
    from lightning_models import loader, make_module, make_trainer, only_run

    pl = importlib.import_module("lightning.pytorch")
    trainer = make_trainer(pl, tmp_path, ScalingLawMonitor(fit=False, data_policy="hardest half"))
    trainer.fit(make_module(pl), loader(), loader())
    assert only_run(tmp_path).info.conventions["data_policy"] == "hardest half"
    trainer = make_trainer(pl, tmp_path / "all", ScalingLawMonitor(fit=False))
    trainer.fit(make_module(pl), loader(), loader())
    assert "data_policy" not in only_run(tmp_path / "all").info.conventions
    with pytest.raises(
        ValueError, match="`data_policy` to be a text that is not empty, got ' ': name the rule"
    ):
        ScalingLawMonitor(data_policy=" ")


def test_an_import_takes_the_policy(tmp_path, capsys):
    (tmp_path / "logs" / "version_0").mkdir(parents=True)
    rows = "".join(f"{1 / (step + 1)},{step}\n" for step in range(5))
    (tmp_path / "logs" / "version_0" / "metrics.csv").write_text("val_loss,step\n" + rows)
    command = ["import", "csv", str(tmp_path / "logs"), "--metric", "val_loss", "--batch-size", "4"]
    assert main([*command, "--prefix", "hard-", "--data-policy", "hardest half"]) == 0
    assert main([*command, "--prefix", "same-", "--like", "hard-version_0"]) == 0
    capsys.readouterr()
    (folder,) = (tmp_path / "logs" / "foretrain").iterdir()
    runs = StudyReader(folder).read().runs
    assert runs["hard-version_0"].info.conventions["data_policy"] == "hardest half"
    assert "data_policy" not in runs["same-version_0"].info.conventions
    with pytest.raises(ValueError, match="name of the rule that selected the data, got an empty one"):
        Declared(("val_loss",), samples_per_step=4, data_policy=" ")


def tell(config):
    counts = Counts(samples=int(config["data"]), steps=1, params=10)
    return Observation(config["run"], "val_loss", 1.0, counts)


def test_a_point_of_a_study_has_the_policy(tmp_path):
    points = [Point(1, 8), Point(1, 8, options={"data_policy": "hardest half"})]
    runs = run_study(tell, points, root=tmp_path, study="s").read().runs
    assert [runs[point.run].info.conventions for point in points] == [{}, {"data_policy": "hardest half"}]


# How fast errors fall, by policy

SIZES = np.repeat(64 * 2 ** (np.arange(10) / 2), 2)


def noisy(errors, seed=0):
    return errors * np.exp(np.random.default_rng(seed).normal(0, 0.05, np.size(errors)))


def test_each_policy_has_a_curve_of_its_own_and_what_it_is_worth():
    plain, steep = noisy(SIZES**-0.5, 3), noisy(np.exp(-SIZES / 400), 1)
    half = noisy((2 * SIZES) ** -0.5, 2)  # as good as twice the data
    tags = ["none"] * 20 + ["hard"] * 20 + ["half"] * 20
    order = np.random.default_rng(0).permutation(60)
    data, error = np.tile(SIZES, 3)[order], np.concatenate([plain, steep, half])[order]
    first, twice, hard = compare_policies(data, error, [tags[i] for i in order])
    assert [one.policy for one in (first, twice, hard)] == ["none", "half", "hard"]
    assert [one.speed.verdict for one in (first, twice, hard)] == [
        *(Verdict.POWER_LAW, Verdict.POWER_LAW, Verdict.FASTER)
    ]
    assert first.worth is None and first.speed.exponent.lower < 0.5 < first.speed.exponent.upper
    assert twice.worth.lower < 2 < twice.worth.upper < 4 and twice.worth.lower > 1.2
    truth = np.exp(-SIZES[-1] / 400) ** -2 / SIZES[-1]  # plain: data = error^-2
    assert hard.worth.lower < truth < hard.worth.upper
    assert (first.data == np.unique(SIZES)).all()
    assert first.error[0] == pytest.approx(np.median(plain[:2]))


def test_what_a_policy_is_worth_has_the_luck_of_its_own_runs():
    held = 0
    for seed in range(60):
        plain, half = noisy(SIZES**-0.5, 2 * seed), noisy((2 * SIZES) ** -0.5, 2 * seed + 1)
        _, told = compare_policies(
            np.tile(SIZES, 2), np.concatenate([plain, half]), ["none"] * 20 + ["half"] * 20
        )
        held += told.worth.lower < 2 < told.worth.upper
    assert 0.8 < held / 60 <= 1


def test_a_policy_may_be_worth_less_than_its_data():
    data, error = np.tile(SIZES, 2), np.concatenate([noisy(SIZES**-0.5), noisy(2 * SIZES**-0.5, 1)])
    _, easy = compare_policies(data, error, ["all"] * 20 + ["easy"] * 20, baseline="all")
    assert easy.worth.lower < 0.25 < easy.worth.upper < 0.5


def test_few_amounts_tell_little_and_say_so():
    curves = compare_policies([1, 2, 4, 1, 2], [1, 0.7, 0.5, 0.9, 0.4], ["none"] * 3 + ["hard"] * 2)
    assert [one.speed.verdict for one in curves] == [Verdict.UNCLEAR] * 2
    assert curves[1].worth is None


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="runs of the baseline 'none', got hard: pass one of them"):
        compare_policies([1, 2], [1, 1], ["hard"] * 2)
    with pytest.raises(ValueError, match=r"`data` of shape \(2,\).* `policies` of shape \(1,\)"):
        compare_policies([1, 2], [1, 1], ["none"])
