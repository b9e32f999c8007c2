"""Sessions of the SMART app: sealed, single use where it matters, bound to a key."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

from cds_hooks.smart_app.sessions import SessionStore

KEY = bytes(range(32))
CONTENT = {"patient": "CANARY-PATIENT", "tenant": "t"}


@pytest.fixture
def store(tmp_path: Path) -> SessionStore:
    return SessionStore(tmp_path / "sessions.sqlite3", KEY)


@pytest.mark.smart("S26")
def test_a_session_is_found_by_its_handle_only(store: SessionStore) -> None:
    handle = store.put(CONTENT, 60)
    assert store.get(handle) == CONTENT
    assert store.get(handle + "x") is None
    assert store.get("") is None


@pytest.mark.smart("S9")
@pytest.mark.ssrf("X22")
def test_a_launch_in_progress_is_taken_once(store: SessionStore) -> None:
    handle = store.put(CONTENT, 60)
    assert store.take(handle) == CONTENT
    assert store.take(handle) is None and store.get(handle) is None


def test_an_expired_session_is_gone_and_cleared(
    store: SessionStore, tmp_path: Path
) -> None:
    handle = store.put(CONTENT, 0.05)
    time.sleep(0.1)
    assert store.get(handle) is None and store.take(handle) is None
    store.put(CONTENT, 60)
    with sqlite3.connect(tmp_path / "sessions.sqlite3") as db:
        assert db.execute("SELECT count(*) FROM sealed").fetchone() == (1,)


@pytest.mark.smart("S26")
def test_the_file_tells_nothing_and_another_key_opens_nothing(
    store: SessionStore, tmp_path: Path
) -> None:
    handle = store.put(CONTENT, 60)
    files = [path.read_bytes() for path in tmp_path.iterdir()]
    assert not any(
        b"CANARY-PATIENT" in data or handle.encode() in data for data in files
    )
    other = SessionStore(tmp_path / "sessions.sqlite3", bytes(32))
    assert other.get(handle) is None


@pytest.mark.smart("S26")
@pytest.mark.ssrf("X32")
def test_a_row_moved_to_another_handle_does_not_open(
    store: SessionStore, tmp_path: Path
) -> None:
    mine = store.put(CONTENT, 60)
    theirs = store.put({"patient": "other"}, 60)
    with sqlite3.connect(tmp_path / "sessions.sqlite3") as db:
        bodies = db.execute("SELECT body FROM sealed").fetchall()
        for body in bodies:
            db.execute("UPDATE sealed SET body = ?", body)
            db.commit()
            assert None in (store.get(mine), store.get(theirs))


def test_the_file_is_readable_by_its_owner_only(
    store: SessionStore, tmp_path: Path
) -> None:
    store.put(CONTENT, 60)
    assert (tmp_path / "sessions.sqlite3").stat().st_mode & 0o077 == 0
