"""Keyless check of every stream: rows, links, numbers, batch signatures, both ends.

Rules and the attacks they answer:

1. Each row's hash is recomputed from the stored columns (edited row).
2. Rows link and number without a gap from 0 (removed, inserted, swapped rows). Only
   (stream, seq) orders; wall-clock time does not.
3. Each row is covered by a batch that the stream's key signed, and each batch by rows
   (rows added later, tail cut off).
4. Each stream's key is vouched for by a trusted node (stream made up by an attacker).
5. A stream's end states its last number (tail cut off together with its batches).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Select, select

from audit import tables
from audit.chain import (
    Opening,
    Row,
    batch_message,
    end_message,
    is_signed,
    row_problem,
)
from audit.findings import FindingKind, VerifyReport
from audit.merkle import leaf_hash, root
from audit.stream import StreamEnd, opening_of

CHUNK = 1000  # rows fetched at a time
Tick = Callable[[int], object]


def check_streams(
    connection: Connection,
    trust: Mapping[bytes, bytes],
    report: VerifyReport,
    tick: Tick,
) -> dict[bytes, tuple[Opening, bytes]]:
    """Check all streams; returns the registry, for the comparison with the anchors.

    Args:
        connection: a transaction that sees one snapshot.
        trust: public node keys by node id.
        report: takes counts and findings.
        tick: called with the number of rows since the last call.
    """
    streams = _registry(connection, trust, report)
    ends = {
        row.stream_id: StreamEnd(*row)
        for row in connection.execute(select(tables.audit_stream_end))
    }
    record, batch = tables.audit_record, tables.audit_batch
    rows = _ordered(
        connection, select(record).order_by(record.c.stream_id, record.c.seq)
    )
    batches = _Batches(
        _ordered(
            connection, select(batch).order_by(batch.c.stream_id, batch.c.first_seq)
        ),
        report,
    )
    seen = set()
    for stream_id, group in groupby(rows, itemgetter(0)):
        seen.add(stream_id)
        known = streams.get(stream_id)
        if known is None:
            report.add(FindingKind.STREAM_MISSING, stream_id, detail="not registered")
        opening = None if known is None else known[0]
        checker = _StreamCheck(stream_id, opening, batches.of(stream_id), report)
        for values in group:
            checker.row(Row.from_values(tuple(values)))
            tick(1)
        checker.finish(ends.pop(stream_id, None))
    batches.drain()
    for stream_id in streams.keys() - seen:
        report.add(FindingKind.TRUNCATED, stream_id, 0, detail="no rows")
    for stream_id in ends:
        report.add(FindingKind.TRUNCATED, stream_id, 0, detail="only its end is left")
    return streams


def _ordered(connection: Connection, query: Select[Any]) -> Iterator[Any]:
    return iter(connection.execution_options(yield_per=CHUNK).execute(query))


def _registry(
    connection: Connection, trust: Mapping[bytes, bytes], report: VerifyReport
) -> dict[bytes, tuple[Opening, bytes]]:
    """Rule 4."""
    streams: dict[bytes, tuple[Opening, bytes]] = {}
    for row in connection.execute(select(tables.audit_stream)):
        opening, node_sig = opening_of(tuple(row))
        report.streams += 1
        streams[opening.stream_id] = (opening, node_sig)
        node = trust.get(opening.node_id)
        if node is None:
            detail = "opened by a node that is not trusted"
            report.add(FindingKind.STREAM_ALTERED, opening.stream_id, 0, detail=detail)
        elif not _vouched(opening, node, node_sig):
            detail = "opening statement not signed by its node"
            report.add(FindingKind.STREAM_ALTERED, opening.stream_id, 0, detail=detail)
    for opening, _ in list(streams.values()):
        prev = opening.prev_stream
        if prev is not None and prev not in streams:
            detail = f"named as predecessor by {opening.stream_id.hex()}"
            report.add(FindingKind.STREAM_MISSING, prev, detail=detail)
    return streams


def _vouched(opening: Opening, node: bytes, node_sig: bytes) -> bool:
    try:
        statement = opening.statement()
    except (struct.error, TypeError):
        return False
    return is_signed(node, node_sig, statement)


class _Batches:
    """Batch rows in order of stream, handed out stream by stream."""

    def __init__(self, rows: Iterator[Any], report: VerifyReport) -> None:
        self._rows = rows
        self._report = report
        self._next: Any = next(rows, None)

    def of(self, stream_id: bytes) -> Iterator[Any]:
        """Batches of one stream; streams must be asked for in ascending order."""
        self._orphans(lambda found: found < stream_id)
        while self._next is not None and self._next.stream_id == stream_id:
            batch, self._next = self._next, next(self._rows, None)
            self._report.batches += 1
            yield batch

    def drain(self) -> None:
        """What is left belongs to streams without a row."""
        self._orphans(lambda found: True)

    def _orphans(self, belongs: Callable[[bytes], bool]) -> None:
        while self._next is not None and belongs(self._next.stream_id):
            batch, self._next = self._next, next(self._rows, None)
            place = (batch.stream_id, batch.first_seq, batch.last_seq)
            self._report.add(FindingKind.TRUNCATED, *place, detail="batch without rows")


class _StreamCheck:
    """State while the rows of one stream go by."""

    def __init__(
        self,
        stream_id: bytes,
        opening: Opening | None,
        batches: Iterator[Any],
        report: VerifyReport,
    ) -> None:
        self._id = stream_id
        self._opening = opening
        self._batches = batches
        self._report = report
        self._expected = 0
        self._head = None if opening is None else _genesis(opening)
        self._batch: Any = next(batches, None)
        self._hashes: list[bytes] = []
        self._whole = True  # no row of the current batch was missing

    def row(self, row: Row) -> None:
        """Rules 1 to 3 for one row."""
        self._report.records += 1
        self._number(row)
        problem = row_problem(row)
        if problem is not None:
            kind = FindingKind.ROW_ALTERED
            self._report.add(kind, self._id, row.seq, detail=problem)
        if self._head is not None and row.prev_hash != self._head:
            self._report.add(FindingKind.CHAIN_BROKEN, self._id, row.seq)
        self._head = row.row_hash
        self._sign(row)

    def finish(self, end: StreamEnd | None) -> None:
        """Rule 5, and batches that promise rows which are not there."""
        while self._batch is not None:
            first = max(self._batch.first_seq, self._expected)
            if self._is_signed(self._batch):
                self._truncated(first, self._batch.last_seq)
            else:
                place = (self._id, self._batch.first_seq, self._batch.last_seq)
                self._report.add(FindingKind.BATCH_ALTERED, *place)
            self._batch = next(self._batches, None)
        if end is not None:
            self._end(end)

    def _number(self, row: Row) -> None:
        """Rule 2."""
        if row.seq != self._expected:
            kind, last = FindingKind.ROWS_MISSING, row.seq - 1
            self._report.add(kind, self._id, self._expected, last)
            self._head = None
            self._whole = False
        self._expected = row.seq + 1

    def _sign(self, row: Row) -> None:
        """Rule 3."""
        while self._batch is not None and row.seq > self._batch.last_seq:
            # Its end was missing; the gap is already noted.
            self._next_batch()
        if self._batch is None or row.seq < self._batch.first_seq:
            self._report.add(FindingKind.UNSIGNED, self._id, row.seq)
            return
        if row.seq == self._batch.first_seq:
            self._hashes, self._whole = [], True
        self._hashes.append(row.row_hash)
        if row.seq == self._batch.last_seq:
            if self._whole:
                self._check_batch(row)
            self._next_batch()

    def _next_batch(self) -> None:
        self._batch = next(self._batches, None)
        self._hashes, self._whole = [], True

    def _check_batch(self, last: Row) -> None:
        batch = self._batch
        place = (self._id, batch.first_seq, batch.last_seq)
        root_here = root([leaf_hash(value) for value in self._hashes])
        same = (batch.head_hash, batch.batch_root) == (last.row_hash, root_here)
        if not same:
            detail = "does not cover its rows"
            self._report.add(FindingKind.BATCH_ALTERED, *place, detail=detail)
        elif not self._is_signed(batch):
            detail = "not signed by the stream's key"
            self._report.add(FindingKind.BATCH_ALTERED, *place, detail=detail)

    def _is_signed(self, batch: Any) -> bool:
        """Whether the stream's key signed a batch row, whatever became of its rows."""
        if self._opening is None:
            return True  # nobody to ask; that the stream is unknown is noted
        try:
            message = batch_message(*batch[:5])
        except (struct.error, TypeError):
            return False
        return is_signed(self._opening.pubkey, batch.sig, message)

    def _end(self, end: StreamEnd) -> None:
        if end.final_seq >= self._expected:
            self._truncated(self._expected, end.final_seq)
            return
        try:
            message = end_message(*end[:5])
        except (struct.error, TypeError):
            message = b""
        signed = self._opening and is_signed(self._opening.pubkey, end.sig, message)
        exact = (end.final_seq, end.head_hash) == (self._expected - 1, self._head)
        if self._opening and not (signed and exact):
            self._report.add(FindingKind.STREAM_END_ALTERED, self._id, end.final_seq)

    def _truncated(self, first: int, last: int) -> None:
        self._report.add(FindingKind.TRUNCATED, self._id, first, last)


def _genesis(opening: Opening) -> bytes | None:
    try:
        return opening.genesis()
    except (struct.error, TypeError):
        return None
