"""The pure pipeline: from a study's records to a report."""

import dataclasses
import json
import math

import numpy as np
import pytest

from foretrain.analysis import Question, RunCurve, analyze, joint_report
from foretrain.axes import Counts
from foretrain.flags import FlagKind
from foretrain.observation import Observation, RunInfo, RunRecord
from foretrain.report import CurveRegions, Report, ReportError
from foretrain.reporting import outlook
from foretrain.reporting.comparison import comparable
from foretrain.reporting.points import run_curve, thin
from foretrain.reporting.soundness import off_curve, sound_runs
from foretrain.status import FitStatus

SIZES = (1e6, 3e6, 1e7, 3e7)
DATA = np.geomspace(1e6, 3e7, 20)


def loss(n, d):
    return 1.5 + 60 * n**-0.3 + 80 * d**-0.3


def record(run, n, *, data=DATA, factor=1.0, noise=0.002, seed=0, lr=1e-3, **info):
    rng = np.random.default_rng([seed, int(n)])
    observations = tuple(
        Observation(
            run,
            "val_loss",
            float(loss(n, d) * factor * math.exp(rng.normal(0, noise))),
            Counts(samples=int(d), steps=max(int(d / 100), 1), params=int(n)),
            lr=lr,
        )
        for d in data
    )
    return RunRecord(RunInfo(run, **info), observations)


@pytest.fixture
def study():
    return {f"n{n:.0e}": record(f"n{n:.0e}", n) for n in SIZES}


def test_a_healthy_run_of_a_family(study):
    planned = Counts(samples=int(1e8), steps=10**6)
    study["n1e+07"] = record("n1e+07", 1e7, planned=planned)
    report = analyze(study, Question("n1e+07", targets=(5e8,), target_params=(1e8,)))
    assert report.flags == ()
    assert report.params == 1e7
    assert report.planned == 1e8
    named = {p.name: p for p in report.projections}
    assert list(named) == ["2x", "10x", "100x", "planned end", "5e+08"]
    for name, data in (("2x", 6e7), ("10x", 3e8), ("planned end", 1e8), ("5e+08", 5e8)):
        assert named[name].data == pytest.approx(data, rel=1e-6)
        assert named[name].lower["0.9"] < loss(1e7, data) < named[name].upper["0.9"]
    assert named["2x"].doubts == () and "100 times beyond" in named["100x"].doubts[0]
    assert report.curve.x[-1] == pytest.approx(3e10, rel=1e-3)
    assert report.joint.status == "ok" and len(report.joint.runs) == 4
    larger = {p.name: p for p in report.joint.projections}
    assert list(larger) == ["2x size", "10x size", "1e+08 parameters"]
    truth = loss(1e8, 3e7)
    assert larger["1e+08 parameters"].lower["0.9"] < truth < larger["1e+08 parameters"].upper["0.9"]
    assert sum(fit.weight for fit in report.fits) == pytest.approx(1.0)
    assert Report.from_json(report.to_json()).to_json() == report.to_json()


def test_a_run_off_the_curve_of_the_others_is_left_out_and_that_is_said(study):
    study["bad"] = record("bad", 1e7, factor=1.15)
    report = analyze(study, Question("bad"))
    curves = {name: run_curve(r, "val_loss", "samples")[0] for name, r in study.items()}
    off = off_curve(curves.pop("bad"), list(curves.values()))
    (doubt,) = [doubt for doubt in report.doubts if "other runs predict" in doubt]
    assert off["value"] > off["upper"] > off["predicted"]
    told = (f"{off[name]:.4g}" for name in ("value", "predicted", "upper"))
    assert [number in doubt for number in told] == [True] * 3 and "left out of laws" in doubt
    assert "bad" not in report.joint.runs and len(report.joint.runs) == 4
    for healthy in SIZES:
        other = analyze(study, Question(f"n{healthy:.0e}"))
        assert other.flags == () and "bad" not in other.joint.runs


