"""Runs that go on from others under another name: what they share counts once, wherever runs are compared."""

import math
from dataclasses import asdict, replace

import numpy as np
import pytest

from foretrain.analysis import Question, RunCurve, analyze, joint_report
from foretrain.axes import Counts
from foretrain.cli import main
from foretrain.observation import Observation, RunInfo
from foretrain.report import Report
from foretrain.reporting.comparison import each_once, resumed_as
from foretrain.reporting.points import OTHERWISE, run_curve
from foretrain.reporting.soundness import off_curve
from foretrain.store import ObservationStore, StudyReader
from foretrain.tensorboard.law_view import law_curves, law_view
from foretrain.tensorboard.rows import entry
from foretrain.tensorboard.view import chosen

SIZES = {"large": 3e7, "medium": 1e7, "small": 3e6, "tiny": 1e6}
STEPS = tuple(int(step) for step in np.geomspace(1e4, 3e5, 20))
CONVENTIONS = {"params": "trainable", "samples": "first tensor"}


def loss(run, step, factor=1.0):
    """A loss that depends on the run and the step alone, whoever measures it."""
    size, noise = SIZES[run], np.random.default_rng([step, int(SIZES[run])]).normal(0, 0.002)
    return float((1.5 + 60 * size**-0.3 + 80 * (100 * step) ** -0.3) * factor * math.exp(noise))


def keep(root, run, steps, values, *, size, state="finished", continues=None, conventions=CONVENTIONS):
    store = ObservationStore(root)
    store.begin(RunInfo(run, continues=continues, conventions=dict(conventions)))
    for step, value in zip(steps, values, strict=True):
        counts = Counts(samples=100 * step, steps=step, params=int(size))
        assert store.append(Observation(run, "val_loss", value, counts, lr=1e-3))
    store.finish(state) if state else store.close()


def study(root, resumed=(), worse=None, **more):
    """A study of four sizes. The resumed runs are killed after 12 validations and go on from the tenth.

    `worse` names a run whose error is 15 % larger, and from which validation on.
    """
    bad, begin = worse or ("", 0)
    for run, size in SIZES.items():
        values = [
            loss(run, step, 1.15 if run == bad and number >= begin else 1.0)
            for number, step in enumerate(STEPS)
        ]
        if run not in resumed:
            keep(root, run, STEPS, values, size=size)
            continue
        keep(root, run, STEPS[:12], [*values[:10], 9.0, 9.0], size=size, state=None)
        begin = {"run": run, "step": STEPS[9] + 1}
        keep(root, f"{run}-again", STEPS[10:], values[10:], size=size, continues=begin, **more)
    return StudyReader(ObservationStore(root).study_dir).read().runs


def numbers(value):
    """Every number and text in a record, in order."""
    if isinstance(value, dict):
        return [item for name in sorted(value) for item in numbers(value[name])]
    if isinstance(value, list | tuple):
        return [item for part in value for item in numbers(part)]
    return [value]


def assert_same_law(joint, truth):
    """Up to what the order of the runs changes in a sum."""
    found, expected = (
        numbers(asdict(replace(item, runs=tuple(sorted(run.removesuffix("-again") for run in item.runs)))))
        for item in (joint, truth)
    )
    for one, other in zip(found, expected, strict=True):
        assert one == (pytest.approx(other, rel=1e-6) if isinstance(other, float) else other)


@pytest.mark.parametrize("asked", ["large-again", "large", "tiny"])
def test_a_resumed_run_enters_the_joint_law_as_the_uninterrupted_one_does(tmp_path, asked):
    whole = study(tmp_path / "whole")
    truth = analyze(whole, Question(asked.removesuffix("-again")))
    runs = study(tmp_path / "resumed", ["large"])
    found = analyze(runs, Question(asked))
    assert len(runs) == 5 and truth.joint.status == "ok"
    assert "large-again" in found.joint.runs and "large" not in found.joint.runs
    assert_same_law(found.joint, truth.joint)
    if asked == "large-again":
        assert found.points == truth.points and found.flags == truth.flags == ()
        assert found.past == {"large": 100.0 * STEPS[9]} and truth.past == {}
        assert (found.projections, found.curve) == (truth.projections, truth.curve)


@pytest.mark.parametrize("begin", [0, 10])
def test_a_run_off_the_curve_leaves_the_law_with_all_that_it_held(tmp_path, begin):
    """Bad from the start, and only since it was resumed: what came before does not come back alone."""
    worse = ("medium", begin)
    truth = analyze(study(tmp_path / "whole", worse=worse), Question("medium"))
    found = analyze(study(tmp_path / "resumed", ["medium"], worse=worse), Question("medium-again"))
    assert "other runs predict" in truth.doubts[-1] and found.doubts == truth.doubts
    assert found.flags == truth.flags
    assert not {"medium", "medium-again"} & set(found.joint.runs)
    assert_same_law(found.joint, truth.joint)


