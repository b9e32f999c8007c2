"""What an administrator of the database could do: raw SQL with the triggers off."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from audit.settings import AuditSettings


def database_file(settings: AuditSettings) -> Path:
    return Path(settings.url.removeprefix("sqlite:///"))


@contextmanager
def as_administrator(settings: AuditSettings) -> Iterator[sqlite3.Connection]:
    """A connection to the evidence database without the append-only triggers."""
    with closing(sqlite3.connect(database_file(settings))) as connection:
        triggers = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        ).fetchall()
        for (name,) in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        yield connection
        connection.commit()


def count(settings: AuditSettings, table: str) -> int:
    with closing(sqlite3.connect(database_file(settings))) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
