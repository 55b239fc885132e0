"""Names and versions of what foretrain keeps in event files. Imports the standard library only."""

from __future__ import annotations

import json

PLUGIN_NAME = "foretrain"
"""Marks our summaries in event files, and names the plugin in TensorBoard's addresses."""

TAB_NAME = "Scaling"
"""What TensorBoard writes on the tab."""

CONTENT_VERSION = 1
"""Version of how a report is wrapped; the report itself carries its own version."""

REPORT_TAG_PREFIX = "foretrain/report/"
"""Start of the tag of a report; the metric's name follows."""

CONTENT = json.dumps({"v": CONTENT_VERSION, "kind": "report"}).encode()
"""Metadata of a report's summary. TensorBoard keeps a tag's first one for ever, so nothing that may change
belongs in it."""


OWN_SUFFIX = ".foretrain"
"""End of the name of an event file that holds one report and nothing else."""


def report_tag(metric: str) -> str:
    """The tag under which the reports on a metric are written."""
    return REPORT_TAG_PREFIX + metric


def metric_of(tag: str) -> str | None:
    """The metric that a tag's reports are on, or None where the tag holds no reports."""
    return tag[len(REPORT_TAG_PREFIX) :] if tag.startswith(REPORT_TAG_PREFIX) else None
