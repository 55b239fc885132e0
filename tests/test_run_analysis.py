"""One run's report: through its schedule, beyond its plan, with repeated data, and against what came."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from foretrain import forecast, forecast_run
from foretrain.analysis import Question, Shelf, analyze
from foretrain.axes import Counts
from foretrain.observation import Observation, RunInfo, RunRecord
from foretrain.report import NamedProjection, Report
from foretrain.reporting.findings import (
    BestValue,
    PastForecast,
    Repeats,
    ScheduleNote,
)
from foretrain.reporting.sentences import record_line, record_under_way
from foretrain.runs.annealing import RatePath
from foretrain.runs.curve import RunCurve
from foretrain.runs.model import model_run
from foretrain.schedule import Schedule
from foretrain.status import FitStatus

TOTAL, BATCH, WARM = 2000, 16, 100


def cosine(total, warm=WARM, floor=0.05):
    s = np.arange(1, total + 1)
    down = floor + (1 - floor) / 2 * (1 + np.cos(np.pi * np.maximum(s - warm, 0) / (total - warm)))
    return 1e-3 * np.minimum(1.0, s / warm) * down


def constant(total, warm=WARM):
    return 1e-3 * np.minimum(1.0, np.arange(1, total + 1) / warm)


def loss(steps, lr, *, level=2.0, gain=0.15):
    """A law of the training done with a linear term of annealing, the level being that of one size."""
    u = lr / lr.max()
    at = np.asarray(steps) - 1
    return level + 12.0 * np.cumsum(u)[at] ** -0.45 - gain * (1 - u[at]) * (np.asarray(steps) > WARM)


def record(run="r", *, last=TOTAL, lr=None, state=None, seed=0, every=50, noise=0.001, level=2.0, **changes):
    lr = cosine(TOTAL) if lr is None else lr
    rng = np.random.default_rng(seed)
    steps = np.arange(every, last + 1, every)
    values = loss(steps, lr, level=level) * np.exp(rng.normal(0, noise, steps.size))
    unique = changes.pop("unique", None)

    def counts(step):
        seen = BATCH * step
        return Counts(seen, step, params=1000, unique_samples=None if unique is None else min(seen, unique))

    observations = tuple(
        Observation(run, "val_loss", float(v), counts(int(s)), lr=float(lr[s - 1]))
        for s, v in zip(steps, values, strict=True)
    )
    info = RunInfo(run, planned=counts(lr.size), **changes.pop("info", {}))
    state = state or ("finished" if last == lr.size else "running")
    known = {"schedule": Schedule.from_rates(lr), "schedule_used_until": last, "schedule_unknown": None}
    return RunRecord(info, observations, state, **(known | changes))


def told(report):
    return {p.name: p for p in report.projections}


def arrays(run):
    steps = np.array([o.counts.steps for o in run.observations])
    return {"step": steps, "y": np.array([o.value for o in run.observations]), "lr": run.schedule.rates()}


# Through the schedule


@pytest.mark.parametrize("library", [0, 3])
def test_the_planned_end_is_what_forecast_run_says(library):
    own = record(last=1000)
    others = {f"e{i}": record(f"e{i}", seed=i + 1, level=1.95 + 0.05 * i) for i in range(library)}
    report = analyze({"r": own, **others}, Question("r"))
    end = told(report)["planned end"]
    known = [arrays(run) for run in sorted(others.values(), key=lambda run: run.info.run)]
    result = forecast_run(**arrays(own), at=[TOTAL], library=known)
    assert end.kind == "as planned" and end.data == BATCH * TOTAL
    assert end.median == pytest.approx(result.median[0], rel=1e-9)
    for level in (0.5, 0.8, 0.9):
        assert end.lower[f"{level:g}"] == pytest.approx(result.lower[level][0], rel=1e-9)
        assert end.upper[f"{level:g}"] == pytest.approx(result.upper[level][0], rel=1e-9)
    assert report.reasons == tuple(reason.value for reason in result.reasons)
    assert report.schedule == ScheduleNote("followed", end=TOTAL, earlier=tuple(sorted(others)))
    assert report.planned == BATCH * TOTAL


def test_with_earlier_runs_both_projections_hold_the_truth():
    """The end of the plan, and another run whose whole schedule is as long as is asked about."""
    runs = {f"e{i}": record(f"e{i}", seed=i + 1) for i in range(3)}
    runs["r"] = record(last=1000, seed=9)
    report = analyze(runs, Question("r", targets=(3.0 * BATCH * TOTAL,)))
    cases = {"planned end": TOTAL, "10x": 10_000, "96000": 3 * TOTAL}
    for name, total in cases.items():
        truth = float(loss(np.array([total]), cosine(total))[0])
        p = told(report)[name]
        assert p.data == pytest.approx(BATCH * total)
        assert p.kind == ("as planned" if name == "planned end" else "annealed")
        assert p.lower["0.9"] < truth < p.upper["0.9"]
        if name == "planned end":
            assert p.median == pytest.approx(truth, rel=0.005)
        else:  # the same law, asked along every step of the longer schedule
            curves = [RunCurve.of(**arrays(runs[run])) for run in ("r", *report.schedule.earlier)]
            model = model_run(curves[0], curves[1:])
            mean, _ = model.log_moments(np.array([total]), path=RatePath.of(cosine(total)))
            assert p.median == pytest.approx(math.exp(mean[0]), rel=1e-4)
    # The band of the run itself is not the annealed one: half way the rate is high.
    assert told(report)["2x"].kind == "as planned"
    assert told(report)["2x"].median == told(report)["planned end"].median


def test_a_point_within_the_plan_is_this_run_there_and_not_a_shorter_run():
    runs = {f"e{i}": record(f"e{i}", seed=i + 1) for i in range(3)}
    runs["r"] = record(last=500, seed=9)
    there = told(analyze(runs, Question("r")))["2x"]
    truth, shorter = loss(np.array([1000]), cosine(TOTAL))[0], loss(np.array([1000]), cosine(1000))[0]
    assert there.kind == "as planned"
    assert abs(there.median / truth - 1) < 0.01 < abs(there.median / shorter - 1)


def test_the_curve_ends_with_the_plan_and_follows_the_schedule():
    runs = {f"e{i}": record(f"e{i}", seed=i + 1) for i in range(3)}
    runs["r"] = record(last=1000, seed=9)
    report = analyze(runs, Question("r"))
    x = np.array(report.curve.x)
    assert x[-1] == BATCH * TOTAL and (np.diff(x) > 0).all() and x[0] >= BATCH * WARM
    truth = loss(np.round(x / BATCH).astype(int), cosine(TOTAL))
    low, high = np.array(report.curve.lower["0.9"]), np.array(report.curve.upper["0.9"])
    assert ((low < truth) & (truth < high)).all()
    assert report.curve.median[-1] == pytest.approx(told(report)["planned end"].median, rel=1e-5)
    ahead = x > BATCH * 1000
    assert ahead.sum() > 30


def test_a_late_drop_of_the_rate_is_drawn_where_it_comes():
    lr = constant(TOTAL)
    lr[1600:] *= 0.1
    report = analyze({"r": record(last=1000, lr=lr)}, Question("r"))
    x = np.array(report.curve.x)
    assert {BATCH * 1600, BATCH * 1601} <= set(x)
    y = dict(zip(x, report.curve.median, strict=True))
    just = [value for at, value in y.items() if at <= BATCH * 1600][-2:]
    assert y[x[-1]] < just[-1] - 3 * abs(just[1] - just[0])


@pytest.mark.parametrize("seed", range(3))
def test_a_report_is_the_same_again_and_with_a_shelf(seed):
    runs = {f"e{i}": record(f"e{i}", seed=10 * seed + i + 1) for i in range(3)}
    runs["r"] = record(last=1000, seed=seed)
    shelf = Shelf()
    first = analyze(runs, Question("r")).to_json()
    assert analyze(runs, Question("r"), shelf).to_json() == first
    assert analyze(runs, Question("r"), shelf).to_json() == first
    assert Report.from_json(first).to_json() == first


def test_few_points_and_one_point_are_reported():
    for last, every in ((100, 50), (150, 50), (50, 50)):
        report = analyze({"r": record(last=last, every=every)}, Question("r"))
        assert report.status == "too_few_points"
        assert all(math.isfinite(p.median) for p in report.projections)


def test_a_run_that_rises_is_flat_in_its_projection():
    own = record(last=1000)
    rising = tuple(replace(o, value=2.0 + o.counts.steps / 1000) for o in own.observations)
    report = analyze({"r": replace(own, observations=rising)}, Question("r"))
    assert report.status == "not_decreasing" and report.regions is None
    result = forecast_run(**arrays(replace(own, observations=rising)), at=[TOTAL])
    assert told(report)["planned end"].median == pytest.approx(result.median[0], rel=1e-9)


# No schedule to follow


def test_a_constant_rate_is_projected_in_data_and_says_so():
    own = record(last=1000, lr=constant(TOTAL))
    report = analyze({"r": own}, Question("r"))
    x = [BATCH * o.counts.steps for o in own.observations]
    y = [o.value for o in own.observations]
    at = [2 * x[-1], 10 * x[-1], 100 * x[-1], BATCH * TOTAL]
    result = forecast(x, y, at)
    assert [p.median for p in report.projections] == pytest.approx(result.median)
    assert {p.kind for p in report.projections} == {"not annealed"}
    assert all(FitStatus.NOT_ANNEALED.value in p.reasons for p in report.projections)
    assert FitStatus.NOT_ANNEALED.sentence in report.doubts
    assert report.status == result.status, "the fit's own status stands"
    assert report.schedule == ScheduleNote("constant", end=TOTAL)
    assert report.curve.x[-1] == pytest.approx(1000 * x[-1])


@pytest.mark.parametrize("why", ["reactive", "manual"])
def test_an_unknown_schedule_is_named(why):
    own = record(last=1000, schedule_unknown=why)
    report = analyze({"r": own}, Question("r"))
    assert {p.kind for p in report.projections} == {"schedule unknown"}
    assert report.schedule == ScheduleNote("unknown", why)
    assert any(f"unknown ({why})" in doubt for doubt in report.doubts)
    assert analyze({"r": replace(own, schedule=None)}, Question("r")).schedule.why == why


def test_a_rate_that_hardly_falls_makes_no_annealed_run():
    lr = cosine(TOTAL, floor=0.93)
    report = analyze({"r": record(last=1000, lr=lr)}, Question("r"))
    assert told(report)["planned end"].kind == "as planned"
    assert told(report)["10x"].kind == "not annealed"
    assert "not_annealed" in told(report)["10x"].reasons


# Repeated data


def muennighoff(seen, unique):
    return unique + unique * 15.387756 * (1 - math.exp(-(seen / unique - 1) / 15.387756))


def repeated(*, worth, unique=8000, last=1000, lr=None):
    """A run whose error follows what its data are worth: 1.5 + 30 D^-0.4."""
    own = record(last=last, lr=constant(TOTAL) if lr is None else lr, unique=unique)
    return replace(
        own,
        observations=tuple(
            replace(o, value=1.5 + 30 * worth(o.counts.samples) ** -0.4) for o in own.observations
        ),
    )


def test_repeats_count_as_effective_data():
    def worth(seen):
        return float(seen) if seen <= 8000 else muennighoff(seen, 8000)

    own = repeated(worth=worth, last=TOTAL)
    report = analyze({"r": own}, Question("r"))
    assert report.repeats == Repeats(32_000.0, 8000.0, pytest.approx(muennighoff(32_000, 8000)))
    x = [worth(o.counts.samples) for o in own.observations]
    y = [o.value for o in own.observations]
    for name, scale in (("2x", 2), ("10x", 10), ("100x", 100)):
        seen = scale * 32_000
        p = told(report)[name]
        assert p.data == seen and "repeated_data" in p.reasons
        assert FitStatus.REPEATED_DATA.sentence in p.doubts
        assert p.median == pytest.approx(forecast(x, y, [worth(seen)]).median[0])
        assert p.median == pytest.approx(1.5 + 30 * worth(seen) ** -0.4, rel=0.02)
    assert FitStatus.REPEATED_DATA.sentence in report.doubts


def test_where_repeats_are_as_good_as_new_the_curve_says_so():
    own = repeated(worth=float, unique=400, last=TOTAL)
    report = analyze({"r": own}, Question("r"))
    assert report.repeats == Repeats(32_000.0, 400.0, 32_000.0)
    assert told(report)["10x"].median == pytest.approx(1.5 + 30 * 320_000**-0.4, rel=0.02)
    assert "repeated_data" in told(report)["10x"].reasons


def test_a_plan_of_several_epochs_is_known_before_the_first_has_ended():
    own = repeated(worth=float, unique=24_000, last=1000)
    report = analyze({"r": own}, Question("r"))
    assert report.repeats is None
    reasons = {name: "repeated_data" in p.reasons for name, p in told(report).items()}
    assert reasons == {"2x": True, "10x": True, "100x": True, "planned end": True}
    x = [o.counts.samples for o in own.observations]
    y = [o.value for o in own.observations]
    expected = forecast(x, y, [muennighoff(160_000, 24_000)]).median[0]
    assert told(report)["10x"].median == pytest.approx(expected)


def test_epochs_tell_of_repeats_where_distinct_samples_are_not_counted():
    own = record(last=TOTAL, lr=constant(TOTAL))
    four = tuple(
        replace(o, counts=replace(o.counts, epochs=o.counts.samples / 8000)) for o in own.observations
    )
    run = RunRecord(RunInfo("r"), four, "finished", own.schedule, TOTAL, None)
    assert analyze({"r": run}, Question("r")).repeats.unique == pytest.approx(8000)
    assert analyze({"r": run}, Question("r", axis="steps")).repeats.unique == pytest.approx(500)
    assert analyze({"r": run}, Question("r", axis="unique_samples")).repeats is None
    one = tuple(replace(o, counts=replace(o.counts, epochs=0.9)) for o in four)
    assert analyze({"r": replace(run, observations=one)}, Question("r")).repeats is None


def test_a_longer_annealed_run_on_the_same_data_gains_what_they_are_worth():
    fresh = analyze({"r": record()}, Question("r"))
    twice = analyze({"r": record(unique=16_000)}, Question("r"))
    more = muennighoff(320_000, 16_000) - muennighoff(32_000, 16_000)
    same = analyze({"r": record()}, Question("r", targets=(32_000 + more,)))
    (target,) = (p for p in same.projections if p.name == f"{32_000 + more:g}")
    assert told(twice)["10x"].median == pytest.approx(target.median, rel=1e-4)
    assert told(twice)["10x"].median > told(fresh)["10x"].median
    assert "repeated_data" in told(twice)["10x"].reasons and told(fresh)["10x"].reasons == ()


# The best value


def test_the_best_value_and_when_it_came():
    own = record(last=1000, noise=0.0)
    assert analyze({"r": own}, Question("r")).best == BestValue(
        pytest.approx(own.observations[-1].value), 16_000.0, 1000, pytest.approx(0.0, abs=1e-3), False
    )


def test_a_curve_past_its_best_says_so_with_the_step():
    own = record(last=TOTAL, lr=constant(TOTAL))
    values = [o.value + 1e-3 * max(0, o.counts.steps - 1000) for o in own.observations]
    over = tuple(replace(o, value=v) for o, v in zip(own.observations, values, strict=True))
    report = analyze({"r": replace(own, observations=over)}, Question("r"))
    lowest = int(np.argmin(values))
    assert report.best.risen and report.best.value == values[lowest]
    assert report.best.step == over[lowest].counts.steps
    assert any(
        f"best value was {values[lowest]:.4g} at step {report.best.step:,}" in d for d in report.doubts
    )


# The track record


def test_past_forecasts_are_those_of_the_first_points():
    runs = {f"e{i}": record(f"e{i}", seed=i + 1, level=1.9 + 0.1 * i) for i in range(2)}
    runs["r"] = record(seed=9)
    report = analyze(runs, Question("r"))
    assert [past.share for past in report.track] == [0.2, 0.3, 0.5, 0.75]
    known = [arrays(runs[name]) for name in report.schedule.earlier]
    whole = arrays(runs["r"])
    for past in report.track:
        first = whole["step"] <= past.share * TOTAL
        result = forecast_run(whole["step"][first], whole["y"][first], whole["lr"], [TOTAL], known)
        assert past.median == pytest.approx(result.median[0], rel=1e-9)
        assert past.lower["0.9"] == pytest.approx(result.lower[0.9][0], rel=1e-9)
        assert past.upper["0.9"] == pytest.approx(result.upper[0.9][0], rel=1e-9)
        assert past.came == whole["y"][-1]
        assert past.inside() == (result.lower[0.9][0] <= whole["y"][-1] <= result.upper[0.9][0])


def test_of_a_run_under_way_forecasts_of_its_newest_point_are_scored():
    runs = {f"e{i}": record(f"e{i}", seed=i + 1, level=1.9 + 0.1 * i) for i in range(3)}
    runs["r"] = record(last=1200, seed=9)
    report = analyze(runs, Question("r"))
    assert [past.share for past in report.track] == [0.3, 0.5, 0.75]
    known = [arrays(runs[name]) for name in report.schedule.earlier[:2]]
    whole = arrays(runs["r"])
    for past in report.track:
        first = whole["step"] <= past.share * 1200
        result = forecast_run(whole["step"][first], whole["y"][first], whole["lr"], [1200], known)
        ends = past.median, past.lower["0.9"], past.upper["0.9"]
        assert ends == pytest.approx((result.median[0], result.lower[0.9][0], result.upper[0.9][0]), rel=1e-9)
        assert past.came == whole["y"][-1]


@pytest.mark.parametrize(("last", "shares"), [(TOTAL, [0.2, 0.3, 0.5, 0.75]), (1000, [0.3, 0.5, 0.75])])
def test_at_a_constant_rate_past_forecasts_are_those_by_data(last, shares):
    own = record(lr=constant(TOTAL), last=last)
    track = analyze({"r": own}, Question("r")).track
    assert [past.share for past in track] == shares
    x, y = np.array([(o.counts.samples, o.value) for o in own.observations], dtype=float).T
    for past in track:
        first = x <= past.share * x[-1]
        result = forecast(x[first], y[first], x[-1:])
        ends = past.median, past.lower["0.9"], past.upper["0.9"]
        assert ends == pytest.approx((result.median[0], result.lower[0.9][0], result.upper[0.9][0]), rel=1e-9)
        assert past.came == y[-1]


def test_a_run_that_has_come_to_its_planned_end_has_the_track_of_its_end():
    assert len(analyze({"r": record(state="running")}, Question("r")).track) == 4, "its last point has come"
    late = record(last=1950, state="running", every=150)
    assert late.observations[-1].counts.steps == 1950
    assert analyze({"r": late}, Question("r")).track != (), "the next point would lie beyond the end"


def test_a_record_in_words_says_whose_intervals_were_too_narrow():
    def track(*came):
        return [PastForecast(0.5, 2.0, {"0.9": 1.9}, {"0.9": 2.1}, value) for value in came]

    assert record_under_way({}) == record_under_way({"a": []}) == ""
    line = "Of 5 past forecasts of where runs under way are now, {} were inside their 90 % interval."
    assert record_under_way({"a": track(2.0, 2.0, 3.0), "b": track(2.0, 1.0)}) == line.format(3)
    assert record_under_way({"a": track(2.0, 1.0, 3.0), "b": track(2.0, 2.0)}) == (
        line.format(3) + " Too narrow so far are those of a."
    )


def test_few_points_are_not_scored():
    shares = [past.share for past in analyze({"r": record(every=250)}, Question("r")).track]
    assert shares == [0.5, 0.75]


@pytest.mark.parametrize(
    ("counts", "sentence"),
    [
        ((0, 0), ""),
        ((1, 1), "Of 1 past forecast of this study's finished runs, 1 were inside their 90 % interval."),
        ((12, 9), "Of 12 past forecasts of this study's finished runs, 9 were inside their 90 % interval."),
    ],
)
def test_the_record_in_one_sentence(counts, sentence):
    assert record_line(*counts) == sentence


def test_an_interval_holds_its_ends_and_no_level_holds_nothing():
    past = PastForecast(0.5, 2.0, {"0.9": 1.0}, {"0.9": 3.0}, 3.0)
    assert past.inside() and not past.inside("0.5")
    assert not replace(past, came=3.01).inside() and not replace(past, came=0.99).inside()


# As JSON


def test_what_is_new_survives_json_and_older_reports_lack_it():
    past = PastForecast(0.5, 2.0, {"0.9": 1.0}, {"0.9": 3.0}, 2.5)
    report = Report(
        run="r",
        metric="m",
        axis="samples",
        step=1,
        reasons=("repeated_data",),
        schedule=ScheduleNote("followed", None, 9, ("a", "b")),
        best=BestValue(1.0, 2.0, 3, 0.1, True),
        repeats=Repeats(3.0, 1.0, 2.9),
        track=(past,),
        projections=(NamedProjection("2x", 1.0, 2.0, 3.0, kind="annealed", reasons=("repeated_data",)),),
    )
    assert Report.from_json(report.to_json()) == report
    record = json.loads(report.to_json())
    for part in (record["schedule"], record["best"], record["repeats"], record["track"][0]):
        part["of_a_later_version"] = 1
    assert Report.from_json(json.dumps(record)) == report
    for name in ("reasons", "schedule", "best", "repeats", "track"):
        del record[name]
    del record["projections"][0]["kind"], record["projections"][0]["reasons"]
    older = Report.from_json(json.dumps(record))
    assert (older.schedule, older.best, older.repeats, older.track, older.reasons) == (
        None,
        None,
        None,
        (),
        (),
    )
    assert older.projections[0].kind == ""
