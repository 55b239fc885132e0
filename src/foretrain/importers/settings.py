"""Hyperparameters from files beside a log, read as plain text: nothing in them is ever built or run."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foretrain.importers.logs import LogError

MAX_BYTES = 2**20
_LINE = re.compile(
    r"(?P<key>[A-Za-z0-9_][^:#'\"]{0,200}?|'[^']{1,200}'|\"[^\"\\]{1,200}\"):[ \t]+(?P<value>\S.*)"
)


def read_flat_yaml(path: Path) -> dict[str, str]:
    """The top-level `key: scalar` lines of a YAML file, as text; empty where there is no such file.

    YAML proper can name Python objects to be built, so only these lines are looked at. Lists, mappings,
    tagged values, anchors and texts over several lines are passed over.
    """
    found: dict[str, str] = {}
    for line in _text(path).splitlines():
        match = _LINE.fullmatch(line.rstrip())
        value = None if match is None else _scalar(match["value"])
        if match is not None and value is not None:
            found[match["key"].strip("'\"")] = value
    return found


def _scalar(text: str) -> str | None:
    if text[0] in "!&*|>[{%@`":
        return None
    if text[0] == "'":
        return text[1:-1].replace("''", "'") if len(text) > 1 and text.endswith("'") else None
    if text[0] == '"':
        try:
            value = json.loads(text)
        except ValueError:
            return None
        return value if isinstance(value, str) else None
    return re.split(r"\s+#", text)[0]


def read_json_settings(path: Path) -> dict[str, str]:
    """The scalars of a JSON file, nested names joined by dots; empty where there is no such file.

    W&B wraps each setting as `{"value": ...}`, which is unwrapped.

    Raises:
        LogError: If the file holds no JSON object.
    """
    text = _text(path)
    if not text:
        return {}
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        raise LogError(f"Expected a JSON object of hyperparameters in {path}: mend or remove the file.")
    return flat(record)


def flat(record: Mapping[str, Any], depth: int = 8) -> dict[str, str]:
    """The scalars of nested mappings, as text, their names joined by dots."""
    found: dict[str, str] = {}
    for name, value in record.items():
        if isinstance(value, Mapping) and "value" in value and value.keys() <= {"value", "desc"}:
            value = value["value"]
        if isinstance(value, Mapping) and depth:
            found |= {f"{name}.{inner}": text for inner, text in flat(value, depth - 1).items()}
        elif isinstance(value, str | int | float):
            found[str(name)] = str(value)
    return found


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