def test_healthy_families_raise_no_flag():
    for seed in range(20):
        runs = {f"n{n:.0e}": record(f"n{n:.0e}", n, seed=seed, noise=0.005) for n in SIZES}
        for name in runs:
            assert analyze(runs, Question(name)).flags == (), (seed, name)


def test_a_run_smaller_than_all_others_is_not_judged(study):
    curves = [run_curve(r, "val_loss", "samples")[0] for r in study.values()]
    smallest = min(curves, key=lambda c: c.params)
    assert off_curve(smallest, [c for c in curves if c is not smallest]) is None
    assert sound_runs(curves) == curves


def test_what_cannot_be_fitted_is_counted_with_its_reason():
    points = list(record("r", 1e7).observations)
    odd = [
        Observation("r", "val_loss", value, Counts(samples=s, steps=k, params=10))
        for value, s, k in ((math.nan, 10, 1), (math.inf, 20, 2), (-1.0, 30, 3), (0.0, 40, 4), (3.0, 0, 0))
    ]
    other = Observation("r", "val_acc", 0.5, Counts(samples=50, steps=5))
    run = RunRecord(RunInfo("r"), (*odd, other, *points))
    report = analyze({"r": run}, Question("r"))
    assert report.excluded == {"not finite": 2, "not positive": 2, "before the first update": 1}
    assert len(report.points) == len(points)
    assert [flag.kind for flag in report.flags] == [FlagKind.NOT_FINITE]
    assert "was nan at step 1" in report.flags[0].message


def test_an_axis_that_was_not_counted_is_said():
    report = analyze({"r": record("r", 1e7)}, Question("r", axis="tokens"))
    assert report.status == "too_few_points" and report.points == ()
    assert report.excluded == {"tokens not counted": len(DATA)}


def test_one_size_says_nothing_of_larger_models():
    report = analyze({"r": record("r", 1e7)}, Question("r"))
    assert report.joint.status == "too_few_sizes" and report.joint.by_size is None
    assert any("One model size only" in doubt for doubt in report.doubts)


def test_a_fallen_learning_rate_and_repeated_data_are_doubts():
    run = record("r", 1e7)
    fallen = [
        Observation(
            o.run,
            o.metric,
            o.value,
            Counts(o.counts.samples, o.counts.steps, unique_samples=min(o.counts.samples, 3_000_000)),
            lr=lr,
        )
        for o, lr in zip(run.observations, np.geomspace(1, 0.1, len(run.observations)), strict=True)
    ]
    report = analyze({"r": RunRecord(run.info, tuple(fallen))}, Question("r"))
    assert any("learning rate has fallen" in doubt for doubt in report.doubts)
    assert FitStatus.REPEATED_DATA.sentence in report.doubts


def test_runs_counted_otherwise_are_never_mixed(study):
    study["odd"] = record("odd", 1e8, conventions={"params": "non-embedding"})
    assert "odd" not in analyze(study, Question("n1e+07")).joint.runs
    assert analyze(study, Question("odd")).joint.status == "too_few_sizes"
    curves = [run_curve(r, "val_loss", "samples")[0] for r in study.values()]
    report = joint_report(curves)
    assert "odd" not in report.runs and "1 runs counted by other conventions" in report.sentence
    metric = RunCurve("a", 1.0, ((1.0, 1.0),), {"metric": "x", "schedule": "y"})
    assert comparable(metric, [RunCurve("b", 2.0, ((1.0, 1.0),), {})]) != []


def test_size_is_projected_at_data_that_every_size_has_reached(study):
    study["n3e+07"] = record("n3e+07", 3e7, data=DATA[:15])
    curves = [run_curve(r, "val_loss", "samples")[0] for r in study.values()]
    report = joint_report(curves)
    assert report.at_data == pytest.approx(DATA[14], rel=1e-6)
    inside = np.array(report.by_size.x) <= 3e7
    truth = np.array([loss(n, DATA[14]) for n in report.by_size.x])
    covered = (np.array(report.by_size.lower["0.9"]) <= truth) & (
        truth <= np.array(report.by_size.upper["0.9"])
    )
    assert covered[inside].all()
    assert joint_report(curves, at_data=1e9).at_data == 1e9


