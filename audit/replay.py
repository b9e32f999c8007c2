"""Copies journal streams into the evidence database, unchanged.

Rules:

1. Nothing is copied before its signatures and hashes are checked (attack: plant a
   journal file and have the service itself write it into the append-only tables).
2. Copying is idempotent: a batch that is already there is skipped, so that a crash in
   the middle, or a second replayer, does no harm.
3. Key notes are consumed first: keys of records made while the key database was down
   move under their patient's DEK, so that a later erasure reaches them.
4. The file is removed only after everything, and the record of the replay, is durable.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import orjson
from sqlalchemy import ColumnElement, Connection, Engine, Table, insert, select
from sqlalchemy.exc import SQLAlchemyError

from audit import key_tables as kt
from audit import tables
from audit.chain import ZERO_ID, Opening, Row, batch_message, is_signed, row_problem
from audit.cipher import SealClass, unwrap, wrap
from audit.errors import DatabaseDownError, JournalError, KeysUnavailableError
from audit.event import Identifier
from audit.frames import Frame, FrameKind, read_frames
from audit.journal import pending
from audit.key_files import sync_folder
from audit.key_store import KeyStore, system_owner
from audit.stream import opening_of, stream_values

BATCH_COLUMNS = 6
REFUSED_SUFFIX = ".refused"


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What one file gave."""

    stream_id: str
    records: int
    batches: int
    dropped_bytes: int  # behind the last whole frame; never acknowledged


