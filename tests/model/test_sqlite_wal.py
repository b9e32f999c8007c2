"""A new SQLite file is opened by several at once without an error."""

from __future__ import annotations

import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from model.jobs.sqlite_wal import enter_wal


def test_a_lock_that_is_let_go_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "new.sqlite3"
    holder = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN EXCLUSIVE")
    threading.Timer(0.2, lambda: holder.execute("COMMIT")).start()
    mine = sqlite3.connect(path, timeout=0)
    enter_wal(mine, 20)
    assert mine.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    mine.close()
    holder.close()


def test_a_lock_that_stays_is_an_error_in_bounded_time(tmp_path: Path) -> None:
    path = tmp_path / "new.sqlite3"
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    mine, started = sqlite3.connect(path, timeout=0), time.monotonic()
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        enter_wal(mine, 0.1)
    assert time.monotonic() - started >= 0.1
    mine.close()
    holder.close()


def test_another_error_is_not_retried(tmp_path: Path) -> None:
    path = tmp_path / "not-a-database"
    path.write_bytes(b"no database at all, but long enough to be read as one" * 40)
    mine = sqlite3.connect(path)
    with pytest.raises(sqlite3.DatabaseError, match="not a database"):
        enter_wal(mine, 20)
    mine.close()


def test_many_threads_open_a_new_file_together(tmp_path: Path) -> None:
    def open_it(_: int) -> str:
        connection = sqlite3.connect(tmp_path / "new.sqlite3", timeout=0)
        enter_wal(connection, 60)
        mode: str = connection.execute("PRAGMA journal_mode").fetchone()[0]
        connection.close()
        return mode

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(open_it, range(200))) == {"wal"}
