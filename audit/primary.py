"""The evidence database as a device that takes whole batches.

Rules:

1. A batch is one transaction: its rows, its signature and, the first time, its stream.
2. After a failure the caller learns whether the batch may be stored all the same
   (``in_doubt``). Only a failure before anything was sent is certain; everything else
   ends the stream, because reusing its numbers could fork the chain.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, Engine, Table
from sqlalchemy.exc import SQLAlchemyError

from audit import tables
from audit.chain import Opening, Row
from audit.database import check_durable
from audit.errors import AuditConfigurationError, DatabaseDownError
from audit.receipt import SignedBatch
from audit.stream import StreamEnd, batch_values, stream_values

SETTING = "TRIVIUM_AUDIT_URL"


class PrimaryDevice:
    """One connection for one writing thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None
        mark = "?" if engine.dialect.name == "sqlite" else "%s"
        # Written once: building the statement per row costs more than the row.
        self._insert_record = _insert(tables.audit_record, mark)
        self._insert_batch = _insert(tables.audit_batch, mark)
        self._insert_stream = _insert(tables.audit_stream, mark)
        self._insert_end = _insert(tables.audit_stream_end, mark)

    def write(
        self,
        rows: Sequence[Row],
        batch: SignedBatch,
        opening: tuple[Opening, bytes] | None = None,
    ) -> None:
        """Make a batch durable (rule 1).

        Args:
            rows: in order of seq.
            batch: their signature.
            opening: the stream's statement and node signature, for its first batch.

        Raises:
            DatabaseDownError: it is not known to be durable (rule 2).
        """
        connection = self._begun()
        try:
            if opening is not None:
                connection.exec_driver_sql(self._insert_stream, stream_values(*opening))
            if len(rows) == 1:
                connection.exec_driver_sql(self._insert_record, rows[0].values())
            else:
                many = [row.values() for row in rows]
                connection.exec_driver_sql(self._insert_record, many)
            connection.exec_driver_sql(self._insert_batch, batch_values(batch))
            connection.commit()
        except SQLAlchemyError as exc:
            self.reset()
            raise DatabaseDownError("commit failed", in_doubt=True) from exc

    def write_end(self, end: StreamEnd) -> None:
        """Store the end of a stream.

        Raises:
            DatabaseDownError: it is not known to be durable.
        """
        connection = self._begun()
        try:
            connection.exec_driver_sql(self._insert_end, tuple(end))
            connection.commit()
        except SQLAlchemyError as exc:
            self.reset()
            raise DatabaseDownError("commit failed", in_doubt=True) from exc

    def probe(self) -> None:
        """Find out whether a transaction can be begun.

        Raises:
            DatabaseDownError: it cannot.
        """
        self._begun().rollback()

    def reset(self) -> None:
        """Throw the connection away; the next use opens a fresh one."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            connection.invalidate()
            connection.close()
        except SQLAlchemyError as exc:
            raise DatabaseDownError("connection lost", in_doubt=True) from exc

    def _begun(self) -> Connection:
        try:
            if self._connection is None:
                connection = self._engine.connect()
                try:
                    check_durable(connection, SETTING)
                finally:
                    connection.rollback()
                self._connection = connection
            self._connection.begin()
        except AuditConfigurationError as exc:
            self.reset()
            raise DatabaseDownError("not durable", in_doubt=False) from exc
        except SQLAlchemyError as exc:
            self.reset()
            raise DatabaseDownError("cannot begin", in_doubt=False) from exc
        return self._connection


def _insert(table: Table, mark: str) -> str:
    names = ", ".join(column.name for column in table.columns)
    marks = ", ".join([mark] * len(table.columns))
    return f"INSERT INTO {table.name} ({names}) VALUES ({marks})"
