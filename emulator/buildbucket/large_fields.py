"""The large fields of a build in notifications: a compressed binary ``Build`` message."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from emulator.buildbucket.schema import STATUS_NUMBERS
from emulator.building.wire_time import parse_timestamp
from luci_scheduler.core.instants import SECOND

__all__ = ["compressed_large_fields"]

# Field numbers of buildbucket.v2.Build, Build.Input / Build.Output (the same for both) and Step.
_INPUT, _OUTPUT, _STEPS = 15, 16, 17
_PROPERTIES = 1
_STEP_NAME, _STEP_START, _STEP_END, _STEP_STATUS = 1, 2, 3, 4
_LENGTH_DELIMITED = 2


def compressed_large_fields(
    input_properties: Mapping[str, Any], output_properties: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]
) -> bytes:
    """Return a zlib-compressed binary Build with only these fields, without empty properties and steps."""
    message = b""
    if input_properties:
        message += _field(_INPUT, _field(_PROPERTIES, _struct(input_properties)))
    # The output message is always set, even if it is empty.
    message += _field(_OUTPUT, _field(_PROPERTIES, _struct(output_properties)) if output_properties else b"")
    return zlib.compress(message + b"".join(_field(_STEPS, _step(step)) for step in steps))


def _step(step: Mapping[str, Any]) -> bytes:
    encoded = _field(_STEP_NAME, str(step["name"]).encode())
    for number, name in ((_STEP_START, "startTime"), (_STEP_END, "endTime")):
        if name in step:
            seconds, nanos = divmod(parse_timestamp(step[name]), SECOND)
            encoded += _field(number, Timestamp(seconds=seconds, nanos=nanos).SerializeToString())
    return encoded + _varint(_STEP_STATUS << 3) + _varint(STATUS_NUMBERS[step["status"]])


def _struct(value: Mapping[str, Any]) -> bytes:
    return ParseDict(dict(value), Struct()).SerializeToString(deterministic=True)


def _field(number: int, payload: bytes) -> bytes:
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(len(payload)) + payload


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits to a byte
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
