"""Merges all streams into one Merkle tree and signs checkpoints of it.

Rules:

1. Streams are walked by their own numbers, never by an autoincrement id (harm: rows
   that were committed late under a lower id are never sealed).
2. A checkpoint is signed at every round, also when nothing happened, so that silence is
   visible.
3. Before the first signature the tree is recomputed and compared with every anchored
   checkpoint; a tree that does not match is not signed (attack: rewrite the database
   while the sealer is down and let it vouch for the result).
4. The checkpoint is written to the database first and to the anchors after, so that
   what is anchored is always in the database.
5. Only one sealer works at a time.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, Engine, func, insert, select
from sqlalchemy.exc import SQLAlchemyError

from audit import tables
from audit.anchors import AnchoredCheckpoint, anchor_checkpoint, read_anchors
from audit.chain import ABSENT, Checkpoint
from audit.database import open_engine, reading
from audit.errors import DatabaseDownError, RefusedError
from audit.key_files import read_node_key
from audit.merkle import Frontier, leaf_hash
from audit.settings import AuditSettings

ROUND_LEAVES = 4096  # leaves of one transaction
INTERVAL_S = 1.0  # seconds between checkpoints
_ADVISORY = 0x7472_6976  # PostgreSQL advisory lock of the sealer


class Sealer:
    """The tree of one database, kept in memory as its frontier."""

    def __init__(
        self, engine: Engine, node_key: Ed25519PrivateKey, anchors: Path
    ) -> None:
        """Load and check the tree.

        Raises:
            RefusedError: it contradicts an anchored checkpoint (rule 3).
            DatabaseDownError: it cannot be read.
        """
        self._engine = engine
        self._node_key = node_key
        public = node_key.public_key().public_bytes_raw()
        self._node_id = sha256(public).digest()
        self._anchors = anchors
        self._tree = Frontier()
        self._sealed: dict[bytes, int] = {}  # stream -> last sealed seq
        self._prev = ABSENT
        self._load()

    def seal(self) -> Checkpoint:
        """One round: take in what is new, sign, anchor.

        Raises:
            DatabaseDownError: the database does not take it; nothing was anchored.
            OSError: the anchor file does not take it; the next start anchors it.
        """
        try:
            with self._engine.begin() as connection:
                tree, sealed = self._extend(connection)
                checkpoint = self._checkpoint(tree)
                sig = self._node_key.sign(checkpoint.message())
                values = _values(checkpoint) | {"node_id": self._node_id, "sig": sig}
                connection.execute(insert(tables.audit_checkpoint).values(values))
        except SQLAlchemyError as exc:
            raise DatabaseDownError("checkpoint not stored", in_doubt=True) from exc
        self._tree = tree
        self._sealed.update(sealed)
        self._prev = checkpoint.digest()
        anchor_checkpoint(self._anchors, checkpoint, self._node_id, sig)
        return checkpoint

    def follow(self, stop: threading.Event) -> int:
        """Seal once a second until told to stop; returns the number of rounds."""
        rounds = 0
        while not stop.is_set():
            size = self._tree.size
            self.seal()
            rounds += 1
            # A full round means that more waits.
            if self._tree.size - size < ROUND_LEAVES:
                stop.wait(INTERVAL_S)
        return rounds

    def _load(self) -> None:
        try:
            anchored = _anchored_roots(self._anchors)
            with reading(self._engine).begin() as connection:
                self._load_leaves(connection, anchored)
                self._load_checkpoints(connection)
        except SQLAlchemyError as exc:
            raise DatabaseDownError("tree cannot be read", in_doubt=False) from exc

    def _load_leaves(
        self, connection: Connection, anchored: dict[int, set[bytes]]
    ) -> None:
        leaf = tables.audit_leaf
        query = select(leaf).order_by(leaf.c.leaf_index)
        for row in connection.execution_options(yield_per=2000).execute(query):
            self._tree.append(row.leaf_hash)
            self._sealed[row.stream_id] = row.seq
            roots = anchored.pop(self._tree.size, None)
            if roots is not None and roots != {self._tree.root()}:
                raise RefusedError(f"tree of size {self._tree.size} is not as anchored")
        anchored.pop(0, None)
        if anchored:
            raise RefusedError(f"tree is shorter than anchored: {self._tree.size}")

    def _load_checkpoints(self, connection: Connection) -> None:
        """Find the newest checkpoint; anchor it if a crash came in between."""
        table = tables.audit_checkpoint
        newest = select(table).order_by(table.c.created_us.desc()).limit(1)
        row = connection.execute(newest).first()
        if row is None:
            return
        checkpoint = Checkpoint(*row[:7])
        self._prev = checkpoint.digest()
        last = None
        if self._anchors.exists():
            for anchor in read_anchors(self._anchors):
                if isinstance(anchor, AnchoredCheckpoint):
                    last = anchor.checkpoint
        if last is None or last.created_us < checkpoint.created_us:
            anchor_checkpoint(self._anchors, checkpoint, row.node_id, row.sig)

    def _extend(self, connection: Connection) -> tuple[Frontier, dict[bytes, int]]:
        tree = self._tree.copy()
        sealed: dict[bytes, int] = {}
        leaves: list[dict[str, object]] = []
        stream, end = tables.audit_stream, tables.audit_stream_end
        query = select(stream.c.stream_id, end.c.final_seq).outerjoin_from(
            stream, end, stream.c.stream_id == end.c.stream_id
        )
        for stream_id, final_seq in connection.execute(query).all():
            last = self._sealed.get(stream_id, -1)
            if final_seq is not None and last >= final_seq:
                continue
            room = ROUND_LEAVES - len(leaves)
            for seq, hashed in _new_rows(connection, stream_id, last, room):
                leaf = leaf_hash(hashed)
                index = {"leaf_index": tree.size, "stream_id": stream_id}
                leaves.append(index | {"seq": seq, "leaf_hash": leaf})
                tree.append(leaf)
                sealed[stream_id] = seq
        if leaves:
            connection.execute(insert(tables.audit_leaf), leaves)
        return tree, sealed

    def _checkpoint(self, tree: Frontier) -> Checkpoint:
        return Checkpoint(
            tree_size=tree.size,
            root=tree.root(),
            prev=self._prev,
            created_us=time.time_ns() // 1000,
            clock_offset_us=0,
            clock_source=0,
            tombstone=0,
        )


def _new_rows(
    connection: Connection, stream_id: bytes, last: int, room: int
) -> Iterator[tuple[int, bytes]]:
    """Rows behind ``last`` without a gap, as many as the round has room for."""
    record = tables.audit_record
    query = (
        select(record.c.seq, record.c.row_hash)
        .where(record.c.stream_id == stream_id, record.c.seq > last)
        .order_by(record.c.seq)
        .limit(room)
    )
    expected = last + 1
    for seq, hashed in connection.execute(query).all():
        if seq != expected:
            return  # the verifier names the gap; nothing behind it is sealed
        expected += 1
        yield seq, hashed


def _values(checkpoint: Checkpoint) -> dict[str, object]:
    names = Checkpoint.__dataclass_fields__
    return {name: getattr(checkpoint, name) for name in names}


def _anchored_roots(path: Path) -> dict[int, set[bytes]]:
    roots: dict[int, set[bytes]] = {}
    if not path.exists():
        return roots
    for anchor in read_anchors(path):
        if isinstance(anchor, AnchoredCheckpoint):
            checkpoint = anchor.checkpoint
            roots.setdefault(checkpoint.tree_size, set()).add(checkpoint.root)
    return roots


@contextmanager
def only_sealer(settings: AuditSettings) -> Iterator[Sealer]:
    """The sealer, while no other works on this database (rule 5).

    Raises:
        RefusedError: another one is at work, or the tree is not as anchored.
        DatabaseDownError: the database does not answer.
    """
    engine = open_engine(settings.url, setting="TRIVIUM_AUDIT_URL", busy_ms=5000)
    lock = settings.checkpoints.with_name(settings.checkpoints.name + ".lock")
    handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise RefusedError("another sealer is at work") from exc
        with _advisory(engine):
            node_key = read_node_key(settings.node_key_file)
            yield Sealer(engine, node_key, settings.checkpoints)
    finally:
        os.close(handle)
        engine.dispose()


@contextmanager
def _advisory(engine: Engine) -> Iterator[None]:
    """On PostgreSQL, hold the lock that sealers of other hosts see."""
    if engine.dialect.name != "postgresql":
        yield
        return
    try:
        with engine.connect() as connection:
            if not connection.scalar(select(func.pg_try_advisory_lock(_ADVISORY))):
                raise RefusedError("another sealer is at work")
            connection.commit()
            yield
            connection.scalar(select(func.pg_advisory_unlock(_ADVISORY)))
    except SQLAlchemyError as exc:
        raise DatabaseDownError("does not answer", in_doubt=False) from exc
