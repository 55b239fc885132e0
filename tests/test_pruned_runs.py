"""Runs that are pruned: recorded as they are, compared with none, and not flagged for what pruning costs."""

import importlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from foretrain import analysis
from foretrain.analysis import PRUNED_DOUBT, Question, analyze
from foretrain.axes import Counts
from foretrain.cli import main
from foretrain.decisions.study import study_points
from foretrain.flags import FlagKind
from foretrain.laws import LAWS
from foretrain.lightning import ScalingLawMonitor
from foretrain.reporting import comparison, survey
from foretrain.reporting.comparison import joint_report
from foretrain.reporting.overview import above_others
from foretrain.reporting.points import run_curve
from foretrain.reporting.survey import Survey
from foretrain.run_flags import FlagBook, earlier_runs, validations
from foretrain.store import ObservationStore
from foretrain.tensorboard.law_view import law_curves, law_view
from foretrain.tensorboard.rows import entry
from lightning_models import FLAVOURS, loader, make_module, make_trainer, only_run
from test_analysis import SIZES, record
from test_run_flags import HOUR, cut, made


def masked(run, density, since=0):
    """The same run, pruned to a density from a step on."""
    told = [
        replace(o, counts=replace(o.counts, density=density)) if o.counts.steps >= since else o
        for o in run.observations
    ]
    return replace(run, observations=tuple(told))


@pytest.fixture
def family():
    return {f"n{n:.0e}": record(f"n{n:.0e}", n) for n in SIZES}


def with_pruned(family):
    """The family, and a run of each size that was pruned to half its weights and is the worse for it."""
    names = [f"half {name}" for name in family]
    halves = {name: masked(record(name, n, factor=1.5), 0.5) for name, n in zip(names, SIZES, strict=True)}
    return {**family, **halves}


def test_masks_of_ones_prune_nothing():
    assert (
        not Counts(1, 1).pruned and not Counts(1, 1, density=1.0).pruned and Counts(1, 1, density=0.99).pruned
    )


def test_laws_of_several_runs_are_the_same_with_and_without_pruned_ones(family):
    whole, both = (analyze(study, Question("n1e+07")) for study in (family, with_pruned(family)))
    assert both == whole and whole.joint.status == "ok"
    points, more = (study_points(study, "val_loss") for study in (family, with_pruned(family)))
    assert more.y.tolist() == points.y.tolist()
    reasons = {one.run: one.reason for one in more.left_out}
    assert set(reasons) == {f"half {name}" for name in family}
    assert set(reasons.values()) == {"it was pruned: its size is no longer that of its layers"}
    # With masks of ones it is another matter.
    ones = {name: masked(run, 1.0) for name, run in family.items()}
    assert analyze(ones, Question("n1e+07")).joint == whole.joint


def test_a_pruned_run_is_compared_with_none_and_that_is_said(family):
    study = with_pruned(family)
    report = analyze(study, Question("half n1e+07"))
    assert PRUNED_DOUBT in report.doubts and not any("other runs predict" in doubt for doubt in report.doubts)
    assert report.joint.runs == ()
    assert report.history.density == 0.5
    curves = [run_curve(run, "val_loss", "samples")[0] for run in study.values()]
    assert set(joint_report(curves).runs) == set(family)
    assert not above_others(curves)


@pytest.mark.parametrize("most", [250, 3])
def test_a_pruned_run_is_told_of_as_if_it_were_alone(monkeypatch, most):
    for module in (analysis, comparison, survey):
        monkeypatch.setattr(module, "MAX_CURVES", most)
    earlier = {f"run{k}": made(f"run{k}", start=2 * HOUR * k, seed=k) for k in range(5)}
    now = cut(made("now", start=20 * HOUR, seed=9), 40)  # its rate falls: earlier runs tell what that does
    half, whole = masked(now, 0.5), masked(now, 1.0)
    assert analyze({**earlier, "now": half}, Question("now")) == analyze({"now": half}, Question("now"))
    told, alone = (analyze(runs, Question("now")) for runs in ({**earlier, "now": whole}, {"now": whole}))
    assert told.projections != alone.projections


def test_of_thousands_of_runs_no_pruned_one_is_chosen(family):
    def curve(run):
        return run_curve(run, "val_loss", "samples")[0]

    study = with_pruned(family)
    assert set(Survey(study, "val_loss", curve).choose("n1e+07", 1e7).runs) == set(family)


