"""The Scaling tab in a real browser: what is drawn, what can be done with it, and what must stay inert."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from foretrain.report import (
    Band,
    CurveRegions,
    JointReport,
    LawFit,
    NamedProjection,
    PastForecast,
    Report,
    ScheduleNote,
)
from tab_browser import Tab, browser, tab
from tab_demo import demo

pytestmark = pytest.mark.browser
__all__ = ["browser", "tab"]
HOSTILE = ["<img src=x onerror=window.parent.hit=1>", "__proto__", "constructor", "w" * 200]

REGIONS = {
    "all": CurveRegions("irreducible", 5000.0, 20_000.0),
    "late": CurveRegions("irreducible", None, 48_000.0),
    "law": CurveRegions("power_law"),
    "none": None,
}


SCHEDULED = {
    "annealed": ("as planned", "annealed"),
    "level": ("not annealed", "not annealed"),
    "unknown": ("schedule unknown", "schedule unknown"),
}


LARGEST, FLAGGED = (demo.demo_report(n).run for n in (demo.SIZES[-1], demo.FLAGGED))


def joint_report(curves: Any, *, at_data: float | None = None) -> JointReport:
    """A canned law: what is tested here is how a law is shown, not how it is found."""
    if len(curves) < 3:
        return JointReport("too_few_sizes", "Two sizes do not fix a law of size: a third is needed.")
    xs = [1e4 * 10 ** (i / 10) for i in range(41)]
    ys = [demo.error_of(x, 5e4) for x in xs]
    return JointReport(
        "ok",
        runs=tuple(curve.run for curve in curves),
        fit=LawFit("chinchilla", {"E": 1.05}),
        by_size=Band(
            tuple(xs), tuple(ys), {"0.9": tuple(0.95 * y for y in ys)}, {"0.9": tuple(1.05 * y for y in ys)}
        ),
        at_data=5e4,
        projections=(NamedProjection("10x", 7e6, 5e4, 1.36, {"0.9": 1.3}, {"0.9": 1.42}),),
    )


@pytest.fixture(scope="module")
def logdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from torch.utils.tensorboard import SummaryWriter

    from foretrain.tensorboard.summary import write_report

    root: Path = tmp_path_factory.mktemp("runs")
    demo.write_demo(root)
    hostile = [demo.demo_report(20_000 + i, study="<b>study</b>") for i, _ in enumerate(HOSTILE)]
    for name, found in zip(HOSTILE, hostile, strict=True):
        writer = SummaryWriter(str(root / name))
        values = {**vars(found), "metric": "acc", "doubts": ("<script>window.parent.hit=1</script>",)}
        write_report(writer, Report(**values), 1)
        writer.close()
    for name, regions in REGIONS.items():
        writer = SummaryWriter(str(root / name))
        write_report(
            writer, Report(**{**vars(demo.demo_report(88_700)), "metric": "err", "regions": regions}), 1
        )
        writer.close()
    for name, kinds in SCHEDULED.items():
        writer = SummaryWriter(str(root / name))
        write_report(writer, scheduled_report(*kinds), 1)
        writer.close()
    return root


def scheduled_report(end: str, further: str) -> Report:
    """A run half way along its schedule: one kind of projection to its planned end, one beyond it."""
    found = demo.demo_report(88_700)
    far = demo.PLANNED * 1.0001
    kinds = [replace(p, kind=end if p.data < far else further) for p in found.projections]
    upto = sum(x <= far for x in found.curve.x) if further == "annealed" else len(found.curve.x)
    curve = found.curve
    cut = Band(
        curve.x[:upto],
        curve.median[:upto],
        {"0.9": curve.lower["0.9"][:upto]},
        {"0.9": curve.upper["0.9"][:upto]},
    )
    past = PastForecast(0.5, 2.0, {"0.9": 1.0}, {"0.9": 3.0}, 2.5)
    values = {"metric": "loss", "projections": tuple(kinds), "curve": cut, "track": (past,) * 4}
    state = {"state": "finished"} if further == "annealed" else {}
    return replace(found, **values, **state, schedule=ScheduleNote("followed", None, 9))


@pytest.fixture(scope="module")
def address(logdir: Path) -> Iterator[str]:
    patch = pytest.MonkeyPatch()
    patch.setattr("foretrain.analysis.joint_report", joint_report)
    with demo.tensorboard_url(logdir) as url:
        yield url
    patch.undo()


def test_the_runs_their_laws_and_the_projections_are_drawn(tab: Tab) -> None:
    assert tab.count(".chart .points") == 6
    assert tab.count(".chart .points.flagged") == 1
    assert tab.count(".chart .law:not(.beyond)") == 6
    assert tab.count(".chart .law.selected.beyond") == 1
    assert tab.count(".chart .band") == 1
    assert tab.count(".chart .projection") == 4
    assert tab.count(".chart .projection.planned") == 1
    guides = tab.frame.eval_on_selector_all(".guide-label", "all => all.map(e => e.textContent)")
    assert guides == ["planned end · 2x", "10x", "100x"]
    assert LARGEST in tab.text(".detail h2")
    assert re.search(r"At 10x the data .*90\s% between 1\.\d{3} and 1\.\d{3}\.", tab.text(".headline"))
    assert "The learning rate has not decayed yet" in tab.text(".doubts")


def test_the_axes_are_logarithmic_and_their_labels_do_not_touch(tab: Tab) -> None:
    ticks = tab.frame.eval_on_selector_all(
        ".chart .tick[text-anchor=middle]",
        """all => all.map(e => ({
            text: e.textContent, x: +e.getAttribute('x'), box: e.getBoundingClientRect()}))""",
    )
    at = {tick["text"]: tick["x"] for tick in ticks}
    assert at["100k"] - at["10k"] == pytest.approx(at["1M"] - at["100k"], abs=0.5)
    boxes = [tick["box"] for tick in ticks]
    assert all(a["right"] + 3 < b["left"] for a, b in itertools.pairwise(boxes))


def test_a_run_is_chosen_in_the_table_or_the_legend(tab: Tab) -> None:
    tab.frame.click(f'tbody button[title="{FLAGGED}"]')
    assert FLAGGED in tab.text(".detail h2")
    assert "lies above" in tab.text(".detail .flags")
    assert tab.count(".chart .points.flagged.selected") == 1
    smallest = demo.demo_report(demo.SIZES[0]).run
    tab.frame.click(f'.legend button[title="{smallest}"]')
    assert smallest in tab.text(".detail h2")
    assert tab.frame.evaluate("document.activeElement.dataset.key").startswith("legend")


def test_the_table_says_the_same_and_sorts(tab: Tab) -> None:
    rows = tab.frame.locator(".runs tbody tr")
    assert rows.count() == 6
    last = rows.last.inner_text()
    assert all(part in last for part in ("bytes-n697k", "697k", "50k", "ok"))
    assert re.search(r"1\.\d{3} – 1\.\d{3}", last)
    assert "flagged" in tab.frame.locator(".runs tr", has_text="n392k").inner_text()
    tab.frame.click(".runs th.last button")
    tab.frame.click(".runs th.last button")
    assert tab.frame.get_attribute(".runs th.last", "aria-sort") == "descending"
    assert "n392k" in rows.first.inner_text()


def test_the_size_axis_shows_the_law_across_the_runs(tab: Tab) -> None:
    tab.to_size()
    assert tab.count(".chart .final") == 6
    assert tab.count(".chart .final.flagged.unused") == 1
    assert tab.count(".chart .law.joint") == 2
    assert tab.count(".chart .band") == 1
    assert tab.count(".chart .projection .bar") == 1
    assert "bytes-n392k: flagged" in tab.text(".detail")
    assert "A model of 7M parameters is projected to reach val_loss 1.360" in tab.text(".headline")
    with tab.page.expect_response(re.compile("/law")):
        tab.frame.uncheck(".check input")
    tab.frame.wait_for_function("!document.querySelector('.final.unused')")
    assert "flagged" not in tab.text(".detail")


def test_the_filter_chooses_the_runs_and_their_law(tab: Tab) -> None:
    tab.to_size()
    tab.frame.fill("input[type=search]", "n15k|n41k")
    tab.frame.wait_for_selector(".plot .notice")
    assert "a third is needed" in tab.text(".plot .notice")
    assert tab.count(".runs tbody tr") == 2
    tab.frame.fill("input[type=search]", "(")
    assert tab.frame.get_attribute("input[type=search]", "aria-invalid") == "true"
    assert tab.count(".runs tbody tr") == 6
    tab.frame.fill("input[type=search]", "no such run")
    assert (
        "No run passes the filter" in tab.text(".plot") + tab.text(".runs")
        or tab.count(".runs tbody tr") == 0
    )


def test_values_are_read_by_pointer_and_by_keyboard(tab: Tab) -> None:
    tab.frame.hover(".chart .projection.planned .mark")
    assert "planned end" in tab.text(".tip")
    assert "90 %" in tab.text(".tip")
    tab.frame.focus(".chart")
    tab.page.keyboard.press("End")
    assert tab.text("[role=status]").startswith("100x, projected 1.")
    tab.page.keyboard.press("Home")
    assert "at 1.6k training examples seen" in tab.text("[role=status]")
    tab.page.keyboard.press("ArrowUp")
    assert FLAGGED in tab.text(".detail h2")
    tab.page.keyboard.press("Escape")
    assert tab.frame.locator(".tip").is_hidden()


def test_a_longer_annealed_run_is_another_mark_than_this_run_as_planned(tab: Tab) -> None:
    tab.frame.locator("label", has_text="Metric").locator("select").select_option("loss")
    tab.frame.wait_for_selector("h1:text-is('loss')")
    tab.frame.click('.legend button[title="annealed"]')
    counts = {kind: tab.count(f".chart .projection.kind-{kind}") for kind in ("as-planned", "annealed")}
    assert counts == {"as-planned": 2, "annealed": 2}, "2x lies at the planned end"
    shapes = {
        kind: tab.frame.get_attribute(f".kind-{kind} .mark", "d") for kind in ("as-planned", "annealed")
    }
    assert shapes["as-planned"] and "h9v9" in shapes["as-planned"]
    assert shapes["annealed"] and "h9v9" not in shapes["annealed"]
    keys = tab.frame.eval_on_selector_all(".keys .key", "all => all.map(e => e.textContent)")
    keys = [key for key in keys if key not in ("learning rate", "epoch")]
    assert keys[-2:] == ["as planned", "annealed: longer, with the schedule stretched"]
    guides = tab.frame.eval_on_selector_all(".guide-label", "all => all.map(e => e.textContent)")
    assert guides == ["planned end · 2x", "10x annealed", "100x annealed"]

    # The band ends with the plan: no further right than the mark at the planned end.
    right = "e => e.getBoundingClientRect().right"
    band, far = (tab.frame.eval_on_selector(f".chart {mark}", right) for mark in (".band", ".kind-annealed"))
    planned = tab.frame.eval_on_selector(
        ".projection.planned .mark",
        "e => e.getBoundingClientRect().left + e.getBoundingClientRect().width / 2",
    )
    assert band <= planned + 1 < far - 50

    kinds = [
        tab.frame.locator(".figures tr", has_text=name).locator(".kind").all_inner_texts()
        for name in ("now", "2x", "10x")
    ]
    assert kinds == [[], ["as planned"], ["annealed"]]
    assert "annealed: schedule stretched to end here" in hovered(tab, ".kind-annealed .mark")

    tab.frame.check("text=Only up to the planned end")
    assert tab.count(".chart .kind-annealed") == 0 and tab.count(".chart .kind-as-planned") == 2
    wide = tab.frame.eval_on_selector(".chart .band", "e => e.getBoundingClientRect().width")
    tab.frame.uncheck("text=Only up to the planned end")
    narrow = tab.frame.eval_on_selector(".chart .band", "e => e.getBoundingClientRect().width")
    assert wide > 1.5 * narrow


def hovered(tab: Tab, mark: str) -> str:
    tab.frame.hover(f".chart {mark}")
    return tab.text(".tip")


@pytest.mark.parametrize(
    ("run", "key"),
    [("level", "projection, not annealed"), ("unknown", "projection, schedule unknown")],
)
def test_what_is_not_annealed_says_so(tab: Tab, run: str, key: str) -> None:
    tab.frame.locator("label", has_text="Metric").locator("select").select_option("loss")
    tab.frame.wait_for_selector("h1:text-is('loss')")
    tab.frame.click(f'.legend button[title="{run}"]')
    assert key in tab.text(".keys")
    assert "as planned" not in tab.text(".keys")
    assert tab.frame.locator("text=Only up to the planned end").is_hidden()
    row = tab.frame.locator(".runs tbody tr", has=tab.frame.locator(f'button[title="{run}"]'))
    assert row.locator("td.ten .kind").inner_text() == SCHEDULED[run][1]


def test_the_track_record_of_the_study_is_one_line(tab: Tab) -> None:
    assert tab.frame.locator(".track").is_hidden()
    tab.frame.locator("label", has_text="Metric").locator("select").select_option("loss")
    tab.frame.wait_for_selector("h1:text-is('loss')")
    assert tab.text(".track") == (
        "Of 4 past forecasts of this study's finished runs, 4 were inside their 90 % interval."
    )


def test_the_regions_of_the_chosen_run_are_marked(tab: Tab) -> None:
    assert tab.count(".chart .region-shade") == tab.count(".keys .key-region") == 0
    tab.frame.locator("label", has_text="Metric").locator("select").select_option("err")
    tab.frame.wait_for_selector("h1:text-is('err')")
    cells = {
        name: tab.frame.locator(".runs tbody tr", has=tab.frame.locator(f'button[title="{name}"]'))
        for name in REGIONS
    }
    now = {name: cell.locator("td.region").inner_text() for name, cell in cells.items()}
    assert now == {"all": "irreducible", "late": "irreducible", "law": "power law", "none": "–"}

    tab.frame.click('.legend button[title="all"]')
    labels = "all => all.map(e => e.textContent)"
    found = tab.frame.eval_on_selector_all(".chart .region-label", labels)
    assert found == ["power law from 5k", "irreducible from 20k"]
    ticks = tab.frame.eval_on_selector_all(
        ".chart .tick[text-anchor=middle]", "all => all.map(e => [e.textContent, +e.getAttribute('x')])"
    )
    at = dict(ticks)
    edges = tab.frame.eval_on_selector_all(
        ".chart .region-edge", "all => all.map(e => +e.getAttribute('x1'))"
    )
    decade = at["100k"] - at["10k"]
    assert edges == pytest.approx(
        [at["10k"] - decade * math.log10(2), at["10k"] + decade * math.log10(2)], abs=0.5
    )
    assert tab.count(".chart .region-shade") == 2 and tab.count(".keys .key-region") == 1
    assert "In the irreducible region from 20k training examples seen on" in tab.text(".detail .after")

    for name, marks in (("late", 1), ("law", 0), ("none", 0)):
        tab.frame.click(f'.legend button[title="{name}"]')
        assert tab.count(".chart .region-edge") == tab.count(".chart .region-label") == marks
        boxes = tab.frame.eval_on_selector_all(
            ".chart svg, .chart .region-label",
            "all => all.map(e => [e.getBoundingClientRect().left, e.getBoundingClientRect().right])",
        )
        assert all(boxes[0][0] <= left and right <= boxes[0][1] for left, right in boxes)
    tab.to_size()
    assert tab.count(".chart .region-label") == 0


def test_names_and_messages_are_inert(tab: Tab) -> None:
    tab.frame.locator("label", has_text="Metric").locator("select").select_option("acc")
    tab.frame.wait_for_selector("h1:text-is('acc')")
    titles = tab.frame.eval_on_selector_all(".runs tbody button", "all => all.map(e => e.title)")
    assert sorted(titles) == sorted(HOSTILE)
    for title in HOSTILE:
        tab.frame.evaluate(
            "t => [...document.querySelectorAll('tbody button')].find(e => e.title === t).click()", title
        )
        assert title in tab.text(".detail h2")
    assert "<script>" in tab.text(".doubts")
    assert tab.count("main img, main script") == 0
    assert tab.page.evaluate("window.hit") is None
    tab.to_size()
    assert tab.count(".chart .final") == len(HOSTILE)
    width = tab.frame.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width[0] <= width[1]


def test_dark_mode_follows_tensorboard(browser: Any, address: str) -> None:
    tab = Tab(browser, address, dark=True, hosted=True)
    shade = "getComputedStyle(document.querySelector('.card')).backgroundColor"
    assert tab.frame.evaluate("document.documentElement.dataset.theme") == "dark"
    dark = tab.frame.evaluate(shade)
    tab.page.evaluate("document.body.classList.remove('dark-mode')")
    tab.frame.wait_for_selector("html[data-theme=light]")
    assert tab.frame.evaluate(shade) != dark
    assert tab.complaints == []
    tab.page.context.close()


def test_a_narrow_window_needs_no_sideways_scrolling(browser: Any, address: str) -> None:
    tab = Tab(browser, address, width=420)
    for prepare in (lambda: None, tab.to_size):
        prepare()
        width = tab.frame.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert width[0] <= width[1]
    assert tab.frame.locator(".runs td.ten").first.bounding_box()["width"] > 200
    tab.page.context.close()


def test_the_page_names_itself(tab: Tab) -> None:
    assert tab.frame.evaluate("[document.title, document.documentElement.lang]") == ["Scaling", "en"]
    assert tab.frame.get_attribute(".chart", "aria-label").startswith(
        "val_loss against training examples seen"
    )


def test_a_fault_of_the_server_is_told_and_can_be_retried(tab: Tab) -> None:
    tab.page.route("**/runs*", lambda route: route.fulfill(status=500, body="<b>broken</b>"))
    tab.frame.evaluate("document.querySelector('select').dispatchEvent(new Event('change'))")
    tab.frame.wait_for_selector("[role=alert]:not([hidden])")
    assert "<b>broken</b>" in tab.text("[role=alert]")
    tab.page.unroute("**/runs*")
    tab.frame.click("text=Try again")
    tab.frame.wait_for_selector("[role=alert]", state="hidden")
    assert tab.count(".chart .points") == 6
    tab.complaints.clear()  # the browser itself reports the 500


def test_a_late_answer_does_not_replace_a_newer_one(tab: Tab) -> None:
    held: list[Any] = []

    def hold(route: Any) -> None:
        if "metric=acc" in route.request.url:
            held.append(route)
        else:
            route.continue_()

    tab.page.route("**/runs*", hold)
    choose = tab.frame.locator("label", has_text="Metric").locator("select")
    choose.select_option("acc")
    with tab.page.expect_response(re.compile("metric=val_loss")):
        choose.select_option("val_loss")
    while not held:
        tab.page.wait_for_timeout(50)
    held[0].continue_()
    tab.page.wait_for_timeout(300)
    assert tab.text("h1") == "val_loss"


def test_the_tab_follows_tensorboards_reload(browser: Any, address: str) -> None:
    tab = Tab(browser, address, hosted=True)
    assert tab.page.evaluate("document.querySelector('iframe').title") == "Scaling"
    with tab.page.expect_response(re.compile("plugin/foretrain/runs")):
        tab.page.click("[aria-label*='Reload'], .reload-button")
    assert tab.count(".chart .points") == 6
    asked: list[str] = []
    tab.page.on("request", lambda request: asked.append(request.url))
    tab.page.evaluate("location.hash = '#scalars'")  # TensorBoard keeps the frame, without height
    tab.frame.wait_for_function("innerHeight === 0")
    tab.page.click("[aria-label*='Reload'], .reload-button")
    tab.page.wait_for_timeout(500)
    assert not [url for url in asked if "plugin/foretrain" in url]
    with tab.page.expect_response(re.compile("plugin/foretrain/runs")):
        tab.page.evaluate("location.hash = '#foretrain'")
    assert tab.complaints == []
    tab.page.context.close()


def test_without_runs_the_page_shows_how_to_write_some(browser: Any, address: str) -> None:
    context = browser.new_context()
    page = context.new_page()
    empty = {"metric": None, "metrics": [], "runs": [], "version": "", "hidden": 0}
    page.route(
        "**/runs*", lambda route: route.fulfill(body=json.dumps(empty), content_type="application/json")
    )
    page.goto(f"{address}data/plugin_entry.html?name=foretrain")
    page.wait_for_selector(".state:not([hidden]) code")
    frame = page.main_frame
    assert "ScalingLawMonitor" in frame.locator(".state:not([hidden]) code").inner_text()
    assert frame.locator(".body").is_hidden()
    context.close()
