"""The Scaling tab's views of compute, of one run and of flags, and all that can be done with a view."""

from __future__ import annotations

import csv
import io
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from foretrain.flags import Flag, FlagKind
from tab_browser import Tab, browser, tab
from tab_demo import demo

pytestmark = pytest.mark.browser
__all__ = ["browser", "tab"]

RUNS = {n: demo.demo_report(n).run for n in demo.SIZES}
LARGEST, FLAGGED, SMALLEST = RUNS[demo.SIZES[-1]], RUNS[demo.FLAGGED], RUNS[demo.SIZES[0]]
ENDED = "ended"
HOSTILE = "=<img src=x onerror=window.parent.hit=1>,\"'&p.foretrain.view=flags#"
VIEWS = ("Curves", "Model size", "Frontier", "Run", "Flags")


@pytest.fixture(scope="module")
def logdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from torch.utils.tensorboard import SummaryWriter

    from foretrain.tensorboard.summary import write_report

    root: Path = tmp_path_factory.mktemp("runs")
    demo.write_demo(root)
    other = demo.demo_report(20_000, study="hostile")
    odd = Flag(FlagKind.NOT_FINITE, 7, "<script>window.parent.hit=1</script>", {"<b>": 1.0})
    for name, found in {
        ENDED: demo.demo_report(60_000, seen=demo.PLANNED, study="ended"),
        HOSTILE: replace(other, flags=(odd,)),
    }.items():
        writer = SummaryWriter(str(root / name))
        write_report(writer, replace(found, metric="other"), 1)
        writer.close()
    return root


@pytest.fixture(scope="module")
def address(logdir: Path) -> Iterator[str]:
    with demo.tensorboard_url(logdir) as url:
        yield url


def opened(browser: Any, address: str, link: str, **how: Any) -> Tab:
    tab = Tab(browser, address, link="".join(f"&p.foretrain.{item}" for item in link.split()), **how)
    tab.ready()
    return tab


def hash_of(tab: Tab) -> str:
    return str(tab.page.evaluate("location.hash"))


def ticks(tab: Tab, panel: str) -> dict[str, float]:
    found = tab.frame.eval_on_selector_all(
        f"[data-panel={panel}] .tick[text-anchor=middle]",
        "all => all.map(e => [e.textContent, +e.getAttribute('x')])",
    )
    return dict(found)


def dots(tab: Tab, panel: str) -> int:
    """How many points are drawn: they are one path, each begins with an M."""
    return str(tab.frame.get_attribute(f"[data-panel={panel}] .points", "d")).count("M")


def test_the_frontier_shows_the_best_size_for_a_budget(tab: Tab) -> None:
    tab.turn_to("Frontier")
    tab.frame.wait_for_selector(".detail .headline")
    first = tab.text(".detail .headline")
    assert re.match(r"1\.34e\+14 FLOPs are best spent on \d+k parameters \(", first)
    assert tab.count("[data-panel=frontier] .band") == tab.count("[data-panel=frontier] .law.joint") == 1
    assert tab.count("[data-panel=frontier] .points.every") == 5, "the flagged run is left out"
    assert tab.count("[data-panel=isoflop] .equal") >= 2
    assert tab.count("[data-panel=isoflop] .star") >= 1
    assert "bytes-n392k: flagged" in tab.text(".detail")
    at = ticks(tab, "frontier")
    assert at["1e12"] - at["1e11"] == pytest.approx(at["1e13"] - at["1e12"], abs=0.5)
    px = tab.frame.eval_on_selector("[data-panel=frontier] .guide", "e => +e.getAttribute('x1')")

    tab.frame.fill("label:has-text('Compute, FLOPs') input[type=text]", "1e13")
    tab.frame.wait_for_function(
        "document.querySelector('.detail .headline')?.textContent.startsWith('1e+13')"
    )
    moved = tab.frame.eval_on_selector("[data-panel=frontier] .guide", "e => +e.getAttribute('x1')")
    assert moved == pytest.approx(at["1e13"], abs=0.5) and moved < px
    assert tab.frame.input_value("input[type=range]") != "400"

    tab.frame.locator("input[type=range]").fill("400")
    tab.frame.wait_for_function(
        "!document.querySelector('.detail .headline')?.textContent.startsWith('1e+13')"
    )
    assert "compute=1340000000000000" in hash_of(tab), "the slider ends at 100 times the largest run"

    tab.frame.uncheck("text=Leave flagged runs out of the law")
    tab.frame.wait_for_selector(".detail :text('bytes-n392k: it is past its best')")


