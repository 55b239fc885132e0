"""What goes into TensorBoard's own tabs, read back; nothing that the user wrote is hidden by it."""

from __future__ import annotations

import builtins
import importlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorboard")
pytest.importorskip("torch")
pytest.importorskip("lightning_utilities")

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from foretrain.flags import Flag, FlagKind
from foretrain.lightning import session as sessions
from foretrain.lightning.logging import scalar_names
from foretrain.lightning.standard import lay_out, sum_up, tabulate
from foretrain.report import NamedProjection, Report
from foretrain.tensorboard.picture import picture
from foretrain.tensorboard.standard import LAYOUT_TAG, SESSION_TAG, charted, is_free, layout, session, table
from lightning_models import FLAVOURS, loader, make_module, make_trainer, use_fake_fitter
from tab_demo import demo

MARKUP = "<img src=x onerror=alert(1)> | `a` **b** [c](javascript:alert(1))\n# d"
NAMES = {name: name for name in scalar_names("samples", [3e5], [], planned=True, annealed=True)}


class Logger:
    """As much of Lightning's logger as is asked for."""

    def __init__(self, directory: Path, hparams: dict[str, Any] | None = None) -> None:
        self.log_dir, self.hparams = str(directory), hparams or {}
        self.experiment = SummaryWriter(self.log_dir)


def read(directory: Path) -> EventAccumulator:
    events = EventAccumulator(str(directory))
    events.Reload()
    return events


def charts_in(directory: Path) -> dict[str, list[str]]:
    """Scalars of each chart of the layout that TensorBoard would show."""
    from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

    content = read(directory).Tensors(LAYOUT_TAG)[-1].tensor_proto.string_val[0]
    found = {}
    for category in Layout.FromString(content).category:
        for chart in category.chart:
            (one,) = chart.margin.series
            found[f"{category.title}: {chart.title}"] = [one.value, one.lower, one.upper]
    return found


def hyperparameters_in(directory: Path) -> dict[str, float]:
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    content = read(directory).PluginTagToContent("hparams")[SESSION_TAG]
    start = HParamsPluginData.FromString(content).session_start_info
    return {name: value.number_value for name, value in start.hparams.items()}


def test_charts_have_the_projection_between_its_ends() -> None:
    (charts,) = layout("val_loss", {**NAMES, "scaling/flags/notice": "scaling/flags/notice"}).values()
    assert next(iter(charts)) == "val_loss projected at its planned end"
    assert charts["val_loss projected at 10x the data"] == [
        "Margin",
        ["scaling/projected_10x", "scaling/projected_10x_lower", "scaling/projected_10x_upper"],
    ]
    assert "val_loss projected at 300000 samples" in charts
    assert "val_loss projected at 10x the data, schedule stretched" in charts
    assert len(charts) == 2 * 4 + 1
    assert layout("val_loss", {"scaling/projected_2x": "scaling/projected_2x"}) == {}


def test_no_chart_would_stay_empty() -> None:
    known = {"scaling/projected_2x": 1.0, "scaling/projected_end": float("nan")}
    assert charted(["scaling/projected_2x", "scaling/projected_end", "scaling/annealed_10x"], known) == [
        "scaling/projected_2x",
        "scaling/annealed_10x",
    ]


@pytest.mark.parametrize("own", [False, True], ids=["alone", "beside the user's"])
def test_a_layout_is_written_once_and_never_over_the_users(own: bool, tmp_path: Path) -> None:
    logger = Logger(tmp_path)
    if own:
        logger.experiment.add_custom_scalars({"Mine": {"loss": ["Margin", ["a", "b", "c"]]}})
    values = dict.fromkeys(NAMES, 1.0)
    for _ in range(2):
        names = {name: name.replace("scaling/", "scaling/acc/") for name in NAMES}
        assert lay_out([logger], "val_loss", names, values) == []
    logger.experiment.close()
    assert len(read(tmp_path).Tensors(LAYOUT_TAG)) == 1
    found = charts_in(tmp_path)
    if own:
        assert found == {"Mine: loss": ["a", "b", "c"]}
    else:
        ends = [f"scaling/acc/projected_end{end}" for end in ("", "_lower", "_upper")]
        assert found["Scaling laws: val_loss projected at its planned end"] == ends


def test_a_tag_is_looked_for_across_pieces_and_not_in_too_much(tmp_path: Path, monkeypatch: Any) -> None:
    from foretrain.tensorboard import standard

    writer = SummaryWriter(str(tmp_path))
    writer.add_text("a", "x" * 5000)
    assert is_free(writer, "needle", 10**6)
    writer.add_text("a", "y" * 700 + "needle" + "z" * 5000)
    for chunk in (*range(6, 13), 700, 2**20):
        monkeypatch.setattr(standard, "_CHUNK", chunk)
        assert not is_free(writer, "needle", 10**6)
    assert not is_free(writer, "another", 100), "what is too much to read may hold it"
    writer.close()


def test_the_table_tells_the_numbers_flags_and_doubts() -> None:
    text = table(demo.demo_report(demo.FLAGGED))
    lines = text.splitlines()
    assert lines[0] == r"**val\_loss** of bytes-n392k/version\_0, running"
    assert lines[2] == r"| | training examples seen | val\_loss | 90 % interval |"
    report = demo.demo_report(demo.FLAGGED)
    assert f"| now | 50k | {report.points[-1][1]:#.4g} | measured |" in lines
    (end,) = [item for item in report.projections if item.name == "planned end"]
    told = f"{end.median:#.4g} | {end.lower['0.9']:#.4g} to {end.upper['0.9']:#.4g} |"
    assert any(line.startswith("| planned end") and line.endswith(told) for line in lines)
    assert any(line.startswith(r"- above\_family: val\_loss") for line in lines)
    assert "**Flagged**" in lines
    assert report.doubts and all(f"- {doubt}" in lines for doubt in report.doubts)


