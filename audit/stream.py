"""One stream: the hash chain of one writing process, signed batch by batch.

Rules:

1. The signing key is made with the stream, stays in memory and is dropped with it
   (attack: somebody who later steals database and KEK re-signs history).
2. Preparing a batch changes nothing; the stream moves on only when the batch is durable
   (harm: a chain that names a predecessor which was never stored).
3. Record 0 is ``stream.open`` and names the hash of the opening statement that the node
   signed as its predecessor (attack: a stream whose beginning was cut off).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from enum import IntEnum
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.chain import (
    VERSION,
    CoreHeader,
    Opening,
    Row,
    batch_message,
    content,
    end_message,
    pack_header,
    row_hash,
)
from audit.envelope import DAY_US, Sealed, new_record_id
from audit.merkle import leaf_hash, root
from audit.receipt import Receipt, SignedBatch
from audit.vocabulary import (
    Action,
    EventType,
    LawfulBasis,
    Outcome,
    Phase,
    Purpose,
)

MAX_BATCH = 64  # records of one commit


class StreamKind(IntEnum):
    """Which process writes."""

    WEB = 1
    JOB = 2
    SEALER = 3
    CLI = 4
    JOURNAL = 5
    CONSOLE = 6


class EndReason(IntEnum):
    """Why a stream ended in good order."""

    CLOSED = 1
    REPLAYED = 2


class StreamEnd(NamedTuple):
    """The row of ``audit_stream_end``."""

    stream_id: bytes
    final_seq: int
    head_hash: bytes
    closed_us: int
    reason: int
    sig: bytes


class Prepared(NamedTuple):
    """A batch ready to be stored; ``records`` are the rows that callers wait for."""

    rows: list[Row]
    batch: SignedBatch
    records: list[Row]


class Stream:
    """Position and key of one chain; used by one thread at a time."""

    def __init__(
        self,
        node_key: Ed25519PrivateKey,
        kind: StreamKind,
        retention_days: int,
        prev_stream: bytes | None = None,
    ) -> None:
        self._key = Ed25519PrivateKey.generate()
        node_public = node_key.public_key().public_bytes_raw()
        self.opening = Opening(
            stream_id=os.urandom(16),
            pubkey=self._key.public_key().public_bytes_raw(),
            node_id=sha256(node_public).digest(),
            opened_us=time.time_ns() // 1000,
            kind=int(kind),
            prev_stream=prev_stream,
            # Not measured: the host's own synchronisation is not ours to vouch for.
            clock_offset_us=0,
            clock_source=0,
            build=build_name(),
        )
        self.statement = self.opening.statement()
        self.node_sig = node_key.sign(self.statement)
        self.stream_id = self.opening.stream_id
        self.next_seq = 0
        self._head = self.opening.genesis()
        self._retention_days = retention_days

    def prepare(self, records: Iterable[Sealed]) -> Prepared:
        """Chain and sign a batch without moving on (rule 2)."""
        first = seq = self.next_seq
        head, rows = self._head, []
        waiting = list(records)
        if seq == 0:
            waiting.insert(0, self._opening_record())
        for sealed in waiting:
            hashed = row_hash(self.stream_id, seq, head, sealed.content)
            blobs = (sealed.evidence, sealed.clinical)
            rows.append(Row(self.stream_id, seq, sealed.core, *blobs, head, hashed))
            head = hashed
            seq += 1
        hashes = tuple(row.row_hash for row in rows)
        batch_root = root([leaf_hash(value) for value in hashes])
        message = batch_message(self.stream_id, first, seq - 1, head, batch_root)
        sig = self._key.sign(message)
        batch = SignedBatch(
            self.stream_id, first, seq - 1, head, batch_root, sig, hashes
        )
        return Prepared(rows, batch, rows[1:] if first == 0 else rows)

    def advance(self, batch: SignedBatch) -> None:
        """Move on: ``batch`` is durable."""
        self.next_seq = batch.last_seq + 1
        self._head = batch.head_hash

    def receipt(self, row: Row, batch: SignedBatch, device: str) -> Receipt:
        """Proof of one row of a durable batch."""
        return Receipt(
            stream_id=self.stream_id.hex(),
            seq=row.seq,
            row_hash=row.row_hash.hex(),
            record_id=row.core.record_id.hex(),
            device=device,
            batch=batch,
            statement=self.statement,
            node_sig=self.node_sig,
        )

    def end(self, reason: EndReason) -> StreamEnd:
        """The signed statement that nothing follows; drop the stream after it."""
        closed = time.time_ns() // 1000
        last = self.next_seq - 1
        message = end_message(self.stream_id, last, self._head, closed, int(reason))
        sig = self._key.sign(message)
        return StreamEnd(self.stream_id, last, self._head, closed, int(reason), sig)

    def _opening_record(self) -> Sealed:
        opening = self.opening
        core = CoreHeader(
            version=VERSION,
            record_id=new_record_id(opening.opened_us),
            ts_us=opening.opened_us,
            event_type=EventType.STREAM_OPEN.code,
            action=Action.EXECUTE.code,
            outcome=Outcome.OK.code,
            phase=Phase.SINGLE.code,
            flags=0,
            subject_id=None,
            principal_id=opening.node_id[:16],
            web_session_ref=None,
            correlation_id=opening.stream_id,
            purpose=Purpose.HOPERAT.code,
            lawful_basis=LawfulBasis.LEGAL_OBLIGATION.code,
            model_ref=None,
            retain_until_day=opening.opened_us // DAY_US + self._retention_days,
        )
        return Sealed(core, None, None, content(pack_header(core), None, None), None)


def stream_values(opening: Opening, node_sig: bytes) -> tuple[object, ...]:
    """The row of ``audit_stream``, in table order."""
    return (
        opening.stream_id,
        opening.pubkey,
        opening.node_id,
        opening.opened_us,
        opening.kind,
        opening.prev_stream,
        opening.clock_offset_us,
        opening.clock_source,
        opening.build,
        node_sig,
    )


def opening_of(values: Sequence[object]) -> tuple[Opening, bytes]:
    """The inverse of :func:`stream_values`; nothing is checked."""
    return Opening(*values[:9]), values[9]  # type: ignore[arg-type, return-value]


def batch_values(batch: SignedBatch) -> tuple[object, ...]:
    """The row of ``audit_batch``, in table order."""
    return (
        batch.stream_id,
        batch.first_seq,
        batch.last_seq,
        batch.head_hash,
        batch.batch_root,
        batch.sig,
    )


def build_name() -> bytes:
    """Name and version of this software, at most 64 bytes."""
    try:
        return f"trivium-cds {version('trivium-cds')}".encode()[:64]
    except PackageNotFoundError:
        return b"trivium-cds source tree"
