"""A report in an event file: what is written reads back the same, and nothing else is accepted."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from unittest.mock import MagicMock

import numpy as np
import pytest

from foretrain.report import Band, NamedProjection, Report, ReportError
from foretrain.tensorboard import metadata, summary
from foretrain.tensorboard.summary import read_report, supports, write_report

pytest.importorskip("tensorboard")

REPORT = Report(
    run="width64",
    metric="val_loss",
    axis="samples",
    step=320,
    params=48_200.0,
    points=((1600.0, 2.5), (3200.0, 2.25)),
    status="ok",
    curve=Band(x=(1600.0, 3200.0), median=(2.5, 2.25), lower={"0.9": (2.4, 2.2)}, upper={"0.9": (2.6, 2.3)}),
    projections=(NamedProjection("10x", 48_200.0, 32_000.0, 1.7, {"0.9": 1.6}, {"0.9": 1.8}),),
    doubts=("Two points.",),
)


class DummyExperiment:
    """Like Lightning's stand-in on the other ranks: it has every method, and every one answers None."""

    def nop(self, *args: object, **kwargs: object) -> None:
        return None

    def __getattr__(self, name: str) -> object:
        return self.nop


def written(writer_class: type, directory: str) -> tuple[list[int], Report, object]:
    """The steps, the newest report and the summary's metadata after two reports through a writer."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    writer = writer_class(directory)
    assert supports(writer)
    write_report(writer, Report(run="width64", metric="val_loss", axis="samples", step=1), 1)
    write_report(writer, REPORT, 320)
    if writer_class.__module__.startswith("tensorboardX"):
        writer.close()  # its flush does not wait for its queue
    events = EventAccumulator(directory)  # torch's writer is still open: the report must be on disk already
    events.Reload()
    writer.close()
    tag = metadata.report_tag("val_loss")
    tensors = events.Tensors(tag)
    report = read_report(make_ndarray(tensors[-1].tensor_proto))
    return [event.step for event in tensors], report, events.SummaryMetadata(tag)


@pytest.mark.parametrize("package", ["torch.utils.tensorboard", "tensorboardX"])
def test_a_report_survives_the_event_file(package: str, tmp_path) -> None:
    writer_class = pytest.importorskip(package).SummaryWriter
    steps, report, kept = written(writer_class, str(tmp_path))
    assert steps == [1, 320]
    assert report == REPORT
    assert kept.plugin_data.plugin_name == metadata.PLUGIN_NAME
    assert kept.plugin_data.content == metadata.CONTENT
    assert kept.data_class == 2  # DATA_CLASS_TENSOR


@pytest.mark.parametrize(
    "other", [None, {}, object(), DummyExperiment(), MagicMock(), "runs"], ids=lambda o: type(o).__name__
)
def test_what_is_no_writer_is_refused(other: object) -> None:
    assert not supports(other)
    with pytest.raises(ValueError, match="SummaryWriter"):
        write_report(other, REPORT, 1)


def test_lightnings_own_stand_in_is_refused() -> None:
    logger = pytest.importorskip("lightning.fabric.loggers.logger")
    assert not supports(logger._DummyExperiment())


def test_a_report_too_large_to_read_is_not_written(tmp_path) -> None:
    writer = pytest.importorskip("torch.utils.tensorboard").SummaryWriter(str(tmp_path))
    huge = Report(run="a", metric="m", axis="samples", step=1, doubts=("x" * 300_000,))
    with pytest.raises(ReportError, match="at most"):
        write_report(writer, huge, 1)
    writer.close()


@pytest.mark.parametrize(
    "payload",
    [
        np.array(b"not json", dtype=object),
        np.array(b"[1, 2]", dtype=object),
        np.array(b'{"version": 99}', dtype=object),
        np.array(b'{"version": 1}', dtype=object),
        np.array([b"{}", b"{}"], dtype=object),
        np.array(1.5),
        np.array(b"[" * 100_000, dtype=object),
        None,
    ],
)
def test_a_bad_payload_says_so(payload: object) -> None:
    with pytest.raises(ReportError):
        read_report(payload)


@pytest.mark.parametrize("name", ["half \ud800 a pair", "\u0000", "width64"])
def test_a_report_reads_the_same_with_orjson_and_without(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("orjson")
    text = np.array(replace(REPORT, run=name).to_json().encode(), dtype=object)
    quick = read_report(text)
    monkeypatch.setattr(summary, "_quick_loads", json.loads)
    assert quick == read_report(text) == replace(REPORT, run=name)


def test_the_tag_names_the_metric() -> None:
    assert metadata.metric_of(metadata.report_tag("val/loss")) == "val/loss"
    assert metadata.metric_of("scaling/val_loss") is None


def test_writing_imports_neither_torch_nor_the_page() -> None:
    code = (
        "import sys, foretrain.tensorboard.summary as s; s.supports(None);"
        "bad = {'torch', 'tensorboard', 'scipy', 'numpy'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_without_tensorboard_the_error_names_the_extra(monkeypatch, tmp_path) -> None:
    writer = pytest.importorskip("torch.utils.tensorboard").SummaryWriter(str(tmp_path))
    monkeypatch.setattr("foretrain.tensorboard.summary._SUMMARY_MODULES", ("no_such_package.summary_pb2",))
    with pytest.raises(ModuleNotFoundError, match=r"foretrain\[tensorboard\]"):
        write_report(writer, REPORT, 1)
    writer.close()