def test_questions_come_from_json_and_know_their_axes():
    question = Question.from_json({"run": "r", "targets": [1e9], "from_a_later_version": 1})
    assert question == Question("r", targets=(1e9,))
    with pytest.raises(ValueError, match=r"`axis` to be one of samples, tokens.*got 'sampels'"):
        Question("r", axis="sampels")
    with pytest.raises(KeyError):
        analyze({}, Question("r"))


def test_thinning_keeps_the_ends_and_spreads_along_the_logarithm():
    x = np.arange(1.0, 10_001.0)
    kept = thin(x, 100)
    assert len(kept) <= 100 and kept[0] == 1.0 and kept[-1] == 10_000.0
    assert sorted(set(kept)) == kept
    assert thin(x[:50], 100) == list(x[:50])


X = np.geomspace(1e4, 1e10, 80)


def in_three_parts(x):
    """5 at the left end, an irreducible error of 0.5 at the right one, `4.5 (x / 1e6)^-0.5` between them."""
    return 0.5 + (4.5**-8 + (4.5 * (x / 1e6) ** -0.5) ** -8) ** (-1 / 8)


def curve(y, x=X, noise=0.003, seed=7):
    rng = np.random.default_rng(seed)
    errors = y * np.exp(rng.normal(0, noise, len(x)))
    points = zip(x, errors, strict=True)
    return RunRecord(
        RunInfo("r"),
        tuple(Observation("r", "val_loss", float(v), Counts(int(at), int(at))) for at, v in points),
    )


def test_the_three_regions_of_a_curve_begin_where_they_do():
    report = analyze({"r": curve(in_three_parts(X))}, Question("r"))
    fine = np.geomspace(X[0], X[-1], 10_000)
    slope = np.gradient(np.log(in_three_parts(fine)), np.log(fine))
    bends = fine[np.argmax(slope < 0.25 * slope.min())]
    flattens = 1e6 * (4.5 / 0.25) ** 2  # where the law comes to half of the irreducible error
    assert report.regions.now == "irreducible"
    # Slopes are smoothed over 0.08 of the six decades to either side: a factor of 3.
    assert bends / 3 < report.regions.power_law_from < 3 * bends
    assert flattens / 1.5 < report.regions.irreducible_from < 1.5 * flattens


@pytest.mark.parametrize(("upto", "now"), [(5e7, "power_law"), (1e10, "irreducible")])
def test_the_region_now_is_that_of_the_newest_point(upto, now):
    x = X[upto >= X]
    assert analyze({"r": curve(in_three_parts(x), x)}, Question("r")).regions.now == now


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.2, 0.4])
@pytest.mark.parametrize("seed", range(10))
def test_a_pure_power_law_has_no_irreducible_region(alpha, seed):
    rng = np.random.default_rng(seed)
    x = np.geomspace(1e4, 1e4 * 10 ** rng.uniform(1, 3), int(rng.integers(10, 100)))
    record = curve(3 * (x / 1e4) ** -alpha, x, noise=rng.choice([0.003, 0.01, 0.03]), seed=seed)
    report = analyze({"r": record}, Question("r"))
    assert report.regions is None or report.regions.now == "power_law"
    assert report.regions is None or report.regions.irreducible_from is None


def test_an_irreducible_error_that_is_not_identified_begins_no_region(monkeypatch):
    seen = []

    def model(x, y, real=outlook.model_curve):
        seen.append(dataclasses.replace(real(x, y), reasons=(FitStatus.FLOOR_NOT_IDENTIFIED,)))
        return seen[0]

    assert analyze({"r": curve(in_three_parts(X))}, Question("r")).regions.irreducible_from is not None
    monkeypatch.setattr(outlook, "model_curve", model)
    assert analyze({"r": curve(in_three_parts(X))}, Question("r")).regions.irreducible_from is None
    assert seen


