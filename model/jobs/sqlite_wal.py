"""Switching a SQLite file to its write-ahead log while others do the same."""

from __future__ import annotations

import sqlite3
import time

_RETRY_S = 0.005


def enter_wal(connection: sqlite3.Connection, timeout_s: float) -> None:
    """Set ``journal_mode=WAL``, waiting at most ``timeout_s`` seconds.

    The switch needs the whole file for a moment, and SQLite answers "locked" at once
    instead of waiting (its busy handler is not asked while a lock is being raised):
    two processes that open a new file together would otherwise fail.

    Raises:
        sqlite3.OperationalError: still locked after ``timeout_s``, or no such file.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL").close()
            return
        except sqlite3.OperationalError as error:
            # The low byte is the primary code; the rest says which kind of busy.
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() >= deadline:
                raise
        time.sleep(_RETRY_S)
