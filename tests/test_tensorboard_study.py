"""What the Scaling tab says of a study and of one run, as pure functions: against a law that is known."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest

from foretrain.decisions import JointLaw
from foretrain.flags import Flag, FlagKind
from foretrain.report import Band, CurveRegions, History, LeftOutPoint, NamedProjection, PastForecast, Report
from foretrain.tensorboard.answers import answers_view, targets
from foretrain.tensorboard.beside import marks, place_on
from foretrain.tensorboard.frontier import AHEAD, OLDER, Frontier, frontier_view, record_of, study_frontier
from foretrain.tensorboard.rows import Entry, entry
from foretrain.tensorboard.run_view import forecasts, run_view, series_of
from foretrain.tensorboard.view import chosen, runs_view

LAW = JointLaw(1.05, 6.5, 0.28, 22.0, 0.42)
BATCH, TOKENS = 16, 64
SIZES = (15_200.0, 41_300.0, 88_700.0, 203_000.0, 697_000.0)
STEADY = ((1, 0.1), (40, 1.0), (100_000, 1.0), (125_000, 0.0))


def beside(params: float, xs: Any, **changes: Any) -> History:
    values: dict[str, Any] = {
        "counts": {
            "steps": tuple(round(x / BATCH) for x in xs),
            "tokens": tuple(round(x * TOKENS) for x in xs),
            "flops": tuple(round(6 * params * x * TOKENS) for x in xs),
        },
        "rates": tuple(1.0 for _ in xs),
        "schedule": STEADY,
        "planned": {"samples": 2e6, "steps": 125_000},
    }
    return History(**{**values, **changes})


def report(params: float, **changes: Any) -> Report:
    xs = [1600.0 * 2 ** (i / 2) for i in range(14)]
    values: dict[str, Any] = {
        "run": f"n{params:.0f}",
        "metric": "loss",
        "axis": "samples",
        "step": 1,
        "params": params,
        "status": "ok",
        "planned": 2e6,
        "points": tuple((x, float(LAW.loss(params, x))) for x in xs),
        "curve": Band((1000.0, 1e6), (2.0, 1.0), {"0.9": (1.9, 0.9)}, {"0.9": (2.1, 1.1)}),
        "projections": (NamedProjection("10x", params, 1.6e6, 1.0, {"0.9": 0.9}, {"0.9": 1.1}),),
        "history": beside(params, xs),
    }
    return Report(**{**values, **changes})


def entries(sizes: tuple[float, ...] = SIZES, **changes: Any) -> list[Entry]:
    return chosen(entry(f"n{n:.0f}", report(n, **changes)) for n in sizes)[0]


@pytest.fixture(scope="module")
def found() -> Frontier:
    return study_frontier(entries(), metric="loss", axis="samples", exclude=())


def test_the_compute_optimal_line_is_that_of_the_law_behind_the_points(found: Frontier) -> None:
    view = frontier_view(found, metric="loss")
    assert view["status"] == "ok"
    line = view["line"]
    per = 6.0 * TOKENS
    truth, _ = LAW.optimum(np.array(line["x"]), per)
    near = np.array(line["x"]) <= 10 * max(row[1] for row in view["points"])
    assert np.array(line["median"])[near] == pytest.approx(truth[near], rel=0.1)
    inside = [low <= n <= high for low, n, high in zip(line["lower"], truth, line["upper"], strict=True)]
    assert all(inside)
    most = max(row[1] for row in view["points"])
    assert view["range"][1] == pytest.approx(AHEAD * most, rel=1e-5)
    assert line["x"][-1] == pytest.approx(AHEAD * most, rel=1e-5)
    c, n, d = view["points"][0][1:4]
    assert c == pytest.approx(per * n * d, rel=1e-5)
    for curve in view["isoflop"]:
        size, level = curve["curve"][1]
        assert level == pytest.approx(float(LAW.loss(size, curve["budget"] / per / size)), rel=2e-3)
    assert view["isoflop"]
    assert len(json.dumps(view, allow_nan=False)) < 60_000


def test_a_budget_is_answered_with_size_data_and_error(found: Frontier) -> None:
    told = answers_view(found, {"compute": 1e14}, metric="loss")
    best = told["best"]
    n, d = LAW.optimum(1e14, 6.0 * TOKENS)
    assert best["told"] is True
    assert best["size"]["median"] == pytest.approx(float(n), rel=0.1)
    assert best["data"]["median"] == pytest.approx(float(d), rel=0.1)
    assert best["error"]["median"] == pytest.approx(float(LAW.loss(n, d)), rel=0.01)
    assert best["error"]["lower"] < best["error"]["median"] < best["error"]["upper"]
    assert best["sentence"].startswith("1e+14 FLOPs are best spent on ")
    assert "training examples seen" in best["sentence"]


def test_typed_targets_are_answered(found: Frontier) -> None:
    asked = {"params": 697_000.0, "data": 1e6, "error": 1.35}
    told = answers_view(found, asked, metric="loss")["answers"]
    by_unit = {item["unit"]: item for item in told}
    assert told[0]["median"] == pytest.approx(float(LAW.loss(697_000.0, 1e6)), rel=0.02)
    assert told[0]["lower"] < float(LAW.loss(697_000.0, 1e6)) < told[0]["upper"]
    assert told[0]["question"] == "loss of 697k parameters on 1M training examples seen"
    truths = {
        "of data": LAW.data_for(1.35, 697_000.0),
        "parameters": LAW.size_for(1.35, 1e6),
        "FLOPs": LAW.compute_for(1.35, 6.0 * TOKENS),
    }
    for unit, truth in truths.items():
        item = by_unit[unit]
        assert item["lower"] < float(truth) < item["upper"], unit
        assert item["median"] == pytest.approx(float(truth), rel=0.3), unit


def test_an_error_below_the_floor_is_out_of_reach(found: Frontier) -> None:
    (told,) = answers_view(found, {"error": 0.5}, metric="loss")["answers"]
    assert told["told"] is False
    assert told["median"] is None
    assert "cannot tell" in told["sentence"]


def test_two_sizes_tell_no_frontier_but_what_to_run_next() -> None:
    two = study_frontier(entries(SIZES[:2]), metric="loss", axis="samples", exclude=())
    view = frontier_view(two, metric="loss")
    assert view["line"] is None
    assert view["status"] == "too_few_sizes"
    assert "Run " in view["sentence"]
    assert "No amount of compute was reached by 4 sizes" in view["without_isoflop"]
    best = answers_view(two, {"compute": 1e14}, metric="loss")["best"]
    assert best["told"] is False
    assert best["sentence"].startswith("The runs cannot tell the best size for this budget. Run ")


def test_who_does_not_enter_is_told_why() -> None:
    found = entries()
    falling = beside(1e5, [1600.0, 3200.0], schedule=((1, 1.0), (5000, 0.0)), rates=(0.9, 0.8))
    decays = entry("decays", report(1e5, points=((1600.0, 3.0), (3200.0, 2.5)), history=falling))
    older = entry("older", report(1e5, history=None))
    seen = study_frontier([*found, decays, older], metric="loss", axis="samples", exclude={found[0].run})
    reasons = dict(frontier_view(seen, metric="loss")["left_out"])
    assert reasons[found[0].run] == "not among the runs shown"
    assert reasons["older"] == OLDER
    assert "learning rate" in reasons["decays"]
    assert seen.points is not None
    assert set(seen.points.runs) == {item.run for item in found[1:]}
    none = study_frontier([older], metric="loss", axis="samples", exclude=())
    assert frontier_view(none, metric="loss")["sentence"] == "No run here tells what compute it took."
    assert answers_view(none, {"compute": 1.0}, metric="loss")["sentence"].startswith("No run here tells")


def test_the_record_is_the_run_as_it_was_kept() -> None:
    (item,) = entries(SIZES[:1])
    record = record_of(item, [item], "loss")
    assert [o.value for o in record.observations] == [y for _, y in item.points]
    first = record.observations[0].counts
    assert (first.samples, first.steps, first.tokens) == (1600, 100, 102_400)
    assert first.flops == (6 * 15_200 * 1600 * 64)
    assert record.schedule is not None
    assert record.schedule.knots == [*STEADY]
    assert record.info.planned is not None
    assert record.info.planned.samples == 2_000_000


@pytest.mark.parametrize(
    ("text", "number"),
    [("1e18", 1e18), ("0", None), ("-1", None), ("nan", None), ("inf", None), ("x", None), ("1e99", None)],
)
def test_only_sound_targets_are_taken(text: str, number: float | None) -> None:
    assert targets([("compute", text)]).get("compute") == number
    assert targets([("other", "1")]) == {}


def test_a_place_on_another_axis_is_straight_on_log_axes() -> None:
    own, other = [10.0, 100.0, 1000.0], [1.0, 4.0, None]
    assert place_on(10.0, own, other, True) == 1.0
    assert place_on(math.sqrt(1000), own, other, True) == pytest.approx(2.0)
    assert place_on(200.0, own, other, True) == pytest.approx(8.0)
    assert place_on(200.0, own, other, False) is None
    assert place_on(5.0, own, other, True) == pytest.approx(0.5)
    assert place_on(5.0, own, [None, None, None], True) is None


def test_the_runs_are_drawn_along_what_else_was_counted() -> None:
    regions = CurveRegions("power_law", 3200.0)
    (item,) = entries(SIZES[:1], regions=regions)
    view = runs_view([item], metric="loss", selection=chosen([item])[1], unreadable={}, along="flops")
    assert view["data_label"] == "training FLOPs"
    assert view["along"] == "flops"
    assert [name for name, _ in view["along_labels"]] == ["samples", "tokens", "flops", "steps"]
    (run,) = view["runs"]
    each = 6 * 15_200 * 64
    assert run["points"][0] == pytest.approx([1600 * each, float(LAW.loss(15_200, 1600))], rel=1e-5)
    assert run["data"] == pytest.approx(item.points[-1][0] * each, rel=1e-5)
    assert run["projections"][0]["data"] == pytest.approx(1.6e6 * each, rel=1e-5)
    assert run["curve"]["x"] == pytest.approx([1000 * each, 1e6 * each], rel=1e-5)
    assert run["regions"]["marks"][0]["x"] == pytest.approx(3200 * each, rel=1e-5)
    assert "training FLOPs" in run["headline"]
    assert item.row["data"] == pytest.approx(item.points[-1][0], rel=1e-5), "the run itself is as it was"
    steps = runs_view([item], metric="loss", selection=chosen([item])[1], unreadable={}, along="steps")
    assert steps["runs"][0]["planned"] == 125_000
    same = runs_view([item], metric="loss", selection=chosen([item])[1], unreadable={}, along="nonsense")
    assert same["along"] == "samples"


def test_a_run_that_did_not_count_an_axis_is_not_drawn_along_it() -> None:
    found = [*entries(SIZES[:1]), entry("older", report(1e5, history=None))]
    view = runs_view(found, metric="loss", selection=chosen(found)[1], unreadable={}, along="tokens")
    assert [len(run["points"]) for run in view["runs"]] == [14, 0]
    assert view["runs"][1]["projections"] == []


def test_where_rates_bend_and_epochs_begin() -> None:
    xs = [1600.0, 102_400.0]
    passes = beside(1e4, xs, counts={"steps": (100, 6400), "epochs": (0.016, 1.024)})
    item = entry("a", report(1e4, points=((1600.0, 3.0), (102_400.0, 2.0)), history=passes))
    assert item.beside is not None
    told = [(mark["label"], mark["x"]) for mark in marks(item.beside, "samples")]
    assert told == [
        ("warm-up ends", 640.0),
        ("rate falls", 1_600_000.0),
        ("rate has fallen", 2_000_000.0),
        ("epoch 1", 100_000.0),
    ]


SCALARS = {
    "projected_end": [(200, 1.3), (100, 1.5), (300, -1.0)],
    "projected_end_lower": [(100, 1.4), (200, 1.2)],
    "projected_end_upper": [(100, 1.6)],
    "samples": [(100, 1600.0), (200, 3200.0), (300, 4800.0)],
}


def test_one_run_in_full() -> None:
    evidence = {"value": 2.0, "odd": math.nan}
    out = (LeftOutPoint(7, 112.0, math.nan, "not finite"),)
    past = (
        PastForecast(0.5, 2.0, {"0.9": 1.0}, {"0.9": 3.0}, 2.5),
        PastForecast(0.75, 2.0, {"0.9": 1.0}, {"0.9": 2.2}, 2.5),
    )
    flag = Flag(FlagKind.NOT_FINITE, 200, "It was nan.", evidence)
    kept = report(SIZES[0])
    assert kept.history is not None
    item = entry(
        "a",
        dataclasses.replace(
            kept,
            flags=(flag,),
            track=past,
            state="finished",
            history=dataclasses.replace(kept.history, left_out=out),
        ),
    )
    view = run_view(item, SCALARS, "loss")
    json.dumps(view, allow_nan=False)
    assert view["left_out"] == [{"step": 7, "data": 112.0, "value": None, "reason": "not finite"}]
    x, off = view["residuals"][3]
    share = math.log(x / 1000) / math.log(1000)
    law = math.exp((1 - share) * math.log(2.0) + share * math.log(1.0))
    assert off == pytest.approx(math.log(float(LAW.loss(SIZES[0], x)) / law), rel=1e-3)
    assert [row["data"] for row in view["forecasts"]] == [1600.0, 3200.0]
    assert view["forecasts"][0] == {"median": 1.5, "lower": 1.4, "upper": 1.6, "data": 1600.0, "step": 100}
    assert view["forecasts"][1]["upper"] is None
    last = item.points[-1][0]
    assert [row["data"] for row in view["track"]] == pytest.approx([0.5 * last, 0.75 * last], rel=1e-3)
    assert [row["inside"] for row in view["track"]] == [True, False]
    assert view["came"] == item.row["last"]
    (told,) = view["flags"]
    assert told["kind"] == FlagKind.NOT_FINITE.value
    assert told["severity"] == flag.severity.value
    assert told["data"] == pytest.approx(3200.0)
    assert told["evidence"] == [["value", 2.0], ["odd", None]]


def test_an_older_report_of_a_run_is_shown_without_what_it_does_not_tell() -> None:
    item = entry("a", report(SIZES[0], history=None, curve=None))
    view = run_view(item, {}, "loss")
    assert (view["history"], view["residuals"], view["marks"], view["left_out"]) == (False, [], [], [])
    assert forecasts(item, {}) == view["forecasts"] == []


@pytest.mark.parametrize(
    ("tags", "start"),
    [
        (["scaling/projected_end", "scaling/x/projected_end"], "scaling/"),
        (["scaling/loss/projected_end", "scaling/acc/projected_end"], "scaling/loss/"),
        (["scaling/big/projected_end"], "scaling/big/"),
        (["scaling/a/projected_end", "scaling/b/projected_end"], None),
        (["loss"], None),
    ],
)
def test_whose_scalars_are_whose(tags: list[str], start: str | None) -> None:
    assert series_of(tags, "loss") == start


def test_a_hostile_history_is_taken_for_what_it_is() -> None:
    odd = History(
        counts={"steps": (1, "x"), "tokens": (1,), "__proto__": (1, 1), "flops": (math.inf, -1)},  # type: ignore[dict-item]
        rates=("a", None),  # type: ignore[arg-type]
        schedule=((5, 1.0), (3, 2.0)),
        planned={"steps": math.nan, "samples": 10**400},
        density="half",  # type: ignore[arg-type]
        left_out=(LeftOutPoint("7", {"a": 1}, "x", ["r"]),) * 1000,  # type: ignore[arg-type]
    )
    item = entry("a", report(1e4, points=((1.0, 2.0), (2.0, 1.5)), history=odd))
    assert item.beside is not None
    assert item.beside.columns == {"samples": (1.0, 2.0), "steps": (1.0, None), "flops": (None, None)}
    assert item.beside.rates == (None, None)
    assert (item.beside.schedule, item.beside.planned, item.beside.density) == ((), {}, None)
    assert len(item.beside.left_out) == 48
    json.dumps(run_view(item, {}, "loss"), allow_nan=False)
    for along in ("steps", "flops"):
        shown = runs_view([item], metric="m", selection=chosen([item])[1], unreadable={}, along=along)
        json.dumps(shown, allow_nan=False)
    seen = study_frontier([item], metric="loss", axis="samples", exclude=())
    json.dumps(frontier_view(seen, metric="loss"), allow_nan=False)