def test_two_sizes_cannot_tell_and_say_what_to_run(tab: Tab) -> None:
    tab.turn_to("Frontier")
    tab.frame.fill("input[type=search]", "n15k|n41k")
    tab.frame.wait_for_selector(".detail .notice")
    told = tab.frame.locator(".detail").inner_text()
    assert len(re.findall(r"Run [\d.e+]+ parameters on [\d.e+]+ next", told)) == 1, "one advice, not two"
    assert tab.count("[data-panel=frontier] .law.joint") == 0
    assert (
        "No amount of compute was reached by 4 sizes"
        in tab.frame.locator("[data-panel=isoflop]").inner_text()
    )


def test_one_run_in_full(tab: Tab) -> None:
    tab.turn_to("Run")
    assert tab.count("[data-panel=run] .left-out") == 2, "the third was never at any data"
    assert tab.count("[data-panel=run] .mark-decay") == 2
    assert tab.count("[data-panel=run] .mark-epoch") == 2
    labels = tab.frame.eval_on_selector_all(
        "[data-panel=run] .event-label", "all => all.map(e => e.textContent)"
    )
    assert labels == ["rate falls", "rate has fallen"]
    assert "not finite: 2" in tab.text(".detail")
    off = tab.frame.eval_on_selector(
        "[data-panel=residuals] .points", "e => e.getAttribute('d').split('M').length - 1"
    )
    assert off == 22
    assert tab.count("[data-panel=forecasts] .law.as-told") == 1
    told = len(demo.end_forecasts(demo.demo_report(demo.SIZES[-1])))
    marks = tab.frame.eval_on_selector(
        "[data-panel=forecasts] .points", "e => e.getAttribute('d').split('M').length - 1"
    )
    assert marks == told == 8
    tab.frame.hover("[data-panel=run] .left-out >> nth=1")
    assert "left out: not finite" in tab.text("[data-panel=run] .tip")
    tab.frame.click(f'.legend button[title="{FLAGGED}"]')
    tab.ready()
    flags = tab.frame.locator(".detail .flags").inner_text()
    assert "above family, warning, since step 1.1k" in flags
    assert "predicted 1.47" in flags


def test_a_finished_run_shows_what_came_of_its_forecasts(browser: Any, address: str) -> None:
    tab = opened(browser, address, f"view=run metric=other study=ended run={ENDED}")
    assert tab.count("[data-panel=forecasts] .replayed") == 4
    assert tab.count("[data-panel=forecasts] .came") == 1
    rows = tab.frame.locator(".detail table.figures >> nth=1").inner_text()
    assert rows.count("inside") == 4
    assert "What came: 1." in rows
    tab.page.context.close()
    assert tab.complaints == []


def test_the_flagged_runs_are_listed_and_lead_to_their_page(tab: Tab) -> None:
    tab.turn_to("Flags")
    rows = tab.frame.locator(".flags-table tbody tr")
    assert rows.count() == 1
    told = rows.first.inner_text()
    assert all(
        part in told for part in ("bytes-n392k", "above family", "warning", "1.1k", "392k", "lies above 1.43")
    )
    for key in ("since", "kind", "since"):
        tab.frame.click(f".flags-table th.{key} button")
    tab.frame.click(".flags-table th.since button")
    assert tab.frame.get_attribute(".flags-table th.since", "aria-sort") == "descending"
    tab.frame.click(".flags-table tbody button")
    tab.ready()
    assert FLAGGED in tab.text(".detail h2")
    assert tab.frame.get_attribute(".views button:text-is('Run')", "aria-pressed") == "true"
    tab.turn_to("Flags")
    tab.frame.fill("input[type=search]", "n697k")
    assert "No run shown here is flagged" in tab.text(".flags-table")


