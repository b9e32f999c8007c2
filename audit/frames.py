"""The bytes of a journal file: frames of length, CRC-32 and payload.

A payload is a kind byte and a list of integers, byte strings and absent values. The CRC
finds torn writes; that nobody changed a frame is proved by the signatures inside.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import NamedTuple

from audit.errors import JournalError

_HEAD = struct.Struct(">II")
_INTEGER = struct.Struct(">q")
_LENGTH = struct.Struct(">I")

Value = int | bytes | None


class FrameKind(IntEnum):
    """What a frame holds."""

    OPEN = 1
    BATCH = 2
    SIDECAR = 3
    END = 4


class Frame(NamedTuple):
    """One decoded frame and the offset behind it."""

    kind: FrameKind
    values: tuple[Value, ...]
    end: int


def encode(kind: FrameKind, values: Iterable[Value]) -> bytes:
    """One frame, ready to be appended."""
    parts = [bytes([kind])]
    for value in values:
        if value is None:
            parts.append(b"N")
        elif isinstance(value, int):
            parts.append(b"I" + _INTEGER.pack(value))
        else:
            parts.append(b"B" + _LENGTH.pack(len(value)) + value)
    payload = b"".join(parts)
    return _HEAD.pack(len(payload), zlib.crc32(payload)) + payload


def read_frames(data: bytes) -> Iterator[Frame]:
    """Whole frames from the start of ``data``; stops at the first that is torn.

    A torn frame was never acknowledged: its write did not return.
    """
    at = 0
    while len(data) - at >= _HEAD.size:
        length, crc = _HEAD.unpack_from(data, at)
        start = at + _HEAD.size
        payload = data[start : start + length]
        if len(payload) < max(length, 1) or zlib.crc32(payload) != crc:
            return
        at = start + length
        yield Frame(_kind(payload[0]), _values(payload), at)


def _kind(code: int) -> FrameKind:
    try:
        return FrameKind(code)
    except ValueError as exc:
        raise JournalError("unknown frame") from exc


def _values(payload: bytes) -> tuple[Value, ...]:
    values: list[Value] = []
    at = 1
    try:
        while at < len(payload):
            tag = payload[at : at + 1]
            at += 1
            if tag == b"N":
                values.append(None)
            elif tag == b"I":
                values.append(_INTEGER.unpack_from(payload, at)[0])
                at += _INTEGER.size
            else:
                (length,) = _LENGTH.unpack_from(payload, at)
                at += _LENGTH.size + length
                values.append(payload[at - length : at])
    except struct.error as exc:
        raise JournalError("malformed frame") from exc
    return tuple(values)
