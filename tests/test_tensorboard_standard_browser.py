"""TensorBoard without the plugin, in a real browser: its own tabs show what the monitor wrote."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from tab_browser import browser
from tab_demo import demo

pytestmark = pytest.mark.browser
__all__ = ["browser"]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """TensorBoard with its own plugins alone, on two runs."""
    pytest.importorskip("matplotlib")
    from tensorboard import default, program
    from torch.utils.tensorboard import SummaryWriter

    from foretrain.lightning.logging import scalars
    from foretrain.lightning.standard import lay_out, sum_up, tabulate

    root = tmp_path_factory.mktemp("plain")
    for params in demo.SIZES[:2]:
        report = replace(demo.demo_report(params), status="ok")
        logger = SimpleNamespace(log_dir=str(root / report.run), hparams={})
        logger.experiment = SummaryWriter(logger.log_dir)
        values = scalars(report, [], [])
        assert lay_out([logger], "val_loss", {name: name for name in values}, values) == []
        for step in (100, 200, 300):
            for name, value in values.items():
                logger.experiment.add_scalar(name, value * (1 + 5 / step), step)
        assert tabulate([logger], report, 300, "scaling/") == []
        assert sum_up([logger], report, 300, "scaling/", draw=True) == []
        logger.experiment.close()
    server = program.TensorBoard(default.get_static_plugins())
    server.configure(argv=["tensorboard", "--logdir", str(root), "--port", "0", "--load_fast", "false"])
    served = server._make_server()
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield served.get_url()
    served.shutdown()


def test_tensorboards_own_tabs_show_the_runs(browser: Any, address: str) -> None:
    page = browser.new_context(viewport={"width": 1400, "height": 1000}).new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))

    def shows(tab: str, *selectors: str) -> None:
        page.goto(f"{address}#{tab}")
        page.reload()
        for selector in selectors:
            page.wait_for_selector(selector, timeout=60_000)

    shows("custom_scalars", "text=Scaling laws", "text=val_loss projected at its planned end")
    page.wait_for_selector(
        "tf-custom-scalar-margin-chart-card path.line, tf-custom-scalar-margin-chart-card g"
    )
    shows("text", "td:has-text('planned end')", "text=scaling/report/text_summary")
    # A text is a table of one cell to TensorBoard, which holds ours.
    assert page.locator("table table:has-text('90 % interval')").count() == 2
    shows("images", "text=scaling/projection", "tf-image-loader img")
    image = page.locator("tf-image-loader img").first
    image.wait_for()
    page.wait_for_timeout(500)
    assert image.evaluate("e => [e.naturalWidth, e.naturalHeight]") == [720, 450]
    shows("hparams", "text=parameters", "text=flops", f"text={demo.demo_report(demo.SIZES[0]).run}")
    assert complaints == []
    page.context.close()