def test_a_link_reopens_the_same_view(browser: Any, address: str) -> None:
    link = f"view=run metric=val_loss run={quote(SMALLEST, safe='')} filter=n15k%7Cn4 flagged=in data=2e5"
    tab = opened(browser, address, link, hosted=True)
    assert tab.frame.get_attribute(".views button:text-is('Run')", "aria-pressed") == "true"
    assert SMALLEST in tab.text(".detail h2")
    assert tab.frame.input_value("input[type=search]") == "n15k|n4"
    assert tab.count(".runs tbody tr") == 2
    assert tab.frame.input_value("label.field:has-text('Data') input[type=text]") == "200000"
    assert "By its own law bytes-n15k reaches val_loss 1." in tab.text(".told")
    assert hash_of(tab).startswith("#foretrain&p.foretrain.view=run&")
    tab.turn_to("Model size")
    assert tab.frame.locator("text=Leave flagged runs out of the law").is_checked() is False
    tab.frame.fill("input[type=search]", "")
    tab.frame.wait_for_function("!window.parent.location.hash.includes('filter')")
    address_now = tab.page.url
    assert "p.foretrain.view=size" in address_now
    again = tab.page.context.new_page()
    again.goto(address_now)
    frame = demo.open_tab(again, address, address_now.partition("#foretrain")[2])
    assert frame.get_attribute(".views button:text-is('Model size')", "aria-pressed") == "true"
    again.evaluate("location.hash = '#scalars'")
    frame.evaluate("document.querySelector('.views button').click()")  # as a late answer would, unseen
    again.wait_for_timeout(300)
    assert again.evaluate("location.hash") == "#scalars", "the address of another tab is left alone"
    tab.page.context.close()
    assert tab.complaints == []


@pytest.mark.parametrize(
    "link",
    ["view=nonsense", "run=%E0%A4%A view=", "data=-1 compute=x filter=(", "metric=no study=no along=no"],
)
def test_an_odd_link_opens_the_tab_all_the_same(browser: Any, address: str, link: str) -> None:
    tab = opened(browser, address, link)
    assert tab.count(".chart .points") == 6
    tab.page.context.close()
    assert tab.complaints == []


def test_the_horizontal_axis_can_be_what_else_was_counted(tab: Tab) -> None:
    choose = tab.frame.locator("label", has_text="Horizontal axis").locator("select")
    assert choose.locator("option").all_inner_texts() == [
        "training examples seen",
        "tokens seen",
        "distinct training examples seen",
        "training FLOPs",
        "optimizer steps",
        "passes over the training data",
    ]
    choose.select_option("steps")
    tab.frame.wait_for_function("document.querySelector('.chart .axis').textContent === 'optimizer steps'")
    assert "val_loss against optimizer steps" in tab.text(".card-head h2")
    seen = tab.frame.locator(".runs tbody tr", has_text="bytes-n697k").locator("td.data").inner_text()
    assert seen == "3.12k" or seen == "3.13k", "50,000 examples in batches of 16"
    assert "along=steps" in hash_of(tab)