@pytest.mark.parametrize(
    "y",
    [
        np.geomspace(1, 2, 80),
        3 * (X / 1e4) ** -0.1 * (1 + 0.6 * np.exp(-(np.log(X / 3e8) ** 2))),
    ],
    ids=["rises", "double descent"],
)
def test_a_curve_that_does_not_fall_has_no_regions(y):
    assert analyze({"r": curve(y)}, Question("r")).regions is None


def test_few_points_have_no_regions():
    assert analyze({"r": curve(in_three_parts(X)[::10][:7], X[::10][:7])}, Question("r")).regions is None
    assert analyze({"r": curve(in_three_parts(X)[::10], X[::10])}, Question("r")).regions is not None


def test_regions_are_kept_in_a_report_and_older_reports_have_none():
    for regions in (None, CurveRegions("small_data"), CurveRegions("irreducible", 10.0, 1e5)):
        report = Report("r", "m", "samples", 1, regions=regions)
        assert Report.from_json(report.to_json()) == report
    record = json.loads(report.to_json())
    record["regions"]["of_a_later_version"] = 1
    assert Report.from_json(json.dumps(record)) == report
    del record["regions"]
    assert Report.from_json(json.dumps(record)).regions is None
    for broken in ([1], {"irreducible_from": 2.0}):
        with pytest.raises(ReportError, match="Expected a report, got something else"):
            Report.from_json(json.dumps({**record, "regions": broken}))


def test_doubts_are_the_sentences_of_the_curves_reasons_each_once():
    x = np.geomspace(1e4, 1.8e4, 5)
    report = analyze({"r": curve(3 * (x / 1e4) ** -0.2, x, noise=0.001)}, Question("r"))
    reasons = (FitStatus.TOO_FEW_POINTS, FitStatus.SHORT_RANGE, FitStatus.UNCALIBRATED)
    assert report.status == reasons[0].value and report.sentence == reasons[0].sentence
    for reason in reasons:
        assert report.doubts.count(reason.sentence) == 1
    assert len(set(report.doubts)) == len(report.doubts)


def test_a_run_in_mid_decay_is_not_compared_with_runs_at_a_constant_rate():
    data = np.geomspace(1e4, 1e6, 12)
    level = {size: 2.0 + 40 * size**-0.3 for size in (1e4, 3e4, 1e5, 3e5)}

    def curve(run, size, factor, phases):
        points = tuple((float(x), float(factor * (level[size] + 20 * x**-0.3))) for x in data)
        return RunCurve(run, size, points, phases=tuple(phases))

    steady = [curve(f"steady {size:g}", size, 1.0, np.ones(12)) for size in level]
    above = curve("above", 1e5, 1.1, np.ones(12))
    assert off_curve(above, steady) is not None
    falling = curve("above", 1e5, 1.1, np.linspace(1.0, 0.3, 12))
    assert off_curve(falling, steady) is None
    also_falling = [curve(c.run, c.params, 1.0, np.linspace(1.0, 0.3, 12)) for c in steady]
    assert len(falling.in_phase(0.3).points) == 3
    assert off_curve(falling, also_falling) is not None


def test_a_study_of_thousands_is_read_from_some_of_its_runs():
    rng = np.random.default_rng(0)
    sizes = 1e7 * 2 ** rng.uniform(0, 6, 2000)
    curves = []
    for i, n in enumerate(sizes):
        d = 20 * n * np.arange(1, 11) / 10
        y = 1.8 + 480 * n**-0.35 + 2100 * d**-0.37
        curves.append(RunCurve(f"r{i}", n, tuple(zip(d.tolist(), y.tolist(), strict=True))))
    report = joint_report(curves)
    assert len(report.runs) == 2000
    told = {p.name: p for p in report.projections}["2x size"]
    truth = 1.8 + 480 * (2 * sizes.max()) ** -0.35 + 2100 * report.at_data**-0.37
    assert told.lower["0.9"] < truth < told.upper["0.9"]
