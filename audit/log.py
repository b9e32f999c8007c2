"""Append to the audit log: group commit, one stream a process, fail-closed.

Rules:

1. ``append`` returns only when the record is durable, in the database or in the local
   encrypted journal; otherwise it raises and the caller shows nothing (harm: a card
   that nobody can account for).
2. A process that could not be recording properly does not start: keys, tables and
   durability are checked at ``open``.
3. A forked child never continues its parent's stream, connections or journal (attack
   surface: two processes that sign under one key and number).

Example:
    >>> log = AuditLog.open(read_settings())
    >>> receipt = log.append(event)
    >>> card["extension"]["audit-receipt"] = receipt.to_json()
    >>> log.close()  # doctest: +SKIP
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from audit.anchors import anchor_stream
from audit.appender import Appender
from audit.database import check_durable, check_tables, open_engine
from audit.envelope import Enveloper
from audit.errors import AuditConfigurationError, AuditUnavailableError
from audit.event import (
    Action,
    Agent,
    AuditEvent,
    EventType,
    Outcome,
    Phase,
    new_correlation_id,
)
from audit.key_files import read_keys, read_node_key, read_trust
from audit.key_store import KeyStore
from audit.keyring import Keyring
from audit.primary import PrimaryDevice
from audit.receipt import Receipt
from audit.replay import Replayer, ReplayReport
from audit.settings import AuditSettings
from audit.spill import JournalWriter
from audit.stream import MAX_BATCH, Stream, StreamKind
from audit.vocabulary import LawfulBasis

LOG = logging.getLogger("trivium.audit")
KEYS_BUSY_MS = 1000  # milliseconds a lock of the key database is waited for


@dataclass(slots=True)
class _Parts:
    """What a process must not share with its children."""

    keyring: Keyring
    enveloper: Enveloper
    appender: Appender
    journal: JournalWriter


class AuditLog:
    """The one door through which records are written."""

    def __init__(self, settings: AuditSettings, kind: StreamKind) -> None:
        """Use :meth:`open`, which also checks."""
        self._settings = settings
        self._kind = kind
        self._keks = read_keys(settings.kek_file, "TRIVIUM_AUDIT_KEK_FILE")
        self._index_keys = read_keys(
            settings.index_key_file, "TRIVIUM_AUDIT_INDEX_KEY_FILE"
        )
        self._node_key = read_node_key(settings.node_key_file)
        self._trust = read_trust(settings.trust_file)
        self._lock = threading.Lock()
        self._parts: _Parts | None = None
        self._closed = False
        _LOGS.add(self)

    @classmethod
    def open(
        cls, settings: AuditSettings, kind: StreamKind = StreamKind.WEB
    ) -> AuditLog:
        """Check keys and databases and return a log ready to append.

        A database that does not answer is no reason to refuse: the journal takes over
        until it is back. One that answers and is not durable is.

        Raises:
            AuditConfigurationError: a key file is missing or too open, the journal
                cannot be written, the tables are not there, or the database would
                acknowledge what is not durable.
        """
        log = cls(settings, kind)
        if not os.access(settings.journal, os.W_OK | os.X_OK):
            raise AuditConfigurationError(
                "TRIVIUM_AUDIT_JOURNAL", "folder is missing or cannot be written"
            )
        _check("TRIVIUM_AUDIT_URL", settings.url, "audit_record")
        _check("TRIVIUM_AUDIT_KEYS_URL", settings.keys_url, "subject_key")
        return log

    def append(self, event: AuditEvent, deadline_s: float | None = None) -> Receipt:
        """Record one event and return when it is durable.

        Args:
            event: what happened.
            deadline_s: seconds the database may take before the journal takes over;
                the setting when left out.

        Raises:
            AuditUnavailableError: neither database nor journal took it.
            EventError: the event holds what JSON cannot.
            SubjectNotLiveError: the subject was erased.
        """
        return self.append_many((event,), deadline_s)[0]

    def append_many(
        self, events: Sequence[AuditEvent], deadline_s: float | None = None
    ) -> list[Receipt]:
        """Record several events, in order; all are durable on return.

        Up to 64 events are durable together or not at all.

        Raises:
            AuditUnavailableError: neither database nor journal took them.
            EventError: an event holds what JSON cannot; none is recorded.
            SubjectNotLiveError: a subject was erased; none is recorded.
        """
        parts = self._running()
        if deadline_s is None:
            deadline_s = self._settings.deadline_ms / 1000
        sealed = [parts.enveloper.seal(event, deadline_s) for event in events]
        receipts: list[Receipt] = []
        for start in range(0, len(sealed), MAX_BATCH):
            part = sealed[start : start + MAX_BATCH]
            receipts += parts.appender.submit(part, deadline_s)
        return receipts

    def replay(self) -> list[ReplayReport]:
        """Copy waiting journal files into the database now.

        Raises:
            DatabaseDownError: the database does not take them.
            JournalError: a file fails its checks and is set aside.
            KeysUnavailableError: the key database does not answer.
        """
        parts = self._running()
        parts.journal.finish()
        return self._replay(parts.keyring)

    @property
    def mode(self) -> str:
        """ "database" or "journal": where records go at this moment."""
        return self._running().appender.mode.value

    def close(self) -> None:
        """Write what waits, end the stream, stop the appender."""
        with self._lock:
            self._closed = True
            parts, self._parts = self._parts, None
        if parts is not None:
            parts.appender.close(timeout_s=10.0)
            parts.keyring.store.engine.dispose()

    def _running(self) -> _Parts:
        parts = self._parts
        if parts is not None:
            return parts
        with self._lock:
            if self._closed:
                raise AuditUnavailableError("closed")
            if self._parts is None:
                self._parts = self._build()
            return self._parts

    def _build(self) -> _Parts:
        settings = self._settings
        engine = open_engine(
            settings.url, setting="TRIVIUM_AUDIT_URL", busy_ms=settings.deadline_ms
        )
        keys_engine = open_engine(
            settings.keys_url, setting="TRIVIUM_AUDIT_KEYS_URL", busy_ms=KEYS_BUSY_MS
        )
        keyring = Keyring(KeyStore(keys_engine, self._keks, self._index_keys))
        journal = JournalWriter(
            settings.journal,
            settings.journal_max_bytes,
            lambda prev: self._open_stream(StreamKind.JOURNAL, prev),
            self._announce,
        )
        appender = Appender(
            PrimaryDevice(engine),
            journal,
            lambda prev: self._open_stream(self._kind, prev),
            self._announce,
            lambda: _discard(self._replay(keyring)),
            settings.probe_interval_s,
        )
        enveloper = Enveloper(keyring, settings.retention_days)
        return _Parts(keyring, enveloper, appender, journal)

    def _open_stream(self, kind: StreamKind, prev: bytes | None) -> Stream:
        return Stream(self._node_key, kind, self._settings.retention_days, prev)

    def _announce(self, stream: Stream) -> None:
        try:
            anchor_stream(self._settings.checkpoints, stream.opening, stream.node_sig)
        except OSError:
            # The sealer's checkpoints cover the stream a second later; see 3.13.
            LOG.warning("audit: anchor file cannot be written")

    def _replay(self, keyring: Keyring) -> list[ReplayReport]:
        engine = open_engine(
            self._settings.url, setting="TRIVIUM_AUDIT_URL", busy_ms=10_000
        )
        folder = self._settings.journal
        try:
            replayer = Replayer(folder, engine, keyring.store, self._trust)
            return replayer.replay_all(self._record_replay)
        finally:
            engine.dispose()

    def _record_replay(self, report: ReplayReport) -> None:
        event = AuditEvent(
            EventType.JOURNAL_REPLAY,
            Action.CREATE,
            Outcome.OK,
            Phase.SINGLE,
            agent=Agent("service", "urn:trivium", "audit-log"),
            subject=None,
            purpose="HOPERAT",
            correlation_id=new_correlation_id(),
            evidence={
                "stream_id": report.stream_id,
                "records": report.records,
                "batches": report.batches,
                "dropped_bytes": report.dropped_bytes,
            },
            lawful_basis=LawfulBasis.LEGAL_OBLIGATION,
        )
        self.append(event)

    def _forked(self) -> None:
        """Rule 3: forget the parent's parts; closing them here would harm it."""
        self._lock = threading.Lock()
        if self._parts is not None:
            self._parts.journal.abandon()
            _ABANDONED.append(self._parts)
            self._parts = None


def _check(setting: str, url: str, table: str) -> None:
    engine = open_engine(url, setting=setting, busy_ms=KEYS_BUSY_MS)
    try:
        with engine.connect() as connection:
            check_durable(connection, setting)
            check_tables(connection, table, setting)
    except SQLAlchemyError:
        LOG.warning("audit: %s does not answer; starting without it", setting)
    finally:
        engine.dispose()


def _discard(_reports: list[ReplayReport]) -> None:
    """A replay in the background has nobody to report to but the log itself."""


_LOGS: weakref.WeakSet[AuditLog] = weakref.WeakSet()
# Kept for ever: collecting an inherited connection would close the parent's database.
_ABANDONED: list[_Parts] = []


def _after_fork_in_child() -> None:
    for log in list(_LOGS):
        log._forked()


os.register_at_fork(after_in_child=_after_fork_in_child)
