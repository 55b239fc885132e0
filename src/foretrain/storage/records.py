"""The record file's lines: how one is written, and how one is read back without trusting it."""

from __future__ import annotations

import hashlib
import json
import math
import re
import sys
import zlib
from dataclasses import fields
from typing import Any, NamedTuple, NoReturn

from foretrain.axes import Counts
from foretrain.observation import Observation, RunInfo, ScheduleUpdate

SCHEMA = 1
"""Version of the format; raised only when an older reader would misread a file, not when keys are added."""
MAX_LINE = 2**20
"""Longest line, in bytes: bounds what a reader must hold of a file that is no record."""

_CRC = b',"crc":"'
_TAIL = len(_CRC) + len(b'01234567"}')
_SHORT = 4096
"""Longest line whose numbers Python may convert at once: that takes quadratic time in their digits."""
_COUNTS = tuple(item.name for item in fields(Counts))
_FILE_NAME = re.compile(r"([0-9]{1,9})-([0-9a-f]{1,64})(?:\.([0-9]{1,12})-([0-9]{1,12}))?\.jsonl")
_NOT_FINITE = ("nan", "inf", "-inf")


class FileName(NamedTuple):
    """What the name of a record file tells.

    Attributes:
        attempt: Number of the attempt.
        unique: What tells apart the processes that wrote; the same in all fragments of one of them.
        first: Number of the first line in a fragment, its header not counted; None in a file that grows.
        last: Number of the last one.
    """

    attempt: int
    unique: str
    first: int | None = None
    last: int | None = None


class LineError(ValueError):
    """A line that is skipped; its text is the reason, one of a few, by which skipped lines are counted."""


def folder_name(name: str) -> str:
    """A folder's name for a run or a study: readable, unique, and never a path, whatever the name holds."""
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", name[:400]).lstrip("._-")[:40]
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{slug or 'unnamed'}-{digest}"


def read_name(file_name: str) -> FileName | None:
    """What a file's name tells, or None where it is no record file."""
    match = _FILE_NAME.fullmatch(file_name)
    if match is None:
        return None
    if match[3] is None:
        return FileName(int(match[1]), match[2])
    first, last = int(match[3]), int(match[4])
    return FileName(int(match[1]), match[2], first, last) if first <= last else None


def write_name(name: FileName) -> str:
    """The inverse of `read_name`: names of one attempt's fragments sort as their lines."""
    lines = "" if name.first is None else f".{name.first:09d}-{name.last:09d}"
    return f"{name.attempt:04d}-{name.unique}{lines}.jsonl"


def encode_line(seq: int, kind: str, data: dict[str, Any]) -> bytes:
    """One line of a record file.

    Args:
        seq: Number of the line in its file.
        kind: "run", "schedule", "observation" or "end".
        data: What it holds. Numbers that JSON cannot hold become null; numpy's and torch's scalars become
            plain numbers.

    Returns:
        The line with its end.

    Raises:
        ValueError: If the line would be longer than `MAX_LINE`.
    """
    record = {"seq": seq, "kind": kind, "data": _plain(data)}
    body = json.dumps(record, allow_nan=False, separators=(",", ":"))[:-1].encode("ascii")
    line = b'%s%s%08x"}\n' % (body, _CRC, zlib.crc32(body))
    if len(line) > MAX_LINE:
        raise ValueError(f"Expected a record of at most {MAX_LINE} bytes, got {len(line)}.")
    return line