def test_targets_are_typed_and_answered(tab: Tab) -> None:
    field = {
        name: f"label.field:has-text('{name}') input[type=text]"
        for name in ("Data", "Parameters", "Error wanted")
    }
    tab.frame.fill(field["Data"], "x")
    assert tab.frame.get_attribute(field["Data"], "aria-invalid") is not None
    tab.frame.fill(field["Data"], "1M")
    tab.frame.wait_for_selector(".told p:has-text('697k parameters on 1M')")
    assert tab.text(".told").startswith("By its own law bytes-n697k reaches val_loss 1.")
    assert tab.count(".chart .guide.asked") == 1
    tab.frame.fill(field["Error wanted"], "1.3")
    tab.frame.wait_for_selector(".told p:has-text('Compute for 1.3')")
    told = tab.frame.locator(".told").inner_text()
    assert "Data for 1.3 with 6.97e+05 parameters" in told
    assert "Size for 1.3 on 1e+06 of data" in told
    tab.frame.fill("input[type=range]", "200")
    tab.frame.wait_for_function("!document.querySelector('.told').textContent.includes('on 1M')")
    slid = tab.frame.input_value(field["Data"])
    assert float(slid) == pytest.approx(50_000 * 1000**0.5, rel=0.01)
    tab.frame.click("text=Clear")
    tab.frame.wait_for_function("!document.querySelector('.told').textContent")
    assert "data=" not in hash_of(tab)


def place_of_chart(tab: Tab) -> dict[str, float]:
    """Where the chart is once all has come: the marks of the schedule come last and draw it anew."""
    tab.frame.wait_for_selector("[data-panel=curves] .mark-decay", state="attached")
    box = tab.frame.locator("[data-panel=curves] .chart svg").bounding_box()
    assert box is not None
    return box


def test_a_chart_is_zoomed_by_dragging_by_the_wheel_and_by_keys(tab: Tab) -> None:
    box = place_of_chart(tab)
    full = ticks(tab, "curves")
    assert "5M" in full
    tab.page.mouse.move(box["x"] + 80, box["y"] + 40)
    tab.page.mouse.down()
    tab.page.mouse.move(box["x"] + 200, box["y"] + 150, steps=4)
    assert tab.count(".brush") == 1
    tab.page.mouse.up()
    zoomed = ticks(tab, "curves")
    assert "5M" not in zoomed and zoomed != full
    assert tab.count(".brush") == 0
    tab.page.keyboard.down("Control")
    tab.page.mouse.wheel(0, -200)
    tab.page.keyboard.up("Control")
    nearer = ticks(tab, "curves")
    assert nearer != zoomed
    tab.frame.focus(".chart")
    tab.page.keyboard.press("Shift+ArrowRight")
    assert ticks(tab, "curves") != nearer
    tab.frame.click("text=Reset zoom")
    assert ticks(tab, "curves") == full
    assert tab.frame.locator("text=Reset zoom").is_hidden()
    for key, back in (("+", "0"), ("-", "0")):
        tab.page.keyboard.press(key)
        assert ticks(tab, "curves") != full
        tab.page.keyboard.press(back)
        assert ticks(tab, "curves") == full
    assert LARGEST in tab.text(".detail h2"), "a drag chooses no run"


def test_sizes_are_compared_at_other_amounts_of_data(tab: Tab) -> None:
    tab.turn_to("Model size")
    assert tab.count(".slice") == tab.count(".slice-label") == 2
    assert "at 50k" in tab.text(".detail .facts")
    assert tab.frame.locator(".key-slice").is_visible()
    numbers = downloaded(tab, "size", "CSV").decode()
    assert numbers.count("measured at 12.5k") == 5, "the flagged run is left out"
    tab.frame.locator("[aria-label=Ask] label:has-text('Data') input").fill("20k")
    tab.frame.wait_for_selector(".detail .facts:has-text('at 20k')")
    assert "p.foretrain.data=20000" in hash_of(tab)


def test_the_schedule_of_the_chosen_run_is_marked_on_its_curve(tab: Tab) -> None:
    tab.frame.wait_for_selector(".mark-decay", state="attached")
    labels = tab.frame.locator("[data-panel=curves] .event-label").all_text_contents()
    assert "rate falls" in labels
    assert tab.count("[data-panel=curves] .mark-epoch") >= 2
    tab.frame.select_option("label:has-text('Horizontal axis') select", "tokens")
    tab.ready()
    assert tab.count(".mark-decay") == 0, "the marks have their places on the data axis"


