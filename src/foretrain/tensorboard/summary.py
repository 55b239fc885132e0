"""A report in an event file: written through the logger's own writer, read back from TensorBoard's data."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from foretrain.report import MAX_REPORT_BYTES, Report, ReportError
from foretrain.tensorboard.metadata import CONTENT, OWN_SUFFIX, PLUGIN_NAME, report_tag

_quick_loads: Callable[[str | bytes], Any] = json.loads
with contextlib.suppress(ImportError):  # it only saves time
    _quick_loads = importlib.import_module("orjson").loads

# TensorBoard's and tensorboardX's messages have the same fields but are different classes, and each writer
# takes only its own.
_SUMMARY_MODULES = ("tensorboard.compat.proto.summary_pb2", "tensorboardX.proto.summary_pb2")
_DT_STRING = 7  # tensorflow/core/framework/types.proto
# Field 4 of SummaryMetadata, data_class = DATA_CLASS_TENSOR (summary.proto): without it TensorBoard's readers
# do not list the tag. As bytes, because tensorboardX's message does not name the field, but keeps it.
_DATA_CLASS_TENSOR = b"\x20\x02"


def supports(writer: Any) -> bool:
    """Whether reports can be written through this object.

    It is judged by what its methods answer, never by its class: Lightning's stand-in for an experiment on
    other ranks has every method, and answers None.

    Args:
        writer: Anything; true for torch's `SummaryWriter` and for tensorboardX's.

    Returns:
        True if `write_report` can use it. Nothing is written.
    """
    try:
        file_writer = writer._get_file_writer()
        directory = file_writer.get_logdir()
        methods = (writer.flush, file_writer.add_summary)
    except Exception:  # whatever a foreign object raises, the answer is no
        return False
    return isinstance(directory, str) and all(callable(method) for method in methods)


def write_report(writer: Any, report: Report, step: int, label: str = "") -> None:
    """Writes a report into the event file that a writer has open, and flushes it.

    TensorBoard keeps only a sample of a series of tensors, but always the newest: every report is therefore
    whole, and the newest one counts.

    Args:
        writer: torch's or tensorboardX's `SummaryWriter`: what `supports` accepts.
        report: The report.
        step: Step at which the report is adopted; never lower than before, since TensorBoard's fast loader
            drops what it has read above the step of a newcomer.
        label: What follows the metric in the tag, so that several reports on one metric can stand together.

    Raises:
        ValueError: If the writer is not one of those.
        ReportError: If the report is larger than a reader accepts.
        ModuleNotFoundError: If neither TensorBoard nor tensorboardX is installed.
    """
    if not supports(writer):
        raise ValueError(
            f"Expected torch's or tensorboardX's SummaryWriter, got {type(writer).__name__}: "
            "pass `logger.experiment` of a TensorBoardLogger."
        )
    text = report.to_json().encode()
    if len(text) > MAX_REPORT_BYTES:
        raise ReportError(f"Expected a report of at most {MAX_REPORT_BYTES} bytes, got {len(text)}.")
    add_summary(writer, lambda summary: _fill(summary, report.metric + label, text), step)


def add_summary(writer: Any, fill: Callable[[Any], None], step: int | None = None) -> None:
    """Writes a summary into the event file that a writer has open, and flushes it.

    Args:
        writer: torch's or tensorboardX's `SummaryWriter`: what `supports` accepts.
        fill: Fills an empty summary, of TensorBoard's or tensorboardX's class.
        step: Its step; none where it stands for the whole run.

    Raises:
        ModuleNotFoundError: If neither TensorBoard nor tensorboardX is installed.
    """
    file_writer = writer._get_file_writer()
    refused: TypeError | None = None
    for module in _SUMMARY_MODULES:
        try:
            summary = importlib.import_module(module).Summary()
        except ModuleNotFoundError:
            continue
        fill(summary)
        try:
            file_writer.add_summary(summary, step)
        except TypeError as error:  # the writer's messages are of the other package
            refused = error
            continue
        # Either writer would otherwise wait for up to two minutes; tensorboardX's may still, if it is busy.
        writer.flush()
        return
    if refused is not None:
        raise refused
    raise ModuleNotFoundError(
        "Writing a report needs TensorBoard: pip install 'foretrain[tensorboard]' (or tensorboardX)."
    )


def replace_report(directory: Path, report: Report) -> None:
    """Writes a report into an event file of its own, in place of the one that was written there like this.

    Args:
        directory: The run's, among its other event files.
        report: The report.

    Raises:
        ReportError: If the report is larger than a reader accepts.
        ModuleNotFoundError: If TensorBoard is not installed.
        OSError: If the directory cannot be written.
    """
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    text = report.to_json().encode()
    if len(text) > MAX_REPORT_BYTES:
        raise ReportError(f"Expected a report of at most {MAX_REPORT_BYTES} bytes, got {len(text)}.")
    before = list(directory.glob(f"*tfevents*{OWN_SUFFIX}"))
    now = time.time()
    # Readers look for "tfevents", and read the files of a run in the order of their names.
    path = directory / f"events.out.tfevents.{int(now):010d}.{os.urandom(4).hex()}{OWN_SUFFIX}"
    with path.open("wb") as file:
        writer = RecordWriter(file)
        writer.write(Event(wall_time=now, file_version="brain.Event:2").SerializeToString())
        summary = Summary()
        _fill(summary, report.metric, text)
        writer.write(Event(wall_time=now, step=report.step, summary=summary).SerializeToString())
        writer.flush()
    for old in before:
        old.unlink(missing_ok=True)


def read_report(datum: Any) -> Report:
    """Reads a report from what TensorBoard's data provider returns for one step.

    Args:
        datum: A `TensorDatum`, or its array: one string.

    Returns:
        The report.

    Raises:
        ReportError: If it holds no report, is too large, or was written by a later version.
    """
    array = getattr(datum, "numpy", datum)
    if getattr(array, "size", None) != 1:
        raise ReportError("Expected one string, got a tensor of another shape.")
    text = array.item()
    if not isinstance(text, bytes | str):
        raise ReportError(f"Expected a string, got {type(text).__name__}.")
    return Report.from_json(text, loads=_loads)


def _loads(text: str | bytes) -> Any:
    """Takes JSON apart, in a third of the time where orjson is installed.

    orjson refuses what `json` takes, such as half a character pair in a file's name.
    """
    try:
        return _quick_loads(text)
    except ValueError:
        return json.loads(text)


def _fill(summary: Any, metric: str, text: bytes) -> None:
    value = summary.value.add()
    value.tag = report_tag(metric)
    value.metadata.plugin_data.plugin_name = PLUGIN_NAME
    value.metadata.plugin_data.content = CONTENT
    value.metadata.MergeFromString(_DATA_CLASS_TENSOR)
    value.tensor.dtype = _DT_STRING
    value.tensor.tensor_shape.SetInParent()  # a scalar
    value.tensor.string_val.append(text)