def decode_line(line: bytes) -> tuple[int, str, dict[str, Any]]:
    """The inverse of `encode_line`, without the line's end.

    Returns:
        The line's number, its kind and what it holds.

    Raises:
        LineError: If the line is damaged, or was never one.
    """
    body, tail = line[:-_TAIL], line[-_TAIL:]
    # The check comes before the JSON is looked at, and compares the tail byte by byte: of two texts that
    # read the same, only the one that was written is accepted.
    if tail != b'%s%08x"}' % (_CRC, zlib.crc32(body)):
        raise LineError("damaged")
    try:
        decoder = _DECODER if len(line) <= _SHORT else _CAREFUL_DECODER
        text = body.decode("ascii") + "}"
        # Not `decode`, which looks for white space around: that takes a third of the time.
        record, end = decoder.raw_decode(text)
        seq, kind, data = record["seq"], record["kind"], record["data"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise LineError("not a record") from error
    if end != len(text) or type(seq) is not int or seq < 0 or type(kind) is not str or type(data) is not dict:
        raise LineError("not a record")
    return seq, kind, data


def encode_header(seq: int, info: RunInfo) -> bytes:
    """A file's first line."""
    data = _plain({"schema": SCHEMA, **info.to_json()})
    try:
        read_header(data)
    except LineError:
        # Without its header a file is lost, so what is wrong with it costs only that part.
        conventions = {str(name): str(value) for name, value in info.conventions.items()}
        plain = RunInfo(str(info.run), str(info.study), info.attempt, conventions)
        data = {"schema": SCHEMA, **plain.to_json()}
    return encode_line(seq, "run", data)


def encode_observation(seq: int, observation: Observation) -> bytes:
    """The line of one observation.

    Raises:
        ValueError: If a reader would refuse the line.
    """
    data = _plain(observation.to_json())
    read_observation(data, RunInfo(run=""))
    return encode_line(seq, "observation", data)


def encode_schedule(seq: int, update: ScheduleUpdate) -> bytes:
    """The line of what is new of a schedule.

    Raises:
        ValueError: If a reader would refuse the line.
    """
    data = _plain(update.to_json())
    read_schedule(data)
    return encode_line(seq, "schedule", data)


def read_header(data: dict[str, Any]) -> RunInfo:
    """The run and attempt that a file's first line describes, from what the line holds.

    Raises:
        LineError: If it describes no run, or was written by a later version.
    """
    schema, attempt, conventions = data.get("schema"), data.get("attempt"), data.get("conventions", {})
    if type(schema) is not int or schema < 1:
        raise LineError("not a record")
    if schema > SCHEMA:
        raise LineError("written by a later foretrain")
    _require(type(attempt) is int and attempt >= 1)
    _require(isinstance(data.get("run"), str) and isinstance(data.get("study", ""), str))
    _require(isinstance(conventions, dict) and all(isinstance(v, str) for v in conventions.values()))
    _require(_is_number_or_none(data.get("started")))
    continues = data.get("continues")
    if continues is not None:
        _require(isinstance(continues, dict) and isinstance(continues.get("run"), str))
        _require(_is_number(continues.get("step")))
    if data.get("planned") is not None:
        _check_counts(data["planned"])
    return RunInfo.from_json(data)


def read_observation(data: dict[str, Any], info: RunInfo) -> Observation:
    """The observation that a line of the attempt `info` holds.

    Raises:
        LineError: If it holds none, or one with impossible numbers.
    """
    _require(isinstance(data.get("metric"), str))
    for name in ("value", "logged"):
        value = data.get(name)
        _require(_is_number(value) or (isinstance(value, str) and value in _NOT_FINITE) or name not in data)
    _require("value" in data)
    _require(_is_number_or_none(data.get("lr")) and _is_number_or_none(data.get("time")))
    rates = data.get("lrs")
    _require(rates is None or (isinstance(rates, list) and all(map(_is_number, rates))))
    _check_counts(data.get("counts"))
    return Observation.from_json(data, run=info.run, attempt=info.attempt)


def read_schedule(data: dict[str, Any]) -> ScheduleUpdate:
    """What a line tells of a schedule.

    Raises:
        LineError: If it tells nothing, or impossible rates.
    """
    try:
        return ScheduleUpdate.from_json(data)
    except ValueError as error:
        raise LineError("not a record") from error


def _check_counts(record: Any) -> None:
    _require(isinstance(record, dict) and {"samples", "steps"} <= record.keys())
    for name in _COUNTS:
        value = record.get(name)
        if value is not None and not (type(value) in (int, float) and 0 <= value <= sys.float_info.max):
            raise LineError("not a record")
    _require(_is_number(record["samples"]) and _is_number(record["steps"]))
    # Steps are what attempts are merged by.
    _require(record["steps"] == int(record["steps"]))


def _require(true: bool) -> None:
    if not true:
        raise LineError("not a record")


def _is_number(value: Any) -> bool:
    # An integer may be larger than any float.
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def _is_number_or_none(value: Any) -> bool:
    return value is None or _is_number(value)


def _integer(text: str) -> int:
    # Python's own conversion takes quadratic time in the number of digits.
    if len(text) > 400:
        raise ValueError("a number too long")
    return int(text)


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


# Made once: `json.loads` with these arguments makes a decoder at every call.
_DECODER = json.JSONDecoder(parse_constant=_refuse)
_CAREFUL_DECODER = json.JSONDecoder(parse_int=_integer, parse_constant=_refuse)


def _plain(value: Any) -> Any:
    """The value as JSON holds it: names as strings, numbers finite or None, scalars of arrays as numbers."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        return _plain(value.item())
    return str(value)
