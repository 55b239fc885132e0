"""Studies of many runs: an analysis looks at some of them, chosen by what is known of all."""

import math

import numpy as np
import pytest

from foretrain import analysis
from foretrain.analysis import Question, Shelf, analyze
from foretrain.axes import Counts
from foretrain.observation import Observation, RunInfo, RunRecord
from foretrain.reporting import comparison, survey
from foretrain.reporting.points import run_curve
from foretrain.reporting.survey import Survey


def loss(n, d):
    return 1.5 + 60 * n**-0.3 + 80 * d**-0.3


def record(run, n, *, started=None, past=None, otherwise=False, last=3e7, state="finished"):
    noise = np.random.default_rng(int(n)).normal(0, 0.002, 12)
    observations = tuple(
        Observation(
            run,
            "val_loss",
            float(loss(n, d)) * math.exp(e),
            Counts(samples=int(d), steps=int(d / 100), params=int(n)),
        )
        for d, e in zip(np.geomspace(1e6, last, 12), noise, strict=True)
    )
    info = RunInfo(run, started=started, conventions={"params": "all" if otherwise else "trainable"})
    return RunRecord(info, observations, state, past=past or {})


def surveyed(*records):
    return Survey(
        {r.info.run: r for r in records}, "val_loss", lambda r: run_curve(r, "val_loss", "samples")[0]
    )


def test_chosen_are_all_sizes_and_the_nearest_the_newest_first(monkeypatch):
    monkeypatch.setattr(survey, "MAX_CURVES", 5)
    monkeypatch.setattr(survey, "MOST_NEAREST", 3)
    sizes = {f"r{i:02}": 1e6 * 2**i for i in range(21)}
    runs = [record(name, n) for name, n in sizes.items()]
    runs += [record("old", 1e6 * 2**10, started=1.0), record("new", 1e6 * 2**10, started=2.0)]
    runs += [record("apart", 1e6, otherwise=True), RunRecord(RunInfo("empty"))]
    chosen = surveyed(*runs).choose("r10", sizes["r10"])
    assert chosen.runs == ("r00", "r05", "r14", "r20", "old"), "0, 5, 16, 22 and 11 of 23 in order of size"
    assert chosen.nearest == ("new", "old", "r10")
    assert chosen.left_out == 1
    assert surveyed(*runs).choose("apart", 1e6).runs == ("apart",)
    assert surveyed(*runs).choose("apart", 1e6).left_out == 23
    assert surveyed(*runs).choose("empty", 0.0).left_out == 24, "its conventions are no other's"


def test_a_run_that_another_stands_for_is_not_chosen():
    given_up = record("given up", 1e6, last=1e7, state="running")
    resumed = record("resumed", 1e6, past={"given up": 50_000})
    chosen = surveyed(given_up, resumed, record("other", 2e6)).choose("other", 2e6)
    assert chosen.runs == ("resumed", "other") and set(chosen.nearest) == {"resumed", "other"}
    assert chosen.left_out == 0


@pytest.fixture
def study(monkeypatch):
    for module in (analysis, comparison, survey):
        monkeypatch.setattr(module, "MAX_CURVES", 12)
    sizes = np.geomspace(1e6, 3e7, 40)
    runs = {f"r{i:02}": record(f"r{i:02}", n) for i, n in enumerate(sizes)}
    return runs | {"apart": record("apart", 1e6, otherwise=True)}


def test_one_law_is_fitted_for_all_runs_of_a_study(study, monkeypatch):
    looked, fitted = [], []
    of_run, law = run_curve, comparison.joint_report
    monkeypatch.setattr(
        "foretrain.reporting.earlier.run_curve", lambda r, *a: (looked.append(r.info.run), of_run(r, *a))[1]
    )
    monkeypatch.setattr(
        "foretrain.reporting.earlier.joint_report", lambda c, **k: (fitted.append(c), law(c, **k))[1]
    )
    shelf = Shelf()
    reports = [analyze(study, Question(name, "val_loss", "samples"), shelf) for name in ("r07", "r39", "r20")]
    assert len(fitted) == 1 and len(looked) <= 12 + 3
    told = reports[0].joint
    assert len(told.runs) == 12 and "r39" in told.runs and "1 runs counted by other" in told.sentence
    assert all(report.joint == told for report in reports)
    end = {p.name: p for p in told.projections}["2x size"]
    assert end.lower["0.9"] < loss(6e7, told.at_data) < end.upper["0.9"]
    assert reports[0] == analyze(study, Question("r07", "val_loss", "samples")), "the same without the shelf"


def test_a_run_that_has_changed_is_looked_at_again(study):
    shelf, question = Shelf(), Question("r39", "val_loss", "samples")
    before = analyze(study, question, shelf)
    longer = study | {"r39": record("r39", 3e7, last=6e7)}
    after = analyze(longer, question, shelf)
    assert after == analyze(longer, question) and after.joint != before.joint


def test_a_run_above_thousands_is_left_out_and_that_is_said(study):
    worse = [o.__class__(**{**vars(o), "value": o.value * 1.1}) for o in study["r20"].observations]
    study["r20"] = RunRecord(study["r20"].info, tuple(worse), "finished")
    report = analyze(study, Question("r20", "val_loss", "samples"))
    assert any("where the study's other runs predict" in doubt for doubt in report.doubts)
    assert "r20" not in report.joint.runs
