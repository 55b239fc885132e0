"""The Scaling tab behind a path prefix and of named directories, and a run that begins while it is open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from foretrain.tensorboard.summary import replace_report
from tab_browser import Tab, browser
from tab_demo import demo

pytestmark = pytest.mark.browser
__all__ = ["browser"]


def put(root: Path, params: int) -> str:
    report = demo.demo_report(params)
    (root / report.run).mkdir(parents=True)
    replace_report(root / report.run, report)
    return str(report.run)


def test_a_new_run_comes_with_the_reload_behind_a_prefix(browser: Any, tmp_path: Path) -> None:
    from tensorboard import program

    first, second = tmp_path / "first", tmp_path / "second"
    names = {f"a/{put(first, demo.SIZES[0])}", f"b/{put(second, demo.SIZES[1])}"}
    server = program.TensorBoard()
    server.configure(
        argv=[
            *("tensorboard", "--logdir_spec", f"a:{first},b:{second}", "--path_prefix", "/deep/board"),
            *("--port", "0", "--reload_interval", "1", "--load_fast", "false"),
        ]
    )
    address = server.launch()
    assert address.endswith("/deep/board/")
    tab = Tab(browser, address, hosted=True)
    asked: list[str] = []
    tab.page.on("request", lambda request: asked.append(request.url))

    def shown() -> set[str]:
        rows = tab.frame.eval_on_selector_all("[data-key^='row ']", "all => all.map(e => e.title)")
        return set(rows)

    def reload_until(count: int) -> None:
        for _ in range(40):
            with tab.page.expect_response(lambda found: "plugin/foretrain/runs" in found.url):
                tab.page.click("[aria-label*='Reload'], .reload-button")
            tab.ready()
            if len(shown()) == count:
                return
            tab.page.wait_for_timeout(250)

    reload_until(2)
    assert shown() == names
    tab.frame.click(f"[data-key='row b/{demo.demo_report(demo.SIZES[1]).run}']")
    new = f"b/{put(second, demo.SIZES[2])}"
    reload_until(3)
    assert shown() == {*names, new}
    assert tab.text(".detail h2").strip() in names, "what was chosen stays chosen"
    assert {url.split("/data/")[0] + "/" for url in asked if "foretrain" in url} == {address}
    assert tab.complaints == []
    tab.page.context.close()
