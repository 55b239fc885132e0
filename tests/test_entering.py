"""One rule of which points enter a law of several runs, for plans, reports and what a young run borrows."""

from dataclasses import replace

import numpy as np
import pytest

from foretrain.analysis import Question, analyze, joint_report
from foretrain.decisions import study_points
from foretrain.report import JointReport, Report
from foretrain.reporting.comparison import entering_kind
from foretrain.reporting.entering import CONSTANT, DECAYED
from foretrain.reporting.points import run_curve
from foretrain.schedule import Schedule
from foretrain.tensorboard.law_view import law_curves, law_view
from foretrain.tensorboard.rows import entry
from test_decisions_study import SIZES, run, study


def curves(runs):
    return [run_curve(record, "val_loss", "samples")[0] for record in runs.values()]


def mixed():
    """Ends of four sizes, and runs on the way of a decay whose points would say something else."""
    ends = [run(f"n{n:.0e}-{k}", n, k) for n in SIZES for k in (500, 2000, 8000)]
    on_the_way = [run(f"way{n:.0e}", n, 4000, state="running", last=2000) for n in SIZES]
    return study(*ends, *on_the_way)


def constant():
    return study(*(run(f"n{n:.0e}", n, decay=False, state="running", last=800) for n in SIZES))


@pytest.mark.parametrize("runs", [mixed(), constant()], ids=["decayed", "constant"])
def test_a_plan_and_a_report_rest_on_the_same_points(runs):
    points = study_points(runs, "val_loss")
    report = analyze(runs, Question(next(iter(runs)), metric="val_loss"))
    assert set(report.joint.runs) == set(points.runs)
    kind = entering_kind(curves(runs))
    entered = [(c.params, x, y) for c in curves(runs) for x, y in c.of_kind(kind).points]
    assert sorted(entered) == sorted(zip(points.n, points.d, points.y, strict=True))


def test_points_on_the_way_of_a_decay_do_not_move_the_law_of_all_sizes():
    runs = mixed()
    ends = {name: record for name, record in runs.items() if not name.startswith("way")}
    with_them, without = joint_report(curves(runs)), joint_report(curves(ends))
    assert with_them.projections == without.projections and with_them.runs == without.runs
    assert without.sentence.endswith("Of each run its end counts, with the learning rate decayed.")
    assert with_them.sentence == without.sentence + " 4 of 16 runs have no such points."


def test_three_sizes_on_their_way_tell_no_law_yet():
    runs = {name: record for name, record in mixed().items() if name.startswith("way")}
    report = joint_report(curves(runs))
    assert report.status == "too_few_sizes" and report.runs == ()
    assert "4 of 4 runs have no such points." in report.sentence


def spans(record):
    (curve,) = curves({"a": record})
    return curve.entering.spans


def test_the_spans_are_those_of_the_rates():
    total = 1000
    assert spans(run("a", steps=total)) == {DECAYED: (100.0 * total, 100.0 * total)}  # linear: one point
    held = run("a", steps=total, decay=False)
    assert spans(held) == {CONSTANT: (5e3, 1e5)}
    assert spans(run("a", steps=total, state="running", last=900)) == {}
    assert spans(run("a", steps=total, last=900)) == {}  # it stopped before its rate had come down


def test_the_last_points_of_a_cosine_are_as_good_as_its_end():
    record = run("a", steps=1000)
    share = np.arange(1, 1001) / 1000
    rates = 1e-3 * (0.1 + 0.45 * (1 + np.cos(np.pi * share)))
    (curve,) = curves({"a": _with_rates(record, rates)})
    first, last = curve.entering.spans[DECAYED]
    late = [x for x, _ in curve.points if rates[int(x) // 100 - 1] <= rates[-1] + 0.02 * 1e-3]
    assert (first, last) == (late[0], late[-1]) and len(late) > 1
    assert [x for x, _ in curve.of_kind(DECAYED).points] == [last]
    assert [x for x, _ in curve.of_kind(DECAYED, whole=True).points] == late
    unknown = run_curve(_with_rates(record, rates, known=False), "val_loss", "samples")[0]
    assert unknown.entering.spans == curve.entering.spans  # by the rates at the validations


def _with_rates(record, rates, *, known=True):
    seen = tuple(replace(o, lr=float(rates[o.counts.steps - 1])) for o in record.observations)
    return replace(record, observations=seen, schedule=Schedule.from_rates(rates) if known else None)


def test_a_report_carries_what_enters_and_the_tab_takes_it():
    runs = mixed()
    reports = {name: analyze(runs, Question(name, metric="val_loss")) for name in ("n1e+05-500", "way1e+06")}
    for report in reports.values():
        assert Report.from_json(report.to_json()) == report
    assert reports["way1e+06"].entering.spans == {} and "it is running" in reports["way1e+06"].entering.reason
    entries = [entry(name, report) for name, report in reports.items()]
    found = law_curves(entries, ())
    assert [c.entering for c in found] == [report.entering for report in reports.values()]
    joint = JointReport("ok", "", runs=("n1e+05-500",))
    view = law_view(entries, joint, metric="val_loss", axis="samples", exclude=())
    ((name, reason),) = view["left_out"]
    assert name == "way1e+06" and reason == reports[name].entering.reason
    old = Report.from_json(reports["way1e+06"].to_json().replace('"entering":', '"entering_not":'))
    assert old.entering is None
    (curve,) = law_curves([entry("way", old)], ())
    assert curve.of_kind(DECAYED) is curve  # older reports do not say, and all their points are taken
