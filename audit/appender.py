"""Group commit: one thread that writes what waits, and the way out when it cannot.

Rules:

1. One thread per process takes whatever is queued, at most 64 records, adds no delay,
   and commits once (no lock is held in the database between commits; attack or harm:
   a global chain lock that stalls every writer).
2. A caller never waits longer than its deadline for the database. When it passes, the
   caller itself moves everything that waits to the journal, because the thread may hang
   inside the driver (harm: one device that hangs freezes a service although another
   works).
3. After an outcome in doubt the stream ends and its successor names it; a record may
   then be in two streams, never in none.
4. While the database is away it is probed; when it is back, the journal is replayed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from enum import Enum

from audit.envelope import Sealed
from audit.errors import AuditError, AuditUnavailableError, DatabaseDownError
from audit.primary import PrimaryDevice
from audit.receipt import Receipt
from audit.spill import Group, GroupState, JournalWriter
from audit.stream import MAX_BATCH, EndReason, Prepared, Stream

LOG = logging.getLogger("trivium.audit")


class Mode(Enum):
    """Where records go."""

    DATABASE = "database"
    JOURNAL = "journal"


class Appender:
    """The queue, its thread and the database stream of one process."""

    def __init__(
        self,
        primary: PrimaryDevice,
        journal: JournalWriter,
        open_stream: Callable[[bytes | None], Stream],
        announce: Callable[[Stream], None],
        replay: Callable[[], None],
        probe_interval_s: float,
    ) -> None:
        """Nothing is opened before the first record.

        Args:
            primary: the database.
            journal: the fallback.
            open_stream: makes a stream, given its predecessor.
            announce: tells the anchors about a stream that is durable.
            replay: copies the journal into the database; runs on its own thread.
            probe_interval_s: seconds between tries.
        """
        self._primary = primary
        self._journal = journal
        self._open_stream = open_stream
        self._announce = announce
        self._replay = replay
        self._interval = probe_interval_s
        self._cond = threading.Condition()
        self._queue: deque[Group] = deque()
        self._inflight: list[Group] = []
        self._mode = Mode.DATABASE
        self._closing = False
        self._stream: Stream | None = None
        self._replayer: threading.Thread | None = None
        self._replay_at = 0.0  # monotonic time from which a replay may start
        self._started = False
        self._thread = threading.Thread(
            target=self._run, name="trivium-audit-appender", daemon=True
        )

    @property
    def mode(self) -> Mode:
        """Where records go."""
        return self._mode

    def submit(self, sealed: list[Sealed], deadline_s: float) -> list[Receipt]:
        """Make at most 64 records durable together.

        Raises:
            AuditUnavailableError: neither database nor journal took them.
        """
        group = Group(sealed)
        with self._cond:
            if self._closing:
                raise AuditUnavailableError("closed")
            if not self._started:
                self._started = True
                self._thread.start()
            # Keys were not to be had: only the journal can carry the key notes.
            spilled = any(record.sidecar is not None for record in sealed)
            if self._mode is Mode.JOURNAL or spilled:
                group.state = GroupState.SPILLED
            else:
                self._queue.append(group)
                self._cond.notify()
        if group.state is GroupState.WAITING and not group.wait(deadline_s):
            self._overtake(group)
        if group.state is GroupState.SPILLED:
            self._journal.commit(group)
            with self._cond:
                self._cond.notify()  # there is something to replay
        if group.error is not None:
            raise AuditUnavailableError(group.error)
        return group.receipts

    def close(self, timeout_s: float) -> None:
        """Write what waits, end the streams, stop the threads."""
        with self._cond:
            self._closing = True
            self._cond.notify()
        if self._started:
            self._thread.join(timeout_s)
        replayer = self._replayer
        if replayer is not None:
            replayer.join(timeout_s)
        self._journal.finish()

    def _overtake(self, group: Group) -> None:
        """Rule 2: the deadline has passed, everything that waits moves on."""
        with self._cond:
            if group.state is not GroupState.WAITING:
                return
            self._to_journal("deadline")

    def _to_journal(self, reason: str) -> None:
        """Hand all waiting groups to their callers; the condition is held."""
        if self._mode is Mode.DATABASE:
            LOG.warning("audit: journal takes over: %s", reason)
        self._mode = Mode.JOURNAL
        waiting = [*self._inflight, *self._queue]
        self._inflight = []
        self._queue.clear()
        for group in waiting:
            group.spill()

    def _run(self) -> None:
        while True:
            batch = self._next()
            if batch:
                self._commit(batch)
            elif self._closing:
                break
            elif self._mode is Mode.JOURNAL:
                self._probe()
            self._maybe_replay()
        self._end_stream()

    def _next(self) -> list[Group]:
        """What to commit now; empty when there is only house-keeping to do."""
        with self._cond:
            if not self._queue and not self._closing:
                self._cond.wait(self._interval if self._busy() else None)
            batch: list[Group] = []
            room = MAX_BATCH
            while self._queue and len(self._queue[0].sealed) <= room:
                batch.append(self._queue.popleft())
                room -= len(batch[-1].sealed)
            self._inflight = batch
            return batch

    def _busy(self) -> bool:
        return self._mode is Mode.JOURNAL or self._journal.dirty

    def _commit(self, batch: list[Group]) -> None:
        try:
            prepared = self._write([s for group in batch for s in group.sealed])
        except DatabaseDownError as exc:
            with self._cond:
                self._to_journal(exc.reason)
            return
        stream, rows = self._stream, iter(prepared.records)
        if stream is None:
            raise AssertionError("a batch was written without a stream")
        with self._cond:
            self._inflight = []
            for group in batch:
                receipts = [
                    stream.receipt(next(rows), prepared.batch, "database")
                    for _ in group.sealed
                ]
                if group.state is GroupState.WAITING:
                    group.finish(receipts)

    def _write(self, sealed: list[Sealed]) -> Prepared:
        """Chain, sign and commit; opens the stream with its first batch."""
        stream = self._stream or self._open_stream(None)
        fresh = stream.next_seq == 0
        prepared = stream.prepare(sealed)
        opening = (stream.opening, stream.node_sig) if fresh else None
        try:
            self._primary.write(prepared.rows, prepared.batch, opening)
        except DatabaseDownError as exc:
            # Rule 3: numbers that may have been used are not used again.
            if exc.in_doubt:
                prev = stream.opening.prev_stream if fresh else stream.stream_id
                self._stream = self._open_stream(prev)
            raise
        stream.advance(prepared.batch)
        self._stream = stream
        if fresh:
            self._announce(stream)
            self._replay_at = time.monotonic()
        return prepared

    def _probe(self) -> None:
        """Rule 4."""
        try:
            if self._stream is None or self._stream.next_seq == 0:
                self._write([])
            else:
                self._primary.probe()
        except DatabaseDownError:
            return
        with self._cond:
            self._mode = Mode.DATABASE
        LOG.warning("audit: database is back")
        self._replay_at = time.monotonic()

    def _maybe_replay(self) -> None:
        """Start the replay when something waits and the database takes records."""
        if not self._journal.dirty or self._mode is Mode.JOURNAL or self._closing:
            return
        running = self._replayer is not None and self._replayer.is_alive()
        if running or self._stream is None or time.monotonic() < self._replay_at:
            return
        self._replay_at = time.monotonic() + self._interval
        self._replayer = threading.Thread(
            target=self._run_replay, name="trivium-audit-replay", daemon=True
        )
        self._replayer.start()

    def _run_replay(self) -> None:
        self._journal.finish()
        try:
            self._replay()
            self._journal.look()
        except AuditError as exc:
            # Nothing is lost: the files stay and the next round tries again.
            LOG.warning("audit: replay stopped: %s", exc)

    def _end_stream(self) -> None:
        stream = self._stream
        if stream is None or stream.next_seq == 0 or self._mode is Mode.JOURNAL:
            self._primary.reset()
            return
        try:
            self._primary.write_end(stream.end(EndReason.CLOSED))
            self._primary.reset()
        except DatabaseDownError as exc:
            LOG.warning("audit: stream end not stored: %s", exc.reason)
