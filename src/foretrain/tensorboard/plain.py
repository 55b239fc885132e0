"""What a report holds, as plain values of bounded size, whatever it holds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

MAX_TEXT = 400
MAX_ITEMS = 24  # doubts, flags, projections, parameters of one run
MAX_POINTS = 60  # points of a run on the page: more cannot be told apart on a log axis
MAX_CURVE = 64  # grid of a curve on the page, including what the band needs to look smooth
LEVEL = "0.9"  # the interval that the page draws and names


def thin(values: Sequence[Any], limit: int) -> list[Any]:
    """At most `limit` of the values, evenly, first and last kept: reports are evenly spaced in log x."""
    if len(values) <= limit:
        return list(values)
    return [values[round(i * (len(values) - 1) / (limit - 1))] for i in range(limit)]


def items(record: Any) -> list[tuple[Any, Any]]:
    """The pairs of a mapping, boundedly many; none of anything else."""
    return list(record.items())[:MAX_ITEMS] if isinstance(record, dict) else []


def text(value: Any) -> str:
    """The value as a text of bounded length."""
    whole = str(value)
    return whole if len(whole) <= MAX_TEXT else whole[: MAX_TEXT - 1] + "…"


def number(value: Any) -> float | None:
    """The value if it is a finite number, else None."""
    if type(value) is float:  # nearly all are, and there are many
        return value if math.isfinite(value) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # an integer beyond any float
        return None


def positive(value: Any) -> float | None:
    """The value if log axes can show it, else None."""
    if type(value) is float:
        return value if 0.0 < value < math.inf else None
    finite = number(value)
    return finite if finite is not None and finite > 0 else None


def short(value: float | None) -> float | None:
    """Six digits: beyond what a screen shows, a third of the bytes."""
    return None if value is None else float(f"{value:.6g}")