def test_two_fingers_zoom_and_a_tap_chooses(tab: Tab) -> None:
    box = place_of_chart(tab)
    session = tab.page.context.new_cdp_session(tab.page)
    session.send("Emulation.setTouchEmulationEnabled", {"enabled": True, "maxTouchPoints": 2})

    def touch(kind: str, *places: tuple[float, float]) -> None:
        points = [{"x": box["x"] + x, "y": box["y"] + y, "id": i} for i, (x, y) in enumerate(places)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    def place(tick: str) -> float:
        return ticks(tab, "curves")[tick]

    full = ticks(tab, "curves")
    left, right = full["10k"], full["100k"]
    touch("touchStart", (left, 150))
    touch("touchStart", (left, 150), (right, 250))
    touch("touchMove", (left - 20, 140), (right + 40, 270))
    touch("touchEnd")
    # The middle moves by 10 pixels, and all is wider by how much farther the fingers are apart.
    wider = ((right - left + 60) ** 2 + 130**2) ** 0.5 / ((right - left) ** 2 + 100**2) ** 0.5
    assert place("100k") - place("10k") == pytest.approx(wider * (right - left), rel=0.01)
    assert (place("100k") + place("10k")) / 2 == pytest.approx((left + right) / 2 + 10, abs=1.5)
    assert LARGEST in tab.text(".detail h2"), "two fingers choose no run"
    tab.frame.click("text=Reset zoom")
    assert ticks(tab, "curves") == full
    d = str(tab.frame.locator(".points.dot.other").first.get_attribute("d"))
    x, y = map(float, re.findall(r"M([\d.]+) ([\d.]+)", d)[0])
    touch("touchStart", (x, y))
    touch("touchEnd")
    assert LARGEST not in tab.text(".detail h2")
    assert ticks(tab, "curves") == full


def downloaded(tab: Tab, panel: str, kind: str) -> bytes:
    with tab.page.expect_download() as found:
        tab.frame.click(f"[data-panel={panel}] [aria-label='Download this chart as {kind}']")
    assert found.value.suggested_filename == f"foretrain-{panel}.{kind.lower()}"
    return Path(found.value.path()).read_bytes()


def test_a_chart_is_saved_as_numbers_and_as_a_picture(tab: Tab) -> None:
    rows = list(csv.DictReader(io.StringIO(downloaded(tab, "curves", "CSV").decode())))
    own = [row for row in rows if row["run"] == LARGEST and row["kind"] == "measured"]
    truth = demo.demo_report(demo.SIZES[-1]).points
    assert [float(row["val_loss"]) for row in own] == pytest.approx([y for _, y in truth], rel=1e-4)
    assert any(row["kind"].startswith("projected: 10x") and row["lower 90 %"] for row in rows)
    picture = ElementTree.fromstring(downloaded(tab, "curves", "SVG"))
    texts = [element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert "val_loss against training examples seen" in texts
    band = next(e for e in picture.iter() if e.get("class") == "band")
    assert "fill:" in band.get("style", ""), "it needs no style sheet"
    assert downloaded(tab, "curves", "PNG")[:8] == b"\x89PNG\r\n\x1a\n"
    for view, panel in (("Frontier", "frontier"), ("Run", "residuals"), ("Run", "forecasts")):
        tab.turn_to(view)
        assert len(downloaded(tab, panel, "CSV").decode().splitlines()) > 5


def test_hostile_names_are_inert_in_every_view_link_and_file(browser: Any, address: str) -> None:
    tab = opened(browser, address, "metric=other study=hostile")
    tab.frame.click(".legend button")
    assert tab.frame.get_attribute(".legend button", "title") == HOSTILE
    for view in VIEWS:
        tab.turn_to(view)
        assert tab.count("main img, main script") == 0
    assert "<script>" in tab.text(".flags-table")
    tab.turn_to("Run")
    told = hash_of(tab)
    assert told.count("p.foretrain.view=") == 1 and "run=" in told
    rows = list(csv.reader(io.StringIO(downloaded(tab, "run", "CSV").decode())))
    assert rows[1][0] == "'" + HOSTILE, "a spreadsheet takes it for a text"
    tab.page.reload()
    tab.page.wait_for_selector(demo.DRAWN, state="attached")
    tab.ready()
    assert HOSTILE in tab.text(".detail h2")
    assert tab.page.evaluate("window.hit") is None
    tab.page.context.close()
    assert tab.complaints == []


@pytest.mark.parametrize(("width", "dark"), [(1600, False), (420, True)], ids=["wide light", "narrow dark"])
def test_every_view_is_accessible_and_needs_no_sideways_scrolling(
    browser: Any, address: str, width: int, dark: bool
) -> None:
    axe = pytest.importorskip(
        "axe_playwright_python", reason="needs axe-core: pip install axe-playwright-python"
    )
    script = (Path(axe.__file__).parent / "axe.min.js").read_text()
    tab = opened(browser, address, "", width=width, dark=dark)
    tab.frame.evaluate(script)
    for view in VIEWS:
        tab.turn_to(view)
        found = tab.frame.evaluate("axe.run(document.querySelector('main'))")
        assert found["passes"], "axe looked at nothing"
        told = [
            (v["id"], v["nodes"][0]["html"][:200], v["nodes"][0]["failureSummary"])
            for v in found["violations"]
        ]
        assert told == [], view
        size = tab.frame.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert size[0] <= size[1], view
    tab.page.context.close()
    assert tab.complaints == []


def test_of_many_runs_the_table_shows_the_first_and_all_when_asked(tab: Tab) -> None:
    def many(route: Any) -> None:
        view = route.fetch().json()
        view["runs"] = [{**view["runs"][i % 6], "name": f"run{i}"} for i in range(260)]
        route.fulfill(json=view)

    tab.page.route("**/foretrain/runs*", many)
    tab.page.reload()
    tab.page.wait_for_selector(demo.DRAWN, state="attached")
    assert tab.count(".runs:not(.flags-table) tbody tr") == 200
    assert tab.count(".chart .points") == 260
    assert tab.count(".chart .law:not(.beyond)") == 1, "of so many only the chosen one's"
    tab.frame.click("text=Show all 260 runs")
    assert tab.count(".runs:not(.flags-table) tbody tr") == 260
    tab.page.unroute("**/foretrain/runs*")


@pytest.mark.parametrize("route", ["frontier", "run", "answer"])
def test_a_fault_behind_a_view_is_told_and_can_be_retried(tab: Tab, route: str) -> None:
    tab.page.route(f"**/foretrain/{route}?*", lambda r: r.fulfill(status=500, body="<b>broken</b>"))
    if route == "run":  # another one than the curves have asked for, who show all the same
        tab.frame.click(f'.legend button[title="{SMALLEST}"]')
        tab.ready()
        assert tab.frame.locator("[role=alert]").is_hidden() and tab.count(".points.selected") == 1
    tab.frame.click(f".views button:text-is('{'Run' if route == 'run' else 'Frontier'}')")
    tab.frame.wait_for_selector("[role=alert]:not([hidden])")
    assert "<b>broken</b>" in tab.text("[role=alert]")
    tab.page.unroute(f"**/foretrain/{route}?*")
    tab.frame.click("text=Try again")
    tab.frame.wait_for_selector("[role=alert]", state="hidden")
    tab.ready()
    assert tab.count("[data-panel]") >= 2
    tab.complaints.clear()  # the browser itself reports the 500