class Replayer:
    """Replays the files of one journal folder."""

    def __init__(
        self,
        folder: Path,
        engine: Engine,
        store: KeyStore,
        trust: Mapping[bytes, bytes],
    ) -> None:
        self._folder = folder
        self._engine = engine
        self._store = store
        self._trust = trust

    def replay_all(self, record: Callable[[ReplayReport], None]) -> list[ReplayReport]:
        """Replay every file that no living process is writing.

        Args:
            record: writes the audit record of one replay; must return only when that
                is durable.

        Raises:
            JournalError: a file fails its checks; it is set aside as ``.refused``.
            DatabaseDownError: the evidence database does not take it.
            KeysUnavailableError: the key database does not answer.
        """
        reports = []
        for path in pending(self._folder):
            with _locked(path) as data:
                if data is None:
                    continue
                reports.append(self._replay(path, data))
                record(reports[-1])
                path.unlink()
                sync_folder(self._folder)
        return reports

    def _replay(self, path: Path, data: bytes) -> ReplayReport:
        try:
            frames = list(read_frames(data))
            self._check(frames)
        except JournalError:
            path.rename(path.with_suffix(REFUSED_SUFFIX))
            raise
        records = batches = 0
        opening, node_sig = opening_of(frames[0].values)
        for frame in frames[1:]:
            if frame.kind is FrameKind.SIDECAR:
                self._adopt(frame)
            elif frame.kind is FrameKind.BATCH:
                records += len(_rows(frame))
                batches += 1
                self._copy(opening, node_sig, frame)
            elif frame.kind is FrameKind.END:
                self._copy_end(frame)
        dropped = len(data) - frames[-1].end
        return ReplayReport(opening.stream_id.hex(), records, batches, dropped)

    def _check(self, frames: list[Frame]) -> None:
        """Rule 1."""
        if not frames or frames[0].kind is not FrameKind.OPEN:
            raise JournalError("no opening statement")
        opening, node_sig = opening_of(frames[0].values)
        node = self._trust.get(opening.node_id)
        if node is None or not is_signed(node, node_sig, opening.statement()):
            raise JournalError("opening statement not signed by a trusted node")
        head, seq = opening.genesis(), 0
        for frame in (f for f in frames if f.kind is FrameKind.BATCH):
            stream_id, first, last, head_hash, batch_root, sig = frame.values[:6]
            for row in _rows(frame):
                fits = (row.stream_id, row.seq, row.prev_hash)
                if fits != (opening.stream_id, seq, head) or row_problem(row):
                    raise JournalError("broken chain")
                head, seq = row.row_hash, seq + 1
            if stream_id != opening.stream_id or (last, head_hash) != (seq - 1, head):
                raise JournalError("broken chain")
            message = batch_message(
                opening.stream_id,
                cast(int, first),
                seq - 1,
                head,
                cast(bytes, batch_root),
            )
            if not is_signed(opening.pubkey, cast(bytes, sig), message):
                raise JournalError("batch not signed")

    def _copy(self, opening: Opening, node_sig: bytes, frame: Frame) -> None:
        stream, batch, record = (
            tables.audit_stream,
            tables.audit_batch,
            tables.audit_record,
        )
        key = (batch.c.stream_id == frame.values[0]) & (
            batch.c.first_seq == frame.values[1]
        )
        try:
            with self._engine.begin() as connection:
                if not _exists(
                    connection, stream, stream.c.stream_id == frame.values[0]
                ):
                    values = _named(stream, stream_values(opening, node_sig))
                    connection.execute(insert(stream).values(values))
                if _exists(connection, batch, key):
                    return
                rows = [_named(record, row.values()) for row in _rows(frame)]
                connection.execute(insert(record), rows)
                values = _named(batch, frame.values[:BATCH_COLUMNS])
                connection.execute(insert(batch).values(values))
        except SQLAlchemyError as exc:
            raise DatabaseDownError("replay failed", in_doubt=True) from exc

    def _copy_end(self, frame: Frame) -> None:
        table = tables.audit_stream_end
        try:
            with self._engine.begin() as connection:
                if not _exists(connection, table, table.c.stream_id == frame.values[0]):
                    connection.execute(
                        insert(table).values(_named(table, frame.values))
                    )
        except SQLAlchemyError as exc:
            raise DatabaseDownError("replay failed", in_doubt=True) from exc

    def _adopt(self, frame: Frame) -> None:
        """Rule 3."""
        record_id, note = cast(tuple[bytes, bytes], frame.values)
        epoch = int.from_bytes(note[:4], "big")
        kek = self._store.kek_of(epoch)
        plain = orjson.loads(unwrap(kek, epoch, note[4:], record_id, 0, ZERO_ID))
        try:
            with self._store.engine.begin() as connection:
                owner = self._identify(connection, plain)
                for seal_class, (key_id, key) in plain["keys"].items():
                    self._store_key(
                        connection,
                        record_id,
                        owner,
                        SealClass(int(seal_class)),
                        bytes.fromhex(key_id),
                        bytes.fromhex(key),
                    )
        except SQLAlchemyError as exc:
            raise KeysUnavailableError("key database refuses") from exc

    def _identify(self, connection: Connection, plain: dict[str, object]) -> bytes:
        """Enrol or join the people of a key note; return whose keys serve it."""
        kind, system, value = cast(list[str], plain["principal"])
        provisional = bytes.fromhex(cast(str, plain["principal_id"]))
        found = self._store.identify(
            connection, "principal", Identifier(system, value), kind, provisional
        )
        _join(connection, "principal", provisional, found)
        if plain["subject"] is None:
            owner = system_owner(cast(str, plain["month"]))
            self._store.ensure_system(connection, owner)
            return owner
        system, value = cast(list[str], plain["subject"])
        provisional = bytes.fromhex(cast(str, plain["subject_id"]))
        owner = self._store.identify(
            connection, "subject", Identifier(system, value), preferred=provisional
        )
        _join(connection, "subject", provisional, owner)
        return owner

    def _store_key(
        self,
        connection: Connection,
        record_id: bytes,
        owner: bytes,
        seal_class: SealClass,
        key_id: bytes,
        key: bytes,
    ) -> None:
        table = kt.record_key
        same = (table.c.record_id == record_id) & (table.c["class"] == int(seal_class))
        if _exists(connection, table, same):
            return
        dek = self._store.dek(connection, owner, seal_class)
        values = {
            "record_id": record_id,
            "class": int(seal_class),
            "subject_id": owner,
            "key_id": key_id,
            "wrapped": wrap(dek.material, 0, key, record_id, int(seal_class), key_id),
        }
        connection.execute(insert(table).values(values))


@contextmanager
def _locked(path: Path) -> Iterator[bytes | None]:
    """The file's bytes, or None while a living process writes or replays it."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        # Another replayer may have removed it between our open and our lock.
        gone = os.fstat(handle).st_nlink == 0
        with open(handle, "rb", closefd=False) as file:
            yield None if gone else file.read()
    finally:
        os.close(handle)


def _rows(frame: Frame) -> list[Row]:
    width = len(tables.audit_record.columns)
    flat = frame.values[BATCH_COLUMNS:]
    if len(flat) % width:
        raise JournalError("malformed frame")
    starts = range(0, len(flat), width)
    return [Row.from_values(flat[start : start + width]) for start in starts]


def _named(table: Table, values: tuple[object, ...]) -> dict[str, object]:
    names = [column.name for column in table.columns]
    return dict(zip(names, values, strict=True))


def _exists(connection: Connection, table: Table, where: ColumnElement[bool]) -> bool:
    query = select(1).select_from(table).where(where)
    return connection.execute(query.limit(1)).first() is not None


def _join(connection: Connection, realm: str, provisional: bytes, found: bytes) -> None:
    if provisional == found:
        return
    table = kt.subject_alias if realm == "subject" else kt.principal_alias
    if not _exists(connection, table, table.c.from_id == provisional):
        row = (provisional, found, kt.ALIAS_PROVISIONAL)
        connection.execute(insert(table).values(_named(table, row)))
