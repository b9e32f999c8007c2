"""The bytes that are hashed and signed; pure functions, no IO, no keys but public ones.

Rules:

1. What is hashed is what is stored: integers and bytes only, so that no driver can
   change a value on its way back (attack surface: re-serialisation; harm: false alarms
   that teach people to ignore true ones).
2. Every column of a record enters its row hash: the header by its fixed-width bytes,
   the blobs by their digests, the position by stream and number (attack: moving a row,
   swapping two, changing a column that "does not count").
3. Every hash and signature has its own prefix (attack: passing one kind of message off
   as another).
4. A missing optional id is 16 zero bytes *and* a cleared presence bit, so that NULL and
   zero cannot be exchanged.

Example:
    >>> body = content(pack_header(core), evidence_blob, None)
    >>> row_hash(stream_id, 0, opening.genesis(), body)  # doctest: +SKIP
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

VERSION = 1
ID_BYTES = 16
HASH_BYTES = 32
ZERO_ID = bytes(ID_BYTES)
ABSENT = bytes(HASH_BYTES)

HAS_SUBJECT, HAS_SESSION, HAS_MODEL, HAS_CLINICAL, HAS_EVIDENCE = 1, 2, 4, 8, 16
CLOCK_STEPPED_BACK = 32

_HEADER = struct.Struct(">B16sQHBBBI16s16s16s16sHH16sI")
_POSITION = struct.Struct(">16sQ")
_BATCH = struct.Struct(">16sQQ32s32s")
_END = struct.Struct(">16sQ32sQH")
_OPENING = struct.Struct(">16s32s32sQHB16siH")
_CHECKPOINT = struct.Struct(">Q32s32sQiHQ")


class CoreHeader(NamedTuple):
    """What the caller's side fixes; bound to the envelopes as associated data."""

    version: int
    record_id: bytes
    ts_us: int
    event_type: int
    action: int
    outcome: int
    phase: int
    flags: int
    subject_id: bytes | None
    principal_id: bytes
    web_session_ref: bytes | None
    correlation_id: bytes
    purpose: int
    lawful_basis: int
    model_ref: bytes | None
    retain_until_day: int


class Row(NamedTuple):
    """One stored record, in the order of the table's columns."""

    stream_id: bytes
    seq: int
    core: CoreHeader
    evidence_blob: bytes | None
    clinical_blob: bytes | None
    prev_hash: bytes
    row_hash: bytes

    def values(self) -> tuple[int | bytes | None, ...]:
        """All columns in table order."""
        head = (self.stream_id, self.seq, *self.core)
        tail = (self.evidence_blob, self.clinical_blob, self.prev_hash, self.row_hash)
        return head + tail

    @classmethod
    def from_values(cls, values: tuple[object, ...]) -> Row:
        """The row whose columns, in table order, are ``values``; nothing is checked."""
        core = CoreHeader(*values[2:18])  # type: ignore[arg-type]
        return cls(values[0], values[1], core, *values[18:22])  # type: ignore[arg-type]


def pack_header(core: CoreHeader) -> bytes:
    """The header as 131 big-endian bytes.

    Raises:
        struct.error: a value does not fit its width.
    """
    return _HEADER.pack(
        *core[:8],
        core.subject_id or ZERO_ID,
        core.principal_id,
        core.web_session_ref or ZERO_ID,
        core.correlation_id,
        core.purpose,
        core.lawful_basis,
        core.model_ref or ZERO_ID,
        core.retain_until_day,
    )


def content(header: bytes, evidence: bytes | None, clinical: bytes | None) -> bytes:
    """Digest of a record without its position."""
    return sha256(
        b"trivium.rec.1\x00"
        + header
        + (ABSENT if evidence is None else sha256(evidence).digest())
        + (ABSENT if clinical is None else sha256(clinical).digest())
    ).digest()


def row_hash(stream_id: bytes, seq: int, prev_hash: bytes, body: bytes) -> bytes:
    """Digest of a record at its position, after its predecessor."""
    position = _POSITION.pack(stream_id, seq)
    return sha256(b"trivium.row.1\x00" + position + prev_hash + body).digest()


