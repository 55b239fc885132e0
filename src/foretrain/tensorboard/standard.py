"""What TensorBoard's own tabs show of a run, where foretrain is not installed beside it.

Charts with margins (Custom Scalars), a table (Text), the run's size, data and compute (HParams), and a
picture (Images). All go through the writer that the logger has open.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from foretrain.report import Report
from foretrain.reporting.findings import ANNEALED
from foretrain.tensorboard.plain import LEVEL
from foretrain.tensorboard.summary import add_summary
from foretrain.tensorboard.words import amount, figure, unit

CATEGORY = "Scaling laws"
LAYOUT_TAG = "custom_scalars__config__"
SESSION_TAG = "_hparams_/session_start_info"
"""Tags of TensorBoard of which a run has one: what the user has written there stays."""

_CHUNK = 2**20
_ESCAPED = re.compile(r"([\\`*_{}\[\]#|!~])")


def layout(metric: str, names: Mapping[str, str]) -> dict[str, dict[str, list[Any]]]:
    """Charts of projections with their intervals, against the training step.

    Args:
        metric: Name of the metric.
        names: Names of the scalars in the logger, by what they are called in a logger with one monitor:
            "scaling/projected_end", "scaling/projected_end_lower", ...; what has no interval is left out.

    Returns:
        What `SummaryWriter.add_custom_scalars` takes; empty where there is nothing to chart.
    """
    charts = {}
    end_first = sorted(names.items(), key=lambda item: not item[0].startswith("scaling/projected_end"))
    for name, logged in end_first:
        lower, upper = names.get(f"{name}_lower"), names.get(f"{name}_upper")
        found = re.fullmatch(r"scaling/(projected|annealed)_(.+)", name)
        if found is None or lower is None or upper is None:
            continue
        kind, stem = found.groups()
        place = "its planned end" if stem == "end" else stem.replace("_", " ")
        place += " the data" if re.fullmatch(r"\d+x", stem) else ""
        beyond = ", schedule stretched" if kind == ANNEALED else ""
        charts[f"{metric} projected at {place}{beyond}"] = ["Margin", [logged, lower, upper]]
    return {CATEGORY: charts} if charts else {}


def table(report: Report) -> str:
    """The report's numbers, flags and doubts as Markdown."""
    axis = unit(report.axis)
    lines = [f"**{_plain(report.metric)}** of {_plain(report.run)}, {_plain(report.state)}", ""]
    lines += [f"| | {_plain(axis)} | {_plain(report.metric)} | 90 % interval |", "|---|---:|---:|---|"]
    if report.points:
        x, y = report.points[-1]
        lines.append(f"| now | {amount(x)} | {figure(y)} | measured |")
    for item in report.projections:
        if not (math.isfinite(item.data) and math.isfinite(item.median)):
            continue
        low, high = item.lower.get(LEVEL), item.upper.get(LEVEL)
        between = "" if low is None or high is None else f"{figure(low)} to {figure(high)}"
        name = _plain(item.name) + (f" ({item.kind})" if item.kind else "")
        lines.append(f"| {name} | {amount(item.data)} | {figure(item.median)} | {between} |")
    for heading, items in (
        ("Flagged", [f"{flag.kind.value}: {flag.message}" for flag in report.flags]),
        ("Reasons to doubt it", [*([] if report.status == "ok" else [report.sentence]), *report.doubts]),
    ):
        told = [f"- {_plain(item)}" for item in items if item]
        lines += ["", f"**{heading}**", "", *told] if told else []
    return "\n".join(lines)


def session(report: Report) -> dict[str, float]:
    """The run's size and what it has used, as hyperparameters; only what is known."""
    found: dict[str, Any] = {"parameters": report.params}
    if report.points:
        found[report.axis] = report.points[-1][0]
    for name, values in report.history.counts.items() if report.history is not None else ():
        if name in ("samples", "tokens", "flops") and values:
            found.setdefault(name, values[-1])
    return {name: float(v) for name, v in found.items() if v is not None and math.isfinite(v)}


def is_free(writer: Any, tag: str, most: int) -> bool:
    """Whether no event file of the writer's run holds a tag.

    False too where that cannot be told: of a directory elsewhere, or of too many bytes.

    Args:
        writer: torch's or tensorboardX's `SummaryWriter`.
        tag: The tag.
        most: How many bytes are looked through; a gigabyte takes a second.
    """
    writer.flush()
    directory, wanted, left = Path(writer._get_file_writer().get_logdir()), tag.encode(), most
    files = sorted(directory.glob("*tfevents*")) if directory.is_dir() else []
    for path in files:
        left -= path.stat().st_size
        if left < 0:
            return False
        with path.open("rb") as file:
            before = b""
            while chunk := file.read(_CHUNK):
                if wanted in before + chunk:
                    return False
                before = chunk[-len(wanted) :]
    return bool(files)


def write_session(writer: Any, values: Mapping[str, float]) -> None:
    """Writes hyperparameters of the run itself, not of a run below it.

    No list of the experiment's hyperparameters goes along: TensorBoard shows those of one such list alone,
    and other runs in the log directory may have theirs.

    Args:
        writer: torch's or tensorboardX's `SummaryWriter`.
        values: The hyperparameters.

    Raises:
        ModuleNotFoundError: If TensorBoard is not installed.
    """
    from tensorboard.plugins.hparams.metadata import PLUGIN_DATA_VERSION, PLUGIN_NAME
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionStartInfo

    start = SessionStartInfo()
    for name, value in values.items():
        start.hparams[name].number_value = value
    content = HParamsPluginData(session_start_info=start, version=PLUGIN_DATA_VERSION).SerializeToString()

    def fill(summary: Any) -> None:
        value = summary.value.add()
        value.tag = SESSION_TAG
        value.metadata.plugin_data.plugin_name = PLUGIN_NAME
        value.metadata.plugin_data.content = content

    add_summary(writer, fill)


def charted(names: Iterable[str], values: Mapping[str, float]) -> list[str]:
    """The scalars of these names that a chart would not show empty: those that are known, or may yet be.

    Args:
        names: All that a run logs, as `layout` takes them.
        values: What is known of them now.
    """
    return [name for name in names if math.isfinite(values.get(name, math.nan)) or "/annealed_" in name]


def _plain(text: str) -> str:
    """A text that Markdown shows as it is, in one line."""
    line = " ".join(str(text).split())
    return _ESCAPED.sub(r"\\\1", line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))