def test_nothing_in_a_name_is_markup() -> None:
    flag = Flag(kind=FlagKind.SPIKE, step=1, message=MARKUP, evidence={})
    odd = NamedProjection(MARKUP, None, 10.0, 1.0)
    lost = NamedProjection("lost", None, float("nan"), 1.0)
    text = table(
        Report(run=MARKUP, metric=MARKUP, axis="a|b", step=1, flags=(flag,), projections=(odd, lost))
    )
    assert "<" not in text and "lost" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {len([c for c in row.replace(r"\|", "").split("|")]) for row in rows} == {6}
    from tensorboard import plugin_util

    html = plugin_util.markdown_to_safe_html(text)
    assert "<img" not in html and "href" not in html and "<strong>b" not in html
    assert html.count("<tr>") == 2


def test_the_run_is_told_as_hyperparameters(tmp_path: Path) -> None:
    report = demo.demo_report(demo.SIZES[0])
    logger = Logger(tmp_path)
    assert sum_up([logger], report, 7, "scaling/", draw=False) == []
    logger.experiment.close()
    x = report.points[-1][0]
    used = {name: values[-1] for name, values in report.history.counts.items()}
    assert hyperparameters_in(tmp_path) == pytest.approx(
        {"parameters": 15_200.0, "samples": x, "tokens": used["tokens"], "flops": used["flops"]}
    )
    assert read(tmp_path).Tags()["images"] == []
    assert session(Report(run="r", metric="m", axis="steps", step=1)) == {}


@pytest.mark.parametrize("how", ["logged by the module", "written by the script"])
def test_the_users_hyperparameters_stay(how: str, tmp_path: Path) -> None:
    from torch.utils.tensorboard.summary import hparams

    logger = Logger(tmp_path, {"rate": 0.1} if how == "logged by the module" else None)
    _, start, _ = hparams({"rate": 0.1}, {"hp_metric": -1})
    if how != "logged by the module":  # the logger itself may write them later, with metrics
        logger.experiment._get_file_writer().add_summary(start)
    sum_up([logger], demo.demo_report(demo.SIZES[0]), 7, "scaling/", draw=False)
    if how == "logged by the module":
        logger.experiment._get_file_writer().add_summary(start)
    logger.experiment.close()
    assert hyperparameters_in(tmp_path) == {"rate": 0.1}


def test_the_picture_shows_what_the_report_holds() -> None:
    pytest.importorskip("matplotlib")
    report = replace(demo.demo_report(demo.SIZES[0]), run="$odd_{name", metric="$x^")
    image = picture(report)
    assert image.dtype == np.uint8 and image.shape == (450, 720, 3)
    blue = (image[..., 2].astype(int) - image[..., 0]) > 60
    assert blue.mean() > 0.005
    bare = picture(replace(report, curve=None))
    assert (image != bare).any(-1).mean() > 0.01, "the law and its interval"
    assert picture(replace(report, points=())) is None
    assert picture(replace(report, projections=())) is None


def test_without_matplotlib_there_is_no_picture(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kept = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return kept(name, *args, **kwargs)

    for name in [name for name in sys.modules if name.startswith("matplotlib")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", refuse)
    logger = Logger(tmp_path)
    assert picture(demo.demo_report(demo.SIZES[0])) is None
    assert sum_up([logger], demo.demo_report(demo.SIZES[0]), 7, "scaling/", draw=True) == []
    logger.experiment.close()


def test_what_a_writer_refuses_is_one_sentence(tmp_path: Path) -> None:
    logger = Logger(tmp_path)
    logger.experiment.add_text = None  # type: ignore[method-assign, assignment]
    (said,) = tabulate([logger], demo.demo_report(demo.SIZES[0]), 1, "scaling/")
    assert said.startswith("ScalingLawMonitor could not log through Logger (TypeError")
    logger.experiment.close()


def test_a_fit_writes_all_of_them_through_its_logger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from foretrain.lightning import ScalingLawMonitor

    pytest.importorskip("matplotlib")
    pl = importlib.import_module(FLAVOURS[0])
    report = demo.demo_report(demo.SIZES[0])
    curve = {"points": report.points, "curve": report.curve, "params": 15_200.0, "history": report.history}
    use_fake_fitter(monkeypatch, changes=curve)
    monkeypatch.setattr(sessions, "DRAW_SECONDS", 0.0)
    logger = pl.loggers.TensorBoardLogger(tmp_path)
    trainer = make_trainer(pl, tmp_path, ScalingLawMonitor(), logger=logger, max_epochs=3)
    trainer.fit(make_module(pl), loader(), loader())
    (file,) = Path(logger.log_dir).glob("*tfevents*")
    events = read(file)
    assert "Scaling laws: val_loss projected at its planned end" in charts_in(file)
    assert set(hyperparameters_in(file)) >= {"parameters", "samples", "flops"}
    assert events.Tags()["images"] == ["scaling/projection"]
    (text,) = [tag for tag in events.Tags()["tensors"] if tag == "scaling/report/text_summary"]
    assert b"finished" in events.Tensors(text)[-1].tensor_proto.string_val[0]
    assert [event.step for event in events.Images("scaling/projection")] == [15]
