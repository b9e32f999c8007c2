"""Connections of the job store: SQLite and PostgreSQL behind two context managers.

SQLite runs in WAL mode, so that polling readers never wait for a writer, and a write
starts with BEGIN IMMEDIATE: a transaction that read first and wrote later could not
wait for the lock and would fail at once. Every wait is bounded; what fails becomes
:class:`JobStoreUnavailableError`. Statement parameters never reach a log or an
exception text (``hide_parameters``).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, create_engine, event, inspect, make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, SQLAlchemyError
from sqlalchemy.schema import CreateIndex, CreateTable

from model.errors import ConfigurationError, JobStoreUnavailableError
from model.jobs.sqlite_wal import enter_wal
from model.jobs.tables import INDEXES, JOBS


class Database:
    """One engine; safe for threads, opened anew by each process."""

    def __init__(self, url: str, timeout_s: float) -> None:
        """Open ``url`` and create the table where it is missing.

        Raises:
            ConfigurationError: neither a SQLite file nor PostgreSQL.
            JobStoreUnavailableError: the database does not answer.
        """
        parsed = _parse(url)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        options = _sqlite(parsed, timeout_s) if self.is_sqlite else _postgres(timeout_s)
        self._engine = create_engine(
            parsed, hide_parameters=True, pool_timeout=timeout_s, **options
        )
        if self.is_sqlite:
            event.listen(self._engine, "connect", _prepare_sqlite(timeout_s))
        try:
            with self.read() as connection:
                exists = inspect(connection).has_table(JOBS.name)
            if not exists:
                self._create()
        except (IntegrityError, JobStoreUnavailableError):
            self.close()
            raise

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Connection for single reading statements."""
        try:
            with self._engine.connect() as connection:
                yield connection
        except SQLAlchemyError as exc:
            raise JobStoreUnavailableError("the job store cannot be read") from exc

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One writing transaction; rolled back when the block raises.

        An IntegrityError passes through: it is how the caller learns of a lost race.
        """
        try:
            with self._engine.begin() as connection:
                if self.is_sqlite:
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                yield connection
        except IntegrityError:
            raise
        except SQLAlchemyError as exc:
            raise JobStoreUnavailableError("the job store cannot be written") from exc

    def truncate_log(self) -> None:
        """Empty SQLite's write-ahead log, where deleted rows live on (PR-30)."""
        if self.is_sqlite:
            with self.read() as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close all pooled connections."""
        self._engine.dispose()

    def _create(self) -> None:
        try:
            with self.write() as connection:
                connection.execute(CreateTable(JOBS, if_not_exists=True))
                for index in INDEXES:
                    connection.execute(CreateIndex(index, if_not_exists=True))
        except (IntegrityError, JobStoreUnavailableError):
            # PostgreSQL's IF NOT EXISTS is not atomic: another process may have won.
            with self.read() as connection:
                if not inspect(connection).has_table(JOBS.name):
                    raise


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        # "from None": the cause quotes the URL, which may hold a password.
        raise ConfigurationError("TRIVIUM_JOBS_URL is not a database URL") from None
    backend = parsed.get_backend_name()
    if backend == "sqlite" and parsed.database not in (None, "", ":memory:"):
        return parsed
    if backend == "postgresql":
        return parsed
    raise ConfigurationError("TRIVIUM_JOBS_URL must be a SQLite file or PostgreSQL")


def _sqlite(url: URL, timeout_s: float) -> dict[str, Any]:
    path = Path(str(url.database))
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Created here for its mode; SQLite gives the same to the log beside it.
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    # isolation_level None: sqlite3 opens no transaction of its own.
    return {"connect_args": {"timeout": timeout_s, "isolation_level": None}}


def _postgres(timeout_s: float) -> dict[str, Any]:
    limit = max(1, int(timeout_s * 1000))
    return {
        "pool_pre_ping": True,
        "connect_args": {
            # libpq counts whole seconds and takes 1 as 2.
            "connect_timeout": 2,
            "options": f"-c statement_timeout={limit} -c lock_timeout={limit}",
        },
    }


def _prepare_sqlite(timeout_s: float) -> Callable[[Any, object], None]:
    def prepare(connection: Any, _record: object) -> None:
        enter_wal(connection, timeout_s)
        # A power cut may lose the last jobs, which the next hook asks for again.
        connection.execute("PRAGMA synchronous=NORMAL").close()
        connection.execute("PRAGMA secure_delete=ON").close()

    return prepare
