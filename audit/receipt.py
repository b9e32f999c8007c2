"""The proof that a record was durable, small enough for a card to carry.

A receipt holds the row's hash, its Merkle path to the root of its signed batch, the
batch signature by the stream's ephemeral key, and the opening statement by which the
node vouched for that key. It is checked with the node's public key alone, even after
row, batch and stream are gone (attack: "I never saw that card" after a deletion).
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class SignedBatch:
    """One group commit: the rows' hashes in order and the signature over them."""

    stream_id: bytes
    first_seq: int
    last_seq: int
    head_hash: bytes
    batch_root: bytes
    sig: bytes
    row_hashes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Receipt:
    """Position and proof of one durable record.

    ``device`` is "database" or "journal": both are durable, the second is copied into
    the database later. ``statement`` and ``node_sig`` are the stream's opening
    statement as signed by the node.
    """

    stream_id: str
    seq: int
    row_hash: str
    record_id: str
    device: str
    batch: SignedBatch
    statement: bytes
    node_sig: bytes

    def path(self) -> tuple[bytes, ...]:
        """Inclusion path from the row's leaf to ``batch.batch_root`` (at most 6)."""
        from audit.merkle import inclusion_path, leaf_hash

        leaves = [leaf_hash(row) for row in self.batch.row_hashes]
        return tuple(inclusion_path(self.seq - self.batch.first_seq, leaves))

    def to_json(self) -> dict[str, Any]:
        """The receipt as JSON values, bytes in base64."""
        return {
            "version": 1,
            "stream_id": self.stream_id,
            "seq": self.seq,
            "row_hash": self.row_hash,
            "record_id": self.record_id,
            "first_seq": self.batch.first_seq,
            "last_seq": self.batch.last_seq,
            "head_hash": _text(self.batch.head_hash),
            "batch_root": _text(self.batch.batch_root),
            "path": [_text(node) for node in self.path()],
            "sig": _text(self.batch.sig),
            "statement": _text(self.statement),
            "node_sig": _text(self.node_sig),
        }


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")