def test_a_run_is_no_measure_of_itself(tmp_path):
    """A branch of the same bad run does not make it a good one; another bad run of that size would."""
    runs = study(tmp_path, ["medium"], worse=("medium", 0))
    curves = {name: run_curve(run, "val_loss", "samples")[0] for name, run in runs.items()}
    own, others = curves["medium-again"], [curves[name] for name in SIZES if name != "medium"]
    branch = replace(own, run="branch")
    assert off_curve(own, [*others, branch]) == off_curve(own, others) is not None
    assert off_curve(own, [*others, replace(branch, past={})]) is None


def curve(run, xs, past=None, finished=False):
    """Points whose value tells who measured them first."""
    return RunCurve(run, 1e6, tuple((float(x), float(y)) for x, y in xs), past=past or {}, finished=finished)


def test_of_branches_every_measurement_counts_once():
    """Random trees of runs: what is left is every measurement of a line that came to something, once."""
    rng = np.random.default_rng(7)
    given_up = 0
    for _ in range(500):
        held, past, finished, lines = {}, {}, {}, {}
        for number in range(int(rng.integers(2, 8))):
            run, begin = f"r{number}", 0
            held[run], past[run], lines[run] = [], {}, [run]
            if number and rng.random() < 0.8:
                parent = f"r{rng.integers(number)}"
                begin = int(rng.integers(1, 12))
                held[run] = [point for point in held[parent] if point[0] <= begin]
                past[run] = {
                    name: max([x for x, _ in held[name] if x <= min(step, begin)], default=0)
                    for name, step in {**past[parent], parent: begin}.items()
                }
                lines[run] = [*lines[parent], run]
            held[run] += [(x, number + x / 100) for x in range(begin + 1, begin + int(rng.integers(2, 9)))]
            finished[run] = bool(rng.random() < 0.4)
        ends = {run: (held[run][-1][0], run) for run in held}
        left = {
            run: max([past[other][run] for other in held if run in past[other]], default=None) for run in held
        }
        last = {run for run in held if left[run] is None or (finished[run] and ends[run][0] > left[run])}
        passed = {
            run
            for run in last
            if not finished[run]
            and any(
                lines[other][0] == lines[run][0] and other not in lines[run] and ends[other] > ends[run]
                for other in last
            )
        }
        given_up += len(passed)
        curves = [curve(run, held[run], past[run], finished[run]) for run in held]
        rng.shuffle(curves)
        found = [point for kept in each_once(curves) for point in kept.points]
        assert sorted(found) == sorted({point for run in last - passed for point in held[run]})
        assert set(resumed_as(curves)) == set(held) - last | passed
    assert given_up > 100


def test_points_that_are_cut_take_their_phases_along():
    first = replace(curve("a", [(1, 2), (2, 1)], finished=True), phases=(1.0, 0.9))
    branch = replace(curve("b", [(1, 2), (3, 0.5)], {"a": 1.0}), phases=(1.0, 0.3))
    assert [(c.run, c.points, c.phases) for c in each_once([first, branch])] == [
        ("a", ((1.0, 2.0), (2.0, 1.0)), (1.0, 0.9)),
        ("b", ((3.0, 0.5),), (0.3,)),
    ]


def test_runs_that_name_each_other_are_kept():
    """Damaged headers could say so; neither can stand for the other."""
    circle = [curve("a", [(1, 2)], {"b": 1.0}), curve("b", [(1, 2)], {"a": 1.0})]
    assert resumed_as(circle) == {}
    assert off_curve(circle[0], circle) is None


def test_a_run_resumed_with_other_conventions_is_not_fitted_with_its_past(tmp_path):
    """Under the same name, and another: what was counted otherwise is kept and left out, with its reason."""
    other = {**CONVENTIONS, "samples": "batch_size_fn"}
    values = [loss("large", step) for step in STEPS]
    keep(tmp_path, "same", STEPS[:10], values[:10], size=3e7, state="failed")
    begin = {"run": "same", "step": STEPS[9]}
    keep(tmp_path, "same", STEPS[10:], values[10:], size=3e7, continues=begin, conventions=other)
    runs = study(tmp_path, ["large"], conventions=other)
    for run in ("same", "large-again"):
        assert len(runs[run].observations) == len(STEPS)
        report = analyze(runs, Question(run))
        assert report.excluded == {OTHERWISE: 10} and report.conventions == other
        assert report.points == tuple(
            (100.0 * step, value) for step, value in [*zip(STEPS, values, strict=True)][10:]
        )


