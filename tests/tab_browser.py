"""The Scaling tab opened in a real browser, for the modules of tests that look at it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tab_demo import demo

pytest.importorskip("tensorboard")
pytest.importorskip("torch")
playwright_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if CHROMIUM is None:
    if os.environ.get("FORETRAIN_REQUIRE_BROWSER"):
        raise RuntimeError("FORETRAIN_REQUIRE_BROWSER is set, but there is no Chromium on the PATH")
    pytest.skip("needs Chromium on the PATH: apt-get install chromium", allow_module_level=True)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=demo.CHROMIUM_FLAGS)
        yield browser
        browser.close()


class Tab:
    """The opened tab: its frame, its page, and what the console complained of.

    Most tests open the frame's own address: TensorBoard's application around it takes seconds to start.
    """

    def __init__(
        self,
        browser: Any,
        address: str,
        *,
        width: int = 1280,
        dark: bool = False,
        hosted: bool = False,
        link: str = "",
    ) -> None:
        self.complaints: list[str] = []
        context = browser.new_context(
            viewport={"width": width, "height": 1100}, color_scheme="dark" if dark else "light"
        )
        self.page = context.new_page()
        self.page.on("console", lambda message: self.hear(message))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        if hosted:
            self.frame = demo.open_tab(self.page, address, link)
        else:
            self.page.goto(f"{address}data/plugin_entry.html?name=foretrain#{link.lstrip('&')}")
            self.page.wait_for_selector(demo.DRAWN, state="attached")
            self.frame = self.page.main_frame

    def hear(self, message: Any) -> None:
        if message.type == "error" and "plugin/foretrain" in message.location.get("url", ""):
            self.complaints.append(message.text)

    def count(self, selector: str) -> int:
        return int(self.frame.locator(selector).count())

    def text(self, selector: str) -> str:
        return str(self.frame.locator(selector).first.inner_text())

    def to_size(self) -> None:
        self.frame.click("text=Model size")
        self.frame.wait_for_selector(".chart[aria-busy=false] .final", state="attached")

    def turn_to(self, view: str) -> None:
        """Opens a view by its name, and waits until what it shows has come."""
        self.frame.click(f".views button:text-is('{view}')")
        self.ready()

    def ready(self) -> None:
        """Waits until nothing is being asked for."""
        self.frame.wait_for_selector("main[aria-busy=false]")
        self.frame.wait_for_function("!document.querySelector('.chart[aria-busy=true]')")
        self.frame.wait_for_function(
            "![...document.querySelectorAll('.hint')].some(e => e.textContent.endsWith('…'))"
        )


@pytest.fixture
def tab(browser: Any, address: str) -> Iterator[Tab]:
    """The tab of a module's runs, which its fixture `address` serves; nothing may complain."""
    tab = Tab(browser, address)
    yield tab
    tab.page.context.close()
    assert tab.complaints == []