def row_problem(row: Row) -> str | None:
    """Why a stored row contradicts itself, or None.

    Checks shapes first (``struct`` pads and cuts byte strings silently; attack: a
    shortened id that packs to the same header), then presence bits (rule 4), then the
    hash over everything (rule 2).
    """
    core = row.core
    ids = (core.record_id, core.principal_id, core.correlation_id, row.stream_id)
    optional = (core.subject_id, core.web_session_ref, core.model_ref)
    if not _ids_fit(ids, optional):
        return "malformed id"
    if type(row.prev_hash) is not bytes or len(row.prev_hash) != HASH_BYTES:
        return "malformed previous hash"
    if type(core.flags) is not int or presence(row) != core.flags & 31:
        return "presence bits do not fit"
    blobs = (row.evidence_blob, row.clinical_blob)
    for blob in blobs:
        if blob is not None and type(blob) is not bytes:
            return "malformed envelope"
    try:
        body = content(pack_header(core), *blobs)
        expected = row_hash(row.stream_id, row.seq, row.prev_hash, body)
    except struct.error:
        return "value out of range"
    return None if expected == row.row_hash else "row hash differs"


def _ids_fit(ids: tuple[bytes, ...], optional: tuple[bytes | None, ...]) -> bool:
    # Plain loops: a verification spends much of its time here.
    for value in ids:
        if type(value) is not bytes or len(value) != ID_BYTES:
            return False
    for found in optional:
        if found is not None and (type(found) is not bytes or len(found) != ID_BYTES):
            return False
    return True


def presence(row: Row) -> int:
    """The presence bits that the row's own columns call for."""
    return (
        (row.core.subject_id is not None) * HAS_SUBJECT
        | (row.core.web_session_ref is not None) * HAS_SESSION
        | (row.core.model_ref is not None) * HAS_MODEL
        | (row.clinical_blob is not None) * HAS_CLINICAL
        | (row.evidence_blob is not None) * HAS_EVIDENCE
    )


@dataclass(frozen=True, slots=True)
class Opening:
    """Opening statement of a stream: the node vouches for an ephemeral key."""

    stream_id: bytes
    pubkey: bytes
    node_id: bytes
    opened_us: int
    kind: int
    prev_stream: bytes | None
    clock_offset_us: int
    clock_source: int
    build: bytes

    def statement(self) -> bytes:
        """The bytes that the node key signs."""
        fixed = _OPENING.pack(
            self.stream_id,
            self.pubkey,
            self.node_id,
            self.opened_us,
            self.kind,
            self.prev_stream is not None,
            self.prev_stream or ZERO_ID,
            self.clock_offset_us,
            self.clock_source,
        )
        return b"trivium.open.1\x00" + fixed + self.build

    def genesis(self) -> bytes:
        """What record 0 names as its predecessor."""
        return sha256(self.statement()).digest()


def batch_message(
    stream_id: bytes, first_seq: int, last_seq: int, head_hash: bytes, root: bytes
) -> bytes:
    """What the ephemeral key signs at each commit."""
    fixed = _BATCH.pack(stream_id, first_seq, last_seq, head_hash, root)
    return b"trivium.batch.1\x00" + fixed


def end_message(
    stream_id: bytes, final_seq: int, head_hash: bytes, closed_us: int, reason: int
) -> bytes:
    """What the ephemeral key signs when a stream ends in good order."""
    fixed = _END.pack(stream_id, final_seq, head_hash, closed_us, reason)
    return b"trivium.end.1\x00" + fixed


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A signed statement about the whole tree; repeated as heartbeat when idle."""

    tree_size: int
    root: bytes
    prev: bytes  # digest of the checkpoint before, 32 zero bytes for the first
    created_us: int
    clock_offset_us: int
    clock_source: int
    tombstone: int  # number of the newest key destruction

    def message(self) -> bytes:
        """The bytes that the sealer's node key signs."""
        return b"trivium.checkpoint.1\x00" + _CHECKPOINT.pack(
            self.tree_size,
            self.root,
            self.prev,
            self.created_us,
            self.clock_offset_us,
            self.clock_source,
            self.tombstone,
        )

    def digest(self) -> bytes:
        """What the next checkpoint names as its predecessor."""
        return sha256(self.message()).digest()


def is_signed(pubkey: bytes, sig: bytes, message: bytes) -> bool:
    """Whether ``sig`` is the Ed25519 signature of ``message`` under ``pubkey``."""
    try:
        Ed25519PublicKey.from_public_bytes(pubkey).verify(sig, message)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True
