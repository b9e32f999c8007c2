"""Server-side sessions of the SMART app: sealed, short, bound to one assessment.

Rules this module enforces (SMART App Launch 2.2; attack in brackets):

- The browser holds a random id only; everything else is sealed with AES-256-GCM under
  the session key and kept here (token or patient id read from a cookie).
- Rows are keyed by the digest of the id, so the file alone opens no session (stolen
  backup).
- A launch in progress is taken out exactly once (reused state) and only by the browser
  that began it (login CSRF): the row is bound to that browser's own random id.
- A session names one assessment, one patient and one user and its cookie is scoped to
  that assessment's path, so two tabs with two patients cannot mix (patient mix-up).
"""

from __future__ import annotations

import hashlib
import json
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from model.jobs.sqlite_wal import enter_wal

LAUNCH_SECONDS = 600
SESSION_SECONDS = 900
LOCK_SECONDS = 2.0  # longest wait for another process


class SessionStore:
    """Sealed rows in one SQLite file, shared by the threads and processes of a host."""

    def __init__(self, path: Path, key: bytes) -> None:
        """Open or create the file; ``key`` is 32 bytes."""
        self._path, self._seal = path, AESGCM(key)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        with self._connection() as db:
            enter_wal(db, LOCK_SECONDS)
            db.execute(
                "CREATE TABLE IF NOT EXISTS sealed ("
                "id BLOB PRIMARY KEY, expires REAL NOT NULL, body BLOB NOT NULL)"
            )

    def put(self, content: dict[str, Any], seconds: float, handle: str = "") -> str:
        """Store ``content`` for ``seconds``; returns its handle (random by default)."""
        handle = handle or secrets.token_urlsafe(32)
        nonce, row = secrets.token_bytes(12), _row(handle)
        body = nonce + self._seal.encrypt(nonce, json.dumps(content).encode(), row)
        now = time.time()
        with self._connection() as db:
            db.execute("DELETE FROM sealed WHERE expires < ?", (now,))
            db.execute(
                "INSERT OR REPLACE INTO sealed VALUES (?, ?, ?)",
                (row, now + seconds, body),
            )
        return handle

    def get(self, handle: str) -> dict[str, Any] | None:
        """The content of a live handle, None for an unknown or expired one."""
        with self._connection() as db:
            found = db.execute(
                "SELECT body FROM sealed WHERE id = ? AND expires >= ?",
                (_row(handle), time.time()),
            ).fetchone()
        return self._open(handle, found)

    def take(self, handle: str) -> dict[str, Any] | None:
        """Like :meth:`get`, and the handle is dead afterwards, whoever asks."""
        with self._connection() as db:
            found = db.execute(
                "DELETE FROM sealed WHERE id = ? AND expires >= ? RETURNING body",
                (_row(handle), time.time()),
            ).fetchone()
        return self._open(handle, found)

    def _open(self, handle: str, found: tuple[bytes] | None) -> dict[str, Any] | None:
        if found is None:
            return None
        body = bytes(found[0])
        try:
            clear = self._seal.decrypt(body[:12], body[12:], _row(handle))
        except InvalidTag:
            return None  # written under another key: no session, ask for a new launch
        content: dict[str, Any] = json.loads(clear)
        return content

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        db = sqlite3.connect(self._path, timeout=LOCK_SECONDS)
        try:
            with db:
                yield db
        finally:
            db.close()


def _row(handle: str) -> bytes:
    return hashlib.sha256(b"trivium.session\0" + handle.encode()).digest()
