"""What the Scaling tab shows, as pure functions of reports."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest

from foretrain.flags import Flag, FlagKind, Severity
from foretrain.report import (
    Band,
    BestValue,
    CurveRegions,
    JointReport,
    LawFit,
    NamedProjection,
    PastForecast,
    Repeats,
    Report,
    ScheduleNote,
)
from foretrain.tensorboard.law_view import law_view, value_at
from foretrain.tensorboard.plain import MAX_CURVE, MAX_POINTS
from foretrain.tensorboard.rows import entry
from foretrain.tensorboard.view import chosen, natural, runs_view
from foretrain.tensorboard.words import amount, figure

FLAG = Flag(FlagKind.ABOVE_FAMILY, 10, "Above what the others predict.")


def report(run: str = "a", params: float | None = 1e4, n: int = 100, **changes: object) -> Report:
    """A run whose error is exactly 10 x^-0.25, with its law and two projections."""
    xs = [100.0 * 1.05**i for i in range(n)]
    grid = [100.0 * 10 ** (i / 40) for i in range(200)]

    def law(x: float) -> float:
        return 10 * x**-0.25

    values: dict[str, object] = {
        "run": run,
        "metric": "val_loss",
        "axis": "samples",
        "step": n,
        "params": params,
        "points": tuple((x, law(x)) for x in xs),
        "status": "ok",
        "curve": Band(
            x=tuple(grid),
            median=tuple(map(law, grid)),
            lower={"0.9": tuple(0.9 * law(x) for x in grid), "0.5": tuple(map(law, grid))},
            upper={"0.9": tuple(1.1 * law(x) for x in grid)},
        ),
        "projections": (
            NamedProjection("10x", params, 1e5, law(1e5), {"0.9": 0.5}, {"0.9": 0.6}, ("Far away.",)),
            NamedProjection("planned end", params, 2e4, law(2e4), {}, {}),
        ),
        "doubts": ("One size only.",),
    }
    return Report(**{**values, **changes})  # type: ignore[arg-type]


def view_of(*entries: object) -> dict[str, object]:
    found, selection = chosen(entries)  # type: ignore[arg-type]
    return runs_view(found, metric="val_loss", selection=selection, unreadable={})


def test_a_row_holds_what_the_report_says() -> None:
    row = entry("a/b", report()).shown()
    assert row["name"] == "a/b"
    assert row["params"] == 1e4
    assert len(row["points"]) == MAX_POINTS
    assert row["points"][0] == [100.0, pytest.approx(10 * 100**-0.25, rel=1e-5)]
    assert row["points"][-1][0] == row["data"]
    assert row["last"] == row["points"][-1][1]
    assert [p["name"] for p in row["projections"]] == ["planned end", "10x"]  # in order of data
    assert row["projections"][0]["lower"] is None
    assert row["doubts"] == ["One size only.", "10x: Far away."]
    curve = row["curve"]
    assert len(curve["x"]) == MAX_CURVE
    assert curve["lower"][5] == pytest.approx(0.9 * curve["median"][5], rel=1e-4)


def test_the_headline_says_the_projection_in_words() -> None:
    words = entry("a", report()).row["headline"]
    assert words == (
        "At 10x the data (100k training examples seen), val_loss is projected to be 0.5623; "
        "90\u00a0% between 0.5000 and 0.6000."
    )
    end = entry("a", report(projections=report().projections[1:])).row["headline"]
    assert end.startswith("At its planned end (20k training examples seen), ")
    assert end.endswith("0.8409.")
    assert entry("a", report(projections=())).row["headline"] == ""


KINDS = ("as planned", "annealed", "not annealed", "schedule unknown")


@pytest.mark.parametrize("kind", [*KINDS, "of a later version", ["annealed"]])
def test_what_a_projection_assumes_reaches_the_page(kind: object) -> None:
    item = NamedProjection("10x", None, 1e5, 0.5, kind=kind)  # type: ignore[arg-type]
    (row,) = entry("a", report(projections=(item,))).row["projections"]
    assert row["kind"] == (kind if kind in KINDS else "")


def test_the_headline_keeps_the_two_projections_apart() -> None:
    end = NamedProjection("planned end", None, 2e4, 0.84, kind="as planned")
    far = NamedProjection("10x", None, 1.3e5, 0.5, {"0.9": 0.4}, {"0.9": 0.6}, kind="annealed")
    label = "training examples seen"
    told = entry("a", report(projections=(far, end))).row["headline"]
    first, second = told.split(". Trained ")
    assert first == f"At its planned end (20k {label}), val_loss is projected to be 0.8400"
    assert second == (
        f"to 10x the data (130k {label}) with its schedule stretched to end there, "
        "it is projected to be 0.5000; 90\u00a0% between 0.4000 and 0.6000."
    )
    over = dataclasses.replace(end, data=report().points[-1][0])
    assert (
        entry("a", report(projections=(far, over)))
        .row["headline"]
        .startswith("Trained to 10x the data (130k")
    )
    target = dataclasses.replace(far, name="1.3e+05")
    assert entry("a", report(projections=(target,))).row["headline"].startswith("Trained to 1.3e+05 (130k")
    still = dataclasses.replace(far, kind="not annealed")
    assert (
        entry("a", report(projections=(still,)))
        .row["headline"]
        .startswith(f"At 10x the data (130k {label}), with a rate that does not fall, val_loss is projected")
    )


@pytest.mark.parametrize(
    ("changes", "notes"),
    [
        ({}, []),
        (
            {"schedule": ScheduleNote("followed", None, 9, ("a",))},
            [
                "The projections follow the learning-rate schedule; what its decay gains is told by "
                "1 finished run."
            ],
        ),
        (
            {"schedule": ScheduleNote("followed", None, 9)},
            [
                "The projections follow the learning-rate schedule; what its decay gains is told by "
                "this run and published ones."
            ],
        ),
        (
            {"schedule": ScheduleNote("constant")},
            ["The learning rate stays at its peak: the projections are not annealed."],
        ),
        (
            {"schedule": ScheduleNote("unknown", "reactive")},
            ["Learning rates to come: unknown (reactive). The projections are not annealed."],
        ),
        ({"schedule": ScheduleNote("of a later version")}, []),
        (
            {"repeats": Repeats(1e5, 2.5e4, 9.3e4)},
            ["100k training examples seen were 25k distinct ones, seen 4 times each. They count as 93k."],
        ),
        ({"repeats": Repeats(1e5, math.nan, 9e4)}, []),
        (
            {"best": BestValue(0.75, 5000.0, 7)},
            ["The best value so far is 0.7500, at 5k training examples seen."],
        ),
        (
            {"best": BestValue(0.75, 5000.0, 7, 0.0, True)},
            ["Past its best: 0.7500 at 5k training examples seen, and the error has risen since."],
        ),
        ({"best": BestValue("low", 5000.0, 7)}, []),
        ({"best": BestValue(0.75, 5000.0, 7), "points": ()}, []),
    ],
)
def test_what_the_projections_rest_on_in_words(changes: dict[str, object], notes: list[str]) -> None:
    assert entry("a", report(**changes)).row["notes"] == notes


def past(low: object, came: object, high: object) -> PastForecast:
    return PastForecast(0.5, 2.0, {"0.9": low}, {"0.9": high}, came)  # type: ignore[dict-item, arg-type]


def test_the_track_record_counts_finished_runs() -> None:
    good, bad, odd = past(1.0, 1.5, 2.0), past(1.0, 2.5, 2.0), past("low", 1.0, None)
    entries = [
        entry("a", report(state="finished", track=(good, good, bad, odd))),
        entry("b", report(state="finished", track=(bad,))),
        entry("c", report(state="running", track=(good,) * 4)),
        entry("d", report(state="finished")),
    ]
    assert [item.row["track"] for item in entries] == [[3, 2], [1, 0], [4, 4], [0, 0]]
    assert view_of(*entries)["track"] == (
        "Of 4 past forecasts of this study's finished runs, 2 were inside their 90 % interval."
    )
    assert view_of(entries[2])["track"] == view_of()["track"] == ""


def test_no_doubt_is_said_twice() -> None:
    found = report(
        status="short_range",
        sentence="Short.",
        doubts=("Short.", "One size only."),
        projections=(
            NamedProjection("100x", None, 1e6, 0.3, doubts=("Far away.", "One size only.")),
            NamedProjection("1e+06", None, 1e6, 0.3, doubts=("Far away.",)),
        ),
    )
    assert entry("a", found).row["doubts"] == ["One size only.", "100x, 1e+06: Far away."]
    unseen = dataclasses.replace(found, status="ok")  # no notice stands above the list then
    assert entry("a", unseen).row["doubts"][0] == "Short."


@pytest.mark.parametrize(
    ("regions", "sentence", "marks", "spans"),
    [
        (("power_law",), "In the power-law region from the first point on.", [], []),
        (
            ("power_law", 1500.0),
            "In the power-law region from 1.5k training examples seen on.",
            ["power law from 1.5k"],
            [[100.0, 1500.0]],
        ),
        (
            ("irreducible", 1000.0, 5000.0),
            "In the irreducible region from 5k training examples seen on: "
            "more data cannot remove most of the error.",
            ["power law from 1k", "irreducible from 5k"],
            [[100.0, 1000.0], [5000.0, 12_523.9]],
        ),
        (
            ("irreducible", 5000.0, 5000.0),  # nothing between them
            "In the irreducible region from 5k training examples seen on: "
            "more data cannot remove most of the error.",
            ["irreducible from 5k"],
            [[100.0, 5000.0], [5000.0, 12_523.9]],
        ),
        (
            ("irreducible",),
            "In the irreducible region from the first point on: more data cannot remove most of the error.",
            [],
            [],
        ),
        (("small_data",), "No better than a best guess so far: the power law has not begun.", [], []),
    ],
)
def test_regions_in_words_and_as_they_are_drawn(
    regions: tuple[object, ...], sentence: str, marks: list[str], spans: list[list[float]]
) -> None:
    found = entry("a", report(regions=CurveRegions(*regions))).row["regions"]  # type: ignore[arg-type]
    assert found["now"] == str(regions[0]).replace("_", " ")
    assert found["sentence"] == sentence
    assert [mark["label"] for mark in found["marks"]] == marks
    assert found["spans"] == [pytest.approx(span, rel=1e-5) for span in spans]


def test_regions_that_a_report_does_not_tell_or_garbles_are_not_drawn() -> None:
    assert entry("a", report()).row["regions"] is None
    assert entry("a", report(points=(), regions=CurveRegions("power_law"))).row["regions"] is None
    odd = CurveRegions("of_a_later_version", math.nan, 1e30)
    assert entry("a", report(regions=odd)).row["regions"] == {
        "now": "of a later version",
        "sentence": "",
        "marks": [],
        "spans": [],
    }
    hostile = CurveRegions({"a": 1}, "5", [1])  # type: ignore[arg-type]
    assert entry("a", report(regions=hostile)).row["regions"]["marks"] == []


@pytest.mark.parametrize(
    ("x", "words"),
    [(512, "512"), (1600, "1.6k"), (48_200_000, "48.2M"), (7e9, "7B"), (3e18, "3e+18"), (999_999, "1M")],
)
def test_amounts_in_words(x: float, words: str) -> None:
    assert amount(x) == words


def test_figures_keep_their_digits() -> None:
    assert [figure(y) for y in (1.49, 12.0, 1234.0, 0.5)] == ["1.490", "12.00", "1234", "0.5000"]


def test_nothing_of_a_hostile_report_reaches_the_page_unchecked() -> None:
    nan = float("nan")
    bad = report(
        params="many",
        planned=-1,
        study={"a": 1},
        points=((nan, 1.0), (1.0, -2.0), (math.inf, 1.0), (10.0, 2.0)),
        excluded=[1, 2],
        curve=Band(x=("1", 2.0, None), median=(1.0, nan, 2.0), lower={"0.9": ()}, upper={}),
        projections=(
            NamedProjection("x", None, nan, 1.0),
            NamedProjection(["2x"], 10**400, 5.0, 1.0, {"0.9": "low"}, None),  # type: ignore[arg-type]
        ),
        fits=(LawFit("law", ["A"], weight=nan),),  # type: ignore[arg-type]
        doubts=tuple("d" * 10_000 for _ in range(1)) + tuple(str(i) for i in range(1000)),
        flags=(dataclasses.replace(FLAG, message=12),),  # type: ignore[arg-type]
    )
    item = entry("__proto__", bad)
    assert item.points == ((10.0, 2.0),)
    assert item.row["params"] is None
    assert item.shown()["curve"] is None
    assert len(item.row["projections"]) == 1
    text = json.dumps(view_of(item), allow_nan=False)
    assert len(text) < 20_000
    law = law_view([item], JointReport("ok"), metric="m", axis="samples", exclude=())
    json.dumps(law, allow_nan=False)


def test_runs_are_chosen_by_study_and_axis() -> None:
    entries = [
        entry("b10", report(params=5.0, study="s")),
        entry("b9", report(params=5.0, study="s")),
        entry("small", report(params=1.0, study="s")),
        entry("unsized", report(params=None, study="s")),
        entry("tokens", report(study="s", axis="tokens")),
        entry("other", report(study="t")),
    ]
    found, selection = chosen(entries)
    assert [item.run for item in found] == ["small", "b9", "b10", "unsized"]
    assert selection == {
        "study": "s",
        "studies": ["s", "t"],
        "axis": "samples",
        "axes": ["samples", "tokens"],
    }
    assert [item.run for item in chosen(entries, axis="tokens")[0]] == ["tokens"]
    assert [item.run for item in chosen(entries, study="t", axis="none such")[0]] == ["other"]
    assert chosen([]) == ([], {"study": None, "studies": [], "axis": None, "axes": []})


def test_the_first_run_shown_is_the_largest_that_is_sound() -> None:
    sound, flagged = entry("sound", report(params=2.0)), entry("flagged", report(params=9.0, flags=(FLAG,)))
    short = entry("short", report(params=5.0, status="too_few_points", curve=None))
    assert view_of(sound, flagged, short)["default_run"] == "sound"
    assert view_of(flagged, short)["default_run"] == "short"
    assert view_of(flagged)["default_run"] == "flagged"
    assert (sound.row["leaves_out"], flagged.row["leaves_out"]) == (False, True)
    notice = dataclasses.replace(FLAG, severity=Severity.NOTICE)
    noticed = entry("noticed", report(params=9.0, flags=(notice,)))
    assert noticed.row["flags"] and not noticed.row["leaves_out"] and not noticed.flagged


def test_many_runs_are_thinned_to_what_a_browser_draws() -> None:
    item = entry("a", report())
    runs = view_of(*(dataclasses.replace(item, run=f"r{i}") for i in range(1000)))["runs"]
    assert all(len(run["points"]) == len(run["curve"]["x"]) == 12 for run in runs)  # type: ignore[attr-defined]
    assert runs[0]["points"][-1] == item.shown()["points"][-1]  # type: ignore[index]
    assert runs[0]["curve"]["x"][-1] == item.shown()["curve"]["x"][-1]  # type: ignore[index]
    few = view_of(*(dataclasses.replace(item, run=f"r{i}") for i in range(10)))["runs"]
    assert all(len(run["points"]) == MAX_POINTS for run in few)  # type: ignore[attr-defined]


def test_an_error_between_points_is_measured_and_beyond_them_projected() -> None:
    item = entry("a", report())
    for x, measured in ((1000.0, True), (50_000.0, False)):
        found = value_at(item, x)
        assert found is not None
        assert found[0] == pytest.approx(10 * x**-0.25, rel=1e-4)
        assert found[1] is measured
    assert value_at(item, 1.0) is None
    assert value_at(entry("b", report(curve=None)), 50_000.0) is None


def joint(**changes: object) -> JointReport:
    values: dict[str, object] = {
        "status": "ok",
        "runs": ("a", "b", "c"),
        "fit": LawFit("chinchilla", {"E": 1.0}),
        "by_size": Band((1e4, 1e6), (2.0, 1.5), {"0.9": (1.9, 1.3)}, {"0.9": (2.1, 1.7)}),
        "at_data": 5000.0,
        "projections": (
            NamedProjection("10x", 1e7, 5000.0, 1.25, {"0.9": 1.0}, {"0.9": 1.5}, ("Far.",)),
            NamedProjection("2x", 2e6, 5000.0, 1.4),
        ),
    }
    return JointReport(**{**values, **changes})  # type: ignore[arg-type]


def test_the_law_across_the_runs() -> None:
    entries = [
        entry("a", report("a", 1e4)),
        entry("b", report("b", 1e5)),
        entry("c", report("c", 1e6, n=60)),  # has not been at 5000 yet
        entry("f", report("f", 1e6, flags=(FLAG,))),
        entry("u", report("u", None)),
    ]
    view = law_view(entries, joint(), metric="val_loss", axis="samples", exclude={"f"})
    assert view["at_label"] == "5k training examples seen"
    assert [(p["name"], p["measured"], p["used"]) for p in view["finals"]] == [
        ("a", True, True),
        ("b", True, True),
        ("c", False, True),
        ("f", True, False),
    ]
    assert view["left_out"] == [["f", "flagged"], ["u", "its number of parameters is not known"]]
    assert [p["name"] for p in view["projections"]] == ["2x", "10x"]
    assert view["by_size"]["upper"] == [2.1, 1.7]
    assert view["doubts"] == ["Far."]
    assert view["headline"] == (
        "A model of 10M parameters is projected to reach val_loss 1.250; 90\u00a0% between 1.000 and 1.500."
    )


def test_slices_are_the_sizes_where_they_had_seen_less() -> None:
    entries = [
        entry("a", report("a", 1e4)),
        entry("b", report("b", 1e5)),
        entry("worse", report("worse", 1e5, points=((100.0, 9.0), (9000.0, 8.0)))),
        entry("f", report("f", 1e6, flags=(FLAG,))),
        entry("u", report("u", None)),
        entry("late", report("late", 1e7, points=((1000.0, 1.0), (9000.0, 0.5)))),
    ]
    view = law_view(entries, joint(), metric="val_loss", axis="samples", exclude={"f"})
    quarter, sixteenth = view["slices"]  # at a 64th no run had begun
    assert [(one["data"], one["label"]) for one in view["slices"]] == [(1250.0, "1.25k"), (312.5, "312")]
    assert quarter["points"][:2] == [[n, pytest.approx(10 * 1250**-0.25, rel=1e-3)] for n in (1e4, 1e5)]
    assert quarter["points"][2][0] == 1e7
    assert sixteenth["points"] == [[n, pytest.approx(10 * 312.5**-0.25, rel=1e-3)] for n in (1e4, 1e5)]
    none = JointReport("too_few_sizes")
    asked = law_view(entries, none, metric="val_loss", axis="samples", exclude=(), at=2000.0)
    assert asked["at_label"] == "2k training examples seen"


def test_without_a_law_the_errors_are_shown_where_all_runs_have_been() -> None:
    entries = [entry("a", report("a", 1e4)), entry("b", report("b", 1e5, n=60))]
    silent = JointReport("too_few_sizes", "A third size is needed.")
    view = law_view(entries, silent, metric="val_loss", axis="samples", exclude=())
    assert view["sentence"] == "A third size is needed."
    assert view["at_data"] == pytest.approx(entries[1].points[-1][0], rel=1e-5)
    assert all(final["measured"] for final in view["finals"])
    assert view["left_out"] == []
    assert view["by_size"] is None
    far = NamedProjection("2x", 2e6, 5000.0, 1.4, doubts=("A third size is needed.", "Far."))
    told = JointReport("too_few_sizes", "A third size is needed.", projections=(far,))
    assert law_view(entries, told, metric="m", axis="samples", exclude=())["doubts"] == ["Far."]


def test_names_sort_as_people_read_them() -> None:
    assert sorted(["w10", "w9", "", "10", "9a", "ü"], key=natural) == ["", "9a", "10", "w9", "w10", "ü"]
