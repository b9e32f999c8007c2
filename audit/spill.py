"""Groups of records that wait together, and their way into the journal.

The journal is written by the callers themselves: the first takes the lock and writes
for all that wait, so a batch is shared even though no thread of its own exists that
could hang.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from enum import Enum
from pathlib import Path

from audit.envelope import Sealed
from audit.errors import JournalError
from audit.journal import ALARM_SHARE, JournalFile, pending
from audit.receipt import Receipt
from audit.stream import MAX_BATCH, EndReason, Stream

LOG = logging.getLogger("trivium.audit")


class GroupState(Enum):
    """Where a group of records stands."""

    WAITING = "waiting"
    SPILLED = "spilled"
    DONE = "done"


class Group:
    """Records of one call: durable together or not at all."""

    __slots__ = ("sealed", "state", "receipts", "error", "_gate")

    def __init__(self, sealed: list[Sealed]) -> None:
        self.sealed = sealed
        self.state = GroupState.WAITING
        self.receipts: list[Receipt] = []
        self.error: str | None = None
        # A bare lock as one-shot gate: cheaper than an Event, and this is hot.
        self._gate = threading.Lock()
        self._gate.acquire()

    def wait(self, timeout_s: float) -> bool:
        """Wait until something is decided; False when the time is over."""
        return self._gate.acquire(timeout=max(timeout_s, 0.0))

    def finish(self, receipts: list[Receipt]) -> None:
        """The records are durable."""
        self.receipts = receipts
        self.state = GroupState.DONE
        self._gate.release()

    def spill(self) -> None:
        """The database does not take the records: the caller goes to the journal."""
        self.state = GroupState.SPILLED
        self._gate.release()


class JournalWriter:
    """The journal stream of one process, opened when first needed."""

    def __init__(
        self,
        folder: Path,
        max_bytes: int,
        open_stream: Callable[[bytes | None], Stream],
        announce: Callable[[Stream], None],
    ) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._open_stream = open_stream
        self._announce = announce
        self._lock = threading.Lock()
        self._groups: deque[Group] = deque()
        self._stream: Stream | None = None
        self._file: JournalFile | None = None
        self.dirty = False
        self.look()

    def commit(self, group: Group) -> None:
        """Make ``group`` durable in the journal, or set its error."""
        self._groups.append(group)
        with self._lock:
            while group.state is not GroupState.DONE:
                self._commit_waiting()

    def look(self) -> None:
        """Look whether files wait to be replayed: ours, or those of a dead process."""
        try:
            self.dirty = self._file is not None or bool(pending(self._folder))
        except JournalError as exc:
            LOG.error("audit: journal cannot be read: %s", exc.reason)

    def finish(self) -> None:
        """End the stream, so that its file can be replayed."""
        with self._lock:
            stream, file = self._stream, self._file
            self._stream = self._file = None
            if stream is None or file is None:
                return
            if stream.next_seq == 0:
                file.discard()
                return
            try:
                file.finish(stream.end(EndReason.CLOSED))
            except JournalError as exc:
                LOG.warning("audit: journal not ended: %s", exc.reason)

    def abandon(self) -> None:
        """In a forked child: drop the parent's file without a word in it."""
        if self._file is not None:
            self._file.close()
        self._stream = self._file = None

    def _commit_waiting(self) -> None:
        batch: list[Group] = []
        room = MAX_BATCH
        while self._groups and len(self._groups[0].sealed) <= room:
            batch.append(self._groups.popleft())
            room -= len(batch[-1].sealed)
        try:
            self._write(batch)
        except JournalError as exc:
            LOG.error("audit: journal refuses: %s", exc.reason)
            if self._file is not None and self._file.broken:
                self._file.close()
                self._stream = self._file = None
            for group in batch:
                group.error = f"database and journal: {exc.reason}"
                group.state = GroupState.DONE

    def _write(self, batch: list[Group]) -> None:
        stream, file = self._opened()
        sealed = [record for group in batch for record in group.sealed]
        prepared = stream.prepare(sealed)
        notes = {s.core.record_id: s.sidecar for s in sealed if s.sidecar is not None}
        file.write(prepared, notes)
        self.dirty = True
        fresh = stream.next_seq == 0
        stream.advance(prepared.batch)
        if file.usage() > ALARM_SHARE:
            LOG.error("audit: journal is %d %% full", int(100 * file.usage()))
        rows = iter(prepared.records)
        for group in batch:
            group.receipts = [
                stream.receipt(next(rows), prepared.batch, "journal")
                for _ in group.sealed
            ]
            group.state = GroupState.DONE
        if fresh:
            self._announce(stream)

    def _opened(self) -> tuple[Stream, JournalFile]:
        if self._stream is None or self._file is None:
            stream = self._open_stream(None)
            self._file = JournalFile(self._folder, stream, self._max_bytes)
            self._stream = stream
        return self._stream, self._file
