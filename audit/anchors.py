"""The anchor file: what the log once said about itself, outside the database.

One JSON object a line, only ever appended: ``open`` for the opening statement of each
stream (attack: drop a whole stream and its registry row) and ``checkpoint`` for each
signed tree head (attack: rewrite rows, batches and checkpoints alike). Put the file on
another host, or make it append-only with ``chattr +a``.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from audit.chain import Checkpoint, Opening
from audit.errors import UncheckableError


@dataclass(frozen=True, slots=True)
class AnchoredStream:
    """An ``open`` line."""

    line: int
    opening: Opening
    node_sig: bytes


@dataclass(frozen=True, slots=True)
class AnchoredCheckpoint:
    """A ``checkpoint`` line."""

    line: int
    checkpoint: Checkpoint
    node_id: bytes
    sig: bytes


@dataclass(frozen=True, slots=True)
class UnreadableLine:
    """A line that is no anchor."""

    line: int


Anchor = AnchoredStream | AnchoredCheckpoint | UnreadableLine


def anchor_stream(path: Path, opening: Opening, node_sig: bytes) -> None:
    """Append an ``open`` line.

    Raises:
        OSError: the file cannot be written.
    """
    fields = {name: _text(getattr(opening, name)) for name in _OPENING}
    _append(path, {"anchor": "open", **fields, "node_sig": node_sig.hex()})


def anchor_checkpoint(
    path: Path, checkpoint: Checkpoint, node_id: bytes, sig: bytes
) -> None:
    """Append a ``checkpoint`` line.

    Raises:
        OSError: the file cannot be written.
    """
    fields = {name: _text(getattr(checkpoint, name)) for name in _CHECKPOINT}
    signed = {"node_id": node_id.hex(), "sig": sig.hex()}
    _append(path, {"anchor": "checkpoint", **fields, **signed})


def read_anchors(path: Path) -> Iterator[Anchor]:
    """All lines, in order; a line that cannot be understood is given as such.

    Raises:
        UncheckableError: the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                yield _parse(number, line)
    except OSError as exc:
        raise UncheckableError("anchor file cannot be read") from exc


def _parse(number: int, line: bytes) -> Anchor:
    try:
        found = orjson.loads(line)
        if found["anchor"] == "open":
            opening = Opening(**{n: _value(n, found[n]) for n in _OPENING})
            opening.statement()
            return AnchoredStream(number, opening, bytes.fromhex(found["node_sig"]))
        values = {n: _value(n, found[n]) for n in _CHECKPOINT}
        checkpoint = Checkpoint(**values)
        checkpoint.message()
        signed = (bytes.fromhex(found["node_id"]), bytes.fromhex(found["sig"]))
        return AnchoredCheckpoint(number, checkpoint, *signed)
    except (ValueError, KeyError, TypeError, struct.error):
        return UnreadableLine(number)


_OPENING = tuple(Opening.__dataclass_fields__)
_CHECKPOINT = tuple(Checkpoint.__dataclass_fields__)
_BYTES = frozenset(
    {"stream_id", "pubkey", "node_id", "prev_stream", "build", "root", "prev"}
)


def _text(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else value


def _value(name: str, value: Any) -> Any:
    return bytes.fromhex(value) if name in _BYTES and value is not None else value


def _append(path: Path, fields: dict[str, object]) -> None:
    # One write to an O_APPEND file: lines of several processes do not mix.
    data = orjson.dumps(fields) + b"\n"
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    handle = os.open(path, flags, 0o644)
    try:
        size = os.fstat(handle).st_size
        # A line torn by a crash must not swallow this one.
        if size and os.pread(handle, 1, size - 1) != b"\n":
            data = b"\n" + data
        os.write(handle, data)
        os.fdatasync(handle)
    finally:
        os.close(handle)
