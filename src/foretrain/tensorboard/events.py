"""The numbers in an event file, each as it was written: none is sampled away, and damage stays where it is.

TensorBoard's own readers keep 10,000 numbers of a tag, and stop at the first damaged record without a word.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LARGEST_RECORD = 2**28
"""Bytes; the length of a record has a checksum of its own, so a larger one is nonsense, not damage."""
_HEAD, _SUM = struct.Struct("<QI"), struct.Struct("<I")
_HPARAMS = "_hparams_/session_start_info"


@dataclass
class EventFile:
    """What one event file holds.

    Attributes:
        scalars: By tag, (step, seconds since 1970, value) in the order written.
        settings: Hyperparameters by name, where `SummaryWriter.add_hparams` or Lightning wrote them.
        damaged: Records that were passed over.
        lost: Bytes at the end that could not be read: past a damaged length nothing can be found.
    """

    scalars: dict[str, list[tuple[int, float, float]]] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    damaged: int = 0
    lost: int = 0


def read_events(path: Path) -> EventFile:
    """Reads an event file; a last record that is not whole is still being written, and is ignored.

    Raises:
        ModuleNotFoundError: If TensorBoard is not installed.
        OSError: If the file cannot be read.
    """
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.event_pb2 import Event

    found = EventFile()
    for record in _records(path, found):
        try:
            event = Event.FromString(record)
        except DecodeError:
            found.damaged += 1
            continue
        for value in event.summary.value:
            number = _number(value)
            if number is not None:
                found.scalars.setdefault(value.tag, []).append((event.step, event.wall_time, number))
            elif value.tag == _HPARAMS:
                found.settings |= _settings(value.metadata.plugin_data.content)
    return found


def _records(path: Path, found: EventFile) -> Iterator[bytes]:
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    size = path.stat().st_size
    with path.open("rb") as file:
        while len(head := file.read(_HEAD.size)) == _HEAD.size:
            length, check = _HEAD.unpack(head)
            if masked_crc32c(head[:8]) != check or length > LARGEST_RECORD:
                found.damaged += 1
                found.lost = size - file.tell() + _HEAD.size
                return
            record, tail = file.read(length), file.read(_SUM.size)
            if len(tail) < _SUM.size:
                return
            if masked_crc32c(record) == _SUM.unpack(tail)[0]:
                yield record
            else:
                found.damaged += 1


def _number(value: Any) -> float | None:
    """The number that a summary holds, in the old form or in the new one; None where it is something else."""
    kind = value.WhichOneof("value")
    if kind == "simple_value":
        return float(value.simple_value)
    plugin = value.metadata.plugin_data.plugin_name
    if kind != "tensor" or plugin not in ("scalars", "") or value.tensor.tensor_shape.dim:
        return None
    tensor = value.tensor
    if len(tensor.float_val) == 1:
        return float(tensor.float_val[0])
    if len(tensor.double_val) == 1:
        return float(tensor.double_val[0])
    # DT_FLOAT and DT_DOUBLE of tensorflow/core/framework/types.proto, as bytes.
    layout = {(1, 4): "<f", (2, 8): "<d"}.get((tensor.dtype, len(tensor.tensor_content)))
    return None if layout is None else float(struct.unpack(layout, tensor.tensor_content)[0])


def _settings(content: bytes) -> dict[str, str]:
    from google.protobuf.message import DecodeError
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    try:
        told = HParamsPluginData.FromString(content).session_start_info.hparams
    except DecodeError:
        return {}
    found = {name: getattr(value, value.WhichOneof("kind") or "", None) for name, value in told.items()}
    return {name: str(value) for name, value in found.items() if isinstance(value, str | float | bool)}