def test_what_was_left_out_is_said(tmp_path):
    runs = study(tmp_path, ["large"], conventions={**CONVENTIONS, "samples": "batch_size_fn"})
    report = analyze(runs, Question("tiny"))
    # Counted otherwise it does not stand for its past, which is then the best there is.
    assert set(report.joint.runs) == set(SIZES)
    assert " 1 runs counted by other conventions were left out." in report.joint.sentence
    alone = analyze(runs, Question("large-again")).joint
    assert alone.status == "too_few_sizes"
    assert " 4 runs counted by other conventions were left out." in alone.sentence
    assert "left out" not in analyze(study(tmp_path / "b"), Question("tiny")).joint.sentence
    curves = [run_curve(run, "val_loss", "samples")[0] for run in runs.values()]
    assert " 1 runs counted" in joint_report(curves).sentence


def test_the_schedule_and_the_metric_may_change_at_a_resume(tmp_path):
    changed = {**CONVENTIONS, "schedule": "CosineAnnealingLR", "metric": "val_loss"}
    runs = study(tmp_path, ["large"], conventions=changed)
    assert runs["large-again"].counted_otherwise == frozenset()
    assert len(analyze(runs, Question("large-again")).points) == len(STEPS)


def test_pasts_are_told_across_several_resumes(tmp_path):
    def begun(run, step, *steps, of=None):
        continues = None if of is None else {"run": of, "step": step}
        keep(tmp_path, run, steps, [1.0] * len(steps), size=1, state=None, continues=continues)

    begun("a", 0, 10, 20, 30)
    begun("b", 20, 25, 40, of="a")
    begun("b", 30, 35, of="b")  # the same name again, with another checkpoint of its own
    begun("c", 35, 50, of="b")
    begun("d", 15, 50, of="c")  # from before all of them parted
    begun("e", 0, 10, of="c")  # from scratch
    runs = StudyReader(ObservationStore(tmp_path).study_dir).read().runs
    assert {run: record.past for run, record in runs.items()} == {
        "a": {},
        "b": {"a": 20},
        "c": {"b": 35, "a": 20},
        "d": {"c": 15, "b": 15, "a": 15},
        "e": {},
    }


# What is shown


def reports(root, **options):
    runs = study(root, ["large"], **options)
    return {run: analyze(runs, Question(run)) for run in runs}


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    return reports(tmp_path_factory.mktemp("told"))


@pytest.mark.parametrize("below", ["", "logs/", "-"])
def test_the_tab_takes_a_resumed_run_once(told, below):
    """Whether TensorBoard's log directory is that of the records, above it, or (without large's) below it."""
    kept = {run: replace(report, run=f"lightning_logs/{run}") for run, report in told.items()}
    kept = {
        run: replace(report, past={f"lightning_logs/{name}": x for name, x in report.past.items()})
        for run, report in kept.items()
    }
    prefix = "" if below == "-" else f"{below}lightning_logs/"
    entries, selection = chosen([entry(prefix + run, report) for run, report in kept.items()])
    curves = law_curves(entries, ())
    truth = {prefix + run for run in told} - {f"{prefix}large"}
    assert {found.run for found in curves} == truth
    joint = joint_report(curves)
    assert set(joint.runs) == truth
    view = law_view(entries, joint, metric="val_loss", axis=selection["axis"], exclude=())
    assert view["left_out"] == [[f"{prefix}large", f"resumed as {prefix}large-again"]]
    # A reader who leaves the second part out does not get the first one back.
    assert {found.run for found in law_curves(entries, {f"{prefix}large-again"})} == truth - {
        f"{prefix}large-again"
    }


def test_the_tab_takes_a_run_logged_in_two_directories_once(told):
    """With a fixed `run` the records go on under one name, while the logger begins a new version."""
    both = [
        entry("version_0", replace(told["large"], run="mine")),
        entry("version_1", replace(told["large-again"], run="mine", past={})),
        entry("elsewhere", replace(told["tiny"], run="mine")),  # another run of that name, in another root
    ]
    for order in (both, both[::-1]):
        assert {found.run for found in law_curves(order, ())} == {"version_1", "elsewhere"}


def test_a_hostile_past_is_passed_over():
    report = Report("a", "val_loss", "samples", 1, params=1e6, points=((1.0, 1.0),))
    for past in ({"b": math.nan}, {"b": -1.0}, {"b": "x"}, {"a": 5.0}):
        entries = [entry("a", replace(report, past=past)), entry("b", replace(report, run="b"))]
        assert "a" in {found.run for found in law_curves(entries, ())}


def test_a_past_is_in_a_report_and_older_reports_have_none(told):
    report = told["large-again"]
    assert Report.from_json(report.to_json()).past == report.past != {}
    assert Report.from_json(report.to_json().replace('"past"', '"unknown"')).past == {}


def test_the_table_names_what_a_run_goes_on_in(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    study(tmp_path / "foretrain", ["large"])
    assert main(["report", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (
        [line for line in lines if "resumed as" in line]
        == [line for line in lines if line.startswith("│ large ") and "resumed as large-again" in line]
        != []
    )
