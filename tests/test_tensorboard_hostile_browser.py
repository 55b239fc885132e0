"""Fifty hostile names in every view of the Scaling tab, in a real browser: none runs or hides another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from foretrain.flags import Flag, FlagKind
from hostile_names import HOSTILE_NAMES
from tab_browser import Tab, browser
from tab_demo import demo
from test_tensorboard_hostile import Page, tensor

pytestmark = pytest.mark.browser
__all__ = ["browser"]
ROW = "[data-key^='row ']"
ROUTES = ("runs", "law", "frontier", "answer", "run")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root: Path = tmp_path_factory.mktemp("runs")
    demo.write_demo(root)
    with demo.tensorboard_url(root) as url:
        yield url


def test_no_name_of_a_run_a_study_or_a_flag_runs(browser: Any, address: str) -> None:
    tensors = {}
    for i, name in enumerate(HOSTILE_NAMES):
        flag = Flag(FlagKind.SPIKE, 1, name, {name[:20]: 1.0})
        report = demo.demo_report(20_000 + 400 * i)
        report = replace(report, run=name, study=name if i > 45 else HOSTILE_NAMES[0], doubts=(name,))
        tensors[name] = tensor(replace(report, flags=(flag,) if i % 2 else (), sentence=name).to_json())
    told = Page(tensors, HOSTILE_NAMES[1])
    tab = Tab(browser, address)

    def answer(route: Any) -> None:
        asked = urlsplit(route.request.url)
        route.fulfill(json=told.ask("/" + asked.path.rsplit("/", 1)[1], f"?{asked.query}"))

    tab.page.route(lambda url: urlsplit(url).path.split("/plugin/foretrain/")[-1] in ROUTES, answer)
    tab.page.reload()
    tab.page.wait_for_selector(demo.DRAWN, state="attached")
    tab.ready()
    shown = tab.frame.eval_on_selector_all(ROW, "all => all.map(e => e.title)")
    assert sorted(shown) == sorted(HOSTILE_NAMES[:46])
    assert tab.text("h1") == HOSTILE_NAMES[1]
    studies = tab.frame.eval_on_selector_all("select option", "all => all.map(e => e.value)")
    assert {name[:399] for name in HOSTILE_NAMES[46:]} <= {name[:399] for name in studies}
    for view in ("Flags", "Model size", "Frontier", "Run", "Curves"):
        tab.turn_to(view)
        assert tab.count("main img, main script, main iframe, main style, main base, main a[href]") == 0
        assert tab.frame.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    for row in range(0, 46, 5):
        name = shown[row]
        tab.frame.locator(ROW).nth(row).click()
        tab.ready()
        # The page shows a name as it is, but for what a line of text cannot hold.
        assert (
            tab.text(".detail h2").split() == name.replace("\0", "\ufffd").split() or not name.isprintable()
        )
        assert tab.frame.evaluate("window.hit === undefined && window.parent.hit === undefined")
    assert tab.complaints == []
    tab.page.context.close()