def test_in_the_tab_the_law_across_the_runs_is_that_of_the_others_and_that_is_said(family):
    study = with_pruned(family)
    reports = {name: analyze(study, Question(name)) for name in study}
    entries = [entry(name, report) for name, report in reports.items()]
    assert [item.run for item in entries if item.pruned] == [f"half {name}" for name in family]
    ones = analyze({"ones": masked(record("ones", 1e6), 1.0)}, Question("ones"))
    assert not entry("ones", ones).pruned and not entry("bare", replace(ones, history=None)).pruned
    joint = joint_report(law_curves(entries, ()))
    assert set(joint.runs) == set(family)
    view = law_view(entries, joint, metric="val_loss", axis="samples", exclude=())
    why = "it was pruned: its size is no longer that of its layers"
    assert view["left_out"] == [[f"half {name}", why] for name in family]


def test_a_report_tells_how_much_of_a_model_is_left(family, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    for run in (family["n1e+06"], masked(record("half", 1e6), 0.25)):
        store = ObservationStore(tmp_path / "foretrain")
        store.begin(run.info)
        assert all([store.append(observation) for observation in run.observations])
        store.finish("finished")
        store.close()
    assert main(["report", str(tmp_path)]) == 0
    half, whole = (line for line in capsys.readouterr().out.splitlines() if "1,000,000" in line)
    assert "1,000,000, pruned to 25.00%" in half and "pruned" not in whole


def test_what_pruning_costs_is_no_divergence():
    rising = made("rising", bad=1.5, since=1200)
    assert FlagKind.DIVERGENCE in {
        flag.kind for flag in FlagBook().flags({"rising": rising}, "rising", "val_loss")
    }
    pruned = masked(rising, 0.5, since=1200)
    assert FlagBook().flags({"rising": pruned}, "rising", "val_loss") == ()
    assert max(step for step, _ in validations(pruned, "val_loss")) < 1200
    # From the first validation on, pruned or not, a rise is a rise; and what is no number stays.
    assert FlagBook().flags({"rising": masked(rising, 0.5)}, "rising", "val_loss")
    broken = masked(made("broken", bad=np.nan, since=1200), 0.5, since=1200)
    assert FlagBook().flags({"broken": broken}, "broken", "val_loss")


def test_runs_of_another_density_are_no_measure_of_one():
    earlier = made("earlier", start=0.0)
    now = made("now", start=3 * HOUR, seed=1)

    def found(one, other):
        return [run.info.run for run in earlier_runs({"earlier": one, "now": other}, other, "val_loss")]

    assert found(earlier, now) == found(masked(earlier, 1.0), now) == ["earlier"]
    assert found(masked(earlier, 0.5), masked(now, 0.5)) == ["earlier"]
    assert found(masked(earlier, 0.5), now) == found(earlier, masked(now, 0.5)) == []


@pytest.fixture(params=FLAVOURS)
def pl(request):
    return importlib.import_module(request.param)


def test_under_the_hosts_own_callback_density_is_an_axis_along_which_a_law_is_fitted(pl, tmp_path, capsys):
    """Lightning's ModelPruning masks a share of what is left as each epoch ends, after its validation."""
    kept = [1024]
    while len(kept) < 10:
        kept.append(kept[-1] // 2)
    density = np.array([(weights + 1) / 1025 for weights in kept])  # the bias is not pruned
    truth = {"e_np": 0.05, "rise": 12.0, "gamma": 0.8, "p": 0.004}
    errors = LAWS["pruning"].value(density[None], np.array(list(truth.values())))
    module = make_module(pl, width=1024, values=errors.tolist())
    pruning = pl.callbacks.ModelPruning(
        "l1_unstructured", [(module.net[1], "weight")], amount=0.5, make_pruning_permanent=False
    )
    x = torch.randn(4, 1024, generator=torch.Generator().manual_seed(0))
    data = loader(torch.utils.data.TensorDataset(x, x[:, :1]))
    monitor = ScalingLawMonitor(fit=False)
    make_trainer(pl, tmp_path, [pruning, monitor], max_epochs=10).fit(module, data, data)
    told = [o.counts.density for o in only_run(tmp_path).observations]
    assert told == [None, *density[1:].tolist()]
    assert main(["fit", str(tmp_path), "--axis", "density", "--law", "pruning", "--json"]) == 0
    (found,) = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert found["points"] == 9 and found["status"] == "ok"
    for name, value in truth.items():
        assert found["parameters"][name] == pytest.approx(value, rel=1e-3), name
