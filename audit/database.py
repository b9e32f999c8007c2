"""Engines for both databases and the check that an acknowledged commit is durable.

Rules:

1. SQLite runs with journal_mode=WAL, synchronous=FULL and BEGIN IMMEDIATE; PostgreSQL
   must report fsync=on and synchronous_commit=on, remote_write or remote_apply. Any
   other answer refuses to start (harm: a record that was acknowledged and is gone after
   a power cut).
2. Every wait has a limit, so that a database that hangs cannot hang a caller (attack:
   stop the care path by stopping the audit device).
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, inspect, make_url
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from audit.errors import AuditConfigurationError, UncheckableError

CONNECT_TIMEOUT_S = 2  # libpq takes nothing shorter
_RETRY_S = 0.005
_STRONG = ("on", "remote_write", "remote_apply")
_BACKENDS = ("sqlite", "postgresql")


def open_engine(
    url: str, *, setting: str, busy_ms: int, read_only: bool = False
) -> Engine:
    """An engine whose connections are set up as rule 1 asks.

    Args:
        url: SQLAlchemy URL, SQLite file or PostgreSQL.
        setting: name of the variable the URL came from, for errors.
        busy_ms: milliseconds that a lock is waited for.
        read_only: SQLite connections refuse to write, PostgreSQL transactions are
            read-only and see one snapshot.

    Raises:
        AuditConfigurationError: no such backend, or a database in memory.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as exc:
        raise AuditConfigurationError(setting, "is not a database URL") from exc
    backend = parsed.get_backend_name()
    if backend not in _BACKENDS:
        raise AuditConfigurationError(setting, "must be SQLite or PostgreSQL")
    if backend == "postgresql":
        return _open_postgresql(parsed, busy_ms, read_only)
    if parsed.database in (None, "", ":memory:"):
        raise AuditConfigurationError(setting, "must be a file, not memory")
    return _open_sqlite(parsed, busy_ms, read_only)


def _open_postgresql(url: URL, busy_ms: int, read_only: bool) -> Engine:
    options: dict[str, Any] = {"connect_timeout": CONNECT_TIMEOUT_S}
    # Rule 2: the server stops waiting for locks, the kernel for a dead peer.
    options["options"] = f"-c lock_timeout={busy_ms}"
    options["tcp_user_timeout"] = max(busy_ms, 1000)
    level = {"isolation_level": "REPEATABLE READ"} if read_only else {}
    engine = create_engine(url, connect_args=options, pool_size=2, **level)
    if read_only:
        _on_begin(engine, "SET TRANSACTION READ ONLY")
    return engine


def _open_sqlite(url: URL, busy_ms: int, read_only: bool) -> Engine:
    last = "query_only=ON" if read_only else "synchronous=FULL"
    pool = {"poolclass": NullPool} if read_only else {}
    engine = create_engine(url, **pool)

    @event.listens_for(engine, "connect")
    def configure(raw: Any, _record: object) -> None:
        # Transactions are begun by us: the driver's own deferred BEGIN would take
        # the write lock only at the first INSERT and fail there without waiting.
        raw.isolation_level = None
        raw.execute(f"PRAGMA busy_timeout={busy_ms}")
        if not read_only:
            _enter_wal(raw, busy_ms)
        raw.execute(f"PRAGMA {last}")

    _on_begin(engine, "BEGIN" if read_only else "BEGIN IMMEDIATE")
    return engine


def _enter_wal(raw: Any, busy_ms: int) -> None:
    """Rule 1's journal, also when several writers open a new file together.

    The switch needs the whole file for a moment, and SQLite refuses at once instead
    of waiting for ``busy_timeout``.
    """
    deadline = time.monotonic() + busy_ms / 1000
    while True:
        try:
            raw.execute("PRAGMA journal_mode=WAL").close()
            return
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() >= deadline:
                raise
        time.sleep(_RETRY_S)


def _on_begin(engine: Engine, statement: str) -> None:
    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        reading = connection.get_execution_options().get("trivium_read", False)
        connection.exec_driver_sql("BEGIN" if reading else statement)


def reading(engine: Engine) -> Engine:
    """The same engine for transactions that only read: SQLite takes no write lock."""
    if engine.dialect.name != "sqlite":
        return engine
    return engine.execution_options(trivium_read=True)


def check_durable(connection: Connection, setting: str) -> None:
    """Rule 1, on a live connection.

    Raises:
        AuditConfigurationError: a commit would be acknowledged before it is durable.
    """

    def ask(question: str) -> object:
        return connection.exec_driver_sql(question).scalar()

    if connection.dialect.name == "sqlite":
        durable = ask("PRAGMA journal_mode") == "wal"
        durable = durable and ask("PRAGMA synchronous") == 2
    else:
        durable = ask("SHOW fsync") == "on"
        durable = durable and ask("SHOW synchronous_commit") in _STRONG
    if not durable:
        raise AuditConfigurationError(setting, "acknowledges commits before the disk")


def check_tables(connection: Connection, table: str, setting: str) -> None:
    """Refuse a database that was never initialised.

    Raises:
        AuditConfigurationError: ``table`` is not there.
    """
    if not inspect(connection).has_table(table):
        problem = "has no audit tables; run `trivium-audit init`"
        raise AuditConfigurationError(setting, problem)


def open_snapshot(url: str, *, setting: str, table: str) -> Engine:
    """A read-only engine for an existing, initialised database.

    Raises:
        UncheckableError: it cannot be read. A missing file is never created.
    """
    parsed = make_url(url)
    if (
        parsed.get_backend_name() == "sqlite"
        and not Path(parsed.database or "").is_file()
    ):
        raise UncheckableError(f"{setting}: no such file")
    engine = open_engine(url, setting=setting, busy_ms=5000, read_only=True)
    try:
        with engine.connect() as connection:
            check_tables(connection, table, setting)
    except SQLAlchemyError as exc:
        raise UncheckableError(f"{setting}: cannot be read") from exc
    except AuditConfigurationError as exc:
        raise UncheckableError(f"{setting}: not initialised") from exc
    return engine
